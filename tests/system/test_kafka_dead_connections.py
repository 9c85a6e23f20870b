"""A connection to the broker that dies under a request, on a real broker: no part of this program stops for it.

uvloop's transport raises RuntimeError when aiokafka writes to it after it has died. ``die_at`` makes a connection do
so at its next request of one kind: a moment that a test cannot choose from outside.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest

from conformance.event_log import append, whole
from deploy.local.servers import Kafka
from kafka_judge import Logs
from ledger.core.record import EMPTY
from ledger.errors import LedgerError
from ledger.kafka.client import KafkaClient
from ledger.kafka.connection import new_client
from system.test_kafka_groups import ALL, PARTITIONS, Group, Member, until

pytestmark = pytest.mark.system

SESSION_S = 6.0


class DeadAtRequest:
    """A connection's writer that is dead from its next request of the kind ``api_key`` on."""

    def __init__(self, real: Any, api_key: int, error: Exception) -> None:
        self._real, self._api_key, self._error = real, api_key, error
        self.died = False

    def write(self, message: bytes) -> None:
        self.died = self.died or int.from_bytes(message[4:6], "big") == self._api_key
        if self.died:
            raise self._error
        self._real.write(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def die_at(client: Any, request: Any, error: Exception | None = None) -> Callable[[], bool]:
    """Returns whether one of the client's present connections has died at such a request."""
    error = error or RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
    writers = []
    for connection in client._conns.values():
        if connection._writer is not None:
            connection._writer = DeadAtRequest(connection._writer, request.API_KEY, error)
            writers.append(connection._writer)
    assert writers
    return lambda: any(writer.died for writer in writers)


@pytest.fixture
async def group(kafka: Kafka) -> AsyncIterator[Group]:
    logs = Logs(kafka)
    await logs.open(partitions=PARTITIONS)
    group = Group(kafka, logs.topic)
    yield group
    for member in group.members:
        await member.owners.leave()
    await logs.close()


async def died(condition: Callable[[], bool]) -> None:
    async def done() -> bool:
        return condition()

    await until(done)


async def assert_is_a_member_again(member: Member) -> None:
    """The coordinator itself says so, and heartbeats continue."""

    async def back() -> bool:
        return member.owners.absent_for < 0.2 and await member.owners.is_mine(0)

    async with asyncio.timeout(2 * SESSION_S):
        await until(back)
    await asyncio.sleep(0.5)
    assert member.owners.absent_for < 0.2, "no heartbeat followed"
    assert not member.owners.failed.done()


@pytest.mark.parametrize("request_kind", [HeartbeatRequest, JoinGroupRequest, SyncGroupRequest])
async def test_a_member_whose_connection_dies_at_a_request_of_the_group_is_a_member_again(
    group: Group, request_kind: Any
) -> None:
    a = await group.join()
    await group.shared(a)
    dead = die_at(a.owners._client, request_kind)
    if request_kind is not HeartbeatRequest:
        assert a.owners._coordinator is not None
        a.owners._coordinator.request_rejoin()
    await died(dead)
    await assert_is_a_member_again(a)
    assert a.has == ALL


@pytest.mark.parametrize("request_kind", [DescribeGroupsRequest, MetadataRequest])
async def test_a_connection_that_dies_at_a_request_of_the_client_stops_no_later_request(
    group: Group, request_kind: Any
) -> None:
    a = await group.join()
    await group.shared(a)
    dead = die_at(a.owners._client, request_kind)
    refreshing = asyncio.create_task(a.owners.refresh())
    updating = a.owners._client.force_metadata_update()
    await died(dead)
    async with asyncio.timeout(SESSION_S):
        await updating
        await refreshing
        await a.owners._client.force_metadata_update()
    assert a.owners.address_of(0) == a.address
    await assert_is_a_member_again(a)


async def test_heartbeats_that_end_for_any_reason_begin_again(group: Group) -> None:
    a = await group.join()
    await group.shared(a)
    await died(die_at(a.owners._client, HeartbeatRequest, KeyError("a fault of aiokafka's own")))
    for connection in a.owners._client._conns.values():
        connection.close()
    await assert_is_a_member_again(a)


async def test_a_coordination_that_ends_for_any_reason_is_reported(group: Group) -> None:
    a = await group.join()
    await group.shared(a)
    dead = die_at(a.owners._client, JoinGroupRequest, KeyError("a fault of aiokafka's own"))
    assert a.owners._coordinator is not None
    a.owners._coordinator.request_rejoin()
    await died(dead)
    async with asyncio.timeout(SESSION_S):
        failed = await a.owners.failed
    assert isinstance(failed, LedgerError)
    assert "left the group" in str(failed)


async def test_a_task_of_the_membership_that_ends_for_any_reason_is_reported(group: Group) -> None:
    member = group.member()

    async def gain(partitions: frozenset[int], generation: int) -> None:
        raise KeyError(partitions, generation)

    member.gain = gain  # type: ignore[method-assign]
    await member.owners.begin(member)
    await member.owners.join()
    async with asyncio.timeout(3 * SESSION_S):
        failed = await member.owners.failed
    assert "KeyError" in str(failed)


async def test_a_node_that_cannot_reach_the_coordinator_is_absent(own_kafka: Kafka) -> None:
    logs = Logs(own_kafka)
    await logs.open(partitions=PARTITIONS)
    group = Group(own_kafka, logs.topic)
    a = await group.join()
    await group.shared(a)
    assert a.owners.absent_for < 1
    own_kafka.pause()
    try:
        async with asyncio.timeout(4 * SESSION_S):
            while a.owners.absent_for <= 2:  # noqa: ASYNC110 - time is what is waited for
                await asyncio.sleep(0.1)
    finally:
        own_kafka.resume()
    await assert_is_a_member_again(a)
    await a.owners.leave()
    await logs.close()


@pytest.fixture
async def logs(kafka: Kafka) -> AsyncIterator[Logs]:
    logs = Logs(kafka)
    yield logs
    await logs.close()


async def test_an_append_whose_connection_dies_is_sent_again(logs: Logs) -> None:
    log = await logs.open()
    first = await append(log, 0, EMPTY, "a")
    producer = log._client._producer
    assert producer is not None
    dead = die_at(producer.producer.client, ProduceRequest)
    second = await append(log, 0, first.head, "b")
    third = await append(log, 0, second.head, "c")
    assert dead()
    assert await whole(log, 0) == first.stored + second.stored + third.stored
    assert (await logs.judged(0)).commands == ["a", "b", "c"]


@pytest.mark.parametrize("request_kind", [FetchRequest, OffsetRequest])
async def test_a_read_whose_connection_dies_is_repeated(logs: Logs, request_kind: Any) -> None:
    log = await logs.open()
    run = await append(log, 0, EMPTY, "a", "b")
    dead = die_at(log._client._client, request_kind)
    assert await whole(log, 0) == run.stored
    assert dead()


async def test_a_first_contact_whose_connection_dies_is_unavailable_and_the_next_one_succeeds(
    kafka: Kafka, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await logs.open()
    client = KafkaClient(log._address, logs.topic, timeout_s=5.0)
    real = asyncio.StreamWriter.write

    def dead(writer: asyncio.StreamWriter, message: bytes) -> None:
        monkeypatch.setattr(asyncio.StreamWriter, "write", real)
        raise RuntimeError("the handler is closed")

    monkeypatch.setattr(asyncio.StreamWriter, "write", dead)
    with pytest.raises(LedgerError, match="cannot be reached"):
        await client.start()
    client = KafkaClient(log._address, logs.topic, timeout_s=5.0)
    await client.start()
    assert await client.end_offset(0) == 0
    await client.close()


# --- connections that aiokafka would leave open --------------------------------------------------------------------


async def test_a_start_that_is_cancelled_leaves_no_connection_open(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = new_client(bootstrap_servers=kafka.url.removeprefix("kafka://").partition("?")[0])
    opened: asyncio.Future[AIOKafkaConnection] = asyncio.get_running_loop().create_future()
    real = AIOKafkaConnection.send

    def send(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
        if isinstance(request, MetadataRequest):
            opened.set_result(connection)
            return asyncio.Event().wait()
        return real(connection, request, expect_response)

    monkeypatch.setattr(AIOKafkaConnection, "send", send)
    starting = asyncio.create_task(client.bootstrap())
    connection = await opened
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not connection.connected()


async def test_a_connection_that_is_opened_while_its_client_closes_is_closed(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = new_client(bootstrap_servers=kafka.url.removeprefix("kafka://").partition("?")[0])
    await client.bootstrap()
    opened: asyncio.Future[AIOKafkaConnection] = asyncio.get_running_loop().create_future()
    may_continue = asyncio.Event()
    real = AIOKafkaConnection.connect

    async def connect(connection: AIOKafkaConnection) -> None:
        await real(connection)
        opened.set_result(connection)
        await may_continue.wait()

    monkeypatch.setattr(AIOKafkaConnection, "connect", connect)
    ready = asyncio.create_task(client.ready(next(iter(client.cluster.brokers())).nodeId))
    connection = await opened
    await client.close()
    may_continue.set()
    assert not await ready
    assert not connection.connected()
