"""A period's outcome on one node settles the bets of another node once, although that node dies at any append, or the
announcement is lost."""

import asyncio
from collections import Counter

import pytest

from ledger.core.bet_events import BetSettled
from ledger.core.commands import PlaceBet
from ledger.core.games.periods import name_of
from ledger.core.position import partition_of
from ledger.core.rejections import Code
from ledger.node import owned as owned_module
from ledger.operations.audit import verify
from ledger.writer import writer as writer_module
from ledger.writer.open_bets import ASK_AFTER_US
from ledger.writer.requests import DryRunAccepted, OutcomeRequest, Refused
from properties.jumping_loop import in_skipped_time
from unit.cluster_in_memory import ClusterInMemory, Trouble
from unit.given import NOON, SECOND_US, deposit, open_wallet, place_bet, record_result
from unit.nodes_in_memory import Cluster
from unit.test_audit import BUILT_IN_TABLES, Lists
from unit.test_follow_ups_between_nodes import PARTITIONS, MortalLog

HOUSE, PLAYERS = "a", "b"
PERIOD = name_of(NOON)
RESULT_AT = NOON + 32 * SECOND_US
STREAM = partition_of("game:wingo_30s", PARTITIONS)
USERS = [name for name in (f"u{number}" for number in range(60)) if partition_of(name, PARTITIONS) != STREAM][:6]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)


async def settle_and_die_at(append: int, *, lands: bool) -> bool:
    """The node of the players dies at this append after the result; the other node then owns everything. Returns
    whether it died."""
    cluster = Cluster(PARTITIONS, new_log=MortalLog)
    for name in (HOUSE, PLAYERS):
        await cluster.node(name)
    await cluster.give(a={STREAM}, b={1 - STREAM})
    await cluster.settled()
    house, players = cluster.worlds[HOUSE], cluster.worlds[PLAYERS]
    for user_id in USERS:
        await players.given(
            open_wallet(user_id),
            deposit(100, user_id=user_id),
            place_bet(100, game="wingo_30s", period=PERIOD, selection="big", user_id=user_id),
        )
    log = players.log
    assert isinstance(log, MortalLog)
    log.dies_at, log.lands = append, lands
    house.clock.now_us = RESULT_AT
    await house.accepted(record_result("7", PERIOD))
    async with asyncio.timeout(60):
        while not log.dead.is_set() and "bet_settled" not in house.types():  # noqa: ASYNC110 - of two nodes
            await asyncio.sleep(0.002)
        if log.dead.is_set():
            await cluster.crash_one(PLAYERS)
            await cluster.give(a=set(range(PARTITIONS)))
            await cluster.settled()
        while house.types().count("bet_settled") < len(USERS):  # noqa: ASYNC110 - of two nodes
            await asyncio.sleep(0.002)
    await house.quiet()
    settled = Counter(event.user_id for event in house.events() if isinstance(event.data, BetSettled))
    assert settled == dict.fromkeys(USERS, 1)
    verify(Lists(house.appended.records), tables=BUILT_IN_TABLES)
    owner = cluster.owner_of(USERS[0])
    assert [await owner.cash(user_id) for user_id in USERS] == [196] * len(USERS)
    for name in (HOUSE, PLAYERS):
        if not cluster.members[name].left:
            await cluster.crash_one(name)
    return log.dead.is_set()


@pytest.mark.parametrize("lands", [True, False])
async def test_the_bets_of_another_node_are_settled_once_whenever_it_dies(lands: bool) -> None:
    append = 1
    while await settle_and_die_at(append, lands=lands):
        append += 1
    assert append > 1


# --- an outcome that was not announced ------------------------------------------------------------------------------


async def bet_at(cluster: ClusterInMemory) -> tuple[str, str, str]:
    """One bet on PERIOD. Returns its user, the node that owns their wallet, and the node that owns the stream."""
    house, players = "ab"[STREAM], "ab"[1 - STREAM]
    user_id = cluster.user(1 - STREAM)
    for command in (open_wallet(user_id), deposit(300, user_id=user_id), bet_on_big(user_id, "b1")):
        await cluster[house].accepted(command)
    return user_id, players, house


def bet_on_big(user_id: str, bet_id: str) -> PlaceBet:
    return place_bet(100, bet_id, game="wingo_30s", period=PERIOD, selection="big", user_id=user_id)


async def wait_until(cluster: ClusterInMemory, at_us: int) -> None:
    await asyncio.sleep((at_us - cluster.clock()) / 1e6)


def asked(cluster: ClusterInMemory, node: str) -> int:
    """How often the node has asked another one for an outcome."""
    requests = [request for _, requests in cluster[node].peers.calls for request in requests]
    return sum(isinstance(request, OutcomeRequest) for request in requests)


