"""Live feeds: what changes in wallets and games, as soon as reads show it.

A feed whose connection ends is continued by itself after the last event, on whichever node responds, until the
deadline of the attempts is over. Bets and results come once each; balances and distributions are the last state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from msgspec import Struct

from stakelog_client.errors import Unavailable, UnexpectedResponse
from stakelog_client.generated.models import ChangedBet, Outcome, Period, Wallet
from stakelog_client.session import Ambiguous, Session, pause_s

_KINDS: Final[dict[bytes, type[Any]]] = {
    b"balance": Wallet,
    b"bet": ChangedBet,
    b"result": Outcome,
    b"distribution": Period,
}


class LiveEvent(Struct, frozen=True):
    """One change. `data`: a wallet, a bet that was placed, settled or cancelled, how a period ended, or what is bet
    on the present period. `id`: continues the feed after this event, also in another process."""

    id: str
    data: Wallet | ChangedBet | Outcome | Period


async def follow(
    session: Session, users: Sequence[str], games: Sequence[str], after: str | None, deadline_s: float
) -> AsyncGenerator[LiveEvent, None]:
    """The events of these users and games after `after`; None: from now on. `deadline_s`: how long to try to connect.

    Raises Refused, Unavailable, UnexpectedResponse.
    """
    path = "/v1/live?" + urlencode([*(("user_id", one) for one in users), *(("game", one) for one in games)])
    last_id, attempt = after, 0
    until_s = time.monotonic() + deadline_s
    while True:
        try:
            async with aclosing(_messages(session, path, last_id, until_s)) as messages:
                async for message in messages:
                    last_id = message.get(b"id", b"").decode() or last_id
                    attempt, until_s = 0, time.monotonic() + deadline_s
                    if (kind := _KINDS.get(message.get(b"event", b""))) is not None:
                        assert last_id is not None, "each event has an id, or comes after one that has"
                        yield LiveEvent(last_id, _decoded(message[b"data"], kind))
        except Ambiguous as error:
            wait_s = pause_s(attempt, error.retry_after_s)
            if time.monotonic() + wait_s >= until_s:
                raise Unavailable(f"the live feed cannot be continued: {error}") from error
            attempt += 1
            await asyncio.sleep(wait_s)


async def _messages(
    session: Session, path: str, last_id: str | None, until_s: float
) -> AsyncGenerator[dict[bytes, bytes], None]:
    """The fields of each message of one connection, heartbeats too. Ends with Ambiguous when the connection does."""
    headers = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": last_id})
    response = await session.open_stream(path, headers, until_s)
    try:
        rest = b""
        # Not by lines: httpx would end a line at U+2028 too, which a name in a message may contain.
        async for part in response.aiter_bytes():
            *whole, rest = (rest + part).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
                if fields.get(b"event") == b"dropped":
                    raise Ambiguous(f"the service ended it: {fields[b'data'].decode()}")
                yield fields
    except httpx.HTTPError as error:
        raise Ambiguous(f"the connection broke: {type(error).__name__} {error}") from error
    finally:
        await response.aclose()
    raise Ambiguous("the connection ended")


def _decoded(data: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise UnexpectedResponse(f"the event is no {kind.__name__}: {error}") from error
