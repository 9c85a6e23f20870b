"""The snapshot store of many nodes: the Kafka topic ``stakelog.snapshots``, compacted, with the events' partitions.

Everything in it can be rebuilt from the log: the whole topic may be deleted while no node runs. Invariants:
(1) an append is one batch, acknowledged by as many brokers as an event;
(2) compaction keeps the last record of each key, and changes no offset: a chunk keeps the offset it was read at.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.errors import LogMisconfigured, LogUnavailable, LogUnreadable, OutcomeUnknown, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.topic import COMPACTED, prepare_topic
from ledger.ports import SnapshotRecord

SNAPSHOTS: Final = "stakelog.snapshots"

CHOSEN: Final = {
    # The broker never compacts the segment that it writes: small segments, so that deleted records go soon.
    "segment.bytes": str(64 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.3",
}
"""Settings of a new topic that affect only its size. Chosen."""

_PAGE_BYTES: Final = 8 * 1024 * 1024  # chosen: some sixty chunks


class KafkaSnapshotStore:
    """``SnapshotStore`` over one topic. Made by ``open_snapshots``."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        try:
            await self._client.append_keyed(partition, [(key.encode(), value or None) for key, value in records])
        except OutcomeUnknown as error:
            raise LogUnavailable(f"a snapshot may not be stored: {error}") from error

    async def read(self, partition: int, from_offset: int) -> AsyncIterator[Sequence[SnapshotRecord]]:
        end = await self._client.end_offset(partition)
        if end < from_offset:
            raise LogUnreadable(f"the snapshots of partition {partition} end at {end}, before {from_offset}")
        offset = max(from_offset, await self._client.start_offset(partition))
        async for page in self._client.pages(partition, offset, end, _PAGE_BYTES):
            yield [
                SnapshotRecord(stored.offset, stored.key.decode(errors="replace"), stored.value)
                for stored in page.records
            ]

    async def close(self) -> None:
        await self._client.close()


async def open_snapshots(
    address: KafkaAddress, partitions: int, *, topic: str = SNAPSHOTS, timeout_s: float = 10.0
) -> KafkaSnapshotStore:
    """Create or check the topic, and open it. Raises LogMisconfigured, LogUnavailable."""
    try:
        await prepare_topic(address, topic, partitions, timeout_s=timeout_s, safe=COMPACTED, chosen=CHOSEN)
    except WrongPartitions as error:
        raise LogMisconfigured(
            f"the topic {topic} must have {partitions} partitions, as the events. It can be rebuilt from the log: "
            "delete it while no node runs, and start again"
        ) from error
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    return KafkaSnapshotStore(client)
