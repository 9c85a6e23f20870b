"""The data of the events of bets and of the periods of games. ``events`` has the invariants of all data."""

from typing import Annotated

from msgspec import Meta, Struct, field

from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAmount,
    EventAmountOrZero,
    EventAsset,
    EventDigest,
    EventGamePeriod,
    EventGrantId,
    EventId,
    EventMetadata,
    EventPayoutRest,
    EventPrivate,
    EventReason,
    EventResult,
    EventText,
    EventTimeUs,
    Proof,
)


class StakeSource(Struct, frozen=True, gc=False):
    """Which money a stake came from."""

    bonus: Annotated[EventAmountOrZero, Meta(description="Bonus money", examples=[50_000])]
    cash: Annotated[EventAmountOrZero, Meta(description="Cash, and credit", examples=[0])]
    grants: Annotated[
        tuple[tuple[EventGrantId, EventAmount], ...],
        Meta(
            description=(
                "The grants that the bonus money came from, each with its amount, in the order in which "
                "they were used"
            ),
            examples=[[["dep-1", 50_000]]],
        ),
    ]


class BetPlaced(Data, frozen=True, kw_only=True):
    """A bet was placed and its stake taken."""

    type = "bet_placed"

    asset: EventAsset
    bet_id: Annotated[EventId, Meta(description="The bet", examples=["bet-1"])]
    fee: (
        Annotated[
            EventAmountOrZero,
            Meta(description="The part of the stake that is the house's fee; of games with rules", examples=[1_000]),
        ]
        | None
    ) = None
    source: Annotated[StakeSource, Meta(description="Which money the stake came from")] = field(name="from")
    game: Annotated[EventText, Meta(description="The game", examples=["external"])]
    metadata: EventMetadata | None = None
    period: Annotated[
        EventText, Meta(description="The round of the game that the bet is on", examples=["2026-11-23/0042"])
    ]
    private: EventPrivate | None = None
    rules: EventDigest | None = None
    selection: Annotated[EventText, Meta(description="What the bet is on", examples=["red"])]
    spend: (
        Annotated[
            str,
            Meta(
                description="Which money the stake took first; absent: cash_first",
                examples=["bonus_first"],
                extra_json_schema={"enum": ["cash_first", "bonus_first"]},
            ),
        ]
        | None
    ) = None
    stake: Annotated[EventAmount, Meta(description="The stake, in the asset's minor unit", examples=[50_000])]


class BetSettled(Data, frozen=True, kw_only=True):
    """A bet was paid out and has ended. A payout of 0: the bet was lost.

    If the ledger settled the bet by the result of its period, there are ``asset``, ``cause`` and ``legs``. If the
    wallet has no room for the whole payout, it gets a part, and ``unpaid`` is the rest. If the stake earns a referrer
    a commission, there are ``commission_at_us`` and ``commission_rules``.
    """

    type = "bet_settled"

    asset: EventAsset | None = None
    bet_id: Annotated[EventId, Meta(description="The bet", examples=["bet-1"])]
    cause: Cause | None = None
    commission_at_us: (
        Annotated[EventTimeUs, Meta(description="When the commission on the stake is due, Unix microseconds, UTC")]
        | None
    ) = None
    commission_rules: (
        Annotated[
            EventDigest,
            Meta(description="SHA-256, in hex, of the rules that the commission is paid by"),
        ]
        | None
    ) = None
    legs: (
        Annotated[
            tuple[tuple[EventText, EventAmountOrZero, EventAmountOrZero], ...],
            Meta(
                description="Each leg of the selection with its stake and its payout",
                examples=[[["red", 25_000, 49_000], ["number:7", 25_000, 0]]],
            ),
        ]
        | None
    ) = None
    metadata: EventMetadata | None = None
    payout: Annotated[
        EventAmountOrZero,
        Meta(
            description="What the bet paid, the stake included, in the asset's minor unit; 0: lost", examples=[95_000]
        ),
    ]
    private: EventPrivate | None = None
    unpaid: (
        Annotated[
            EventPayoutRest,
            Meta(description="What the bet should have paid beyond the payout, in the asset's minor unit"),
        ]
        | None
    ) = None


class BetCancelled(Data, frozen=True, kw_only=True):
    """A bet was cancelled: its stake is back where it came from. Or, where ``before_bet`` is true, the cancellation
    arrived before the bet: the bet is refused whenever it arrives.

    If the ledger returned the stake because the period was cancelled, there are ``amount``, ``asset`` and ``cause``.
    """

    type = "bet_cancelled"

    amount: EventAmount | None = None
    asset: EventAsset | None = None
    before_bet: Annotated[bool, Meta(description="Whether the cancellation arrived before the bet", examples=[False])]
    bet_id: Annotated[EventId, Meta(description="The bet", examples=["bet-1"])]
    cause: Cause | None = None
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason | None = None


class ResultRecorded(Data, frozen=True, kw_only=True):
    """On the stream of a game: the result of a period. Every open bet of the period is settled by it."""

    type = "result_recorded"

    metadata: EventMetadata | None = None
    period: EventGamePeriod
    private: EventPrivate | None = None
    proof: Annotated[Proof | None, Meta(description="The block of the result")] = None
    result: EventResult


class PeriodCancelled(Data, frozen=True, kw_only=True):
    """On the stream of a game: a period was cancelled. The stake of every open bet of the period is returned."""

    type = "period_cancelled"

    metadata: EventMetadata | None = None
    period: EventGamePeriod
    private: EventPrivate | None = None
    reason: EventReason
