"""Deposits: the order that an event made, for a reversal names its event and not its order."""

from ledger.core.events import Deposited, Event, Reversed
from ledger.core.position import Position
from projections.models.rows import DepositRow
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    if isinstance(event.data, Reversed):
        book.deposits.want((reversed_seq(event.data),))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
    if isinstance(event.data, Deposited):
        book.deposits.add((place.seq,), DepositRow(place.seq, event.data.order_id))


def reversed_seq(data: Reversed) -> int:
    """A reversal is of an event of its own wallet, so of its own partition."""
    return int(data.position.partition(":")[2])
