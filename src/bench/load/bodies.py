"""Requests as bytes, built before the clock runs; and which wallets they go to.

1. Every command of a run has its own ``command_id`` and ``bet_id``, so none is refused as a repeat.
2. A bet's stake is 1 minor unit and a wallet is funded with ``FUNDS_MINOR``, so none is refused for lack of money.
3. The picks are seeded: the same slice of two runs goes to the same wallets in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Literal

import msgspec
from msgspec import Struct

from ledger.core.position import partition_of

Spread = Literal["uniform", "zipf", "hot"]
What = Literal["wallet", "history", "stats"]
"""What a client app reads of one wallet."""


class Within(Struct, frozen=True):
    """Some partitions, of so many."""

    partitions: list[int]
    of: int


WALLETS = 10_000
"""How many wallets uniform and Zipf load spreads over. Chosen."""

ZIPF_EXPONENT = 1.1
"""The k-th most active wallet gets a share ∝ 1 / k^1.1: the first of 10,000 about one bet in seven. Chosen."""

FUNDS_MINOR = 10**12
"""The first deposit of a wallet: no run can stake all of it. Far below 2^53 − 1, the most that cash may be."""

PLAYERS = 200
"""How many of the wallets have a history that fills pages, and statistics worth reading. Chosen."""
BETS_EACH = 80
"""Bets of each of them: with its deposit, more than one page of ``PAGE``."""
PAGE = 50
"""Items of a history page. The contract's default."""

LONG = "w-long"
"""The wallet with the long history."""
LONG_PERIOD = 100
"""Its lines come in blocks of this many: ``_LONG_DEPOSITS`` deposits, ``_LONG_GOLD`` bets in GOLD, else bets in INR
and their settlements."""
_LONG_DEPOSITS = 8
_LONG_GOLD = 2

_SINGLE = "/v1/commands"
_BATCH = "/v1/commands/batch"
_BET = (
    b'{"type":"place_bet","command_id":"c-%s-%07d","user_id":"w-%07d","bet_id":"b-%s-%07d","game":"external",'
    b'"period":"20261101-0042","selection":"red","asset":"INR","stake":1}'
)
GAME = "wingo_10m"
"""The game of ``period_bets``: the longest of the built-in ones, so that a slice fits into one period."""
SELECTIONS = ("red", "green", "violet", "big", "small", "odd", "even", "number:3", "red+number:7")
_PERIOD_BET = (
    b'{"type":"place_bet","command_id":"c-%s-%07d","user_id":"w-%07d","bet_id":"b-%s-%07d","game":"%s",'
    b'"period":"%s","selection":"%s","asset":"INR","stake":1}'
)
_OPEN = b'{"type":"open_wallet","command_id":"open","user_id":"w-%07d"}'
_DEPOSIT = (
    b'{"type":"deposit","command_id":"deposit","user_id":"w-%07d","order_id":"o-1","asset":"INR","amount":'
    + str(FUNDS_MINOR).encode()
    + b"}"
)


def request(path: str, body: bytes, token: str | None = None) -> bytes:
    """A whole HTTP/1.1 request. ``token``: the access token, where login is on."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    if token is not None:
        head += f"\r\nauthorization: Bearer {token}"
    return head.encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    """A whole HTTP/1.1 request without a body."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def wallet_path(wallet: int, what: What) -> str:
    """Where a client app reads ``what`` of a wallet of that number."""
    user = f"/v1/wallets/w-{wallet:07d}"
    return {"wallet": user, "history": f"{user}/history?limit={PAGE}", "stats": f"{user}/stats"}[what]


def reads(what: What, wallets: Iterable[int]) -> list[bytes]:
    """One request for each of ``wallets``."""
    return [get(wallet_path(wallet, what)) for wallet in wallets]


def mixed_reads(count: int, now_us: int, seed: int) -> list[bytes]:
    """Of 20 reads 15 of a wallet, 4 of statistics, all of wallets picked evenly, and 1 of a leaderboard."""
    chooser = random.Random(seed)  # noqa: S311 - repeatable load, no secret
    day_us = 86_400_000_000
    boards = [
        get(f"/v1/leaderboards/{name}?asset=INR&at_us={now_us - days * day_us}")
        for name, days in (("staked_day", 0), ("net_week", 0), ("won_day", 1), ("net_week", 7))
    ]
    whats: list[What | None] = ["wallet", "stats", None]
    return [
        chooser.choice(boards) if what is None else get(wallet_path(chooser.randrange(WALLETS), what))
        for what in chooser.choices(whats, (15, 4, 1), k=count)
    ]


def leaderboard_reads(count: int) -> list[bytes]:
    """Reads of the leaderboards of this month, in turns."""
    boards = [get(f"/v1/leaderboards/{measure}_month?asset=INR") for measure in ("staked", "won", "net")]
    return [boards[at % len(boards)] for at in range(count)]


