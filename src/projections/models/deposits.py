"""Deposits: the order that a deposit's event made. A reversal names the event, not the order."""

from typing import Final

from ledger.core.events import Deposited, Event, Reversed
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.model import Model
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row

# --- rows and fold --------------------


class DepositRow(Row):
    """The order that the event at ``seq`` made: a reversal names its event, not its order."""

    table = "deposit"
    key_length = 1

    seq: int
    order_id: columns.Id
    wagering: int = 0
    """What it added to the wagering."""


def needs(event: Event, buffer: RowBuffer) -> None:
    if isinstance(event.data, Reversed):
        buffer[DepositRow].want((reversed_seq(event.data),))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    if isinstance(event.data, Deposited):
        buffer[DepositRow].add(
            (position.seq,), DepositRow(position.seq, event.data.order_id, event.data.wagering or 0)
        )


def reversed_seq(data: Reversed) -> int:
    """A reversal names an event of the same wallet, so of the same partition."""
    return Position.parse(data.position).seq


MODEL: Final = Model((DepositRow,), fold, needs, of=(Deposited, Reversed))
