"""Statistics: a user's bets per asset and game, and per asset what came in, went out and was given.

What is undone counts nowhere: a cancelled bet, a reversed deposit or grant. Amounts of an undoing are taken from the
event's own postings, which are the opposite of what it undoes.
"""

from typing import Annotated

from msgspec import Meta, Struct

from ledger.core.events import (
    HOUSE_BONUSES,
    HOUSE_DEPOSITS,
    HOUSE_WITHDRAWALS,
    BetCancelled,
    BetPlaced,
    BetSettled,
    BonusGranted,
    Deposited,
    Event,
    Reversed,
    WithdrawalApproved,
)
from ledger.core.position import Position
from projections.models.rows import StatisticsRow, plus
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import AmountOrZero, Asset, Count, Game, SignedSum, Sum, UserId

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

    count: Count = 0
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
    commissions: Annotated[CountAndAmount, Meta(description="Commissions paid to the user")]


class Statistics(Struct, gc=False):
    """What a user bet, paid in, was paid out and was given. What was reversed or cancelled is not counted."""

    user_id: UserId
    games: Annotated[list[GameStatistics], Meta(description="By asset and game")]
    totals: Annotated[list[Totals], Meta(description="By asset")]


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case BetPlaced(asset=asset, game=game):
            book.statistics.want((event.user_id, asset, game))
        case Deposited() | BonusGranted() | Reversed() | WithdrawalApproved():
            for asset in event.balances:
                book.statistics.want((event.user_id, asset, ""))


def then_needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = book.bets.peek((event.user_id, bet_id))
            if bet is not None:
                book.statistics.want((event.user_id, bet.asset, bet.game))


def fold(event: Event, _place: Position, book: RowBuffer) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = book.statistics.edit_or_add((event.user_id, data.asset, data.game))
            row.bets += 1
            row.staked = plus(row.staked, data.stake)
        case BetSettled():
            bet = book.bets.get((event.user_id, data.bet_id))
            assert bet is not None, event
            row = book.statistics.edit((event.user_id, bet.asset, bet.game))
            row.wins += data.payout > 0
            row.settled_stake = plus(row.settled_stake, bet.stake)
            row.paid_out = plus(row.paid_out, data.payout)
            row.biggest_win = max(row.biggest_win, data.payout)
        case BetCancelled(before_bet=False):
            bet = book.bets.get((event.user_id, data.bet_id))
            assert bet is not None, event
            row = book.statistics.edit((event.user_id, bet.asset, bet.game))
            row.bets -= 1
            row.staked = plus(row.staked, -bet.stake)
        case Deposited():
            row = _money(event, book, data.asset)
            row.deposits_count += 1
            row.deposits = plus(row.deposits, data.amount)
            if data.bonus:
                row.bonuses_count += 1
                row.bonuses = plus(row.bonuses, data.bonus)
        case BonusGranted():
            row = _money(event, book, data.asset)
            row.bonuses_count += 1
            row.bonuses = plus(row.bonuses, data.amount)
        case WithdrawalApproved():
            for account, asset, amount in event.postings:
                if account == HOUSE_WITHDRAWALS:
                    row = _money(event, book, asset)
                    row.withdrawals_count += 1
                    row.withdrawals = plus(row.withdrawals, amount)
        case Reversed():
            _undo(event, book)


def _undo(event: Event, book: RowBuffer) -> None:
    for account, asset, amount in event.postings:
        if account == HOUSE_DEPOSITS:
            row = _money(event, book, asset)
            row.deposits_count -= 1
            row.deposits = plus(row.deposits, -amount)
        elif account == HOUSE_BONUSES:
            row = _money(event, book, asset)
            row.bonuses_count -= 1
            row.bonuses = plus(row.bonuses, -amount)


def _money(event: Event, book: RowBuffer, asset: str) -> StatisticsRow:
    return book.statistics.edit_or_add((event.user_id, asset, ""))
