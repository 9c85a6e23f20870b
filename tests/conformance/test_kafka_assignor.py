"""The assignment of partitions to the members of a real group."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.servers import Kafka
from ledger.core.assignment import Member
from ledger.kafka.address import parse_address
from ledger.kafka.assignor import Division, StakelogAssignor

pytestmark = pytest.mark.system

PARTITIONS = 8


class Node:
    """A member that keeps its partitions, and is ready for those that it stands by for."""

    def __init__(self, address: str, topic: str) -> None:
        self.address = address
        self.assignor = StakelogAssignor(topic, self.describe, self.told)
        self.division: Division | None = None
        self.consumer: Any = None

    def describe(self) -> Member:
        if self.division is None:
            return Member(self.address)
        mine = (
            dict.fromkeys((one for one, who in each.items() if who == self.address), 7)
            for each in (self.division.owners, self.division.standbys)
        )
        return Member(self.address, *mine)

    def told(self, division: Division) -> None:
        self.division = division

    @property
    def own(self) -> set[int]:
        return {one.partition for one in self.consumer.assignment()}


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.02)


@pytest.fixture
async def join(kafka: Kafka) -> AsyncIterator[Callable[[str], Any]]:
    topic = group = f"t-{uuid.uuid4().hex}"
    options = parse_address(kafka.url).client_options()
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def joined(address: str) -> AsyncIterator[Node]:
            node = Node(address, topic)
            node.consumer = AIOKafkaConsumer(
                topic,
                **options,
                group_id=group,
                client_id=address,
                partition_assignment_strategy=[node.assignor],
                heartbeat_interval_ms=100,
                enable_auto_commit=False,
            )
            await node.consumer.start()
            try:
                yield node
            finally:
                await node.consumer.stop()

        yield lambda address: stack.enter_async_context(joined(address))


async def test_every_member_knows_all_owners_and_partitions_go_to_their_standbys(join: Callable[[str], Any]) -> None:
    nodes: list[Node] = [await join("http://a:1")]
    await until(lambda: len(nodes[0].own) == PARTITIONS)
    nodes.append(await join("http://b:2"))
    await until(lambda: nodes[1].division is not None and nodes[0].division == nodes[1].division)
    assert nodes[1].own == set(), "a partition stays with its owner until another member is ready for it"
    assert len(nodes[0].own) == PARTITIONS
    assert nodes[0].division == nodes[1].division
    assert nodes[1].division is not None
    assert set(nodes[1].division.standbys.values()) == {"http://b:2"}
    nodes[1].consumer._coordinator.request_rejoin()  # it is ready now, and reports it
    await until(lambda: len(nodes[0].own) == len(nodes[1].own) == PARTITIONS // 2)
    division = nodes[1].division
    assert {partition: division.owners[partition] for partition in nodes[1].own} == dict.fromkeys(
        nodes[1].own, "http://b:2"
    )
    await nodes[0].consumer.stop()
    await until(lambda: len(nodes[1].own) == PARTITIONS)


async def test_a_member_without_readable_metadata_still_gets_partitions(join: Callable[[str], Any]) -> None:
    node = await join("http://a:1")
    await until(lambda: len(node.own) == PARTITIONS)
    node.assignor.metadata = lambda topics: type(StakelogAssignor.metadata(node.assignor, topics))(
        0, sorted(topics), b"?"
    )
    node.consumer._coordinator.request_rejoin()
    node.division = None
    await until(lambda: node.division is not None and len(node.own) == PARTITIONS)
