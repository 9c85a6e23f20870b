"""A hold sets cash aside; it is captured or released, or it expires, once."""

import pytest

from ledger.core.commands import Command
from ledger.core.events import LEDGER, NO_REQUEST, Balance
from ledger.core.hold_events import (
    HoldCaptured,
    HoldExpired,
    HoldPlaced,
    HoldReleased,
)
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    capture_hold,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    release_hold,
    set_limits,
)

# --- placing


def test_a_hold_moves_cash_aside() -> None:
    scene = Scene.with_cash(1000)
    event = scene.when(hold(400, expires_at_us=NOON + SECOND_US, metadata={"seat": "3"}))
    assert event.data == HoldPlaced(
        amount=400, asset="INR", expires_at_us=NOON + SECOND_US, hold_id="h1", metadata={"seat": "3"}
    )
    assert event.postings == (("wallet/u1/cash", "INR", -400), ("wallet/u1/held", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600, held=400)}


def test_a_hold_takes_cash_only_not_bonus_or_credit() -> None:
    scene = Scene.with_cash(10).given(grant_bonus(100), set_limits(credit_limit=100))
    rejection = scene.refused(hold(11))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 10})
    scene.when(hold(10))


def test_a_wallet_in_debt_has_nothing_to_hold() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=100), place_bet(60))
    assert scene.refused(hold(1)).fields == {"available": 0}


def test_a_hold_id_is_used_once_even_after_the_hold_is_resolved() -> None:
    scene = Scene.with_cash(1000).given(
        *(hold(1, "open"), hold(1, "captured"), capture_hold("captured"), hold(1, "released")),
        *(release_hold("released"), hold(1, "expired", expires_at_us=NOON)),
    )
    for hold_id in ("open", "captured", "released", "expired"):
        assert scene.refused(hold(1, hold_id)).code is Code.HOLD_ID_REUSED


def test_an_asset_that_is_not_declared_is_refused() -> None:
    assert Scene.with_cash().refused(hold(5, asset="EUR")).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MAX + 1])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    assert Scene.with_cash().refused(hold(amount)).code is Code.AMOUNT_OUT_OF_RANGE


# --- capturing


def test_a_capture_without_an_amount_takes_the_whole_hold() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    event = scene.when(capture_hold())
    assert event.data == HoldCaptured(hold_id="h1")
    assert event.postings == (("wallet/u1/held", "INR", -400), ("house/captures", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600)}


def test_capturing_a_part_gives_the_rest_back() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    event = scene.when(capture_hold(amount=150, metadata={"hand": "8"}))
    assert event.data == HoldCaptured(amount=150, hold_id="h1", metadata={"hand": "8"})
    assert event.postings == (
        ("wallet/u1/held", "INR", -400),
        ("house/captures", "INR", 150),
        ("wallet/u1/cash", "INR", 250),
    )
    assert event.balances == {"INR": Balance(cash=850)}


def test_capturing_exactly_all_gives_nothing_back() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    assert len(scene.when(capture_hold(amount=400)).postings) == 2


def test_no_more_than_the_hold_can_be_captured() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    rejection = scene.refused(capture_hold(amount=401))
    assert (rejection.code, rejection.fields) == (Code.CAPTURE_EXCEEDS_HOLD, {"held": 400})


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MAX + 1])
def test_a_captured_amount_outside_of_the_range_is_refused(amount: int) -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    assert scene.refused(capture_hold(amount=amount)).code is Code.AMOUNT_OUT_OF_RANGE


# --- releasing


def test_a_released_hold_gives_the_money_back() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    event = scene.when(release_hold(metadata={"hand": "8"}))
    assert event.data == HoldReleased(hold_id="h1", metadata={"hand": "8"})
    assert event.postings == (("wallet/u1/held", "INR", -400), ("wallet/u1/cash", "INR", 400))
    assert event.balances == {"INR": Balance(cash=1000)}


@pytest.mark.parametrize("second", [capture_hold(), capture_hold(amount=1), release_hold()])
@pytest.mark.parametrize("first", [capture_hold(), capture_hold(amount=1), release_hold()])
def test_a_hold_is_resolved_once(first: Command, second: Command) -> None:
    scene = Scene.with_cash(1000).given(hold(400), first)
    assert scene.refused(second).code is Code.ALREADY_RESOLVED


