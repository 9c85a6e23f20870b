"""The data of the events of commissions and valid referrals. ``events`` has the invariants of all data."""

from typing import Annotated

from msgspec import Meta

from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAmountOrZero,
    EventAsset,
    EventDay,
    EventDigest,
    EventLevel,
    EventUnboundedAmount,
    EventUserId,
)
from ledger.core.money_rules import E9
from ledger.core.rejections import Code

_Member = Annotated[
    EventUserId, Meta(description="The user whose stakes the commission is on", examples=["player-15"])
]
_Stake = Annotated[
    EventUnboundedAmount,
    Meta(description="The stakes that the commission is on, in the asset's minor unit", examples=[50_000]),
]

PayeeRefusal = Annotated[
    str,
    Meta(
        description="The code for which the referrer's wallet gets nothing",
        examples=["wallet_closed"],
        extra_json_schema={"enum": [Code.WALLET_NOT_OPEN.value, Code.WALLET_CLOSED.value]},
    ),
]


class ReferralValid(Data, frozen=True, kw_only=True):
    """A member's deposits reached the sum that makes the member a valid referral of this wallet, once for each asset.

    If there is a ``reason``, the wallet cannot have referrals, and nothing was counted."""

    type = "referral_valid"

    asset: EventAsset
    cause: Cause
    member: Annotated[EventUserId, Meta(description="The user who deposited", examples=["player-15"])]
    reason: PayeeRefusal | None = None
    rules: EventDigest


class CommissionDue(Data, frozen=True, kw_only=True):
    """On the wallet of a member: the commission on the stakes of a day is due, or, if the rules pay per bet, on the
    stake of one bet. It goes to the referrer."""

    type = "commission_due"

    asset: EventAsset
    cause: Cause
    day: EventDay
    rules: EventDigest
    stake: _Stake


class CommissionPaid(Data, frozen=True, kw_only=True):
    """A referrer was paid a commission on a member's stakes.

    ``carried_e9`` of the previous commission and ``stake`` × ``rate_e9`` are added up; ``amount`` is the sum in whole
    minor units, and ``carried_e9`` is the rest. If there is a ``reason``, the wallet is paid nothing, and its
    ``carried_e9`` does not change.
    """

    type = "commission_paid"

    amount: EventAmountOrZero
    asset: EventAsset
    carried_e9: Annotated[
        EventUnboundedAmount,
        Meta(description="What is carried to the next commission, in billionths of the minor unit", examples=[0]),
    ]
    cause: Cause
    day: EventDay
    level: EventLevel
    member: _Member
    rate_e9: Annotated[
        int,
        Meta(
            description="The rate, in billionths of the stake",
            examples=[6_000_000],
            extra_json_schema={"minimum": 0, "maximum": E9},
        ),
    ]
    reason: PayeeRefusal | None = None
    referrer_id: (
        Annotated[
            EventUserId,
            Meta(
                description="The referrer of the next level; absent: the last one",
                examples=["agent-1"],
            ),
        ]
        | None
    ) = None
    rules: EventDigest
    stake: _Stake
