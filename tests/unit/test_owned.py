"""The partitions that a node owns: gained, kept, superseded, lost; and the requests during each of these changes."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal

import pytest

from ledger.core.events import WriterOpened
from ledger.core.follow_up_commands import ConcludeTransfer
from ledger.core.follow_ups import follow_up_of
from ledger.core.position import partition_of
from ledger.core.record import Head, decode, sha256_hex
from ledger.core.state_values import Value
from ledger.errors import CheckpointAhead, LogUnavailable, OutcomeUnknown
from ledger.memory.log import Failure
from ledger.node import owned as owned_module
from ledger.node.owns_all import NoOtherNodes
from ledger.writer.requests import Accepted, CommandRequest, Failed, Request, RequestGroup
from unit.given import deposit, open_wallet, transfer
from unit.node_in_memory import BrittleStore, World, request_sha256
from unit.nodes_in_memory import Cluster

PARTITIONS = 4


def user_in(partition: int) -> str:
    return next(user for user in (f"u{n}" for n in range(1_000)) if partition_of(user, PARTITIONS) == partition)


U0, U1, U2, U3 = (user_in(partition) for partition in range(PARTITIONS))


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster(PARTITIONS)
    yield cluster
    await cluster.crash()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MAX", 0.02)


def generations(world: World, partition: int) -> list[int]:
    """The generations of the partition's opens, in order."""
    opened = [event.data for event in world.events(f"partition:{partition}")]
    return [data.generation for data in opened if isinstance(data, WriterOpened)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a state that no event announces
            await asyncio.sleep(0.001)


# --- gaining -------------------------------------------------------------------------------------------------------


async def test_gained_partitions_open_with_the_group_s_generation_and_no_others_do(
    cluster: Cluster,
) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    assert not a.node.ready, "no partition is assigned yet"
    await cluster.give(a={0, 1}, b={2, 3})
    await cluster.settled()
    assert [generations(a, partition) for partition in range(PARTITIONS)] == [[1]] * PARTITIONS
    await a.given(open_wallet(U0), open_wallet(U1))
    assert (await a.failed(open_wallet(U2))).reason == "not_owner"
    await b.given(open_wallet(U2))
    assert (sorted(a.node.writers), sorted(b.node.writers)) == ([0, 1], [2, 3])


async def test_a_node_without_partitions_is_ready(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1, 2, 3})
    await cluster.settled()
    assert b.node.ready
    assert (a.node.owned, a.node.open, b.node.owned) == (4, 4, 0)


async def test_a_slow_partition_does_not_keep_the_others_closed(cluster: Cluster) -> None:
    long = asyncio.Event()

    async def prepare(partition: int) -> None:
        if partition == 0:
            await long.wait()

    a = await cluster.node("a", prepare=prepare)
    await asyncio.wait_for(cluster.give(a={0, 1, 2, 3}), 5)
    await until(lambda: a.node.open == 3)
    await a.given(open_wallet(U1))
    assert (await a.failed(open_wallet(U0))).reason == "not_owner"
    assert not a.node.ready
    long.set()
    await cluster.settled()
    await a.given(open_wallet(U0))
    assert a.node.takeovers.number == 4


async def test_requests_for_a_partition_that_is_not_open_yet_go_to_the_forwarding(cluster: Cluster) -> None:
    class Recording(NoOtherNodes):
        submitted: list[Request]

        def submit(self, requests: Sequence[Request]) -> None:
            self.submitted = list(requests)

    others = Recording(4)
    a = await cluster.node("a", others=others)
    a.log.gate.clear()
    await cluster.give(a={0})
    await until(lambda: 0 in a.node.writers)
    posting = asyncio.create_task(a.post_many(open_wallet(U0), open_wallet(U1), deposit(5, user_id=U0)))
    await until(lambda: hasattr(others, "submitted"))
    assert [request.user_id for request in others.submitted] == [U0, U1, U0]
    a.log.gate.set()
    await cluster.settled()
    a.node.submit_local(others.submitted)
    responses = await posting
    assert [type(response) for response in responses] == [Accepted, Failed, Accepted]


async def test_a_partition_that_cannot_be_opened_is_tried_again(cluster: Cluster) -> None:
    tries: list[int] = []

    async def prepare(partition: int) -> None:
        tries.append(partition)
        if len(tries) < 4:
            raise LogUnavailable("no broker responses")

    a = await cluster.node("a", prepare=prepare)
    await cluster.give(a={0})
    await cluster.settled()
    assert tries == [0] * 4
    await a.given(open_wallet(U0))


