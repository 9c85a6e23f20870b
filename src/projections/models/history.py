"""History: one row for each event and asset that moved in a wallet; and the balances at a time."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, String, and_, cast, or_, select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.events import DATA_OF, Event
from ledger.core.position import Position
from projections.models.bets import BetRow
from projections.models.wallets import AssetRow
from projections.tables import columns
from projections.tables.fields import (
    AnyTimeUs,
    Asset,
    AssetText,
    Buckets,
    CommandId,
    EventPosition,
    Game,
    NextCursor,
    SignedAmount,
    TimeUs,
    UserId,
)
from projections.tables.model import Model
from projections.tables.queries import (
    Conditions,
    Cursor,
    Filters,
    Query,
    Rows,
    UserList,
    UserRead,
    UserStatus,
    fields_of,
    newest_first,
    of_one_user,
    value,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class HistoryRow(Row):
    """One event's effect on one asset of its wallet; ``data`` is the event's, as JSON.

    It has no index besides its key, which ends with the columns of the filters: a filter reads the wallet's keys in
    the order of time until a page is full, at worst all of them, 10 ms for 100,000. An index for each filter would
    cost every event three more pages. ``game`` is "" for an event without a game.
    """

    table = "history"
    key_length = 6
    read_by_folds = False
    in_log_order = True
    month_of = "time_us"

    user_id: columns.UserId
    time_us: int
    seq: int
    asset: columns.AssetCode
    type: columns.TypeName
    game: columns.Text
    command_id: columns.Id
    cash_change: int
    bonus_change: int
    held_change: int
    cash: int
    bonus: int
    held: int
    data: columns.Json


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    if not event.balances:
        return
    data = event.data
    own = f"wallet/{event.user_id}/"
    text = _encode(data).decode()
    game = _game(event, buffer)
    for asset, balance in event.balances.items():
        change = {"cash": 0, "bonus": 0, "held": 0}
        for account, posted_asset, amount in event.postings:
            if posted_asset == asset and account.startswith(own):
                change[account[len(own) :]] += amount
        row = HistoryRow(
            event.user_id,
            event.time_us,
            position.seq,
            asset,
            data.type,
            game,
            event.command_id,
            change["cash"],
            change["bonus"],
            change["held"],
            balance.cash,
            balance.bonus,
            balance.held,
            text,
        )
        buffer[HistoryRow].add((row.user_id, row.time_us, row.seq, row.asset, row.type, row.game), row)


def _game(event: Event, buffer: RowBuffer) -> str:
    match event.data:
        case BetPlaced(game=game):
            return game
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].get((event.user_id, bet_id))
            return "" if bet is None else bet.game
        case _:
            return ""


MODEL: Final = Model((HistoryRow,), fold)


# --- document


# Sorted maps, as in the record: the data of a line is the record's, member for member.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class BalanceAt(Struct, gc=False):
    """The buckets at a time; an asset is left out before its first event."""

    user_id: UserId
    at_us: Annotated[AnyTimeUs, Meta(description="Every event up to this time is in the balances")]
    balances: Annotated[dict[AssetText, Buckets], Meta(description="Asset to balance")]


EventType = Annotated[str, Meta(extra_json_schema={"enum": list(DATA_OF)})]


class Change(Struct, gc=False):
    """What an event added to each bucket of one asset, in the asset's minor unit; below 0 where it took."""

    cash: SignedAmount
    bonus: SignedAmount
    held: SignedAmount


class HistoryItem(Struct, gc=False):
    """One event's effect on one asset of the wallet."""

    position: Annotated[EventPosition, Meta(description="Position of the event")]
    time_us: TimeUs
    type: Annotated[EventType, Meta(description="The event's type", examples=["bet_placed"])]
    command_id: CommandId
    asset: Asset
    game: Annotated[Game | None, Meta(description="The bet's game, also when it is settled or cancelled")]
    change: Annotated[Change, Meta(description="What the event added to each bucket")]
    balances: Annotated[Buckets, Meta(description="The buckets after the event")]
    data: Annotated[
        msgspec.Raw,
        Meta(
            description="The event's data, as in its record",
            examples=[{"bet_id": "bet-1", "payout": 95_000}],
            extra_json_schema={"type": "object"},
        ),
    ]


class History(Struct, gc=False):
    """One page of a wallet's history, newest first."""

    items: list[HistoryItem]
    next_cursor: NextCursor


# --- reads


