"""An event log in memory: complete except for durability. For tests, simulation and dry runs.

Several logs may share one ``appended``: each is then one process's view of the same log. ``fail_next`` injects
failures: one element per append to come, with its error and whether the records land; None is a successful append.
"""

import asyncio
from collections import deque
from collections.abc import Sequence, Set
from typing import Final, NamedTuple

from ledger.core.games.tables import PayTable
from ledger.core.money_rules import Money
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LedgerError, StaleHead
from ledger.ports import NewRecord

APPEND_BYTES: Final = 64 * 1024 * 1024
"""Chosen: far more than any round has."""


class Failure(NamedTuple):
    """An append that raises ``error``. ``lands``: its records are in the log all the same."""

    error: LedgerError
    lands: bool


class Appended:
    """What all views of one log share: the records of each partition, and their commands."""

    def __init__(self, partitions: int) -> None:
        self.records: list[list[bytes]] = [[] for _ in range(partitions)]
        self.heads: list[Head] = [EMPTY] * partitions
        self.commands: set[tuple[str, str]] = set()
        self.tables: dict[str, PayTable] = {}
        self.money_rules: dict[str, Money] = {}
        self.games: set[str] = set()


class MemoryEventLog:
    """``EventLog`` over lists."""

    append_bytes = APPEND_BYTES

    def __init__(self, partitions: int, appended: Appended | None = None, *, shared: bool = False) -> None:
        self.appended = appended if appended is not None else Appended(partitions)
        self.shared = shared
        self.fail_next: deque[Failure | None] = deque()

    @property
    def partitions(self) -> int:
        return len(self.appended.records)

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        await asyncio.sleep(0)  # a real append never returns without suspending its caller
        failure = self.fail_next.popleft() if self.fail_next else None
        if failure is None or failure.lands:
            self._land(partition, after, records)
        if failure is not None:
            raise failure.error

    def _land(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        if self.appended.heads[partition] != after:
            raise StaleHead(f"partition {partition} ends at {self.appended.heads[partition].seq}, not {after.seq}")
        commands = {(record.user_id, record.command_id) for record in records}
        # Only here, for tests: other logs rely on the writer's state, and on `audit verify`.
        assert len(commands) == len(records), "a command is twice in one append"
        assert not commands & self.appended.commands, f"a command is in the log of partition {partition} already"
        assert [record.seq for record in records] == list(range(after.seq + 1, after.seq + 1 + len(records)))
        self.appended.commands |= commands
        self.appended.records[partition].extend(record.record for record in records)
        self.appended.heads[partition] = Head(records[-1].seq, sha256_hex(records[-1].record))

    async def confirm(self, partition: int, head: Head) -> None:
        if self.appended.heads[partition] != head:
            raise StaleHead(f"partition {partition} ends at {self.appended.heads[partition].seq}, not {head.seq}")

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        return self.appended.records[partition][from_seq - 1 : from_seq - 1 + limit]

    async def head(self, partition: int) -> Head:
        return self.appended.heads[partition]

    def place(self, partition: int, head: Head) -> bytes | None:
        assert head.seq <= self.appended.heads[partition].seq, (partition, head)
        return None

    async def begin_at(self, partition: int, head: Head, place: bytes | None) -> None:
        """It is read by seq: nothing to do."""

    async def tables(self) -> dict[str, PayTable]:
        return dict(self.appended.tables)

    async def money_rules(self) -> dict[str, Money]:
        return dict(self.appended.money_rules)

    async def games(self) -> set[str]:
        return set(self.appended.games)

    async def keep_games(self, names: Set[str]) -> None:
        self.appended.games |= names

    async def close(self) -> None:
        """Nothing to release."""