def players_bets(players: int) -> list[bytes]:
    """``BETS_EACH`` bets for each of the first ``players`` wallets, as batches."""
    return batches(bets("player", (wallet for _ in range(BETS_EACH) for wallet in range(players))), players)


def long_wallet(blocks: int) -> list[list[bytes]]:
    """Commands that open the wallet ``LONG``, then ``LONG_PERIOD`` lines of history a block; posted in order."""
    opening = [
        _long("open_wallet", "open"),
        _long("deposit", "deposit", order_id="o", asset="INR", amount=FUNDS_MINOR),
        _long("deposit", "gold", order_id="o-gold", asset="GOLD", amount=FUNDS_MINOR),
    ]
    return [opening, *(_long_block(block) for block in range(blocks))]


def _long_block(block: int) -> list[bytes]:
    made: list[bytes] = []
    for at in range(_LONG_DEPOSITS):
        name = f"{block}-{at}"
        made.append(_long("deposit", f"d-{name}", order_id=f"o-{name}", asset="INR", amount=1))
    for at in range((LONG_PERIOD - _LONG_DEPOSITS - _LONG_GOLD) // 2):
        name = f"{block}-{at}"
        made.append(_long_bet(name, "INR"))
        made.append(_long("settle_bet", f"s-{name}", bet_id=f"b-{name}", payout=1))
    made += [_long_bet(f"g-{block}-{at}", "GOLD") for at in range(_LONG_GOLD)]
    return made


def _long_bet(name: str, asset: str) -> bytes:
    bet = {"game": "external", "period": "20261101-0042", "selection": "red", "asset": asset, "stake": 1}
    return _long("place_bet", f"c-{name}", bet_id=f"b-{name}", **bet)


def _long(kind: str, command_id: str, **fields: object) -> bytes:
    return msgspec.json.encode({"type": kind, "command_id": command_id, "user_id": LONG, **fields})


def picks(spread: Spread, count: int, seed: int, within: Within | None = None) -> list[int]:
    """``count`` wallet numbers, each 0 … ``WALLETS`` − 1, and only numbers ``within`` these partitions, if given."""
    chooser = random.Random(seed)  # noqa: S311 - repeatable load, no secret
    wallets: Sequence[int] = range(WALLETS)
    if within is not None:
        of, chosen = within.of, set(within.partitions)
        wallets = [wallet for wallet in wallets if partition_of(f"w-{wallet:07d}", of) in chosen]
    match spread:
        case "hot":
            return [wallets[0]] * count
        case "uniform":
            return chooser.choices(wallets, k=count)
        case "zipf":
            weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, len(wallets) + 1)))
            return chooser.choices(wallets, cum_weights=weights, k=count)


def bets(tag: str, wallets: Iterable[int]) -> Iterator[bytes]:
    """One ``place_bet`` for each of ``wallets``. ``tag`` (letters and digits) makes the ids of this slice its own."""
    name = tag.encode()
    return (_BET % (name, at, wallet, name, at) for at, wallet in enumerate(wallets))


def period_bets(tag: str, wallets: Iterable[int], period: str) -> Iterator[bytes]:
    """The same on this period of ``GAME``, on one selection after the other."""
    name, game = tag.encode(), GAME.encode()
    for at, wallet in enumerate(wallets):
        selection = SELECTIONS[at % len(SELECTIONS)].encode()
        yield _PERIOD_BET % (name, at, wallet, name, at, game, period.encode(), selection)


def openings(first: int, end: int, *, with_bet: bool) -> list[list[bytes]]:
    """For each wallet ``first`` … ``end`` − 1, what opens and funds it, and one bet if ``with_bet``."""
    return [
        [_OPEN % wallet, _DEPOSIT % wallet] + ([_BET % (b"first", 0, wallet, b"first", 0)] if with_bet else [])
        for wallet in range(first, end)
    ]


def singles(commands: Iterable[bytes], token: str | None = None) -> list[bytes]:
    """One request for each command."""
    return [request(_SINGLE, command, token) for command in commands]


def batches(commands: Iterable[bytes], size: int, token: str | None = None) -> list[bytes]:
    """Requests of ``size`` commands each; commands that do not fill the last one are left out."""
    each = iter(commands)
    return [request(_BATCH, b"[" + b",".join(batch) + b"]", token) for batch in zip(*[each] * size, strict=False)]


def batch_of(wallets: Iterable[list[bytes]], token: str | None = None) -> bytes:
    """One request with all commands of these wallets, in their order."""
    return request(_BATCH, b"[" + b",".join(command for wallet in wallets for command in wallet) + b"]", token)
