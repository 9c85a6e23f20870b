"""Shared by the functions of ``evolve``: what they read, and the changes of a wallet that several of them make.

Each function changes ``after``, the copy of the wallet that ``evolve`` made.
"""

from bisect import insort
from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ledger.core.events import Event
from ledger.core.items import (
    Bet,
    Gift,
    Hold,
    Items,
    Order,
    Proposal,
    Reversible,
    SentTransfer,
)
from ledger.core.position import Position
from ledger.core.wallet import (
    DayCount,
    Grant,
    Wallet,
    running_grant,
    spending_order,
)

ItemT = TypeVar("ItemT", Order, Bet, Hold, SentTransfer, Proposal, Reversible, Gift)


class Step(Struct, gc=False):
    """What the function of an event type reads besides the event's data."""

    items: Items
    event: Event
    position: Position


def add_outstanding(after: Wallet, asset: str, amount: int) -> None:
    total = after.outstanding.get(asset, 0) + amount
    assert total >= 0, after
    after.outstanding = {**after.outstanding, asset: total}


def add_to_grant(after: Wallet, addition: Grant) -> None:
    """Add bonus to a grant. A running grant grows; one that is used up or has expired runs again."""
    running = running_grant(after, addition.grant_id)
    if running is not None:
        addition = replace(
            running,
            remaining=running.remaining + addition.remaining,
            won=running.won or addition.won,
            cause=addition.cause,
        )
    others = [grant for grant in after.grants if grant.grant_id != addition.grant_id]
    insort(others, addition, key=spending_order)
    after.grants = tuple(others)


def take_from_grants(after: Wallet, amounts: Mapping[str, int]) -> None:
    grants = list(after.grants)
    at = 0
    missing = {grant_id for grant_id, amount in amounts.items() if amount}
    # The grants that expire or are spent come first, so the loop ends early in a wallet of many grants.
    while missing and at < len(grants):
        grant = grants[at]
        amount = amounts.get(grant.grant_id, 0)
        assert amount <= grant.remaining, (after, amounts)
        missing.discard(grant.grant_id)
        if amount and amount == grant.remaining:
            del grants[at]
            continue
        if amount:
            grants[at] = replace(grant, remaining=grant.remaining - amount)
        at += 1
    after.grants = tuple(grants)


def count_day(
    after: Wallet, asset: str, day: int, *, staked: int = 0, withdrawn: int = 0, deposited: int = 0
) -> None:
    """Add to the counts of ``day``; the counts of an earlier day are not needed any more."""
    count = after.days.get(asset)
    if count is None or count.day < day:
        count = DayCount(day)
    elif count.day > day:
        return
    requests = (withdrawn > 0) - (withdrawn < 0)
    counted = DayCount(
        day,
        count.staked + staked,
        count.withdrawn + withdrawn,
        count.requests + requests,
        count.deposited + deposited,
    )
    after.days = {**after.days, asset: counted}


def existing(items: Items, key: str, kind: type[ItemT]) -> ItemT:
    """The item under ``key``, which exists and is of ``kind``: ``decide`` has checked it."""
    item = items[key]
    assert isinstance(item, kind), (key, item)
    return item