@pytest.mark.parametrize("trouble", [Trouble.NONE, Trouble.UNREACHABLE, Trouble.LOST, Trouble.RESPONSE_LOST])
@in_skipped_time
async def test_a_node_that_missed_the_outcome_asks_the_node_of_the_stream_until_it_has_it(trouble: Trouble) -> None:
    async with ClusterInMemory(PARTITIONS) as cluster:
        user_id, players, house = await bet_at(cluster)
        cluster[house].forwarding.deliver = lambda *_: None  # type: ignore[method-assign]  # no announcement arrives
        await wait_until(cluster, RESULT_AT)
        await cluster[players].accepted(record_result("7", PERIOD))
        await wait_until(cluster, NOON + 30 * SECOND_US + ASK_AFTER_US - SECOND_US)
        assert (cluster.types(user_id)[-1], asked(cluster, players)) == ("bet_placed", 0)
        cluster[players].peers.troubles.append(trouble)
        async with asyncio.timeout(3 * ASK_AFTER_US / 1e6):
            while cluster.types(user_id)[-1] != "bet_settled":  # noqa: ASYNC110 - of two nodes
                await asyncio.sleep(0.1)
        await asyncio.sleep(3 * ASK_AFTER_US / 1e6)
        assert cluster.types(user_id).count("bet_settled") == 1
        assert await cluster[house].cash(user_id) == 300 - 100 + 196
        assert asked(cluster, players) >= 1


@in_skipped_time
async def test_a_node_that_starts_after_the_outcome_asks_the_node_of_the_stream_at_once() -> None:
    async with ClusterInMemory(PARTITIONS) as cluster:
        user_id, players, house = await bet_at(cluster)
        await cluster.crash(players)
        await wait_until(cluster, RESULT_AT)
        cluster[house].forwarding.deliver = lambda *_: None  # type: ignore[method-assign]  # no announcement arrives
        await cluster[house].accepted(record_result("7", PERIOD))
        await cluster.start(players)
        await cluster.give([1 - STREAM], players)
        await cluster.settled()
        # At once: the usual time to ask is a minute after the end of the period.
        async with asyncio.timeout(40):
            while cluster.types(user_id)[-1] != "bet_settled":  # noqa: ASYNC110 - of two nodes
                await asyncio.sleep(0.1)
        assert asked(cluster, players) >= 1
        assert await cluster[house].cash(user_id) == 300 - 100 + 196


@in_skipped_time
async def test_a_node_that_gets_the_stream_while_it_asks_finds_the_outcome_itself() -> None:
    async with ClusterInMemory(PARTITIONS) as cluster:
        user_id, players, house = await bet_at(cluster)
        cluster[house].forwarding.deliver = lambda *_: None  # type: ignore[method-assign]  # no announcement arrives
        await wait_until(cluster, RESULT_AT)
        await cluster[house].accepted(record_result("7", PERIOD))
        await cluster.give([STREAM], None)
        for writer in cluster[players].node.writers.values():
            writer.state.open_bets.ask_soon()
        async with asyncio.timeout(60):
            while not cluster[players].forwarding._retrying:  # noqa: ASYNC110 - until it looks for the owner
                await asyncio.sleep(0.01)
            cluster[players].node._announce = lambda *_: None  # type: ignore[method-assign]
            await cluster.give([STREAM], players)
            while cluster.types(user_id)[-1] != "bet_settled":  # noqa: ASYNC110 - of two nodes
                await asyncio.sleep(0.1)


@in_skipped_time
async def test_a_node_whose_clock_is_behind_takes_no_bet_once_it_has_heard_of_the_result_on_another_node() -> None:
    """Also without an open bet of that period. Before the result it takes bets, as its clock says."""
    async with ClusterInMemory(PARTITIONS) as cluster:
        house, players = "ab"[STREAM], "ab"[1 - STREAM]
        cluster.ahead_us[players] = -20 * SECOND_US
        await cluster.crash(players)
        await cluster.start(players)
        await cluster.give([1 - STREAM], players)
        await cluster.settled()
        user_id = cluster.user(1 - STREAM)
        for command in (open_wallet(user_id), deposit(300, user_id=user_id)):
            await cluster[house].accepted(command)
        await wait_until(cluster, RESULT_AT)
        dry_run = await cluster[house].post(bet_on_big(user_id, "b1"), dry_run=True)
        assert isinstance(dry_run, DryRunAccepted), dry_run
        await cluster[house].accepted(record_result("7", PERIOD))
        async with asyncio.timeout(60):
            while not cluster[house].peers.delivered or cluster[house].forwarding._delivery.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        refused = await cluster[house].post(bet_on_big(user_id, "b1"))
        assert isinstance(refused, Refused), refused
        assert refused.rejection.code is Code.PERIOD_CLOSED
