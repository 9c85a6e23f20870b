"""The fold of bets: under their ids, open or settled."""

from projections.models.bets import BetRow
from unit.given import NOON, SECOND_US, Scene, cancel_bet, place_bet, settle_bet
from unit.read_model import row_of, rows_of


def test_a_placed_bet_is_open() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"))
    assert rows_of(scene, BetRow) == [
        BetRow("u1", "b1", "external", "round 7", "red", "INR", 30, "open", None, 3, NOON, None, None)
    ]


def test_a_payout_wins_and_no_payout_loses() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"), place_bet(20, "b2"))
    scene.now_us += SECOND_US
    scene.given(settle_bet(1, "b1"), settle_bet(0, "b2"))
    won, lost = rows_of(scene, BetRow)
    assert (won.status, won.payout, won.settled_seq, won.settled_at_us) == ("won", 1, 5, NOON + SECOND_US)
    assert (lost.status, lost.payout, lost.settled_seq, lost.settled_at_us) == ("lost", 0, 6, NOON + SECOND_US)


def test_a_cancelled_bet_has_no_payout_and_the_time_of_its_cancelling() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"))
    scene.now_us += SECOND_US
    scene.given(cancel_bet("b1"))
    bet = row_of(scene, BetRow, "u1", "b1")
    assert (bet.status, bet.payout, bet.settled_seq, bet.settled_at_us) == ("cancelled", None, 4, NOON + SECOND_US)


def test_a_bet_cancelled_before_it_came_is_no_bet() -> None:
    scene = Scene.with_cash(100).given(cancel_bet("b1"))
    assert rows_of(scene, BetRow) == []
