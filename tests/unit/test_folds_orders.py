"""The fold of orders: deposits and withdrawals under their order ids; and the index of deposits by their events."""

from projections.models.deposits import DepositRow
from projections.models.orders import OrderRow
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_withdrawal,
    deposit,
    grant_bonus,
    open_wallet,
    reject_withdrawal,
    request_withdrawal,
    reverse,
)
from unit.read_model import row_of, rows_of


def test_a_deposit_is_completed_when_it_is_made() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1", bonus=20))
    assert rows_of(scene, OrderRow) == [
        OrderRow("u1", "o1", "deposit", "INR", 500, 20, "completed", None, 2, NOON, None, NOON)
    ]
    assert rows_of(scene, DepositRow) == [DepositRow(2, "o1")]


def test_a_withdrawal_is_pending_until_it_is_decided() -> None:
    scene = Scene.with_cash(500).given(request_withdrawal(100, "w1"))
    pending = OrderRow("u1", "w1", "withdrawal", "INR", 100, 0, "pending", None, 3, NOON, None, None)
    assert row_of(scene, OrderRow, "u1", "w1") == pending


def test_an_approved_withdrawal_has_the_time_the_place_and_the_reason_of_its_approval() -> None:
    scene = Scene.with_cash(500).given(request_withdrawal(100, "w1"))
    scene.now_us += SECOND_US
    scene.given(approve_withdrawal("w1", reason="checked"))
    order = row_of(scene, OrderRow, "u1", "w1")
    assert (order.status, order.reason, order.resolved_seq) == ("approved", "checked", 4)
    assert (order.created_at_us, order.resolved_at_us) == (NOON, NOON + SECOND_US)


def test_a_rejected_withdrawal_may_have_no_reason() -> None:
    scene = Scene.with_cash(500).given(request_withdrawal(100, "w1"), reject_withdrawal("w1"))
    order = row_of(scene, OrderRow, "u1", "w1")
    assert (order.status, order.reason, order.resolved_seq) == ("rejected", None, 4)


def test_a_reversal_of_a_deposit_reverses_its_order() -> None:
    scene = Scene().given(open_wallet(), deposit(500, "o1"), deposit(7, "o2"))
    scene.now_us += SECOND_US
    scene.given(reverse("3:2", reason="charged back"))
    order = row_of(scene, OrderRow, "u1", "o1")
    assert (order.status, order.reason, order.resolved_seq) == ("reversed", "charged back", 4)
    assert order.resolved_at_us == NOON + SECOND_US
    assert row_of(scene, OrderRow, "u1", "o2").status == "completed"


def test_a_reversal_of_a_grant_or_an_adjustment_touches_no_order() -> None:
    scene = Scene.with_cash(500).given(grant_bonus(9), adjust(5), reverse("3:3"), reverse("3:4"))
    assert [(row.order_id, row.status) for row in rows_of(scene, OrderRow)] == [("o1", "completed")]


def test_one_order_id_in_two_wallets_is_two_orders() -> None:
    scene = Scene.with_cash(500, "u1", "U1").given(request_withdrawal(1, "w", user_id="U1"))
    assert [(row.user_id, row.order_id) for row in rows_of(scene, OrderRow)] == [
        ("U1", "o1"),
        ("U1", "w"),
        ("u1", "o1"),
    ]
