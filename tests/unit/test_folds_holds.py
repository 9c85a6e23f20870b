"""The fold of holds: under their ids, and how they ended."""

from projections.models.holds import HoldRow
from unit.given import NOON, SECOND_US, Scene, capture_hold, hold, release_hold
from unit.read_model import row_of, rows_of


def test_a_hold_is_open_with_its_expiry() -> None:
    scene = Scene.with_cash(100).given(hold(30, "h1"), hold(20, "h2", expires_at_us=NOON + SECOND_US))
    assert rows_of(scene, HoldRow) == [
        HoldRow("u1", "h1", "INR", 30, "open", None, None, 3, NOON, None, None),
        HoldRow("u1", "h2", "INR", 20, "open", None, NOON + SECOND_US, 4, NOON, None, None),
    ]


def test_a_capture_without_amount_captures_all() -> None:
    scene = Scene.with_cash(100).given(hold(30, "h1"), hold(20, "h2"), capture_hold("h1"), capture_hold("h2", 5))
    all_of_it, part = rows_of(scene, HoldRow)
    assert (all_of_it.status, all_of_it.captured, all_of_it.resolved_seq) == ("captured", 30, 5)
    assert (part.status, part.captured, part.amount, part.resolved_seq) == ("captured", 5, 20, 6)


def test_a_released_hold_captured_nothing() -> None:
    scene = Scene.with_cash(100).given(hold(30))
    scene.now_us += SECOND_US
    scene.given(release_hold())
    one = row_of(scene, HoldRow, "u1", "h1")
    assert (one.status, one.captured, one.resolved_seq, one.resolved_at_us) == ("released", None, 4, NOON + SECOND_US)


def test_an_expired_hold_ends_when_it_was_found_expired() -> None:
    scene = Scene.with_cash(100).given(hold(30, expires_at_us=NOON + SECOND_US))
    scene.now_us += 2 * SECOND_US
    scene.tick()
    one = row_of(scene, HoldRow, "u1", "h1")
    assert (one.status, one.captured, one.resolved_seq) == ("expired", None, 4)
    assert one.resolved_at_us == scene.events[-1].time_us
