"""A transfer leaves the sender at once and arrives as a follow-up. Refused money always comes back."""

from collections.abc import Callable

import pytest

from ledger.core.commands import Command
from ledger.core.events import (
    LEDGER,
    NO_REQUEST,
    Balance,
    TransferDelivered,
    TransferReceived,
    TransferRefused,
    TransferReturned,
    TransferSent,
)
from ledger.core.follow_up_commands import ConcludeTransfer, ReceiveTransfer
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    close_wallet,
    deposit,
    freeze_wallet,
    grant_bonus,
    open_wallet,
    place_bet,
    set_limits,
    settle_bet,
    transfer,
)

# --- sending


def test_a_sent_transfer_is_under_way_in_transit() -> None:
    scene = Scene.with_cash(1000, "u1", "u2")
    event = scene.when(transfer(400, "u2", metadata={"note": "lunch"}))
    assert event.data == TransferSent(
        amount=400, asset="INR", metadata={"note": "lunch"}, to_user_id="u2", transfer_id="t1"
    )
    assert event.postings == (("wallet/u1/cash", "INR", -400), ("transit/transfers", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600)}
    assert scene.balance("u2") == Balance(cash=1000)


def test_a_transfer_takes_cash_only_not_bonus_or_credit() -> None:
    scene = Scene.with_cash(10).given(grant_bonus(100), set_limits(credit_limit=100))
    rejection = scene.refused(transfer(11))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 10})
    scene.when(transfer(10))


def test_a_wallet_cannot_transfer_to_itself() -> None:
    assert Scene.with_cash().refused(transfer(5, "u1")).code is Code.SAME_WALLET


def test_a_sender_uses_a_transfer_id_once_even_after_the_transfer_ended() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(transfer(5, "u2", "t1"), transfer(5, "unopened", "t2"))
    assert scene.refused(transfer(5, "u2", "t1")).code is Code.TRANSFER_ID_REUSED
    scene.deliver_all()
    for transfer_id in ("t1", "t2"):
        assert scene.refused(transfer(5, "u2", transfer_id)).code is Code.TRANSFER_ID_REUSED


def test_the_receiver_may_use_the_same_id_for_another_transfer() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(transfer(5, "u2", "t1"))
    scene.deliver_all()
    scene.given(transfer(7, "u1", "t1", user_id="u2"))
    scene.deliver_all()
    assert (scene.balance("u1").cash, scene.balance("u2").cash) == (1002, 998)


def test_an_asset_that_is_not_declared_is_refused() -> None:
    assert Scene.with_cash().refused(transfer(5, asset="EUR")).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MAX + 1])
def test_an_amount_outside_of_the_range_is_refused(amount: int) -> None:
    assert Scene.with_cash().refused(transfer(amount)).code is Code.AMOUNT_OUT_OF_RANGE


# --- arriving


def test_an_arriving_transfer_adds_cash() -> None:
    scene = Scene.with_cash(1000, "u1", "u2")
    cause = scene.position(scene.when(transfer(400, "u2")))
    event = scene.deliver()
    assert event.data == TransferReceived(amount=400, asset="INR", cause=cause, from_user_id="u1", transfer_id="t1")
    assert event.postings == (("transit/transfers", "INR", -400), ("wallet/u2/cash", "INR", 400))
    assert event.balances == {"INR": Balance(cash=1400)}
    assert (event.user_id, event.actor, event.request_sha256) == ("u2", LEDGER, NO_REQUEST)


def test_the_sender_gets_an_event_when_the_transfer_arrives() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(transfer(400, "u2"))
    cause = scene.position(scene.deliver())
    event = scene.deliver()
    assert event.data == TransferDelivered(amount=400, asset="INR", cause=cause, to_user_id="u2", transfer_id="t1")
    assert (event.user_id, event.postings, event.balances, event.actor) == ("u1", (), {}, LEDGER)
    assert scene.under_way == []
    assert scene.total("transit/transfers") == 0


def test_follow_ups_are_named_by_the_head_of_their_cause() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(transfer(400, "u2"))
    (arrival,) = scene.under_way
    assert isinstance(arrival, ReceiveTransfer)
    received = scene.deliver()
    (conclusion,) = scene.under_way
    assert isinstance(conclusion, ConcludeTransfer)
    assert received.command_id == arrival.command_id
    for follow_up in (arrival, conclusion):
        assert follow_up.command_id[0] == "~"
        assert follow_up.command_id[-2:] == ":0"
        assert len(follow_up.command_id) == 67
    assert arrival.command_id != conclusion.command_id


def test_a_transfer_arrives_at_a_frozen_wallet() -> None:
    scene = Scene.with_cash(1000, "u1", "u2").given(freeze_wallet(user_id="u2"), transfer(400, "u2"))
    scene.deliver_all()
    assert scene.balance("u2") == Balance(cash=1400)


def test_due_expiries_of_the_receiver_come_before_the_transfer() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(
        set_limits(balance_max=150, user_id="u2"),
        grant_bonus(50, expires_at_us=NOON + SECOND_US, user_id="u2"),
        transfer(50, "u2"),
    )
    scene.now_us = NOON + SECOND_US
    scene.deliver()
    assert scene.types_of("u2")[-2:] == ["bonus_expired", "transfer_received"]


