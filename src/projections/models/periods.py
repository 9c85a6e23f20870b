"""Periods of the games with rules: what was bet on each, on which selections, and how it ended.

Each partition has rows of its own for the bets of its wallets; the partition of the game's stream also has the row of
the outcome. A read adds them up: no bet is read, and no row is written by two partitions. ``external`` has no periods
here: only its game server knows when one begins and ends.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Select, func, select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled, PeriodCancelled, ResultRecorded
from ledger.core.events import Event
from ledger.core.fields import GAME_STREAM, Proof
from ledger.core.games.catalog import KINDS
from ledger.core.games.periods import issue_of
from ledger.core.games.rules import Game, span_of
from ledger.core.position import Position
from projections.models.bets import BetRow
from projections.tables import columns, fields, wide
from projections.tables.fields import Asset, Count, NextCursor, Sum, Text, TimeUs
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, value
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import CHECKPOINT, Tables

# --- rows and fold --------------------


class PeriodRow(Row):
    """What the wallets of a partition bet on a period in one asset. Cancelled bets count nowhere.

    The row with ``asset`` "" is the period's outcome, in the partition of the game's stream only: ``outcome`` is
    ``result`` or ``cancelled``, ``proof`` is JSON, and ``outcome_seq`` is the seq of the event, by which live feeds
    find it. The sums are those of ``projections.tables.wide``.
    """

    table = "period"
    key_length = 3
    indexes: ClassVar = {
        "period_by_name": ("game", "period", "partition", "asset"),
        "period_by_outcome": ("game", "partition", "outcome_seq"),
    }

    game: columns.Text
    period: columns.Text
    asset: columns.AssetCode
    open_bets: int = 0
    settled_bets: int = 0
    staked_high: int = 0
    staked_low: int = 0
    paid_out_high: int = 0
    paid_out_low: int = 0
    outcome: columns.Status | None = None
    result: columns.Text | None = None
    proof: columns.Json | None = None
    outcome_seq: int | None = None


class SelectionRow(Row):
    """The bets of a period on one selection, as the clients spelled it, in one asset and one partition."""

    table = "selection"
    key_length = 4

    game: columns.Text
    period: columns.Text
    selection: columns.Text
    asset: columns.AssetCode
    bets: int = 0
    staked_high: int = 0
    staked_low: int = 0


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetPlaced(rules=rules, game=game, period=period, selection=selection, asset=asset):
            if rules is not None:
                _want(buffer, game, period, selection, asset)
        case ResultRecorded(period=period) | PeriodCancelled(period=period):
            buffer[PeriodRow].want((_game_of(event), period, ""))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is not None and bet.rules is not None:
                _want(buffer, bet.game, bet.period, bet.selection, bet.asset)


def _want(buffer: RowBuffer, game: str, period: str, selection: str, asset: str) -> None:
    buffer[PeriodRow].want((game, period, asset))
    buffer[SelectionRow].want((game, period, selection, asset))


def _game_of(event: Event) -> str:
    return event.user_id.removeprefix(GAME_STREAM)


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            if data.rules is not None:
                period = buffer[PeriodRow].edit_or_add((data.game, data.period, data.asset))
                selection = buffer[SelectionRow].edit_or_add((data.game, data.period, data.selection, data.asset))
                _count(period, selection, 1, data.stake)
        case BetSettled():
            bet = _bet(event, data.bet_id, buffer)
            if bet.rules is not None:
                period = buffer[PeriodRow].edit((bet.game, bet.period, bet.asset))
                period.open_bets -= 1
                period.settled_bets += 1
                wide.add(period, "paid_out_high", "paid_out_low", data.payout)
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, buffer)
            if bet.rules is not None:
                period = buffer[PeriodRow].edit((bet.game, bet.period, bet.asset))
                selection = buffer[SelectionRow].edit((bet.game, bet.period, bet.selection, bet.asset))
                _count(period, selection, -1, -bet.stake)
        case ResultRecorded():
            outcome = buffer[PeriodRow].edit_or_add((_game_of(event), data.period, ""))
            outcome.outcome, outcome.result, outcome.outcome_seq = "result", data.result, position.seq
            outcome.proof = None if data.proof is None else msgspec.json.encode(data.proof).decode()
        case PeriodCancelled():
            outcome = buffer[PeriodRow].edit_or_add((_game_of(event), data.period, ""))
            outcome.outcome, outcome.outcome_seq = "cancelled", position.seq


def _count(period: PeriodRow, selection: SelectionRow, bets: int, stake: int) -> None:
    period.open_bets += bets
    selection.bets += bets
    for row in (period, selection):
        wide.add(row, "staked_high", "staked_low", stake)


def _bet(event: Event, bet_id: str, buffer: RowBuffer) -> BetRow:
    bet = buffer[BetRow].get((event.user_id, bet_id))
    assert bet is not None, event
    return bet


MODEL: Final = Model(
    (PeriodRow, SelectionRow),
    fold,
    needs,
    then_needs,
    of=(BetPlaced, BetSettled, BetCancelled, ResultRecorded, PeriodCancelled),
)


# --- document


PeriodStatus = Literal["open", "closed", "settling", "settled", "cancelled"]


class Selected(Struct, gc=False):
    """The bets on one selection in one asset."""

    selection: Annotated[Text, Meta(description="The selection, as the bets have it", examples=["red"])]
    asset: Asset
    bets: Annotated[Count, Meta(description="Bets on it that were not cancelled", examples=[3])]
    staked: Annotated[Sum, Meta(description="Sum of their stakes, in the asset's minor unit", examples=[60_000])]


class ListedPeriod(Struct, gc=False):
    """A period of a game: its times, its bets, and how it ended. Cancelled bets count nowhere."""

    game: fields.Game
    period: Annotated[Text, Meta(description="Its start in UTC", examples=["20261123T130000Z"])]
    issue: Annotated[str, Meta(description="The number that players are shown", examples=["20261123100171561"])]
    starts_at_us: TimeUs
    closes_at_us: Annotated[TimeUs, Meta(description="When it stops taking bets, by the game's present rules")]
    ends_at_us: TimeUs
    status: Annotated[
        PeriodStatus,
        Meta(
            description=(
                "By the clock `open`, then `closed`. Once the result is recorded, or the period is cancelled: "
                "`settling` while bets of it are open, then `settled` or `cancelled`"
            ),
            examples=["settled"],
        ),
    ]
    result: Annotated[Text | None, Meta(description="The result; null while there is none", examples=["7"])]
    proof: Annotated[Proof | None, Meta(description="The block of the result, if it came with one")]
    open_bets: Annotated[Count, Meta(description="Bets that are not settled", examples=[0])]
    settled_bets: Annotated[Count, Meta(description="Bets that are settled", examples=[3])]
    staked: Annotated[
        dict[str, Sum],
        Meta(description="Asset to the sum of the stakes, in its minor unit", examples=[{"INR": 60_000}]),
    ]
    paid_out: Annotated[
        dict[str, Sum],
        Meta(description="Asset to the sum of the payouts, in its minor unit", examples=[{"INR": 58_800}]),
    ]


class Period(ListedPeriod, gc=False):
    """A period of a game, with what was bet on each selection."""

    distribution: Annotated[list[Selected], Meta(description="By selection and asset")]


class Outcome(Struct, gc=False):
    """How a period ended: its result, or that it was cancelled. Its bets may still be open."""

    game: fields.Game
    period: Annotated[Text, Meta(description="Its start in UTC", examples=["20261123T130000Z"])]
    result: Annotated[Text | None, Meta(description="The result; null where it was cancelled", examples=["7"])]
    cancelled: Annotated[bool, Meta(description="Whether it was cancelled, and its stakes return")]
    proof: Annotated[Proof | None, Meta(description="The block of the result, if it came with one")]
    position: Annotated[fields.EventPosition, Meta(description="Position of the event")]


class Periods(Struct, gc=False):
    """One page of a game's periods, the latest first: those with a bet, a result or a cancellation."""

    items: list[ListedPeriod]
    next_cursor: NextCursor


