"""The snapshot stores in memory and on Kafka pass the one contract; that on Kafka also while its broker compacts."""

from collections.abc import AsyncIterator

import pytest

from conformance.snapshot_store import OpenKept, SnapshotStoreContract
from deploy.local.servers import Kafka
from kafka_judge import SnapshotTopics
from ledger.memory.snapshots import MemorySnapshotStore
from ledger.ports import SnapshotRecord, SnapshotStore


class TestMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def open_kept(self) -> OpenKept:
        kept: dict[int, list[SnapshotRecord]] = {}

        async def opened() -> SnapshotStore:
            return MemorySnapshotStore(kept)

        return opened


@pytest.mark.system
class TestKafkaSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    async def open_kept(self, kafka: Kafka) -> AsyncIterator[OpenKept]:
        snapshots = SnapshotTopics(kafka)
        yield snapshots.open
        await snapshots.close()
