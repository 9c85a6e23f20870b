"""The fold of grants: what remains of each after stakes, payouts, cancellations, expiry and reversal."""

from ledger.core.wallet import DAY_US
from projections.models.grants import GrantRow
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    deposit,
    grant_bonus,
    open_wallet,
    place_bet,
    reverse,
    settle_bet,
)
from unit.read_model import row_of, rows_of


def remaining(scene: Scene) -> dict[str, int]:
    found = {row.grant_id: row.remaining for row in rows_of(scene, GrantRow)}
    assert sum(found.values()) == scene.wallet("u1").balances["INR"].bonus
    return found


def test_a_granted_bonus_and_the_bonus_of_a_deposit_are_grants() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1", bonus=20), deposit(5, "o2"))
    scene.now_us += SECOND_US
    scene.given(grant_bonus(7, "g1", expires_at_us=NOON + DAY_US))
    assert rows_of(scene, GrantRow) == [
        GrantRow("u1", "g1", "grant", "INR", 7, 7, NOON + DAY_US, 4, NOON + SECOND_US),
        GrantRow("u1", "o1", "deposit", "INR", 20, 20, None, 2, NOON),
    ]


def test_a_stake_takes_from_its_grants_and_its_payout_goes_to_the_last_one() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(30, "g1"), grant_bonus(50, "g2"))
    scene.given(place_bet(60, "b1", spend="bonus_first"))
    assert remaining(scene) == {"g1": 0, "g2": 20}
    scene.given(settle_bet(90, "b1"))
    assert remaining(scene) == {"g1": 0, "g2": 110}


def test_of_a_stake_of_bonus_and_cash_the_payout_goes_to_the_grant_in_proportion() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(1, "g1"), place_bet(3, "b1", spend="bonus_first"))
    scene.given(settle_bet(100, "b1"))
    assert remaining(scene) == {"g1": 33}


def test_a_payout_too_small_for_bonus_and_a_lost_bet_add_nothing() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(1, "g1"), place_bet(3, "b1", spend="bonus_first"))
    scene.given(settle_bet(2, "b1"), grant_bonus(4, "g2"), place_bet(4, "b2", spend="bonus_first"))
    scene.given(settle_bet(0, "b2"))
    assert remaining(scene) == {"g1": 0, "g2": 0}


def test_a_cancelled_bet_gives_back_to_each_grant() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(30, "g1"), grant_bonus(50, "g2"))
    scene.given(place_bet(60, "b1", spend="bonus_first"), cancel_bet("b1"), cancel_bet("b2"))
    assert remaining(scene) == {"g1": 30, "g2": 50}


def test_what_is_left_of_a_grant_expires_and_what_comes_back_later_expires_at_once() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(30, "g1", expires_at_us=NOON + SECOND_US))
    scene.given(place_bet(10, "b1", spend="bonus_first"))
    scene.now_us += 2 * SECOND_US
    scene.tick("u1")
    assert remaining(scene) == {"g1": 0}
    scene.given(cancel_bet("b1"))
    scene.tick("u1")
    assert remaining(scene) == {"g1": 0}


def test_a_reversal_takes_the_grant_back() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1", bonus=20), grant_bonus(7, "g1"), grant_bonus(9, "g2"))
    scene.given(reverse("3:2"), reverse("3:3"))
    assert remaining(scene) == {"o1": 0, "g1": 0, "g2": 9}
    assert row_of(scene, GrantRow, "u1", "g1").amount == 7
