"""What is true of every event that was decided, and of its wallet after it. The round asserts it before it appends.

A replay does not: what the log has is a fact, and there damage is reported with its place.
"""

from ledger.core.bet_events import BetPlaced
from ledger.core.events import Event, WalletClosed
from ledger.core.evolve import balances_follow
from ledger.core.money import in_bounds
from ledger.core.postings import owned_or_due
from ledger.core.wallet import Wallet, balance_of, limits_of

_GRANTS_COUNTED_MAX = 32
"""A wallet may have thousands of grants; adding them up for each event would cost more than deciding it. Chosen."""


def assert_sound(before: Wallet, event: Event, after: Wallet) -> None:
    """Raises AssertionError if a rule of the core is broken. ``before`` and ``after`` are the event's wallet."""
    assert before.user_id == event.user_id == after.user_id, (event, before, after)
    assert balances_follow(before, event), (event, before)
    for asset, balance in event.balances.items():
        assert in_bounds(owned_or_due(after, asset)), (event, before)
        if balance.cash < 0 and balance.cash < balance_of(before, asset).cash:
            assert type(event.data) is BetPlaced, (event, before)  # only a bet uses credit
            assert balance.cash >= -limits_of(before, asset).credit_limit, (event, before)
        if len(after.grants) <= _GRANTS_COUNTED_MAX:
            granted = sum(grant.remaining for grant in after.grants if grant.asset == asset)
            assert balance.bonus == granted, (event, after)
    if type(event.data) is WalletClosed:
        assert after.open_items == 0, (event, after)
        for asset, balance in after.balances.items():
            assert balance.cash == balance.bonus == balance.held == 0, (event, asset, after)
