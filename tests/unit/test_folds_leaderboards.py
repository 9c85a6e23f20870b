"""The fold of leaderboards: sums per user, asset and UTC day."""

from collections import Counter
from datetime import date, timedelta

import pytest
from msgspec.structs import astuple

from ledger.core.money import AMOUNT_MAX
from ledger.core.wallet import DAY_US
from projections.models.leaderboards import EndedRow, StandingRow
from projections.tables.wide import LOW_BITS
from unit.given import NOON, Scene, cancel_bet, place_bet, settle_bet
from unit.read_model import rows_of

TODAY = NOON // DAY_US


def standings(scene: Scene, span: str = "day") -> dict[int, tuple[int, int, int]]:
    """First day → (staked, won, net)."""
    found = {}
    for row in (*rows_of(scene, StandingRow), *rows_of(scene, EndedRow)):
        if isinstance(row, EndedRow) and row.span != span:
            continue
        before, first_day = ("", row.first_day) if isinstance(row, EndedRow) else (f"{span}_", getattr(row, span))
        staked, won, net = (
            (getattr(row, f"{before}{measure}_high") << LOW_BITS) + getattr(row, f"{before}{measure}_low")
            for measure in ("staked", "won", "net")
        )
        assert first_day not in found
        found[first_day] = (staked, won, net)
    return found


def test_a_stake_counts_on_the_day_of_its_bet_and_a_payout_on_the_day_of_its_settlement() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"))
    scene.now_us += DAY_US
    scene.given(settle_bet(50, "b1"))
    assert standings(scene) == {TODAY: (30, 0, 0), TODAY + 1: (0, 50, 20)}


def test_a_lost_bet_is_a_negative_net() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"), settle_bet(0, "b1"))
    assert standings(scene) == {TODAY: (30, 0, -30)}


def test_a_cancelled_bet_counts_nowhere_also_where_its_day_is_over() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"), place_bet(5, "b2"))
    scene.now_us += DAY_US
    scene.given(cancel_bet("b1"), cancel_bet("b3"))
    assert standings(scene) == {TODAY: (5, 0, 0)}


@pytest.mark.system
def test_a_day_of_more_than_a_thousand_largest_stakes_is_exact() -> None:
    scene = Scene.with_cash(AMOUNT_MAX)
    for number in range(1_100):
        scene.given(place_bet(AMOUNT_MAX, f"b{number}"), settle_bet(AMOUNT_MAX, f"b{number}"))
    total = 1_100 * AMOUNT_MAX
    assert total > 2**63
    assert standings(scene) == {TODAY: (total, total, 0)}
    (row,) = rows_of(scene, StandingRow)
    assert all(abs(member) < 2**63 for member in astuple(row) if isinstance(member, int))


def test_the_days_of_a_week_and_of_a_month_are_counted_together() -> None:
    scene = Scene.with_cash(1_000)
    start = date(1970, 1, 1) + timedelta(days=TODAY)
    for number in range(40):
        scene.given(place_bet(1, f"b{number}"))
        scene.now_us += DAY_US
    days = [start + timedelta(days=number) for number in range(40)]
    weeks = Counter(day - timedelta(days=day.weekday()) for day in days)
    months = Counter(day.replace(day=1) for day in days)
    for span, firsts in (("day", Counter(days)), ("week", weeks), ("month", months)):
        expected = {(first - date(1970, 1, 1)).days: (number, 0, 0) for first, number in firsts.items()}
        assert standings(scene, span) == expected


def test_a_bet_of_an_ended_day_is_cancelled_in_its_week_that_has_not_ended() -> None:
    scene = Scene.with_cash(100)
    weekday = (date(1970, 1, 1) + timedelta(days=TODAY)).weekday()
    scene.now_us += (7 - weekday) % 7 * DAY_US  # a Monday
    monday = scene.now_us // DAY_US
    scene.given(place_bet(30, "b1"), place_bet(5, "b2"))
    scene.now_us += DAY_US
    scene.given(place_bet(7, "b3"), cancel_bet("b1"))
    assert standings(scene) == {monday: (5, 0, 0), monday + 1: (7, 0, 0)}
    assert standings(scene, "week") == {monday: (12, 0, 0)}
