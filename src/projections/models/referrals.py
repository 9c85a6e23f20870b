"""Referrals: how many members a referrer has, and the commissions on their stakes, level by level."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import Select, select

from ledger.core.commission_events import CommissionPaid
from ledger.core.events import Event, ReferralCounted
from ledger.core.position import Position
from projections.models.wallets import WalletRow
from projections.tables import columns
from projections.tables.fields import AssetText, Count, Sum, UserId
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, UserRead, UserStatus, fields_of, of_one_user
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, plus
from projections.tables.tables import Tables

# --- rows and fold --------------------


class ReferralRow(Row):
    """How many members opened a wallet ``level`` steps below, where ``asset`` is ""; else the commissions in the
    asset that were paid on their stakes."""

    table = "referral"
    key_length = 3

    user_id: columns.UserId
    level: columns.Small
    asset: columns.AssetCode
    members: int = 0
    commissions: columns.Sum = "0"


def needs(event: Event, buffer: RowBuffer) -> None:
    match event.data:
        case ReferralCounted(level=level):
            buffer[ReferralRow].want((event.user_id, level, ""))
        case CommissionPaid(level=level, asset=asset, amount=amount) if amount:
            buffer[ReferralRow].want((event.user_id, level, asset))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    match event.data:
        case ReferralCounted(level=level):
            buffer[ReferralRow].edit_or_add((event.user_id, level, "")).members += 1
        case CommissionPaid(level=level, asset=asset, amount=amount) if amount:
            row = buffer[ReferralRow].edit_or_add((event.user_id, level, asset))
            row.commissions = plus(row.commissions, amount)


MODEL: Final = Model((ReferralRow,), fold, needs, of=(ReferralCounted, CommissionPaid))


# --- document


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
    commissions: Annotated[
        dict[AssetText, Sum],
        Meta(description="Asset to the commissions paid, over all levels", examples=[{"INR": 300}]),
    ]


# --- reads


def referrals_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[ReferralRow]
    return select(*fields_of(table)).where(of_one_user(table)).order_by(table.c.level, table.c.asset)


def _document(user: UserStatus, rows: Rows) -> Referrals:
    members: dict[int, int] = {}
    commissions: dict[str, int] = {}
    for level, asset, counted, paid in rows:
        if asset:
            commissions[asset] = commissions.get(asset, 0) + int(paid)
        else:
            members[level] = counted
    levels = [Level(level, members.get(level, 0)) for level in range(1, REFERRAL_LEVELS + 1)]
    return Referrals(
        user.user_id,
        WalletRow(*user.wallet).referrer_id,
        members.get(1, 0),
        levels,
        dict(sorted(commissions.items())),
    )


REFERRALS: Final = UserRead(Query(referrals_statement), _document)
