"""Events: one Struct of data per event type, the postings that move the money, and the event itself.

Invariants, asserted by the constructors and by ``record.decode``:
(1) the postings of an event sum to zero in each asset;
(2) the members of every data Struct are declared in the order of their names, because records are sorted so;
(3) ``data`` has the command's fields except ``type``, ``command_id`` and ``user_id``, and what the decision added;
(4) ``private`` is in the data only where the command had it, encrypted; no follow-up repeats it;
(5) the ledger's own events name their ``cause``, the position of the event that led to them, except
    ``writer_opened``.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled, PeriodCancelled, ResultRecorded
from ledger.core.bonus_events import AttendanceClaimed, BonusExpired, BonusGranted
from ledger.core.commission_events import CommissionDue, CommissionPaid, ReferralValid
from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAgentLevel,
    EventAmount,
    EventAmountOrZero,
    EventAsset,
    EventCode,
    EventDigest,
    EventId,
    EventLevel,
    EventLimit,
    EventMetadata,
    EventMoneyRules,
    EventPosition,
    EventPrivate,
    EventReason,
    EventSignedAmount,
    EventTotal,
    EventUserId,
    EventWagering,
)
from ledger.core.gift_events import (
    GiftClaimed,
    GiftClosed,
    GiftCreated,
    GiftReceived,
    GiftRefused,
    GiftShareGranted,
    GiftShareRefused,
    ReferralCodeClaimed,
    ReferralCodeGranted,
    ReferralCodeRefused,
    ReferralResolved,
    ReferralUnknown,
    ReferrerSet,
)
from ledger.core.hold_events import HoldCaptured, HoldExpired, HoldPlaced, HoldReleased
from ledger.core.rejections import Code

NO_REQUEST = "0" * 64
"""``request_sha256`` of the ledger's own events: no client sent a command."""

LEDGER = "ledger"
"""``actor`` of the ledger's own events."""

Posting = tuple[str, str, int]
"""(account, asset, amount in minor units): the amount is added to the account."""

HOUSE_DEPOSITS = "house/deposits"
HOUSE_BONUSES = "house/bonuses"
HOUSE_WITHDRAWALS = "house/withdrawals"
HOUSE_FEES = "house/fees"
HOUSE_STAKES = "house/stakes"
HOUSE_PAYOUTS = "house/payouts"
HOUSE_CAPTURES = "house/captures"
HOUSE_COMMISSIONS = "house/commissions"
HOUSE_ADJUSTMENTS = "house/adjustments"
HOUSE_GIFTS = "house/gifts"
TRANSIT_TRANSFERS = "transit/transfers"


TransferRefusal = Annotated[
    str,
    Meta(
        description="The code for which the receiver's wallet refused the money",
        examples=["balance_max_exceeded"],
        extra_json_schema={
            "enum": [
                code.value
                for code in (
                    Code.WALLET_NOT_OPEN,
                    Code.WALLET_CLOSED,
                    Code.AMOUNT_OUT_OF_RANGE,
                    Code.BALANCE_MAX_EXCEEDED,
                )
            ]
        },
    ),
]


class Balance(Struct, frozen=True, gc=False):
    """A wallet's three buckets of one asset, in the asset's minor unit. Only ``cash`` may be negative, down to
    −credit_limit.
    """

    cash: Annotated[EventTotal, Meta(description="Money to bet and to withdraw; below 0 where credit was bet")] = 0
    bonus: Annotated[EventAmountOrZero, Meta(description="Bonus money: to bet, not to withdraw")] = 0
    held: Annotated[
        EventAmountOrZero, Meta(description="Money in open holds and in withdrawals not approved yet")
    ] = 0


class WalletOpened(Data, frozen=True, kw_only=True):
    """The wallet was opened."""

    type = "wallet_opened"

    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    referral_code: EventCode | None = None
    referrer_id: (
        Annotated[EventUserId, Meta(description="The user who invited this one", examples=["agent-1"])] | None
    ) = None


