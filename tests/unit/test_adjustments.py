"""An adjustment corrects cash, at once or after another actor approves it."""

import pytest

from ledger.core.commands import Command
from ledger.core.events import Adjusted, AdjustmentApproved, AdjustmentProposed, AdjustmentRejected, Balance
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    Scene,
    adjust,
    approve_adjustment,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    reject_adjustment,
    set_limits,
)

# --- at once


def test_a_positive_adjustment_adds_cash() -> None:
    scene = Scene.with_cash(100)
    event = scene.when(adjust(30, reason="an outage", metadata={"ticket": "1"}))
    assert event.data == Adjusted(amount=30, asset="INR", metadata={"ticket": "1"}, reason="an outage")
    assert event.postings == (("house/adjustments", "INR", -30), ("wallet/u1/cash", "INR", 30))
    assert event.balances == {"INR": Balance(cash=130)}


def test_a_negative_adjustment_takes_cash() -> None:
    scene = Scene.with_cash(100)
    event = scene.when(adjust(-30))
    assert event.data == Adjusted(amount=-30, asset="INR", reason="goodwill")
    assert event.postings == (("wallet/u1/cash", "INR", -30), ("house/adjustments", "INR", 30))
    assert event.balances == {"INR": Balance(cash=70)}


def test_a_negative_adjustment_takes_cash_above_zero_only() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50), set_limits(credit_limit=50), hold(40))
    rejection = scene.refused(adjust(-61))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 60})
    scene.when(adjust(-60))


def test_a_wallet_in_debt_has_nothing_to_take() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=50), place_bet(20))
    assert scene.refused(adjust(-1)).fields == {"available": 0}


def test_an_adjustment_repays_a_debt() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=50), place_bet(20), adjust(30))
    assert scene.balance() == Balance(cash=10)


@pytest.mark.parametrize("command", [adjust(5, asset="EUR"), propose_adjustment(5, asset="EUR")])
def test_an_asset_that_is_not_declared_is_refused(command: Command) -> None:
    assert Scene.with_cash().refused(command).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("amount", [0, AMOUNT_MAX + 1, -AMOUNT_MAX - 1, 10**30])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    assert Scene.with_cash().refused(adjust(amount)).code is Code.AMOUNT_OUT_OF_RANGE
    assert Scene.with_cash().refused(propose_adjustment(amount)).code is Code.AMOUNT_OUT_OF_RANGE


def test_an_adjustment_may_reach_both_bounds() -> None:
    scene = Scene().given(open_wallet(), adjust(AMOUNT_MAX), adjust(-AMOUNT_MAX))
    assert scene.balance() == Balance()


def test_an_adjustment_may_not_pass_the_bound() -> None:
    assert Scene.with_cash(1).refused(adjust(AMOUNT_MAX)).code is Code.AMOUNT_OUT_OF_RANGE


# --- with approval


def proposed(amount: int = 30) -> Scene:
    """A wallet with cash 100, and a1 proposed by op-1."""
    scene = Scene.with_cash(100)
    scene.when(propose_adjustment(amount), actor="op-1")
    return scene


def test_a_proposal_moves_nothing() -> None:
    scene = proposed()
    assert scene.last(AdjustmentProposed) == AdjustmentProposed(
        adjustment_id="a1", amount=30, asset="INR", reason="goodwill"
    )
    assert (scene.events[-1].postings, scene.events[-1].balances) == ((), {})
    assert scene.balance() == Balance(cash=100)


def test_an_approval_by_another_actor_posts() -> None:
    scene = proposed(30)
    event = scene.when(approve_adjustment(reason="checked", metadata={"shift": "2"}), actor="op-2")
    assert event.data == AdjustmentApproved(adjustment_id="a1", metadata={"shift": "2"}, reason="checked")
    assert event.postings == (("house/adjustments", "INR", -30), ("wallet/u1/cash", "INR", 30))
    assert event.balances == {"INR": Balance(cash=130)}
    assert event.actor == "op-2"


def test_an_approved_negative_adjustment_takes_cash() -> None:
    scene = proposed(-30)
    event = scene.when(approve_adjustment(), actor="op-2")
    assert event.postings == (("wallet/u1/cash", "INR", -30), ("house/adjustments", "INR", 30))


def test_the_proposer_cannot_approve() -> None:
    rejection = proposed().refused(approve_adjustment(), actor="op-1")
    assert (rejection.code, rejection.fields) == (Code.SAME_ACTOR, {"proposer": "op-1"})


@pytest.mark.parametrize("actor", ["op-1", "op-2"])
def test_anyone_can_reject_also_the_proposer(actor: str) -> None:
    scene = proposed()
    event = scene.when(reject_adjustment(reason="not ours"), actor=actor)
    assert event.data == AdjustmentRejected(adjustment_id="a1", reason="not ours")
    assert event.postings == ()


@pytest.mark.parametrize("second", [approve_adjustment(), reject_adjustment()])
@pytest.mark.parametrize("first", [approve_adjustment(), reject_adjustment()])
def test_a_proposal_is_resolved_once(first: Command, second: Command) -> None:
    scene = proposed()
    scene.when(first, actor="op-2")
    assert scene.refused(second, actor="op-1").code is Code.ALREADY_RESOLVED


@pytest.mark.parametrize("command", [approve_adjustment("a9"), reject_adjustment("a9")])
def test_a_proposal_that_was_never_made_is_not_found(command: Command) -> None:
    rejection = proposed().refused(command, actor="op-2")
    assert (rejection.code, rejection.fields) == (Code.ADJUSTMENT_NOT_FOUND, {"adjustment_id": "a9"})


def test_an_adjustment_id_is_used_once_even_after_it_is_resolved() -> None:
    scene = proposed()
    assert scene.refused(propose_adjustment(5)).code is Code.ADJUSTMENT_ID_REUSED
    scene.given(reject_adjustment())
    assert scene.refused(propose_adjustment(5)).code is Code.ADJUSTMENT_ID_REUSED


def test_funds_are_checked_when_it_is_approved() -> None:
    scene = proposed(-130)
    rejection = scene.refused(approve_adjustment(), actor="op-2")
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 100})
    scene.given(adjust(30))
    scene.when(approve_adjustment(), actor="op-2")


def test_limits_are_checked_when_it_is_approved() -> None:
    scene = proposed(30).given(set_limits(balance_max=129))
    assert scene.refused(approve_adjustment(), actor="op-2").code is Code.BALANCE_MAX_EXCEEDED
    scene.given(set_limits(balance_max=130))
    scene.when(approve_adjustment(), actor="op-2")


def test_the_bound_is_checked_when_it_is_approved() -> None:
    scene = proposed(AMOUNT_MAX)
    assert scene.refused(approve_adjustment(), actor="op-2").code is Code.AMOUNT_OUT_OF_RANGE
    scene.given(adjust(-100))
    scene.when(approve_adjustment(), actor="op-2")
