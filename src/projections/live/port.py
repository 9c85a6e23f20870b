"""Messages about changes: after each commit a projector publishes which users and games changed.

Invariants:
(1) A published change is already in the tables, so a subscriber can read it.
(2) Each message names the seq before it and its own seq. If a message does not begin where the last one of its
    partition ended, or the subscription broke, messages were lost: the subscriber gets a ``Gap`` and must read the
    tables.
(3) A subscriber gets no message twice, and the messages of one partition in order. A message that arrives late
    repeats an earlier one and is dropped.

A message says that something changed, not its new value: the subscriber reads the value, which is then true at a
position. Each adapter passes ``tests/conformance/test_live_feeds.py``.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from ledger.core.fields import GAME_STREAM
from projections.caching.port import CacheUnavailable
from projections.models.bets import BetRow
from projections.models.periods import PeriodRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.port import Run

BALANCE: Final = "balance"
BET: Final = "bet"
RESULT: Final = "result"
ANY_GAME: Final = "*"
_USERS_MAX: Final = 2_000
"""A run that changes more users sets ``all_users`` and names none. Chosen: some 60 KB a message."""
_RETRY_S: Final = 0.5


class Change(Struct, frozen=True):
    """What a run of one partition changed: its events are those after seq ``before``, up to ``seq``. The two are
    equal if the run has no new event.

    ``users``: user → what changed, ``balance`` or ``bet``; for the stream of a game, ``game:<game>``, it is
    ``result``. ``games``: games with bets placed or settled; ``ANY_GAME`` stands for all. With ``all_users`` any user
    and game may have changed.
    """

    partition: int
    before: int
    seq: int
    users: Mapping[str, tuple[str, ...]] = {}
    games: tuple[str, ...] = ()
    all_users: bool = False


class Gap(Struct, frozen=True):
    """Messages of ``partition`` (None: of all partitions) up to ``seq`` may have been lost: read the tables."""

    partition: int | None
    seq: int


Messages = AsyncGenerator[Change | Gap, None]
Tell = Callable[[Change | Gap], None]
"""Called with each message."""


class LiveFeed(Protocol):
    async def publish(self, messages: Sequence[Change]) -> None:
        """Send to the current subscribers; messages are not stored. Raises CacheUnavailable."""
        ...

    def subscribe(self, partitions: Sequence[int]) -> AbstractAsyncContextManager[Messages]:
        """The feed of all messages about these partitions that are published after the context was entered. It never
        ends: a broken subscription is renewed, and the feed then yields a ``Gap``. Entering raises
        CacheUnavailable."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


def change_of(run: Run) -> Change:
    """The message about a run, from the rows that it changed."""
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
                case PeriodRow(asset=""):
                    users.setdefault(GAME_STREAM + row.game, set()).add(RESULT)
    before, seq = run.before.head.seq, run.after.head.seq
    if len(users) > _USERS_MAX:
        return Change(run.partition, before, seq, all_users=True)
    named = {user_id: tuple(sorted(changed)) for user_id, changed in sorted(users.items())}
    return Change(run.partition, before, seq, named, tuple(sorted(games)))


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Change).decode


class GapDetector:
    """The last seq that one subscriber got of each partition: drops repeated messages and detects lost ones."""

    def __init__(self) -> None:
        self._seqs: dict[int, int] = {}

    def receive(self, message: Change) -> list[Change | Gap]:
        """Returns what the subscriber gets for this message: nothing for a repeated one, and a ``Gap`` where messages
        were lost."""
        last = self._seqs.get(message.partition)
        if last is not None and message.seq < last:
            return []
        if last == message.seq and message.before < message.seq:
            return []
        delivered: list[Change | Gap] = []
        if last is not None and message.before > last:
            delivered.append(Gap(message.partition, message.before))
        elif last is not None and message.before < last:
            delivered.append(Gap(message.partition, message.seq))  # it overlaps an earlier one and cannot be split
        self._seqs[message.partition] = message.seq
        if message.users or message.all_users:
            delivered.append(message)
        return delivered


async def listen(live: LiveFeed, partitions: int, tell: Tell) -> None:
    """A source of changes for a hub: call ``tell`` with all messages that are published from now on, until cancelled.
    Begins with a ``Gap``."""
    while True:
        try:
            async with live.subscribe(range(partitions)) as feed:
                tell(Gap(None, 0))
                async for message in feed:
                    tell(message)
        except CacheUnavailable:
            await asyncio.sleep(_RETRY_S)