def history_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``type`` ``asset`` ``game`` ``from_us`` ``to_us``; ``after`` a place."""
    table = tables[HistoryRow]
    c = table.c
    wanted: list[ColumnElement[bool]] = [of_one_user(table)]
    wanted += [c[name] == value(f"of_{name}") for name in ("type", "asset", "game") if name in conditions]
    if "from_us" in conditions:
        wanted.append(c.time_us >= value("from_us"))
    if "to_us" in conditions:
        wanted.append(c.time_us < value("to_us"))
    if "after" in conditions:
        time_us, seq, asset = (value(f"after_{name}") for name in ("time_us", "seq", "asset"))
        wanted += [c.time_us <= time_us, or_(c.time_us < time_us, c.seq < seq, and_(c.seq == seq, c.asset < asset))]
    return newest_first(select(*fields_of(table)).where(*wanted), c.time_us, c.seq, c.asset)


def balances_at_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(asset, buckets) as they were at ``at_us``. ``buckets`` is a text, cash, bonus and held with spaces between
    them, so that one look-up finds all; null before the first move."""
    asset, history = tables[AssetRow], tables[HistoryRow]
    h = history.c
    buckets = cast(h.cash, String) + " " + cast(h.bonus, String) + " " + cast(h.held, String)
    last = (
        select(buckets)
        .where(
            h.partition == asset.c.partition,
            h.user_id == asset.c.user_id,
            h.asset == asset.c.asset,
            h.time_us <= value("at_us"),
        )
        .order_by(h.time_us.desc(), h.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(asset.c.asset, last)
        .where(of_one_user(asset), asset.c.since_us <= value("at_us"))
        .order_by(asset.c.asset)
    )


def balances_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(asset, cash, bonus, held, since_us, last move of the wallet) as they are now."""
    asset, history = tables[AssetRow], tables[HistoryRow]
    last_move_us = (
        select(history.c.time_us)
        .where(of_one_user(history))
        .order_by(history.c.time_us.desc(), history.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(asset.c.asset, asset.c.cash, asset.c.bonus, asset.c.held, asset.c.since_us, last_move_us)
        .where(of_one_user(asset))
        .order_by(asset.c.asset)
    )


def _list_queries(filters: Filters, at: Cursor | None) -> list[Query]:
    values: dict[str, Any] = {name if name.endswith("_us") else f"of_{name}": filters[name] for name in filters}
    conditions = frozenset(filters)
    if at is not None:
        conditions |= {"after"}
        values |= dict(zip(("after_time_us", "after_seq", "after_asset"), at.after, strict=True))
    return [Query(history_statement, values, conditions)]


def _place(row: Sequence[Any]) -> tuple[int, int, str]:
    return row[0], row[1], row[2]


def _document(partition: int, row: Sequence[Any]) -> HistoryItem:
    time_us, seq, asset, kind, game, command_id, d_cash, d_bonus, d_held, cash, bonus, held, data = row
    return HistoryItem(
        f"{partition}:{seq}",
        time_us,
        kind,
        command_id,
        asset,
        game or None,
        Change(d_cash, d_bonus, d_held),
        Buckets(cash, bonus, held),
        msgspec.Raw(data.encode()),
    )


LIST: Final = UserList("history", "iit", _place, _list_queries, _document, History)
"""Filters: some of ``type``, ``asset``, ``game``, ``from_us``, ``to_us``."""


def balance_at(at_us: int) -> UserRead:
    def document(user: UserStatus, rows: Rows) -> BalanceAt:
        balances = {asset: Buckets(*map(int, (buckets or "0 0 0").split())) for asset, buckets in rows}
        return BalanceAt(user.user_id, at_us, balances)

    return UserRead(Query(balances_at_statement, {"at_us": at_us}), document, quick=False)


def balance_now(now_us: int) -> UserRead:
    """The balances at ``as_of``, independent of clocks. An event may be later than ``now_us``, because its time comes
    from another node's clock; ``at_us`` is then the time of that event."""

    def document(user: UserStatus, rows: Rows) -> BalanceAt:
        balances = {asset: Buckets(cash, bonus, held) for asset, cash, bonus, held, _, _ in rows}
        times_us = [time_us for *_, since_us, moved_us in rows for time_us in (since_us, moved_us or since_us)]
        return BalanceAt(user.user_id, max([now_us, *times_us]), balances)

    return UserRead(Query(balances_statement), document)
