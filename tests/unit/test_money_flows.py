"""The money flows by the rules: bonuses of the ledger's own, attendance, wagering, bounds of withdrawals."""

import json
from typing import Any

import pytest

from ledger.core.bet_events import BetPlaced
from ledger.core.bonus_events import AttendanceClaimed, BonusExpired, BonusGranted
from ledger.core.commands import Command
from ledger.core.events import Balance, Deposited, Event, WithdrawalRequested
from ledger.core.games.rules import BUILT_IN, RuleBook, book_of, read_rules
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from ledger.core.wallet import DAY_US, Wagering
from unit.given import (
    ASSETS,
    SECOND_US,
    Scene,
    adjust,
    cancel_bet,
    claim_attendance,
    close_wallet,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    reject_withdrawal,
    request_withdrawal,
    reverse,
    set_limits,
    settle_bet,
)


def book(**of_asset: Any) -> RuleBook:
    """The built-in games, and the money flows of each asset."""
    return book_of(BUILT_IN.games, money=read_rules(json.dumps({"money": of_asset}), ASSETS).money)


def scene_of(**inr: Any) -> Scene:
    """No wallet yet; these rules of INR."""
    scene = Scene()
    scene.rules = book(INR=inr)
    return scene


def grants_of(scene: Scene, kind: str, user_id: str = "u1") -> list[tuple[str, str, int]]:
    return [
        (event.data.grant_id, event.data.asset, event.data.amount)
        for event in scene.events_of(user_id)
        if isinstance(event.data, BonusGranted) and event.data.kind == kind
    ]


def expired(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.data.grant_id, event.data.amount) for event in events if isinstance(event.data, BonusExpired)]


# --- registration ------------------------------------------------------------------------------------------------


def test_a_new_wallet_gets_the_registration_bonus_of_each_asset_that_has_one() -> None:
    scene = Scene()
    scene.rules = book(USDT={"registration": 7}, INR={"registration": 2500}, GOLD={"attendance": [1]})
    opened = scene.when(open_wallet())
    assert scene.types_of() == ["wallet_opened", "bonus_granted", "bonus_granted"]
    assert grants_of(scene, "registration") == [("~registration:1", "INR", 2500), ("~registration:2", "USDT", 7)]
    granted = scene.events[1]
    assert granted.data == BonusGranted(
        amount=2500,
        asset="INR",
        cause=scene.position(opened),
        grant_id="~registration:1",
        kind="registration",
        rules=scene.rules.money_digest,
    )
    assert (granted.command_id, granted.actor, granted.request_sha256) == ("~own:2", "ledger", "0" * 64)
    assert granted.time_us == opened.time_us
    assert granted.postings == (("house/bonuses", "INR", -2500), ("wallet/u1/bonus", "INR", 2500))
    assert scene.balance() == Balance(0, 2500, 0)


def test_a_wallet_that_is_opened_without_rules_gets_nothing_later() -> None:
    scene = Scene().given(open_wallet())
    scene.rules = book(INR={"registration": 2500})
    scene.given(deposit(100))
    assert scene.types_of() == ["wallet_opened", "deposited"]


# --- first deposit -----------------------------------------------------------------------------------------------

LADDER = [[10_000, 2_000], [30_000, 6_000]]


@pytest.mark.parametrize(
    ("amount", "bonus"),
    [(9_999, None), (10_000, 2_000), (29_999, 2_000), (30_000, 6_000), (AMOUNT_MAX - 6_000, 6_000)],
)
def test_the_first_deposit_gets_the_bonus_of_the_largest_step_that_it_reaches(amount: int, bonus: int | None) -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), deposit(amount))
    assert grants_of(scene, "first_deposit") == ([] if bonus is None else [("~first_deposit:1", "INR", bonus)])


def test_only_the_first_deposit_of_a_wallet_gets_a_bonus_whatever_came_of_it() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), deposit(5), deposit(30_000, "o2"))
    assert grants_of(scene, "first_deposit") == []
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), deposit(5, asset="GOLD"), deposit(30_000, "o2"))
    assert grants_of(scene, "first_deposit") == []
    scene = scene_of(first_deposit=LADDER).given(open_wallet())
    first = scene.when(deposit(5))
    scene.given(reverse(scene.position(first)), deposit(30_000, "o2"))
    assert grants_of(scene, "first_deposit") == []


