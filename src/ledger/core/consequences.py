"""Consequences: what an event causes on its own wallet, as further events of the ledger, right after it.

Invariants:
(1) a consequence is decided in the round of its cause and is in the same append: both are in the log, or neither;
(2) a replay decides no consequences: an event that was written under other rules, or without rules, causes nothing
    later;
(3) a consequence never makes its cause fail. A bonus that would exceed the largest amount is reduced, or left out.
    ``balance_max`` does not apply to it;
(4) a consequence has no consequences.
"""

from typing import Any, Final

from msgspec import Struct

from ledger.core.bonus_events import BonusGranted
from ledger.core.commission_events import ReferralValid
from ledger.core.events import HOUSE_BONUSES, Deposited, Event, WalletOpened
from ledger.core.games.rules import RuleBook
from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import MoneyRules, Steps
from ledger.core.position import Position
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay
from ledger.core.wagering import addition
from ledger.core.wallet import Wallet

FIRST_DEPOSIT_GRANT: Final = "~first_deposit:1"
"""The grant of a first deposit: a wallet has at most one."""

OWN: Final = "~own:"
"""The ``command_id`` of a consequence is this prefix and the event's own seq."""

_SECOND_US: Final = 1_000_000


class OwnGrant(Struct, frozen=True):
    """A bonus that the rules give. ``kind`` is ``registration``, ``first_deposit`` or ``invitation``."""

    kind: str
    asset: str
    amount: int


# Checked first, because nearly every event is of another type.
CAUSES: Final[frozenset[type[Any]]] = frozenset({WalletOpened, Deposited, ReferralValid})


def consequences_of(event: Event, wallet: Wallet, rules: RuleBook) -> list[OwnGrant]:
    """The events that ``event`` causes on its own wallet, in their order. ``wallet`` is the wallet after
    ``event``."""
    data = event.data
    match data:
        case WalletOpened():
            return [
                OwnGrant("registration", asset, of_asset.registration)
                for asset, of_asset in sorted(rules.money.items())
                if of_asset.registration
            ]
        case Deposited(first_deposit=True, bonus=None) if (of_asset := rules.money.get(data.asset)) is not None:
            bonus = reached(of_asset.first_deposit, data.amount)
            return [OwnGrant("first_deposit", data.asset, bonus)] if bonus else []
        case ReferralValid(reason=None) if (of_asset := rules.money.get(data.asset)) is not None:
            bonus = dict(of_asset.invitation).get(wallet.valid_referrals[data.asset], 0)
            return [OwnGrant("invitation", data.asset, bonus)] if bonus else []
        case _:
            return []


def reached(steps: Steps, value: int) -> int:
    """The bonus of the largest step that ``value`` reaches; 0 if it reaches none."""
    return max((step for step in steps if step[0] <= value), default=(0, 0))[1]


def decide_own_grant(
    own: OwnGrant, wallet: Wallet, rules: RuleBook, cause: Position, time_us: int, seq: int
) -> Event | None:
    """The event with the number ``seq`` that grants the bonus; None if the wallet has no room for any of it."""
    asset = own.asset
    amount = min(own.amount, AMOUNT_MAX - owned_or_due(wallet, asset))
    if amount <= 0:
        return None
    of_asset = rules.money[asset]
    return ledger_event(
        wallet,
        f"{OWN}{seq}",
        time_us,
        BonusGranted(
            amount=amount,
            asset=asset,
            cause=str(cause),
            expires_at_us=expiry_of(of_asset, time_us),
            grant_id=own_grant_id(wallet, own.kind),
            kind=own.kind,
            rules=rules.money_digest,
            wagering=addition(wallet, asset, of_asset, bonus=amount),
        ),
        pay(wallet.user_id, HOUSE_BONUSES, asset, 0, amount),
        balances_with(wallet, asset, 0, amount),
    )


def bonus_position(deposit: str) -> str:
    """Where the bonus of a first deposit is, if it has one: directly after the deposit, its cause."""
    partition, seq = Position.parse(deposit)
    return str(Position(partition, seq + 1))


def own_grant_id(wallet: Wallet, kind: str) -> str:
    """The id of the wallet's next grant of this kind. It begins with ``~``, which no client's id may."""
    return f"~{kind}:{wallet.own_grants.get(kind, 0) + 1}"


def expiry_of(rules: MoneyRules, time_us: int) -> int | None:
    """When a bonus of the ledger's own that is granted at ``time_us`` expires; None: never."""
    after_s = rules.bonus_expires_after_s
    return None if after_s is None else time_us + after_s * _SECOND_US
