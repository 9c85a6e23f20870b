"""Leaderboards: how much a user staked, won and netted on a UTC day, in an ISO week and in a month.

A stake counts on the day of its bet, a payout on the day of its settlement; a cancelled bet is not counted.
"""

from collections.abc import Sequence
from datetime import date as date_of
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, get_args

from msgspec import Meta, Struct
from sqlalchemy import Select, func, literal_column, select

from ledger.core.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from ledger.core.wallet import DAY_US
from projections.models.bets import BetRow
from projections.tables import columns
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
LOW_BITS: Final = 48
LOW_MASK: Final = (1 << LOW_BITS) - 1
_COLUMNS: Final = {measure: (f"{measure}_high", f"{measure}_low") for measure in MEASURES}
_PLACED: Final = "bet placed in this run"
"""Note → the bet's asset, for a bet whose row is made in the same run that settles it."""


class LeaderboardRow(Row):
    """A user's bets of one UTC day, ISO week or month in one asset; ``first_day`` in days since 1970.

    ``staked`` counts on the day of the bet, ``won`` (payouts) and ``net`` (payouts less their stakes) on the day of
    the settlement. Databases sort by these sums, so they cannot be texts; and a thousand stakes of the largest amount
    exceed 64 bits. So a sum is high × 2^48 + low, 0 ≤ low < 2^48.
    """

    table = "standing"
    key_length = 4

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

    def add(self, measure: str, amount: int) -> int:
        """Add to a sum. Returns the sum."""
        high_name, low_name = _COLUMNS[measure]
        total: int = (getattr(self, high_name) << LOW_BITS) + getattr(self, low_name) + amount
        setattr(self, high_name, total >> LOW_BITS)
        setattr(self, low_name, total & LOW_MASK)
        return total


class MagnitudeRow(Row):
    """The magnitudes of a ``LeaderboardRow``: the indexes that find the users with the largest sums.

    A magnitude (``magnitude``) changes each time a sum doubles, not with each bet. An index of the sums themselves
    would be changed by each bet, in three spans and three measures: that wrote ten times as much.
    """

    table = "magnitude"
    key_length = 4
    indexes: ClassVar = {
        f"magnitude_by_{measure}": ("asset", "span", "first_day", measure, "partition", "user_id")
        for measure in MEASURES
    }

    user_id: columns.UserId
    asset: columns.AssetCode
    span: columns.Status
    first_day: columns.Small
    staked: columns.Small = 0
    won: columns.Small = 0
    net: columns.Small = 0


def magnitude(amount: int) -> int:
    """The number of bits of the amount, with the sign of the amount. It never decreases as the amount grows."""
    return amount.bit_length() if amount >= 0 else -amount.bit_length()


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetPlaced(asset=asset, bet_id=bet_id):
            buffer.notes[_PLACED, event.user_id, bet_id] = asset
            _want(buffer, event.user_id, asset, event.time_us)


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id):
            key = (event.user_id, bet_id)
            bet = buffer[BetRow].peek(key)
            asset = buffer.notes.get((_PLACED, *key)) if bet is None else bet.asset
            if asset is not None:
                _want(buffer, event.user_id, asset, event.time_us)
        case BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is not None:  # else this run places it and wants the rows of its day
                _want(buffer, event.user_id, bet.asset, bet.placed_at_us)


def _want(buffer: RowBuffer, user_id: str, asset: str, time_us: int) -> None:
    for span, first_day in _spans_of(time_us // DAY_US):
        for kind in MODEL.rows:
            buffer[kind].want((user_id, asset, span, first_day))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            _count(buffer, event.user_id, data.asset, event.time_us, ("staked", data.stake))
        case BetSettled():
            bet = _bet(event, data.bet_id, buffer)
            net = data.payout - bet.stake
            _count(buffer, event.user_id, bet.asset, event.time_us, ("won", data.payout), ("net", net))
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, buffer)
            _count(buffer, event.user_id, bet.asset, bet.placed_at_us, ("staked", -bet.stake))


