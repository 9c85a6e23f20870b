"""Follow-ups: the commands that an event sends to another wallet, and the event that each becomes.

Invariants:
(1) A follow-up always leaves an event, also where the receiver refuses it: a redelivery must find the same outcome.
(2) The event of a follow-up names its cause, and is never dated before it (the round ensures it).
(3) A transfer, a claim and a signup by code are concluded once, by what they sent: money comes back only to the
    wallet that it left.
"""

from typing import Any, Final

from ledger.core import gifts, referral_codes
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
from ledger.core.fields import CODE_STREAM, GIFT_STREAM, REFERRAL_LEVELS
from ledger.core.follow_up_commands import (
    ConcludeCodeClaim,
    ConcludeGiftClaim,
    ConcludeTransfer,
    CountReferral,
    CountValidReferral,
    GrantGiftShare,
    GrantReferralCode,
    PayCommission,
    ReceiveTransfer,
    ResolveReferral,
    SetReferrer,
    WalletFollowUp,
)
from ledger.core.games.rules import RuleBook
from ledger.core.gift_events import (
    GiftClaimed,
    GiftShareGranted,
    GiftShareRefused,
    ReferralCodeClaimed,
    ReferralCodeGranted,
    ReferralCodeRefused,
    ReferralResolved,
    ReferrerSet,
)
from ledger.core.items import (
    CODE_KEY,
    GIFT_KEY,
    GiftClaim,
    Item,
    ReferralCode,
    SentTransfer,
    gift_claim_key,
    transfer_key,
)
from ledger.core.money import in_bounds
from ledger.core.position import Position
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay
from ledger.core.rejections import Code
from ledger.core.wallet import Wallet, balance_sum, limits_of


def decide_follow_up(
    follow_up: WalletFollowUp, wallet: Wallet, item: Item | None, time_us: int, rules: RuleBook
) -> Event:
    """The event of a follow-up that ``fits``. Never a rejection: a second delivery must find the same outcome.
    ``item`` is the item of ``item_needed_by``; ``rules`` contains the rules that the follow-up names."""
    match follow_up:
        case ReceiveTransfer():
            return _receive_transfer(follow_up, wallet, time_us)
        case ConcludeTransfer():
            return _conclude_transfer(follow_up, wallet, time_us)
        case CountValidReferral():
            return count_valid_referral(follow_up, wallet, time_us)
        case PayCommission():
            return pay_commission(follow_up, wallet, rules, time_us)
        case GrantGiftShare():
            return gifts.grant_share(follow_up, wallet, item, time_us)
        case ConcludeGiftClaim():
            return gifts.conclude_claim(follow_up, wallet, time_us, rules)
        case GrantReferralCode():
            return referral_codes.grant_code(follow_up, wallet, item, time_us)
        case ConcludeCodeClaim():
            return referral_codes.conclude_claim(follow_up, wallet, time_us)
        case ResolveReferral():
            return referral_codes.resolve_referral(follow_up, wallet, item, time_us)
        case SetReferrer():
            return referral_codes.set_referrer(follow_up, wallet, time_us)
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
    """The key of the item that the follow-up is about, in its wallet or stream; None if it is about none."""
    match follow_up:
        case ConcludeTransfer():
            return transfer_key(follow_up.transfer_id)
        case GrantGiftShare():
            return GIFT_KEY
        case ConcludeGiftClaim():
            return gift_claim_key(follow_up.code)
        case GrantReferralCode() | ConcludeCodeClaim() | ResolveReferral():
            return CODE_KEY
        case _:
            return None


def fits(follow_up: WalletFollowUp, wallet: Wallet, item: Item | None) -> bool:
    """Whether the follow-up concludes what ``wallet`` has sent: ``item`` is the one of ``item_needed_by``. If not,
    two partitions of the log contradict each other, and the follow-up must not be decided."""
    match follow_up:
        case ConcludeTransfer():
            return item == SentTransfer("sent", follow_up.to_user_id, follow_up.asset, follow_up.amount)
        case ConcludeGiftClaim():
            return item == GiftClaim("open")
        case ConcludeCodeClaim():
            return item == ReferralCode("open", follow_up.code, follow_up.user_id)
        case SetReferrer():
            return wallet.status != "none" and wallet.referrer_id is None
        case _:
            return True


CONCLUDED: Final[dict[type[Any], str]] = {
    ConcludeTransfer: "a transfer",
    ConcludeGiftClaim: "a claim",
    ConcludeCodeClaim: "a claim",
    SetReferrer: "a signup",
}
"""Type of a follow-up that concludes something → what it concludes, for messages."""


# The other types send none: looked up first, because nearly every event is of one of them.
_SENDERS: Final[frozenset[type[Any]]] = frozenset(
    {
        *(WalletOpened, ReferralCounted, TransferSent, TransferReceived, TransferRefused),
        *(Deposited, CommissionDue, CommissionPaid),
        *(GiftClaimed, GiftShareGranted, GiftShareRefused),
        *(ReferralCodeClaimed, ReferralCodeGranted, ReferralCodeRefused, ReferralResolved, ReferrerSet),
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
        case WalletOpened(referrer_id=str(referrer_id)) | ReferrerSet(referrer_id=referrer_id):
            return CountReferral(
                command_id=command_id,
                user_id=referrer_id,
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
            return _of_a_code(event, command_id, cause)


def _of_a_code(event: Event, command_id: str, cause: str) -> WalletFollowUp | None:
    """What an event about a gift or a referral code sends."""
    data, user_id, time_us = event.data, event.user_id, event.time_us
    sent: dict[str, Any] = {"command_id": command_id, "cause": cause, "cause_time_us": time_us}
    match data:
        case GiftClaimed():
            return GrantGiftShare(**sent, user_id=GIFT_STREAM + data.code, claimed_by=user_id)
        case GiftShareGranted():
            code = user_id.removeprefix(GIFT_STREAM)
            return ConcludeGiftClaim(**sent, user_id=data.claimed_by, code=code, asset=data.asset, amount=data.amount)
        case GiftShareRefused():
            code = user_id.removeprefix(GIFT_STREAM)
            return ConcludeGiftClaim(**sent, user_id=data.claimed_by, code=code, refusal=data.reason)
        case WalletOpened() if data.referral_code is not None:
            return ResolveReferral(**sent, user_id=CODE_STREAM + data.referral_code, member=user_id)
        case ReferralResolved():
            code = user_id.removeprefix(CODE_STREAM)
            return SetReferrer(**sent, user_id=data.member, code=code, referrer_id=data.referrer_id)
        case ReferralCodeClaimed():
            return GrantReferralCode(**sent, user_id=CODE_STREAM + data.code, claimed_by=user_id)
        case ReferralCodeGranted() | ReferralCodeRefused() if user_id != data.claimed_by:  # on the stream of the code
            granted = isinstance(data, ReferralCodeGranted)
            return ConcludeCodeClaim(**sent, user_id=data.claimed_by, code=data.code, granted=granted)
        case _:
            return None
