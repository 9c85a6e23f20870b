"""The topic: made right, refused where it is wrong, reached as its address says, read from where it was verified."""

import asyncio
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from conformance.event_log import append, whole
from deploy.local.servers import SASL_PASSWORD, Kafka
from kafka_judge import Logs, administered, new_topic, secure_url
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import (
    CheckpointAhead,
    ForeignCheckpoint,
    LogMisconfigured,
    LogUnavailable,
    LogUnreadable,
    WrongPartitions,
)
from ledger.kafka.address import parse_address
from ledger.kafka.log import Known, OffsetRange, open_log
from ledger.kafka.topic import settings_of

pytestmark = pytest.mark.system


async def settings(kafka: Kafka, topic: str) -> dict[str, str]:
    async with administered(kafka) as admin:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {entry[0]: entry[1] for answer in answers for entry in answer.resources[0][4]}


async def make(kafka: Kafka, topic: str, partitions: int, changes: dict[str, str]) -> None:
    """Create a topic with the right settings but for ``changes``."""
    right = settings_of(parse_address("kafka://x?replication_factor=1"))
    async with administered(kafka) as admin:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=right | changes)])


async def test_a_new_topic_never_deletes_a_record(kafka: Kafka, logs: Logs) -> None:
    await logs.open()
    found = await settings(kafka, logs.topic)
    assert found["cleanup.policy"] == "delete"
    assert (found["retention.ms"], found["retention.bytes"]) == ("-1", "-1")
    assert found["unclean.leader.election.enable"] == "false"
    assert found["message.timestamp.type"] == "LogAppendTime"
    assert found["min.insync.replicas"] == "1"


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [
        ("cleanup.policy", "compact", "delete"),
        ("cleanup.policy", "compact,delete", "delete"),
        ("retention.ms", "604800000", "-1"),
        ("retention.bytes", "1000000", "-1"),
        ("unclean.leader.election.enable", "true", "false"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("max.message.bytes", "1048588", "8389632"),
    ],
)
async def test_a_topic_with_a_wrong_setting_is_refused_with_what_to_type(
    kafka: Kafka, logs: Logs, setting: str, wrong: str, right: str
) -> None:
    await make(kafka, logs.topic, 2, {setting: wrong})
    with pytest.raises(LogMisconfigured) as refused:
        await logs.open()
    assert f"{setting}={wrong} (must be {right})" in str(refused.value)
    assert f"--entity-name {logs.topic} --add-config {setting}={right}" in str(refused.value)
    assert (await settings(kafka, logs.topic))[setting] == wrong, "it is for the operator to change"


async def test_all_wrong_settings_are_named_at_once(kafka: Kafka, logs: Logs) -> None:
    await make(kafka, logs.topic, 2, {"retention.ms": "1000", "cleanup.policy": "compact"})
    with pytest.raises(LogMisconfigured, match=r"cleanup\.policy=compact .*retention\.ms=1000 "):
        await logs.open()


async def test_one_copy_is_enough_only_where_it_is_said(kafka: Kafka) -> None:
    topic = new_topic()
    with pytest.raises(LogMisconfigured, match="replication_factor=1 in the address if the loss of one disk"):
        await open_log(parse_address(kafka.url), 2, topic=topic)
    await make(kafka, topic, 2, {"min.insync.replicas": "2"})
    with pytest.raises(LogMisconfigured, match="has 1 copies of a partition, not 3"):
        await open_log(parse_address(kafka.url), 2, topic=topic)


@pytest.mark.parametrize("found", [1, 3])
async def test_another_number_of_partitions_is_refused(kafka: Kafka, logs: Logs, found: int) -> None:
    await make(kafka, logs.topic, found, {})
    with pytest.raises(WrongPartitions, match=f"created with {found} partitions, not 2.*STAKELOG_PARTITIONS={found}"):
        await logs.open()


async def test_an_unreachable_address_is_one_sentence() -> None:
    with pytest.raises(LogUnavailable, match=r"kafka://127\.0\.0\.1:1 "):
        await open_log(parse_address("kafka://127.0.0.1:1"), 2, timeout_s=2)


