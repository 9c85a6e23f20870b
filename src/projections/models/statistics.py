"""Statistics: a user's bets per asset and game; and per asset the deposits, withdrawals, bonuses and commissions.

A cancelled bet and a reversed deposit or grant are not counted. The postings of a cancellation or a reversal have
the amounts: they are the opposite of the original postings.
"""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import Select, select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.bonus_events import AttendanceClaimed, BonusGranted
from ledger.core.commission_events import CommissionPaid
from ledger.core.events import (
    HOUSE_BONUSES,
    HOUSE_DEPOSITS,
    HOUSE_WITHDRAWALS,
    Deposited,
    Event,
    Reversed,
    WithdrawalApproved,
)
from ledger.core.gift_events import GiftReceived
from ledger.core.position import Position
from projections.models.bets import BetRow
from projections.tables import columns
from projections.tables.fields import AmountOrZero, Asset, Count, Game, SignedSum, Sum, UserId
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, UserRead, fields_of, of_one_user
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, plus
from projections.tables.tables import Tables

# --- rows and fold --------------------


class StatisticsRow(Row):
    """A user's sums in one asset and one game; ``game`` is "" for sums without a game (deposits, bonuses).

    ``bets`` and ``staked`` are of the bets that are not cancelled, ``settled_stake`` of the settled ones. Amounts add
    up over all time and can exceed every integer type of a database: sums are decimal texts.
    """

    table = "statistics"
    key_length = 3

    user_id: columns.UserId
    asset: columns.AssetCode
    game: columns.Text
    bets: int = 0
    wins: int = 0
    staked: columns.Sum = "0"
    settled_stake: columns.Sum = "0"
    paid_out: columns.Sum = "0"
    biggest_win: int = 0
    deposits_count: int = 0
    deposits: columns.Sum = "0"
    withdrawals_count: int = 0
    withdrawals: columns.Sum = "0"
    bonuses_count: int = 0
    bonuses: columns.Sum = "0"
    commissions_count: int = 0
    commissions: columns.Sum = "0"


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetPlaced(asset=asset, game=game):
            buffer[StatisticsRow].want((event.user_id, asset, game))
        case Deposited() | BonusGranted() | AttendanceClaimed() | GiftReceived() | CommissionPaid():
            buffer[StatisticsRow].want((event.user_id, event.data.asset, ""))
        case Reversed() | WithdrawalApproved():
            for asset in event.balances:
                buffer[StatisticsRow].want((event.user_id, asset, ""))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = buffer[BetRow].peek((event.user_id, bet_id))
            if bet is not None:
                buffer[StatisticsRow].want((event.user_id, bet.asset, bet.game))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = buffer[StatisticsRow].edit_or_add((event.user_id, data.asset, data.game))
            row.bets += 1
            row.staked = plus(row.staked, data.stake)
        case BetSettled():
            bet = buffer[BetRow].get((event.user_id, data.bet_id))
            assert bet is not None, event
            row = buffer[StatisticsRow].edit((event.user_id, bet.asset, bet.game))
            row.wins += data.payout > 0
            row.settled_stake = plus(row.settled_stake, bet.stake)
            row.paid_out = plus(row.paid_out, data.payout)
            row.biggest_win = max(row.biggest_win, data.payout)
        case BetCancelled(before_bet=False):
            bet = buffer[BetRow].get((event.user_id, data.bet_id))
            assert bet is not None, event
            row = buffer[StatisticsRow].edit((event.user_id, bet.asset, bet.game))
            row.bets -= 1
            row.staked = plus(row.staked, -bet.stake)
        case Deposited():
            row = _money(event, buffer, data.asset)
            row.deposits_count += 1
            row.deposits = plus(row.deposits, data.amount)
            if data.bonus:
                row.bonuses_count += 1
                row.bonuses = plus(row.bonuses, data.bonus)
        case BonusGranted() | AttendanceClaimed() | GiftReceived():
            row = _money(event, buffer, data.asset)
            row.bonuses_count += 1
            row.bonuses = plus(row.bonuses, data.amount)
        case CommissionPaid() if data.amount:
            row = _money(event, buffer, data.asset)
            row.commissions_count += 1
            row.commissions = plus(row.commissions, data.amount)
        case WithdrawalApproved():
            for account, asset, amount in event.postings:
                if account == HOUSE_WITHDRAWALS:
                    row = _money(event, buffer, asset)
                    row.withdrawals_count += 1
                    row.withdrawals = plus(row.withdrawals, amount)
        case Reversed():
            _undo(event, buffer)


