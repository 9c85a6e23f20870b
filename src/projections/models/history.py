"""History: one line per event and asset that moved in its wallet."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ledger.core.events import DATA_OF, BetCancelled, BetPlaced, BetSettled, Event
from ledger.core.position import Position
from projections.models.rows import HistoryRow
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import (
    AnyTimeUs,
    Asset,
    AssetText,
    Buckets,
    CommandId,
    EventPosition,
    Game,
    NextCursor,
    SignedAmount,
    TimeUs,
    UserId,
)

# Sorted maps, as in the record: the data of a line is the record's, member for member.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class BalanceAt(Struct, gc=False):
    """The buckets at a time; an asset is left out before its first event."""

    user_id: UserId
    at_us: Annotated[AnyTimeUs, Meta(description="Every event up to this time is in the balances")]
    balances: Annotated[dict[AssetText, Buckets], Meta(description="Asset to balance")]


EventType = Annotated[str, Meta(extra_json_schema={"enum": list(DATA_OF)})]


class Change(Struct, gc=False):
    """What an event added to each bucket of one asset, in the asset's minor unit; below 0 where it took."""

    cash: SignedAmount
    bonus: SignedAmount
    held: SignedAmount


class HistoryItem(Struct, gc=False):
    """One event's effect on one asset of the wallet."""

    position: Annotated[EventPosition, Meta(description="Position of the event")]
    time_us: TimeUs
    type: Annotated[EventType, Meta(description="The event's type", examples=["bet_placed"])]
    command_id: CommandId
    asset: Asset
    game: Annotated[Game | None, Meta(description="The bet's game, also when it is settled or cancelled")]
    change: Annotated[Change, Meta(description="What the event added to each bucket")]
    balances: Annotated[Buckets, Meta(description="The buckets after the event")]
    data: Annotated[
        msgspec.Raw,
        Meta(
            description="The event's data, as in its record",
            examples=[{"bet_id": "bet-1", "payout": 95_000}],
            extra_json_schema={"type": "object"},
        ),
    ]


class History(Struct, gc=False):
    """One page of a wallet's history, newest first."""

    items: list[HistoryItem]
    next_cursor: NextCursor


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
