"""Cohorts: the wallets that were opened on the same UTC day, how many of them made a first deposit, and what they
staked and netted on each day since.

They are read from the rows of the wallets, of their list and of the leaderboards, which have the sums of each user
and day. So they have no rows of their own, and no fold costs more.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Integer, Select, and_, case, cast, func, or_, select, union_all

from ledger.core.wallet import DAY_US
from projections.models.leaderboards import EndedRow, StandingRow
from projections.models.wallet_list import OpenedRow
from projections.models.wallets import WalletRow
from projections.tables import wide
from projections.tables.fields import AnyTimeUs, Asset, Count, SignedSum, Sum
from projections.tables.queries import Conditions, Query, Rows, value
from projections.tables.tables import Tables

# --- document


class CohortDay(Struct, gc=False):
    """What the wallets of a cohort bet on one UTC day."""

    day: Annotated[
        int, Meta(ge=0, description="0 for the day of registration, 1 for the next UTC day, and so on", examples=[1])
    ]
    active: Annotated[Count, Meta(description="Wallets with a stake on this day that was not cancelled")]
    staked: Annotated[Sum, Meta(description="Stakes of the bets placed on this day, without cancelled ones")]
    net: Annotated[SignedSum, Meta(description="Payouts less their stakes, of the bets settled on this day")]


class Cohort(Struct, gc=False):
    """The wallets that were opened on one UTC day."""

    registered_us: Annotated[
        AnyTimeUs, Meta(description="Start of the day of registration", examples=[1_795_392_000_000_000])
    ]
    wallets: Annotated[int, Meta(ge=1, description="Wallets that were opened on that day", examples=[40])]
    deposited: Annotated[
        Count, Meta(description="Those whose first deposit, on whatever day, was made in the asset", examples=[12])
    ]
    days: Annotated[
        list[CohortDay],
        Meta(description="The days on which they staked or netted anything in the asset, the first one first"),
    ]


class Cohorts(Struct, gc=False):
    """The wallets by their UTC day of registration, the latest day first, and their bets in one asset.

    Days without registrations are left out.
    """

    asset: Asset
    from_us: Annotated[
        AnyTimeUs, Meta(description="Start of the first day of registration", examples=[1_795_392_000_000_000])
    ]
    to_us: Annotated[
        AnyTimeUs, Meta(description="End of the last day of registration", examples=[1_795_478_400_000_000])
    ]
    items: list[Cohort]


# --- reads

DAYS_MAX: Final = 31
"""Days of registration. Chosen, as for the house view by the hour."""
TABLES: Final = (OpenedRow.table, WalletRow.table, StandingRow.table, EndedRow.table)
"""The tables that are read."""
_HALF_BITS: Final = wide.LOW_BITS // 2
_HALF_MASK: Final = (1 << _HALF_BITS) - 1


class Registered(NamedTuple):
    """``from_us`` ≤ time of registration < ``to_us``: whole UTC days."""

    from_us: int
    to_us: int


def registered_of(from_us: int | None, to_us: int | None, now_us: int) -> Registered | None:
    """The UTC days that overlap these times. None if they are more than ``DAYS_MAX``.

    Without ``to_us`` today is the last one; without ``from_us`` they are ``DAYS_MAX`` days."""
    end_us = (now_us // DAY_US + 1) * DAY_US if to_us is None else -(-to_us // DAY_US) * DAY_US
    begin_us = end_us - DAYS_MAX * DAY_US if from_us is None else from_us // DAY_US * DAY_US
    return None if end_us - begin_us > DAYS_MAX * DAY_US else Registered(begin_us, end_us)


def _registered(opened: Any) -> tuple[ColumnElement[int], ColumnElement[bool]]:
    """The start of the day on which a wallet was opened, and whether it is one of the days that are read."""
    time_us = opened.opened_at_us
    return (
        (time_us - time_us % DAY_US).label("registered_us"),
        and_(time_us >= value("from_us"), time_us < value("to_us")),
    )


def sizes_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(registered_us, wallets, deposited) of each cohort, the latest first."""
    o, w = tables[OpenedRow].c, tables[WalletRow].c
    registered_us, is_read = _registered(o)
    found = (
        select(registered_us, w.first_asset)
        .select_from(tables[OpenedRow])
        .join(tables[WalletRow], and_(w.partition == o.partition, w.user_id == o.user_id))
        .where(is_read)
        .subquery()
        .c
    )
    deposited = func.count(case((found.first_asset == value("of_asset"), 1)))
    return (
        select(found.registered_us, func.count(), deposited)
        .group_by(found.registered_us)
        .order_by(found.registered_us.desc())
    )


