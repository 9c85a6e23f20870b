"""The fold of statistics: bets per asset and game, and per asset what came in, went out and was given."""

from typing import Any

from projections.models.statistics import StatisticsRow
from unit.given import (
    Scene,
    adjust,
    approve_withdrawal,
    cancel_bet,
    deposit,
    grant_bonus,
    open_wallet,
    place_bet,
    reject_withdrawal,
    request_withdrawal,
    reverse,
    settle_bet,
)
from unit.read_model import rows_of


def sums(scene: Scene, game: str = "", asset: str = "INR") -> dict[str, Any]:
    """What is not 0 in the row."""
    (row,) = (
        row for row in rows_of(scene, StatisticsRow) if (row.user_id, row.asset, row.game) == ("u1", asset, game)
    )
    fields = row.__struct_fields__[row.key_length :]
    return {name: value for name in fields if (value := int(getattr(row, name)))}


def test_an_open_bet_counts_with_its_stake() -> None:
    scene = Scene.with_cash(100).given(place_bet(30))
    assert sums(scene, "external") == {"bets": 1, "staked": 30}


def test_a_settled_bet_counts_its_payout_and_the_biggest_one() -> None:
    scene = Scene.with_cash(100).given(
        place_bet(10, "b1"),
        settle_bet(25, "b1"),
        place_bet(10, "b2"),
        settle_bet(15, "b2"),
        place_bet(5, "b3"),
        settle_bet(0, "b3"),
    )
    assert sums(scene, "external") == {
        "bets": 3,
        "wins": 2,
        "staked": 25,
        "settled_stake": 25,
        "paid_out": 40,
        "biggest_win": 25,
    }


def test_a_cancelled_bet_counts_nowhere() -> None:
    scene = Scene.with_cash(100).given(place_bet(10, "b1"), cancel_bet("b1"), cancel_bet("b2"))
    assert sums(scene, "external") == {}


def test_deposits_count_without_their_bonus_which_counts_as_bonus() -> None:
    scene = Scene().given(open_wallet(), deposit(100, "o1", bonus=20), deposit(50, "o2", bonus=0), grant_bonus(5))
    assert sums(scene) == {"deposits_count": 2, "deposits": 150, "bonuses_count": 2, "bonuses": 25}


def test_withdrawals_count_when_they_are_approved() -> None:
    scene = Scene.with_cash(100).given(
        request_withdrawal(10, "w1"), request_withdrawal(20, "w2"), request_withdrawal(30, "w3")
    )
    assert "withdrawals" not in sums(scene)
    scene.given(approve_withdrawal("w1"), reject_withdrawal("w2"), approve_withdrawal("w3"))
    assert sums(scene) == {"deposits_count": 1, "deposits": 100, "withdrawals_count": 2, "withdrawals": 40}


def test_a_reversed_amount_counts_nowhere() -> None:
    scene = Scene().given(open_wallet(), deposit(100, "o1", bonus=20), grant_bonus(5), adjust(7), reverse("3:4"))
    scene.given(reverse("3:3"), reverse("3:2"))
    assert sums(scene) == {}


def test_assets_and_users_are_counted_apart() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(deposit(9, "o2", asset="GOLD"), place_bet(9, asset="GOLD"))
    assert sums(scene, asset="GOLD") == {"deposits_count": 1, "deposits": 9}
    assert sums(scene, "external", "GOLD") == {"bets": 1, "staked": 9}
    assert [row.user_id for row in rows_of(scene, StatisticsRow)] == ["u1", "u1", "u1", "u2"]
