"""The data of bonuses' events."""

from typing import Annotated

from msgspec import Meta

from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAmount,
    EventAsset,
    EventDay,
    EventGrantId,
    EventMetadata,
    EventMoneyRules,
    EventPrivate,
    EventTimeUs,
    EventWagering,
)

GrantExpiry = Annotated[
    EventTimeUs,
    Meta(
        description="When what is left of the bonus expires, in Unix microseconds, UTC; absent: never",
        examples=[1_796_043_600_000_000],
    ),
]


class BonusGranted(Data, frozen=True, kw_only=True):
    """Bonus money was granted.

    If the ledger granted it by the rules of money flows, there are ``cause``, ``kind`` and ``rules``. The amount is
    less than the rules say if the wallet has no room for all of it.
    """

    type = "bonus_granted"

    amount: EventAmount
    asset: EventAsset
    cause: Cause | None = None
    expires_at_us: GrantExpiry | None = None
    grant_id: Annotated[
        EventGrantId, Meta(description="The grant; of a deposit's bonus its order", examples=["welcome-1"])
    ]
    kind: (
        Annotated[
            str,
            Meta(
                description="Why the ledger granted it",
                examples=["first_deposit"],
                extra_json_schema={"enum": ["registration", "first_deposit", "invitation"]},
            ),
        ]
        | None
    ) = None
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    rules: EventMoneyRules | None = None
    wagering: EventWagering | None = None


class BonusExpired(Data, frozen=True, kw_only=True):
    """What was left of a grant expired."""

    type = "bonus_expired"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    grant_id: Annotated[
        EventGrantId, Meta(description="The grant; of a deposit's bonus its order", examples=["welcome-1"])
    ]


class AttendanceClaimed(Data, frozen=True, kw_only=True):
    """The attendance bonus of a day was claimed: bonus money was granted."""

    type = "attendance_claimed"

    amount: EventAmount
    asset: EventAsset
    day: EventDay
    expires_at_us: GrantExpiry | None = None
    grant_id: Annotated[EventGrantId, Meta(description="The grant", examples=["~attendance:3"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    rules: EventMoneyRules
    streak: Annotated[
        int,
        Meta(
            description="How many days in a row, this one included; after the last day of the rules it begins at 1",
            examples=[3],
            extra_json_schema={"minimum": 1, "maximum": 366},
        ),
    ]
    wagering: EventWagering | None = None
