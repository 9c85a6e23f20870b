"""``balances_follow``: an event's balances are its wallet's before it, plus its postings."""

import pytest

from ledger.core.bet_events import BetSettled
from ledger.core.events import (
    NO_REQUEST,
    Balance,
    Event,
    Posting,
)
from ledger.core.evolve import balances_follow
from ledger.core.wallet import Wallet

BEFORE = Wallet("u1", "open", balances={"INR": Balance(10, 5, 1), "USD": Balance(7)})
PAYOUT: Posting = ("house/payouts", "INR", -3)


def follow(*postings: Posting, wallet: Wallet = BEFORE, **balances: Balance) -> bool:
    data = BetSettled(bet_id="b1", payout=0)
    return balances_follow(wallet, Event(0, "u1", "c1", NO_REQUEST, "local", data, postings, balances))


@pytest.mark.parametrize(
    ("bucket", "after"), [("cash", Balance(13, 5, 1)), ("bonus", Balance(10, 8, 1)), ("held", Balance(10, 5, 4))]
)
def test_balances_that_are_the_sum_follow(bucket: str, after: Balance) -> None:
    posting = (f"wallet/u1/{bucket}", "INR", 3)
    assert follow(PAYOUT, posting, INR=after)
    assert not follow(PAYOUT, posting, INR=BEFORE.balances["INR"])
    for wrong in (Balance(after.cash + 1, after.bonus, after.held), Balance(after.cash, after.bonus + 1, after.held)):
        assert not follow(PAYOUT, posting, INR=wrong)


def test_a_first_event_of_an_asset_begins_at_zero() -> None:
    assert follow(PAYOUT, ("wallet/u1/cash", "INR", 3), wallet=Wallet("u1", "open"), INR=Balance(3))
    assert not follow(PAYOUT, ("wallet/u1/cash", "INR", 3), wallet=Wallet("u1", "open"), INR=Balance(13, 5, 1))


def test_an_event_without_postings_has_no_balances() -> None:
    assert follow()
    assert not follow(INR=BEFORE.balances["INR"])


def test_an_event_with_postings_has_the_balance_of_their_asset_and_no_other() -> None:
    posting = ("wallet/u1/cash", "INR", 3)
    assert not follow(PAYOUT, posting)
    assert not follow(PAYOUT, posting, USD=Balance(10))
    assert not follow(PAYOUT, posting, INR=Balance(13, 5, 1), USD=Balance(7))


def test_the_money_of_another_wallet_or_of_a_second_asset_does_not_follow() -> None:
    assert not follow(PAYOUT, ("wallet/u11/cash", "INR", 3), INR=Balance(13, 5, 1))
    both = (PAYOUT, ("wallet/u1/cash", "INR", 3), ("house/payouts", "USD", -1), ("wallet/u1/cash", "USD", 1))
    assert not follow(*both, INR=Balance(13, 5, 1))
