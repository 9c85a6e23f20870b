"""All wallets and items of a log, in memory: once as the log says, once as they would be under other rules.

Invariants:
(1) an event of the log at seq s has the seq s × ``STRIDE`` here, so that an event that only the other rules make has
    a place between two events of the log. Both worlds number like this, so at the start of the window they are equal;
(2) a bonus of the ledger's own has the seq of its cause plus 1, 2, …: as in a log, where it directly follows it;
(3) items that no later command can use are not kept: settled bets, resolved orders, holds, transfers and proposals.
    The log has accepted each command once, so the same id is not used again.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.consequences import OWN
from ledger.core.events import Event, Reversed
from ledger.core.evolve import evolve, items_read_by
from ledger.core.games.rules import EXTERNAL_GAME
from ledger.core.items import (
    Bet,
    GrantTaken,
    Hold,
    Item,
    Items,
    Order,
    Outcome,
    Proposal,
    Reversible,
    SentTransfer,
    bet_key,
)
from ledger.core.position import Position
from ledger.core.wallet import Wallet
from ledger.operations.what_if.figures import Figures

STRIDE: Final = 1 << 20
"""Chosen: more events than one event of the log can lead to."""


class World:
    """``figures`` counts the events that are applied; None: they are before the window."""

    def __init__(self) -> None:
        self._wallets: dict[str, Wallet] = {}
        self._items: dict[tuple[str, str], Item] = {}
        self._own: dict[str, Position] = {}
        """Position in the log of a bonus of the ledger's own → its position here."""
        self.figures: Figures | None = None

    def copy(self) -> "World":
        """The same state, which changes separately: wallets and items are values."""
        other = World()
        other._wallets, other._items, other._own = self._wallets.copy(), self._items.copy(), self._own.copy()
        return other

    def wallet(self, user_id: str) -> Wallet:
        return self._wallets.get(user_id) or Wallet(user_id)

    def wallets(self) -> Iterable[Wallet]:
        return self._wallets.values()

    def item(self, user_id: str, key: str) -> Item | None:
        return self._items.get((user_id, key))

    def items(self, user_id: str, keys: tuple[str, ...]) -> dict[str, Item | None]:
        return {key: self._items.get((user_id, key)) for key in keys}

    def apply(self, wallet: Wallet, items: Items, event: Event, position: Position) -> Wallet:
        """``position`` is one of this world. Returns the wallet after the event."""
        user_id = event.user_id
        after, changed = evolve(wallet, items, event, position)
        self._wallets[user_id] = after
        for key, item in changed.items():
            if _is_over(item):
                self._items.pop((user_id, key), None)
            else:
                self._items[user_id, key] = item
        if self.figures is not None:
            self.figures.add(event, _game_of(event, items))
        return after

    def fold(self, event: Event, at: Position) -> Wallet:
        """Apply an event of the log, which is there at ``at``."""
        position = scaled(at)
        if event.command_id.startswith(OWN):
            cause = Position.parse(event.data.cause)  # type: ignore[union-attr, arg-type]  # each of them has it
            position = Position(at.partition, cause.seq * STRIDE + at.seq - cause.seq)
            self.note_own(at, position)
        if isinstance(event.data, Reversed):
            event = replace(event, data=replace(event.data, position=self.reversible(event.data.position)))
        return self.apply(
            self.wallet(event.user_id), self.items(event.user_id, items_read_by(event)), event, position
        )

    def note_own(self, at: Position, position: Position) -> None:
        """The bonus of the ledger's own that the log has at ``at`` is at ``position`` here."""
        self._own[str(at)] = position

    def reversible(self, at: str) -> str:
        """Where the event is that a ``reverse`` names by its position in the log."""
        return str(self._own.get(at) or scaled(Position.parse(at)))


def scaled(at: Position) -> Position:
    return Position(at.partition, at.seq * STRIDE)


def _is_over(item: Item) -> bool:
    match item:
        case GrantTaken() | Outcome():
            return True
        case Bet() | Hold() | Proposal():
            return item.status != "open"
        case Order():
            return item.status != "pending"
        case SentTransfer():
            return item.status != "sent"
        case Reversible():
            return item.reversed
        case _:
            return False


def _game_of(event: Event, items: Items) -> str | None:
    """The game of the bet that the event is about; None if it is about none."""
    match event.data:
        case BetPlaced(game=game):
            return game
        case BetSettled(bet_id=bet_id) | BetCancelled(before_bet=False, bet_id=bet_id):
            bet = items[bet_key(bet_id)]
            assert isinstance(bet, Bet), event
            return EXTERNAL_GAME if bet.of_game is None else bet.of_game.game
        case _:
            return None