class ReferralCounted(Data, frozen=True, kw_only=True):
    """A member was counted on the wallet of a referrer, ``level`` steps above the member."""

    type = "referral_counted"

    cause: Cause
    level: EventLevel
    member: Annotated[EventUserId, Meta(description="The user whose wallet was opened", examples=["player-15"])]


class ReferralVoid(Data, frozen=True, kw_only=True):
    """A member was not counted: the referrer was never opened, or is closed. The walk up the referrers ends here."""

    type = "referral_void"

    cause: Cause
    level: EventLevel
    member: Annotated[EventUserId, Meta(description="The user whose wallet was opened", examples=["player-15"])]


class Deposited(Data, frozen=True, kw_only=True):
    """Money was paid in, maybe with a bonus."""

    type = "deposited"

    amount: EventAmount
    asset: EventAsset
    bonus: (
        Annotated[
            EventAmountOrZero,
            Meta(description="Bonus that came with the deposit, in the asset's minor unit", examples=[50_000]),
        ]
        | None
    ) = None
    first_deposit: Annotated[bool, Meta(description="Whether it is the first deposit of the wallet", examples=[True])]
    metadata: EventMetadata | None = None
    order_id: Annotated[EventId, Meta(description="The order", examples=["dep-1"])]
    private: EventPrivate | None = None
    referral_rules: (
        Annotated[
            EventDigest,
            Meta(description="SHA-256, in hex, of the rules by which this deposit makes the user a valid referral"),
        ]
        | None
    ) = None
    rules: EventMoneyRules | None = None
    wagering: EventWagering | None = None


class WithdrawalRequested(Data, frozen=True, kw_only=True):
    """Cash was set aside for a withdrawal that waits for approval."""

    type = "withdrawal_requested"

    amount: EventAmount
    asset: EventAsset
    metadata: EventMetadata | None = None
    order_id: Annotated[EventId, Meta(description="The order", examples=["wd-1"])]
    private: EventPrivate | None = None
    rules: EventMoneyRules | None = None


class WithdrawalApproved(Data, frozen=True, kw_only=True):
    """The withdrawal was paid out: its money left the wallet."""

    type = "withdrawal_approved"

    metadata: EventMetadata | None = None
    order_id: Annotated[EventId, Meta(description="The order", examples=["wd-1"])]
    private: EventPrivate | None = None
    reason: EventReason | None = None


class WithdrawalRejected(Data, frozen=True, kw_only=True):
    """The withdrawal was rejected: its money is cash again."""

    type = "withdrawal_rejected"

    metadata: EventMetadata | None = None
    order_id: Annotated[EventId, Meta(description="The order", examples=["wd-1"])]
    private: EventPrivate | None = None
    reason: EventReason | None = None


class TransferSent(Data, frozen=True, kw_only=True):
    """Cash left the wallet on its way to another one."""

    type = "transfer_sent"

    amount: EventAmount
    asset: EventAsset
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    to_user_id: Annotated[EventUserId, Meta(description="The receiver", examples=["player-18"])]
    transfer_id: Annotated[EventId, Meta(description="The transfer", examples=["tr-1"])]


class TransferReceived(Data, frozen=True, kw_only=True):
    """The money of a transfer arrived."""

    type = "transfer_received"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    from_user_id: Annotated[EventUserId, Meta(description="The sender", examples=["player-15"])]
    transfer_id: Annotated[EventId, Meta(description="The transfer", examples=["tr-1"])]


class TransferRefused(Data, frozen=True, kw_only=True):
    """The wallet refused the money of a transfer; the sender gets the money back."""

    type = "transfer_refused"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    from_user_id: Annotated[EventUserId, Meta(description="The sender", examples=["player-15"])]
    reason: TransferRefusal
    transfer_id: Annotated[EventId, Meta(description="The transfer", examples=["tr-1"])]


class TransferDelivered(Data, frozen=True, kw_only=True):
    """On the sender's wallet: the receiver has the money."""

    type = "transfer_delivered"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    to_user_id: Annotated[EventUserId, Meta(description="The receiver", examples=["player-18"])]
    transfer_id: Annotated[EventId, Meta(description="The transfer", examples=["tr-1"])]


