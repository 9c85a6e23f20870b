"""The list of wallets: of named users, or of all users whose id begins with a prefix."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, or_, select

from ledger.core.events import Event, WalletOpened
from ledger.core.position import Position
from projections.models import wallets
from projections.models.wallets import AssetRow, Wallet, WalletRow
from projections.tables import columns
from projections.tables.fields import NextCursor
from projections.tables.model import Model
from projections.tables.queries import Conditions, Cursor, Query, Rows, fields_of, newest_first, value
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import QUARANTINE, Tables

# --- rows and fold --------------------


class OpenedRow(Row):
    """Which event opened a wallet, and when: its place in the list."""

    table = "opened"
    key_length = 1
    read_by_folds = False
    indexes: ClassVar = {
        "opened_by_time": ("opened_at_us", "partition", "seq"),
        "opened_by_user": ("user_id", "opened_at_us"),
    }

    user_id: columns.UserId
    opened_at_us: int
    seq: int


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    if isinstance(event.data, WalletOpened):
        row = OpenedRow(event.user_id, event.time_us, position.seq)
        buffer[OpenedRow].add((event.user_id,), row)


MODEL: Final = Model((OpenedRow,), fold, of=(WalletOpened,))


# --- document


class Wallets(Struct, gc=False):
    """One page of wallets, newest first."""

    items: list[Wallet]
    next_cursor: NextCursor


# --- reads

TABLES: Final = (OpenedRow.table, WalletRow.table, AssetRow.table)
"""The tables that a page reads."""
_AFTER_ALL: Final = "\x7f"
"""Sorts after every character that a user id can have."""


def wallets_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """The place of each wallet (opened_at_us, partition, seq), the fields of its ``WalletRow`` and of one of its
    assets: a row for each asset, one row if there is none. At most ``most`` wallets, in no order.

    Conditions: ``prefix``; ``users=<n>``: one of n users; ``after`` a place.
    """
    o, wallet, asset = tables[OpenedRow].c, tables[WalletRow], tables[AssetRow]
    wanted: list[ColumnElement[bool]] = []
    count = user_count(conditions)
    if count:
        wanted.append(o.user_id.in_([value(f"user_{number}") for number in range(count)]))
    if "prefix" in conditions:
        wanted += [o.user_id >= value("prefix"), o.user_id < value("prefix_end")]
    if "after" in conditions:
        time_us, partition, seq = (value(f"after_{name}") for name in ("time_us", "partition", "seq"))
        older = or_(o.partition < partition, and_(o.partition == partition, o.seq < seq))
        wanted += [o.opened_at_us <= time_us, or_(o.opened_at_us < time_us, older)]
    page = newest_first(
        select(o.opened_at_us, o.partition, o.seq, o.user_id).where(*wanted), o.opened_at_us, o.partition, o.seq
    ).subquery()
    of_wallet = and_(wallet.c.partition == page.c.partition, wallet.c.user_id == page.c.user_id)
    of_asset = and_(asset.c.partition == page.c.partition, asset.c.user_id == page.c.user_id)
    wallet_fields = [column for column in wallet.c if column.name != "partition"]
    return select(page.c.opened_at_us, page.c.partition, page.c.seq, *wallet_fields, *fields_of(asset)).select_from(
        page.join(wallet, of_wallet).outerjoin(asset, of_asset)
    )


def quarantined_statement(_: Tables, conditions: Conditions) -> Select[Any]:
    """(partition, seq, time_us) of those of the named users who are quarantined. Conditions: ``users=<n>``."""
    numbers = range(user_count(conditions))
    q = QUARANTINE.c
    return select(q.partition, q.seq, q.time_us).where(
        q.generation == value("generation"),
        q.partition.in_([value(f"partition_{number}") for number in numbers]),
        q.user_id.in_([value(f"user_{number}") for number in numbers]),
    )


def user_count(conditions: Conditions) -> int:
    return next((int(text.removeprefix("users=")) for text in conditions if text.startswith("users=")), 0)


def page_query(users: Sequence[tuple[int, str]], prefix: str, at: Cursor | None, most: int) -> Query:
    """``users``: (partition, user_id) of the named users; empty: those whose id begins with ``prefix``."""
    values: dict[str, Any] = {"most": most}
    conditions: Conditions = frozenset()
    if users:
        conditions |= {f"users={len(users)}"}
        values |= {f"user_{number}": user_id for number, (_, user_id) in enumerate(users)}
    elif prefix:
        conditions |= {"prefix"}
        values |= {"prefix": prefix, "prefix_end": prefix + _AFTER_ALL}
    if at is not None:
        conditions |= {"after"}
        values |= dict(zip(("after_time_us", "after_partition", "after_seq"), at.after, strict=True))
    return Query(wallets_statement, values, conditions)


def quarantined_query(users: Sequence[tuple[int, str]]) -> Query:
    values: dict[str, Any] = {}
    for number, (partition, user_id) in enumerate(users):
        values |= {f"partition_{number}": partition, f"user_{number}": user_id}
    return Query(quarantined_statement, values, frozenset({f"users={len(users)}"}))


def documents(rows: Rows) -> list[tuple[tuple[int, int, int], Wallet]]:
    """Place and wallet, newest first, of the rows of ``wallets_statement``."""
    fields = len(WalletRow.__struct_fields__)
    by_place: dict[tuple[int, int, int], tuple[Sequence[Any], list[Sequence[Any]]]] = {}
    for row in rows:
        wallet, asset = row[3 : 3 + fields], row[3 + fields :]
        _, assets = by_place.setdefault((row[0], row[1], row[2]), (wallet, []))
        if asset[0] is not None:
            assets.append(asset)
    return [
        (place, wallets.document(wallet, sorted(assets, key=_asset)))
        for place, (wallet, assets) in sorted(by_place.items(), reverse=True)
    ]


def _asset(row: Sequence[Any]) -> str:
    asset: str = row[0]
    return asset
