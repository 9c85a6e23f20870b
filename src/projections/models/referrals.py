"""Referrals: how many members stand below a referrer, level by level."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from ledger.core.events import Event, ReferralCounted
from ledger.core.position import Position
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import AssetText, Count, Sum, UserId

REFERRAL_LEVELS: Final = 6
"""From the domain: commission is paid over six levels."""


class Level(Struct, gc=False):
    """How many members a referrer has at one level."""

    level: Annotated[int, Meta(ge=1, le=REFERRAL_LEVELS, description="1 for direct members", examples=[1])]
    members: Annotated[Count, Meta(description="Wallets opened at this level")]


class Referrals(Struct, gc=False):
    """A wallet's referrer, members and commissions."""

    user_id: UserId
    referrer_id: Annotated[
        UserId | None, Meta(description="The referrer, as named when the wallet was opened", examples=["agent-1"])
    ]
    direct_count: Annotated[Count, Meta(description="Members of level 1")]
    levels: Annotated[
        list[Level],
        Meta(min_length=REFERRAL_LEVELS, max_length=REFERRAL_LEVELS, description="All levels, the lowest first"),
    ]
    commissions: Annotated[dict[AssetText, Sum], Meta(description="Asset to the commissions paid", examples=[{}])]


def needs(event: Event, book: RowBuffer) -> None:
    if isinstance(event.data, ReferralCounted):
        book.referrals.want((event.user_id, event.data.level))


def fold(event: Event, _place: Position, book: RowBuffer) -> None:
    if isinstance(event.data, ReferralCounted):
        book.referrals.edit_or_add((event.user_id, event.data.level)).members += 1