@pytest.mark.parametrize("bonus", [300, 0])
def test_a_first_deposit_whose_command_has_a_bonus_gets_none_by_the_rules(bonus: int) -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), deposit(10_000, bonus=bonus))
    assert scene.balance() == Balance(10_000, bonus, 0)
    assert grants_of(scene, "first_deposit") == []
    scene.given(deposit(10_000, "o2"))
    assert grants_of(scene, "first_deposit") == [], "it was the first deposit all the same"


@pytest.mark.parametrize(("room", "bonus"), [(2_000, 2_000), (1_999, 1_999), (1, 1), (0, None)])
def test_a_bonus_that_the_wallet_has_no_room_for_is_cut_or_left_out_and_the_deposit_is_accepted(
    room: int, bonus: int | None
) -> None:
    scene = scene_of(first_deposit=[[10_000, 2_000]]).given(open_wallet(), adjust(AMOUNT_MAX - 10_000 - room))
    scene.given(deposit(10_000))
    assert grants_of(scene, "first_deposit") == ([] if bonus is None else [("~first_deposit:1", "INR", bonus)])
    assert scene.balance().cash == AMOUNT_MAX - room


def test_money_that_may_be_returned_leaves_no_room_for_a_bonus() -> None:
    scene = scene_of(first_deposit=[[10_000, 2_000]]).given(open_wallet(), adjust(AMOUNT_MAX - 10_001))
    scene.given(place_bet(AMOUNT_MAX - 10_001), deposit(10_000))
    assert grants_of(scene, "first_deposit") == [("~first_deposit:1", "INR", 1)]


def test_balance_max_refuses_no_bonus_of_the_ledgers_own() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), set_limits(balance_max=10_000), deposit(10_000))
    assert scene.balance() == Balance(10_000, 2_000, 0)


def test_a_first_deposit_is_reversed_only_after_its_bonus() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet())
    first = scene.when(deposit(10_000))
    bonus_at = scene.position(scene.events[-1])
    refused = scene.refused(reverse(scene.position(first)))
    assert (refused.code, refused.fields) == (Code.CANNOT_REVERSE, {"position": bonus_at})
    assert f"reverse its bonus at {bonus_at} first" in refused.detail
    scene.given(reverse(bonus_at), reverse(scene.position(first)))
    assert scene.balance() == Balance(0, 0, 0)
    assert scene.total("house/bonuses") == scene.total("house/deposits") == 0


@pytest.mark.parametrize(
    "used",
    [
        [place_bet(1, spend="bonus_first"), settle_bet(0)],
        [place_bet(2_000, spend="bonus_first"), settle_bet(0)],
        [place_bet(1, spend="bonus_first")],
        [place_bet(2_000, spend="bonus_first")],
        [place_bet(2_000, spend="bonus_first"), settle_bet(2_000)],
    ],
    ids=["spent in part", "spent", "staked in part", "staked", "won back"],
)
def test_a_first_deposit_whose_bonus_was_used_is_not_reversed(used: list[Command]) -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet())
    first = scene.position(scene.when(deposit(10_000)))
    bonus_at = scene.position(scene.events[-1])
    scene.given(*used, deposit(10_000, "o2"))
    assert scene.refused(reverse(bonus_at)).code is Code.CANNOT_REVERSE
    refused = scene.refused(reverse(first))
    assert (refused.code, refused.fields) == (Code.CANNOT_REVERSE, {"position": bonus_at})
    assert "take the amount back with adjust" in refused.detail
    assert f"reverse its bonus at {bonus_at} first" not in refused.detail
    assert scene.total("house/deposits") == -20_000
    scene.given(adjust(-10_000))
    assert scene.balance().cash == 10_000