class TransferReturned(Data, frozen=True, kw_only=True):
    """On the sender's wallet: the receiver refused the money, and it is cash again."""

    type = "transfer_returned"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    reason: TransferRefusal
    to_user_id: Annotated[EventUserId, Meta(description="The receiver", examples=["player-18"])]
    transfer_id: Annotated[EventId, Meta(description="The transfer", examples=["tr-1"])]


class Adjusted(Data, frozen=True, kw_only=True):
    """Cash was corrected by hand."""

    type = "adjusted"

    amount: EventSignedAmount
    asset: EventAsset
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class AdjustmentProposed(Data, frozen=True, kw_only=True):
    """A correction was proposed; it waits for another actor."""

    type = "adjustment_proposed"

    adjustment_id: Annotated[EventId, Meta(description="The adjustment", examples=["adj-1"])]
    amount: EventSignedAmount
    asset: EventAsset
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class AdjustmentApproved(Data, frozen=True, kw_only=True):
    """A proposed adjustment was approved and posted."""

    type = "adjustment_approved"

    adjustment_id: Annotated[EventId, Meta(description="The adjustment", examples=["adj-1"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason | None = None


class AdjustmentRejected(Data, frozen=True, kw_only=True):
    """A proposed adjustment was rejected: nothing was posted."""

    type = "adjustment_rejected"

    adjustment_id: Annotated[EventId, Meta(description="The adjustment", examples=["adj-1"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason | None = None


class Reversed(Data, frozen=True, kw_only=True):
    """The opposite of an earlier event was posted."""

    type = "reversed"

    metadata: EventMetadata | None = None
    position: Annotated[EventPosition, Meta(description="Position of the reversed event", examples=["3:16"])]
    private: EventPrivate | None = None
    reason: EventReason


class LimitsSet(Data, frozen=True, kw_only=True):
    """Limits were set. The only event in which null is a value: the default again. An absent limit is unchanged."""

    type = "limits_set"

    asset: EventAsset
    balance_max: (
        Annotated[
            EventLimit, Meta(description="Upper bound of cash + bonus + held; null: no limit", examples=[10_000_000])
        ]
        | UnsetType
        | None
    ) = UNSET
    credit_limit: (
        Annotated[EventLimit, Meta(description="How far bets may take cash below 0; null: 0", examples=[20_000])]
        | UnsetType
        | None
    ) = UNSET
    metadata: EventMetadata | UnsetType = UNSET
    private: EventPrivate | UnsetType = UNSET
    stake_max_per_day: (
        Annotated[
            EventLimit,
            Meta(description="Upper bound of the stakes of one UTC day; null: no limit", examples=[500_000]),
        ]
        | UnsetType
        | None
    ) = UNSET
    withdrawal_max_per_day: (
        Annotated[
            EventLimit,
            Meta(description="Upper bound of the withdrawals of one UTC day; null: no limit", examples=[300_000]),
        ]
        | UnsetType
        | None
    ) = UNSET


class WalletFrozen(Data, frozen=True, kw_only=True):
    """The wallet was frozen."""

    type = "wallet_frozen"

    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class WalletUnfrozen(Data, frozen=True, kw_only=True):
    """The freeze ended."""

    type = "wallet_unfrozen"

    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class WalletClosed(Data, frozen=True, kw_only=True):
    """The wallet was closed, permanently."""

    type = "wallet_closed"

    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class AgentLevelSet(Data, frozen=True, kw_only=True):
    """The user's level as an agent was set."""

    type = "agent_level_set"

    level: EventAgentLevel
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class WriterOpened(Data, frozen=True, kw_only=True):
    """A writer took the partition over. Records that were under way on the head before it are forks.

    Only in logs that more than one process can write.
    """

    type = "writer_opened"

    generation: Annotated[
        int,
        Meta(
            description="Grows with each owner", examples=[5], extra_json_schema={"minimum": 0, "maximum": 2**53 - 1}
        ),
    ]


AnyData = (
    WalletOpened
    | ReferralCounted
    | ReferralVoid
    | Deposited
    | WithdrawalRequested
    | WithdrawalApproved
    | WithdrawalRejected
    | BetPlaced
    | BetSettled
    | BetCancelled
    | HoldPlaced
    | HoldExpired
    | HoldCaptured
    | HoldReleased
    | TransferSent
    | TransferReceived
    | TransferRefused
    | TransferDelivered
    | TransferReturned
    | BonusGranted
    | BonusExpired
    | AttendanceClaimed
    | Adjusted
    | AdjustmentProposed
    | AdjustmentApproved
    | AdjustmentRejected
    | Reversed
    | LimitsSet
    | WalletFrozen
    | WalletUnfrozen
    | WalletClosed
    | AgentLevelSet
    | ReferralValid
    | CommissionDue
    | CommissionPaid
    | ResultRecorded
    | PeriodCancelled
    | WriterOpened
    | GiftCreated
    | GiftClosed
    | GiftClaimed
    | GiftShareGranted
    | GiftShareRefused
    | GiftReceived
    | GiftRefused
    | ReferralCodeClaimed
    | ReferralCodeGranted
    | ReferralCodeRefused
    | ReferralResolved
    | ReferralUnknown
    | ReferrerSet
)

DATA_TYPES: tuple[type[AnyData], ...] = AnyData.__args__

DATA_OF: dict[str, type[AnyData]] = {data.type: data for data in DATA_TYPES}
"""The event's ``type`` → its data Struct."""

COMMAND_OF: dict[str, str] = {
    "wallet_opened": "open_wallet",
    "deposited": "deposit",
    "withdrawal_requested": "request_withdrawal",
    "withdrawal_approved": "approve_withdrawal",
    "withdrawal_rejected": "reject_withdrawal",
    "bet_placed": "place_bet",
    "bet_settled": "settle_bet",
    "bet_cancelled": "cancel_bet",
    "hold_placed": "hold",
    "hold_captured": "capture_hold",
    "hold_released": "release_hold",
    "transfer_sent": "transfer",
    "bonus_granted": "grant_bonus",
    "attendance_claimed": "claim_attendance",
    "adjusted": "adjust",
    "adjustment_proposed": "propose_adjustment",
    "adjustment_approved": "approve_adjustment",
    "adjustment_rejected": "reject_adjustment",
    "reversed": "reverse",
    "limits_set": "set_limits",
    "wallet_frozen": "freeze_wallet",
    "wallet_unfrozen": "unfreeze_wallet",
    "wallet_closed": "close_wallet",
    "agent_level_set": "set_agent_level",
    "result_recorded": "record_result",
    "period_cancelled": "cancel_period",
    "gift_created": "create_gift",
    "gift_closed": "close_gift",
    "gift_claimed": "claim_gift",
    "referral_code_claimed": "claim_referral_code",
}
"""Event type → the type of the command that makes it. The ledger's own events are not in it."""


class Event(Struct, frozen=True, gc=False):
    """One fact of one wallet: everything in the record except its position and ``prev``.

    ``balances`` is the wallet after the event, for the assets of its postings; ``time_us`` is Unix microseconds.
    """

    time_us: int
    user_id: str
    command_id: str
    request_sha256: str
    actor: str
    data: AnyData
    postings: tuple[Posting, ...]
    balances: dict[str, Balance]


def sums_to_zero(postings: tuple[Posting, ...]) -> bool:
    """Whether the postings balance in each asset."""
    if len(postings) == 2:  # nearly every event has two; this is twice as fast as the general sum
        (_, asset, amount), (_, other_asset, other_amount) = postings
        return asset == other_asset and amount + other_amount == 0
    sums: dict[str, int] = {}
    for _, asset, amount in postings:
        sums[asset] = sums.get(asset, 0) + amount
    return not any(sums.values())
