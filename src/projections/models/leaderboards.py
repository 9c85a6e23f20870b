"""Leaderboards: how much a user staked, won and netted on a UTC day, in an ISO week and in a month.

A stake counts on the day of its bet, a payout on the day of its settlement; a cancelled bet is not counted.
"""

from collections.abc import Sequence
from datetime import date as date_of
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, get_args

from msgspec import Meta, Struct
from sqlalchemy import Select, or_, select, union_all

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.wallet import DAY_US
from projections.models.bets import BetRow
from projections.tables import columns, wide
from projections.tables.fields import AnyTimeUs, Asset, SignedSum, UserId
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, value
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


Measure = Literal["staked", "won", "net"]
Span = Literal["day", "week", "month"]
MEASURES: Final = get_args(Measure)
SPANS: Final = get_args(Span)


class StandingRow(Row):
    """A user's bets in one asset of the last UTC day, ISO week and month in which the user's bets counted.

    ``day``, ``week`` and ``month`` are their first days, in days since 1970. ``staked`` counts on the day of the bet,
    ``won`` (payouts) and ``net`` (payouts less their stakes) on the day of the settlement. The sums are those of
    ``projections.tables.wide``.

    A bet changes this row alone, and no index has its sums: a leaderboard reads the rows of all users, 100,000 in
    15 ms. An index of the sums, or of their magnitudes, cost every bet more than all its other rows.
    """

    table = "standing"
    key_length = 2

    user_id: columns.UserId
    asset: columns.AssetCode
    day: columns.Small
    week: columns.Small
    month: columns.Small
    day_staked_high: int = 0
    day_staked_low: int = 0
    day_won_high: int = 0
    day_won_low: int = 0
    day_net_high: int = 0
    day_net_low: int = 0
    week_staked_high: int = 0
    week_staked_low: int = 0
    week_won_high: int = 0
    week_won_low: int = 0
    week_net_high: int = 0
    week_net_low: int = 0
    month_staked_high: int = 0
    month_staked_low: int = 0
    month_won_high: int = 0
    month_won_low: int = 0
    month_net_high: int = 0
    month_net_low: int = 0


class EndedRow(Row):
    """A user's sums of a day, week or month after which the user's bets counted in a later one.

    They change only when a bet of that time is cancelled.
    """

    table = "ended_standing"
    key_length = 4
    indexes: ClassVar = {
        "ended_by_time": (
            *("asset", "span", "first_day", "partition", "user_id"),
            *("staked_high", "staked_low", "won_high", "won_low", "net_high", "net_low"),
        )
    }

    user_id: columns.UserId
    asset: columns.AssetCode
    span: columns.Status
    first_day: columns.Small
    staked_high: int = 0
    staked_low: int = 0
    won_high: int = 0
    won_low: int = 0
    net_high: int = 0
    net_low: int = 0


_SUMS: Final = [f"{measure}_{half}" for measure in MEASURES for half in ("high", "low")]
"""The columns of an ``EndedRow``'s sums. Those of a ``StandingRow`` have the span in front."""


