"""A record as the auditor reads and writes it: its members, the data of each event type, and its command.

This module repeats the shapes of the events on purpose. A mistake in the writer's shapes must not be repeated here.

Invariants:
(1) ``written(read(record)) == record`` if and only if the record is canonical: the known members in their order, data
    sorted by name, no spaces, no null outside of ``limits_set``, no escape that JSON does not need;
(2) ``KINDS[…].given`` reads only what cannot be recomputed: time, wallet, command_id, actor and data. The rest of a
    record follows from these and from the records before it;
(3) a kind's ``members`` and ``command`` give the canonical bytes of the command, whose SHA-256 is in the record.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

Text = str | UnsetType
Amount = int | UnsetType
Limit = int | UnsetType | None
Metadata = dict[str, str] | UnsetType
Posting = tuple[str, str, int]
_Base = TypeVar("_Base", "Record", "Given")


class Buckets(Struct, forbid_unknown_fields=True, gc=False):
    cash: int
    bonus: int
    held: int


class _Data(Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of the data of one event type. The members are in the order of their names, as in the record."""


class WalletOpened(_Data, kw_only=True):
    metadata: Metadata = UNSET
    private: Text = UNSET
    referral_code: Text = UNSET
    referrer_id: Text = UNSET


class Referral(_Data, kw_only=True):
    cause: str
    level: int
    member: str


class Deposited(_Data, kw_only=True):
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


