"""Limits of a wallet, by asset: what they refuse, what they allow, and how they change."""

from typing import Any

import pytest

from ledger.core.commands import Command
from ledger.core.events import Balance, LimitsSet
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from ledger.core.wallet import DAY_US, Limits, limits_of
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_withdrawal,
    cancel_bet,
    capture_hold,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    reject_withdrawal,
    release_hold,
    request_withdrawal,
    set_limits,
    settle_bet,
    transfer,
)

MIDNIGHT = (NOON // DAY_US + 1) * DAY_US


def limits(scene: Scene, asset: str = "INR") -> Limits:
    return limits_of(scene.wallet(), asset)


# --- setting


def test_a_wallet_has_no_credit_and_no_other_limit_by_default() -> None:
    assert limits(Scene().given(open_wallet())) == Limits(0, None, None, None)


def test_limits_are_set_together_or_one_by_one() -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(
        set_limits(credit_limit=1, balance_max=2, stake_max_per_day=3, withdrawal_max_per_day=4, metadata={"k": "v"})
    )
    assert event.data == LimitsSet(
        asset="INR",
        balance_max=2,
        credit_limit=1,
        metadata={"k": "v"},
        stake_max_per_day=3,
        withdrawal_max_per_day=4,
    )
    assert (event.postings, event.balances) == ((), {})
    assert limits(scene) == Limits(1, 2, 3, 4)
    scene.given(set_limits(balance_max=20))
    assert limits(scene) == Limits(1, 20, 3, 4)


def test_an_absent_limit_is_unchanged_and_null_is_the_default() -> None:
    scene = Scene().given(
        open_wallet(),
        set_limits(credit_limit=1, balance_max=2, stake_max_per_day=3, withdrawal_max_per_day=4),
        set_limits(credit_limit=None, stake_max_per_day=None),
    )
    assert scene.last(LimitsSet) == LimitsSet(asset="INR", credit_limit=None, stake_max_per_day=None)
    assert limits(scene) == Limits(0, 2, None, 4)


def test_setting_nothing_is_accepted() -> None:
    scene = Scene().given(open_wallet(), set_limits())
    assert scene.last(LimitsSet) == LimitsSet(asset="INR")
    assert "INR" in scene.wallet().limits


def test_limits_of_one_asset_leave_the_others() -> None:
    scene = Scene().given(open_wallet(), set_limits(balance_max=2))
    assert limits(scene, "GOLD") == Limits()
    scene.when(deposit(3, asset="GOLD"))


def test_limits_of_an_undeclared_asset_are_refused() -> None:
    assert Scene().given(open_wallet()).refused(set_limits(asset="EUR")).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("name", ["credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day"])
def test_a_limit_is_zero_to_the_largest_amount(name: str) -> None:
    def limited_to(value: int) -> Command:
        limit: dict[str, Any] = {name: value}
        return set_limits(**limit)

    scene = Scene().given(open_wallet(), limited_to(0), limited_to(AMOUNT_MAX))
    for value in (-1, AMOUNT_MAX + 1):
        rejection = scene.refused(limited_to(value))
        assert (rejection.code, rejection.fields) == (Code.AMOUNT_OUT_OF_RANGE, {"field": name})


def test_lowering_a_limit_moves_no_money() -> None:
    scene = Scene.with_cash(100).given(set_limits(credit_limit=50), place_bet(130), set_limits(credit_limit=0))
    assert scene.balance() == Balance(cash=-30)
    scene.given(deposit(50, "o2"), set_limits(balance_max=0))
    assert scene.balance() == Balance(cash=20)


# --- balance_max


@pytest.mark.parametrize(
    "command",
    [deposit(41, "o2"), deposit(40, "o2", bonus=1), grant_bonus(41), adjust(41)],
    ids=["a deposit", "a deposit's bonus", "a grant", "an adjustment"],
)
def test_balance_max_refuses_what_comes_in(command: Command) -> None:
    scene = Scene.with_cash(60).given(set_limits(balance_max=100))
    rejection = scene.refused(command)
    assert rejection.code is Code.BALANCE_MAX_EXCEEDED
    assert rejection.fields == {"balance_max": 100, "balance_after": 101}


@pytest.mark.parametrize(
    "command", [deposit(40, "o2"), deposit(30, "o2", bonus=10), grant_bonus(40), adjust(40), adjust(-1)]
)
def test_a_balance_may_reach_its_maximum(command: Command) -> None:
    Scene.with_cash(60).given(set_limits(balance_max=100), command)


def test_balance_max_counts_cash_bonus_and_held_but_not_open_stakes() -> None:
    scene = Scene.with_cash(60).given(set_limits(balance_max=100), grant_bonus(20), hold(50))
    assert scene.refused(deposit(21, "o2")).code is Code.BALANCE_MAX_EXCEEDED
    scene.given(place_bet(10), deposit(30, "o2"))


def test_a_balance_max_of_zero_lets_nothing_in() -> None:
    scene = Scene().given(open_wallet(), set_limits(balance_max=0))
    assert scene.refused(deposit(1)).code is Code.BALANCE_MAX_EXCEEDED


def test_balance_max_never_refuses_a_payout_or_a_return() -> None:
    scene = Scene.with_cash(100).given(
        *(place_bet(10, "b1"), place_bet(10, "b2"), hold(10, "h1"), hold(10, "h2")),
        *(hold(10, "h3", expires_at_us=NOON + SECOND_US), request_withdrawal(10), transfer(10, "unopened")),
        set_limits(balance_max=0),
        *(settle_bet(500, "b1"), cancel_bet("b2"), release_hold("h1"), capture_hold("h2", 1), reject_withdrawal()),
    )
    scene.now_us = NOON + SECOND_US
    scene.deliver_all()
    scene.tick()
    assert scene.balance() == Balance(cash=100 - 10 + 500 - 1)


# --- stake_max_per_day


def test_stakes_of_a_day_reach_the_maximum_and_no_further() -> None:
    scene = Scene.with_cash(1000).given(set_limits(stake_max_per_day=100), place_bet(60, "b1"))
    rejection = scene.refused(place_bet(41, "b2"))
    assert rejection.code is Code.STAKE_MAX_EXCEEDED
    assert rejection.fields == {"stake_max_per_day": 100, "staked_today": 60}
    scene.when(place_bet(40, "b3"))
    assert scene.refused(place_bet(1, "b4")).code is Code.STAKE_MAX_EXCEEDED


def test_stakes_from_bonus_and_credit_count_too() -> None:
    scene = Scene.with_cash(10).given(
        set_limits(stake_max_per_day=30, credit_limit=100), grant_bonus(10), place_bet(30, "b1")
    )
    assert scene.refused(place_bet(1, "b2")).code is Code.STAKE_MAX_EXCEEDED


def test_stakes_count_from_before_the_limit_was_set() -> None:
    scene = Scene.with_cash(1000).given(place_bet(60, "b1"), set_limits(stake_max_per_day=100))
    assert scene.refused(place_bet(41, "b2")).code is Code.STAKE_MAX_EXCEEDED


def test_a_settled_bet_still_counts_and_a_cancelled_one_does_not() -> None:
    scene = Scene.with_cash(1000).given(set_limits(stake_max_per_day=100), place_bet(60, "b1"), settle_bet(0, "b1"))
    assert scene.refused(place_bet(41, "b2")).code is Code.STAKE_MAX_EXCEEDED
    scene.given(place_bet(40, "b3"), cancel_bet("b3"), place_bet(40, "b4"))
    assert scene.refused(place_bet(1, "b5")).code is Code.STAKE_MAX_EXCEEDED


def test_a_new_day_begins_at_midnight_utc() -> None:
    scene = Scene.with_cash(1000).given(set_limits(stake_max_per_day=100), place_bet(100, "b1"))
    scene.now_us = MIDNIGHT - 1
    assert scene.refused(place_bet(1, "b2")).code is Code.STAKE_MAX_EXCEEDED
    scene.now_us = MIDNIGHT
    scene.when(place_bet(100, "b3"))


def test_a_bet_cancelled_on_a_later_day_gives_back_to_its_own_day_only() -> None:
    scene = Scene.with_cash(1000).given(set_limits(stake_max_per_day=100), place_bet(100, "b1"))
    scene.now_us = MIDNIGHT
    scene.given(place_bet(100, "b2"), cancel_bet("b1"))
    assert scene.refused(place_bet(1, "b3")).code is Code.STAKE_MAX_EXCEEDED


def test_stakes_of_another_asset_count_apart() -> None:
    scene = Scene.with_cash(1000).given(deposit(100, "o2", asset="GOLD"), set_limits(stake_max_per_day=100))
    scene.given(place_bet(100, "b1", asset="GOLD"), place_bet(100, "b2"))


def test_a_stake_max_of_zero_allows_no_bet() -> None:
    scene = Scene.with_cash(1000).given(set_limits(stake_max_per_day=0))
    assert scene.refused(place_bet(1)).code is Code.STAKE_MAX_EXCEEDED


# --- withdrawal_max_per_day


def test_requests_of_a_day_reach_the_maximum_and_no_further() -> None:
    scene = Scene.with_cash(1000).given(set_limits(withdrawal_max_per_day=100), request_withdrawal(60, "w1"))
    rejection = scene.refused(request_withdrawal(41, "w2"))
    assert rejection.code is Code.WITHDRAWAL_MAX_EXCEEDED
    assert rejection.fields == {"withdrawal_max_per_day": 100, "requested_today": 60}
    scene.when(request_withdrawal(40, "w3"))
    assert scene.refused(request_withdrawal(1, "w4")).code is Code.WITHDRAWAL_MAX_EXCEEDED


def test_an_approved_withdrawal_still_counts_and_a_rejected_one_does_not() -> None:
    scene = Scene.with_cash(1000).given(
        set_limits(withdrawal_max_per_day=100), request_withdrawal(100, "w1"), approve_withdrawal("w1")
    )
    assert scene.refused(request_withdrawal(1, "w2")).code is Code.WITHDRAWAL_MAX_EXCEEDED
    scene.now_us = MIDNIGHT
    scene.given(request_withdrawal(100, "w3"), reject_withdrawal("w3"), request_withdrawal(100, "w4"))


def test_a_request_counts_for_its_own_day_not_for_that_of_its_approval() -> None:
    scene = Scene.with_cash(1000).given(set_limits(withdrawal_max_per_day=100), request_withdrawal(100, "w1"))
    scene.now_us = MIDNIGHT
    scene.given(approve_withdrawal("w1"), request_withdrawal(100, "w2"))


def test_a_request_rejected_on_a_later_day_gives_back_to_its_own_day_only() -> None:
    scene = Scene.with_cash(1000).given(set_limits(withdrawal_max_per_day=100), request_withdrawal(100, "w1"))
    scene.now_us = MIDNIGHT
    scene.given(request_withdrawal(100, "w2"), reject_withdrawal("w1"))
    assert scene.refused(request_withdrawal(1, "w3")).code is Code.WITHDRAWAL_MAX_EXCEEDED


def test_stakes_and_withdrawals_count_apart() -> None:
    scene = Scene.with_cash(1000).given(set_limits(withdrawal_max_per_day=100, stake_max_per_day=100))
    scene.given(request_withdrawal(100), place_bet(100))


def test_holds_and_transfers_do_not_count() -> None:
    scene = Scene.with_cash(1000).given(set_limits(withdrawal_max_per_day=0, stake_max_per_day=0))
    scene.given(hold(100), transfer(100))
