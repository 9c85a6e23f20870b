"""Bets under their ids, open or settled."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.core.events import BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from projections.models.rows import BetRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import Amount, AmountOrZero, Asset, EventPosition, Game, Id, NextCursor, Text, TimeUs

BetStatus = Literal["open", "won", "lost", "cancelled"]


class Bet(Struct, gc=False):
    """A bet. A bet with a payout above 0 is won, with a payout of 0 lost."""

    bet_id: Annotated[Id, Meta(description="The bet's id, chosen by the client", examples=["bet-1"])]
    game: Game
    period: Annotated[Text, Meta(description="The game's round", examples=["2026-11-23/0042"])]
    selection: Annotated[Text, Meta(description="What the bet is on", examples=["red"])]
    asset: Asset
    stake: Annotated[Amount, Meta(description="The stake, in the asset's minor unit", examples=[50_000])]
    status: Annotated[BetStatus, Meta(description="Status of the bet", examples=["won"])]
    payout: Annotated[
        AmountOrZero | None,
        Meta(description="The payout, in the asset's minor unit; null until it is settled", examples=[95_000]),
    ]
    position: EventPosition
    placed_at_us: TimeUs
    settled_position: Annotated[
        EventPosition | None, Meta(description="Position of the settlement or cancellation", examples=["3:5"])
    ]
    settled_at_us: Annotated[TimeUs | None, Meta(description="Time of the settlement or cancellation")]


class Bets(Struct, gc=False):
    """One page of a wallet's bets, newest first."""

    items: list[Bet]
    next_cursor: NextCursor


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
