"""The yardsticks of the HTTP path: Litestar routes on granian, one that decodes a command and encodes an answer, one
that answers a read.

What any service on these two pays before it does anything: no middleware, no rules, no log, no tables. It is served
like the service (`api.cli.main`: one worker, uvloop, HTTP/1.1), takes a command of the same shape and answers with as
many bytes, and so does the read with those of a wallet.

Run as ``python -m bench.yardsticks.bare_routes PORT``; ends on SIGTERM.
"""

from __future__ import annotations

import sys
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar import Litestar, get, post
from msgspec import Struct


class BareBet(Struct, tag_field="type", tag="place_bet"):
    """The members of a ``place_bet``, without the contract's patterns and limits."""

    command_id: str
    user_id: str
    bet_id: str
    game: str
    period: str
    selection: str
    asset: str
    stake: int


class BareAnswer(Struct):
    """The members of an accepted command's answer."""

    position: str
    partition: int
    seq: int
    time_us: int
    type: str
    data: dict[str, Any]
    balances: dict[str, dict[str, int]]
    head: str


@post("/v1/commands")
async def place(data: BareBet) -> BareAnswer:
    """Respond at once, with the bytes of a real answer."""
    return BareAnswer(
        position="3:1234567",
        partition=3,
        seq=1234567,
        time_us=1795438800000000,
        type="bet_placed",
        data={
            "asset": data.asset,
            "bet_id": data.bet_id,
            "from": {"bonus": 0, "cash": data.stake, "grants": []},
            "game": data.game,
            "period": data.period,
            "selection": data.selection,
            "stake": data.stake,
        },
        balances={"INR": {"cash": 999_999_999_999, "bonus": 0, "held": 0}},
        head="0" * 64,
    )


class BareWallet(Struct):
    """The members of a wallet that has one asset."""

    user_id: str
    status: str
    opened_at_us: int
    referrer_id: str | None
    balances: dict[str, dict[str, int]]
    limits: dict[str, dict[str, int | None]]
    first_deposit: dict[str, str | int] | None
    as_of: dict[str, str | int]


def bare_wallet(user_id: str) -> BareWallet:
    """As many bytes as a wallet of the bench has."""
    limits = {"credit_limit": 0, "balance_max": None, "stake_max_per_day": None, "withdrawal_max_per_day": None}
    return BareWallet(
        user_id=user_id,
        status="open",
        opened_at_us=1795438800000000,
        referrer_id=None,
        balances={
            "INR": {
                "cash": 999_999_999_999,
                "bonus": 0,
                "held": 0,
                "available": 999_999_999_999,
                "withdrawable": 999_999_999_999,
            }
        },
        limits={"INR": dict(limits)},
        first_deposit={
            "order_id": "o-1",
            "asset": "INR",
            "amount": 1_000_000_000_000,
            "position": "3:1234",
            "time_us": 1795438800000000,
        },
        as_of={"position": "3:1234567", "lag_ms": 0},
    )


@get("/v1/wallets/{user_id:str}")
async def wallet(user_id: str) -> BareWallet:
    """Respond at once, with the bytes of a real wallet."""
    return bare_wallet(user_id)


@get("/readyz")
async def ready() -> dict[str, str]:
    """Requested once, when it starts."""
    return {"status": "ready"}


async def serve(port: int) -> None:
    """Serve until the process ends."""
    app = Litestar([place, wallet, ready], openapi_config=None, logging_config=None)
    server = Server(
        app,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    await server.serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
