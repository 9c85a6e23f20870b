"""The fold of transfers: in the sender's wallet, and whether they were delivered."""

from projections.models.transfers import TransferRow
from unit.given import NOON, SECOND_US, Scene, transfer
from unit.read_model import row_of, rows_of


def test_a_transfer_is_sent_until_its_receiver_has_decided() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(transfer(30))
    sent = TransferRow("u1", "t1", "u2", "INR", 30, "sent", None, 5, NOON, None)
    assert rows_of(scene, TransferRow) == [sent]
    scene.deliver()
    assert rows_of(scene, TransferRow) == [sent], "the receiver's wallet has no row of it"


def test_a_delivered_transfer_has_the_time_of_the_delivery_event() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(transfer(30))
    scene.deliver()
    scene.now_us += SECOND_US
    scene.deliver()
    one = row_of(scene, TransferRow, "u1", "t1")
    assert (one.status, one.reason, one.resolved_at_us) == ("delivered", None, NOON + SECOND_US)


def test_a_returned_transfer_has_the_code_for_which_it_came_back() -> None:
    scene = Scene.with_cash(100).given(transfer(30, "nobody"))
    scene.deliver()
    scene.deliver()
    one = row_of(scene, TransferRow, "u1", "t1")
    assert (one.status, one.reason) == ("returned", "wallet_not_open")
