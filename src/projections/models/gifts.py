"""Gifts: one row for each stream ``gift:<code>``. Whether a gift is expired is decided when it is read."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, and_, or_, select, true

from ledger.core.events import Event
from ledger.core.fields import GIFT_STREAM
from ledger.core.gift_events import GiftClosed, GiftCreated, GiftShareGranted
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.fields import Amount, AnyTimeUs, Asset, Code, NextCursor
from projections.tables.model import Model
from projections.tables.queries import Conditions, Cursor, Query, Rows, UserStatus, fields_of, of_one_user, value
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class GiftRow(Row):
    """``claimed`` counts the granted shares; ``closed`` is 1 once the gift is closed."""

    table = "gift"
    key_length = 1

    user_id: columns.UserId
    asset: columns.AssetCode
    amount: int
    claims: int
    claimed: int
    closed: columns.Small
    expires_at_us: int | None


def needs(event: Event, buffer: RowBuffer) -> None:
    if isinstance(event.data, GiftClosed | GiftShareGranted):
        buffer[GiftRow].want((event.user_id,))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    key, data = (event.user_id,), event.data
    match data:
        case GiftCreated():
            row = GiftRow(event.user_id, data.asset, data.amount, data.claims, 0, 0, data.expires_at_us)
            buffer[GiftRow].add(key, row)
        case GiftShareGranted():
            buffer[GiftRow].edit(key).claimed += 1
        case GiftClosed():
            buffer[GiftRow].edit(key).closed = 1


MODEL: Final = Model((GiftRow,), fold, needs, of=(GiftCreated, GiftShareGranted, GiftClosed))


# --- document


class Gift(Struct, gc=False):
    """A gift, and how many of its shares are claimed."""

    code: Code
    asset: Asset
    amount: Annotated[Amount, Meta(description="The whole gift, in the asset's minor unit", examples=[100_000])]
    claims: Annotated[int, Meta(ge=1, description="Into how many shares it is divided", examples=[100])]
    claimed: Annotated[int, Meta(ge=0, description="How many shares belong to a user", examples=[42])]
    status: Annotated[
        Literal["open", "closed", "expired", "used_up"],
        Meta(
            description=(
                "Only an open gift grants shares. Of several reasons the first of closed, used_up, expired is named"
            ),
            examples=["open"],
        ),
    ]
    expires_at_us: Annotated[AnyTimeUs | None, Meta(description="It is expired from this time on; null: no expiry")]


class Gifts(Struct, gc=False):
    """One page of gifts, in the order of their partitions and codes."""

    items: list[Gift]
    next_cursor: NextCursor


# --- reads


def gifts_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(partition, user_id) and the fields of at most ``most`` gifts. Conditions: ``after`` a place."""
    table = tables[GiftRow]
    c = table.c
    after: ColumnElement[bool] = true()
    if "after" in conditions:
        partition = value("after_partition")
        # The first condition says nothing more than the second one, but it is a range of the key.
        after = and_(c.partition >= partition, or_(c.partition > partition, c.user_id > value("after_user")))
    page = select(c.partition, c.user_id, *fields_of(table)).where(after)
    return page.order_by(c.partition, c.user_id).limit(value("most"))


def page_query(at: Cursor | None, most: int) -> Query:
    if at is None:
        return Query(gifts_statement, {"most": most})
    partition, user_id = at.after
    values = {"most": most, "after_partition": partition, "after_user": user_id}
    return Query(gifts_statement, values, frozenset({"after"}))


def gift_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[GiftRow]
    return select(*fields_of(table)).where(of_one_user(table))


GIFT: Final = Query(gift_statement)


def document(user: UserStatus, rows: Rows, now_us: int) -> Gift | None:
    """The gift as it is at ``now_us``."""
    return gift(user.user_id, rows[0], now_us) if rows else None


def gift(user_id: str, fields: Sequence[Any], now_us: int) -> Gift:
    """``fields``: those of its row, without the user."""
    asset, amount, claims, claimed, closed, expires_at_us = fields
    status: Literal["open", "closed", "expired", "used_up"] = "open"
    if closed:
        status = "closed"
    elif claimed == claims:
        status = "used_up"
    elif expires_at_us is not None and expires_at_us <= now_us:
        status = "expired"
    return Gift(user_id.removeprefix(GIFT_STREAM), asset, amount, claims, claimed, status, expires_at_us)
