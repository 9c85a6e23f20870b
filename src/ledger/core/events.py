"""Events: one Struct of data per event type, the postings that move the money, and the event itself.

Invariants:
(1) the postings of an event sum to zero in each asset (asserted by the deciders, checked by ``record.decode``);
(2) the members of every data Struct are declared in the order of their names, because records are sorted so;
(3) ``data`` has the command's fields except ``type``, ``command_id`` and ``user_id``, and what the decision added;
(4) the ledger's own events name their ``cause``, the position of the event that led to them, except
    ``writer_opened``.
"""

from typing import ClassVar

from msgspec import UNSET, Struct, UnsetType, field

NO_REQUEST = "0" * 64
"""``request_sha256`` of the ledger's own events, which have no request."""

LEDGER = "ledger"
"""``actor`` of the ledger's own events."""

Posting = tuple[str, str, int]
"""(account, asset, amount in minor units): the amount is added to the account."""

Metadata = dict[str, str]

HOUSE_DEPOSITS = "house/deposits"
HOUSE_BONUSES = "house/bonuses"
HOUSE_WITHDRAWALS = "house/withdrawals"
HOUSE_STAKES = "house/stakes"
HOUSE_PAYOUTS = "house/payouts"
HOUSE_CAPTURES = "house/captures"
HOUSE_ADJUSTMENTS = "house/adjustments"
TRANSIT_TRANSFERS = "transit/transfers"


class Balance(Struct, frozen=True, gc=False):
    """A wallet's three buckets of one asset, in minor units. Only ``cash`` may be negative, down to −credit_limit."""

    cash: int = 0
    bonus: int = 0
    held: int = 0


