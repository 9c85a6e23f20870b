"""Money flows on a node: once, whatever happens to the log, the process, the client and the rules."""

import asyncio

import pytest

from api.cli.forms_of_rules import forms_of_money
from ledger.core.bonus_events import BonusGranted
from ledger.core.events import Deposited
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable, OutcomeUnknown
from ledger.memory.log import Failure
from ledger.memory.state_store import MemoryStateStore
from ledger.operations.audit import verify
from ledger.writer.requests import Accepted, DryRunAccepted, Refused
from unit.given import claim_attendance, deposit, open_wallet, place_bet, request_withdrawal, settle_bet
from unit.node_in_memory import World
from unit.test_audit import Lists
from unit.test_money_flows import book

RULES = book(
    INR={
        "registration": 25,
        "first_deposit": [[100, 20]],
        "attendance": [7],
        "wagering": {"deposit": 1, "bonus": 1},
        "withdrawal": {"per_day": 1},
    }
)
COMMANDS = (
    open_wallet(command_id="open"),
    open_wallet("u2", referrer_id="u1", command_id="open"),
    deposit(100, command_id="first"),
    claim_attendance(command_id="day"),
    place_bet(152, command_id="bet"),
    settle_bet(152, command_id="win"),
    request_withdrawal(10, command_id="out"),
)
"""Every flow of RULES; what must be staked is 25 + 120 + 7 = 152."""


def bonuses(world: World, user_id: str = "u1") -> list[tuple[str | None, int]]:
    return [
        (event.data.kind, event.data.amount)
        for event in world.events(user_id)
        if isinstance(event.data, BonusGranted)
    ]


async def all_happened_once(world: World) -> None:
    await world.quiet()
    assert sorted(world.types("u1")) == sorted(
        [
            *("wallet_opened", "bonus_granted", "referral_counted", "deposited", "bonus_granted"),
            *("attendance_claimed", "bet_placed", "bet_settled", "withdrawal_requested"),
        ]
    )
    assert bonuses(world) == [("registration", 25), ("first_deposit", 20)]
    assert bonuses(world, "u2") == [("registration", 25)]
    assert world.total("house/bonuses") == -77
    await world.assert_true_of_the_log()
    assert verify(Lists(world.appended.records), money=forms_of_money(RULES.money_kept)).missing_rules == ()


# --- crashes -----------------------------------------------------------------------------------------------------


async def crash_at_append(number: int, *, lands: bool) -> bool:
    """Post COMMANDS; the process dies at that append. Then post all of them again. Returns whether there was such an
    append."""
    world = await World(2, MemoryStateStore(), rules=RULES).start()
    died = await world.dies_at(number, _post_all(world, saves=number % 2 == 0), lands=lands)
    await _post_all(world, saves=False)
    await all_happened_once(world)
    await world.stop()
    return died


async def _post_all(world: World, *, saves: bool) -> None:
    for command in COMMANDS:
        response = await world.post(command)
        assert isinstance(response, Accepted), response
        if saves:
            await world.save()


@pytest.mark.parametrize("lands", [True, False])
async def test_a_crash_at_every_append_makes_every_bonus_once(lands: bool) -> None:
    number = 0
    while await crash_at_append(number, lands=lands):
        number += 1
    assert number >= len(COMMANDS), "each command has at least one append"


@pytest.mark.parametrize(
    "failure",
    [Failure(LogUnavailable("full"), False), Failure(OutcomeUnknown("?"), False), Failure(OutcomeUnknown("?"), True)],
    ids=["refused", "lost", "landed"],
)
async def test_a_failed_append_makes_every_bonus_once(failure: Failure) -> None:
    world = await World(2, rules=RULES).start()
    for command in COMMANDS:
        world.log.fail_next.append(failure)
        await world.post(command)
        world.log.fail_next.clear()
        assert isinstance(await world.post(command), Accepted)
        await world.quiet()
    await all_happened_once(world)
    await world.stop()


async def test_a_bonus_is_in_the_append_of_its_cause() -> None:
    world = await World(1, rules=RULES).start()
    appends = []
    inner = world.log.append

    async def append(partition: int, after: object, records: list[object]) -> None:
        appends.append(len(records))
        await inner(partition, after, records)  # type: ignore[arg-type]

    world.log.append = append  # type: ignore[method-assign, assignment]
    await world.given(open_wallet(), deposit(100))
    assert appends == [2, 2]
    await world.stop()


