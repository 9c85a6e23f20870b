"""A snapshot store in memory. Complete, except that it ends with the process.

Several stores may share ``records``: each is then one node's store. ``compact`` does at once what a broker
does later.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.errors import LedgerError
from ledger.ports import SnapshotRecord

_PAGE: Final = 3  # chosen: so small that most reads have several pages


class MemorySnapshotStore:
    """``SnapshotStore`` over lists. ``fail_next``: the errors of the next appends; None: one that succeeds."""

    def __init__(self, records: dict[int, list[SnapshotRecord]] | None = None) -> None:
        self.records: dict[int, list[SnapshotRecord]] = {} if records is None else records
        self.fail_next: deque[LedgerError | None] = deque()

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        await asyncio.sleep(0)
        if self.fail_next and (error := self.fail_next.popleft()) is not None:
            raise error
        stored = self.records.setdefault(partition, [])
        for key, value in records:
            stored.append(SnapshotRecord(stored[-1].offset + 1 if stored else 0, key, value))

    async def read(self, partition: int, from_offset: int) -> AsyncIterator[Sequence[SnapshotRecord]]:
        found = [record for record in self.records.get(partition, []) if record.offset >= from_offset]
        for begin in range(0, len(found), _PAGE):
            await asyncio.sleep(0)
            yield found[begin : begin + _PAGE]

    def compact(self, partition: int) -> None:
        """Keep only the last record of each key, and no record of a deleted key, except the last record of all."""
        stored = self.records.get(partition, [])
        last = {record.key: record.offset for record in stored}
        self.records[partition] = [
            record
            for record in stored
            if (last[record.key] == record.offset and record.value) or record is stored[-1]
        ]

    async def close(self) -> None:
        """Nothing to release."""