class Data(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of every event's data. In a record, ``type`` is a member next to ``data``, not inside it."""

    type: ClassVar[str]


class WalletOpened(Data, frozen=True, kw_only=True):
    type = "wallet_opened"

    metadata: Metadata | None = None
    referrer_id: str | None = None


class ReferralCounted(Data, frozen=True, kw_only=True):
    """On a referrer's wallet: ``member`` opened a wallet, ``level`` steps below the referrer."""

    type = "referral_counted"

    cause: str
    level: int
    member: str


class ReferralVoid(Data, frozen=True, kw_only=True):
    """The referrer's wallet was never opened, or is closed, when the count arrives. No referrer above it counts."""

    type = "referral_void"

    cause: str
    level: int
    member: str


class Deposited(Data, frozen=True, kw_only=True):
    type = "deposited"

    amount: int
    asset: str
    bonus: int | None = None
    first_deposit: bool
    metadata: Metadata | None = None
    order_id: str


class WithdrawalRequested(Data, frozen=True, kw_only=True):
    type = "withdrawal_requested"

    amount: int
    asset: str
    metadata: Metadata | None = None
    order_id: str


class WithdrawalApproved(Data, frozen=True, kw_only=True):
    type = "withdrawal_approved"

    metadata: Metadata | None = None
    order_id: str
    reason: str | None = None


class WithdrawalRejected(Data, frozen=True, kw_only=True):
    type = "withdrawal_rejected"

    metadata: Metadata | None = None
    order_id: str
    reason: str | None = None


class StakeSource(Struct, frozen=True, gc=False):
    """Which buckets a stake came from; ``grants`` are (grant_id, amount) in the order of use."""

    bonus: int
    cash: int
    grants: tuple[tuple[str, int], ...]


class BetPlaced(Data, frozen=True, kw_only=True):
    type = "bet_placed"

    asset: str
    bet_id: str
    source: StakeSource = field(name="from")
    game: str
    metadata: Metadata | None = None
    period: str
    selection: str
    spend: str | None = None
    stake: int


class BetSettled(Data, frozen=True, kw_only=True):
    type = "bet_settled"

    bet_id: str
    metadata: Metadata | None = None
    payout: int


class BetCancelled(Data, frozen=True, kw_only=True):
    """``before_bet``: the cancellation came before the bet. The bet is refused if it comes later."""

    type = "bet_cancelled"

    before_bet: bool
    bet_id: str
    metadata: Metadata | None = None
    reason: str | None = None


class HoldPlaced(Data, frozen=True, kw_only=True):
    type = "hold_placed"

    amount: int
    asset: str
    expires_at_us: int | None = None
    hold_id: str
    metadata: Metadata | None = None


class HoldExpired(Data, frozen=True, kw_only=True):
    type = "hold_expired"

    amount: int
    asset: str
    cause: str
    hold_id: str


class HoldCaptured(Data, frozen=True, kw_only=True):
    """``amount`` as in the command; absent captures all."""

    type = "hold_captured"

    amount: int | None = None
    hold_id: str
    metadata: Metadata | None = None


class HoldReleased(Data, frozen=True, kw_only=True):
    type = "hold_released"

    hold_id: str
    metadata: Metadata | None = None


class TransferSent(Data, frozen=True, kw_only=True):
    type = "transfer_sent"

    amount: int
    asset: str
    metadata: Metadata | None = None
    to_user_id: str
    transfer_id: str


class TransferReceived(Data, frozen=True, kw_only=True):
    type = "transfer_received"

    amount: int
    asset: str
    cause: str
    from_user_id: str
    transfer_id: str


class TransferRefused(Data, frozen=True, kw_only=True):
    """The receiver's wallet takes nothing; ``reason`` is a rejection's code. The sender gets its money back."""

    type = "transfer_refused"

    amount: int
    asset: str
    cause: str
    from_user_id: str
    reason: str
    transfer_id: str


class TransferDelivered(Data, frozen=True, kw_only=True):
    type = "transfer_delivered"

    amount: int
    asset: str
    cause: str
    to_user_id: str
    transfer_id: str


class TransferReturned(Data, frozen=True, kw_only=True):
    type = "transfer_returned"

    amount: int
    asset: str
    cause: str
    reason: str
    to_user_id: str
    transfer_id: str


class BonusGranted(Data, frozen=True, kw_only=True):
    type = "bonus_granted"

    amount: int
    asset: str
    expires_at_us: int | None = None
    grant_id: str
    metadata: Metadata | None = None


class BonusExpired(Data, frozen=True, kw_only=True):
    type = "bonus_expired"

    amount: int
    asset: str
    cause: str
    grant_id: str


class Adjusted(Data, frozen=True, kw_only=True):
    type = "adjusted"

    amount: int
    asset: str
    metadata: Metadata | None = None
    reason: str


class AdjustmentProposed(Data, frozen=True, kw_only=True):
    type = "adjustment_proposed"

    adjustment_id: str
    amount: int
    asset: str
    metadata: Metadata | None = None
    reason: str


class AdjustmentApproved(Data, frozen=True, kw_only=True):
    type = "adjustment_approved"

    adjustment_id: str
    metadata: Metadata | None = None
    reason: str | None = None


class AdjustmentRejected(Data, frozen=True, kw_only=True):
    type = "adjustment_rejected"

    adjustment_id: str
    metadata: Metadata | None = None
    reason: str | None = None


class Reversed(Data, frozen=True, kw_only=True):
    """Posts the opposite of the event at ``position``."""

    type = "reversed"

    metadata: Metadata | None = None
    position: str
    reason: str


class LimitsSet(Data, frozen=True, kw_only=True):
    """The one event in which null is a value: it restores the default. Absent means unchanged."""

    type = "limits_set"

    asset: str
    balance_max: int | UnsetType | None = UNSET
    credit_limit: int | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    stake_max_per_day: int | UnsetType | None = UNSET
    withdrawal_max_per_day: int | UnsetType | None = UNSET


class WalletFrozen(Data, frozen=True, kw_only=True):
    type = "wallet_frozen"

    metadata: Metadata | None = None
    reason: str


class WalletUnfrozen(Data, frozen=True, kw_only=True):
    type = "wallet_unfrozen"

    metadata: Metadata | None = None
    reason: str


class WalletClosed(Data, frozen=True, kw_only=True):
    type = "wallet_closed"

    metadata: Metadata | None = None
    reason: str


class WriterOpened(Data, frozen=True, kw_only=True):
    """A writer took the partition; ``generation`` grows with each owner. An append still under way on an older head
    is a fork. Only in logs that several processes may write to."""

    type = "writer_opened"

    generation: int


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
    | Adjusted
    | AdjustmentProposed
    | AdjustmentApproved
    | AdjustmentRejected
    | Reversed
    | LimitsSet
    | WalletFrozen
    | WalletUnfrozen
    | WalletClosed
    | WriterOpened
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
    "adjusted": "adjust",
    "adjustment_proposed": "propose_adjustment",
    "adjustment_approved": "approve_adjustment",
    "adjustment_rejected": "reject_adjustment",
    "reversed": "reverse",
    "limits_set": "set_limits",
    "wallet_frozen": "freeze_wallet",
    "wallet_unfrozen": "unfreeze_wallet",
    "wallet_closed": "close_wallet",
}
"""Event type → the type of the command that makes it. The ledger's own events are not in it."""

ADDED_BY_DECISION = frozenset({"first_deposit", "from", "before_bet"})
"""Members of data that no command has."""


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
