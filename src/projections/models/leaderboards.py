"""Standings: what a user staked, won and netted on a UTC day. Leaderboards of a day, week or month are sums of them.

A stake counts on the day of its bet, a payout on the day of its settlement; a cancelled bet counts nowhere.
"""

from typing import Annotated, Final, Literal, get_args

from msgspec import Meta, Struct

from ledger.core.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from ledger.core.wallet import DAY_US
from projections.models.rows import LOW_BITS, LOW_MASK, BetRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import AnyTimeUs, Asset, SignedSum, UserId

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


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case BetPlaced(asset=asset, bet_id=bet_id):
            book.placed[event.user_id, bet_id] = asset
            book.standings.want((event.user_id, asset, event.time_us // DAY_US))


def then_needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id):
            key = (event.user_id, bet_id)
            bet = book.bets.peek(key)
            asset = book.placed.get(key) if bet is None else bet.asset
            if asset is not None:
                book.standings.want((event.user_id, asset, event.time_us // DAY_US))
        case BetCancelled(bet_id=bet_id):
            bet = book.bets.peek((event.user_id, bet_id))
            if bet is not None:  # else this run places it, and asks for the row of its day
                book.standings.want((event.user_id, bet.asset, bet.placed_at_us // DAY_US))


def fold(event: Event, _place: Position, book: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = book.standings.edit_or_add((event.user_id, data.asset, event.time_us // DAY_US))
            row.staked_high, row.staked_low = _plus(row.staked_high, row.staked_low, data.stake)
        case BetSettled():
            bet = _bet(event, data.bet_id, book)
            row = book.standings.edit_or_add((event.user_id, bet.asset, event.time_us // DAY_US))
            row.won_high, row.won_low = _plus(row.won_high, row.won_low, data.payout)
            row.net_high, row.net_low = _plus(row.net_high, row.net_low, data.payout - bet.stake)
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, book)
            row = book.standings.edit((event.user_id, bet.asset, bet.placed_at_us // DAY_US))
            row.staked_high, row.staked_low = _plus(row.staked_high, row.staked_low, -bet.stake)


def _plus(high: int, low: int, amount: int) -> tuple[int, int]:
    low += amount
    return high + (low >> LOW_BITS), low & LOW_MASK


def _bet(event: Event, bet_id: str, book: RowBuffer) -> BetRow:
    bet = book.bets.get((event.user_id, bet_id))
    assert bet is not None, event
    return bet