async def test_a_limit_that_was_lowered_meanwhile_refuses_a_batch_and_the_log_goes_on(
    kafka: Kafka, logs: Logs
) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a")
    lowered = ConfigResource(ConfigResourceType.TOPIC, logs.topic, configs={"max.message.bytes": "10000"})
    async with administered(kafka) as admin:
        await admin.alter_configs([lowered])
    landed = list(base.stored)

    async def append_until_refused() -> None:
        """The broker takes the new limit some time after it has accepted it."""
        nonlocal base
        async with asyncio.timeout(60):
            while True:
                base = await append(log, 0, base.head, *(f"b{len(landed) + number}" for number in range(100)))
                landed.extend(base.stored)

    with pytest.raises(LogUnavailable, match="bytes of one batch"):
        await append_until_refused()
    following = await append(log, 0, base.head, "c")
    assert await whole(log, 0) == [*landed, *following.stored]


# --- TLS and SASL --------------------------------------------------------------------------------------------------


async def test_the_log_is_reached_through_tls_and_sasl(kafka: Kafka) -> None:
    log = await open_log(parse_address(secure_url(kafka)), 2, topic=new_topic())
    run = await append(log, 0, EMPTY, "a", "b")
    await log.confirm(0, run.head)
    assert await whole(log, 0) == run.stored
    await log.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"sasl_password": "guessed"},
        {"ssl_cafile": ""},  # not signed by an authority that the system trusts
        {"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": ""},
    ],
    ids=["wrong password", "unknown certificate", "no TLS"],
)
async def test_a_refused_client_is_reported_without_its_password(kafka: Kafka, changes: dict[str, str]) -> None:
    with pytest.raises(LogUnavailable) as refused:
        await open_log(parse_address(secure_url(kafka, **changes)), 2, topic=new_topic(), timeout_s=3)
    assert SASL_PASSWORD not in str(refused.value)


async def test_a_certificate_that_cannot_be_read_is_named(kafka: Kafka) -> None:
    with pytest.raises(LogMisconfigured, match=r"/nowhere/ca\.pem"):
        await open_log(parse_address(secure_url(kafka, ssl_cafile="/nowhere/ca.pem")), 2, topic=new_topic())


# --- what else may stand in the topic ----------------------------------------------------------------------------


async def write(kafka: Kafka, topic: str, *values: bytes | None, **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address, **options)
    await producer.start()
    try:
        if "transactional_id" in options:
            async with producer.transaction():
                for value in values:
                    await producer.send_and_wait(topic, value, key=b"k", partition=0)
        else:
            for value in values:
                await producer.send_and_wait(topic, value, key=b"k", partition=0)
    finally:
        await producer.stop()


async def test_bytes_that_are_no_record_are_skipped_and_counted(kafka: Kafka, logs: Logs) -> None:
    log = await logs.open()
    strangers = (b"", None, b"\xff\xfe", b"{", b"[1]", b'{"seq":"1","prev":0}', b"[" * 5_000)
    await write(kafka, logs.topic, *strangers)
    first = await append(log, 0, EMPTY, "a", "b", "c")
    await write(kafka, logs.topic, *first.stored, compression_type="gzip")  # events, but of an earlier place
    await write(kafka, logs.topic, b"in a transaction", transactional_id=logs.topic)
    second = await append(log, 0, first.head, "d")
    late = await logs.open()
    for reader in (log, late):
        assert await whole(reader, 0) == first.stored + second.stored
        assert reader.forks(0) == len(strangers) + 3 + 1
        for seq in range(1, 5):
            assert await reader.read(0, seq, 1) == (first.stored + second.stored)[seq - 1 : seq]
        await reader.confirm(0, second.head)


# --- from what was verified before -------------------------------------------------------------------------------


