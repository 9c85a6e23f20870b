"""The shapes of the events as the auditor reads them: the data of each event type, and the command that made it.

This module repeats the shapes of ``ledger.core`` on purpose: a mistake in them must not be repeated here.

Invariants:
(1) the members of each data are in the order of their names, as in the record;
(2) each event type is in ``DATA``; those that a command makes are in ``COMMANDS``, too.
"""

from typing import Final

from msgspec import UNSET, Struct, UnsetType, field

Text = str | UnsetType
Amount = int | UnsetType
Limit = int | UnsetType | None
Metadata = dict[str, str] | UnsetType
Posting = tuple[str, str, int]


class Buckets(Struct, forbid_unknown_fields=True, gc=False):
    cash: int
    bonus: int
    held: int


class Data(Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of the data of one event type. The members are in the order of their names, as in the record."""


class WalletOpened(Data, kw_only=True):
    metadata: Metadata = UNSET
    private: Text = UNSET
    referral_code: Text = UNSET
    referrer_id: Text = UNSET


class Referral(Data, kw_only=True):
    cause: str
    level: int
    member: str


class Deposited(Data, kw_only=True):
    amount: int
    asset: str
    bonus: Amount = UNSET
    first_deposit: bool
    metadata: Metadata = UNSET
    order_id: str
    private: Text = UNSET
    referral_rules: Text = UNSET
    rules: Text = UNSET
    wagering: Amount = UNSET


class WithdrawalRequested(Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    order_id: str
    private: Text = UNSET
    rules: Text = UNSET


class WithdrawalResolved(Data, kw_only=True):
    metadata: Metadata = UNSET
    order_id: str
    private: Text = UNSET
    reason: Text = UNSET


class Source(Struct, forbid_unknown_fields=True, gc=False):
    bonus: int
    cash: int
    grants: list[tuple[str, int]]


class BetPlaced(Data, kw_only=True):
    asset: str
    bet_id: str
    fee: Amount = UNSET
    source: Source = field(name="from")
    game: str
    metadata: Metadata = UNSET
    period: str
    private: Text = UNSET
    rules: Text = UNSET
    selection: str
    spend: Text = UNSET
    stake: int


class BetSettled(Data, kw_only=True):
    asset: Text = UNSET
    bet_id: str
    cause: Text = UNSET
    commission_at_us: Amount = UNSET
    commission_rules: Text = UNSET
    legs: list[tuple[str, int, int]] | UnsetType = UNSET
    metadata: Metadata = UNSET
    payout: int
    private: Text = UNSET
    unpaid: Amount = UNSET


class BetCancelled(Data, kw_only=True):
    amount: Amount = UNSET
    asset: Text = UNSET
    before_bet: bool
    bet_id: str
    cause: Text = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: Text = UNSET


class HoldPlaced(Data, kw_only=True):
    amount: int
    asset: str
    expires_at_us: Amount = UNSET
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class HoldExpired(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    hold_id: str


class HoldCaptured(Data, kw_only=True):
    amount: Amount = UNSET
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class HoldReleased(Data, kw_only=True):
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class TransferSent(Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    to_user_id: str
    transfer_id: str


class TransferReceived(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    from_user_id: str
    transfer_id: str


class TransferRefused(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    from_user_id: str
    reason: str
    transfer_id: str


class TransferDelivered(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    to_user_id: str
    transfer_id: str


class TransferReturned(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    reason: str
    to_user_id: str
    transfer_id: str


class BonusGranted(Data, kw_only=True):
    amount: int
    asset: str
    cause: Text = UNSET
    expires_at_us: Amount = UNSET
    grant_id: str
    kind: Text = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET
    rules: Text = UNSET
    wagering: Amount = UNSET


class BonusExpired(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    grant_id: str


class AttendanceClaimed(Data, kw_only=True):
    amount: int
    asset: str
    day: str
    expires_at_us: Amount = UNSET
    grant_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    rules: str
    streak: int
    wagering: Amount = UNSET


class Adjusted(Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class AdjustmentProposed(Data, kw_only=True):
    adjustment_id: str
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class AdjustmentResolved(Data, kw_only=True):
    adjustment_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: Text = UNSET


class Reversed(Data, kw_only=True):
    metadata: Metadata = UNSET
    position: str
    private: Text = UNSET
    reason: str


class LimitsSet(Data, kw_only=True):
    """The only event type in whose data null is a value: it resets a limit."""

    asset: str
    balance_max: Limit = UNSET
    credit_limit: Limit = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET
    stake_max_per_day: Limit = UNSET
    withdrawal_max_per_day: Limit = UNSET


class StatusChanged(Data, kw_only=True):
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class Proof(Struct, forbid_unknown_fields=True, gc=False):
    hash: str
    height: int
    time_us: int


class AgentLevelSet(Data, kw_only=True):
    level: int
    metadata: Metadata = UNSET
    private: Text = UNSET


class ReferralValid(Data, kw_only=True):
    asset: str
    cause: str
    member: str
    reason: Text = UNSET
    rules: str


class CommissionDue(Data, kw_only=True):
    asset: str
    cause: str
    day: str
    rules: str
    stake: int


class CommissionPaid(Data, kw_only=True):
    amount: int
    asset: str
    carried_e9: int
    cause: str
    day: str
    level: int
    member: str
    rate_e9: int
    reason: Text = UNSET
    referrer_id: Text = UNSET
    rules: str
    stake: int


class ResultRecorded(Data, kw_only=True):
    metadata: Metadata = UNSET
    period: str
    private: Text = UNSET
    proof: Proof | UnsetType = UNSET
    result: str


class PeriodCancelled(Data, kw_only=True):
    metadata: Metadata = UNSET
    period: str
    private: Text = UNSET
    reason: str


class GiftCreated(Data, kw_only=True):
    amount: int
    asset: str
    claims: int
    expires_at_us: Amount = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET


class CodeClaimed(Data, kw_only=True):
    code: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class GiftShareGranted(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    claimed_by: str
    share: int


class GiftShareRefused(Data, kw_only=True):
    cause: str
    claimed_by: str
    reason: str


class GiftReceived(Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    code: str
    expires_at_us: Amount = UNSET
    grant_id: str
    rules: Text = UNSET
    wagering: Amount = UNSET


class GiftRefused(Data, kw_only=True):
    amount: Amount = UNSET
    asset: Text = UNSET
    cause: str
    code: str
    reason: str


class CodeClaimEnded(Data, kw_only=True):
    cause: str
    claimed_by: str
    code: str


class ReferralResolved(Data, kw_only=True):
    cause: str
    member: str
    referrer_id: str


class ReferralUnknown(Data, kw_only=True):
    cause: str
    member: str


class ReferrerSet(Data, kw_only=True):
    cause: str
    code: str
    referrer_id: str


class WriterOpened(Data, kw_only=True):
    generation: int


DATA: Final[dict[str, type[Data]]] = {
    "wallet_opened": WalletOpened,
    "referral_counted": Referral,
    "referral_void": Referral,
    "deposited": Deposited,
    "withdrawal_requested": WithdrawalRequested,
    "withdrawal_approved": WithdrawalResolved,
    "withdrawal_rejected": WithdrawalResolved,
    "bet_placed": BetPlaced,
    "bet_settled": BetSettled,
    "bet_cancelled": BetCancelled,
    "hold_placed": HoldPlaced,
    "hold_expired": HoldExpired,
    "hold_captured": HoldCaptured,
    "hold_released": HoldReleased,
    "transfer_sent": TransferSent,
    "transfer_received": TransferReceived,
    "transfer_refused": TransferRefused,
    "transfer_delivered": TransferDelivered,
    "transfer_returned": TransferReturned,
    "bonus_granted": BonusGranted,
    "bonus_expired": BonusExpired,
    "attendance_claimed": AttendanceClaimed,
    "adjusted": Adjusted,
    "adjustment_proposed": AdjustmentProposed,
    "adjustment_approved": AdjustmentResolved,
    "adjustment_rejected": AdjustmentResolved,
    "reversed": Reversed,
    "limits_set": LimitsSet,
    "wallet_frozen": StatusChanged,
    "wallet_unfrozen": StatusChanged,
    "wallet_closed": StatusChanged,
    "agent_level_set": AgentLevelSet,
    "referral_valid": ReferralValid,
    "commission_due": CommissionDue,
    "commission_paid": CommissionPaid,
    "result_recorded": ResultRecorded,
    "period_cancelled": PeriodCancelled,
    "gift_created": GiftCreated,
    "gift_closed": StatusChanged,
    "gift_claimed": CodeClaimed,
    "gift_share_granted": GiftShareGranted,
    "gift_share_refused": GiftShareRefused,
    "gift_received": GiftReceived,
    "gift_refused": GiftRefused,
    "referral_code_claimed": CodeClaimed,
    "referral_code_granted": CodeClaimEnded,
    "referral_code_refused": CodeClaimEnded,
    "referral_resolved": ReferralResolved,
    "referral_unknown": ReferralUnknown,
    "referrer_set": ReferrerSet,
    "writer_opened": WriterOpened,
}

COMMANDS: Final = {
    "wallet_opened": ("open_wallet", ("metadata", "referral_code", "referrer_id")),
    "deposited": ("deposit", ("amount", "asset", "bonus", "metadata", "order_id")),
    "withdrawal_requested": ("request_withdrawal", ("amount", "asset", "metadata", "order_id")),
    "withdrawal_approved": ("approve_withdrawal", ("metadata", "order_id", "reason")),
    "withdrawal_rejected": ("reject_withdrawal", ("metadata", "order_id", "reason")),
    "bet_placed": ("place_bet", ("asset", "bet_id", "game", "metadata", "period", "selection", "spend", "stake")),
    "bet_settled": ("settle_bet", ("bet_id", "metadata", "payout")),
    "bet_cancelled": ("cancel_bet", ("bet_id", "metadata", "reason")),
    "hold_placed": ("hold", ("amount", "asset", "expires_at_us", "hold_id", "metadata")),
    "hold_captured": ("capture_hold", ("amount", "hold_id", "metadata")),
    "hold_released": ("release_hold", ("hold_id", "metadata")),
    "transfer_sent": ("transfer", ("amount", "asset", "metadata", "to_user_id", "transfer_id")),
    "bonus_granted": ("grant_bonus", ("amount", "asset", "expires_at_us", "grant_id", "metadata")),
    "attendance_claimed": ("claim_attendance", ("asset", "metadata")),
    "adjusted": ("adjust", ("amount", "asset", "metadata", "reason")),
    "adjustment_proposed": ("propose_adjustment", ("adjustment_id", "amount", "asset", "metadata", "reason")),
    "adjustment_approved": ("approve_adjustment", ("adjustment_id", "metadata", "reason")),
    "adjustment_rejected": ("reject_adjustment", ("adjustment_id", "metadata", "reason")),
    "reversed": ("reverse", ("metadata", "position", "reason")),
    "limits_set": (
        "set_limits",
        ("asset", "balance_max", "credit_limit", "metadata", "stake_max_per_day", "withdrawal_max_per_day"),
    ),
    "wallet_frozen": ("freeze_wallet", ("metadata", "reason")),
    "wallet_unfrozen": ("unfreeze_wallet", ("metadata", "reason")),
    "wallet_closed": ("close_wallet", ("metadata", "reason")),
    "agent_level_set": ("set_agent_level", ("level", "metadata")),
    "result_recorded": ("record_result", ("metadata", "period", "proof", "result")),
    "period_cancelled": ("cancel_period", ("metadata", "period", "reason")),
    "gift_created": ("create_gift", ("amount", "asset", "claims", "expires_at_us", "metadata")),
    "gift_closed": ("close_gift", ("metadata", "reason")),
    "gift_claimed": ("claim_gift", ("code", "metadata")),
    "referral_code_claimed": ("claim_referral_code", ("code", "metadata")),
}
"""Event type → the type of its command, and the members of data that the command carries."""

OWN_TYPES: Final = frozenset(DATA.keys() - COMMANDS.keys())
"""The types of the ledger's own events: no command makes them."""

ALSO_OWN_TYPES: Final = frozenset({"bet_settled", "bet_cancelled", "bonus_granted"})
"""The types of which some events are made by commands, and others by the ledger itself: by the outcome of a
period, or by the rules of money flows."""
