"""Bets under their ids, open or settled."""

from ledger.core.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from projections.models.rows import BetRow
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            book.bets.want((event.user_id, bet_id))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
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
                place.seq,
                event.time_us,
                None,
                None,
            )
            book.bets.add((user_id, data.bet_id), row)
        case BetSettled():
            bet = book.bets.edit((user_id, data.bet_id))
            bet.status = "won" if data.payout > 0 else "lost"
            bet.payout = data.payout
            bet.settled_seq, bet.settled_at_us = place.seq, event.time_us
        case BetCancelled(before_bet=False):
            bet = book.bets.edit((user_id, data.bet_id))
            bet.status = "cancelled"
            bet.settled_seq, bet.settled_at_us = place.seq, event.time_us
