"""Standbys: they take over at once, have no effects before that, and continue after an error."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from ledger.core.position import partition_of
from ledger.core.record import Head, sha256_hex
from ledger.errors import LogUnavailable
from ledger.node import standby as standby_module
from ledger.node.ports import OpenFollowUps
from ledger.node.standby import Standbys
from ledger.writer.requests import Accepted
from ledger.writer.writer import Writer
from unit.given import deposit, open_wallet, place_bet, transfer
from unit.node_in_memory import BrittleStore, World
from unit.nodes_in_memory import Cluster
from unit.test_owned import EndlessMerges, SlowStore, until

PARTITIONS = 2


def user_in(partition: int, other_than: str = "") -> str:
    users = (f"u{n}" for n in range(1_000))
    return next(user for user in users if partition_of(user, PARTITIONS) == partition and user != other_than)


U0, U1 = user_in(0), user_in(1)
OTHER_0 = user_in(0, U0)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.002)
    monkeypatch.setattr(standby_module, "CLOSE_EVERY_S", 0.01)
    monkeypatch.setattr(standby_module, "_PAUSE_S", 0.002)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster(PARTITIONS)
    yield cluster
    await cluster.crash()


def standbys_of(world: World) -> Standbys:
    return world.node._owned.standbys


def end_of(cluster: Cluster, partition: int) -> int:
    return len(cluster.appended.records[partition])


def stand_by(cluster: Cluster, name: str, *partitions: int) -> None:
    cluster.members[name].assignee.stand_by_for(frozenset(partitions))


async def ready(cluster: Cluster, name: str, partition: int) -> None:
    standbys = standbys_of(cluster.worlds[name])
    await until(lambda: standbys.ready.get(partition, -1) == end_of(cluster, partition))
    await until(lambda: standbys.has_caught_up(partition))


async def test_a_standby_has_the_owner_s_state_and_takes_over_without_a_replay(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0))
    await ready(cluster, "b", 0)
    bet = place_bet(100, "b1", user_id=U0)
    first = await a.accepted(bet)
    await ready(cluster, "b", 0)
    kept = standbys_of(b)._writers[0]
    await cluster.give(a={1}, b={0})
    await cluster.settled()
    assert b.node.writers[0] is kept, "the writer that followed the log is the writer that opens"
    assert standbys_of(b).ready == {}
    again = await b.post(bet)
    assert isinstance(again, Accepted)
    assert (again.hit, again.position) == (True, first.position)
    refused = await b.refused(place_bet(500, "b2", user_id=U0))
    assert refused.code == "insufficient_funds"


async def test_a_standby_writes_nothing_and_accepts_no_request(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0, 1)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0), open_wallet(U1))
    await a.accepted(transfer(100, U1, user_id=U0))
    await a.quiet()
    for partition in (0, 1):
        await ready(cluster, "b", partition)
    before = [end_of(cluster, partition) for partition in (0, 1)]
    assert (await b.failed(deposit(5, "o2", user_id=U0))).reason == "not_owner"
    await asyncio.sleep(0.05)
    assert [end_of(cluster, partition) for partition in (0, 1)] == before
    assert b.node.writers == {}


async def test_follow_ups_that_the_owner_knows_to_have_arrived_are_not_delivered_again(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0), open_wallet(U1))
    for number in range(5):
        await a.accepted(transfer(10, U1, f"t{number}", user_id=U0))
    await until(lambda: a.node.open_follow_ups({0: 0})[0].seqs == [])
    await ready(cluster, "b", 0)
    state = standbys_of(b)._writers[0].state
    await until(lambda: not state.open_seqs)


async def test_open_follow_ups_are_read_in_pages_however_many_of_them_stay_open(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ports", "node"):
        monkeypatch.setattr(f"ledger.node.{module}.OPEN_FOLLOW_UPS_PAGE", 2)
    a, b = await cluster.node("a"), await cluster.node("b")
    read, pages = b.others.open_follow_ups, set[int]()

    async def noted(after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        found = await read(after)
        pages.update(len(page.seqs) for page in found.values())
        return found

    monkeypatch.setattr(b.others, "open_follow_ups", noted)
    await cluster.give(a={0}, b=set())  # the partition of U1 has no owner
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0))
    for number in range(5):
        await a.accepted(transfer(10, U1, f"stays{number}", user_id=U0))
        await a.accepted(transfer(10, OTHER_0, f"returns{number}", user_id=U0))
    await until(lambda: a.types().count("transfer_returned") == 5)
    await ready(cluster, "b", 0)
    state = standbys_of(b)._writers[0].state
    await until(lambda: len(state.open_seqs) == 5)
    assert max(pages) == 2


async def test_open_follow_ups_are_delivered_by_the_standby_that_takes_over(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0}, b=set())  # the receiver's partition has no owner
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0))
    await a.accepted(transfer(10, U1, "t1", user_id=U0))
    await ready(cluster, "b", 0)
    await asyncio.sleep(0.03)
    assert len(standbys_of(b)._writers[0].state.open_seqs) == 1, "the owner reports that it is open"
    await cluster.crash_one("a")
    await cluster.give(b={0, 1})
    await cluster.settled()
    await until(lambda: any(event.data.type == "transfer_returned" for event in b.events(U0)))


async def test_a_takeover_gives_up_the_merge_of_a_standby(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    b.store = store = EndlessMerges()
    await b.restart()
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0))
    stand_by(cluster, "b", 0)
    await ready(cluster, "b", 0)
    await until(lambda: store.steps[0] >= 2)
    await cluster.give(a={1}, b={0})
    await cluster.settled()
    assert await b.cash(U0) == 500


async def test_a_former_standby_saves_its_state(cluster: Cluster) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0))
    await ready(cluster, "b", 0)
    stand_by(cluster, "b")
    stand_by(cluster, "b", 0)  # before the save has ended
    stand_by(cluster, "b")
    await until(
        lambda: b.store.checkpoint(0) == Head(end_of(cluster, 0), sha256_hex(cluster.appended.records[0][-1]))
    )
    assert standbys_of(b).ready == {}


async def test_a_partition_is_not_followed_while_its_state_is_being_saved(cluster: Cluster) -> None:
    """An older checkpoint together with newer values would make a replay fold some events twice."""
    store = SlowStore()
    a, b = await cluster.node("a"), await cluster.node("b", store=store)
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(5, user_id=U0))
    await ready(cluster, "b", 0)
    store.may_save.clear()
    stand_by(cluster, "b")
    stand_by(cluster, "b", 0)
    await asyncio.sleep(0.02)
    assert standbys_of(b).ready == {}, "the standby's state is being saved"
    store.may_save.set()
    await ready(cluster, "b", 0)
    await a.given(deposit(1, "o0", user_id=U0))
    await ready(cluster, "b", 0)
    store.may_save.clear()
    stand_by(cluster, "b")
    await cluster.give(b={0}, a={1})
    await asyncio.sleep(0.02)
    assert b.node.writers == {}, "the same for a standby that becomes the owner"
    store.may_save.set()
    await cluster.settled()
    await b.given(deposit(7, "o2", user_id=U0))
    store.may_save.clear()
    await cluster.give(a={0, 1}, b=set())
    stand_by(cluster, "b", 0)
    await asyncio.sleep(0.02)
    assert standbys_of(b).ready == {}, "the same for the state of a former owner"
    store.may_save.set()
    await ready(cluster, "b", 0)
    await cluster.give(a={1}, b={0})
    await cluster.settled()
    assert await b.cash(U0) == 13


@pytest.mark.parametrize("way", ["a gain that is lost again", "a standby again and again"])
async def test_a_partition_is_not_followed_during_a_save_although_an_earlier_waiter_gave_up(
    cluster: Cluster, way: str
) -> None:
    store = SlowStore()
    a, b = await cluster.node("a"), await cluster.node("b", store=store, changes_per_checkpoint=PARTITIONS)
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(5, user_id=U0))
    await ready(cluster, "b", 0)
    standbys, made = standbys_of(b), list[int]()
    make = standbys._make

    def watched(partition: int) -> Writer:
        made.append(partition)
        return make(partition)

    standbys._make = watched
    store.may_save.clear()
    await a.given(deposit(1, "o2", user_id=U0))
    await asyncio.sleep(0.02)
    if way == "a gain that is lost again":
        await cluster.give(a={1}, b={0})
        await asyncio.sleep(0.01)
        await cluster.give(a={0, 1}, b=set())
        stand_by(cluster, "b", 0)
    else:
        for partitions in ((), (0,), (), (0,)):
            stand_by(cluster, "b", *partitions)
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)
    began = list(made)
    store.may_save.set()
    assert began == [], "its state is still being saved"
    await cluster.settled()
    await ready(cluster, "b", 0)
    await cluster.give(a={1}, b={0})
    await cluster.settled()
    assert await b.cash(U0) == 6


async def test_a_standby_continues_when_its_log_is_available_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0))
    await ready(cluster, "b", 0)
    read = b.log.read
    reads = 0

    async def away(*_: object) -> list[bytes]:
        nonlocal reads
        reads += 1
        raise LogUnavailable("the broker is away")

    monkeypatch.setattr(b.log, "read", away)
    await until(lambda: reads > 2)
    assert not standbys_of(b).has_caught_up(0)
    monkeypatch.setattr(b.log, "read", read)
    await a.given(deposit(500, "o1", user_id=U0))
    await ready(cluster, "b", 0)


async def test_after_any_error_of_the_other_nodes_arrived_follow_ups_are_still_closed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await cluster.node("a"), await cluster.node("b")
    read, errors = b.others.open_follow_ups, [ValueError("a message of another release"), LogUnavailable("away")]

    async def fails_first(after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        if errors:
            raise errors.pop()
        return await read(after)

    monkeypatch.setattr(b.others, "open_follow_ups", fails_first)
    await cluster.give(a={0, 1}, b=set())
    await cluster.settled()
    stand_by(cluster, "b", 0)
    await a.given(open_wallet(U0), deposit(500, "o1", user_id=U0), open_wallet(U1))
    await a.accepted(transfer(10, U1, user_id=U0))
    await until(lambda: a.node.open_follow_ups({0: 0})[0].seqs == [])
    await ready(cluster, "b", 0)
    state = standbys_of(b)._writers[0].state
    await until(lambda: errors == [] and not state.open_seqs)


async def test_a_state_that_is_not_on_the_log_halts_a_standby_s_node(cluster: Cluster) -> None:
    store = BrittleStore()
    store.save(0, {}, Head(7, "ab" * 32))
    await cluster.node("a")
    b = await cluster.node("b", store=store)
    await cluster.give(a={0, 1}, b=set())
    stand_by(cluster, "b", 0)
    async with asyncio.timeout(60):
        error = await b.node.halted
    assert "seq 7" in str(error)


async def test_a_node_is_ready_only_once_its_standbys_have_caught_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a rolling restart the next node may stop only when its standbys are ready."""
    a, b = await cluster.node("a"), await cluster.node("b")
    read = b.log.read

    async def away(*_: object) -> list[bytes]:
        raise LogUnavailable("the broker is away")

    await cluster.give(a={0, 1}, b=set())
    monkeypatch.setattr(b.log, "read", away)
    stand_by(cluster, "b", 0, 1)
    await until(lambda: a.node.ready)
    await a.given(open_wallet(U0))
    await asyncio.sleep(0.02)
    assert not b.node.ready
    monkeypatch.setattr(b.log, "read", read)
    await until(lambda: b.node.ready)
    monkeypatch.setattr(b.log, "read", away)
    await until(lambda: not standbys_of(b).caught_up)
    assert b.node.ready, "later a standby that is behind does not make the node unready"