class WithdrawalRequested(_Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    order_id: str
    private: Text = UNSET
    rules: Text = UNSET


class WithdrawalResolved(_Data, kw_only=True):
    metadata: Metadata = UNSET
    order_id: str
    private: Text = UNSET
    reason: Text = UNSET


class Source(Struct, forbid_unknown_fields=True, gc=False):
    bonus: int
    cash: int
    grants: list[tuple[str, int]]


class BetPlaced(_Data, kw_only=True):
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


class BetSettled(_Data, kw_only=True):
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


class BetCancelled(_Data, kw_only=True):
    amount: Amount = UNSET
    asset: Text = UNSET
    before_bet: bool
    bet_id: str
    cause: Text = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: Text = UNSET


class HoldPlaced(_Data, kw_only=True):
    amount: int
    asset: str
    expires_at_us: Amount = UNSET
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class HoldExpired(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    hold_id: str


class HoldCaptured(_Data, kw_only=True):
    amount: Amount = UNSET
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class HoldReleased(_Data, kw_only=True):
    hold_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class TransferSent(_Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    to_user_id: str
    transfer_id: str


class TransferReceived(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    from_user_id: str
    transfer_id: str


class TransferRefused(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    from_user_id: str
    reason: str
    transfer_id: str


class TransferDelivered(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    to_user_id: str
    transfer_id: str


class TransferReturned(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    reason: str
    to_user_id: str
    transfer_id: str


class BonusGranted(_Data, kw_only=True):
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


class BonusExpired(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    grant_id: str


class AttendanceClaimed(_Data, kw_only=True):
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


class Adjusted(_Data, kw_only=True):
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class AdjustmentProposed(_Data, kw_only=True):
    adjustment_id: str
    amount: int
    asset: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class AdjustmentResolved(_Data, kw_only=True):
    adjustment_id: str
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: Text = UNSET


class Reversed(_Data, kw_only=True):
    metadata: Metadata = UNSET
    position: str
    private: Text = UNSET
    reason: str


class LimitsSet(_Data, kw_only=True):
    """The one data in which null is a value."""

    asset: str
    balance_max: Limit = UNSET
    credit_limit: Limit = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET
    stake_max_per_day: Limit = UNSET
    withdrawal_max_per_day: Limit = UNSET


class StatusChanged(_Data, kw_only=True):
    metadata: Metadata = UNSET
    private: Text = UNSET
    reason: str


class Proof(Struct, forbid_unknown_fields=True, gc=False):
    hash: str
    height: int
    time_us: int


class AgentLevelSet(_Data, kw_only=True):
    level: int
    metadata: Metadata = UNSET
    private: Text = UNSET


class ReferralValid(_Data, kw_only=True):
    asset: str
    cause: str
    member: str
    reason: Text = UNSET
    rules: str


class CommissionDue(_Data, kw_only=True):
    asset: str
    cause: str
    day: str
    rules: str
    stake: int


class CommissionPaid(_Data, kw_only=True):
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


class ResultRecorded(_Data, kw_only=True):
    metadata: Metadata = UNSET
    period: str
    private: Text = UNSET
    proof: Proof | UnsetType = UNSET
    result: str


class PeriodCancelled(_Data, kw_only=True):
    metadata: Metadata = UNSET
    period: str
    private: Text = UNSET
    reason: str


class GiftCreated(_Data, kw_only=True):
    amount: int
    asset: str
    claims: int
    expires_at_us: Amount = UNSET
    metadata: Metadata = UNSET
    private: Text = UNSET


class CodeClaimed(_Data, kw_only=True):
    code: str
    metadata: Metadata = UNSET
    private: Text = UNSET


class GiftShareGranted(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    claimed_by: str
    share: int


class GiftShareRefused(_Data, kw_only=True):
    cause: str
    claimed_by: str
    reason: str


class GiftReceived(_Data, kw_only=True):
    amount: int
    asset: str
    cause: str
    code: str
    expires_at_us: Amount = UNSET
    grant_id: str
    rules: Text = UNSET
    wagering: Amount = UNSET


class GiftRefused(_Data, kw_only=True):
    amount: Amount = UNSET
    asset: Text = UNSET
    cause: str
    code: str
    reason: str


class CodeClaimEnded(_Data, kw_only=True):
    cause: str
    claimed_by: str
    code: str


class ReferralResolved(_Data, kw_only=True):
    cause: str
    member: str
    referrer_id: str


class ReferralUnknown(_Data, kw_only=True):
    cause: str
    member: str


class ReferrerSet(_Data, kw_only=True):
    cause: str
    code: str
    referrer_id: str


class WriterOpened(_Data, kw_only=True):
    generation: int


_DATA: Final[dict[str, type[_Data]]] = {
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

_COMMANDS: Final = {
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

OWN_TYPES: Final = frozenset(_DATA.keys() - _COMMANDS.keys())
"""The types of the ledger's own events: no command makes them."""

ALSO_OWN_TYPES: Final = frozenset({"bet_settled", "bet_cancelled", "bonus_granted"})
"""The types that a command makes, or the ledger itself, by the outcome of a period or by its rules."""


class Record(Struct, forbid_unknown_fields=True, gc=False):
    """``data`` is the Struct of the record's ``type``. ``postings`` and ``balances`` are those in the record,
    or those that the auditor recomputes."""

    v: int
    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    request_sha256: str
    actor: str
    type: str
    data: Any
    postings: list[Posting]
    balances: dict[str, Buckets]


class Unreadable(ValueError):
    """The bytes are not a record of a known version and type. The text says why."""


class Given(Struct, gc=False):
    """What a record says that cannot be recomputed. Its other members are skipped."""

    time_us: int
    user_id: str
    command_id: str
    actor: str
    data: Any


class Kind(NamedTuple):
    """How records of one event type are read."""

    name: str
    given: Callable[[bytes], Given]
    whole: Callable[[bytes], Record]
    members: Callable[[Given], tuple[Any, ...]] | None
    """The values of its command, in the order of their names; None if no command makes this event."""
    command: Callable[..., Struct]


def _kind_of(name: str) -> Kind:
    # One decoder for each type reads the record and its data at once: two steps take a quarter longer.
    data = _DATA[name]
    record: type[Record] = _with_data(Record, data, forbid_unknown_fields=True)
    whole = msgspec.json.Decoder(record).decode
    if name not in _COMMANDS:
        return Kind(name, msgspec.json.Decoder(_with_data(Given, data)).decode, whole, None, Struct)
    command_type, names = _COMMANDS[name]
    given = _with_data(Given, data, namespace={"command_type": command_type})
    sources = {member: f"data.{member}" for member in names}
    sources |= {"command_id": "command_id", "type": "command_type", "user_id": "user_id"}
    ordered = sorted(sources)
    command = msgspec.defstruct("Command", [(member, Any) for member in ordered], gc=False)
    members = attrgetter(*(sources[member] for member in ordered))
    return Kind(name, msgspec.json.Decoder(given).decode, whole, members, command)


def _with_data(base: type[_Base], data: type[_Data], **options: Any) -> type[_Base]:
    """``base`` with that type of data."""
    fields: list[Any] = [(name, data if name == "data" else kind) for name, kind in base.__annotations__.items()]
    made: Any = msgspec.defstruct(base.__name__, fields, bases=(base,), gc=False, **options)
    shape: type[_Base] = made
    return shape


_TYPE: Final = b',"type":"'
_BEFORE_TYPE: Final = 200
"""No canonical record has its type earlier: two hashes of 64 digits are before it."""
_KEY: Final = 15
"""These bytes distinguish the types: ``referral_code_granted`` and ``referral_code_refused`` differ in the last."""

KINDS: Final = {(name.encode() + b'","data":{')[:_KEY]: _kind_of(name) for name in _DATA}
"""The first bytes of the event type in a record → how its records are read."""
assert len(KINDS) == len(_DATA)

written: Final = msgspec.json.Encoder(order="deterministic").encode
"""The canonical bytes of a Record, or of a command."""


def type_of(record: bytes) -> bytes:
    """The key of ``KINDS`` of a canonical record; anything where the bytes are none, which ``written`` then shows."""
    # A quote inside of a JSON string is escaped, so the first match is the member's name.
    begin = record.find(_TYPE, _BEFORE_TYPE) + len(_TYPE)
    return record[begin : begin + _KEY]


def read(record: bytes) -> Record:
    """All members of the record. Raises Unreadable."""
    try:
        return KINDS[type_of(record)].whole(record)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable(why_unreadable(record)) from None


def why_unreadable(record: bytes) -> str:
    """Why the record cannot be read, whole or in part."""
    try:
        values = msgspec.json.decode(record)
        if not isinstance(values, dict):
            return "it is not a JSON object"
        kind = KINDS.get(type_of(record))
        if kind is None:
            return f"{values.get('type')!r} is not an event type, or the members are not in their order"
        kind.whole(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return "it is not as its type must be"
