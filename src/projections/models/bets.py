"""Bets under their ids: open, settled or cancelled."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict
from sqlalchemy import ColumnElement, Select, or_, select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.events import Event
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.fields import (
    Amount,
    AmountOrZero,
    Asset,
    EventPosition,
    Game,
    Id,
    NextCursor,
    Text,
    TimeUs,
    UserId,
)
from projections.tables.model import Model
from projections.tables.queries import (
    Conditions,
    Cursor,
    Filters,
    Query,
    UserList,
    UserRead,
    after_place,
    by_id,
    fields_of,
    newest_first,
    of_one_user,
    only,
    place_in,
    value,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class BetRow(Row):
    table = "bet"
    key_length = 2
    in_log_order = True
    # One index for the list and for all its filters: each is answered from the index alone, at worst from all entries
    # of the user. An index for each filter would cost every bet three more pages.
    indexes: ClassVar = {
        "bet_by_time": ("partition", "user_id", "placed_at_us", "seq", "status", "game", "period", "settled_seq"),
    }

    user_id: columns.UserId
    bet_id: columns.Id
    game: columns.Text
    period: columns.Text
    selection: columns.Text
    asset: columns.AssetCode
    stake: int
    status: columns.Status
    payout: int | None
    seq: int
    placed_at_us: int
    settled_seq: int | None
    settled_at_us: int | None
    rules: columns.Digest | None = None
    """Of the pay table that it was taken under; None: a bet of a game without rules."""
    unpaid: int = 0
    """What it should have paid beyond ``payout``: the wallet had no room for it."""


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            buffer[BetRow].want((event.user_id, bet_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case BetPlaced():
            row = BetRow(
                user_id,
                data.bet_id,
                data.game,
                data.period,
                data.selection,
                data.asset,
                data.stake,
                "open",
                None,
                position.seq,
                event.time_us,
                None,
                None,
                data.rules,
            )
            buffer[BetRow].add((user_id, data.bet_id), row)
        case BetSettled():
            bet = buffer[BetRow].edit((user_id, data.bet_id))
            bet.status = "won" if data.payout > 0 else "lost"
            bet.payout, bet.unpaid = data.payout, data.unpaid or 0
            bet.settled_seq, bet.settled_at_us = position.seq, event.time_us
        case BetCancelled(before_bet=False):
            bet = buffer[BetRow].edit((user_id, data.bet_id))
            bet.status = "cancelled"
            bet.settled_seq, bet.settled_at_us = position.seq, event.time_us


MODEL: Final = Model((BetRow,), fold, needs, of=(BetPlaced, BetSettled, BetCancelled))


# --- document


BetStatus = Literal["open", "won", "lost", "cancelled"]


class Bet(Struct, gc=False):
    """A bet. A bet with a payout above 0 is won, with a payout of 0 lost."""

    bet_id: Annotated[Id, Meta(description="The bet's id, chosen by the client", examples=["bet-1"])]
    game: Game
    period: Annotated[Text, Meta(description="The game's round", examples=["2026-11-23/0042"])]
    selection: Annotated[Text, Meta(description="What the bet is on", examples=["red"])]
    asset: Asset
    stake: Annotated[Amount, Meta(description="The stake, in the asset's minor unit", examples=[50_000])]
    status: Annotated[BetStatus, Meta(description="Status of the bet", examples=["won"])]
    payout: Annotated[
        AmountOrZero | None,
        Meta(description="The payout, in the asset's minor unit; null until it is settled", examples=[95_000]),
    ]
    position: EventPosition
    placed_at_us: TimeUs
    settled_position: Annotated[
        EventPosition | None, Meta(description="Position of the settlement or cancellation", examples=["3:5"])
    ]
    settled_at_us: Annotated[TimeUs | None, Meta(description="Time of the settlement or cancellation")]
    unpaid: Annotated[
        AmountOrZero,
        Meta(
            description="What the bet should have paid beyond `payout`, in the asset's minor unit: the wallet had no "
            "room for it. The operator pays it with `adjust`; the bet still shows it afterwards",
            examples=[0],
        ),
    ]


class ChangedBet(Bet, gc=False):
    """A bet when it was placed, or when it was settled or cancelled, and whose it is."""

    user_id: UserId


class Bets(Struct, gc=False):
    """One page of a wallet's bets, newest first."""

    items: list[Bet]
    next_cursor: NextCursor


