"""The group that assigns the partitions, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from deploy.local.servers import Kafka
from kafka_judge import Logs
from ledger.errors import LogMisconfigured, LogUnavailable
from ledger.kafka.address import parse_address
from ledger.kafka.owners import KafkaOwners

pytestmark = pytest.mark.system

PARTITIONS = 6
ALL = frozenset(range(PARTITIONS))

_groups = count(1)


class Member:
    """A member of the test's group. It is ready at once as a standby, and records each change once."""

    def __init__(self, owners: KafkaOwners, address: str) -> None:
        self.owners, self.address = owners, address
        self.has: frozenset[int] = frozenset()
        self.generation = 0
        self.changes: list[tuple[str, frozenset[int]]] = []
        self.standby: frozenset[int] = frozenset()

    async def own_all(self, partitions: frozenset[int], generation: int) -> None:
        raise AssertionError("a group never gives everything to one member until the end")

    async def gain(self, partitions: frozenset[int], generation: int) -> None:
        self.has, self.generation = partitions, generation
        if not self.changes or self.changes[-1] != ("gained", partitions):
            self.changes.append(("gained", partitions))

    def stand_by_for(self, partitions: frozenset[int]) -> None:
        self.standby = partitions

    def progress(self) -> tuple[dict[int, int], dict[int, int]]:
        return dict.fromkeys(self.has, 1), dict.fromkeys(self.standby, 1)

    def is_ready_for(self, partition: int) -> bool:
        return partition in self.standby

    async def lose(self, partitions: frozenset[int]) -> None:
        self.changes.append(("lost", partitions))


class Group:
    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self.topic = kafka, topic
        self.name = f"group-{next(_groups)}"
        self.members: list[Member] = []

    async def join(self, *, parameters: str = "") -> Member:
        member = self.member(parameters)
        await member.owners.begin(member)
        await member.owners.join()
        return member

    def member(self, parameters: str = "") -> Member:
        """One that has not joined."""
        address = f"http://node-{len(self.members)}"
        kafka = parse_address(f"{self._kafka.url}?replication_factor=1{parameters}")
        member = Member(KafkaOwners(kafka, address, topic=self.topic, group=self.name), address)
        self.members.append(member)
        return member

    async def shared(self, *members: Member) -> None:
        """Until these have all partitions, each of them some, and all in the same generation."""

        async def done() -> bool:
            has = [member.has for member in members]
            return (
                frozenset().union(*has) == ALL
                and sum(map(len, has)) == PARTITIONS
                and all(has)
                and len({member.generation for member in members}) == 1
            )

        await until(done)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


@pytest.fixture
async def group(kafka: Kafka) -> AsyncIterator[Group]:
    logs = Logs(kafka)
    await logs.open(partitions=PARTITIONS)
    group = Group(kafka, logs.topic)
    yield group
    for member in group.members:
        await member.owners.leave()
    await logs.close()


async def test_each_member_has_its_share_and_knows_the_address_of_every_owner(group: Group) -> None:
    a, b, c = [await group.join() for _ in range(3)]
    await group.shared(a, b, c)
    assert sorted(len(member.has) for member in (a, b, c)) == [2, 2, 2]

    async def known() -> bool:
        await a.owners.refresh()
        return all(a.owners.address_of(partition) == m.address for m in (a, b, c) for partition in m.has)

    await until(known)
    for partition in range(PARTITIONS):
        for member in (a, b, c):
            assert await member.owners.is_mine(partition) == (partition in member.has)


async def test_a_partition_that_stays_is_not_lost_when_members_join_or_leave(group: Group) -> None:
    a = await group.join()
    await group.shared(a)
    b = await group.join()
    await group.shared(a, b)
    stayed = a.has
    assert a.changes == [("gained", ALL), ("lost", ALL - stayed), ("gained", stayed)]
    theirs = b.has
    await b.owners.leave()
    await group.shared(a)
    assert a.changes[3:] == [("gained", ALL)], "it keeps its partitions"
    assert theirs == ALL - stayed


async def test_each_partition_has_a_standby_that_takes_it_over(group: Group) -> None:
    a, b, c = [await group.join() for _ in range(3)]
    await group.shared(a, b, c)
    await until(lambda: _is(a.standby | b.standby | c.standby == ALL))
    assert not any(member.has & member.standby for member in (a, b, c))
    left, to_b, to_c = a.has, a.has & b.standby, a.has & c.standby
    await a.owners.leave()
    await group.shared(b, c)
    assert to_b | to_c == left
    assert to_b <= b.has
    assert to_c <= c.has


async def test_a_member_gets_no_partition_before_it_is_ready(group: Group) -> None:
    a = await group.join()
    await group.shared(a)
    b = group.member()
    ready = False
    b.is_ready_for = lambda partition: ready  # type: ignore[method-assign]  # noqa: ARG005
    b.progress = lambda: (dict.fromkeys(b.has, 1), dict.fromkeys(b.standby if ready else (), 1))  # type: ignore[method-assign]
    await b.owners.begin(b)
    await b.owners.join()
    await until(lambda: _is(bool(b.standby)))
    await asyncio.sleep(1.5)
    assert a.has == ALL
    ready = True
    await group.shared(a, b)


async def test_a_member_that_was_removed_loses_its_partitions_before_it_gains_them_again(group: Group) -> None:
    a = await group.join()
    await group.shared(a)
    assert a.owners._coordinator is not None
    a.owners._coordinator.reset_generation()  # as when its session is over
    await until(lambda: _is(len(a.changes) >= 3))
    assert a.changes == [("gained", ALL), ("lost", ALL), ("gained", ALL)]


async def _is(value: bool) -> bool:
    return value


async def test_a_member_that_leaves_is_removed_at_once(group: Group) -> None:
    a, b = await group.join(), await group.join()
    await group.shared(a, b)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await b.owners.leave()
    await group.shared(a)
    assert loop.time() - began_s < 4, "it was waited for until its session was over"
    await b.owners.leave()
    with pytest.raises(LogUnavailable):
        await b.owners.is_mine(0)


async def test_a_member_without_partitions_is_notified(group: Group) -> None:
    members = [await group.join() for _ in range(PARTITIONS + 1)]

    def shared() -> bool:
        idle = [member for member in members if not member.has]
        each = sorted(len(member.has) for member in members)
        return each == [0] + [1] * PARTITIONS and ("gained", frozenset()) in idle[0].changes

    await until(lambda: _is(shared()))


async def test_a_session_that_the_broker_does_not_take_is_named(group: Group) -> None:
    member = await group.join(parameters="&session_timeout_ms=1000")
    failed = await asyncio.wait_for(member.owners.failed, 20)
    assert isinstance(failed, LogMisconfigured)
    assert "session_timeout_ms=1000" in str(failed)


async def test_without_a_broker_no_member_joins() -> None:
    owners = KafkaOwners(parse_address("kafka://127.0.0.1:9"), "http://node", topic="nowhere", timeout_s=1.0)
    member = Member(owners, "http://node")
    await owners.begin(member)
    with pytest.raises(LogUnavailable):
        await owners.join()
    await owners.leave()