def days_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(registered_us, day since 1970, active, then the parts of ``staked`` and of ``net``) of each cohort and day on
    which one of its users has sums, the latest cohort first, then the first day first. A row whose day is null is of
    the users without sums. The parts are those of ``_parts``.

    The joins are outer joins because these fix the order: first the wallets, then each one's sums. SQLite, which has
    no statistics of the rows, would begin with the sums of all users of the asset.
    """
    o, s, e = tables[OpenedRow].c, tables[StandingRow].c, tables[EndedRow].c
    registered_us, is_read = _registered(o)
    last = (
        select(
            *(registered_us, s.day, s.day_staked_high.label("staked_high"), s.day_staked_low.label("staked_low")),
            *(s.day_net_high.label("net_high"), s.day_net_low.label("net_low")),
        )
        .select_from(tables[OpenedRow])
        .outerjoin(
            tables[StandingRow],
            and_(s.partition == o.partition, s.user_id == o.user_id, s.asset == value("of_asset")),
        )
        .where(is_read)
    )
    ended = (
        select(registered_us, e.first_day, e.staked_high, e.staked_low, e.net_high, e.net_low)
        .select_from(tables[OpenedRow])
        .outerjoin(
            tables[EndedRow],
            and_(
                e.partition == o.partition,
                e.user_id == o.user_id,
                e.asset == value("of_asset"),
                e.span == "day",
            ),
        )
        .where(is_read)
    )
    c = union_all(last, ended).subquery().c
    active = func.count(case((or_(c.staked_high != 0, c.staked_low != 0), 1)))
    return (
        select(c.registered_us, c.day, active, *_parts(c.staked_high, c.staked_low), *_parts(c.net_high, c.net_low))
        .group_by(c.registered_us, c.day)
        .order_by(c.registered_us.desc(), c.day)
    )


def _parts(high: ColumnElement[int], low: ColumnElement[int]) -> Iterator[ColumnElement[int]]:
    """The sums of the highs, and of the upper and lower halves of the lows. SQLite refuses sums beyond 64 bits: those
    of whole lows would be beyond after 32,768 rows, those of their halves after 2^39. PostgreSQL shifts by 32-bit
    integers only."""
    yield func.sum(high)
    yield func.sum(low.bitwise_rshift(cast(_HALF_BITS, Integer)))
    yield func.sum(low.bitwise_and(_HALF_MASK))


def queries(asset: str, registered: Registered) -> list[Query]:
    """That of the sizes, and that of the days."""
    values = {"of_asset": asset, "from_us": registered.from_us, "to_us": registered.to_us}
    return [Query(sizes_statement, values), Query(days_statement, values)]


def document(asset: str, registered: Registered, sizes: Rows, days: Rows) -> Cohorts:
    """Of the rows of ``queries``. Databases return sums as integers or decimals."""
    days_of = {int(begin_us): _days(int(begin_us), rows) for begin_us, rows in groupby(days, itemgetter(0))}
    items = [
        Cohort(int(begin_us), int(wallets), int(deposited), days_of.get(int(begin_us), []))
        for begin_us, wallets, deposited in sizes
    ]
    return Cohorts(asset, registered.from_us, registered.to_us, items)


def _days(registered_us: int, rows: Iterator[Sequence[Any]]) -> list[CohortDay]:
    days = []
    for _, day, active, *parts in rows:
        if day is None:
            continue
        staked, net = _total(parts[:3]), _total(parts[3:])
        if staked or net:
            days.append(CohortDay(int(day) - registered_us // DAY_US, int(active), staked, net))
    return days


def _total(parts: Sequence[Any]) -> int:
    """The sum of the rows of ``_parts``."""
    high, upper, lower = parts
    return wide.total_of(high, (int(upper) << _HALF_BITS) + int(lower))