def test_a_transfer_repays_a_debt() -> None:
    scene = Scene.with_cash(100).given(
        open_wallet("u2"), set_limits(credit_limit=30, user_id="u2"), place_bet(30, user_id="u2"), transfer(50, "u2")
    )
    scene.deliver_all()
    assert scene.balance("u2") == Balance(cash=20)


# --- being refused


def never_opened(_: Scene) -> None:
    """u2 was never opened."""


def closed(scene: Scene) -> None:
    scene.given(open_wallet("u2"), close_wallet(user_id="u2"))


def full(scene: Scene) -> None:
    scene.given(open_wallet("u2"), set_limits(balance_max=399, user_id="u2"))


def over_full(scene: Scene) -> None:
    scene.given(open_wallet("u2"), deposit(AMOUNT_MAX - 399, user_id="u2"), set_limits(balance_max=0, user_id="u2"))


REFUSALS: list[tuple[Callable[[Scene], None], Code]] = [
    (never_opened, Code.WALLET_NOT_OPEN),
    (closed, Code.WALLET_CLOSED),
    (full, Code.BALANCE_MAX_EXCEEDED),
    (over_full, Code.AMOUNT_OUT_OF_RANGE),
]


@pytest.mark.parametrize(("prepare", "code"), REFUSALS, ids=lambda it: getattr(it, "__name__", str(it)))
def test_a_transfer_that_cannot_arrive_is_refused_in_an_event_and_returned(
    prepare: Callable[[Scene], None], code: Code
) -> None:
    scene = Scene.with_cash(1000)
    prepare(scene)
    before = scene.balance("u2")
    cause = scene.position(scene.when(transfer(400, "u2")))
    refused = scene.deliver()
    assert refused.data == TransferRefused(
        amount=400, asset="INR", cause=cause, from_user_id="u1", reason=code, transfer_id="t1"
    )
    assert (refused.user_id, refused.postings, refused.balances, refused.actor) == ("u2", (), {}, LEDGER)
    assert scene.balance("u2") == before
    returned = scene.deliver()
    assert returned.data == TransferReturned(
        amount=400, asset="INR", cause=scene.position(refused), reason=code, to_user_id="u2", transfer_id="t1"
    )
    assert returned.postings == (("transit/transfers", "INR", -400), ("wallet/u1/cash", "INR", 400))
    assert returned.balances == {"INR": Balance(cash=1000)}
    assert scene.under_way == []
    assert scene.total("transit/transfers") == 0


def test_a_wallet_that_refused_a_transfer_before_it_was_opened_is_opened_normally() -> None:
    scene = Scene.with_cash(1000).given(transfer(400, "u2"))
    scene.deliver_all()
    assert scene.wallet("u2").status == "none"
    scene.when(open_wallet("u2"))
    assert scene.wallet("u2").status == "open"


@pytest.mark.parametrize(
    "command",
    [freeze_wallet(), set_limits(balance_max=0), set_limits(balance_max=None)],
    ids=["a frozen wallet", "a full wallet", "a wallet"],
)
def test_a_return_cannot_be_refused(command: Command) -> None:
    scene = Scene.with_cash(1000).given(transfer(400, "unopened"), command)
    scene.deliver_all()
    assert scene.balance() == Balance(cash=1000)


def test_a_transfer_under_way_still_counts_towards_the_largest_amount() -> None:
    scene = Scene.with_cash(AMOUNT_MAX).given(transfer(400, "unopened"))
    assert scene.refused(deposit(1, "o2")).code is Code.AMOUNT_OUT_OF_RANGE
    scene.deliver_all()
    assert scene.balance() == Balance(cash=AMOUNT_MAX)


def test_a_delivered_transfer_no_longer_counts_towards_the_largest_amount() -> None:
    scene = Scene.with_cash(AMOUNT_MAX).given(open_wallet("u2"), transfer(400, "u2"))
    scene.deliver_all()
    scene.when(deposit(400, "o2"))


def test_open_stakes_of_the_receiver_count_towards_the_largest_amount() -> None:
    scene = Scene.with_cash(10).given(
        open_wallet("u2"), deposit(AMOUNT_MAX, user_id="u2"), place_bet(10, user_id="u2"), transfer(10, "u2")
    )
    scene.deliver()
    assert scene.last(TransferRefused).reason == Code.AMOUNT_OUT_OF_RANGE
    scene.given(settle_bet(10, user_id="u2"))


def test_transfers_that_cross_each_other_both_arrive() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(transfer(30, "u2"), transfer(50, "u1", user_id="u2"))
    scene.deliver_all()
    assert (scene.balance("u1").cash, scene.balance("u2").cash) == (120, 80)


def test_a_returned_transfer_can_be_spent_again() -> None:
    scene = Scene.with_cash(100).given(transfer(100, "unopened"))
    assert scene.refused(adjust(-1)).code is Code.INSUFFICIENT_FUNDS
    scene.deliver_all()
    scene.when(adjust(-100))
