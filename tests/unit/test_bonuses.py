"""Bonuses are grants: each may have an expiry, and money that comes back after it expires at once."""

import pytest

from ledger.core.bonus_events import BonusExpired, BonusGranted
from ledger.core.events import LEDGER, NO_REQUEST, Balance
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    settle_bet,
)

END = NOON + SECOND_US


def granted(amount: int = 50) -> Scene:
    """A wallet with cash 100 and a grant g1 that expires in a second."""
    return Scene.with_cash(100).given(grant_bonus(amount, expires_at_us=END))


def test_a_grant_adds_bonus() -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(grant_bonus(50, expires_at_us=END, metadata={"campaign": "x"}))
    assert event.data == BonusGranted(
        amount=50, asset="INR", expires_at_us=END, grant_id="g1", metadata={"campaign": "x"}
    )
    assert event.postings == (("house/bonuses", "INR", -50), ("wallet/u1/bonus", "INR", 50))
    assert event.balances == {"INR": Balance(bonus=50)}


def test_a_grant_id_is_used_once_also_when_it_is_spent_or_expired() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(50, "g1"), grant_bonus(50, "g2", expires_at_us=NOON))
    scene.given(place_bet(50))
    for grant_id in ("g1", "g2"):
        assert scene.refused(grant_bonus(1, grant_id)).code is Code.GRANT_ID_REUSED


def test_an_asset_that_is_not_declared_is_refused() -> None:
    assert Scene.with_cash().refused(grant_bonus(5, asset="EUR")).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MAX + 1])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    assert Scene.with_cash().refused(grant_bonus(amount)).code is Code.AMOUNT_OUT_OF_RANGE


def test_a_grant_may_fill_the_wallet_to_the_largest_amount_and_no_further() -> None:
    scene = Scene.with_cash(AMOUNT_MAX - 5)
    assert scene.refused(grant_bonus(6)).code is Code.AMOUNT_OUT_OF_RANGE
    scene.when(grant_bonus(5))


# --- expiry


def test_a_due_grant_expires_and_goes_back_to_the_house() -> None:
    scene = granted(50)
    cause = scene.position(scene.events[-1])
    scene.now_us = END
    (event,) = scene.tick()
    assert event.data == BonusExpired(amount=50, asset="INR", cause=cause, grant_id="g1")
    assert event.postings == (("wallet/u1/bonus", "INR", -50), ("house/bonuses", "INR", 50))
    assert event.balances == {"INR": Balance(cash=100)}
    assert (event.actor, event.request_sha256, event.time_us) == (LEDGER, NO_REQUEST, END)
    assert event.command_id.startswith("~")


def test_a_grant_is_due_at_exactly_its_microsecond() -> None:
    scene = granted()
    scene.now_us = END - 1
    assert scene.tick() == []
    scene.now_us = END
    assert len(scene.tick()) == 1


@pytest.mark.parametrize("expires_at_us", [NOON, NOON - 1, 0, -1])
def test_a_grant_with_a_past_expiry_is_accepted_and_expires_at_once(expires_at_us: int) -> None:
    scene = Scene().given(open_wallet())
    event = scene.when(grant_bonus(50, expires_at_us=expires_at_us))
    assert event.balances == {"INR": Balance(bonus=50)}
    assert scene.types_of()[-2:] == ["bonus_granted", "bonus_expired"]
    assert scene.balance() == Balance()


def test_only_what_is_left_of_a_grant_expires() -> None:
    scene = granted(50).given(place_bet(20, spend="bonus_first"))
    scene.now_us = END
    scene.tick()
    assert scene.last(BonusExpired).amount == 30


def test_a_grant_that_is_spent_leaves_no_expiry() -> None:
    scene = granted(50).given(place_bet(50, spend="bonus_first"))
    scene.now_us = END
    assert scene.tick() == []


