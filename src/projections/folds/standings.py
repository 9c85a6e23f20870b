"""Standings: what a user staked, won and netted on a UTC day. Leaderboards of a day, week or month are sums of them.

A stake counts on the day of its bet, a payout on the day of its settlement; a cancelled bet counts nowhere.
"""

from ledger.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.wallet import DAY_US, Place
from projections.book import Book
from projections.rows import BetRow


def needs(event: Event, book: Book) -> None:
    match event.data:
        case BetPlaced(asset=asset, bet_id=bet_id):
            book.placed[event.user_id, bet_id] = asset
            book.standings.want((event.time_us // DAY_US, asset, event.user_id))


def then_needs(event: Event, book: Book) -> None:
    match event.data:
        case BetSettled(bet_id=bet_id):
            key = (event.user_id, bet_id)
            bet = book.bets.peek(key)
            asset = book.placed.get(key) if bet is None else bet.asset
            if asset is not None:
                book.standings.want((event.time_us // DAY_US, asset, event.user_id))
        case BetCancelled(bet_id=bet_id):
            bet = book.bets.peek((event.user_id, bet_id))
            if bet is not None:  # else this run places it, and asks for the row of its day
                book.standings.want((bet.placed_at_us // DAY_US, bet.asset, event.user_id))


def fold(event: Event, _place: Place, book: Book) -> None:
    data = event.data
    match data:
        case BetPlaced():
            row = book.standings.edit_or_add((event.time_us // DAY_US, data.asset, event.user_id))
            row.staked += data.stake
        case BetSettled():
            bet = _bet(event, data.bet_id, book)
            row = book.standings.edit_or_add((event.time_us // DAY_US, bet.asset, event.user_id))
            row.won += data.payout
            row.net += data.payout - bet.stake
        case BetCancelled(before_bet=False):
            bet = _bet(event, data.bet_id, book)
            row = book.standings.edit((bet.placed_at_us // DAY_US, bet.asset, event.user_id))
            row.staked -= bet.stake


def _bet(event: Event, bet_id: str, book: Book) -> BetRow:
    bet = book.bets.get((event.user_id, bet_id))
    assert bet is not None, event
    return bet