async def test_reading_goes_on_from_what_was_verified(kafka: Kafka, logs: Logs) -> None:
    log, other = await logs.open(), await logs.open()
    first = await append(log, 0, EMPTY, *(f"a{number}" for number in range(10)))
    await write(kafka, logs.topic, b"a fork")
    second = await append(log, 0, first.head, "b", "c")
    third = await append(log, 0, second.head, "d")
    place = log.place(0, second.head)  # of a head that is the last no longer
    await other.begin_at(0, second.head, place)
    assert other._known[0].next_offset == 13, "nothing before it is read"
    everything = first.stored + second.stored + third.stored
    assert await other.head(0) == third.head
    assert await whole(other, 0) == everything
    assert [await other.read(0, seq, 1) for seq in range(1, 14)] == [[record] for record in everything]
    assert other.forks(0) == log.forks(0) == 1
    await append(other, 0, third.head, "e")


def place_of(head: Head, next_offset: int, *runs: OffsetRange) -> bytes:
    return msgspec.msgpack.encode(Known(head.seq, head.sha256, next_offset, 0, runs))


async def test_a_log_that_knows_more_than_the_topic_stops_and_reports_it(logs: Logs) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a", "b", "c")
    foreign = Head(3, sha256_hex(b"x"))
    longer = Head(4, base.head.sha256)
    elsewhere = Head(2, sha256_hex(base.stored[2]))
    for head, error in ((foreign, ForeignCheckpoint), (longer, CheckpointAhead), (elsewhere, ForeignCheckpoint)):
        late = await logs.open()
        with pytest.raises(error):
            await late.begin_at(0, head, place_of(head, head.seq, OffsetRange(1, 0)))
        assert await whole(late, 0) == base.stored
    for head in (foreign, elsewhere):
        with pytest.raises(ForeignCheckpoint):
            await log.begin_at(0, head, None)  # it has read that far


async def test_what_is_known_already_is_not_forgotten_for_a_place_before_it(logs: Logs) -> None:
    log = await logs.open()
    first = await append(log, 0, EMPTY, "a", "b")
    second = await append(log, 0, first.head, "c")
    await log.begin_at(0, first.head, log.place(0, first.head))
    assert log.place(0, second.head) is not None
    assert await whole(log, 0) == first.stored + second.stored


async def test_a_place_that_is_damaged_is_not_trusted(logs: Logs) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a", "b", "c")
    good = log.place(0, base.head)
    assert good == place_of(base.head, 3, OffsetRange(1, 0))
    for bad in (
        None,
        b"",
        b"x",
        good[:-1],
        place_of(base.head, 3),
        place_of(base.head, 4, OffsetRange(1, 0)),
        place_of(base.head, 3, OffsetRange(2, 1)),
        place_of(base.head, 3, OffsetRange(1, 0), OffsetRange(1, 0)),
        place_of(base.head, 4, OffsetRange(1, 0), OffsetRange(4, 4)),
        place_of(Head(2, base.head.sha256), 2, OffsetRange(1, 0)),
    ):
        late = await logs.open()
        await late.begin_at(0, base.head, bad)
        assert late._known[0].next_offset == 0
        assert await whole(late, 0) == base.stored


async def test_a_topic_that_was_created_again_is_not_continued(kafka: Kafka, logs: Logs) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a", "b")
    async with administered(kafka) as admin:
        await admin.delete_topics([logs.topic])
        while logs.topic in await admin.list_topics():  # noqa: ASYNC110 - the broker sends no event
            await asyncio.sleep(0.05)
    await append(await logs.open(), 0, EMPTY, "x")
    with pytest.raises(LogUnreadable, match="got shorter"):
        await log.confirm(0, base.head)
    with pytest.raises(LogUnreadable, match="got shorter"):
        await log.head(0)


async def test_a_topic_whose_first_records_were_deleted_is_not_read(kafka: Kafka, logs: Logs) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a", "b", "c")
    async with administered(kafka) as admin:
        await admin.delete_records({TopicPartition(logs.topic, 0): RecordsToDelete(2)})
    late = await logs.open()
    for ask in (lambda: late.head(0), lambda: late.read(0, 1, 10), lambda: append(late, 0, base.head, "d")):
        with pytest.raises(LogUnreadable, match="its first records were deleted"):
            await ask()
