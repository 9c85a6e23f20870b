"""A day's commissions over two nodes: once for each member, level and day, although a node dies at any append or is
down at midnight.

Six members have referred each other in a row, those of node ``a`` and of node ``b`` by turns, so every commission of
an odd level goes to the other node.
"""

import asyncio
from collections import Counter

import pytest

from api.cli.forms_of_rules import forms_of_money
from ledger.core.commission_events import CommissionDue, CommissionPaid
from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from ledger.memory.state_store import MemoryStateStore
from ledger.node import owned as owned_module
from ledger.operations.audit import verify
from ledger.writer import writer as writer_module
from unit.given import deposit, open_wallet, place_bet, settle_bet
from unit.nodes_in_memory import Cluster
from unit.test_audit import Lists
from unit.test_commissions import DUE, RATES, money, rules
from unit.test_follow_ups_between_nodes import PARTITIONS, MortalLog

STAKE = 10_000
MEMBERS = [
    next(name for name in (f"m{number}-{n}" for n in range(100)) if partition_of(name, PARTITIONS) == number % 2)
    for number in range(6)
]
EXPECTED = [
    (MEMBERS[number - level], member, level)
    for number, member in enumerate(MEMBERS)
    for level in range(1, min(number, len(RATES)) + 1)
]
"""(referrer, member, level)"""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)


async def two_nodes() -> Cluster:
    """Each owns one partition; each member has settled one bet of today."""
    cluster = Cluster(PARTITIONS, new_log=MortalLog, rules=rules(money(mode="daily")))
    for name in ("a", "b"):
        await cluster.node(name)
    await cluster.give(a={0}, b={1})
    await cluster.settled()
    for number, user_id in enumerate(MEMBERS):
        owner = cluster.owner_of(user_id)
        await owner.given(open_wallet(user_id, MEMBERS[number - 1] if number else None))
        await bet_settled(cluster, user_id, "b1")
    for world in cluster.worlds.values():
        await world.quiet()
    return cluster


async def bet_settled(cluster: Cluster, user_id: str, name: str) -> None:
    await cluster.owner_of(user_id).given(
        deposit(STAKE, f"o-{name}", user_id=user_id),
        place_bet(STAKE, name, user_id=user_id),
        settle_bet(0, name, user_id=user_id),
    )


async def all_paid(cluster: Cluster, days: int = 1) -> None:
    """Wait for every commission of so many days, then check each, and every wallet, from the log alone."""
    log = cluster.worlds["a"]
    async with asyncio.timeout(60):
        while log.types().count("commission_paid") < days * len(EXPECTED):  # noqa: ASYNC110 - of two nodes
            await asyncio.sleep(0.002)
        for name, world in cluster.worlds.items():
            while not cluster.members[name].left and world.open_follow_ups():  # noqa: ASYNC110 - of two nodes
                await asyncio.sleep(0.002)
    paid = [(event.user_id, event.data) for event in log.events() if isinstance(event.data, CommissionPaid)]
    assert Counter((referrer, data.member, data.level) for referrer, data in paid) == dict.fromkeys(EXPECTED, days)
    assert len({(data.member, data.level, data.day) for _, data in paid}) == len(paid)
    closed = [(event.user_id, event.data.day) for event in log.events() if isinstance(event.data, CommissionDue)]
    assert len(set(closed)) == len(closed)
    for user_id in MEMBERS:
        wallet = await cluster.owner_of(user_id).wallet(user_id)
        earned_e9 = sum(days * STAKE * RATES[level - 1] for referrer, _, level in EXPECTED if referrer == user_id)
        carried_e9 = wallet.commission_carried.get("INR", 0)
        assert wallet.balances["INR"].cash * 1_000_000_000 + carried_e9 == earned_e9, user_id
    kept = forms_of_money(rules(money(mode="daily")).money_kept)
    assert verify(Lists(log.appended.records), money=kept).missing_rules == ()
    await cluster.crash()


async def die_at(append: int, *, lands: bool) -> bool:
    """Node ``b`` dies at this append after midnight; the other node then owns everything. Returns whether it died."""
    cluster = await two_nodes()
    log = cluster.worlds["b"].log
    assert isinstance(log, MortalLog)
    log.dies_at, log.lands = append, lands
    cluster.worlds["a"].clock.now_us = DUE
    async with asyncio.timeout(60):
        while not log.dead.is_set() and cluster.worlds["a"].types().count("commission_paid") < len(EXPECTED):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    if log.dead.is_set():
        await cluster.crash_one("b")
        await cluster.give(a=set(range(PARTITIONS)))
        await cluster.settled()
    died = log.dead.is_set()
    await all_paid(cluster)
    return died


@pytest.mark.parametrize("lands", [True, False])
async def test_each_commission_is_paid_once_at_whichever_append_a_node_dies(lands: bool) -> None:
    append = 1
    while await die_at(append, lands=lands):
        append += 1
    assert append > 3


@pytest.mark.parametrize("keeps_its_state", [True, False])
async def test_a_node_that_is_down_over_two_midnights_closes_both_days_when_it_is_back(keeps_its_state: bool) -> None:
    cluster = await two_nodes()
    a, b = cluster.worlds["a"], cluster.worlds["b"]
    a.clock.now_us = DUE - 1  # the next day has begun
    for user_id in MEMBERS:
        await bet_settled(cluster, user_id, "b2")
    if keeps_its_state:
        await b.save()
    await cluster.crash_one("b")
    await cluster.give(a={0})
    theirs = {user_id for user_id in MEMBERS[1:] if partition_of(user_id, PARTITIONS) == 0}
    for days, now_us in enumerate((DUE, DUE + DAY_US), 1):
        a.clock.now_us = now_us
        async with asyncio.timeout(60):
            while a.types().count("commission_due") < days * len(theirs):  # noqa: ASYNC110 - of a writer
                await asyncio.sleep(0.002)
    assert {event.user_id for event in a.events() if isinstance(event.data, CommissionDue)} == theirs
    if not keeps_its_state:
        b.store = MemoryStateStore()
    await cluster.node("b")
    await cluster.give(a={0}, b={1})
    await cluster.settled()
    await all_paid(cluster, days=2)