def test_a_cancelled_bet_brings_no_bonus_of_a_reversed_deposit_back() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet())
    first = scene.position(scene.when(deposit(10_000)))
    bonus_at = scene.position(scene.events[-1])
    scene.given(place_bet(2_000, spend="bonus_first"))
    assert scene.refused(reverse(first)).code is Code.CANNOT_REVERSE
    scene.given(cancel_bet())
    assert f"reverse its bonus at {bonus_at} first" in scene.refused(reverse(first)).detail
    scene.given(reverse(bonus_at), reverse(first))
    assert scene.balance() == Balance(0, 0, 0)
    assert scene.total("house/bonuses") == scene.total("house/deposits") == 0


@pytest.mark.parametrize("spent", [0, 500])
def test_a_first_deposit_whose_bonus_has_expired_is_not_reversed(spent: int) -> None:
    scene = scene_of(first_deposit=LADDER, bonus_expires_after_s=60).given(open_wallet())
    first = scene.position(scene.when(deposit(10_000)))
    bonus_at = scene.position(scene.events[-1])
    if spent:
        scene.given(place_bet(spent, spend="bonus_first"))
    scene.now_us += 60 * SECOND_US
    assert expired(scene.tick()) == [("~first_deposit:1", 2_000 - spent)]
    refused = scene.refused(reverse(first))
    assert (refused.code, refused.fields) == (Code.CANNOT_REVERSE, {"position": bonus_at})
    assert "take the amount back with adjust" in refused.detail


def test_a_first_deposit_that_led_to_no_bonus_can_be_reversed_whatever_follows_it() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet())
    first = scene.position(scene.when(deposit(9_999)))
    scene.given(grant_bonus(5), place_bet(5, spend="bonus_first"), reverse(first))
    assert scene.balance() == Balance(0, 0, 0)


def test_a_later_deposit_can_be_reversed_while_the_first_ones_bonus_is_there() -> None:
    scene = scene_of(first_deposit=LADDER).given(open_wallet(), deposit(10_000))
    later = scene.when(deposit(50, "o2"))
    scene.given(reverse(scene.position(later)))
    assert scene.balance() == Balance(10_000, 2_000, 0)


# --- expiry of the ledger's own bonuses ----------------------------------------------------------------------------


def test_the_ledgers_own_bonuses_expire_by_the_rules_and_those_of_commands_do_not() -> None:
    scene = scene_of(registration=100, first_deposit=[[10, 30]], attendance=[5], bonus_expires_after_s=60)
    scene.given(open_wallet(), deposit(10), deposit(1, "o2", bonus=1), grant_bonus(2), claim_attendance())
    assert {grant.grant_id: grant.expires_at_us for grant in scene.wallet().grants} == {
        "o2": None,
        "g1": None,
        "~registration:1": scene.now_us + 60 * SECOND_US,
        "~first_deposit:1": scene.now_us + 60 * SECOND_US,
        "~attendance:1": scene.now_us + 60 * SECOND_US,
    }
    scene.now_us += 60 * SECOND_US
    assert expired(scene.tick()) == [("~registration:1", 100), ("~first_deposit:1", 30), ("~attendance:1", 5)]
    assert scene.balance() == Balance(11, 3, 0)


# --- attendance --------------------------------------------------------------------------------------------------


def test_attendance_grows_with_the_days_in_a_row_and_begins_again_after_the_last() -> None:
    scene = scene_of(attendance=[7, 20, 100]).given(open_wallet())
    claimed = []
    for _ in range(5):
        scene.when(claim_attendance())
        data = scene.last(AttendanceClaimed)
        claimed.append((data.day, data.streak, data.amount, data.grant_id))
        scene.now_us += DAY_US
    assert claimed == [
        ("2024-10-04", 1, 7, "~attendance:1"),
        ("2024-10-05", 2, 20, "~attendance:2"),
        ("2024-10-06", 3, 100, "~attendance:3"),
        ("2024-10-07", 1, 7, "~attendance:4"),
        ("2024-10-08", 2, 20, "~attendance:5"),
    ]
    assert scene.balance() == Balance(0, 154, 0)
    assert scene.total("house/bonuses") == -154


def test_after_a_missed_day_the_streak_begins_at_1() -> None:
    scene = scene_of(attendance=[7, 20]).given(open_wallet(), claim_attendance())
    scene.now_us += 2 * DAY_US
    scene.when(claim_attendance())
    assert scene.last(AttendanceClaimed).streak == 1


