"""History: one line per event and asset that moved in its wallet."""

from typing import Final

import msgspec

from ledger.core.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from projections.models.rows import HistoryRow
from projections.storage.row_buffer import RowBuffer

# Sorted maps, as in the record: the data of a line is the record's, member for member.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def fold(event: Event, place: Position, book: RowBuffer) -> None:
    if not event.balances:
        return
    data = event.data
    own = f"wallet/{event.user_id}/"
    text = _encode(data).decode()
    game = _game(event, book)
    for asset, balance in event.balances.items():
        change = {"cash": 0, "bonus": 0, "held": 0}
        for account, posted_asset, amount in event.postings:
            if posted_asset == asset and account.startswith(own):
                change[account[len(own) :]] += amount
        row = HistoryRow(
            event.user_id,
            event.time_us,
            place.seq,
            asset,
            data.type,
            event.command_id,
            game,
            change["cash"],
            change["bonus"],
            change["held"],
            balance.cash,
            balance.bonus,
            balance.held,
            text,
        )
        book.history.add((row.user_id, row.time_us, row.seq, row.asset), row)


def _game(event: Event, book: RowBuffer) -> str | None:
    match event.data:
        case BetPlaced(game=game):
            return game
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            bet = book.bets.get((event.user_id, bet_id))
            return None if bet is None else bet.game
        case _:
            return None