def test_a_deposits_bonus_never_expires() -> None:
    scene = Scene().given(open_wallet(), deposit(5, bonus=5))
    scene.now_us = NOON + 10**15
    assert scene.tick() == []


def test_grants_of_all_assets_expire_each_in_its_own_event() -> None:
    scene = Scene().given(
        open_wallet(),
        grant_bonus(1, "g1", expires_at_us=END),
        grant_bonus(2, "g2", asset="GOLD", expires_at_us=END - 1),
        grant_bonus(3, "g3"),
    )
    scene.now_us = END
    expired = [event.data for event in scene.tick()]
    assert [data.grant_id for data in expired if isinstance(data, BonusExpired)] == ["g2", "g1"]
    assert scene.balance() == Balance(bonus=3)


def test_holds_and_grants_expire_in_the_order_of_their_expiry() -> None:
    scene = Scene.with_cash(100).given(
        grant_bonus(1, "g1", expires_at_us=END - 2),
        hold(1, "h1", expires_at_us=END - 3),
        hold(1, "h2", expires_at_us=END - 1),
        grant_bonus(1, "g2", expires_at_us=END),
    )
    scene.now_us = END
    types = [event.data.type for event in scene.tick()]
    assert types == ["hold_expired", "bonus_expired", "hold_expired", "bonus_expired"]


# --- what comes back to a grant


def test_returned_bonus_keeps_its_grants_expiry() -> None:
    scene = granted(50).given(place_bet(50, spend="bonus_first"), cancel_bet())
    assert scene.balance() == Balance(cash=100, bonus=50)
    scene.now_us = END
    scene.tick()
    assert scene.last(BonusExpired).amount == 50


def test_bonus_that_comes_back_to_an_expired_grant_expires_at_once() -> None:
    scene = granted(50).given(place_bet(20, spend="bonus_first"))
    scene.now_us = END
    scene.tick()
    event = scene.when(cancel_bet())
    assert event.balances == {"INR": Balance(cash=100, bonus=20)}
    assert scene.types_of()[-3:] == ["bonus_expired", "bet_cancelled", "bonus_expired"]
    assert scene.last(BonusExpired) == BonusExpired(
        amount=20, asset="INR", cause=scene.position(event), grant_id="g1"
    )
    assert scene.balance() == Balance(cash=100)


def test_bonus_that_comes_back_late_to_a_grant_that_was_spent_expires_at_once() -> None:
    scene = granted(50).given(place_bet(50, spend="bonus_first"))
    scene.now_us = END
    scene.when(cancel_bet())
    assert scene.types_of()[-2:] == ["bet_cancelled", "bonus_expired"]


def test_a_payout_under_an_expired_grant_expires_at_once_in_its_bonus_part() -> None:
    scene = granted(50).given(place_bet(100, spend="bonus_first"))
    scene.now_us = END
    event = scene.when(settle_bet(300))
    assert event.balances == {"INR": Balance(cash=200, bonus=150)}
    assert scene.last(BonusExpired) == BonusExpired(
        amount=150, asset="INR", cause=scene.position(event), grant_id="g1"
    )
    assert scene.balance() == Balance(cash=200)


def test_bonus_that_comes_back_to_several_grants_expires_only_where_it_is_late() -> None:
    scene = granted(50).given(grant_bonus(50, "g2"), place_bet(70, spend="bonus_first"))
    scene.now_us = END
    scene.when(cancel_bet())
    assert scene.last(BonusExpired).grant_id == "g1"
    assert scene.balance() == Balance(cash=100, bonus=50)


def test_a_payout_adds_to_what_is_left_of_the_grant() -> None:
    scene = granted(50).given(place_bet(20, spend="bonus_first"), settle_bet(35))
    cause = scene.position(scene.events[-1])
    assert scene.balance() == Balance(cash=100, bonus=65)
    scene.now_us = END
    scene.tick()
    assert scene.last(BonusExpired) == BonusExpired(amount=65, asset="INR", cause=cause, grant_id="g1")
