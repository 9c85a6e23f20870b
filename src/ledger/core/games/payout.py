"""How a stake is split over the legs of a selection, what fee is taken, and what each leg pays. Exact integers.

Invariants:
(1) the parts of a stake add up to the stake;
(2) each leg is settled alone: its fee is floor(its stake × fee_bp ÷ 10,000), its payout
    floor((its stake − fee) × odds ÷ 100); those of a bet are the sums of its legs'.
"""

from functools import lru_cache
from typing import NamedTuple

from ledger.core.games.catalog import KINDS
from ledger.core.games.tables import PayTable

SELECTION_MAX = 128


class PaidLeg(NamedTuple):
    """A leg as the event of a settlement has it."""

    leg: str
    stake: int
    payout: int


@lru_cache(maxsize=4_096)
def legs_of(rules: str, selection: str) -> tuple[str, ...] | None:
    """The legs of a selection: joined by ``+``, without repeats. None if it is not one of these rules."""
    legs = tuple(selection.split("+"))
    known = KINDS[rules].legs
    if len(selection) > SELECTION_MAX or len(set(legs)) != len(legs) or not known.issuperset(legs):
        return None
    return legs


def split(stake: int, legs: int) -> list[int]:
    """The stake of each leg: equal parts, and the remainder one unit each to the first."""
    part, rest = divmod(stake, legs)
    parts = [part + (at < rest) for at in range(legs)]
    assert sum(parts) == stake, (stake, legs)
    return parts


def _fee(stake: int, fee_bp: int) -> int:
    return stake * fee_bp // 10_000


def fee_of(table: PayTable, stake: int, legs: int) -> int:
    """The fee of a bet on so many legs."""
    return sum(_fee(part, table.fee_bp) for part in split(stake, legs))


def expected_payout(table: PayTable, selection: str, stake: int) -> int:
    """What a bet pays on average over all results, times their number (``KindOfGame.results``): an exact integer."""
    kind = KINDS[table.rules]
    legs = legs_of(table.rules, selection)
    assert legs is not None, selection
    return sum(
        _payout(part, table, won) * results
        for leg, part in zip(legs, split(stake, len(legs)), strict=True)
        for won, results in kind.wins_on(leg).items()
    )


def _payout(part: int, table: PayTable, won: str) -> int:
    fee = _fee(part, table.fee_bp)
    assert 0 <= fee <= part, (part, table)
    return (part - fee) * table.odds[won] // 100


@lru_cache(maxsize=4_096)
def _wins_of(rules: str, selection: str, result: str) -> tuple[tuple[str, str | None], ...]:
    """Each leg of a selection, and the kind of odds that it wins on the result, or None."""
    kind, legs = KINDS[rules], legs_of(rules, selection)
    assert legs is not None, selection
    assert kind.is_result(result), result
    return tuple((leg, kind.wins(leg, result)) for leg in legs)


def pay_legs(table: PayTable, selection: str, stake: int, result: str) -> tuple[PaidLeg, ...]:
    """What each leg of a bet pays on the result."""
    legs = _wins_of(table.rules, selection, result)
    return tuple(
        PaidLeg(leg, part, _payout(part, table, won) if won is not None else 0)
        for (leg, won), part in zip(legs, split(stake, len(legs)), strict=True)
    )
