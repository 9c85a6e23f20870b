"""Holds under their ids, and how they ended."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.core.events import Event, HoldCaptured, HoldExpired, HoldPlaced, HoldReleased
from ledger.core.position import Position
from projections.models.rows import HoldRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import Amount, AnyTimeUs, Asset, EventPosition, Id, NextCursor, TimeUs


class Hold(Struct, gc=False):
    """Money set aside in a wallet until it is captured, released or expires."""

    hold_id: Annotated[Id, Meta(description="The hold's id, chosen by the client", examples=["hold-1"])]
    asset: Asset
    amount: Annotated[Amount, Meta(description="The amount set aside, in the asset's minor unit", examples=[40_000])]
    status: Annotated[
        Literal["open", "captured", "released", "expired"],
        Meta(description="Status of the hold", examples=["captured"]),
    ]
    captured: Annotated[
        Amount | None,
        Meta(
            description="The captured amount, in the asset's minor unit; null unless the hold is captured",
            examples=[25_000],
        ),
    ]
    expires_at_us: Annotated[AnyTimeUs | None, Meta(description="When the hold expires; null: never")]
    position: EventPosition
    created_at_us: TimeUs
    resolved_at_us: Annotated[TimeUs | None, Meta(description="When the hold was captured, released or expired")]


class Holds(Struct, gc=False):
    """One page of a wallet's holds, newest first."""

    items: list[Hold]
    next_cursor: NextCursor


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