# --- reads


def bets_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``game`` ``period``; ``status``: the bet has it now; ``kept``: … and had it at ``as_of_seq``;
    ``left``: the bet was open at ``as_of_seq`` and is not open now; ``after`` a place."""
    table = tables[BetRow]
    c = table.c
    wanted: list[ColumnElement[bool]] = [of_one_user(table)]
    wanted += [c[name] == value(f"of_{name}") for name in ("game", "period", "status") if name in conditions]
    if "kept" in conditions:
        wanted.append(or_(c.settled_seq.is_(None), c.settled_seq <= value("as_of_seq")))
    if "left" in conditions:
        wanted.append(c.settled_seq > value("as_of_seq"))
    if "after" in conditions:
        wanted += after_place(c.placed_at_us, c.seq)
    return newest_first(select(*fields_of(table)).where(*wanted), c.placed_at_us, c.seq)


def bet_statement(tables: Tables, _: Conditions) -> Select[Any]:
    return by_id(tables[BetRow], "bet_id")


def placed_after_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """The first ``most`` bets of a user that were placed after a seq, in the order of seqs."""
    table = tables[BetRow]
    c = table.c
    wanted = (of_one_user(table), c.seq > value("after_seq"))
    return select(*fields_of(table)).where(*wanted).order_by(c.placed_at_us, c.seq).limit(value("most"))


def settled_after_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """The first ``most`` bets of a user that were settled or cancelled after a seq, in the order of those seqs."""
    table = tables[BetRow]
    c = table.c
    # The condition on placed_at_us is always true: with it SQLite takes the index that has settled_seq.
    wanted = (of_one_user(table), c.placed_at_us >= 0, c.settled_seq > value("after_seq"))
    return select(*fields_of(table)).where(*wanted).order_by(c.settled_seq).limit(value("most"))


def as_placed(user_id: str, partition: int, row: Sequence[Any]) -> tuple[int, ChangedBet]:
    """The seq at which the bet was placed, and the bet as it was then."""
    bet = _document(partition, row)
    seq: int = row[-6]
    then: dict[str, Any] = {"payout": None, "settled_position": None, "settled_at_us": None, "unpaid": 0}
    return seq, _changed(bet, user_id, status="open", **then)


def as_settled(user_id: str, partition: int, row: Sequence[Any]) -> tuple[int, ChangedBet]:
    """The seq at which the bet was settled or cancelled, and the bet since then."""
    seq: int = row[-4]
    return seq, _changed(_document(partition, row), user_id)


def _changed(bet: Bet, user_id: str, **changes: Any) -> ChangedBet:
    return ChangedBet(**{**asdict(bet), **changes}, user_id=user_id)


def _list_queries(filters: Filters, at: Cursor | None) -> list[Query]:
    values: dict[str, Any] = {f"of_{name}": value for name, value in filters.items()}
    conditions = frozenset(filters)
    if at is None:
        return [Query(bets_statement, values, conditions)]
    values |= {"after_time_us": at.after[0], "after_seq": at.after[1], "as_of_seq": at.snapshot[0]}
    conditions |= {"after"}
    queries = [Query(bets_statement, values, conditions | ({"kept"} if "status" in filters else set()))]
    if filters.get("status") == "open":
        queries.append(Query(bets_statement, values, conditions - {"status"} | {"left"}))
    return queries


def _document(partition: int, row: Sequence[Any]) -> Bet:
    *fields, seq, placed_at_us, settled_seq, settled_at_us, _rules, unpaid = row
    settled = None if settled_seq is None else f"{partition}:{settled_seq}"
    return Bet(*(*fields, f"{partition}:{seq}", placed_at_us, settled, settled_at_us, unpaid))


LIST: Final = UserList(
    "bets", "ii", place_in(BetRow, "placed_at_us", "seq"), _list_queries, _document, Bets, has_snapshot=True
)
"""Filters: some of ``game``, ``period``, ``status``. An open bet that is settled while a client pages is still in the
list, with the status that it has by then."""


def one(bet_id: str) -> UserRead:
    return UserRead(Query(bet_statement, {"id": bet_id}), only(_document), "bet_not_found")
