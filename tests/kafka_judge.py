"""Reads a topic with aiokafka's own consumer, and applies a second implementation of the chain rule.

It shares no code with the log that it judges.
"""

import hashlib
import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers import SASL_PASSWORD, SASL_USER, Kafka
from ledger.kafka.address import parse_address
from ledger.kafka.log import KafkaEventLog, open_log
from ledger.kafka.snapshots import KafkaSnapshotStore, open_snapshots

_numbers: Final = count(1)


def new_topic() -> str:
    """A name that no other test of this broker has."""
    return f"events-{next(_numbers)}"


def secure_url(kafka: Kafka, **changes: str) -> str:
    """The broker's address with TLS and SASL, with changed parameters; an empty one is left out."""
    parts = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(kafka.certificate),
        "sasl_username": SASL_USER,
        "sasl_password": SASL_PASSWORD,
        "replication_factor": "1",
    } | changes
    query = "&".join(f"{name}={value}" for name, value in parts.items() if value)
    return f"kafka://127.0.0.1:{kafka.secure_port}?{query}"


def in_a_process(program: str, kafka: Kafka, topic: str) -> "subprocess.Popen[str]":
    """Python with the broker's address and the topic as its arguments; its output is a pipe."""
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", program, f"{kafka.url}?replication_factor=1", topic],
        env={"PYTHONPATH": f"{root / 'src'}:{root / 'tests'}:{root}"},
        stdout=subprocess.PIPE,
        text=True,
    )


async def open_at(url: str, topic: str, partitions: int = 2) -> KafkaEventLog:
    return await open_log(parse_address(url), partitions, topic=topic)


class Logs:
    """Opens logs of one broker, each a process's view of a topic, and closes them."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._opened: list[KafkaEventLog] = []
        self.topic = new_topic()

    async def open(self, *, partitions: int = 2, timeout_s: float = 10.0) -> KafkaEventLog:
        address = parse_address(f"{self._kafka.url}?replication_factor=1")
        log = await open_log(address, partitions, topic=self.topic, timeout_s=timeout_s)
        self._opened.append(log)
        return log

    async def judged(self, partition: int) -> "Judged":
        return await judged(self._kafka, self.topic, partition)

    async def close(self) -> None:
        for log in self._opened:
            await log.close()


class Judged(NamedTuple):
    """All values of a partition in the order of offsets, and which of them are events."""

    values: list[bytes]
    events: list[bytes]

    @property
    def forks(self) -> int:
        return len(self.values) - len(self.events)

    @property
    def names(self) -> list[str]:
        """``<user_id> <command_id>`` of every event."""
        records = [json.loads(event) for event in self.events]
        return [f"{record['user_id']} {record['command_id']}" for record in records]

    @property
    def commands(self) -> list[str]:
        return [json.loads(event)["command_id"] for event in self.events]


async def judged(kafka: Kafka, topic: str, partition: int) -> Judged:
    values = await raw_values(kafka, topic, partition)
    events: list[bytes] = []
    seq, head = 0, "0" * 64
    for value in values:
        try:
            record = json.loads(value)
        except ValueError:
            continue
        if isinstance(record, dict) and (record.get("seq"), record.get("prev")) == (seq + 1, head):
            events.append(value)
            seq, head = seq + 1, hashlib.sha256(value).hexdigest()
    return Judged(values, events)


async def raw_values(kafka: Kafka, topic: str, partition: int) -> list[bytes]:
    place = TopicPartition(topic, partition)
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=kafka.address, enable_auto_commit=False, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, 0)
        values: list[bytes] = []
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(place, timeout_ms=500)).values():
                values += [record.value or b"" for record in records]
        return values
    finally:
        await consumer.stop()


class administered:  # noqa: N801 - used like a function
    """``async with administered(kafka) as admin``"""

    def __init__(self, kafka: Kafka) -> None:
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=kafka.address)

    async def __aenter__(self) -> Any:
        await self._admin.start()
        return self._admin

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()


class SnapshotTopics:
    """Opens snapshot stores of one broker, each a process's view of a topic, and closes them."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._opened: list[KafkaSnapshotStore] = []
        self.topic = new_topic() + ".snapshots"

    async def open(self, *, partitions: int = 2) -> KafkaSnapshotStore:
        address = parse_address(f"{self._kafka.url}?replication_factor=1")
        store = await open_snapshots(address, partitions, topic=self.topic)
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
