"""Transfers in the sender's wallet, and whether they arrived."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.core.events import Event, TransferDelivered, TransferReturned, TransferSent
from ledger.core.position import Position
from projections.models.rows import TransferRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import Amount, Asset, EventPosition, Id, Reason, TimeUs, UserId


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


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case TransferDelivered(transfer_id=transfer_id) | TransferReturned(transfer_id=transfer_id):
            book.transfers.want((event.user_id, transfer_id))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
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
                place.seq,
                event.time_us,
                None,
            )
            book.transfers.add((user_id, data.transfer_id), row)
        case TransferDelivered():
            transfer = book.transfers.edit((user_id, data.transfer_id))
            transfer.status, transfer.resolved_at_us = "delivered", event.time_us
        case TransferReturned():
            transfer = book.transfers.edit((user_id, data.transfer_id))
            transfer.status, transfer.reason = "returned", data.reason
            transfer.resolved_at_us = event.time_us
