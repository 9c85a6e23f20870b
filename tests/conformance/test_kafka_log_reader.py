"""The reader of the topic passes the one contract of log readers on a real broker, and skips forks."""

from collections.abc import Iterator

import pytest

from conformance.event_log import PARTITIONS, OpenLog, append, run_of
from conformance.log_reader import LogReaderContract, OpenReader
from deploy.local.servers import Kafka
from kafka_judge import Logs, new_topic
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LogUnavailable
from ledger.kafka.address import parse_address
from ledger.kafka.log import KafkaEventLog
from ledger.kafka.reader import KafkaLogReader

pytestmark = pytest.mark.system


@pytest.fixture
def open_log(logs: Logs) -> OpenLog:
    return lambda: logs.open(partitions=PARTITIONS)


@pytest.fixture
def open_reader(kafka: Kafka, logs: Logs) -> Iterator[OpenReader]:
    opened: list[KafkaLogReader] = []

    def one() -> KafkaLogReader:
        reader = KafkaLogReader(parse_address(f"{kafka.url}?replication_factor=1"), topic=logs.topic)
        opened.append(reader)
        return reader

    yield one
    for reader in opened:
        reader.close()


class TestKafkaLogReader(LogReaderContract):
    """The fixtures are the module's."""


async def forked(logs: Logs) -> tuple[KafkaEventLog, list[bytes], list[Head]]:
    """``1 2 2' 2'' 3'(prev 2') 3 4 5``: the log, its events, the heads of its forks."""
    log = await logs.open(partitions=PARTITIONS)
    first = await append(log, 0, EMPTY, "1")
    second = run_of(0, first.head, ["2"])
    fork, other = run_of(0, first.head, ["2'"]), run_of(0, first.head, ["2''"])
    late = run_of(0, fork.head, ["3'"])
    rest = run_of(0, second.head, ["3", "4", "5"])
    for run in (second, fork, other, late, rest):
        await log._client.append(0, run.records)
    return log, first.stored + second.stored + rest.stored, [fork.head, other.head, late.head]


async def test_forks_are_no_events_wherever_reading_begins(logs: Logs, open_reader: OpenReader) -> None:
    _, events, _ = await forked(logs)
    heads = [Head(seq, sha256_hex(record)) for seq, record in enumerate(events, start=1)]
    for begin in range(len(events)):
        for seq in range(1, len(events) + 1):
            reader = open_reader()
            if begin:
                assert reader.contains(0, heads[begin - 1])
            assert reader.read(0, seq, 4_000) == events[seq - 1 :], (begin, seq)
            assert reader.read(0, seq, 1) == events[seq - 1 : seq]
            assert reader.ends()[0] == len(events)
            assert all(reader.contains(0, head) for head in heads)
            reader.close()


async def test_a_fork_is_no_head_where_the_chain_was_read(logs: Logs, open_reader: OpenReader) -> None:
    _, _, forks = await forked(logs)
    reader = open_reader()
    assert reader.ends()[0] == 5
    assert [reader.contains(0, head) for head in forks] == [False] * 3


async def test_the_offset_after_a_head_counts_forks(logs: Logs, open_reader: OpenReader) -> None:
    _, events, _ = await forked(logs)
    reader = open_reader()
    assert isinstance(reader, KafkaLogReader)
    behind = [reader.offset_behind(0, Head(seq, sha256_hex(events[seq - 1]))) for seq in range(1, 6)]
    assert behind == [1, 2, 6, 7, 8]
    assert reader.offset_behind(0, EMPTY) == 0
    assert reader.offset_behind(0, Head(3, "1" * 64)) is None


async def test_without_a_topic_the_log_is_unavailable_and_no_topic_is_created(kafka: Kafka) -> None:
    address, topic = parse_address(f"{kafka.url}?replication_factor=1"), new_topic()
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="there is no topic"):
            KafkaLogReader(address, topic=topic)