async def test_a_partition_that_is_lost_while_it_is_prepared_does_not_open(cluster: Cluster) -> None:
    async def prepare(_: int) -> None:
        await asyncio.sleep(60)

    a = await cluster.node("a", prepare=prepare)
    await cluster.node("b")
    await cluster.give(a={0})
    await asyncio.sleep(0.01)
    await cluster.give(b={0})
    await cluster.settled()
    assert a.node.writers == {}
    assert generations(a, 0) == [2]


async def test_a_disaster_halts_the_node(cluster: Cluster) -> None:
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0), deposit(5, user_id=U0))
    await cluster.give()  # the loss saves the state
    await until(lambda: a.store.checkpoint(0) is not None)
    del cluster.appended.records[0][1:]
    cluster.appended.heads[0] = Head(1, "0" * 64)
    await cluster.give(a={0})
    assert isinstance(await asyncio.wait_for(a.node.halted, 5), CheckpointAhead)
    assert not a.node.ready


# --- staying -------------------------------------------------------------------------------------------------------


async def test_a_partition_that_stays_keeps_its_writer_and_opens_again(cluster: Cluster) -> None:
    a = await cluster.node("a")
    await cluster.node("b")
    await cluster.give(a={0, 1})
    await cluster.settled()
    writer = a.node.writers[0]
    await a.given(open_wallet(U0))
    await cluster.give(a={0}, b={1})
    await a.given(deposit(5, user_id=U0))
    assert a.node.writers[0] is writer
    assert generations(a, 0) == [1, 2]
    assert generations(a, 1) == [1, 2]


async def test_waiting_requests_of_a_partition_that_stays_are_decided(cluster: Cluster) -> None:
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    a.log.gate.clear()
    first = asyncio.create_task(a.post(deposit(5, "o1", user_id=U0)))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(a.post(deposit(5, "o2", user_id=U0)))
    await cluster.give(a={0})
    a.log.gate.set()
    assert [type(response) for response in await asyncio.gather(first, second)] == [Accepted, Accepted]
    assert a.types()[2:] == ["deposited", "writer_opened", "deposited"]


async def test_a_node_that_missed_a_generation_first_loses_its_partitions(cluster: Cluster) -> None:
    """Another node may have owned the partition, and refused the commands that wait on this node."""
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    writer = a.node.writers[0]
    await cluster.give(b={0}, unaware={"a"})
    await until(lambda: b.node.open == 1)
    await b.given(deposit(5, user_id=U0))
    await cluster.give(a={0})
    await cluster.settled()
    assert a.node.writers[0] is not writer
    assert await a.cash(U0) == 5
    assert generations(a, 0) == [1, 2, 3]


# --- losing --------------------------------------------------------------------------------------------------------


