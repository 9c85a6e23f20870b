"""The data of the events of gifts and of referral codes. ``events`` has the invariants of all data."""

from typing import Annotated

from msgspec import Meta

from ledger.core.bonus_events import GrantExpiry
from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAmount,
    EventAsset,
    EventCode,
    EventGrantId,
    EventMetadata,
    EventMoneyRules,
    EventPrivate,
    EventReason,
    EventTimeUs,
    EventUserId,
    EventWagering,
)
from ledger.core.rejections import Code

NOT_FOUND = "not_found"
CLOSED = "closed"
EXPIRED = "expired"
USED_UP = "used_up"

GiftRefusal = Annotated[
    str,
    Meta(
        description=(
            "Why the claim got no share: the gift was never created, is closed, is expired or has no share left, or "
            "the wallet has no room for the share"
        ),
        examples=[USED_UP],
        extra_json_schema={
            "enum": [
                *(NOT_FOUND, CLOSED, EXPIRED, USED_UP),
                *(Code.AMOUNT_OUT_OF_RANGE.value, Code.BALANCE_MAX_EXCEEDED.value),
            ]
        },
    ),
]
ClaimedBy = Annotated[EventUserId, Meta(description="The user who claimed it", examples=["player-15"])]
Claims = Annotated[
    int,
    Meta(
        description="How many shares the amount is divided into",
        examples=[100],
        extra_json_schema={"minimum": 1, "maximum": 2**53 - 1},
    ),
]


class GiftCreated(Data, frozen=True, kw_only=True):
    """On the stream of a gift: the gift can be claimed."""

    type = "gift_created"

    amount: EventAmount
    asset: EventAsset
    claims: Claims
    expires_at_us: (
        Annotated[
            EventTimeUs,
            Meta(
                description="The gift is expired from this time on, in Unix microseconds, UTC; absent: no expiry",
                examples=[1_796_043_600_000_000],
            ),
        ]
        | None
    ) = None
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class GiftClosed(Data, frozen=True, kw_only=True):
    """On the stream of a gift: no more shares of it are granted."""

    type = "gift_closed"

    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
    reason: EventReason


class GiftClaimed(Data, frozen=True, kw_only=True):
    """The wallet asks for a share of a gift."""

    type = "gift_claimed"

    code: EventCode
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class GiftShareGranted(Data, frozen=True, kw_only=True):
    """On the stream of a gift: a share of it belongs to a user."""

    type = "gift_share_granted"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    claimed_by: ClaimedBy
    share: Annotated[
        int,
        Meta(
            description="The number of the share: 1 for the first",
            examples=[1],
            extra_json_schema={"minimum": 1, "maximum": 2**53 - 1},
        ),
    ]


class GiftShareRefused(Data, frozen=True, kw_only=True):
    """On the stream of a gift: a claim got no share."""

    type = "gift_share_refused"

    cause: Cause
    claimed_by: ClaimedBy
    reason: GiftRefusal


class GiftReceived(Data, frozen=True, kw_only=True):
    """The share of a gift is in the wallet, as bonus money."""

    type = "gift_received"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    code: EventCode
    expires_at_us: GrantExpiry | None = None
    grant_id: Annotated[EventGrantId, Meta(description="The grant that the share became", examples=["~gift:1"])]
    rules: EventMoneyRules | None = None
    wagering: EventWagering | None = None


class GiftRefused(Data, frozen=True, kw_only=True):
    """The wallet got no share of the gift."""

    type = "gift_refused"

    amount: EventAmount | None = None
    asset: EventAsset | None = None
    cause: Cause
    code: EventCode
    reason: GiftRefusal


class ReferralCodeClaimed(Data, frozen=True, kw_only=True):
    """The wallet asks for a referral code of its own."""

    type = "referral_code_claimed"

    code: EventCode
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class ReferralCodeGranted(Data, frozen=True, kw_only=True):
    """The code belongs to the user, permanently. On the stream of the code, and then on the user's wallet."""

    type = "referral_code_granted"

    cause: Cause
    claimed_by: ClaimedBy
    code: EventCode


class ReferralCodeRefused(Data, frozen=True, kw_only=True):
    """The code belongs to another user. On the stream of the code, and then on the wallet that claimed it."""

    type = "referral_code_refused"

    cause: Cause
    claimed_by: ClaimedBy
    code: EventCode


Member = Annotated[EventUserId, Meta(description="The user whose wallet was opened", examples=["player-15"])]


class ReferralResolved(Data, frozen=True, kw_only=True):
    """On the stream of a code: a wallet was opened with it, and the owner of the code is the referrer."""

    type = "referral_resolved"

    cause: Cause
    member: Member
    referrer_id: Annotated[EventUserId, Meta(description="The owner of the code", examples=["agent-1"])]


class ReferralUnknown(Data, frozen=True, kw_only=True):
    """On the stream of a code: a wallet was opened with it, but the code has no owner other than the wallet itself.
    The wallet has no referrer."""

    type = "referral_unknown"

    cause: Cause
    member: Member


class ReferrerSet(Data, frozen=True, kw_only=True):
    """The wallet was opened with a code, and the owner of the code is its referrer."""

    type = "referrer_set"

    cause: Cause
    code: EventCode
    referrer_id: Annotated[EventUserId, Meta(description="The owner of the code", examples=["agent-1"])]
