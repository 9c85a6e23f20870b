"""The house view: what each game took in and gave out in each hour, beside what its pay tables predict.

A bet counts in the hour in which it was placed, and so does its payout: the two edges of an hour are about the same
bets. Bonuses and commissions count in the hour of their event, in the row without a game, because no game moved that
money. Each partition has rows of its own; the database adds them up when they are read.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import Meta, Struct
from sqlalchemy import Select, func, select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.events import HOUSE_BONUSES, HOUSE_FEES, Event
from ledger.core.games.catalog import KINDS
from ledger.core.games.edges import EdgeExceeded
from ledger.core.games.payout import expected_payout
from ledger.core.position import Position
from projections.models.bets import BetRow
from projections.tables import columns, wide
from projections.tables.fields import AnyTimeUs, Count, SignedSum, Sum
from projections.tables.fields import Game as GameName
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, value
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import CHECKPOINT, Tables

HOUR_US: Final = 3_600_000_000
DAY_HOURS: Final = 24

# --- rows and fold --------------------


class HouseRow(Row):
    """An hour of a game in one asset and one partition; ``game`` "" is money that no game moved.

    ``hour`` and ``day`` are counted since 1970. Cancelled bets are in no count or sum. ``expected`` is what the bets
    pay on average, each by the pay table that it was taken under, times the number of results of the game (10, 216 or
    100,000): an exact integer. ``unpriced`` are the bets without one: of games without rules, or of tables that the
    log has lost. The sums are those of ``projections.tables.wide``.
    """

    table = "house"
    key_length = 3

    asset: columns.AssetCode
    hour: columns.Small
    game: columns.Text
    day: columns.Small
    bets: int = 0
    unpriced: int = 0
    staked_high: int = 0
    staked_low: int = 0
    paid_out_high: int = 0
    paid_out_low: int = 0
    fees_high: int = 0
    fees_low: int = 0
    expected_high: int = 0
    expected_low: int = 0
    commissions_high: int = 0
    commissions_low: int = 0
    bonuses_high: int = 0
    bonuses_low: int = 0


_GIVEN: Final = {HOUSE_BONUSES: "bonuses", "house/gifts": "bonuses", "house/commissions": "commissions"}
"""Account → the column of the row that its postings are added to."""


def _given(event: Event) -> Iterator[tuple[str, str, int]]:
    """(sum, asset, amount) of what the house gave; below 0 where it took back what had expired or was reversed."""
    for account, asset, amount in event.postings:
        if account in _GIVEN:
            yield _GIVEN[account], asset, -amount


def _key(asset: str, time_us: int, game: str) -> tuple[str, int, str]:
    return asset, time_us // HOUR_US, game


def needs(event: Event, buffer: RowBuffer) -> None:
    data = event.data
    if isinstance(data, BetPlaced):
        buffer[HouseRow].want(_key(data.asset, event.time_us, data.game))
    else:
        for _, asset, _ in _given(event):
            buffer[HouseRow].want(_key(asset, event.time_us, ""))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is not None:
                buffer[HouseRow].want(_key(bet.asset, bet.placed_at_us, bet.game))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = _row(buffer, data.asset, event.time_us, data.game)
            _count(row, buffer, 1, data.stake, data.fee or 0, data.selection, data.rules)
        case BetSettled():
            bet = _bet(event, data.bet_id, buffer)
            row = buffer[HouseRow].edit(_key(bet.asset, bet.placed_at_us, bet.game))
            wide.add(row, "paid_out_high", "paid_out_low", data.payout)
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, buffer)
            row = buffer[HouseRow].edit(_key(bet.asset, bet.placed_at_us, bet.game))
            fee = -sum(amount for account, _, amount in event.postings if account == HOUSE_FEES)
            _count(row, buffer, -1, bet.stake, fee, bet.selection, bet.rules)
        case _:
            for name, asset, amount in _given(event):
                wide.add(_row(buffer, asset, event.time_us, ""), f"{name}_high", f"{name}_low", amount)


def _row(buffer: RowBuffer, asset: str, time_us: int, game: str) -> HouseRow:
    return buffer[HouseRow].edit_or_add(_key(asset, time_us, game), time_us // HOUR_US // DAY_HOURS)


def _count(
    row: HouseRow, buffer: RowBuffer, bets: int, stake: int, fee: int, selection: str, rules: str | None
) -> None:
    """Add a bet, or subtract a cancelled one."""
    row.bets += bets
    wide.add(row, "staked_high", "staked_low", bets * stake)
    wide.add(row, "fees_high", "fees_low", bets * fee)
    table = None if rules is None else buffer.pay_tables.get(rules)
    if table is None:
        row.unpriced += bets
    else:
        wide.add(row, "expected_high", "expected_low", bets * expected_payout(table, selection, stake))


def _bet(event: Event, bet_id: str, buffer: RowBuffer) -> BetRow:
    bet = buffer[BetRow].get((event.user_id, bet_id))
    assert bet is not None, event
    return bet


MODEL: Final = Model((HouseRow,), fold, needs, then_needs)


# --- document

By = Literal["hour", "day"]
Ppm = Annotated[int | None, Meta(description="Parts per million", examples=[48_000])]


class HouseItem(Struct, gc=False):
    """An hour or a day of a game, or of the money that no game moved."""

    from_us: Annotated[AnyTimeUs, Meta(description="Start of the hour or day", examples=[1_795_438_800_000_000])]
    game: Annotated[
        GameName | None,
        Meta(description="Null: the money that no game moved", examples=["wingo_30s"]),
    ]
    bets: Annotated[Count, Meta(description="Bets placed then that were not cancelled", examples=[12])]
    staked: Annotated[Sum, Meta(description="Their stakes, with their fees", examples=[120_000])]
    paid_out: Annotated[Sum, Meta(description="Their payouts, whenever they were settled", examples=[114_240])]
    fees: Annotated[Sum, Meta(description="Their fees, a part of `staked`", examples=[2_400])]
    commissions: Annotated[SignedSum, Meta(description="Commissions paid then", examples=[0])]
    bonuses: Annotated[
        SignedSum,
        Meta(description="Bonuses and gifts given then, less what expired or was reversed then", examples=[0]),
    ]
    edge_ppm: Annotated[
        Ppm,
        Meta(
            description=(
                "(staked − paid_out) ÷ staked in parts per million, rounded down; an open bet counts as lost. Null "
                "without a stake"
            ),
        ),
    ]
    expected_edge_ppm: Annotated[
        Ppm,
        Meta(
            description=(
                "The edge on average: with what each bet pays on average by its pay table in place of what it paid. "
                "Null for `external`, and without a stake"
            ),
        ),
    ]


class HouseWarning(Struct, gc=False):
    """A game in which commissions and bonuses, by the present rules, can cost more of a stake than the game wins."""

    game: GameName
    leg: Annotated[
        str, Meta(description="The game's worst leg: the one of which the house wins least", examples=["big"])
    ]
    edge_ppm: Annotated[
        int, Meta(description="What the house wins of a stake on it on average, rounded down", examples=[20_000])
    ]
    commissions_ppm: Annotated[
        int, Meta(ge=0, description="What commissions cost of a stake at most, rounded up", examples=[28_601])
    ]
    bonuses_ppm: Annotated[
        int | None,
        Meta(
            description=(
                "An upper bound of what bonuses cost of a stake, as if each were lost in full, rounded up; null: "
                "without a limit"
            ),
            examples=[1_000_000],
        ),
    ]
    message: Annotated[
        str,
        Meta(
            description="The same for a person, and what to change in the rules",
            examples=[
                (
                    "wingo_30s, INR: the house can lose. Of a stake on big, its worst leg, it wins 2 % on average; "
                    "commissions cost up to 2.8601 %, bonuses up to 100 %. In the rules file lower the rates of "
                    "money.INR.commission, raise money.INR.wagering.bonus, raise games.wingo_30s.fee_bp or lower its "
                    "odds"
                )
            ],
        ),
    ]


class House(Struct, gc=False):
    """What the games took in and gave out in one asset: the latest first, then by game. Hours without any money are
    left out."""

    items: list[HouseItem]
    warnings: Annotated[
        list[HouseWarning],
        Meta(description="The games in which commissions and bonuses can cost more than the game wins"),
    ]


# --- reads

HOURS_MAX: Final = {"hour": 31 * DAY_HOURS, "day": 366 * DAY_HOURS}
"""Chosen: 31 days of 20 games by the hour are 15,000 items, 2 MB."""
_LAST_HOUR: Final = 2**31 - 1


class Hours(NamedTuple):
    """``first`` ≤ hour < ``end``, since 1970."""

    first: int
    end: int


def hours_of(by: By, from_us: int | None, to_us: int | None, now_us: int) -> Hours | None:
    """The hours, or the hours of the days, that overlap these times. None if they are more than ``HOURS_MAX``.

    Without ``to_us`` they have no end; without ``from_us`` they begin 31 days before it."""
    unit = 1 if by == "hour" else DAY_HOURS
    end_us = now_us if to_us is None else to_us
    begin_us = end_us - HOURS_MAX["hour"] * HOUR_US if from_us is None else from_us
    first = begin_us // HOUR_US // unit * unit
    end = -(-end_us // (unit * HOUR_US)) * unit
    if from_us is not None and end - first > HOURS_MAX[by] + unit:
        return None
    return Hours(first, _LAST_HOUR if to_us is None else end)


def house_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(hour or day, game, then the sums of ``HouseRow``), all partitions added up, the latest first.

    Conditions: ``hour`` or ``day``; ``game``: only this one. The partitions come from their checkpoints, so that each
    one's rows are found by the primary key."""
    c = tables[HouseRow].c
    bucket = c.day if "day" in conditions else c.hour
    sums = [func.sum(column) for column in c if column.name not in ("partition", "asset", "hour", "game", "day")]
    wanted = [
        CHECKPOINT.c.generation == value("generation"),
        c.asset == value("of_asset"),
        c.hour >= value("first_hour"),
        c.hour < value("end_hour"),
    ]
    if "game" in conditions:
        wanted.append(c.game == value("of_game"))
    return (
        select(bucket, c.game, *sums)
        .select_from(CHECKPOINT)
        .join(tables[HouseRow], c.partition == CHECKPOINT.c.partition)
        .where(*wanted)
        .group_by(bucket, c.game)
        .order_by(bucket.desc(), c.game)
    )


