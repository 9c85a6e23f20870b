"""A withdrawal holds its cash when it is requested; approval pays it out, rejection gives it back."""

import pytest

from ledger.core.commands import Command
from ledger.core.events import Balance, WithdrawalApproved, WithdrawalRejected, WithdrawalRequested
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    Scene,
    approve_withdrawal,
    deposit,
    grant_bonus,
    open_wallet,
    place_bet,
    reject_withdrawal,
    request_withdrawal,
    set_limits,
)


def test_a_request_moves_cash_into_held() -> None:
    scene = Scene.with_cash(1000)
    event = scene.when(request_withdrawal(400, metadata={"bank": "x"}))
    assert event.data == WithdrawalRequested(amount=400, asset="INR", metadata={"bank": "x"}, order_id="w1")
    assert event.postings == (("wallet/u1/cash", "INR", -400), ("wallet/u1/held", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600, held=400)}


def test_an_approval_pays_what_was_held() -> None:
    scene = Scene.with_cash(1000).given(request_withdrawal(400))
    event = scene.when(approve_withdrawal(reason="checked", metadata={"batch": "9"}))
    assert event.data == WithdrawalApproved(order_id="w1", reason="checked", metadata={"batch": "9"})
    assert event.postings == (("wallet/u1/held", "INR", -400), ("house/withdrawals", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600)}


def test_a_rejection_gives_the_money_back() -> None:
    scene = Scene.with_cash(1000).given(request_withdrawal(400))
    event = scene.when(reject_withdrawal(reason="wrong name"))
    assert event.data == WithdrawalRejected(order_id="w1", reason="wrong name")
    assert event.postings == (("wallet/u1/held", "INR", -400), ("wallet/u1/cash", "INR", 400))
    assert event.balances == {"INR": Balance(cash=1000)}


@pytest.mark.parametrize("first", [approve_withdrawal(), reject_withdrawal()])
@pytest.mark.parametrize("second", [approve_withdrawal(), reject_withdrawal()])
def test_a_withdrawal_is_resolved_once(first: Command, second: Command) -> None:
    scene = Scene.with_cash(1000).given(request_withdrawal(400), first)
    assert scene.refused(second).code is Code.ALREADY_RESOLVED


@pytest.mark.parametrize("order_id", ["w9", "o1"])
def test_only_a_requested_withdrawal_is_found_not_a_deposits_order(order_id: str) -> None:
    scene = Scene.with_cash(1000).given(request_withdrawal(400))
    assert scene.refused(approve_withdrawal(order_id)).code is Code.ORDER_NOT_FOUND
    assert scene.refused(reject_withdrawal(order_id)).code is Code.ORDER_NOT_FOUND


def test_an_order_of_another_wallet_is_not_found() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(request_withdrawal(400))
    assert scene.refused(approve_withdrawal(user_id="u2")).code is Code.ORDER_NOT_FOUND


@pytest.mark.parametrize("order_id", ["w1", "o1"])
def test_an_order_id_is_used_once_for_deposits_and_withdrawals_together(order_id: str) -> None:
    scene = Scene.with_cash(1000).given(request_withdrawal(400), reject_withdrawal())
    assert scene.refused(request_withdrawal(5, order_id)).code is Code.ORDER_ID_REUSED


def test_all_the_cash_can_be_withdrawn_but_not_a_unit_more() -> None:
    scene = Scene.with_cash(1000)
    rejection = scene.refused(request_withdrawal(1001))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 1000})
    scene.when(request_withdrawal(1000))


def test_bonus_and_credit_cannot_be_withdrawn() -> None:
    scene = Scene.with_cash(10).given(grant_bonus(100), set_limits(credit_limit=100))
    rejection = scene.refused(request_withdrawal(11))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 10})


def test_a_wallet_in_debt_has_nothing_to_withdraw() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=100), place_bet(60))
    assert scene.balance() == Balance(cash=-60)
    assert scene.refused(request_withdrawal(1)).fields == {"available": 0}


def test_what_is_held_for_a_withdrawal_cannot_be_staked() -> None:
    scene = Scene.with_cash(100).given(request_withdrawal(90))
    assert scene.refused(place_bet(11)).code is Code.INSUFFICIENT_FUNDS


def test_an_asset_that_is_not_declared_is_refused() -> None:
    assert Scene.with_cash().refused(request_withdrawal(5, asset="EUR")).code is Code.UNKNOWN_ASSET


def test_cash_of_another_asset_does_not_help() -> None:
    scene = Scene().given(open_wallet(), deposit(10, asset="GOLD"))
    assert scene.refused(request_withdrawal(5)).fields == {"available": 0}


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MAX + 1])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    assert Scene.with_cash().refused(request_withdrawal(amount)).code is Code.AMOUNT_OUT_OF_RANGE


def test_a_request_may_be_of_the_largest_amount() -> None:
    scene = Scene.with_cash(AMOUNT_MAX).given(request_withdrawal(AMOUNT_MAX))
    assert scene.balance() == Balance(held=AMOUNT_MAX)
