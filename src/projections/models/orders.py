"""Orders: deposits and withdrawals under their order ids, and what became of them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.core.events import Deposited, Event, Reversed, WithdrawalApproved, WithdrawalRejected, WithdrawalRequested
from ledger.core.position import Position
from projections.models.deposits import reversed_seq
from projections.models.rows import OrderRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import (
    Amount,
    AmountOrZero,
    Asset,
    EventPosition,
    Id,
    NextCursor,
    Reason,
    TimeUs,
    UserId,
)

OrderKind = Literal["deposit", "withdrawal"]
OrderStatus = Literal["completed", "pending", "approved", "rejected", "reversed"]


class Order(Struct, gc=False):
    """A deposit or a withdrawal."""

    user_id: UserId
    order_id: Annotated[Id, Meta(description="The order's id, chosen by the client", examples=["wd-1"])]
    kind: Annotated[OrderKind, Meta(description="Deposit or withdrawal", examples=["withdrawal"])]
    asset: Asset
    amount: Annotated[Amount, Meta(examples=[300_000])]
    bonus: Annotated[
        AmountOrZero,
        Meta(description="The deposit's bonus, in the asset's minor unit; 0 for withdrawals", examples=[0]),
    ]
    status: Annotated[
        OrderStatus,
        Meta(description="Deposits are completed or reversed; only withdrawals are pending", examples=["approved"]),
    ]
    reason: Annotated[Reason | None, Meta(description="As given by who resolved the order", examples=[None])]
    position: EventPosition
    created_at_us: TimeUs
    resolved_at_us: Annotated[TimeUs | None, Meta(description="When the order got its status; null while pending")]


class Orders(Struct, gc=False):
    """One page of all users' orders, newest first."""

    items: list[Order]
    next_cursor: NextCursor


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