async def test_requests_in_flight_are_finished_and_later_ones_are_refused(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    a.log.gate.clear()
    under_way = asyncio.create_task(a.post(deposit(5, "o1", user_id=U0)))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(a.post(deposit(5, "o2", user_id=U0)))
    await asyncio.sleep(0.01)
    losing = asyncio.create_task(cluster.give(b={0}, unaware={"b"}))
    await asyncio.sleep(0.01)
    assert (await a.failed(deposit(5, "o3", user_id=U0))).reason == "not_owner"
    a.log.gate.set()
    await losing
    assert [type(response) for response in await asyncio.gather(under_way, waiting)] == [Accepted, Accepted]
    assert a.node.writers == {}
    assert await a.failed(deposit(5, "o4", user_id=U0))
    await cluster.give(b={0})
    await cluster.settled()
    assert await b.cash(U0) == 10


async def test_the_outcome_of_a_request_that_is_not_finished_in_time_is_unknown(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_module, "FINISH_WITHIN_S", 0.02)
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    a.log.gate.clear()
    under_way = asyncio.create_task(a.post(deposit(5, "o1", user_id=U0)))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(a.post(deposit(5, "o2", user_id=U0)))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(cluster.give(), 5)
    responses = await asyncio.gather(under_way, waiting)
    assert [response.reason for response in responses if isinstance(response, Failed)] == [
        "outcome_unknown",
        "not_owner",
    ]


class SlowStore(BrittleStore):
    """A save waits until ``may_save`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_save = threading.Event()
        self.may_save.set()

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        self.may_save.wait(60)
        super().save(partition, changes, at, place)


async def test_a_partition_that_is_gained_again_opens_after_its_state_is_saved(cluster: Cluster) -> None:
    """An older checkpoint together with newer values would make a replay fold some events twice."""
    a, b = await cluster.node("a"), await cluster.node("b")
    a.store = SlowStore()
    await a.restart()
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0), deposit(5, user_id=U0))
    a.store.may_save.clear()
    await cluster.give(b={0})
    await cluster.settled()
    await b.given(deposit(7, "o2", user_id=U0))
    await cluster.give(a={0})
    await asyncio.sleep(0.02)
    assert a.node.writers == {}, "the state is still being saved"
    a.store.may_save.set()
    await cluster.settled()
    assert await a.cash(U0) == 12
    await a.given(deposit(1, "o3", user_id=U0))
    wallet = await a.wallet(U0)
    await a.crash()
    assert wallet == a.replayed()[U0]


class EndlessMerges(BrittleStore):
    """Each merge has another step. ``steps``: partition → steps taken."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = Counter[int]()

    def merge(self, partition: int) -> bool:
        self.steps[partition] += 1
        return True


async def test_a_merge_delays_no_save_no_other_partition_and_no_handover(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    a.store = store = EndlessMerges()
    await a.restart()
    await cluster.give(a={0, 1})
    await cluster.settled()
    await until(lambda: store.steps[0] >= 2)
    await a.given(open_wallet(U0), deposit(5, user_id=U0))
    await a.save()
    assert store.checkpoint(0) == cluster.appended.heads[0]
    await cluster.give(a={1}, b={0})
    await cluster.settled()
    assert await b.cash(U0) == 5
    lost = store.steps[0]
    await until(lambda: store.steps[1] >= 2)
    assert store.steps[0] == lost, "the partition of another node is merged no further"
    await a.stop()


async def some_steps() -> None:
    """Steps of the loop, not time: tasks get as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


class RoundUnderWay(asyncio.Lock):
    """A round that lasts until ``ended``. ``waited_for``: a checkpoint has its turn, and waits for the round."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for, self.ended = asyncio.Event(), asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.waited_for.set()
        await self.ended.wait()
        return await super().acquire()


async def test_a_checkpoint_that_has_begun_ends_well_before_its_writer_is_retired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await World().start()
    await world.given(open_wallet())
    writer, a_round = world.node.writers[0], RoundUnderWay()
    monkeypatch.setattr(writer.store_writes, "_between_rounds", a_round)
    saving = asyncio.create_task(writer.store_writes.save())
    await a_round.waited_for.wait()
    retiring = asyncio.create_task(writer.store_writes.retire(save=False))
    await some_steps()
    assert not retiring.done()
    a_round.ended.set()
    await asyncio.gather(saving, retiring)
    assert writer.state.changes == 0, "it was saved"
    await world.stop()


async def test_a_retired_writer_saves_no_checkpoint(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save may still wait for its turn when its partition is dropped and another writer opens the partition."""
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    assert isinstance(a.store, BrittleStore)
    writer, saves = a.node.writers[0], a.store.saves
    await writer.store_writes.retire(save=False)
    await writer.store_writes.save()
    assert a.store.saves == saves
    monkeypatch.setattr(a.store, "merge", lambda _: pytest.fail("its partition may have another writer"))
    assert not await writer.store_writes.merge()


async def test_a_node_that_leaves_finishes_and_hands_everything_over(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1, 2, 3})
    await cluster.settled()
    await a.given(open_wallet(U0))
    posting = asyncio.create_task(a.post(deposit(5, user_id=U0)))
    await asyncio.sleep(0)
    await a.node.leave()
    assert isinstance(await posting, Accepted)
    assert cluster.members["a"].left
    assert (a.node.writers, a.node.ready) == ({}, False)
    assert (await a.failed(deposit(5, "o2", user_id=U0))).reason == "shutting_down"
    await a.stop()
    assert a.store.checkpoint(0) == cluster.appended.heads[0]
    await cluster.give(b={0, 1, 2, 3})
    await cluster.settled()
    assert await b.cash(U0) == 5


# --- superseded ----------------------------------------------------------------------------------------------------


async def test_a_superseded_node_drops_that_partition_only(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1})
    await cluster.settled()
    await a.given(open_wallet(U0), open_wallet(U1))
    await cluster.give(a={1}, b={0}, unaware={"a"})
    await until(lambda: b.node.open == 1)
    assert (await a.failed(deposit(5, user_id=U0))).reason == "not_owner"
    await a.given(deposit(5, user_id=U1))
    await until(lambda: cluster.members["a"].is_mine_calls == [0])
    assert sorted(a.node.writers) == [1]
    assert not a.node.halted.done()
    await b.given(deposit(5, user_id=U0))


async def test_a_superseded_node_that_is_still_the_owner_opens_the_partition_again(cluster: Cluster) -> None:
    """A writer of a much higher generation has opened the partition, as after a loss of the group's metadata."""
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    later = World(PARTITIONS, shared=True, generation=70)
    later.appended = cluster.appended
    await later.start()
    assert (await a.failed(deposit(5, user_id=U0))).reason == "not_owner"
    await cluster.settled()
    await until(lambda: a.node.open == 1)
    await a.given(deposit(5, user_id=U0))
    assert generations(a, 0) == [1, 70, 71]
    await later.crash()


async def test_after_the_group_was_created_again_the_owner_opens_above_the_highest_generation(
    cluster: Cluster,
) -> None:
    a = await cluster.node("a")
    cluster.generation = 40
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    await a.crash()
    cluster.generation = 0
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    assert cluster.members["a"].is_mine_calls == [0]
    await a.given(deposit(5, user_id=U0))
    assert generations(a, 0) == [41, 42]


async def test_a_node_that_is_no_longer_the_owner_does_not_open_above_the_highest_generation(
    cluster: Cluster,
) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    cluster.generation = 40
    await cluster.give(b={0})
    await cluster.settled()
    await b.given(open_wallet(U0))
    cluster.generation = 0
    await cluster.members["a"].learn(frozenset({0}), 3)  # late: the owner is b now
    await until(lambda: cluster.members["a"].is_mine_calls == [0])
    await asyncio.sleep(0.01)
    assert a.node.writers == {}
    assert generations(b, 0) == [41]


async def test_without_a_response_of_the_coordinator_a_node_does_not_open_above_the_highest_generation(
    cluster: Cluster,
) -> None:
    a = await cluster.node("a")
    cluster.generation = 40
    await cluster.give(a={0})
    await cluster.settled()
    await a.crash()
    cluster.generation = 0
    a = await cluster.node("a")
    cluster.members["a"].away = True
    await cluster.give(a={0})
    await until(lambda: len(cluster.members["a"].is_mine_calls) > 2)
    assert generations(a, 0) == [41]
    cluster.members["a"].away = False
    await cluster.settled()
    assert generations(a, 0) == [41, 42]


async def test_two_nodes_never_open_with_the_same_generation(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))
    await cluster.members["b"].learn(frozenset({0}), 1)  # this cannot happen in a real group
    await until(lambda: cluster.members["b"].is_mine_calls == [0])
    assert generations(a, 0) == [1]
    assert b.node.writers == {}


async def test_when_two_nodes_choose_the_same_generation_the_second_does_not_open(cluster: Cluster) -> None:
    """The group was created again. First one node and then the other read that it owns the partition."""
    a, b = await cluster.node("a"), await cluster.node("b")
    cluster.generation = 40
    await cluster.give(b={0})
    await cluster.settled()
    await b.given(open_wallet(U0))
    await cluster.give()
    cluster.generation = 0
    a.log.gate.clear()
    await cluster.give(a={0})
    await until(lambda: len(a.log.sizes) == 1)  # its open is in flight
    await cluster.give(b={0}, unaware={"a"})
    await until(lambda: b.node.open == 1)
    a.log.gate.set()
    await until(lambda: a.node.writers == {})
    await b.given(deposit(5, user_id=U0))
    assert generations(b, 0) == [41, 42]


@pytest.mark.parametrize("lands", [False, True])
async def test_after_an_open_of_unknown_outcome_the_owner_opens_above_it_if_it_landed(
    cluster: Cluster, lands: bool
) -> None:
    a = await cluster.node("a")
    a.log.fail_next.append(Failure(OutcomeUnknown("no response"), lands))
    await cluster.give(a={0})
    await cluster.settled()
    await until(lambda: a.node.open == 1)
    assert generations(a, 0) == ([1, 2] if lands else [1])
    assert set(cluster.members["a"].is_mine_calls) == ({0} if lands else set())
    await a.given(open_wallet(U0))


async def test_a_partition_that_stops_opens_again_and_closes_no_other(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await cluster.node("a")
    await cluster.give(a={0, 1})
    await cluster.settled()
    await a.given(open_wallet(U0), open_wallet(U1))

    def broken(*_: object) -> None:
        raise AssertionError("an invariant is broken")

    monkeypatch.setattr(a.node.writers[0]._decider, "_decide_command", broken)
    assert (await a.failed(deposit(5, user_id=U0))).reason == "outcome_unknown"
    await a.given(deposit(5, user_id=U1))
    await cluster.settled()
    await until(lambda: a.node.open == 2)
    await a.given(deposit(5, user_id=U0))
    assert not a.node.halted.done()


# --- follow-ups ----------------------------------------------------------------------------------------------------


async def test_a_follow_up_waits_until_its_partition_is_gained() -> None:
    cluster = Cluster(PARTITIONS, neighbours=False)
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0), deposit(100, user_id=U0), transfer(60, U1, user_id=U0))
    await cluster.give(a={0, 1})
    await until(lambda: "transfer_returned" in a.types())  # the receiver's wallet does not exist
    await a.quiet()
    assert a.open_follow_ups() == []
    assert await a.cash(U0) == 100
    await cluster.crash()


async def test_an_undecided_follow_up_of_a_lost_partition_reaches_the_next_owner(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1})
    await cluster.settled()
    await a.given(open_wallet(U0), open_wallet(U1), deposit(100, user_id=U0))
    received = a.node.writers[1]
    received._opening.must_open = True
    a.log.fail_next.extend([None, *[Failure(LogUnavailable("away"), lands=False)] * 3])
    await a.given(transfer(60, U1, user_id=U0))  # the follow-up waits for the log
    await cluster.give(a={0}, b={1})
    await cluster.settled()
    await until(lambda: "transfer_delivered" in a.types())
    assert await b.cash(U1) == 60
    assert a.types().count("transfer_received") == 1


