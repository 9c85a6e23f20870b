"""Follow-ups: the commands that an event sends to another wallet, and the event that each becomes.

Invariants:
(1) A follow-up always leaves an event, also where the receiver refuses it: a redelivery must find the same outcome.
(2) The event of a follow-up names its cause, and is never dated before it (the round ensures it).
(3) A transfer is concluded once, by what it sent: money comes back only to the wallet that it left.
"""

from typing import Any, Final

from ledger.core.commands import (
    ConcludeTransfer,
    CountReferral,
    CountValidReferral,
    PayCommission,
    ReceiveTransfer,
    WalletFollowUp,
)
from ledger.core.commission_events import CommissionDue, CommissionPaid
from ledger.core.commissions import count_valid_referral, pay_commission
from ledger.core.events import (
    TRANSIT_TRANSFERS,
    Deposited,
    Event,
    ReferralCounted,
    ReferralVoid,
    TransferDelivered,
    TransferReceived,
    TransferRefused,
    TransferReturned,
    TransferSent,
    WalletOpened,
)
from ledger.core.fields import REFERRAL_LEVELS
from ledger.core.games.rules import RuleBook
from ledger.core.items import Item, SentTransfer, transfer_key
from ledger.core.money import in_bounds
from ledger.core.position import Position
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay
from ledger.core.rejections import Code
from ledger.core.wallet import Wallet, balance_sum, limits_of


def decide_follow_up(follow_up: WalletFollowUp, wallet: Wallet, rules: RuleBook, time_us: int) -> Event:
    """The event of a follow-up that ``fits``. Never a rejection: a redelivery must find the same outcome.

    ``rules`` has those that the follow-up names."""
    match follow_up:
        case ReceiveTransfer():
            return _receive_transfer(follow_up, wallet, time_us)
        case ConcludeTransfer():
            return _conclude_transfer(follow_up, wallet, time_us)
        case CountValidReferral():
            return count_valid_referral(follow_up, wallet, time_us)
        case PayCommission():
            return pay_commission(follow_up, wallet, rules, time_us)
        case CountReferral():
            counts = wallet.status in ("open", "frozen")
            data = ReferralCounted if counts else ReferralVoid
            return ledger_event(
                wallet,
                follow_up.command_id,
                time_us,
                data(cause=follow_up.cause, level=follow_up.level, member=follow_up.member),
            )


def _receive_transfer(follow_up: ReceiveTransfer, wallet: Wallet, time_us: int) -> Event:
    asset, amount = follow_up.asset, follow_up.amount
    refusal = _cannot_receive(wallet, asset, amount)
    if refusal is not None:
        refused = TransferRefused(
            amount=amount,
            asset=asset,
            cause=follow_up.cause,
            from_user_id=follow_up.from_user_id,
            reason=refusal,
            transfer_id=follow_up.transfer_id,
        )
        return ledger_event(wallet, follow_up.command_id, time_us, refused)
    return ledger_event(
        wallet,
        follow_up.command_id,
        time_us,
        TransferReceived(
            amount=amount,
            asset=asset,
            cause=follow_up.cause,
            from_user_id=follow_up.from_user_id,
            transfer_id=follow_up.transfer_id,
        ),
        pay(wallet.user_id, TRANSIT_TRANSFERS, asset, amount, 0),
        balances_with(wallet, asset, amount, 0),
    )


def _cannot_receive(wallet: Wallet, asset: str, amount: int) -> Code | None:
    if wallet.status == "none":
        return Code.WALLET_NOT_OPEN
    if wallet.status == "closed":
        return Code.WALLET_CLOSED
    if not in_bounds(owned_or_due(wallet, asset) + amount):
        return Code.AMOUNT_OUT_OF_RANGE
    maximum = limits_of(wallet, asset).balance_max
    if maximum is not None and balance_sum(wallet, asset) + amount > maximum:
        return Code.BALANCE_MAX_EXCEEDED
    return None