def test_a_day_is_the_utc_day_and_is_claimed_once() -> None:
    scene = scene_of(attendance=[7, 20]).given(open_wallet())
    midnight = (scene.now_us // DAY_US + 1) * DAY_US
    scene.now_us = midnight - 1
    scene.when(claim_attendance())
    assert scene.refused(claim_attendance()).code is Code.ALREADY_CLAIMED
    scene.now_us = midnight
    scene.when(claim_attendance())
    assert scene.last(AttendanceClaimed).streak == 2
    assert scene.refused(claim_attendance()).code is Code.ALREADY_CLAIMED


def test_each_asset_has_its_own_attendance() -> None:
    scene = Scene()
    scene.rules = book(INR={"attendance": [7]}, USDT={"attendance": [9]})
    scene.given(open_wallet(), claim_attendance(), claim_attendance("USDT"))
    assert scene.refused(claim_attendance("GOLD")).code is Code.NOT_ELIGIBLE
    assert scene.last(AttendanceClaimed).grant_id == "~attendance:2", "the ids are the wallet's"


def test_attendance_needs_deposits_in_its_asset_that_were_not_reversed() -> None:
    scene = scene_of(attendance=[7], attendance_needs_deposit=100).given(open_wallet())
    scene.given(deposit(500, asset="GOLD"), deposit(60, "o2"))
    assert scene.refused(claim_attendance()).fields == {"needs_deposit": 100, "deposited": 60}
    more = scene.when(deposit(40, "o3"))
    scene.given(reverse(scene.position(more)))
    assert scene.refused(claim_attendance()).code is Code.NOT_ELIGIBLE
    scene.given(deposit(40, "o4"), claim_attendance())


def test_attendance_needs_its_deposit_on_the_day_of_the_claim() -> None:
    scene = scene_of(attendance=[7, 20], attendance_needs_deposit=100).given(open_wallet())
    old = scene.position(scene.when(deposit(100)))
    scene.given(claim_attendance())
    scene.now_us += DAY_US
    assert scene.refused(claim_attendance()).fields == {"needs_deposit": 100, "deposited": 0}
    scene.given(deposit(100, "o2"), reverse(old))
    scene.given(claim_attendance())
    assert scene.last(AttendanceClaimed).streak == 2, "the reversed deposit is of the day before"


def test_fewer_days_in_the_rules_begin_a_longer_streak_again() -> None:
    scene = scene_of(attendance=[7, 20, 100]).given(open_wallet())
    for _ in range(2):
        scene.given(claim_attendance())
        scene.now_us += DAY_US
    scene.rules = book(INR={"attendance": [8]})
    scene.when(claim_attendance())
    assert (scene.last(AttendanceClaimed).streak, scene.last(AttendanceClaimed).amount) == (1, 8)


# --- wagering ----------------------------------------------------------------------------------------------------


def wagering_of(scene: Scene, asset: str = "INR") -> Wagering:
    return scene.wallet().wagering[asset]


def test_deposits_and_bonuses_add_what_the_rules_say_and_their_events_say_it() -> None:
    scene = scene_of(
        wagering={"deposit": 2, "bonus": 3}, registration=10, first_deposit=[[100, 5]], attendance=[1, 1]
    )
    scene.given(open_wallet(), deposit(100), deposit(1, "o2", bonus=20), grant_bonus(7), claim_attendance())
    added = [(event.data.type, getattr(event.data, "wagering", None)) for event in scene.events]
    assert added == [
        ("wallet_opened", None),
        ("bonus_granted", 30),
        ("deposited", 200),
        ("bonus_granted", 15),
        ("deposited", 62),
        ("bonus_granted", 21),
        ("attendance_claimed", 3),
    ]
    assert wagering_of(scene) == Wagering(1, 331, 0)
    assert {event.data.rules for event in scene.events if hasattr(event.data, "rules")} == {scene.rules.money_digest}


def test_an_asset_without_rules_asks_for_nothing_and_its_events_name_no_rules() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100, asset="GOLD"), deposit(5, "o2"))
    deposits = [event.data for event in scene.events if isinstance(event.data, Deposited)]
    assert [(data.wagering, data.rules is not None) for data in deposits] == [(None, False), (5, True)]
    scene.given(request_withdrawal(100, asset="GOLD"))
    assert scene.last(WithdrawalRequested).rules is None


