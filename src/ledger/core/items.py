"""Items: what a wallet, or a stream of the ledger, remembers under an id. One Struct per kind, and the key of each.

A wallet can have millions of items, so they are stored outside of it. The key is a letter for the kind, a colon and
the id (``"b:bet-1"``), unique within the wallet. Ids of two kinds never collide.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct


class Order(Struct, frozen=True, array_like=True, tag="o", gc=False):
    kind: Literal["deposit", "withdrawal"]
    status: Literal["completed", "pending", "approved", "rejected", "reversed"]
    asset: str
    amount: int
    day: int


class Drawn(Struct, frozen=True, array_like=True, gc=False):
    """Bonus that a stake took from one grant, with what is needed to give it back to the grant."""

    grant_id: str
    amount: int
    expires_at_us: int | None
    granted_seq: int
    granted: int
    won: bool


class GameBet(Struct, frozen=True, array_like=True, gc=False):
    """What settles a bet of a game with rules. ``table_digest`` names the pay table that it was taken under; ``fee``
    is the part of the stake that is the house's, ``seq`` that of its event, ``ends_at_us`` the end of its period."""

    seq: int
    game: str
    period: str
    ends_at_us: int
    selection: str
    table_digest: str
    fee: int


class Bet(Struct, frozen=True, array_like=True, tag="b", gc=False):
    """``cash`` and ``bonus`` are the two parts of the stake; ``day`` is the UTC day that counts it; ``of_game`` is
    None for a bet of ``external``."""

    status: Literal["open", "settled", "cancelled", "cancelled_before"]
    asset: str = ""
    cash: int = 0
    bonus: int = 0
    drawn: tuple[Drawn, ...] = ()
    day: int = 0
    of_game: GameBet | None = None
    window: int = 0
    """The window of wagering in which the stake counts; 0: none."""

    @property
    def stake(self) -> int:
        return self.cash + self.bonus


class Hold(Struct, frozen=True, array_like=True, tag="h", gc=False):
    status: Literal["open", "captured", "released", "expired"]
    asset: str
    amount: int
    expires_at_us: int | None


class SentTransfer(Struct, frozen=True, array_like=True, tag="t", gc=False):
    """What was sent is kept until the transfer is concluded, and compared with the conclusion."""

    status: Literal["sent", "delivered", "returned"]
    to_user_id: str = ""
    asset: str = ""
    amount: int = 0


class GrantTaken(Struct, frozen=True, array_like=True, tag="g", gc=False):
    """The grant id is used, whether or not the grant is running."""


class Proposal(Struct, frozen=True, array_like=True, tag="a", gc=False):
    status: Literal["open", "approved", "rejected"]
    proposer: str
    asset: str
    amount: int


class Reversible(Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A deposit, grant or adjustment that ``reverse`` can name; ``cash`` and ``bonus`` are its amounts."""

    asset: str
    cash: int
    bonus: int
    house: tuple[tuple[str, int], ...]
    grant_id: str | None
    order_id: str | None
    reversed: bool = False
    wagering: int = 0
    window: int = 0
    """What the event added to the wagering, and in which window; 0: nothing."""
    day: int = 0
    """The UTC day number of a deposit (days since 1970)."""


class Outcome(Struct, frozen=True, array_like=True, tag="p", gc=False):
    """How a period of a game ended, on the game's stream: ``seq`` is that of the event."""

    status: Literal["recorded", "cancelled"]
    seq: int


class Gift(Struct, frozen=True, array_like=True, tag="i", gc=False):
    """A gift, on its own stream: ``granted`` of its ``claims`` shares belong to users."""

    asset: str
    amount: int
    claims: int
    expires_at_us: int | None
    granted: int = 0
    closed: bool = False


class GiftClaim(Struct, frozen=True, array_like=True, tag="s", gc=False):
    """A wallet's claim of a gift. ``no_share``: the gift refused, so the wallet may claim it again; ``no_room``: the
    wallet itself refused a share that the gift had granted, which ends the claim for good."""

    status: Literal["open", "received", "no_share", "no_room"]


class ReferralCode(Struct, frozen=True, array_like=True, tag="k", gc=False):
    """On a wallet: the code that it has claimed. On the stream of a code: ``code`` and its owner."""

    status: Literal["open", "granted", "refused"]
    code: str
    owner: str


class OpenBet(Struct, frozen=True, array_like=True, tag="n", gc=False):
    """A bet that waits for the outcome of its period, as the list of its partition's open bets has it.

    It repeats the item of the bet, so that a settlement reads only the list, in its order. On disk the item is among
    the items of all bets, and reading it took longer than the settlement itself.
    """

    user_id: str
    bet_id: str
    bet: Bet

    @property
    def of_game(self) -> GameBet:
        assert self.bet.of_game is not None, self
        return self.bet.of_game


Item = (
    Order | Bet | Hold | SentTransfer | GrantTaken | Proposal | Reversible | Outcome | Gift | GiftClaim | ReferralCode
)
Items = Mapping[str, Item | None]
"""Key of an item within its wallet → the item, or None if there is none. Every requested key is present."""


def split_payout(bet: Bet, payout: int) -> tuple[int, int]:
    """A payout's parts (to cash, to bonus): bonus gets floor(payout × bonus stake ÷ stake), cash the rest."""
    to_bonus = payout * bet.bonus // bet.stake if bet.bonus else 0
    assert 0 <= to_bonus <= payout, (bet, payout)
    return payout - to_bonus, to_bonus


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


def period_key(period: str) -> str:
    return "p:" + period


def reversible_key(position: str) -> str:
    return "r:" + position


GIFT_KEY: Final = "i:"
"""The key of the gift, on its stream."""

CODE_KEY: Final = "k:"
"""The key of a wallet's one code, and on the stream of a code the key of its owner."""


def gift_claim_key(code: str) -> str:
    return "s:" + code
