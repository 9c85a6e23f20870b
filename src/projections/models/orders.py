"""Orders: deposits and withdrawals under their order ids, and what became of them."""

from ledger.core.events import Deposited, Event, Reversed, WithdrawalApproved, WithdrawalRejected, WithdrawalRequested
from ledger.core.position import Position
from projections.models.deposits import reversed_seq
from projections.models.rows import OrderRow
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case WithdrawalApproved(order_id=order_id) | WithdrawalRejected(order_id=order_id):
            book.orders.want((event.user_id, order_id))


def then_needs(event: Event, book: RowBuffer) -> None:
    if isinstance(event.data, Reversed):
        deposit = book.deposits.peek((reversed_seq(event.data),))
        if deposit is not None:
            book.orders.want((event.user_id, deposit.order_id))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case Deposited():
            row = OrderRow(
                user_id,
                data.order_id,
                "deposit",
                data.asset,
                data.amount,
                data.bonus or 0,
                "completed",
                None,
                place.seq,
                event.time_us,
                None,
                event.time_us,
            )
            book.orders.add((user_id, data.order_id), row)
        case WithdrawalRequested():
            row = OrderRow(
                user_id,
                data.order_id,
                "withdrawal",
                data.asset,
                data.amount,
                0,
                "pending",
                None,
                place.seq,
                event.time_us,
                None,
                None,
            )
            book.orders.add((user_id, data.order_id), row)
        case WithdrawalApproved():
            _resolve(event, place, book, data.order_id, "approved", data.reason)
        case WithdrawalRejected():
            _resolve(event, place, book, data.order_id, "rejected", data.reason)
        case Reversed():
            deposit = book.deposits.get((reversed_seq(data),))
            if deposit is not None:  # else a grant or an adjustment
                _resolve(event, place, book, deposit.order_id, "reversed", data.reason)


def _resolve(event: Event, place: Position, book: RowBuffer, order_id: str, status: str, reason: str | None) -> None:
    order = book.orders.edit((event.user_id, order_id))
    order.status, order.reason = status, reason
    order.resolved_seq, order.resolved_at_us = place.seq, event.time_us
