"""`stakelog what-if` on a log in Kafka gives what it gives on the same log in a folder."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from deploy.local.servers import Kafka
from kafka_judge import new_topic
from ledger.core.games.rules import BUILT_IN
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.kafka.address import KafkaAddress, parse_address
from ledger.kafka.log import open_log
from ledger.kafka.records import KafkaRecords
from ledger.operations.what_if.replay import what_if
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.readers import SqliteRecords
from unit.folders import _new, scenario_records, write_log
from unit.given import ASSETS

pytestmark = pytest.mark.system


async def write(address: KafkaAddress, topic: str, declarations: str) -> None:
    partitions = scenario_records()
    log = await open_log(address, len(partitions), topic=topic, declarations=declarations)
    await log.declare(ASSETS, BUILT_IN.tables)
    for partition, records in enumerate(partitions):
        half = len(records) // 2
        await log.append(partition, EMPTY, [_new(record) for record in records[:half]])
        await log.append(partition, Head(half, sha256_hex(records[half - 1])), [_new(one) for one in records[half:]])
    await log.close()


def test_a_topic_gives_what_a_folder_gives(kafka: Kafka, tmp_path: Path) -> None:
    topic, declarations = new_topic(), new_topic()
    address = parse_address(f"{kafka.url}?replication_factor=1")
    asyncio.run(write(address, topic, declarations))
    data = write_log(tmp_path / "data", scenario_records())
    with closing(KafkaRecords(address, topic=topic, declarations=declarations)) as records:
        assert records.declared().tables == BUILT_IN.tables
        found = what_if(records, BUILT_IN, ASSETS, 0, 2**60)
    with closing(SqliteRecords(data / EVENTS)) as stored:
        assert found == what_if(stored, BUILT_IN, ASSETS, 0, 2**60)
    assert found.events > 60
