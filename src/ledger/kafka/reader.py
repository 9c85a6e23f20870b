"""The topic for followers, in other processes than the nodes: a blocking reader with its own thread.

Implements ``projections.projecting.log_reader.LogReader``. It reads by the chain rule of ``ledger.kafka.log``, and
has no other rule. Invariants:
(1) every seq is exact: a partition is read by the chain from its start, or from an event that the caller knows, which
    ``holds`` has found in the topic. A seq before that event is read from the start;
(2) ``holds`` finds a record by its hash. It trusts that the caller's head, of rows that were folded by the chain
    rule, is an event's and no fork's;
(3) a caller that reads continuously waits for no broker: the next slice is fetched while the last one is used.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from ledger import background
from ledger.core.games.tables import PayTable
from ledger.core.record import Head, sha256_hex
from ledger.errors import LogUnavailable
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.declarations import DECLARATIONS
from ledger.kafka.log import TIMEOUT_S, TOPIC, KafkaEventLog
from ledger.kafka.topic import partitions_of

SLICE: Final = 4_000
"""Records in one read of a caller that reads many. Chosen: 2 MB, some two fetches."""
_MANY: Final = 100

T = TypeVar("T")


class _Slice(NamedTuple):
    """Events of one partition, one a seq."""

    first: int
    records: list[bytes]


_NOTHING: Final = _Slice(0, [])


class _Partition:
    """The cached records of one partition."""

    def __init__(self) -> None:
        self.begun_at: int | None = None  # the first seq of the walk that did not begin at the start
        self.kept = _NOTHING
        self.coming: tuple[int, asyncio.Task[list[bytes]]] | None = None


class KafkaLogReader:
    """One topic, read. Methods may be called from any thread, by one at a time."""

    def __init__(self, address: KafkaAddress, *, topic: str = TOPIC, timeout_s: float = TIMEOUT_S) -> None:
        """Raises LogUnavailable, LogMisconfigured."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stakelog-kafka-reader", daemon=True)
        self._thread.start()
        self._closed = False
        self._client: KafkaClient | None = None
        try:
            self.partitions, self._client = self._wait(_opened(address, topic, timeout_s))
        except BaseException:
            self.close()
            raise
        self._from_start, self._from_within = (
            KafkaEventLog(self._client, address, self.partitions, DECLARATIONS, timeout_s) for _ in range(2)
        )
        self._kept = [_Partition() for _ in range(self.partitions)]
        self._last_ends: list[int] | None = None

    def changed(self) -> bool:
        ends = self.end_offsets()
        if ends == self._last_ends:
            return False
        self._last_ends = ends
        return True

    def ends(self) -> list[int]:
        """Return every partition's last seq. Reads the events up to it, and caches some of them."""
        return self._wait(self._ends())

    def contains(self, partition: int, head: Head) -> bool:
        """Whether ``head``, of an event, is in the log. After that the events after it are cheap to read."""
        return self._wait(self._holds(partition, head))

    def offset_behind(self, partition: int, head: Head) -> int | None:
        """Return the offset after the event ``head``, 0 for the empty log; None if the topic lacks it."""
        return self._wait(self._offset_behind(partition, head))

    def end_offsets(self) -> list[int]:
        """Return the offset after the last record of every partition."""
        assert self._client is not None
        return self._wait(self._client.end_offsets(self.partitions))

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        return self._wait(self._read(partition, from_seq, limit))

    def tables(self) -> dict[str, PayTable]:
        """Return the pay tables that any node has declared, by their digests."""
        return self._wait(self._from_start.tables())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._client is not None:
            asyncio.run_coroutine_threadsafe(self._end(self._client), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- in the thread -------------------------------------------------------------------------------------------

    def _wait(self, request: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            request.close()
            raise LogUnavailable("the log is closed")
        return asyncio.run_coroutine_threadsafe(request, self._loop).result()

    async def _end(self, client: KafkaClient) -> None:
        coming = [kept.coming[1] for kept in self._kept if kept.coming is not None]
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        await client.close()

    def _walk(self, partition: int, from_seq: int | None = None) -> KafkaEventLog:
        """Return the log that can verify this seq: the one that began within, unless the seq is before it."""
        begun_at = self._kept[partition].begun_at
        if begun_at is None or (from_seq is not None and from_seq < begun_at):
            return self._from_start
        return self._from_within

    async def _ends(self) -> list[int]:
        assert self._client is not None
        offsets = await self._client.end_offsets(self.partitions)
        await asyncio.gather(*(self._walk_to(partition, offset) for partition, offset in enumerate(offsets)))
        return [self._walk(partition).last_read(partition)[0] for partition in range(self.partitions)]

    async def _walk_to(self, partition: int, offset: int) -> None:
        walk = self._walk(partition)
        seq, next_offset = walk.last_read(partition)
        if offset == next_offset:
            return
        new = await walk.read(partition, seq + 1, SLICE)
        if self._kept[partition].kept is _NOTHING:
            self._kept[partition].kept = _Slice(seq + 1, new)
        if len(new) == SLICE:
            await walk.head(partition)

    async def _holds(self, partition: int, head: Head) -> bool:
        for walk in (self._walk(partition, head.seq), self._from_start):
            if head.seq <= walk.last_read(partition)[0]:
                (record,) = await walk.read(partition, head.seq, 1)
                return sha256_hex(record) == head.sha256
        if not await self._from_within.begin_within(partition, head):
            return False
        self._kept[partition].begun_at = head.seq
        return True

    async def _offset_behind(self, partition: int, head: Head) -> int | None:
        if head.seq == 0:
            return 0
        if not await self._holds(partition, head):
            return None
        return self._walk(partition, head.seq).offset_of(partition, head.seq) + 1

    async def _read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        if limit < _MANY:
            return await self._few(partition, from_seq, limit)
        found: list[bytes] = []
        while len(found) < limit:
            seq = from_seq + len(found)
            records = await self._from(partition, seq)
            if not records:
                break
            found += records[: limit - len(found)]
        return found

    async def _few(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        first, records = self._kept[partition].kept
        if first <= from_seq and from_seq + limit <= first + len(records):
            return records[from_seq - first : from_seq - first + limit]
        return await self._walk(partition, from_seq).read(partition, from_seq, limit)

    async def _from(self, partition: int, seq: int) -> list[bytes]:
        """Return some events from ``seq`` on, cached ones if there are; [] past the end."""
        kept = self._kept[partition]
        first, records = kept.kept
        if not first <= seq < first + len(records):
            first, records = seq, await self._slice(partition, seq)
            kept.kept = _Slice(seq, records) if records else _NOTHING
        if len(records) == SLICE and kept.coming is None:
            coming = self._walk(partition, first + SLICE).read(partition, first + SLICE, SLICE)
            kept.coming = (first + SLICE, background.awaited(coming, "prefetch"))
        return records[seq - first :]

    async def _slice(self, partition: int, seq: int) -> list[bytes]:
        kept = self._kept[partition]
        if kept.coming is not None:
            (coming_from, coming), kept.coming = kept.coming, None
            if coming_from == seq:
                # The prefetch may have reached an end that has moved since then: read again.
                if found := await coming:
                    return found
            else:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
        return await self._walk(partition, seq).read(partition, seq, SLICE)


async def _opened(address: KafkaAddress, topic: str, timeout_s: float) -> tuple[int, KafkaClient]:
    partitions = await partitions_of(address, topic, timeout_s=timeout_s)
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    return partitions, client