def _undo(event: Event, buffer: RowBuffer) -> None:
    for account, asset, amount in event.postings:
        if account == HOUSE_DEPOSITS:
            row = _money(event, buffer, asset)
            row.deposits_count -= 1
            row.deposits = plus(row.deposits, -amount)
        elif account == HOUSE_BONUSES:
            row = _money(event, buffer, asset)
            row.bonuses_count -= 1
            row.bonuses = plus(row.bonuses, -amount)


def _money(event: Event, buffer: RowBuffer, asset: str) -> StatisticsRow:
    return buffer[StatisticsRow].edit_or_add((event.user_id, asset, ""))


MODEL: Final = Model(
    (StatisticsRow,),
    fold,
    needs,
    then_needs,
    of=(
        BetPlaced,
        BetSettled,
        BetCancelled,
        Deposited,
        BonusGranted,
        AttendanceClaimed,
        CommissionPaid,
        GiftReceived,
        WithdrawalApproved,
        Reversed,
    ),
)


# --- document


BetCount = Annotated[Count, Meta(description="Bets that were not cancelled, the open ones too", examples=[12])]
WinCount = Annotated[Count, Meta(description="Bets with a payout above 0", examples=[5])]
Staked = Annotated[Sum, Meta(description="Sum of the stakes, in the asset's minor unit", examples=[50_000])]
PaidOut = Annotated[Sum, Meta(description="Sum of the payouts, in the asset's minor unit", examples=[95_000])]
Net = Annotated[
    SignedSum,
    Meta(description="paid_out less the stakes of the settled bets, in the asset's minor unit", examples=[45_000]),
]
BiggestWin = Annotated[
    AmountOrZero, Meta(description="The largest payout, in the asset's minor unit", examples=[95_000])
]


class GameStatistics(Struct, gc=False):
    """A user's sums in one asset and one game. Cancelled bets are not counted."""

    asset: Asset
    game: Game
    bets: BetCount
    wins: WinCount
    staked: Staked
    paid_out: PaidOut
    net: Net
    biggest_win: BiggestWin


class CountAndAmount(Struct, gc=False):
    """How many, and how much in the asset's minor unit."""

    count: Annotated[Count, Meta(description="How many")] = 0
    amount: Sum = 0


class Totals(Struct, gc=False):
    """A user's sums in one asset, over all games."""

    asset: Asset
    bets: BetCount
    wins: WinCount
    staked: Staked
    paid_out: PaidOut
    net: Net
    biggest_win: BiggestWin
    deposits: Annotated[CountAndAmount, Meta(description="Deposits without their bonuses")]
    withdrawals: Annotated[CountAndAmount, Meta(description="Approved withdrawals")]
    bonuses: Annotated[CountAndAmount, Meta(description="Bonuses of deposits, and granted bonuses")]
    commissions: Annotated[CountAndAmount, Meta(description="Commissions paid to the user, those above 0")]


class Statistics(Struct, gc=False):
    """What a user bet, paid in, was paid out and was given. What was reversed or cancelled is not counted."""

    user_id: UserId
    games: Annotated[list[GameStatistics], Meta(description="By asset and game")]
    totals: Annotated[list[Totals], Meta(description="By asset")]


# --- reads


def statistics_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[StatisticsRow]
    return select(*fields_of(table)).where(of_one_user(table)).order_by(table.c.asset, table.c.game)


def document(user_id: str, rows: Rows) -> Statistics:
    """Of the rows of ``statistics_statement``."""
    games: list[GameStatistics] = []
    totals: dict[str, Totals] = {}
    for asset, game, *texts in rows:
        sums = [int(text) for text in texts]
        if not any(sums):
            continue
        bets, wins, staked, settled_stake, paid_out, biggest_win, *counts = sums
        total = totals.get(asset)
        if total is None:
            nothing = (CountAndAmount() for _ in range(4))
            total = totals[asset] = Totals(asset, 0, 0, 0, 0, 0, 0, *nothing)
        if game:
            games.append(
                GameStatistics(asset, game, bets, wins, staked, paid_out, paid_out - settled_stake, biggest_win)
            )
        else:
            deposits, deposited, withdrawals, withdrawn, bonuses, granted, commissions, paid = counts
            total.deposits = CountAndAmount(deposits, deposited)
            total.withdrawals = CountAndAmount(withdrawals, withdrawn)
            total.bonuses = CountAndAmount(bonuses, granted)
            total.commissions = CountAndAmount(commissions, paid)
        total.bets += bets
        total.wins += wins
        total.staked += staked
        total.paid_out += paid_out
        total.net += paid_out - settled_stake
        total.biggest_win = max(total.biggest_win, biggest_win)
    return Statistics(user_id, games, list(totals.values()))


STATISTICS: Final = UserRead(Query(statistics_statement), lambda user, rows: document(user.user_id, rows))
