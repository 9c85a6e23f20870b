"""Orders: deposits and withdrawals under their order ids, and their status."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import Select, select

from ledger.core.events import Deposited, Event, Reversed, WithdrawalApproved, WithdrawalRejected, WithdrawalRequested
from ledger.core.position import Position
from projections.models.deposits import DepositRow, reversed_seq
from projections.tables import columns
from projections.tables.all_users import AllUsersList
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
from projections.tables.model import Model
from projections.tables.queries import (
    Conditions,
    Query,
    UserRead,
    of_one_user,
    only,
    value,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class OrderRow(Row):
    """``seq`` is the order's first event; ``resolved_seq`` the event that approved, rejected or reversed it."""

    table = "orders"
    key_length = 2
    indexes: ClassVar = {
        "orders_by_time": ("created_at_us", "partition", "seq"),
        "orders_by_status": ("status", "created_at_us", "partition", "seq"),
        "orders_by_resolution": ("status", "resolved_at_us"),
        "orders_by_kind": ("kind", "created_at_us", "partition", "seq"),
        "orders_by_user": ("partition", "user_id", "created_at_us", "seq"),
    }

    user_id: columns.UserId
    order_id: columns.Id
    kind: columns.Status
    asset: columns.AssetCode
    amount: int
    bonus: int
    status: columns.Status
    reason: columns.Reason | None
    seq: int
    created_at_us: int
    resolved_seq: int | None
    resolved_at_us: int | None


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case WithdrawalApproved(order_id=order_id) | WithdrawalRejected(order_id=order_id):
            buffer[OrderRow].want((event.user_id, order_id))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    if isinstance(event.data, Reversed):
        deposit = buffer[DepositRow].peek((reversed_seq(event.data),))
        if deposit is not None:
            buffer[OrderRow].want((event.user_id, deposit.order_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
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
                position.seq,
                event.time_us,
                None,
                event.time_us,
            )
            buffer[OrderRow].add((user_id, data.order_id), row)
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
                position.seq,
                event.time_us,
                None,
                None,
            )
            buffer[OrderRow].add((user_id, data.order_id), row)
        case WithdrawalApproved():
            _resolve(event, position, buffer, data.order_id, "approved", data.reason)
        case WithdrawalRejected():
            _resolve(event, position, buffer, data.order_id, "rejected", data.reason)
        case Reversed():
            deposit = buffer[DepositRow].get((reversed_seq(data),))
            if deposit is not None:  # else a grant or an adjustment
                _resolve(event, position, buffer, deposit.order_id, "reversed", data.reason)


def _resolve(
    event: Event, position: Position, buffer: RowBuffer, order_id: str, status: str, reason: str | None
) -> None:
    order = buffer[OrderRow].edit((event.user_id, order_id))
    order.status, order.reason = status, reason
    order.resolved_seq, order.resolved_at_us = position.seq, event.time_us


MODEL: Final = Model(
    (OrderRow,),
    fold,
    needs,
    then_needs,
    of=(Deposited, WithdrawalRequested, WithdrawalApproved, WithdrawalRejected, Reversed),
)


# --- document


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


# --- reads


KIND_OF: Final[Mapping[OrderStatus, OrderKind]] = {
    "completed": "deposit",
    "reversed": "deposit",
    "pending": "withdrawal",
    "approved": "withdrawal",
    "rejected": "withdrawal",
}
"""Status → the kind of the orders that can have it."""


def order_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[OrderRow]
    return select(*table.c).where(of_one_user(table), table.c.order_id == value("id"))


def document(row: Sequence[Any]) -> Order:
    """Of a whole row."""
    partition, *fields, seq, created_at_us, _, resolved_at_us = row
    return Order(*(*fields, f"{partition}:{seq}", created_at_us, resolved_at_us))


LIST: Final = AllUsersList(
    "orders",
    OrderRow,
    changes_to={"pending": ("approved", "rejected"), "completed": ("reversed",)},
    item=document,
    page=Orders,
)
"""Filters: ``kind`` or ``status``, and a user by ``partition`` and ``user_id``. A status implies its kind
(``KIND_OF``)."""


def one(order_id: str) -> UserRead:
    return UserRead(Query(order_statement, {"id": order_id}), only(lambda _, row: document(row)), "order_not_found")
