"""A snapshot store in memory, real in everything but surviving the process. ``kept`` may be shared by several stores,
which then are several nodes' views of it; ``compact`` does what a broker does in its own time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.errors import LedgerError
from ledger.ports import SnapshotRecord

_PAGE: Final = 3  # chosen: small, so that what is read is in several pages


class MemorySnapshotStore:
    """``SnapshotStore`` over lists. ``fail_next``: what the next appends raise instead; None: one that goes well."""

    def __init__(self, kept: dict[int, list[SnapshotRecord]] | None = None) -> None:
        self.kept: dict[int, list[SnapshotRecord]] = {} if kept is None else kept
        self.fail_next: deque[LedgerError | None] = deque()

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        await asyncio.sleep(0)
        if self.fail_next and (error := self.fail_next.popleft()) is not None:
            raise error
        kept = self.kept.setdefault(partition, [])
        for key, value in records:
            kept.append(SnapshotRecord(kept[-1].offset + 1 if kept else 0, key, value))

    async def read(self, partition: int, from_offset: int) -> AsyncIterator[Sequence[SnapshotRecord]]:
        found = [kept for kept in self.kept.get(partition, []) if kept.offset >= from_offset]
        for begin in range(0, len(found), _PAGE):
            await asyncio.sleep(0)
            yield found[begin : begin + _PAGE]

    def compact(self, partition: int) -> None:
        """Keep only the last record of each key, and none of a key that was deleted, but for the very last."""
        kept = self.kept.get(partition, [])
        last = {record.key: record.offset for record in kept}
        self.kept[partition] = [
            record for record in kept if (last[record.key] == record.offset and record.value) or record is kept[-1]
        ]

    async def close(self) -> None:
        """Nothing to release."""
