"""Commands: one tagged Struct per command, and its canonical form, whose hash detects a reused command_id.

A command reaches the core only if (1) it is one JSON object of a known ``type``, (2) every member is known, none
occurs twice, and each has its declared shape, (3) its texts have no control character and no lone surrogate.
Whether an integer is a *valid amount* is a rule of the ledger (422), not of the shape (400), so any integer passes.

Absent and ``null`` mean the same, except in ``set_limits``, where ``null`` restores the default.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from ledger.core.fields import (
    AgentLevel,
    Amount,
    AmountOrZero,
    Asset,
    CodeText,
    GameName,
    GamePeriod,
    GameStream,
    GiftStream,
    Id,
    Metadata,
    Period,
    PositionText,
    Private,
    Proof,
    Reason,
    Result,
    SealedPrivate,
    Selection,
    SignedAmount,
    Spend,
    TimeUs,
    UserId,
)


class Command(
    Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """What every command has."""

    refused_when_frozen: ClassVar[bool] = False
    on_stream: ClassVar[bool] = False
    """Whether it is for a stream that is no wallet."""

    command_id: Annotated[
        Id,
        Meta(
            description=(
                "The client's id of this command, unique within the wallet. The same command again gets the "
                "first response; another command under the same id gets `command_id_reused`"
            ),
            examples=["c-1"],
        ),
    ]
    user_id: UserId
    metadata: Metadata | None = None
    private: Private | SealedPrivate | None = None
    """As a client sends it; base64 of its ciphertext before the command reaches a node. No rule reads it."""


class OpenWallet(Command, frozen=True, kw_only=True, tag="open_wallet"):
    """Opens the user's wallet. Every other command needs an open wallet, but the cancelling of a bet."""

    referrer_id: (
        Annotated[
            UserId, Meta(description="The user who invited this one; counted for commissions", examples=["agent-1"])
        ]
        | None
    ) = None
    referral_code: (
        Annotated[
            CodeText,
            Meta(
                description="The referral code of the user who invited this one, instead of `referrer_id`",
                examples=["AGENT-17"],
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        if self.referrer_id is not None and self.referral_code is not None:
            raise ValueError(
                "referrer_id and referral_code are both given; give one of them only - at `$.referral_code`"
            )


class Deposit(Command, frozen=True, kw_only=True, tag="deposit"):
    """Adds money that the user has paid in to cash, and the bonus that comes with it to bonus."""

    order_id: Annotated[
        Id,
        Meta(
            description="The client's id of the order, unique among the wallet's deposits and withdrawals",
            examples=["dep-1"],
        ),
    ]
    asset: Asset
    amount: Amount
    bonus: (
        Annotated[
            AmountOrZero,
            Meta(
                description=(
                    "Bonus money that comes with the deposit, in the asset's minor unit, 0 … 2^53−1; a "
                    "grant under the deposit's order_id"
                ),
                examples=[50_000],
            ),
        ]
        | None
    ) = None


class RequestWithdrawal(Command, frozen=True, kw_only=True, tag="request_withdrawal"):
    """Sets cash aside for a withdrawal, until the order is approved or rejected."""

    refused_when_frozen = True

    order_id: Annotated[
        Id,
        Meta(
            description="The client's id of the order, unique among the wallet's deposits and withdrawals",
            examples=["wd-1"],
        ),
    ]
    asset: Asset
    amount: Amount


class ApproveWithdrawal(Command, frozen=True, kw_only=True, tag="approve_withdrawal"):
    """Pays a requested withdrawal out: the money leaves the wallet."""

    refused_when_frozen = True

    order_id: Annotated[Id, Meta(description="The requested withdrawal", examples=["wd-1"])]
    reason: Reason | None = None


class RejectWithdrawal(Command, frozen=True, kw_only=True, tag="reject_withdrawal"):
    """Ends a requested withdrawal: the money is cash again."""

    order_id: Annotated[Id, Meta(description="The requested withdrawal", examples=["wd-1"])]
    reason: Reason | None = None


class PlaceBet(Command, frozen=True, kw_only=True, tag="place_bet"):
    """Takes the stake of a bet, from cash, bonus and credit as ``spend`` says."""

    refused_when_frozen = True

    bet_id: Annotated[
        Id, Meta(description="The client's id of the bet, unique within the wallet", examples=["bet-1"])
    ]
    game: GameName
    period: Period
    selection: Selection
    asset: Asset
    stake: Annotated[Amount, Meta(description="The stake, in the asset's minor unit, 1 … 2^53−1", examples=[50_000])]
    spend: Spend | None = None


class SettleBet(Command, frozen=True, kw_only=True, tag="settle_bet"):
    """Pays a bet out and ends it. A payout of 0 is a lost bet."""

    bet_id: Annotated[Id, Meta(description="An open bet of this wallet", examples=["bet-1"])]
    payout: Annotated[
        AmountOrZero,
        Meta(
            description=(
                "What the bet pays, in the asset's minor unit, 0 … 2^53−1. It includes the stake: a bet "
                "of 500 at odds of 1.90 pays 950. 0: the bet is lost"
            ),
            examples=[95_000],
        ),
    ]


class CancelBet(Command, frozen=True, kw_only=True, tag="cancel_bet"):
    """Gives the stake back to where it came from and ends the bet.

    Cancelling a bet that the wallet does not know blocks it: if the bet arrives later, it is refused. So a game
    server may cancel whenever it does not know whether its bet arrived.
    """

    bet_id: Annotated[
        Id, Meta(description="The bet; one that the wallet does not know is blocked", examples=["bet-2"])
    ]
    reason: Reason | None = None


class PlaceHold(Command, frozen=True, kw_only=True, tag="hold"):
    """Sets cash aside, until it is captured, released or expires."""

    refused_when_frozen = True

    hold_id: Annotated[
        Id, Meta(description="The client's id of the hold, unique within the wallet", examples=["hold-1"])
    ]
    asset: Asset
    amount: Amount
    expires_at_us: (
        Annotated[
            TimeUs,
            Meta(
                description=(
                    "When the hold expires, in Unix microseconds, UTC: its money is cash again. Absent: "
                    "never. A time in the past expires it at once"
                ),
                examples=[1_795_442_400_000_000],
            ),
        ]
        | None
    ) = None


class CaptureHold(Command, frozen=True, kw_only=True, tag="capture_hold"):
    """Takes money out of a hold and ends it. A partial capture releases the rest to cash."""

    refused_when_frozen = True

    hold_id: Annotated[Id, Meta(description="An open hold of this wallet", examples=["hold-1"])]
    amount: (
        Annotated[
            Amount,
            Meta(
                description=(
                    "How much to take, in the asset's minor unit, at most what is held; the rest is "
                    "released. Absent: all"
                ),
                examples=[25_000],
            ),
        ]
        | None
    ) = None


class ReleaseHold(Command, frozen=True, kw_only=True, tag="release_hold"):
    """Ends a hold: its money is cash again."""

    hold_id: Annotated[Id, Meta(description="An open hold of this wallet", examples=["hold-2"])]


class Transfer(Command, frozen=True, kw_only=True, tag="transfer"):
    """Sends cash to another wallet. If that wallet refuses it, the money comes back."""

    refused_when_frozen = True

    transfer_id: Annotated[
        Id, Meta(description="The client's id of the transfer, unique within the sender's wallet", examples=["tr-1"])
    ]
    to_user_id: Annotated[
        UserId, Meta(description="The user who receives the money; not the sender", examples=["player-18"])
    ]
    asset: Asset
    amount: Amount


class GrantBonus(Command, frozen=True, kw_only=True, tag="grant_bonus"):
    """Gives the user bonus money, which bets can use and withdrawals cannot."""

    grant_id: Annotated[
        Id, Meta(description="The client's id of the grant, unique within the wallet", examples=["welcome-1"])
    ]
    asset: Asset
    amount: Amount
    expires_at_us: (
        Annotated[
            TimeUs,
            Meta(
                description="When what is left of the bonus expires, in Unix microseconds, UTC. Absent: never",
                examples=[1_796_043_600_000_000],
            ),
        ]
        | None
    ) = None


class ClaimAttendance(Command, frozen=True, kw_only=True, tag="claim_attendance"):
    """Claims the attendance bonus of the UTC day, which grows with the days in a row, as the rules say."""

    asset: Asset


class Adjust(Command, frozen=True, kw_only=True, tag="adjust"):
    """Corrects cash by hand, against the house account for adjustments."""

    asset: Asset
    amount: SignedAmount
    reason: Reason


class ProposeAdjustment(Command, frozen=True, kw_only=True, tag="propose_adjustment"):
    """Proposes a correction of cash that another actor must approve."""

    adjustment_id: Annotated[
        Id, Meta(description="The client's id of the adjustment, unique within the wallet", examples=["adj-1"])
    ]
    asset: Asset
    amount: SignedAmount
    reason: Reason


class ApproveAdjustment(Command, frozen=True, kw_only=True, tag="approve_adjustment"):
    """Approves a proposed adjustment and posts it. The actor must not be its proposer."""

    adjustment_id: Annotated[Id, Meta(description="A proposed adjustment of this wallet", examples=["adj-1"])]
    reason: Reason | None = None


class RejectAdjustment(Command, frozen=True, kw_only=True, tag="reject_adjustment"):
    """Ends a proposed adjustment: nothing is posted."""

    adjustment_id: Annotated[Id, Meta(description="A proposed adjustment of this wallet", examples=["adj-1"])]
    reason: Reason | None = None


class Reverse(Command, frozen=True, kw_only=True, tag="reverse"):
    """Posts the opposite of an earlier event of this wallet, once.

    Deposits, bonus grants and adjustments can be reversed; a grant only while none of its bonus is spent, staked or
    expired. A deposit that led to a bonus by the rules is reversed only after this bonus was. The reversal of a
    deposit keeps valid referrals, invitation bonuses and commissions that the deposit led to.
    """

    position: Annotated[
        PositionText,
        Meta(
            description=(
                "Position of the event to reverse: a `deposited`, `bonus_granted` or `adjusted` of this wallet"
            ),
            examples=["3:16"],
        ),
    ]
    reason: Reason


class SetLimits(Command, frozen=True, kw_only=True, tag="set_limits"):
    """Sets limits of the wallet for one asset.

    An absent limit stays as it is, ``null`` sets the default (a credit_limit of 0, no other limit), 0 allows nothing.
    """

    asset: Asset
    credit_limit: (
        Annotated[
            AmountOrZero,
            Meta(description="How far bets may take cash below 0, in the asset's minor unit", examples=[20_000]),
        ]
        | UnsetType
        | None
    ) = UNSET
    balance_max: (
        Annotated[
            AmountOrZero,
            Meta(description="Upper bound of cash + bonus + held, in the asset's minor unit", examples=[10_000_000]),
        ]
        | UnsetType
        | None
    ) = UNSET
    stake_max_per_day: (
        Annotated[
            AmountOrZero,
            Meta(
                description="Upper bound of the stakes of one UTC day, in the asset's minor unit", examples=[500_000]
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    withdrawal_max_per_day: (
        Annotated[
            AmountOrZero,
            Meta(
                description="Upper bound of the withdrawals of one UTC day, in the asset's minor unit",
                examples=[300_000],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET


class FreezeWallet(Command, frozen=True, kw_only=True, tag="freeze_wallet"):
    """Stops the user's bets, holds, captures, withdrawals and transfers. Everything else is still accepted."""

    reason: Reason


class UnfreezeWallet(Command, frozen=True, kw_only=True, tag="unfreeze_wallet"):
    """Ends a freeze."""

    reason: Reason


class CloseWallet(Command, frozen=True, kw_only=True, tag="close_wallet"):
    """Closes the wallet permanently. It must be empty and have nothing open."""

    reason: Reason


class SetAgentLevel(Command, frozen=True, kw_only=True, tag="set_agent_level"):
    """Sets the user's level as an agent: commissions that are paid to the user from then on have that level's rates.

    A level without rates of its own gets the common rates.
    """

    level: AgentLevel


class RecordResult(Command, frozen=True, kw_only=True, tag="record_result"):
    """Records the result of a game's period, once. Every open bet of the period is settled by it."""

    on_stream = True

    user_id: GameStream
    period: GamePeriod
    result: Result
    proof: Annotated[Proof | None, Meta(description="The block of the result; TrxWix needs it")] = None


class CancelPeriod(Command, frozen=True, kw_only=True, tag="cancel_period"):
    """Cancels a game's period instead of recording its result. Every open bet of it gets its stake and fee back."""

    on_stream = True

    user_id: GameStream
    period: GamePeriod
    reason: Reason


class CreateGift(Command, frozen=True, kw_only=True, tag="create_gift"):
    """Creates a gift: an amount of bonus money, divided into shares. Each user may claim one share by its code."""

    on_stream = True

    user_id: GiftStream
    asset: Asset
    amount: Annotated[
        Amount, Meta(description="The whole gift, in the asset's minor unit, 1 … 2^53−1", examples=[100_000])
    ]
    claims: Annotated[
        int,
        Meta(
            description=(
                "How many shares the amount is divided into, 1 … amount; the remainder of the division goes to the "
                "first shares, one unit each. Another number gets `amount_out_of_range`"
            ),
            examples=[100],
        ),
    ]
    expires_at_us: (
        Annotated[
            TimeUs,
            Meta(
                description="No share is granted from this time on, in Unix microseconds, UTC. Absent: no expiry",
                examples=[1_796_043_600_000_000],
            ),
        ]
        | None
    ) = None


class CloseGift(Command, frozen=True, kw_only=True, tag="close_gift"):
    """Ends a gift: no more of its shares are granted."""

    on_stream = True

    user_id: GiftStream
    reason: Reason


class ClaimGift(Command, frozen=True, kw_only=True, tag="claim_gift"):
    """Claims a share of a gift, once. The share, or the refusal with its reason, is a later event of this wallet."""

    code: Annotated[CodeText, Meta(description="The code of the gift", examples=["welcome-2026"])]


class ClaimReferralCode(Command, frozen=True, kw_only=True, tag="claim_referral_code"):
    """Claims a referral code for this wallet. The first wallet that claims a code has it permanently; a wallet has
    one code. The grant or the refusal is a later event of this wallet."""

    code: Annotated[CodeText, Meta(description="The code", examples=["AGENT-17"])]


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
    | ClaimAttendance
    | Adjust
    | ProposeAdjustment
    | ApproveAdjustment
    | RejectAdjustment
    | Reverse
    | SetLimits
    | FreezeWallet
    | UnfreezeWallet
    | CloseWallet
    | SetAgentLevel
    | RecordResult
    | CancelPeriod
    | CreateGift
    | CloseGift
    | ClaimGift
    | ClaimReferralCode
)

COMMAND_TYPES: tuple[type[Command], ...] = AnyCommand.__args__


_canonical = msgspec.json.Encoder(order="sorted")


def canonical(command: Command) -> bytes:
    """The command as JSON with sorted keys, no spaces, UTF-8, without nulls (except in ``set_limits``), and without
    ``private``.

    ``request_sha256`` is the SHA-256 of these bytes; two commands are the same if and only if the bytes are.
    """
    return _canonical.encode(command if command.private is None else replace(command, private=None))


def whole(command: Command) -> bytes:
    """The canonical form with ``private``: every member that the client sent."""
    return _canonical.encode(command)
