"""Referral codes and their owners: one row for each stream ``code:<code>`` that has granted its code."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import Select, select

from ledger.core.events import Event
from ledger.core.fields import CODE_STREAM
from ledger.core.gift_events import ReferralCodeGranted
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.fields import Code, UserId
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, UserStatus, fields_of, of_one_user
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class CodeRow(Row):
    """``user_id`` is the stream of the code."""

    table = "referral_code"
    key_length = 1

    user_id: columns.UserId
    owner: columns.UserId


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    if isinstance(data, ReferralCodeGranted) and event.user_id != data.claimed_by:  # on the stream of the code
        buffer[CodeRow].add((event.user_id,), CodeRow(event.user_id, data.claimed_by))


MODEL: Final = Model((CodeRow,), fold, of=(ReferralCodeGranted,))


# --- document


class OwnedCode(Struct, gc=False):
    """A referral code and its owner."""

    code: Code
    user_id: Annotated[UserId, Meta(description="The owner of the code", examples=["agent-1"])]


# --- reads


def code_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[CodeRow]
    return select(*fields_of(table)).where(of_one_user(table))


CODE: Final = Query(code_statement)


def document(user: UserStatus, rows: Rows) -> OwnedCode | None:
    return OwnedCode(user.user_id.removeprefix(CODE_STREAM), rows[0][0]) if rows else None
