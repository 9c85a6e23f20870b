"""A day's commissions in a running node: once each, whatever happens, and no command waits for all of them.

Eight members in four partitions have referred each other in a row, and each has settled one bet of today.
"""

import asyncio

import pytest

from ledger.core.commission_events import CommissionDue, CommissionPaid
from ledger.core.games.rules import BUILT_IN
from ledger.core.money_rules import Money, digest_of
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable, OutcomeUnknown, RulesMissing
from ledger.memory.log import Failure
from ledger.memory.state_store import MemoryStateStore
from ledger.operations.audit import verify
from ledger.ports import StateStore
from ledger.writer import mailbox as mailbox_module
from ledger.writer import round as round_module
from unit.given import deposit, open_wallet, place_bet, settle_bet, transfer
from unit.node_in_memory import World
from unit.test_audit import Lists
from unit.test_commissions import DUE, MIDNIGHT, RATES, money, rules

PARTITIONS = 4
MEMBERS = [f"m{number}" for number in range(8)]
USERS = [f"w{number}" for number in range(40)]
STAKE = 10_000
LEVELS = len(RATES)


async def bets_settled(store: StateStore | None = None, members: list[str] = MEMBERS, mode: str = "daily") -> World:
    world = await World(PARTITIONS, store, rules=rules(money(mode=mode))).start()
    for number, user_id in enumerate(members):
        await world.given(open_wallet(user_id, members[number - 1] if number else None))
        await world.given(deposit(STAKE, user_id=user_id), place_bet(STAKE, user_id=user_id))
        await world.given(settle_bet(0, user_id=user_id))
    await world.quiet()
    return world


def paid(world: World) -> list[tuple[str, str, int]]:
    """(referrer, member, level) of every commission."""
    return [
        (event.user_id, event.data.member, event.data.level)
        for event in world.events()
        if isinstance(event.data, CommissionPaid)
    ]


async def all_paid(world: World, members: list[str] = MEMBERS) -> None:
    """Wait for the commissions of a row of members, and check each of them, and every total."""
    expected = sorted(
        (members[number - level], member, level)
        for number, member in enumerate(members)
        for level in range(1, LEVELS + 1)
        if level <= number
    )
    async with asyncio.timeout(60):
        while len(paid(world)) < len(expected):  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    await world.quiet()
    assert sorted(paid(world)) == expected
    earned = dict.fromkeys(members, 0)
    for referrer, _, level in expected:
        earned[referrer] += STAKE * RATES[level - 1]
    for user_id, earned_e9 in earned.items():
        wallet = await world.wallet(user_id)
        carried_e9 = wallet.commission_carried.get("INR", 0)
        assert await world.cash(user_id) * 1_000_000_000 + carried_e9 == earned_e9, user_id
        assert wallet.turnover == ()
    assert world.open_follow_ups() == []
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))


async def test_a_day_is_closed_by_its_timer_and_paid_across_partitions() -> None:
    world = await bets_settled()
    assert {partition_of(user_id, PARTITIONS) for user_id in MEMBERS} == set(range(PARTITIONS))
    world.clock.now_us = DUE - 1
    await world.given(deposit(1, "o2", user_id=MEMBERS[0]))
    assert "commission_due" not in world.types()
    world.clock.now_us = DUE
    await all_paid_but(world, 1)
    await world.stop()


async def all_paid_but(world: World, extra: int) -> None:
    """As ``all_paid``; the first member has been given ``extra``."""
    first = MEMBERS[0]
    async with asyncio.timeout(60):
        while world.types().count("commission_due") < len(MEMBERS) - 1:  # noqa: ASYNC110 - of all writers
            await asyncio.sleep(0.001)
    await world.quiet()
    await world.given(place_bet(extra, "b2", user_id=first), settle_bet(0, "b2", user_id=first))
    await all_paid(world)


async def test_a_bet_that_pays_at_once_is_paid_across_partitions() -> None:
    world = await bets_settled(mode="per_bet")
    await all_paid(world)
    await world.stop()


async def test_a_node_that_was_down_at_midnight_closes_the_day_when_it_starts() -> None:
    world = await bets_settled(MemoryStateStore())
    await world.crash()
    world.clock.now_us = DUE + 10_000_000_000
    await world.start()
    await all_paid(world)
    await world.stop()


async def test_a_clock_that_is_set_back_over_midnight_pays_a_day_once() -> None:
    world = await bets_settled()
    world.clock.now_us = DUE
    await all_paid(world)
    world.clock.now_us = MIDNIGHT - 1
    member = MEMBERS[-1]
    await world.given(deposit(STAKE, "o2", user_id=member), place_bet(STAKE, "b2", user_id=member))
    await world.given(settle_bet(0, "b2", user_id=member))
    days = [event.data.day for event in world.events() if isinstance(event.data, CommissionDue)]
    assert set(days) == {"2024-10-04"}
    (turnover,) = (await world.wallet(member)).turnover
    assert (turnover.day, turnover.stake) == (MIDNIGHT // 86_400_000_000, STAKE), (
        "the partition's time is after midnight"
    )
    await world.stop()


# --- rules that change ---------------------------------------------------------------------------------------------


