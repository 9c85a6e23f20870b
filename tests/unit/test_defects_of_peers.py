"""Defects of other wallet services, each as a test that this one does not have it."""

from ledger.core.events import Balance
from ledger.core.rejections import Code
from ledger.writer.requests import Accepted, IdReused
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_withdrawal,
    capture_hold,
    deposit,
    hold,
    open_wallet,
    place_bet,
    reject_withdrawal,
    release_hold,
    request_withdrawal,
    reverse,
    settle_bet,
    transfer,
)
from unit.node_in_memory import World


def test_money_that_is_held_cannot_be_spent_a_second_time() -> None:
    # Seen: the available balance was read without the holds, so that each hold could be spent again.
    scene = Scene.with_cash(100).given(hold(60, "h1"))
    for command in (
        *(hold(41, "h2"), place_bet(41), request_withdrawal(41), transfer(41), adjust(-41), reverse("3:2")),
    ):
        rejection = scene.refused(command)
        assert (rejection.code, rejection.fields["available"]) == (Code.INSUFFICIENT_FUNDS, 40)


def test_two_holds_together_take_no_more_than_the_cash() -> None:
    scene = Scene.with_cash(100).given(hold(50, "h1"), hold(50, "h2"))
    assert scene.refused(hold(1, "h3")).code is Code.INSUFFICIENT_FUNDS
    scene.given(capture_hold("h1"), capture_hold("h2"))
    assert scene.balance() == Balance()


def test_a_hold_that_was_refused_cannot_be_captured() -> None:
    # Seen: a hold rejected for lack of funds was stored with that status, and a later capture did not check it.
    scene = Scene.with_cash(100)
    assert scene.refused(hold(101)).code is Code.INSUFFICIENT_FUNDS
    assert scene.refused(capture_hold()).code is Code.HOLD_NOT_FOUND
    assert scene.refused(release_hold()).code is Code.HOLD_NOT_FOUND
    assert scene.balance() == Balance(cash=100)


def test_a_hold_that_was_refused_leaves_its_id_free() -> None:
    scene = Scene.with_cash(100)
    scene.refused(hold(101))
    scene.when(hold(100))


def test_a_hold_released_twice_gives_the_money_back_once() -> None:
    # Seen: voiding a hold added its amount again each time.
    scene = Scene.with_cash(100).given(hold(60), release_hold())
    for _ in range(2):
        assert scene.refused(release_hold()).code is Code.ALREADY_RESOLVED
    assert scene.balance() == Balance(cash=100)


def test_a_hold_captured_in_part_has_no_rest_to_capture_or_release() -> None:
    scene = Scene.with_cash(100).given(hold(60), capture_hold(amount=20))
    assert scene.refused(capture_hold(amount=40)).code is Code.ALREADY_RESOLVED
    assert scene.refused(release_hold()).code is Code.ALREADY_RESOLVED
    assert scene.balance() == Balance(cash=80)


def test_a_hold_that_expired_does_not_give_the_money_back_again() -> None:
    scene = Scene.with_cash(100).given(hold(60, expires_at_us=NOON + SECOND_US))
    scene.now_us = NOON + SECOND_US
    scene.tick()
    assert scene.refused(release_hold()).code is Code.HOLD_EXPIRED
    assert scene.tick() == []
    assert scene.balance() == Balance(cash=100)


def test_a_capture_above_the_hold_takes_nothing() -> None:
    # Seen: the capture's amount was booked without a comparison with the held amount.
    scene = Scene.with_cash(100).given(hold(60))
    assert scene.refused(capture_hold(amount=61)).code is Code.CAPTURE_EXCEEDS_HOLD
    assert scene.balance() == Balance(cash=40, held=60)


def test_a_withdrawal_that_was_paid_is_not_given_back() -> None:
    scene = Scene.with_cash(100).given(request_withdrawal(60), approve_withdrawal())
    assert scene.refused(reject_withdrawal()).code is Code.ALREADY_RESOLVED
    assert scene.balance() == Balance(cash=40)


async def test_a_retried_payout_is_paid_once() -> None:
    # Seen: the response to a payout was lost, the game server repeated it, and the wallet was paid twice.
    world = await World().start()
    await world.given(open_wallet(), deposit(100), place_bet(40, "b1"))
    payout = settle_bet(90, "b1")
    first, again = await world.post(payout), await world.post(payout)
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert (again.hit, again.position, again.head) == (True, first.position, first.head)
    assert await world.cash() == 150
    await world.stop()


async def test_a_reused_id_with_another_body_is_refused_and_changes_nothing() -> None:
    # Seen: the second body got the first one's success, so its caller took it for accepted.
    world = await World().start()
    await world.given(open_wallet(), deposit(100, command_id="c1", order_id="o1"))
    again = await world.post(deposit(200, command_id="c1", order_id="o1"))
    assert isinstance(again, IdReused)
    assert again.fields == ("amount",)
    assert await world.cash() == 100
    await world.stop()