def house_query(asset: str, hours: Hours, game: str | None, by: By) -> Query:
    values = {"of_asset": asset, "first_hour": hours.first, "end_hour": hours.end}
    if game is None:
        return Query(house_statement, values, frozenset({by}))
    return Query(house_statement, {**values, "of_game": game}, frozenset({by, "game"}))


def warnings_of(edges: Sequence[EdgeExceeded], asset: str, game: str | None) -> list[HouseWarning]:
    """Those of the asset, and of the game if it is not None."""
    return [
        HouseWarning(one.game, one.leg, one.edge_ppm, one.commissions_ppm, one.bonuses_ppm, one.message)
        for one in edges
        if one.asset == asset and game in (None, one.game)
    ]


def document(rows: Rows, by: By, warnings: Sequence[HouseWarning] = ()) -> House:
    """Of the rows of ``house_statement``."""
    unit_us = HOUR_US if by == "hour" else HOUR_US * DAY_HOURS
    return House([_item(row[0], row[1], row[2:], unit_us) for row in rows if any(row[2:])], list(warnings))


def _item(bucket: int, game: str, sums: Any, unit_us: int) -> HouseItem:
    bets, unpriced, *halves = sums
    totals = [wide.total_of(high, low) for high, low in zip(halves[::2], halves[1::2], strict=True)]
    staked, paid_out, fees, expected, commissions, bonuses = totals
    kind = KINDS.get(game.rpartition("_")[0])
    expected_edge = None if kind is None or unpriced else _edge_ppm(staked * kind.results, expected)
    edge = _edge_ppm(staked, paid_out)
    return HouseItem(
        bucket * unit_us, game or None, int(bets), staked, paid_out, fees, commissions, bonuses, edge, expected_edge
    )


def _edge_ppm(staked: int, paid_out: int) -> int | None:
    return None if staked == 0 else (staked - paid_out) * 1_000_000 // staked
