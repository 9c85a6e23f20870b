"""A process dies at each append of a cancelled period, of a claimed referral code, and of a gift whose claimants are
on another node: each effect is in the log once.

The same is tested of results in ``test_settlement``, of gifts on one node in ``test_gifts``, of commissions in
``test_commissions_in_a_node``, and of bonuses in ``test_money_flows_of_nodes``.
"""

import asyncio
from collections import Counter

import pytest

from ledger.core.bet_events import BetCancelled
from ledger.core.gift_events import GiftReceived, GiftRefused
from ledger.core.position import partition_of
from ledger.memory.state_store import MemoryStateStore
from ledger.node import owned as owned_module
from ledger.operations.audit import verify
from ledger.writer import writer as writer_module
from ledger.writer.requests import Accepted
from unit.given import cancel_period, claim_code, claim_gift, create_gift, open_wallet
from unit.node_in_memory import World
from unit.nodes_in_memory import Cluster
from unit.test_audit import BUILT_IN_TABLES, Lists
from unit.test_follow_ups_between_nodes import PARTITIONS, MortalLog
from unit.test_settlement import PERIOD, STAKE, USERS, bets_placed, everything_is_settled


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)


# --- a cancelled period ---------------------------------------------------------------------------------------------


async def cancel_and_die_at(number: int, *, lands: bool) -> bool:
    world = await bets_placed(3, MemoryStateStore())
    if number % 2:
        await world.save()
    died = await world.dies_at(number, _cancel(world), lands=lands)
    await _cancel(world)
    returned = Counter(
        (event.user_id, event.data.bet_id) for event in world.events() if isinstance(event.data, BetCancelled)
    )
    assert returned == {(user_id, f"b{bet}"): 1 for user_id in USERS for bet in range(3)}
    assert [await world.cash(user_id) for user_id in USERS] == [3 * STAKE] * len(USERS)
    assert (world.total("house/fees"), world.total("house/stakes")) == (0, 0)
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records), tables=BUILT_IN_TABLES)
    await world.stop()
    return died


async def _cancel(world: World) -> None:
    assert isinstance(await world.post(cancel_period(PERIOD, command_id="cancel")), Accepted)
    await everything_is_settled(world)


@pytest.mark.parametrize("lands", [True, False])
async def test_a_crash_at_every_append_returns_every_stake_of_a_cancelled_period_once(lands: bool) -> None:
    number = 0
    while await cancel_and_die_at(number, lands=lands):
        number += 1
    assert number >= 4, "every partition has at least one append"


# --- a referral code ------------------------------------------------------------------------------------------------

CLAIMANTS = ("u1", "u2", "u3", "u4")
NEW = ("new-1", "new-2", "new-3")


async def claim_and_die_at(number: int, *, lands: bool) -> bool:
    """Four users claim one code, then three wallets are opened with it."""
    world = await World(4, MemoryStateStore()).start()
    await world.given(*(open_wallet(user_id) for user_id in CLAIMANTS))
    died = await world.dies_at(number, _claim(world, saves=number % 2 == 0), lands=lands)
    await _claim(world, saves=False)
    types = Counter(world.types("code:k1"))
    assert types == {"referral_code_granted": 1, "referral_code_refused": 3, "referral_resolved": 3}
    owners = [user_id for user_id in CLAIMANTS if "referral_code_granted" in world.types(user_id)]
    assert len(owners) == 1
    assert world.types(owners[0]).count("referral_counted") == len(NEW)
    assert [world.types(user_id) for user_id in NEW] == [["wallet_opened", "referrer_set"]] * len(NEW)
    assert world.open_follow_ups() == []
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))
    await world.stop()
    return died


async def _claim(world: World, *, saves: bool) -> None:
    """``saves``: with a checkpoint after each command, so that one has follow-ups under way."""
    for user_id in CLAIMANTS:
        assert isinstance(await world.post(claim_code(user_id=user_id, command_id="claim")), Accepted)
        if saves:
            await world.save()
    await world.quiet()
    for user_id in NEW:
        assert isinstance(await world.post(open_wallet(user_id, referral_code="k1", command_id="open")), Accepted)
        if saves:
            await world.save()
    await world.quiet()


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.system
async def test_a_crash_at_every_append_grants_a_code_once_and_counts_each_member_once(lands: bool) -> None:
    number = 0
    while await claim_and_die_at(number, lands=lands):
        number += 1
    assert number >= 10, "claims, outcomes, signups and counts are in several appends"


# --- a gift and its claimants on two nodes --------------------------------------------------------------------------

OF_GIFT = partition_of("gift:g1", PARTITIONS)
FEW = [name for name in (f"u{number}" for number in range(40)) if partition_of(name, PARTITIONS) != OF_GIFT][:5]


async def claim_gift_and_die_at(number: int, dies: str, *, lands: bool) -> bool:
    """Node ``a`` has the gift of three shares, node ``b`` the five claimants. One of them dies at this append; the
    other then owns everything. Returns whether it died."""
    cluster = Cluster(PARTITIONS, new_log=MortalLog)
    for name in ("a", "b"):
        await cluster.node(name)
    await cluster.give(a={OF_GIFT}, b={1 - OF_GIFT})
    await cluster.settled()
    await cluster.worlds["a"].given(create_gift(100, 3))
    await cluster.worlds["b"].given(*(open_wallet(user_id) for user_id in FEW))
    log = cluster.worlds[dies].log
    assert isinstance(log, MortalLog)
    log.dies_at, log.lands = number, lands
    claiming = asyncio.ensure_future(_all_claim(cluster))
    dead = asyncio.ensure_future(log.dead.wait())
    async with asyncio.timeout(60):
        await asyncio.wait({claiming, dead}, return_when=asyncio.FIRST_COMPLETED)
        dead.cancel()
        if log.dead.is_set():
            claiming.cancel()
            await cluster.crash_one(dies)
            everything = set(range(PARTITIONS))
            await (cluster.give(b=everything) if dies == "a" else cluster.give(a=everything))
            await cluster.settled()
            await _all_claim(cluster)
        else:
            await claiming
    events = cluster.owner_of(FEW[0]).events()
    received = [event for event in events if isinstance(event.data, GiftReceived)]
    refused = [event for event in events if isinstance(event.data, GiftRefused)]
    assert sorted(event.user_id for event in (*received, *refused)) == sorted(FEW)
    assert sorted(event.data.amount for event in received if isinstance(event.data, GiftReceived)) == [33, 33, 34]
    verify(Lists(cluster.appended.records))
    died = log.dead.is_set()
    await cluster.crash()
    return died


async def _all_claim(cluster: Cluster) -> None:
    """Each claim again and again until it is accepted, and until each has its end."""
    for user_id in FEW:
        response = await cluster.owner_of(user_id).post(claim_gift(user_id=user_id, command_id="claim"))
        assert isinstance(response, Accepted), response
    world = cluster.owner_of(FEW[0])
    while sum(world.types().count(kind) for kind in ("gift_received", "gift_refused")) < len(FEW):  # noqa: ASYNC110
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("dies", ["a", "b"])
@pytest.mark.parametrize("lands", [True, False])
async def test_each_share_is_paid_once_at_whichever_append_the_node_of_the_gift_or_of_the_users_dies(
    dies: str, lands: bool
) -> None:
    number = 1
    while await claim_gift_and_die_at(number, dies, lands=lands):
        number += 1
    assert number > 2, "claims, shares and receipts are in several appends"
