"""Holds under their ids, and how they ended."""

from ledger.core.events import Event, HoldCaptured, HoldExpired, HoldPlaced, HoldReleased
from ledger.core.position import Position
from projections.models.rows import HoldRow
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case HoldCaptured(hold_id=hold_id) | HoldReleased(hold_id=hold_id) | HoldExpired(hold_id=hold_id):
            book.holds.want((event.user_id, hold_id))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case HoldPlaced():
            row = HoldRow(
                user_id,
                data.hold_id,
                data.asset,
                data.amount,
                "open",
                None,
                data.expires_at_us,
                place.seq,
                event.time_us,
                None,
                None,
            )
            book.holds.add((user_id, data.hold_id), row)
        case HoldCaptured():
            hold = _resolve(event, place, book, data.hold_id, "captured")
            hold.captured = hold.amount if data.amount is None else data.amount
        case HoldReleased():
            _resolve(event, place, book, data.hold_id, "released")
        case HoldExpired():
            _resolve(event, place, book, data.hold_id, "expired")


def _resolve(event: Event, place: Position, book: RowBuffer, hold_id: str, status: str) -> HoldRow:
    hold = book.holds.edit((event.user_id, hold_id))
    hold.status = status
    hold.resolved_seq, hold.resolved_at_us = place.seq, event.time_us
    return hold
