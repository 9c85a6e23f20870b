"""Leaderboards: how much a user staked, won and netted on a UTC day. A leaderboard is a sum over the days of its
period.

A stake counts on the day of its bet, a payout on the day of its settlement; a cancelled bet is not counted.
"""

from collections.abc import Sequence
from datetime import date as date_of
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from msgspec import Meta, Struct
from sqlalchemy import BigInteger, Integer, Select, cast, func, or_, select

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


LOW_BITS: Final = 48
LOW_MASK: Final = (1 << LOW_BITS) - 1
_PLACED: Final = "bet placed in this run"
"""Note → the bet's asset, for a bet whose row is made in the same run that settles it."""


class LeaderboardRow(Row):
    """A user's bets of one UTC day (days since 1970) in one asset. Leaderboards are sums of these rows.

    ``staked`` counts on the day of the bet, ``won`` (payouts) and ``net`` (payouts less their stakes) on the day of
    the settlement. Databases add these up and sort by them, so they cannot be texts; and a thousand stakes of the
    largest amount exceed 64 bits. So a sum is high × 2^48 + low, 0 ≤ low < 2^48.
    """

    table = "standing"
    key_length = 3
    indexes: ClassVar = {
        "standing_by_day": ("asset", "day"),
    }

    user_id: columns.UserId
    asset: columns.AssetCode
    day: columns.Small
    staked_high: int = 0
    staked_low: int = 0
    won_high: int = 0
    won_low: int = 0
    net_high: int = 0
    net_low: int = 0


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetPlaced(asset=asset, bet_id=bet_id):
            buffer.notes[_PLACED, event.user_id, bet_id] = asset
            buffer[LeaderboardRow].want((event.user_id, asset, event.time_us // DAY_US))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id):
            key = (event.user_id, bet_id)
            bet = buffer[BetRow].peek(key)
            asset = buffer.notes.get((_PLACED, *key)) if bet is None else bet.asset
            if asset is not None:
                buffer[LeaderboardRow].want((event.user_id, asset, event.time_us // DAY_US))
        case BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is not None:  # else this run places it and wants the row of its day
                buffer[LeaderboardRow].want((event.user_id, bet.asset, bet.placed_at_us // DAY_US))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = buffer[LeaderboardRow].edit_or_add((event.user_id, data.asset, event.time_us // DAY_US))
            row.staked_high, row.staked_low = _plus(row.staked_high, row.staked_low, data.stake)
        case BetSettled():
            bet = _bet(event, data.bet_id, buffer)
            row = buffer[LeaderboardRow].edit_or_add((event.user_id, bet.asset, event.time_us // DAY_US))
            row.won_high, row.won_low = _plus(row.won_high, row.won_low, data.payout)
            row.net_high, row.net_low = _plus(row.net_high, row.net_low, data.payout - bet.stake)
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, buffer)
            row = buffer[LeaderboardRow].edit((event.user_id, bet.asset, bet.placed_at_us // DAY_US))
            row.staked_high, row.staked_low = _plus(row.staked_high, row.staked_low, -bet.stake)


def _plus(high: int, low: int, amount: int) -> tuple[int, int]:
    low += amount
    return high + (low >> LOW_BITS), low & LOW_MASK


def _bet(event: Event, bet_id: str, buffer: RowBuffer) -> BetRow:
    bet = buffer[BetRow].get((event.user_id, bet_id))
    assert bet is not None, event
    return bet


MODEL: Final = Model((LeaderboardRow,), fold, needs, then_needs)


# --- document


Measure = Literal["staked", "won", "net"]
Span = Literal["day", "week", "month"]
LEADERBOARDS: Final = {
    f"{measure}_{span}": (measure, span) for measure in get_args(Measure) for span in get_args(Span)
}
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


def days_of(name: str, at_us: int) -> tuple[int, int]:
    """The days that the leaderboard covers at a time: the first one, and the first one after. In days since 1970."""
    day = at_us // DAY_US
    _, span = LEADERBOARDS[name]
    if span == "day":
        return day, day + 1
    date = _EPOCH + timedelta(days=day)
    if span == "week":
        first = day - date.weekday()
        return first, first + 7
    first_date = date.replace(day=1)
    next_date = (first_date + timedelta(days=31)).replace(day=1)
    return (first_date - _EPOCH).days, (next_date - _EPOCH).days


def leaders_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id, high, low), the largest first, ties by user_id. Conditions: the one measure, staked, won or net.

    The rows of the days are found by an index and summed: for a month of 10,000 players some 300,000 rows.
    """
    c = tables[LeaderboardRow].c
    (measure,) = conditions
    # In some databases a sum of integers is a decimal, which cannot be shifted; PostgreSQL shifts by a small integer
    # only; what MySQL has shifted has no sign, and takes it from what it is added to.
    lows = cast(func.sum(c[f"{measure}_low"]), BigInteger)
    carried = cast(lows.bitwise_rshift(cast(LOW_BITS, Integer)), BigInteger)
    high = cast(func.sum(c[f"{measure}_high"]), BigInteger) + carried
    low = lows.bitwise_and(LOW_MASK)
    return (
        select(c.user_id, high, low)
        .where(c.asset == value("of_asset"), c.day >= value("first_day"), c.day < value("end_day"))
        .group_by(c.user_id)
        .having(or_(high != 0, low != 0))
        .order_by(high.desc(), low.desc(), c.user_id)
        .limit(value("most"))
    )


def leaders(name: str, asset: str, first_day: int, end_day: int, most: int) -> Query:
    values = {"of_asset": asset, "first_day": first_day, "end_day": end_day, "most": most}
    return Query(leaders_statement, values, frozenset({LEADERBOARDS[name][0]}))


def values_of(rows: Rows) -> list[tuple[str, int]]:
    """User and value of each row of ``leaders``."""
    return [(user_id, (high << LOW_BITS) + low) for user_id, high, low in rows]


def document(name: str, asset: str, first_day: int, end_day: int, values: Sequence[tuple[str, int]]) -> Leaderboard:
    ranked = [Leader(rank, user_id, value) for rank, (user_id, value) in enumerate(values, 1)]
    return Leaderboard(name, asset, first_day * DAY_US, end_day * DAY_US, ranked)
