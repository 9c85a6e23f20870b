"""``assert_sound``: what the round asserts of every decided event and of its wallet after it, before it appends."""

import pytest
from msgspec.structs import replace

from ledger.core.bet_events import BetPlaced, StakeSource
from ledger.core.events import NO_REQUEST, Balance, Deposited, Event, WalletClosed
from ledger.core.money import AMOUNT_MAX
from ledger.core.soundness import assert_sound
from ledger.core.wallet import Grant, Limits, Wallet

BEFORE = Wallet("u1", "open", balances={"INR": Balance(10)}, limits={"INR": Limits(credit_limit=5)})
DEPOSITED = Deposited(amount=3, asset="INR", first_deposit=False, order_id="o1")
BET = BetPlaced(
    asset="INR", bet_id="b1", game="external", period="p", selection="s", source=StakeSource(0, 0, ()), stake=1
)


def moved(cash: int, data: Deposited | BetPlaced = DEPOSITED, before: Wallet = BEFORE) -> tuple[Event, Wallet]:
    """An event that adds ``cash``, and the wallet after it."""
    balances = {"INR": Balance(before.balances["INR"].cash + cash)}
    postings = (("house/deposits", "INR", -cash), ("wallet/u1/cash", "INR", cash))
    return Event(0, "u1", "c1", NO_REQUEST, "local", data, postings, balances), replace(before, balances=balances)


def refuse(event: Event, after: Wallet, before: Wallet = BEFORE) -> None:
    with pytest.raises(AssertionError):
        assert_sound(before, event, after)


def test_a_deposit_and_a_bet_within_the_credit_limit_are_sound() -> None:
    for event, after in (moved(3), moved(-15, BET)):
        assert_sound(BEFORE, event, after)


def test_balances_that_are_not_the_sum_are_not() -> None:
    event, after = moved(3)
    refuse(replace(event, balances={"INR": Balance(14)}), after)


def test_an_event_of_another_wallet_is_not() -> None:
    event, after = moved(3)
    refuse(event, replace(after, user_id="u2"))


def test_only_a_bet_takes_cash_below_zero_and_only_to_its_credit_limit() -> None:
    refuse(*moved(-15))
    refuse(*moved(-16, BET))


def test_a_payment_to_a_wallet_in_debt_is_sound() -> None:
    in_debt = replace(BEFORE, balances={"INR": Balance(-8)}, limits={})
    assert_sound(in_debt, *moved(3, before=in_debt))


def test_a_wallet_beyond_the_range_of_amounts_is_not() -> None:
    event, after = moved(3)
    assert_sound(BEFORE, event, replace(after, outstanding={"INR": AMOUNT_MAX - 13}))
    refuse(event, replace(after, outstanding={"INR": AMOUNT_MAX - 12}))


def test_a_bonus_that_is_not_the_sum_of_its_grants_is_not() -> None:
    event, after = moved(3)
    refuse(event, replace(after, grants=(Grant("g1", "INR", 1, None, 1, 1, False, "0:1"),)))


def test_a_wallet_that_is_closed_with_money_or_open_items_is_not() -> None:
    closed = Event(0, "u1", "c1", NO_REQUEST, "local", WalletClosed(reason="r"), (), {})
    empty = Wallet("u1", "closed", balances={"INR": Balance()})
    assert_sound(BEFORE, closed, empty)
    refuse(closed, replace(empty, balances={"INR": Balance(1)}))
    refuse(closed, replace(empty, open_items=1))
