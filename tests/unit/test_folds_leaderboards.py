"""The fold of leaderboards: sums per user, asset and UTC day."""

from ledger.core.money import AMOUNT_MAX
from ledger.core.wallet import DAY_US
from projections.models.leaderboards import LOW_BITS, LeaderboardRow
from unit.given import NOON, Scene, cancel_bet, place_bet, settle_bet
from unit.read_model import rows_of

TODAY = NOON // DAY_US


def standings(scene: Scene) -> dict[int, tuple[int, int, int]]:
    """Day → (staked, won, net)."""
    return {
        row.day: (
            (row.staked_high << LOW_BITS) + row.staked_low,
            (row.won_high << LOW_BITS) + row.won_low,
            (row.net_high << LOW_BITS) + row.net_low,
        )
        for row in rows_of(scene, LeaderboardRow)
    }


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


def test_a_day_of_more_than_a_thousand_largest_stakes_is_exact() -> None:
    scene = Scene.with_cash(AMOUNT_MAX)
    for number in range(1_100):
        scene.given(place_bet(AMOUNT_MAX, f"b{number}"), settle_bet(AMOUNT_MAX, f"b{number}"))
    total = 1_100 * AMOUNT_MAX
    assert total > 2**63
    assert standings(scene) == {TODAY: (total, total, 0)}
    (row,) = rows_of(scene, LeaderboardRow)
    assert all(abs(member) < 2**63 for member in (row.staked_high, row.staked_low, row.won_high, row.won_low))
