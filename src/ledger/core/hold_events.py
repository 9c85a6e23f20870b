"""The data of the events of holds. ``events`` has the invariants of all data."""

from typing import Annotated

from msgspec import Meta

from ledger.core.event_base import Data
from ledger.core.fields import (
    Cause,
    EventAmount,
    EventAsset,
    EventId,
    EventMetadata,
    EventPrivate,
    EventTimeUs,
)


class HoldPlaced(Data, frozen=True, kw_only=True):
    """Cash was set aside."""

    type = "hold_placed"

    amount: EventAmount
    asset: EventAsset
    expires_at_us: (
        Annotated[
            EventTimeUs,
            Meta(
                description="When the hold expires, in Unix microseconds, UTC; absent: never",
                examples=[1_795_442_400_000_000],
            ),
        ]
        | None
    ) = None
    hold_id: Annotated[EventId, Meta(description="The hold", examples=["hold-1"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class HoldExpired(Data, frozen=True, kw_only=True):
    """A hold expired: its money is cash again."""

    type = "hold_expired"

    amount: EventAmount
    asset: EventAsset
    cause: Cause
    hold_id: Annotated[EventId, Meta(description="The hold", examples=["hold-1"])]


class HoldCaptured(Data, frozen=True, kw_only=True):
    """Money was taken out of a hold; what was left of the hold is cash again."""

    type = "hold_captured"

    amount: (
        Annotated[
            EventAmount, Meta(description="What was taken, in the asset's minor unit; absent: all", examples=[25_000])
        ]
        | None
    ) = None
    hold_id: Annotated[EventId, Meta(description="The hold", examples=["hold-1"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None


class HoldReleased(Data, frozen=True, kw_only=True):
    """A hold ended without being captured: its money is cash again."""

    type = "hold_released"

    hold_id: Annotated[EventId, Meta(description="The hold", examples=["hold-1"])]
    metadata: EventMetadata | None = None
    private: EventPrivate | None = None
