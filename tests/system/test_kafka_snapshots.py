"""Snapshots on a real broker: taken under load, compacted while they are read, loaded by a node with an empty folder,
which then answers the partition's very first command as it was answered first."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from bench.measures.takeover import take_over
from conformance.snapshot_store import everything
from deploy.local.servers import Kafka
from kafka_judge import Logs, SnapshotTopics, administered, new_topic
from ledger.core.commands import Command
from ledger.errors import CheckpointAhead, LogMisconfigured
from ledger.kafka.address import parse_address
from ledger.kafka.snapshots import open_snapshots
from ledger.kafka.topic import COMPACTED, settings_of
from ledger.memory.state_store import MemoryStateStore
from ledger.node.owns_all import node_of_whole_log
from ledger.snapshots.snapshots import Snapshots
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted, AnyResponse
from ledger.writer.writer import Writer
from unit.given import ASSETS, deposit, open_wallet, place_bet
from unit.node_in_memory import request_sha256

pytestmark = pytest.mark.system

ONE_COPY = "?replication_factor=1"


@pytest.fixture
async def topics(kafka: Kafka) -> AsyncIterator[SnapshotTopics]:
    topics = SnapshotTopics(kafka)
    yield topics
    await topics.close()


def now_us() -> int:
    return time.time_ns() // 1_000


async def made(kafka: Kafka, topic: str, partitions: int, changes: dict[str, str]) -> None:
    right = settings_of(parse_address(f"kafka://x{ONE_COPY}"), COMPACTED)
    async with administered(kafka) as admin:
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=right | changes)])
    assert [code for _, code, _ in answer.topic_errors] == [0], answer


def nowhere(*_: object) -> None:
    raise AssertionError("nothing was started")


async def judged_events(logs: Logs) -> list[bytes]:
    return (await logs.judged(0)).events


# --- the topic -----------------------------------------------------------------------------------------------------


async def test_a_new_topic_is_compacted_in_small_segments(kafka: Kafka, topics: SnapshotTopics) -> None:
    await topics.open()
    async with administered(kafka) as admin:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.topic)])
    found = {entry[0]: entry[1] for answer in answers for entry in answer.resources[0][4]}
    assert found["cleanup.policy"] == "compact"
    assert found["unclean.leader.election.enable"] == "false"
    assert found["min.insync.replicas"] == "1"
    assert found["segment.bytes"] == str(64 * 1024 * 1024)


async def test_a_topic_that_would_delete_by_age_is_refused_with_what_to_type(
    kafka: Kafka, topics: SnapshotTopics
) -> None:
    await made(kafka, topics.topic, 2, {"cleanup.policy": "delete"})
    with pytest.raises(LogMisconfigured, match=r"cleanup\.policy=delete \(must be compact\).*--add-config"):
        await topics.open()


async def test_a_topic_of_other_partitions_is_refused_with_what_to_do(kafka: Kafka, topics: SnapshotTopics) -> None:
    await made(kafka, topics.topic, 3, {})
    with pytest.raises(LogMisconfigured, match="delete it while no node runs"):
        await topics.open()


async def test_one_copy_is_enough_only_where_it_is_said(kafka: Kafka) -> None:
    with pytest.raises(LogMisconfigured, match="replication_factor=1"):
        await open_snapshots(parse_address(kafka.url), 2, topic=new_topic())


# --- taken under load, loaded by others --------------------------------------------------------------------------


async def test_a_snapshot_under_load_is_one_moment_and_a_fresh_node_goes_on_from_it(
    logs: Logs, topics: SnapshotTopics, tmp_path: Path
) -> None:
    log, store = await logs.open(partitions=1), SqliteStateStore(tmp_path / "first.sqlite3")
    node = node_of_whole_log(log, store, now_us, ASSETS, generation=1)
    await node.start()
    first = open_wallet("u0")
    told: dict[Command, AnyResponse] = {first: await node.post(first, request_sha256(first), "local")}

    async def play(user: int, until: asyncio.Event) -> None:
        user_id, number = f"u{user}", 0
        if user:
            await node.post(opening := open_wallet(user_id), request_sha256(opening), "local")
        while not until.is_set():
            number += 1
            for command in (
                deposit(10, f"o{number}", user_id=user_id),
                place_bet(3, f"b{number}", user_id=user_id),
            ):
                told[command] = await node.post(command, request_sha256(command), "local")

    enough = asyncio.Event()
    playing = asyncio.gather(*(play(user, enough) for user in range(6)))
    snapshots = Snapshots(log, store, await topics.open(partitions=1), chunk_values=100, duty=0.5)
    async with asyncio.timeout(120):
        for enough_events in (100, 300):
            while node.end(0) < enough_events:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
            await node.writers[0].store_writes.save()
            assert await snapshots.write(0)
    last = store.checkpoint(0)
    enough.set()
    await playing
    end = node.end(0)
    assert all(isinstance(answer, Accepted) for answer in told.values())

    fresh_log, fresh = await logs.open(partitions=1), SqliteStateStore(tmp_path / "fresh.sqlite3")
    await Snapshots(fresh_log, fresh, await topics.open(partitions=1), spool=tmp_path).prepare(0)
    loaded = fresh.checkpoint(0)
    assert loaded is not None
    assert last is not None
    assert 300 <= loaded.seq <= last.seq
    next_owner = node_of_whole_log(fresh_log, fresh, now_us, ASSETS, generation=2)
    assert await next_owner.start() <= end - loaded.seq
    for command, answer in told.items():
        again = await next_owner.post(command, request_sha256(command), "local")
        assert isinstance(again, Accepted)
        assert isinstance(answer, Accepted)
        assert (again.position, again.head, again.event, again.hit) == (
            answer.position,
            answer.head,
            answer.event,
            True,
        )
    await next_owner.stop()
    await node.stop()
    # All of it is what the log tells.
    by_log = MemoryStateStore()
    third = node_of_whole_log(await logs.open(partitions=1), by_log, now_us, ASSETS, generation=3)
    await third.start()
    await third.stop()
    again_store = SqliteStateStore(tmp_path / "fresh.sqlite3")
    by_snapshot = dict(again_store.scan(0, "", "\U0010ffff", 1_000_000))
    assert by_snapshot | {"!w": 3} == dict(by_log.scan(0, "", "\U0010ffff", 1_000_000))
    again_store.close()


async def test_a_node_that_starts_again_reads_nothing_before_its_checkpoint(logs: Logs, tmp_path: Path) -> None:
    log = await logs.open(partitions=1)
    node = node_of_whole_log(log, SqliteStateStore(tmp_path / "state.sqlite3"), now_us, ASSETS, generation=1)
    await node.start()
    await node.post(command := open_wallet(), request_sha256(command), "local")
    for number in range(30):
        await node.post(one := deposit(10, f"o{number}"), request_sha256(one), "local")
    await node.stop()
    again = await logs.open(partitions=1)
    fetched: list[int] = []
    fetch = again._client.fetch

    async def counted(partition: int, offset: int, bytes_max: int) -> object:
        fetched.append(offset)
        return await fetch(partition, offset, bytes_max)

    again._client.fetch = counted  # type: ignore[method-assign, assignment]
    store = SqliteStateStore(tmp_path / "state.sqlite3")
    next_owner = Writer(0, again, store, now_us, ASSETS, deliver=nowhere, announce=nowhere, halted=nowhere)
    assert await next_owner.recover(save_every=1_000) == 0
    assert next_owner.head.seq == 32
    assert min(fetched) == 31
    assert (await judged_events(logs))[1:2] == await again.read(0, 2, 1)  # found by the place's pairs
    store.close()


async def test_snapshots_are_right_while_the_broker_compacts(
    kafka: Kafka, logs: Logs, topics: SnapshotTopics, tmp_path: Path
) -> None:
    small = {
        "segment.bytes": "1048576",
        "segment.ms": "300",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    }
    await made(kafka, topics.topic, 1, small)
    eager = ConfigResource(ConfigResourceType.BROKER, "1", configs={"log.cleaner.backoff.ms": "100"})
    async with administered(kafka) as admin:
        answer = await admin.alter_configs([eager])
    assert [resource[0] for one in answer for resource in one.resources] == [0], answer
    log, store = await logs.open(partitions=1), MemoryStateStore()
    node = node_of_whole_log(log, store, now_us, ASSETS, generation=1)
    await node.start()
    await node.post(opening := open_wallet(), request_sha256(opening), "local")
    kept = await topics.open(partitions=1)
    snapshots = Snapshots(log, store, kept, events_min=1, chunk_values=10, duty=1.0)
    first_offset, turn = 0, 0
    async with asyncio.timeout(90):
        while first_offset == 0 or turn < 10:  # until the broker has thrown the first ones away
            turn += 1
            for number in range(20):
                padded = deposit(10, f"o{turn}-{number}", metadata={"k": os.urandom(100).hex()})
                await node.post(padded, request_sha256(padded), "local")
            await node.writers[0].store_writes.save()
            assert await snapshots.write(0)
            fresh = MemoryStateStore()
            await Snapshots(await logs.open(partitions=1), fresh, await topics.open(partitions=1)).prepare(0)
            assert fresh.checkpoint(0) == store.checkpoint(0)
            assert fresh.scan(0, "", "~", 10_000) == store.scan(0, "", "~", 10_000)
            first_offset = (await everything(kept, 0))[0].offset
            await asyncio.sleep(0.2)
    await node.stop()


async def test_a_snapshot_of_an_exchanged_or_a_shorter_topic_is_noticed(
    kafka: Kafka, logs: Logs, topics: SnapshotTopics
) -> None:
    log, store = await logs.open(partitions=1), MemoryStateStore()
    node = node_of_whole_log(log, store, now_us, ASSETS, generation=1)
    await node.start()
    for number in range(5):
        await node.post(one := open_wallet(f"u{number}"), request_sha256(one), "local")
    await node.writers[0].store_writes.save()
    kept = await topics.open(partitions=1)
    assert await Snapshots(log, store, kept, duty=1.0).write(0)
    await node.stop()

    others = Logs(kafka)
    other = node_of_whole_log(await others.open(partitions=1), MemoryStateStore(), now_us, ASSETS, generation=1)
    await other.start()
    with pytest.raises(CheckpointAhead, match="got shorter"):
        await Snapshots(await others.open(partitions=1), MemoryStateStore(), kept).prepare(0)
    for number in range(9):
        await other.post(one := open_wallet(f"x{number}"), request_sha256(one), "local")
    fresh = MemoryStateStore()
    await Snapshots(await others.open(partitions=1), fresh, kept).prepare(0)
    assert fresh.checkpoint(0) is None, "a foreign snapshot was loaded"
    await other.stop()
    await others.close()


async def test_a_new_node_takes_a_partition_over_and_accepts_its_first_command(kafka: Kafka, tmp_path: Path) -> None:
    """What the bench measures with a million events, here with few."""
    address = parse_address(kafka.url + ONE_COPY)
    took = await take_over(address, tmp_path, topic=new_topic(), events=20_000)
    assert took.events == 20_001
    assert took.values > took.events
