"""A snapshot store in memory: complete, except that it ends with the process.

Several stores may share one ``kept``: then they are several nodes' views of one topic. ``compact`` does what a broker
does in the background.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.errors import LedgerError
from ledger.ports import SnapshotRecord

_PAGE: Final = 3  # chosen: small, so that tests read several pages


class MemorySnapshotStore:
    """``SnapshotStore`` over lists. ``fail_next``: the errors of the appends to come; None is a successful append."""

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
        """Keep the last record of each key, none of a deleted key, and always the very last record."""
        kept = self.kept.get(partition, [])
        last = {record.key: record.offset for record in kept}
        self.kept[partition] = [
            record for record in kept if (last[record.key] == record.offset and record.value) or record is kept[-1]
        ]

    async def close(self) -> None:
        """Nothing to release."""