def _count(buffer: RowBuffer, user_id: str, asset: str, time_us: int, *amounts: tuple[str, int]) -> None:
    for span, first_day in _spans_of(time_us // DAY_US):
        key = (user_id, asset, span, first_day)
        row = buffer[LeaderboardRow].edit_or_add(key)
        for measure, amount in amounts:
            after = row.add(measure, amount)
            now = magnitude(after)
            if now != magnitude(after - amount):
                setattr(buffer[MagnitudeRow].edit_or_add(key), measure, now)


def _bet(event: Event, bet_id: str, buffer: RowBuffer) -> BetRow:
    bet = buffer[BetRow].get((event.user_id, bet_id))
    assert bet is not None, event
    return bet


MODEL: Final = Model((LeaderboardRow, MagnitudeRow), fold, needs, then_needs)


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
    """(user_id, high, low), the largest first, ties by user_id. Conditions: the one measure, staked, won or net;
    ``losers``: only sums below 0, without it only sums above 0.

    An index of magnitudes finds a few more users than ``most``; only their sums are sorted: with 100,000 users of a
    day about 1,000.
    """
    m, s = tables[MagnitudeRow].c, tables[LeaderboardRow].c
    (measure,) = conditions & set(MEASURES)
    wanted = [m.asset == value("of_asset"), m.span == value("of_span"), m.first_day == value("first_day")]
    if "losers" in conditions:
        wanted.append(m[measure] < 0)
    # Only one lower bound, because SQLite uses only one in an index. Without ``losers``, ``least`` is at least 1, so
    # it implies > 0.
    above_0 = () if "losers" in conditions else (m[measure] > 0,)
    last = select(m[measure]).where(*wanted, *above_0).order_by(m[measure].desc()).limit(1).offset(value("skipped"))
    least = func.coalesce(
        last.scalar_subquery(), literal_column(str(-_MAGNITUDE_MAX) if "losers" in conditions else "1")
    )
    same = [m[name] == s[name] for name in ("partition", "user_id", "asset", "span", "first_day")]
    # Not a join: a database might read all sums of all days for it.
    high, low = (select(s[name]).where(*same).scalar_subquery().label(name) for name in _COLUMNS[measure])
    return (
        select(m.user_id, high, low)
        .where(*wanted, m[measure] >= least)
        .order_by(high.desc(), low.desc(), m.user_id)
        .limit(value("most"))
    )


_MAGNITUDE_MAX: Final = 1_000
"""Above every magnitude: a sum has at most 111 bits."""


def leaders(board: Board, most: int) -> list[Query]:
    """The queries of a leaderboard: the users above 0, then those below 0."""
    measure, span = LEADERBOARDS[board.name]
    values = {"of_asset": board.asset, "of_span": span, "first_day": board.first_day}
    values |= {"most": most, "skipped": most - 1}
    winners = Query(leaders_statement, values, frozenset({measure}))
    if measure != "net":
        return [winners]
    return [winners, Query(leaders_statement, values, frozenset({measure, "losers"}))]


def has_begun_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """One row if anything counts for a leaderboard, or for a later one of its span; else none."""
    m = tables[MagnitudeRow].c
    wanted = (m.asset == value("of_asset"), m.span == value("of_span"), m.first_day >= value("first_day"))
    return select(m.first_day).where(*wanted).order_by(m.first_day.desc()).limit(1)


def has_begun(board: Board) -> Query:
    values = {"of_asset": board.asset, "of_span": LEADERBOARDS[board.name][1], "first_day": board.first_day}
    return Query(has_begun_statement, values)


def values_of(lists: Sequence[Rows], most: int) -> list[tuple[str, int]]:
    """The first users of a leaderboard with their values, of the rows of ``leaders``. A user whose sums were deleted
    by hand is left out; the background check reports it."""
    found = [(user_id, high, low) for rows in lists for user_id, high, low in rows if high is not None]
    return [(user_id, (high << LOW_BITS) + low) for user_id, high, low in found[:most]]


def document(board: Board, values: Sequence[tuple[str, int]]) -> Leaderboard:
    name, asset, first_day, end_day = board
    ranked = [Leader(rank, user_id, value) for rank, (user_id, value) in enumerate(values, 1)]
    return Leaderboard(name, asset, first_day * DAY_US, end_day * DAY_US, ranked)
