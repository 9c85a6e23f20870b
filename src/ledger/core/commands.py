"""Commands: one tagged Struct per command, and the canonical bytes that detect a reused command_id.

A command reaches the core only if (1) it is one JSON object of a known ``type``, (2) every member is known, none
occurs twice, and each has its declared shape, (3) its texts have no control character and no lone surrogate.
Whether an integer is a *valid amount* is a rule of the ledger (422), not of the shape (400), so any integer passes.

Absent and ``null`` mean the same, except in ``set_limits``, where ``null`` restores the default.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

# `$` alone also matches before a final newline in Python; the look-ahead closes that and is valid ECMA-262 too.
USER_ID_PATTERN = r"^(?!game:|partition:)[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}$(?!\n)"
ID_PATTERN = r"^[!-}][!-~]{0,127}$(?!\n)"
POSITION_PATTERN = r"^(0|[1-9][0-9]{0,3}):(0|[1-9][0-9]{0,15})$(?!\n)"
TIME_US_MAX = 2**53 - 1

UserId = Annotated[
    str,
    Meta(
        pattern=USER_ID_PATTERN,
        description="1–64 of A–Z a–z 0–9 _ - . : @, beginning with a letter or digit; "
        "names beginning with game: or partition: are reserved",
        examples=["u1"],
    ),
]
Id = Annotated[
    str,
    Meta(
        pattern=ID_PATTERN,
        description="1–128 printable ASCII characters without spaces, not beginning with ~",
        examples=["c-1"],
    ),
]
PositionText = Annotated[
    str, Meta(pattern=POSITION_PATTERN, description='"<partition>:<seq>" of an event', examples=["3:42"])
]
Asset = Annotated[str, Meta(description="a declared asset", examples=["INR"])]
Amount = Annotated[
    int, Meta(description="in the asset's minor unit, 1 … 2^53−1; else amount_out_of_range", examples=[500])
]
AmountOrZero = Annotated[
    int, Meta(description="in the asset's minor unit, 0 … 2^53−1; else amount_out_of_range", examples=[0])
]
SignedAmount = Annotated[
    int,
    Meta(description="in the asset's minor unit, ±(1 … 2^53−1); else amount_out_of_range", examples=[-500]),
]
TimeUs = Annotated[
    int,
    Meta(
        ge=-TIME_US_MAX,
        le=TIME_US_MAX,
        description="Unix microseconds, UTC; the past is accepted",
        examples=[1795438800000000],
    ),
]
Reason = Annotated[str, Meta(max_length=500, description="free text")]
GameName = Annotated[str, Meta(max_length=128, examples=["external"])]
FreeText = Annotated[str, Meta(max_length=128)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16, description="yours to fill: kept with the event, never interpreted"),
]


class Command(
    Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """The members of every command. ``command_id`` is unique within the wallet, without an end in time."""

    refused_when_frozen: ClassVar[bool] = False

    command_id: Id
    user_id: UserId
    metadata: Metadata | None = None


class OpenWallet(Command, frozen=True, kw_only=True, tag="open_wallet"):
    referrer_id: UserId | None = None


class Deposit(Command, frozen=True, kw_only=True, tag="deposit"):
    order_id: Id
    asset: Asset
    amount: Amount
    bonus: AmountOrZero | None = None


class RequestWithdrawal(Command, frozen=True, kw_only=True, tag="request_withdrawal"):
    refused_when_frozen = True

    order_id: Id
    asset: Asset
    amount: Amount


class ApproveWithdrawal(Command, frozen=True, kw_only=True, tag="approve_withdrawal"):
    refused_when_frozen = True

    order_id: Id
    reason: Reason | None = None


class RejectWithdrawal(Command, frozen=True, kw_only=True, tag="reject_withdrawal"):
    order_id: Id
    reason: Reason | None = None


Spend = Annotated[
    str,
    Meta(
        pattern=r"^(cash_first|bonus_first)$(?!\n)",
        description="cash_first (the default) or bonus_first",
        examples=["bonus_first"],
    ),
]


class PlaceBet(Command, frozen=True, kw_only=True, tag="place_bet"):
    refused_when_frozen = True

    bet_id: Id
    game: GameName
    period: FreeText
    selection: FreeText
    asset: Asset
    stake: Amount
    spend: Spend | None = None


class SettleBet(Command, frozen=True, kw_only=True, tag="settle_bet"):
    bet_id: Id
    payout: AmountOrZero


class CancelBet(Command, frozen=True, kw_only=True, tag="cancel_bet"):
    bet_id: Id
    reason: Reason | None = None


class PlaceHold(Command, frozen=True, kw_only=True, tag="hold"):
    refused_when_frozen = True

    hold_id: Id
    asset: Asset
    amount: Amount
    expires_at_us: TimeUs | None = None


class CaptureHold(Command, frozen=True, kw_only=True, tag="capture_hold"):
    refused_when_frozen = True

    hold_id: Id
    amount: Amount | None = None


class ReleaseHold(Command, frozen=True, kw_only=True, tag="release_hold"):
    hold_id: Id


class Transfer(Command, frozen=True, kw_only=True, tag="transfer"):
    refused_when_frozen = True

    transfer_id: Id
    to_user_id: UserId
    asset: Asset
    amount: Amount


class GrantBonus(Command, frozen=True, kw_only=True, tag="grant_bonus"):
    grant_id: Id
    asset: Asset
    amount: Amount
    expires_at_us: TimeUs | None = None


class Adjust(Command, frozen=True, kw_only=True, tag="adjust"):
    asset: Asset
    amount: SignedAmount
    reason: Reason


class ProposeAdjustment(Command, frozen=True, kw_only=True, tag="propose_adjustment"):
    adjustment_id: Id
    asset: Asset
    amount: SignedAmount
    reason: Reason


class ApproveAdjustment(Command, frozen=True, kw_only=True, tag="approve_adjustment"):
    adjustment_id: Id
    reason: Reason | None = None


class RejectAdjustment(Command, frozen=True, kw_only=True, tag="reject_adjustment"):
    adjustment_id: Id
    reason: Reason | None = None


class Reverse(Command, frozen=True, kw_only=True, tag="reverse"):
    position: PositionText
    reason: Reason


class SetLimits(Command, frozen=True, kw_only=True, tag="set_limits"):
    """Absent leaves a limit as it is; ``null`` puts it back to its default; 0 allows nothing."""

    asset: Asset
    credit_limit: AmountOrZero | UnsetType | None = UNSET
    balance_max: AmountOrZero | UnsetType | None = UNSET
    stake_max_per_day: AmountOrZero | UnsetType | None = UNSET
    withdrawal_max_per_day: AmountOrZero | UnsetType | None = UNSET


class FreezeWallet(Command, frozen=True, kw_only=True, tag="freeze_wallet"):
    reason: Reason


class UnfreezeWallet(Command, frozen=True, kw_only=True, tag="unfreeze_wallet"):
    reason: Reason


class CloseWallet(Command, frozen=True, kw_only=True, tag="close_wallet"):
    reason: Reason


AnyCommand = (
    OpenWallet
    | Deposit
    | RequestWithdrawal
    | ApproveWithdrawal
    | RejectWithdrawal
    | PlaceBet
    | SettleBet
    | CancelBet
    | PlaceHold
    | CaptureHold
    | ReleaseHold
    | Transfer
    | GrantBonus
    | Adjust
    | ProposeAdjustment
    | ApproveAdjustment
    | RejectAdjustment
    | Reverse
    | SetLimits
    | FreezeWallet
    | UnfreezeWallet
    | CloseWallet
)

COMMAND_TYPES: tuple[type[Command], ...] = AnyCommand.__args__


# --- follow-ups: the ledger's own commands ---------------------------------------------------------------------
# They repeat the data of the event that causes them, always leave an event, and their ids begin with "~".


class FollowUp(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    """A command that an event sends to another wallet, delivered at least once under one id.

    ``command_id`` is ``~<head of the cause>:<n>``, ``cause`` the position of the event that sent it, and
    ``cause_time_us`` its time: the event of the follow-up is never dated before it.
    """

    command_id: str
    user_id: str
    cause: str
    cause_time_us: int


class ReceiveTransfer(FollowUp, frozen=True, kw_only=True, tag="receive_transfer"):
    transfer_id: str
    from_user_id: str
    asset: str
    amount: int


class ConcludeTransfer(FollowUp, frozen=True, kw_only=True, tag="conclude_transfer"):
    """Ends a transfer in the sender's wallet: delivered if ``refusal`` is None, else returned for that reason."""

    transfer_id: str
    to_user_id: str
    asset: str
    amount: int
    refusal: str | None = None


class CountReferral(FollowUp, frozen=True, kw_only=True, tag="count_referral"):
    member: str
    level: int


AnyFollowUp = ReceiveTransfer | ConcludeTransfer | CountReferral


_canonical = msgspec.json.Encoder(order="sorted")


def canonical(command: Command) -> bytes:
    """The command as JSON with sorted keys, no spaces, UTF-8, without nulls (except in ``set_limits``).

    ``request_sha256`` is the SHA-256 of these bytes; two commands are the same if and only if the bytes are.
    """
    return _canonical.encode(command)
