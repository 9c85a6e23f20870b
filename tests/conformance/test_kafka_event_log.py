"""The event log on Kafka passes the one contract on a real broker, and passes the tests that only Kafka needs."""

from collections.abc import AsyncIterator

import pytest

from conformance.event_log import PARTITIONS, EventLogContract, OpenLog
from deploy.local.servers import Kafka
from kafka_judge import Logs

pytestmark = pytest.mark.system


class TestKafkaEventLog(EventLogContract):
    @pytest.fixture
    async def open_log(self, kafka: Kafka) -> AsyncIterator[OpenLog]:
        logs = Logs(kafka)
        yield lambda: logs.open(partitions=PARTITIONS)
        await logs.close()
