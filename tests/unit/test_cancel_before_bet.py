"""A cancel that arrives before its bet is stored, and the bet is always refused."""

from ledger.core.bet_events import BetCancelled
from ledger.core.events import Balance
from ledger.core.rejections import Code
from unit.given import Scene, cancel_bet, place_bet, settle_bet


def cancelled_before() -> Scene:
    return Scene.with_cash(100).given(cancel_bet("b1", reason="timed out"))


def test_a_cancel_before_its_bet_is_an_event_without_postings() -> None:
    scene = cancelled_before()
    assert scene.last(BetCancelled) == BetCancelled(before_bet=True, bet_id="b1", reason="timed out")
    assert (scene.events[-1].postings, scene.events[-1].balances) == ((), {})


def test_a_bet_that_arrives_after_its_cancel_is_always_refused() -> None:
    scene = cancelled_before()
    for _ in range(2):
        rejection = scene.refused(place_bet(5, "b1"))
        assert (rejection.code, rejection.fields) == (Code.BET_CANCELLED_BEFORE, {"bet_id": "b1"})
    assert scene.balance() == Balance(cash=100)


def test_it_cannot_be_settled() -> None:
    assert cancelled_before().refused(settle_bet(5, "b1")).code is Code.ALREADY_RESOLVED


def test_it_cannot_be_cancelled_again() -> None:
    assert cancelled_before().refused(cancel_bet("b1")).code is Code.ALREADY_RESOLVED


def test_other_bets_are_accepted() -> None:
    cancelled_before().given(place_bet(5, "b2"), settle_bet(10, "b2"))


def test_a_bet_with_the_same_id_in_another_wallet_is_accepted() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(cancel_bet("b1"))
    scene.when(place_bet(5, "b1", user_id="u2"))
