"""The fold of proposed adjustments: who proposed them, and who decided."""

from projections.models.adjustments import AdjustmentRow
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_adjustment,
    propose_adjustment,
    reject_adjustment,
)
from unit.read_model import row_of, rows_of


def test_a_proposed_adjustment_names_its_actor_and_its_reason() -> None:
    scene = Scene.with_cash(500).given(propose_adjustment(-5, "a1"), adjust(7))
    assert rows_of(scene, AdjustmentRow) == [
        AdjustmentRow("u1", "a1", "INR", -5, "goodwill", "proposed", "local", None, 3, NOON, None, None)
    ]


def test_an_approved_or_rejected_adjustment_names_who_decided_and_keeps_its_reason() -> None:
    scene = Scene.with_cash(500).given(propose_adjustment(5, "a1"), propose_adjustment(6, "a2"))
    reason = row_of(scene, AdjustmentRow, "u1", "a1").reason
    scene.now_us += SECOND_US
    scene.when(approve_adjustment("a1"), actor="op:2")
    scene.when(reject_adjustment("a2"), actor="op:2")
    for adjustment_id, status, seq in (("a1", "approved", 5), ("a2", "rejected", 6)):
        row = row_of(scene, AdjustmentRow, "u1", adjustment_id)
        assert (row.status, row.proposed_by, row.resolved_by) == (status, "local", "op:2")
        assert (row.resolved_seq, row.resolved_at_us, row.reason) == (seq, NOON + SECOND_US, reason)
