"""Holds under their ids: open, captured, released or expired."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import Select

from ledger.core.events import Event
from ledger.core.hold_events import (
    HoldCaptured,
    HoldExpired,
    HoldPlaced,
    HoldReleased,
)
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.fields import Amount, AnyTimeUs, Asset, EventPosition, Id, NextCursor, TimeUs
from projections.tables.model import Model
from projections.tables.queries import (
    Conditions,
    Query,
    UserRead,
    by_id,
    list_by_time,
    only,
    page_by_time,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class HoldRow(Row):
    table = "hold"
    key_length = 2
    indexes: ClassVar = {
        "hold_by_time": ("partition", "user_id", "created_at_us", "seq"),
    }

    user_id: columns.UserId
    hold_id: columns.Id
    asset: columns.AssetCode
    amount: int
    status: columns.Status
    captured: int | None
    expires_at_us: int | None
    seq: int
    created_at_us: int
    resolved_seq: int | None
    resolved_at_us: int | None


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case HoldCaptured(hold_id=hold_id) | HoldReleased(hold_id=hold_id) | HoldExpired(hold_id=hold_id):
            buffer[HoldRow].want((event.user_id, hold_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
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
                position.seq,
                event.time_us,
                None,
                None,
            )
            buffer[HoldRow].add((user_id, data.hold_id), row)
        case HoldCaptured():
            hold = _resolve(event, position, buffer, data.hold_id, "captured")
            hold.captured = hold.amount if data.amount is None else data.amount
        case HoldReleased():
            _resolve(event, position, buffer, data.hold_id, "released")
        case HoldExpired():
            _resolve(event, position, buffer, data.hold_id, "expired")


def _resolve(event: Event, position: Position, buffer: RowBuffer, hold_id: str, status: str) -> HoldRow:
    hold = buffer[HoldRow].edit((event.user_id, hold_id))
    hold.status = status
    hold.resolved_seq, hold.resolved_at_us = position.seq, event.time_us
    return hold


MODEL: Final = Model((HoldRow,), fold, needs, of=(HoldPlaced, HoldCaptured, HoldReleased, HoldExpired))


# --- document


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


# --- reads


def holds_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``after`` a place."""
    return page_by_time(tables[HoldRow], conditions)


def hold_statement(tables: Tables, _: Conditions) -> Select[Any]:
    return by_id(tables[HoldRow], "hold_id")


def _document(partition: int, row: Sequence[Any]) -> Hold:
    *fields, seq, created_at_us, _, resolved_at_us = row
    return Hold(*(*fields, f"{partition}:{seq}", created_at_us, resolved_at_us))


LIST: Final = list_by_time("holds", HoldRow, holds_statement, _document, Holds)


def one(hold_id: str) -> UserRead:
    return UserRead(Query(hold_statement, {"id": hold_id}), only(_document), "hold_not_found")