# --- reads


def _sums(tables: Tables) -> Select[Any]:
    """(period, asset, then the other columns of ``PeriodRow``), all partitions added up."""
    c = tables[PeriodRow].c
    sums = (c.open_bets, c.settled_bets, c.staked_high, c.staked_low, c.paid_out_high, c.paid_out_low)
    outcome = (func.max(c.outcome), func.max(c.result), func.max(c.proof))  # only one partition has it
    return (
        select(c.period, c.asset, *map(func.sum, sums), *outcome)
        .group_by(c.period, c.asset)
        .order_by(c.period.desc(), c.asset)
    )


def period_statement(tables: Tables, _: Conditions) -> Select[Any]:
    c = tables[PeriodRow].c
    return _sums(tables).where(c.game == value("of_game"), c.period == value("of_period"))


def periods_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """The ``most`` latest periods. Conditions: ``after`` a period."""
    c = tables[PeriodRow].c
    wanted = [c.game == value("of_game")]
    if "after" in conditions:
        wanted.append(c.period < value("after_period"))
    page = select(c.period).where(*wanted).distinct().order_by(c.period.desc()).limit(value("most")).subquery()
    return _sums(tables).join(page, page.c.period == c.period).where(c.game == value("of_game"))


def distribution_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(selection, asset, bets, staked high, staked low), all partitions added up.

    The partitions come from their checkpoints, so that each one's rows are found by the primary key."""
    c = tables[SelectionRow].c
    return (
        select(c.selection, c.asset, func.sum(c.bets), func.sum(c.staked_high), func.sum(c.staked_low))
        .select_from(CHECKPOINT)
        .join(tables[SelectionRow], c.partition == CHECKPOINT.c.partition)
        .where(
            CHECKPOINT.c.generation == value("generation"),
            c.game == value("of_game"),
            c.period == value("of_period"),
        )
        .group_by(c.selection, c.asset)
        .order_by(c.selection, c.asset)
    )