def _sum_columns(measure: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((span, f"{span}_{measure}_high", f"{span}_{measure}_low") for span in SPANS)


_STAKED: Final = _sum_columns("staked")
_WON: Final = _sum_columns("won")
_NET: Final = _sum_columns("net")


def needs(event: Event, buffer: RowBuffer) -> None:
    if isinstance(event.data, BetPlaced):
        buffer[StandingRow].want((event.user_id, event.data.asset))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is None:  # this run places it and wants its row; or it was cancelled before it came
                return
            buffer[StandingRow].want((event.user_id, bet.asset))
            if isinstance(event.data, BetCancelled):
                for span, first_day in _spans_of(bet.placed_at_us // DAY_US):
                    buffer[EndedRow].want((event.user_id, bet.asset, span, first_day))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = _standing(buffer, event.user_id, data.asset, event.time_us)
            for _, high, low in _STAKED:
                wide.add(row, high, low, data.stake)
        case BetSettled():
            bet = _bet(event, data.bet_id, buffer)
            row = _standing(buffer, event.user_id, bet.asset, event.time_us)
            for _, high, low in _WON:
                wide.add(row, high, low, data.payout)
            for _, high, low in _NET:
                wide.add(row, high, low, data.payout - bet.stake)
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, buffer)
            row = buffer[StandingRow].edit((event.user_id, bet.asset))
            placed = dict(_spans_of(bet.placed_at_us // DAY_US))
            for span, high, low in _STAKED:
                if getattr(row, span) == placed[span]:
                    wide.add(row, high, low, -bet.stake)
                else:
                    ended = buffer[EndedRow].edit((event.user_id, bet.asset, span, placed[span]))
                    wide.add(ended, "staked_high", "staked_low", -bet.stake)


def _standing(buffer: RowBuffer, user_id: str, asset: str, time_us: int) -> StandingRow:
    """The user's row, of the day, week and month of this time."""
    spans = _spans_of(time_us // DAY_US)
    (_, day), (_, week), (_, month) = spans
    row = buffer[StandingRow].edit_or_add((user_id, asset), day, week, month)
    if row.day != day:
        for span, first_day in spans:
            before: int = getattr(row, span)
            if before != first_day:
                sums = (getattr(row, f"{span}_{name}") for name in _SUMS)
                buffer[EndedRow].add((user_id, asset, span, before), EndedRow(user_id, asset, span, before, *sums))
                setattr(row, span, first_day)
                for name in _SUMS:
                    setattr(row, f"{span}_{name}", 0)
    return row


def _bet(event: Event, bet_id: str, buffer: RowBuffer) -> BetRow:
    bet = buffer[BetRow].get((event.user_id, bet_id))
    assert bet is not None, event
    return bet


MODEL: Final = Model((StandingRow, EndedRow), fold, needs, then_needs, of=(BetPlaced, BetSettled, BetCancelled))


# --- document


LEADERBOARDS: Final = {f"{measure}_{span}": (measure, span) for measure in MEASURES for span in SPANS}
"""Name → what is summed, and over how long."""
LeaderboardName = Annotated[str, Meta(extra_json_schema={"enum": list(LEADERBOARDS)})]


class Leader(Struct, gc=False):
    """A user on a leaderboard."""

    rank: Annotated[int, Meta(ge=1, description="1 for the largest value", examples=[1])]
    user_id: UserId
    value: Annotated[SignedSum, Meta(description="The user's sum, in the asset's minor unit; never 0")]


class Leaderboard(Struct, gc=False):
    """The users with the largest sums of a day, an ISO week or a month (UTC), largest first, ties by user_id.

    Users whose sum is 0 are left out.
    """

    name: Annotated[LeaderboardName, Meta(description="What is summed, and over how long", examples=["staked_week"])]
    asset: Asset
    from_us: Annotated[AnyTimeUs, Meta(description="Start of the period, included", examples=[1_795_392_000_000_000])]
    to_us: Annotated[AnyTimeUs, Meta(description="End of the period, not included", examples=[1_795_996_800_000_000])]
    items: list[Leader]


# --- reads

_EPOCH: Final = date_of(1970, 1, 1)


class Board(NamedTuple):
    """A leaderboard over ``first_day`` ≤ day < ``end_day``."""

    name: str
    asset: str
    first_day: int
    end_day: int


def days_of(name: str, at_us: int) -> tuple[int, int]:
    """The days that the leaderboard covers at a time: the first one, and the first one after. In days since 1970."""
    return _days_of(LEADERBOARDS[name][1], at_us // DAY_US)


def _days_of(span: str, day: int) -> tuple[int, int]:
    if span == "day":
        return day, day + 1
    date = _EPOCH + timedelta(days=day)
    if span == "week":
        first = day - date.weekday()
        return first, first + 7
    first_date = date.replace(day=1)
    next_date = (first_date + timedelta(days=31)).replace(day=1)
    return (first_date - _EPOCH).days, (next_date - _EPOCH).days


@lru_cache(maxsize=128)
def _spans_of(day: int) -> tuple[tuple[str, int], ...]:
    """The span and the first day of each leaderboard that counts what happens on this day."""
    return tuple((span, _days_of(span, day)[0]) for span in SPANS)


def leaders_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id, high, low) of the users whose sum is not 0, the largest first, ties by user_id. Conditions: one
    measure and one span."""
    (measure,), (span,) = conditions & set(MEASURES), conditions & set(SPANS)
    s, e = tables[StandingRow].c, tables[EndedRow].c
    high, low = s[f"{span}_{measure}_high"], s[f"{span}_{measure}_low"]
    last = select(s.user_id, high.label("high"), low.label("low")).where(
        s.asset == value("of_asset"), s[span] == value("first_day"), or_(high != 0, low != 0)
    )
    high, low = e[f"{measure}_high"], e[f"{measure}_low"]
    ended = select(e.user_id, high, low).where(
        e.asset == value("of_asset"), e.span == span, e.first_day == value("first_day"), or_(high != 0, low != 0)
    )
    both = union_all(last, ended).subquery().c
    return (
        select(both.user_id, both.high, both.low)
        .order_by(both.high.desc(), both.low.desc(), both.user_id)
        .limit(value("most"))
    )


def leaders(board: Board, most: int) -> Query:
    """The first users of a leaderboard."""
    measure, span = LEADERBOARDS[board.name]
    values = {"of_asset": board.asset, "first_day": board.first_day, "most": most}
    return Query(leaders_statement, values, frozenset({measure, span}))


def has_begun_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """One row if anything counts for a leaderboard, or for a later one of its span; else none. Conditions: one
    span."""
    (span,) = conditions
    s = tables[StandingRow].c
    return select(s[span]).where(s.asset == value("of_asset"), s[span] >= value("first_day")).limit(1)


def has_begun(board: Board) -> Query:
    _, span = LEADERBOARDS[board.name]
    values = {"of_asset": board.asset, "first_day": board.first_day}
    return Query(has_begun_statement, values, frozenset({span}))


def values_of(rows: Rows) -> list[tuple[str, int]]:
    """The users with their values, of the rows of ``leaders``."""
    return [(user_id, wide.total_of(high, low)) for user_id, high, low in rows]


def document(board: Board, values: Sequence[tuple[str, int]]) -> Leaderboard:
    name, asset, first_day, end_day = board
    ranked = [Leader(rank, user_id, value) for rank, (user_id, value) in enumerate(values, 1)]
    return Leaderboard(name, asset, first_day * DAY_US, end_day * DAY_US, ranked)