@pytest.mark.parametrize("command", [capture_hold("h9"), release_hold("h9")])
def test_a_hold_that_was_never_placed_is_not_found(command: Command) -> None:
    rejection = Scene.with_cash(1000).given(hold(400)).refused(command)
    assert (rejection.code, rejection.fields) == (Code.HOLD_NOT_FOUND, {"hold_id": "h9"})


# --- expiring


def test_a_due_hold_expires_and_gives_the_money_back() -> None:
    scene = Scene.with_cash(1000).given(hold(400, expires_at_us=NOON + SECOND_US))
    placed = scene.events[-1]
    scene.now_us = NOON + SECOND_US
    (event,) = scene.tick()
    assert event.data == HoldExpired(amount=400, asset="INR", cause=scene.position(placed), hold_id="h1")
    assert event.postings == (("wallet/u1/held", "INR", -400), ("wallet/u1/cash", "INR", 400))
    assert event.balances == {"INR": Balance(cash=1000)}
    assert (event.actor, event.request_sha256, event.time_us) == (LEDGER, NO_REQUEST, NOON + SECOND_US)
    assert event.command_id.startswith("~")


def test_a_hold_is_due_at_exactly_its_microsecond() -> None:
    scene = Scene.with_cash(1000).given(hold(400, expires_at_us=NOON + 5))
    scene.now_us = NOON + 4
    assert scene.tick() == []
    scene.now_us = NOON + 5
    assert len(scene.tick()) == 1


def test_a_hold_without_an_expiry_stays() -> None:
    scene = Scene.with_cash(1000).given(hold(400))
    scene.now_us = NOON + 10**15
    assert scene.tick() == []


@pytest.mark.parametrize("expires_at_us", [NOON, NOON - 1, 0, -1])
def test_a_hold_with_a_past_expiry_is_accepted_and_expires_at_once(expires_at_us: int) -> None:
    scene = Scene.with_cash(1000)
    event = scene.when(hold(400, expires_at_us=expires_at_us))
    assert event.balances == {"INR": Balance(cash=600, held=400)}
    assert scene.types_of()[-2:] == ["hold_placed", "hold_expired"]
    assert scene.balance() == Balance(cash=1000)


@pytest.mark.parametrize("command", [capture_hold(), release_hold()])
def test_a_hold_past_its_expiry_can_be_neither_captured_nor_released(command: Command) -> None:
    scene = Scene.with_cash(1000).given(hold(400, expires_at_us=NOON + SECOND_US))
    scene.now_us = NOON + SECOND_US
    assert scene.refused(command).code is Code.HOLD_EXPIRED
    assert scene.types_of()[-1] == "hold_expired"
    assert scene.refused(command).code is Code.HOLD_EXPIRED


@pytest.mark.parametrize("command", [capture_hold(), release_hold()])
def test_a_resolved_hold_does_not_expire(command: Command) -> None:
    scene = Scene.with_cash(1000).given(hold(400, expires_at_us=NOON + SECOND_US), command)
    scene.now_us = NOON + SECOND_US
    assert scene.tick() == []
    assert scene.refused(release_hold()).code is Code.ALREADY_RESOLVED


def test_several_due_holds_expire_in_the_order_of_their_expiry() -> None:
    scene = Scene.with_cash(1000).given(
        hold(1, "last", expires_at_us=NOON + 30),
        hold(2, "first", expires_at_us=NOON + 10),
        hold(3, "stays"),
        hold(4, "middle", expires_at_us=NOON + 20),
    )
    scene.now_us = NOON + SECOND_US
    holds = [event.data.hold_id for event in scene.tick() if isinstance(event.data, HoldExpired)]
    assert holds == ["first", "middle", "last"]
    assert scene.balance() == Balance(cash=997, held=3)


def test_a_due_hold_makes_room_for_the_command_that_comes_after_it() -> None:
    scene = Scene.with_cash(1000).given(hold(1000, expires_at_us=NOON + SECOND_US))
    assert scene.refused(place_bet(1)).code is Code.INSUFFICIENT_FUNDS
    scene.now_us = NOON + SECOND_US
    scene.when(place_bet(1000))
    assert scene.types_of()[-2:] == ["hold_expired", "bet_placed"]
