"""Transfers in the sender's wallet, and whether they arrived."""

from ledger.core.events import Event, TransferDelivered, TransferReturned, TransferSent
from ledger.core.position import Position
from projections.models.rows import TransferRow
from projections.storage.row_buffer import RowBuffer


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