def outcomes_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(period, outcome, result, proof, seq) of the periods of a game that ended after a seq, in the order of seqs."""
    c = tables[PeriodRow].c
    return (
        select(c.period, c.outcome, c.result, c.proof, c.outcome_seq)
        .where(c.game == value("of_game"), c.partition == value("of_partition"), c.outcome_seq > value("after_seq"))
        .order_by(c.outcome_seq)
        .limit(value("most"))
    )


def outcome(game: str, partition: int, row: Sequence[Any]) -> Outcome:
    """Of a row of ``outcomes_statement``."""
    period, kind, result, proof, seq = row
    decoded = None if proof is None else msgspec.json.decode(proof, type=Proof)
    return Outcome(game, period, result, kind == "cancelled", decoded, f"{partition}:{seq}")


def period_queries(game: str, period: str) -> list[Query]:
    values = {"of_game": game, "of_period": period}
    return [Query(period_statement, values), Query(distribution_statement, values)]


def page_query(game: str, after: str | None, most: int) -> Query:
    values: dict[str, Any] = {"of_game": game, "most": most}
    if after is None:
        return Query(periods_statement, values)
    return Query(periods_statement, {**values, "after_period": after}, frozenset({"after"}))


def document(game: Game, period: str, rows: Rows, distribution: Rows, now_us: int) -> Period | None:
    """None: the period has not begun by this clock, and nothing was bet on it either."""
    span = span_of(game, period)
    assert span is not None, (game.name, period)
    if not rows and now_us < span.starts_at_us:
        return None
    listed = _listed(game, period, [row[1:] for row in rows], now_us)
    selected = [
        Selected(selection, asset, int(bets), wide.total_of(high, low))
        for selection, asset, bets, high, low in distribution
        if bets
    ]
    return Period(**msgspec.structs.asdict(listed), distribution=selected)


def page(game: Game, rows: Rows, now_us: int) -> list[ListedPeriod]:
    """Of the rows of ``periods_statement``."""
    by_period: dict[str, list[Sequence[Any]]] = {}
    for period, *sums in rows:
        by_period.setdefault(period, []).append(sums)
    return [_listed(game, period, sums, now_us) for period, sums in by_period.items()]


def _listed(game: Game, period: str, rows: Sequence[Sequence[Any]], now_us: int) -> ListedPeriod:
    span = span_of(game, period)
    assert span is not None, (game.name, period)
    open_bets = settled_bets = 0
    staked, paid_out = dict[str, int](), dict[str, int]()
    outcome, result, proof = None, None, None
    for asset, opened, settled, *sums, of_outcome, of_result, of_proof in rows:
        if asset == "":
            outcome, result, proof = of_outcome, of_result, of_proof
            continue
        open_bets, settled_bets = open_bets + int(opened), settled_bets + int(settled)
        staked[asset], paid_out[asset] = wide.total_of(*sums[:2]), wide.total_of(*sums[2:])
    return ListedPeriod(
        game.name,
        period,
        issue_of(KINDS[game.table.rules].number, game.length_s, span.starts_at_us),
        span.starts_at_us,
        span.closes_at_us,
        span.ends_at_us,
        _status(outcome, open_bets, is_closed=now_us >= span.closes_at_us),
        result,
        None if proof is None else msgspec.json.decode(proof, type=Proof),
        open_bets,
        settled_bets,
        staked,
        paid_out,
    )


def _status(outcome: str | None, open_bets: int, *, is_closed: bool) -> PeriodStatus:
    if outcome is None:
        return "closed" if is_closed else "open"
    if open_bets > 0:
        return "settling"
    return "settled" if outcome == "result" else "cancelled"