# --- clients -----------------------------------------------------------------------------------------------------


async def test_the_response_is_the_commands_own_event_and_stays_so() -> None:
    world = await World(1, rules=RULES).start()
    await world.given(open_wallet())
    command = deposit(100, command_id="first")
    first = await world.accepted(command)
    assert isinstance(first.event.data, Deposited)
    assert first.event.balances["INR"].bonus == 25, "before the bonus that follows"
    again = await world.post(command)
    assert isinstance(again, Accepted)
    assert (again.record, again.position, again.hit) == (first.record, first.position, True)
    await world.stop()


async def test_two_first_deposits_at_once_get_one_bonus() -> None:
    world = await World(1, rules=RULES).start()
    await world.given(open_wallet())
    await asyncio.gather(*(world.accepted(deposit(100, f"o{number}")) for number in range(20)))
    assert bonuses(world) == [("registration", 25), ("first_deposit", 20)]
    assert [event.data.first_deposit for event in world.events() if isinstance(event.data, Deposited)] == [
        True,
        *[False] * 19,
    ]
    await world.stop()


async def test_claims_of_one_day_at_once_get_one_bonus() -> None:
    world = await World(1, rules=RULES).start()
    await world.given(open_wallet())
    responses = await asyncio.gather(*(world.post(claim_attendance()) for _ in range(20)))
    assert sum(isinstance(response, Accepted) for response in responses) == 1
    assert {response.rejection.code for response in responses if isinstance(response, Refused)} == {"already_claimed"}
    await world.stop()


async def test_a_dry_run_shows_the_commands_own_event_and_writes_nothing() -> None:
    world = await World(1, rules=RULES).start()
    response = await world.post(open_wallet(), dry_run=True)
    assert isinstance(response, DryRunAccepted)
    assert response.event.data.type == "wallet_opened"
    await world.given(open_wallet())
    response = await world.post(claim_attendance(), dry_run=True)
    assert isinstance(response, DryRunAccepted)
    assert response.event.data.type == "attendance_claimed"
    assert world.types() == ["wallet_opened", "bonus_granted"]
    await world.stop()


# --- rules and restarts --------------------------------------------------------------------------------------------


async def test_an_old_log_without_rules_is_replayed_as_it_is() -> None:
    world = await World(1, MemoryStateStore()).start()
    await world.given(open_wallet(), deposit(100))
    before = [list(records) for records in world.appended.records]
    world.options["rules"] = RULES
    world.store = MemoryStateStore()
    await world.restart()
    assert world.appended.records == before, "no bonus is granted later"
    await world.given(request_withdrawal(5))
    await world.assert_true_of_the_log()
    await world.stop()


async def test_what_was_required_under_earlier_rules_stays_required_while_rules_ask_for_wagering() -> None:
    world = await World(1, MemoryStateStore(), rules=RULES).start()
    await world.given(open_wallet(), deposit(100))
    world.options["rules"] = book(INR={"wagering": {"deposit": 3}})
    await world.restart()
    assert (await world.refused(request_withdrawal(5))).fields == {"remaining": 145}
    await world.given(deposit(10, "o2"))
    assert (await world.refused(request_withdrawal(5))).fields == {"remaining": 175}
    await world.stop()


async def test_a_bonus_and_a_referral_of_one_cause_both_arrive_after_a_restart_without_state() -> None:
    """The replay must not take the bonus for the arrival of the follow-up that its cause sends."""
    world = await World(4, MemoryStateStore(), rules=RULES).start()
    assert partition_of("u2", 4) != partition_of("u1", 4)
    await world.given(open_wallet())
    delivered = world.node.writers[partition_of("u1", 4)]
    delivered.receive = lambda *_: None  # type: ignore[method-assign]  # lost on its way
    await world.accepted(open_wallet("u2", referrer_id="u1"))
    world.store = MemoryStateStore()
    await world.restart()
    await world.quiet()
    assert world.types("u1") == ["wallet_opened", "bonus_granted", "referral_counted"]
    await world.stop()
