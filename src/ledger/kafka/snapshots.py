"""The snapshot store of many nodes: the Kafka topic ``stakelog.snapshots``, compacted, with the events' partitions.

Everything in it can be made again from the log: it may be deleted as a whole while no node runs. Truths:
(1) an append is one batch, acknowledged by as many brokers as an event;
(2) compaction keeps the last record of each key, and moves no offset: a chunk stays where it was read.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.errors import LogMisconfigured, LogUnavailable, LogUnreadable, OutcomeUnknown, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.topic import COMPACTED, prepare_topic
from ledger.ports import SnapshotRecord

SNAPSHOTS: Final = "stakelog.snapshots"

CHOSEN: Final = {
    # The broker never compacts the segment that it writes: small ones, so that what is deleted goes soon.
    "segment.bytes": str(64 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.3",
}
"""Settings of a new topic that matter for its size only. Chosen."""

_PAGE_BYTES: Final = 8 * 1024 * 1024  # chosen: some sixty chunks


class KafkaSnapshotStore:
    """``SnapshotStore`` over one topic. Made by ``open_snapshots``."""

    def __init__(self, client: KafkaClient, timeout_s: float) -> None:
        self._client, self._timeout_s = client, timeout_s

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        try:
            await self._client.append_keyed(partition, [(key.encode(), value or None) for key, value in records])
        except OutcomeUnknown as error:
            raise LogUnavailable(f"a snapshot may not be kept: {error}") from error

    async def read(self, partition: int, from_offset: int) -> AsyncIterator[Sequence[SnapshotRecord]]:
        end = await self._client.end_offset(partition)
        if end < from_offset:
            raise LogUnreadable(f"the snapshots of partition {partition} end at {end}, before {from_offset}")
        offset = max(from_offset, await self._client.start_offset(partition))
        while offset < end:
            try:
                async with asyncio.timeout(self._timeout_s):
                    page = await self._client.fetch(partition, offset, _PAGE_BYTES)
                    while page.next_offset == offset:
                        await asyncio.sleep(0.002)  # a new leader shows what it has a moment after it was elected
                        page = await self._client.fetch(partition, offset, _PAGE_BYTES)
            except TimeoutError:
                raise LogUnavailable(
                    f"the snapshots of partition {partition} do not show their offset {offset}"
                ) from None
            yield [
                SnapshotRecord(stored.offset, stored.key.decode(errors="replace"), stored.value)
                for stored in page.records
            ]
            offset = page.next_offset

    async def close(self) -> None:
        await self._client.close()


async def open_snapshots(
    address: KafkaAddress, partitions: int, *, topic: str = SNAPSHOTS, timeout_s: float = 10.0
) -> KafkaSnapshotStore:
    """Make or check the topic, and open it. Raises LogMisconfigured, LogUnavailable."""
    try:
        await prepare_topic(address, topic, partitions, timeout_s=timeout_s, safe=COMPACTED, chosen=CHOSEN)
    except WrongPartitions as error:
        raise LogMisconfigured(
            f"the topic {topic} has another number of partitions than the events, {partitions}. It can be made "
            "again: delete it while no node runs, and start again"
        ) from error
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    return KafkaSnapshotStore(client, timeout_s)