def _conclude_transfer(follow_up: ConcludeTransfer, wallet: Wallet, time_us: int) -> Event:
    asset, amount = follow_up.asset, follow_up.amount
    if follow_up.refusal is None:
        delivered = TransferDelivered(
            amount=amount,
            asset=asset,
            cause=follow_up.cause,
            to_user_id=follow_up.to_user_id,
            transfer_id=follow_up.transfer_id,
        )
        return ledger_event(wallet, follow_up.command_id, time_us, delivered)
    return ledger_event(
        wallet,
        follow_up.command_id,
        time_us,
        TransferReturned(
            amount=amount,
            asset=asset,
            cause=follow_up.cause,
            reason=follow_up.refusal,
            to_user_id=follow_up.to_user_id,
            transfer_id=follow_up.transfer_id,
        ),
        pay(wallet.user_id, TRANSIT_TRANSFERS, asset, amount, 0),
        balances_with(wallet, asset, amount, 0),
    )


def item_needed_by(follow_up: WalletFollowUp) -> str | None:
    """The key of the item that the follow-up is about, in its wallet; None if it is about none."""
    return transfer_key(follow_up.transfer_id) if isinstance(follow_up, ConcludeTransfer) else None


def fits(follow_up: WalletFollowUp, item: Item | None) -> bool:
    """Whether the follow-up fits ``item``, the one that it needs. If not, two partitions of the log contradict each
    other, and the follow-up must not be decided."""
    if not isinstance(follow_up, ConcludeTransfer):
        return True
    return item == SentTransfer("sent", follow_up.to_user_id, follow_up.asset, follow_up.amount)


# The other types send none: looked up first, because nearly every event is of one of them.
_SENDERS: Final[frozenset[type[Any]]] = frozenset(
    {
        *(WalletOpened, ReferralCounted, TransferSent, TransferReceived, TransferRefused),
        *(Deposited, CommissionDue, CommissionPaid),
    }
)


def follow_up_of(event: Event, wallet: Wallet, position: Position, head: str) -> WalletFollowUp | None:
    """The follow-up that ``event`` sends to another wallet; None if it sends none.

    ``wallet`` is the event's wallet after the event, ``head`` the hash of its record.
    """
    data = event.data
    if type(data) not in _SENDERS:
        return None
    command_id, cause = f"~{head}:0", str(position)
    match data:
        case WalletOpened() if data.referrer_id is not None:
            return CountReferral(
                command_id=command_id,
                user_id=data.referrer_id,
                cause=cause,
                cause_time_us=event.time_us,
                member=event.user_id,
                level=1,
            )
        case ReferralCounted() if (
            wallet.referrer_id is not None and wallet.referrer_id != data.member and data.level < REFERRAL_LEVELS
        ):
            return CountReferral(
                command_id=command_id,
                user_id=wallet.referrer_id,
                cause=cause,
                cause_time_us=event.time_us,
                member=data.member,
                level=data.level + 1,
            )
        case Deposited() if data.referral_rules is not None:
            assert wallet.referrer_id is not None, event
            return CountValidReferral(
                command_id=command_id,
                user_id=wallet.referrer_id,
                cause=cause,
                cause_time_us=event.time_us,
                member=event.user_id,
                asset=data.asset,
                rules=data.referral_rules,
            )
        case CommissionDue():
            assert wallet.referrer_id is not None, event
            return PayCommission(
                command_id=command_id,
                user_id=wallet.referrer_id,
                cause=cause,
                cause_time_us=event.time_us,
                member=event.user_id,
                level=1,
                asset=data.asset,
                day=data.day,
                stake=data.stake,
                rules=data.rules,
            )
        case CommissionPaid() if data.referrer_id is not None:
            return PayCommission(
                command_id=command_id,
                user_id=data.referrer_id,
                cause=cause,
                cause_time_us=event.time_us,
                member=data.member,
                level=data.level + 1,
                asset=data.asset,
                day=data.day,
                stake=data.stake,
                rules=data.rules,
            )
        case TransferSent():
            return ReceiveTransfer(
                command_id=command_id,
                user_id=data.to_user_id,
                cause=cause,
                cause_time_us=event.time_us,
                transfer_id=data.transfer_id,
                from_user_id=event.user_id,
                asset=data.asset,
                amount=data.amount,
            )
        case TransferReceived() | TransferRefused():
            return ConcludeTransfer(
                command_id=command_id,
                user_id=data.from_user_id,
                cause=cause,
                cause_time_us=event.time_us,
                transfer_id=data.transfer_id,
                to_user_id=event.user_id,
                asset=data.asset,
                amount=data.amount,
                refusal=data.reason if isinstance(data, TransferRefused) else None,
            )
        case _:
            return None
