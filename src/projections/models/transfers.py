"""Transfers in the sender's wallet, and whether they were delivered."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import Select

from ledger.core.events import Event, TransferDelivered, TransferReturned, TransferSent
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.fields import Amount, Asset, EventPosition, Id, NextCursor, Reason, TimeUs, UserId
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


class TransferRow(Row):
    """In the sender's wallet."""

    table = "transfer"
    key_length = 2
    indexes: ClassVar = {
        "transfer_by_time": ("partition", "user_id", "created_at_us", "seq"),
    }

    user_id: columns.UserId
    transfer_id: columns.Id
    to_user_id: columns.UserId
    asset: columns.AssetCode
    amount: int
    status: columns.Status
    reason: columns.Reason | None
    seq: int
    created_at_us: int
    resolved_at_us: int | None


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case TransferDelivered(transfer_id=transfer_id) | TransferReturned(transfer_id=transfer_id):
            buffer[TransferRow].want((event.user_id, transfer_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case TransferSent():
            row = TransferRow(
                user_id,
                data.transfer_id,
                data.to_user_id,
                data.asset,
                data.amount,
                "sent",
                None,
                position.seq,
                event.time_us,
                None,
            )
            buffer[TransferRow].add((user_id, data.transfer_id), row)
        case TransferDelivered():
            transfer = buffer[TransferRow].edit((user_id, data.transfer_id))
            transfer.status, transfer.resolved_at_us = "delivered", event.time_us
        case TransferReturned():
            transfer = buffer[TransferRow].edit((user_id, data.transfer_id))
            transfer.status, transfer.reason = "returned", data.reason
            transfer.resolved_at_us = event.time_us


MODEL: Final = Model((TransferRow,), fold, needs, of=(TransferSent, TransferDelivered, TransferReturned))


# --- document


class SentTransfer(Struct, gc=False):
    """A transfer, as it is in its sender's wallet."""

    transfer_id: Annotated[Id, Meta(description="The transfer's id, chosen by the client", examples=["tr-1"])]
    to_user_id: Annotated[UserId, Meta(description="The receiver", examples=["player-18"])]
    asset: Asset
    amount: Annotated[Amount, Meta(examples=[20_000])]
    status: Annotated[
        Literal["sent", "delivered", "returned"],
        Meta(description="A transfer that the receiver's wallet refuses is returned", examples=["delivered"]),
    ]
    reason: Annotated[
        Reason | None,
        Meta(description="The code for which the transfer was returned", examples=["balance_max_exceeded"]),
    ]
    position: EventPosition
    created_at_us: TimeUs
    resolved_at_us: Annotated[TimeUs | None, Meta(description="When the transfer was delivered or returned")]


class Transfers(Struct, gc=False):
    """One page of the transfers that a wallet sent, newest first."""

    items: list[SentTransfer]
    next_cursor: NextCursor


# --- reads


def transfers_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``after`` a place."""
    return page_by_time(tables[TransferRow], conditions)


def transfer_statement(tables: Tables, _: Conditions) -> Select[Any]:
    return by_id(tables[TransferRow], "transfer_id")


def _document(partition: int, row: Sequence[Any]) -> SentTransfer:
    *fields, seq, created_at_us, resolved_at_us = row
    return SentTransfer(*(*fields, f"{partition}:{seq}", created_at_us, resolved_at_us))


LIST: Final = list_by_time("transfers", TransferRow, transfers_statement, _document, Transfers)


def one(transfer_id: str) -> UserRead:
    return UserRead(Query(transfer_statement, {"id": transfer_id}), only(_document), "transfer_not_found")