def test_a_stake_from_cash_bonus_and_credit_counts_when_the_bet_is_placed() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), grant_bonus(50), deposit(100))
    scene.given(set_limits(credit_limit=30), place_bet(180))
    assert scene.last(BetPlaced).source.cash == 130
    assert wagering_of(scene) == Wagering(1, 100, 180)
    scene.given(settle_bet(500))
    assert wagering_of(scene) == Wagering(1, 100, 180), "the settlement counts nothing"


def test_a_withdrawal_waits_until_enough_was_staked() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100))
    scene.given(place_bet(99), settle_bet(99))
    refused = scene.refused(request_withdrawal(10))
    assert (refused.code, refused.fields) == (Code.WAGERING_INCOMPLETE, {"remaining": 1})
    scene.given(place_bet(1, "b2"), request_withdrawal(10))
    assert scene.last(WithdrawalRequested).rules == scene.rules.money_digest


def test_holds_and_transfers_do_not_wait_for_wagering() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100), hold(10))
    assert scene.balance().held == 10


def test_a_cancelled_bet_of_the_window_is_counted_no_more() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100), place_bet(60), place_bet(40, "b2"))
    assert wagering_of(scene) == Wagering(1, 100, 100)
    scene.given(cancel_bet())
    assert wagering_of(scene) == Wagering(1, 100, 40)
    assert scene.refused(request_withdrawal(10)).code is Code.WAGERING_INCOMPLETE


def test_a_deposit_after_enough_was_staked_begins_a_new_window() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100), place_bet(100), settle_bet(150))
    scene.given(deposit(30, "o2"))
    assert wagering_of(scene) == Wagering(2, 30, 0)
    scene.given(place_bet(29, "b2"), deposit(10, "o3"))
    assert wagering_of(scene) == Wagering(2, 40, 29), "not enough was staked: the same window"


def test_a_cancelled_bet_of_an_earlier_window_must_be_staked_again_in_this_one() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100), place_bet(100), deposit(300, "o2"))
    scene.given(place_bet(150, "b2"), cancel_bet("b1"))
    assert wagering_of(scene) == Wagering(2, 400, 150)


def test_a_large_deposit_is_not_freed_by_a_bet_that_is_cancelled_after_a_small_one() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(1_000_000), place_bet(1_000_000))
    scene.given(deposit(1, "o2"), cancel_bet(), place_bet(1, "b2"))
    refused = scene.refused(request_withdrawal(1_000_000))
    assert (refused.code, refused.fields["remaining"]) == (Code.WAGERING_INCOMPLETE, 1_000_000)


def test_what_was_staked_beyond_an_earlier_window_need_not_be_staked_again() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100), place_bet(70), settle_bet(500))
    scene.given(place_bet(60, "b2"), place_bet(25, "b3"), deposit(300, "o2"))
    assert wagering_of(scene) == Wagering(2, 300, 0, surplus=55)
    scene.given(cancel_bet("b3"))
    assert wagering_of(scene) == Wagering(2, 300, 0, surplus=30)
    scene.given(cancel_bet("b2"))
    assert wagering_of(scene) == Wagering(2, 330, 0), "30 of the 60 were needed"


def test_a_bet_from_before_any_wagering_counts_in_no_window() -> None:
    scene = Scene().given(open_wallet(), deposit(100), place_bet(60))
    scene.rules = book(INR={"wagering": {"deposit": 1}})
    scene.given(deposit(50, "o2"), cancel_bet())
    assert wagering_of(scene) == Wagering(1, 50, 0)


def test_a_reversal_takes_back_what_the_event_added_to_the_window() -> None:
    scene = scene_of(wagering={"deposit": 2, "bonus": 1}).given(open_wallet(), deposit(100))
    second = scene.when(deposit(50, "o2", bonus=7))
    granted = scene.when(grant_bonus(9))
    assert wagering_of(scene) == Wagering(1, 316, 0)
    scene.given(place_bet(20), reverse(scene.position(second)))
    assert wagering_of(scene) == Wagering(1, 209, 20)
    scene.given(reverse(scene.position(granted)))
    assert wagering_of(scene) == Wagering(1, 200, 20), "what the first deposit added is still required"