async def test_a_day_is_paid_by_its_own_rules_on_a_node_that_started_with_others() -> None:
    world = await bets_settled(MemoryStateStore())
    await world.crash()
    world.appended.money_rules[digest_of(money())] = money()  # as a node declares at its start
    world.options["rules"] = rules(money(rates_e9=(1,)))
    world.clock.now_us = DUE
    await world.start()
    await all_paid(world)
    await world.stop()


async def test_rules_that_are_lost_stop_the_partitions_that_are_to_pay_by_them() -> None:
    world = await bets_settled(MemoryStateStore())
    await world.crash()
    world.options["rules"] = BUILT_IN
    world.clock.now_us = DUE
    await world.start()
    with pytest.raises(RulesMissing, match="is to pay commissions by the rules"):
        raise await world.node.halted
    await world.crash()
    world.options["rules"] = rules(money())
    await world.start()
    await all_paid(world)
    await world.stop()


async def test_a_partition_that_cannot_read_its_rules_keeps_no_other_from_paying() -> None:
    first, member = [user_id for user_id in USERS if partition_of(user_id, PARTITIONS) == 0][:2]
    other, later = [user_id for user_id in USERS if partition_of(user_id, PARTITIONS) == 1][:2]
    world = await bets_settled(MemoryStateStore(), [first, member])
    await world.given(open_wallet(other), open_wallet(later, other), deposit(STAKE, user_id=later))
    await world.crash()
    world.options["rules"] = rules(money(mode="per_bet"))
    await world.start()
    reads = 0

    async def away() -> dict[str, Money]:
        nonlocal reads
        reads += 1
        raise LogUnavailable("no broker responds")

    world.log.money_rules = away  # type: ignore[method-assign]
    world.clock.now_us = DUE
    async with asyncio.timeout(60):
        while not reads:  # noqa: ASYNC110 - the writer's own doing
            await asyncio.sleep(0.001)
        await world.given(place_bet(STAKE, user_id=later), settle_bet(0, user_id=later))
        while (other, later, 1) not in paid(world):  # noqa: ASYNC110 - of all writers
            await asyncio.sleep(0.001)
    assert (first, member, 1) not in paid(world)
    world.appended.money_rules[digest_of(money())] = money()
    del world.log.money_rules
    async with asyncio.timeout(60):
        while (first, member, 1) not in paid(world):  # noqa: ASYNC110 - of all writers
            await asyncio.sleep(0.001)
    await world.stop()


# --- crashes -------------------------------------------------------------------------------------------------------


async def crash_at_append(number: int, *, lands: bool) -> bool:
    """Close a day; the process dies at the given append. Returns whether there was such an append."""
    members = MEMBERS[:5]
    world = await bets_settled(MemoryStateStore(), members)
    if number % 2:
        await world.save()
    world.clock.now_us = DUE
    died = await world.dies_at(number, all_paid(world, members), lands=lands)
    await all_paid(world, members)
    await world.stop()
    return died


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.system
async def test_a_crash_at_every_append_pays_every_commission_once(lands: bool) -> None:
    number = 0
    while await crash_at_append(number, lands=lands):
        number += 1
    assert number >= PARTITIONS, "every partition has at least one append"


@pytest.mark.parametrize(
    ("error", "lands"), [(LogUnavailable("full"), False), (OutcomeUnknown("?"), False), (OutcomeUnknown("?"), True)]
)
async def test_a_failed_append_pays_every_commission_once(
    error: LogUnavailable | OutcomeUnknown, lands: bool
) -> None:
    world = await bets_settled()
    world.log.fail_next.extend([Failure(error, lands), None, Failure(error, lands), None, Failure(error, lands)])
    world.clock.now_us = DUE
    await all_paid(world)
    await world.stop()


# --- many at once --------------------------------------------------------------------------------------------------


async def test_many_days_that_end_at_one_time_take_many_rounds_and_commands_go_on_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_module, "TIMERS_PER_ROUND", 3)
    monkeypatch.setattr(mailbox_module, "COMMISSIONS_PER_ROUND", 2)
    world = await World(1, rules=rules(money())).start()
    members = [f"n{number}" for number in range(40)]
    await world.given(open_wallet("top"), *(open_wallet(user_id, "top") for user_id in members))
    for user_id in members:
        await world.given(deposit(STAKE, user_id=user_id), place_bet(STAKE, user_id=user_id))
        await world.given(settle_bet(0, user_id=user_id))
    await world.quiet()
    world.log.sizes.clear()
    world.clock.now_us = DUE
    await world.given(deposit(5, "o2", user_id=members[0]), transfer(5, "top", user_id=members[0]))
    assert len(paid(world)) < len(members), "the command did not wait for all commissions"
    async with asyncio.timeout(60):
        while len(paid(world)) < len(members):  # noqa: ASYNC110 - the writer's own doing
            await asyncio.sleep(0.001)
    await world.quiet()
    assert max(world.log.sizes) <= 3 + 2 + 2
    types = world.types()
    assert types.index("transfer_delivered") < len(types) - 1 - types[::-1].index("commission_paid"), (
        "a transfer overtakes commissions"
    )
    assert await world.cash("top") == len(members) * 60 + 5
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))
    await world.stop()