async def test_a_stale_owner_reads_the_log_before_it_concludes_an_unknown_transfer(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """It receives the conclusion of a transfer that the next owner sent. That breaks no invariant."""
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0}, b={1})
    await cluster.settled()
    await a.given(open_wallet(U0))
    await b.given(open_wallet(U1))
    await cluster.give(b={0, 1}, unaware={"a"})
    await until(lambda: b.node.open == 2)
    await b.given(deposit(100, user_id=U0), transfer(60, U1, user_id=U0))
    await until(lambda: "transfer_delivered" in b.types())
    arrivals = (decode(record) for record in cluster.appended.records[1])
    place, _, event = next(arrival for arrival in arrivals if arrival.event.data.type == "transfer_received")
    conclusion = follow_up_of(
        event, await b.wallet(U1), place, sha256_hex(cluster.appended.records[1][place.seq - 1])
    )
    assert isinstance(conclusion, ConcludeTransfer)
    assert a.node.receive_local(conclusion, lambda: None)
    await until(lambda: 0 not in a.node.writers)
    assert not a.node.halted.done()
    assert not [line for line in caplog.records if line.levelname == "ERROR"], "an invariant is broken"
    assert b.types().count("transfer_delivered") == 1


# --- deadlines -----------------------------------------------------------------------------------------------------


async def test_a_request_is_not_decided_after_its_deadline(cluster: Cluster) -> None:
    a = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    await a.given(open_wallet(U0))

    def request(command_id: str, deadline_us: int | None) -> CommandRequest:
        command = deposit(5, command_id, user_id=U0)
        request = CommandRequest(command, request_sha256(command), "local", RequestGroup(1))
        request.deadline_us = deadline_us
        return request

    now_us = a.clock.now_us
    requests = [request("late", now_us - 1), request("in time", now_us), request("any time", None)]
    a.node.submit_local(requests)
    for one in requests:
        await one.group.done
    assert [type(one.response) for one in requests] == [Failed, Accepted, Accepted]
    late = requests[0].response
    assert isinstance(late, Failed)
    assert late.reason == "not_owner"
    assert await a.cash(U0) == 10
