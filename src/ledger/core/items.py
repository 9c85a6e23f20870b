"""What a wallet remembers under an id, besides its balances: one Struct per kind, and the key each lives under.

A wallet may have millions of these, so they live outside of it; the key is a letter for the kind, a colon, the id
(``"b:bet-1"``), unique within the wallet. Ids of one kind never collide with ids of another.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct


class Order(Struct, frozen=True, array_like=True, tag="o", gc=False):
    kind: Literal["deposit", "withdrawal"]
    status: Literal["completed", "pending", "approved", "rejected", "reversed"]
    asset: str
    amount: int
    day: int


class Drawn(Struct, frozen=True, array_like=True, gc=False):
    """Bonus that a stake took from one grant, with what is needed to put it back into it."""

    grant_id: str
    amount: int
    expires_at_us: int | None
    granted_seq: int
    granted: int
    won: bool


class Bet(Struct, frozen=True, array_like=True, tag="b", gc=False):
    """``cash`` and ``bonus`` are the stake's two parts; ``day`` the UTC day it counts for."""

    status: Literal["open", "settled", "cancelled", "cancelled_before"]
    asset: str = ""
    cash: int = 0
    bonus: int = 0
    drawn: tuple[Drawn, ...] = ()
    day: int = 0

    @property
    def stake(self) -> int:
        return self.cash + self.bonus


class Hold(Struct, frozen=True, array_like=True, tag="h", gc=False):
    status: Literal["open", "captured", "released", "expired"]
    asset: str
    amount: int
    expires_at_us: int | None


class SentTransfer(Struct, frozen=True, array_like=True, tag="t", gc=False):
    status: Literal["sent", "delivered", "returned"]


class GrantTaken(Struct, frozen=True, array_like=True, tag="g", gc=False):
    """The grant id is taken, running or not."""


class Proposal(Struct, frozen=True, array_like=True, tag="a", gc=False):
    status: Literal["open", "approved", "rejected"]
    proposer: str
    asset: str
    amount: int


class Reversible(Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A deposit, grant or adjustment that ``reverse`` may name; ``cash`` and ``bonus`` are what it added."""

    asset: str
    cash: int
    bonus: int
    house: tuple[tuple[str, int], ...]
    grant_id: str | None
    order_id: str | None
    reversed: bool = False


Item = Order | Bet | Hold | SentTransfer | GrantTaken | Proposal | Reversible
Entries = Mapping[str, Item | None]
"""Key of an item inside its wallet → the item, or None where there is none. It holds all that was asked for."""


def order_key(order_id: str) -> str:
    return "o:" + order_id


def bet_key(bet_id: str) -> str:
    return "b:" + bet_id


def hold_key(hold_id: str) -> str:
    return "h:" + hold_id


def transfer_key(transfer_id: str) -> str:
    return "t:" + transfer_id


def grant_key(grant_id: str) -> str:
    return "g:" + grant_id


def adjustment_key(adjustment_id: str) -> str:
    return "a:" + adjustment_id


def reversible_key(position: str) -> str:
    return "r:" + position