def test_a_reversal_of_an_earlier_windows_deposit_takes_nothing_from_this_one() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet())
    first = scene.when(deposit(100))
    scene.given(place_bet(100), settle_bet(100), deposit(30, "o2"), reverse(scene.position(first)))
    assert wagering_of(scene) == Wagering(2, 30, 0, surplus=100), "what was staked for it was not needed"


def test_the_required_stake_is_at_most_the_largest_amount() -> None:
    scene = scene_of(wagering={"deposit": 1000}).given(open_wallet(), deposit(AMOUNT_MAX - 5))
    last = scene.when(deposit(5, "o2"))
    assert wagering_of(scene) == Wagering(1, AMOUNT_MAX, 0)
    assert isinstance(last.data, Deposited)
    assert last.data.wagering is None, "there was no room for more"
    scene.given(place_bet(AMOUNT_MAX - 10), reverse(scene.position(last)))
    assert wagering_of(scene).required == AMOUNT_MAX


def test_rules_that_no_longer_ask_for_wagering_refuse_no_withdrawal() -> None:
    scene = scene_of(wagering={"deposit": 1}).given(open_wallet(), deposit(100))
    scene.rules = book(INR={"withdrawal": {"min": 5}})
    scene.given(request_withdrawal(10))


# --- bounds of withdrawals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "bound"), [(9, {"min": 10, "max": 50}), (51, {"min": 10, "max": 50})])
def test_a_withdrawal_below_the_least_or_above_the_most_is_refused(amount: int, bound: dict[str, int]) -> None:
    scene = scene_of(withdrawal={"min": 10, "max": 50}).given(open_wallet(), deposit(100))
    refused = scene.refused(request_withdrawal(amount))
    assert (refused.code, refused.fields) == (Code.WITHDRAWAL_OUT_OF_BOUNDS, bound)
    scene.given(request_withdrawal(10, "w1"), request_withdrawal(50, "w2"))


def test_withdrawals_are_counted_by_utc_day_and_asset_and_a_rejected_one_is_given_back() -> None:
    scene = Scene()
    scene.rules = book(INR={"withdrawal": {"per_day": 2}}, GOLD={"withdrawal": {"per_day": 1}})
    scene.given(open_wallet(), deposit(100), deposit(100, "o2", asset="GOLD"))
    scene.given(request_withdrawal(1, "w1"), request_withdrawal(1, "w2"), request_withdrawal(1, "w3", asset="GOLD"))
    refused = scene.refused(request_withdrawal(1, "w4"))
    assert refused.code is Code.WITHDRAWALS_PER_DAY_EXCEEDED
    assert refused.fields == {"per_day": 2, "requests_today": 2}
    scene.given(reject_withdrawal("w1"), request_withdrawal(1, "w4"))
    assert scene.refused(request_withdrawal(1, "w5")).code is Code.WITHDRAWALS_PER_DAY_EXCEEDED
    scene.now_us += DAY_US
    scene.given(reject_withdrawal("w2"), request_withdrawal(1, "w5"), request_withdrawal(1, "w6"))
    assert scene.refused(request_withdrawal(1, "w7")).code is Code.WITHDRAWALS_PER_DAY_EXCEEDED, "w2 was yesterday's"


def test_rules_can_forbid_all_withdrawals() -> None:
    scene = scene_of(withdrawal={"per_day": 0}).given(open_wallet(), deposit(100))
    assert scene.refused(request_withdrawal(1)).code is Code.WITHDRAWALS_PER_DAY_EXCEEDED


def test_a_wallet_with_a_registration_bonus_closes_once_the_bonus_is_gone() -> None:
    scene = scene_of(registration=5).given(open_wallet())
    assert scene.refused(close_wallet()).code is Code.WALLET_NOT_EMPTY
    scene.given(place_bet(5), settle_bet(0), close_wallet())
