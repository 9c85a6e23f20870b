"""The live feed: what whoever folds says, after its commit, of whom a run moved; and how a subscriber notices a loss.

Truths:
(1) what is said is in the tables already, so who hears it may read it;
(2) each message names the seq before it and its own: one that does not begin where the last of its partition ended
    tells that something was lost in between, and so does a subscription that broke: the subscriber hears ``Lost`` and
    reads up;
(3) nothing is said twice to one subscriber, and nothing out of order inside a partition; what is heard late is what
    was heard before, and is left out.

A message tells that something moved, not what it is now: that is read, and then it is true at a position. Each
adapter passes ``tests/conformance/test_live_feeds.py``.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from projections.models.bets import BetRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.port import Run

BALANCE: Final = "balance"
BET: Final = "bet"
_USERS_MAX: Final = 2_000
"""A run that moves more is told as one that moved anybody. Chosen: some 60 KB a message."""


class Moved(Struct, frozen=True):
    """A run of one partition, from after ``before`` up to ``seq``; they are equal where nothing new came.

    ``users``: user → what of it moved, ``balance`` or ``bet``; ``games``: those with bets placed or settled. With
    ``anybody`` they are too many to be named.
    """

    partition: int
    before: int
    seq: int
    users: Mapping[str, tuple[str, ...]] = {}
    games: tuple[str, ...] = ()
    anybody: bool = False


class Lost(Struct, frozen=True):
    """Messages of ``partition``, None any, up to ``seq`` may not have been heard: read up."""

    partition: int | None
    seq: int


Heard = AsyncGenerator[Moved | Lost, None]


class Live(Protocol):
    async def publish(self, messages: Sequence[Moved]) -> None:
        """To whoever has subscribed; nobody else will ever hear it. Raises CacheUnavailable."""
        ...

    def subscribe(self, partitions: Sequence[int]) -> AbstractAsyncContextManager[Heard]:
        """Inside of the context all is heard that is published from its beginning on, for ever; while it cannot be
        heard it is tried again, and ``Lost`` said once it is. Raises CacheUnavailable where it cannot begin."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


def moved_by(run: Run) -> Moved:
    users: dict[str, set[str]] = {}
    games: set[str] = set()
    for _, rows in run.rows:
        for row in rows:
            match row:
                case WalletRow() | AssetRow():
                    users.setdefault(row.user_id, set()).add(BALANCE)
                case BetRow():
                    users.setdefault(row.user_id, set()).add(BET)
                    games.add(row.game)
    before, seq = run.before.head.seq, run.after.head.seq
    if len(users) > _USERS_MAX:
        return Moved(run.partition, before, seq, anybody=True)
    named = {user_id: tuple(sorted(what)) for user_id, what in sorted(users.items())}
    return Moved(run.partition, before, seq, named, tuple(sorted(games)))


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Moved).decode


class Order:
    """What one subscriber heard, partition by partition: what is to be left out, and what was lost."""

    def __init__(self) -> None:
        self._seqs: dict[int, int] = {}

    def hear(self, message: Moved) -> list[Moved | Lost]:
        """What the subscriber is told of it."""
        last = self._seqs.get(message.partition)
        if last is not None and message.seq < last:
            return []
        if last == message.seq and message.before < message.seq:
            return []
        told: list[Moved | Lost] = []
        if last is not None and message.before > last:
            told.append(Lost(message.partition, message.before))
        elif last is not None and message.before < last:
            told.append(Lost(message.partition, message.seq))  # a part of it was heard: it cannot be taken apart
        self._seqs[message.partition] = message.seq
        if message.users or message.anybody:
            told.append(message)
        return told
