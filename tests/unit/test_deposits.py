"""A deposit adds cash and maybe a bonus, which is a grant named by its order. Only one is the wallet's first."""

import pytest

from ledger.core.events import Balance, Deposited
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from ledger.core.wallet import FirstDeposit
from unit.given import (
    NOON,
    Scene,
    deposit,
    emptied,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    request_withdrawal,
    reverse,
)


def test_a_deposit_adds_cash() -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(deposit(500, "o1"))
    assert event.data == Deposited(amount=500, asset="INR", first_deposit=True, order_id="o1")
    assert event.postings == (("house/deposits", "INR", -500), ("wallet/u1/cash", "INR", 500))
    assert event.balances == {"INR": Balance(cash=500)}


def test_a_deposit_with_a_bonus_adds_both_in_one_event() -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(deposit(500, "o1", bonus=50, metadata={"psp": "x"}))
    assert event.data == Deposited(
        amount=500, asset="INR", bonus=50, first_deposit=True, metadata={"psp": "x"}, order_id="o1"
    )
    assert event.postings == (
        ("house/deposits", "INR", -500),
        ("wallet/u1/cash", "INR", 500),
        ("house/bonuses", "INR", -50),
        ("wallet/u1/bonus", "INR", 50),
    )
    assert event.balances == {"INR": Balance(cash=500, bonus=50)}


def test_a_bonus_of_zero_is_kept_as_given_and_posts_nothing() -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(deposit(500, "o1", bonus=0))
    assert event.data == Deposited(amount=500, asset="INR", bonus=0, first_deposit=True, order_id="o1")
    assert len(event.postings) == 2
    scene.when(grant_bonus(5, "o1"))


def test_only_the_first_deposit_of_a_wallet_is_its_first() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1"), deposit(700, "o2", asset="GOLD"))
    assert scene.last(Deposited).first_deposit is False
    assert scene.wallet().first_deposit == FirstDeposit("o1", "INR", 500, "3:2", NOON)


def test_a_first_deposit_that_is_reversed_stays_the_first() -> None:
    scene = Scene.with_cash(500)
    scene.given(reverse(scene.position(scene.events[-1])), deposit(1, "o2"))
    assert scene.last(Deposited).first_deposit is False


def test_assets_are_kept_apart() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1"), deposit(7, "o2", asset="GOLD"))
    assert scene.events[-1].balances == {"GOLD": Balance(cash=7)}
    assert scene.wallet().balances == {"INR": Balance(cash=500), "GOLD": Balance(cash=7)}


def test_an_order_is_deposited_once() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1"))
    assert scene.refused(deposit(500, "o1")).code is Code.ORDER_ID_REUSED


def test_a_reversed_order_is_not_deposited_again() -> None:
    scene = Scene.with_cash(500)
    scene.given(reverse(scene.position(scene.events[-1])))
    assert scene.refused(deposit(500, "o1")).code is Code.ORDER_ID_REUSED


def test_withdrawals_share_the_order_ids() -> None:
    scene = Scene.with_cash(500).given(request_withdrawal(5, "w1"))
    assert scene.refused(deposit(500, "w1")).code is Code.ORDER_ID_REUSED


def test_other_kinds_of_ids_do_not_meet_the_orders() -> None:
    Scene.with_cash(500).given(place_bet(5, "x"), deposit(5, "x"), *emptied(5, "y"), place_bet(5, "y"))


def test_an_order_of_another_wallet_is_another_order() -> None:
    Scene.with_cash(500, "u1", "u2")


def test_a_deposits_bonus_cannot_take_a_grants_name() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(5, "g1"))
    assert scene.refused(deposit(500, "g1", bonus=5)).code is Code.GRANT_ID_REUSED
    scene.when(deposit(500, "g1"))


def test_a_grant_cannot_take_the_name_of_a_deposits_bonus() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1", bonus=5))
    assert scene.refused(grant_bonus(5, "o1")).code is Code.GRANT_ID_REUSED


def test_an_asset_that_is_not_declared_is_refused() -> None:
    rejection = Scene().given(open_wallet()).refused(deposit(5, asset="EUR"))
    assert rejection.code is Code.UNKNOWN_ASSET
    assert rejection.fields == {"asset": "EUR"}


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MAX + 1, 10**30, -(10**4000)])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    rejection = Scene().given(open_wallet()).refused(deposit(amount))
    assert rejection.code is Code.AMOUNT_OUT_OF_RANGE
    assert rejection.fields == {"field": "amount"}


@pytest.mark.parametrize("bonus", [-5, AMOUNT_MAX + 1])
def test_a_bonus_outside_of_the_range_is_refused(bonus: int) -> None:
    rejection = Scene().given(open_wallet()).refused(deposit(5, bonus=bonus))
    assert rejection.code is Code.AMOUNT_OUT_OF_RANGE
    assert rejection.fields == {"field": "bonus"}


def test_a_wallet_may_own_the_largest_amount_and_no_more() -> None:
    scene = Scene().given(open_wallet(), deposit(AMOUNT_MAX, "o1"))
    assert scene.balance() == Balance(cash=AMOUNT_MAX)
    assert scene.refused(deposit(1, "o2")).code is Code.AMOUNT_OUT_OF_RANGE
    scene.when(deposit(AMOUNT_MAX, "o2", asset="GOLD"))


def test_a_bonus_counts_towards_the_largest_amount() -> None:
    scene = Scene().given(open_wallet())
    assert scene.refused(deposit(AMOUNT_MAX, bonus=1)).code is Code.AMOUNT_OUT_OF_RANGE
    scene.when(deposit(AMOUNT_MAX - 1, bonus=1))


def test_an_open_stake_counts_towards_the_largest_amount_for_it_may_come_back() -> None:
    scene = Scene().given(open_wallet(), deposit(AMOUNT_MAX, "o1"), place_bet(10))
    assert scene.refused(deposit(1, "o2")).code is Code.AMOUNT_OUT_OF_RANGE


def test_cash_bonus_and_held_all_count_towards_the_largest_amount() -> None:
    scene = Scene().given(open_wallet(), deposit(AMOUNT_MAX - 100, "o1"), grant_bonus(40), hold(50))
    assert scene.refused(deposit(61, "o2")).code is Code.AMOUNT_OUT_OF_RANGE
    scene.when(deposit(60, "o2"))
