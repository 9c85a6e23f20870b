"""Proposed adjustments, and how they were decided. An `adjust` command needs no proposal and is not among them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct

from ledger.core.events import AdjustmentApproved, AdjustmentProposed, AdjustmentRejected, Event
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.all_users import AllUsersList
from projections.tables.fields import Asset, EventPosition, Id, NextCursor, Reason, SignedAmount, TimeUs, UserId
from projections.tables.model import Model
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row

# --- rows and fold --------------------


class AdjustmentRow(Row):
    """``seq`` is the proposal; ``resolved_seq`` the event that approved or rejected it."""

    table = "adjustment"
    key_length = 2
    indexes: ClassVar = {
        "adjustment_by_time": ("created_at_us", "partition", "seq"),
        "adjustment_by_status": ("status", "created_at_us", "partition", "seq"),
        "adjustment_by_resolution": ("status", "resolved_at_us"),
    }

    user_id: columns.UserId
    adjustment_id: columns.Id
    asset: columns.AssetCode
    amount: int
    reason: columns.Reason
    status: columns.Status
    proposed_by: columns.UserId
    resolved_by: columns.UserId | None
    seq: int
    created_at_us: int
    resolved_seq: int | None
    resolved_at_us: int | None


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case AdjustmentApproved(adjustment_id=adjustment_id) | AdjustmentRejected(adjustment_id=adjustment_id):
            buffer[AdjustmentRow].want((event.user_id, adjustment_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case AdjustmentProposed():
            row = AdjustmentRow(
                user_id,
                data.adjustment_id,
                data.asset,
                data.amount,
                data.reason,
                "proposed",
                event.actor,
                None,
                position.seq,
                event.time_us,
                None,
                None,
            )
            buffer[AdjustmentRow].add((user_id, data.adjustment_id), row)
        case AdjustmentApproved() | AdjustmentRejected():
            adjustment = buffer[AdjustmentRow].edit((user_id, data.adjustment_id))
            adjustment.status = "approved" if isinstance(data, AdjustmentApproved) else "rejected"
            adjustment.resolved_by = event.actor
            adjustment.resolved_seq, adjustment.resolved_at_us = position.seq, event.time_us


MODEL: Final = Model((AdjustmentRow,), fold, needs, of=(AdjustmentProposed, AdjustmentApproved, AdjustmentRejected))


# --- document


AdjustmentStatus = Literal["proposed", "approved", "rejected"]
Actor = Annotated[str, Meta(max_length=64)]


class Adjustment(Struct, gc=False):
    """A correction of a wallet's cash that one actor proposes and another one decides."""

    user_id: UserId
    adjustment_id: Annotated[Id, Meta(description="The adjustment's id, chosen by the client", examples=["adj-1"])]
    asset: Asset
    amount: Annotated[
        SignedAmount,
        Meta(description="What it adds to cash, in the asset's minor unit; below 0: takes", examples=[5_000]),
    ]
    reason: Annotated[Reason, Meta(description="Why it was proposed", examples=["goodwill after an outage"])]
    status: Annotated[AdjustmentStatus, Meta(description="Status of the adjustment", examples=["approved"])]
    proposed_by: Annotated[Actor, Meta(description="The actor who proposed it", examples=["local"])]
    resolved_by: Annotated[
        Actor | None,
        Meta(description="The actor who approved or rejected it; null before", examples=["back-office:meera"]),
    ]
    position: EventPosition
    created_at_us: TimeUs
    resolved_at_us: Annotated[TimeUs | None, Meta(description="When it was approved or rejected; null before")]


class Adjustments(Struct, gc=False):
    """One page of all users' proposed adjustments, newest first."""

    items: list[Adjustment]
    next_cursor: NextCursor


# --- reads


def document(row: Sequence[Any]) -> Adjustment:
    """Of a whole row."""
    partition, *fields, seq, created_at_us, _, resolved_at_us = row
    return Adjustment(*(*fields, f"{partition}:{seq}", created_at_us, resolved_at_us))


LIST: Final = AllUsersList(
    "adjustments",
    AdjustmentRow,
    changes_to={"proposed": ("approved", "rejected")},
    item=document,
    page=Adjustments,
)
"""Filter: ``status``."""
