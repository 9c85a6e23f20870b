"""Top movers: the users with the largest net win and the largest net loss of a UTC day.

They are read from the rows of the leaderboards, which have the net of each user and day: a payout less its stake
counts on the day of the settlement. So they have no rows of their own, and no fold costs more.
"""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, and_, or_, select, union_all

from ledger.core.wallet import DAY_US
from projections.models.leaderboards import Board, EndedRow, StandingRow, values_of
from projections.tables.fields import AnyTimeUs, Asset, SignedSum, UserId
from projections.tables.queries import Conditions, Query, Rows, value
from projections.tables.tables import Tables

BOARD: Final = "net_day"
"""The leaderboard that has the same sums."""

# --- document


class Mover(Struct, gc=False):
    """A user who won or lost money on the day."""

    rank: Annotated[int, Meta(ge=1, description="1 for the largest win or loss", examples=[1])]
    user_id: UserId
    net: Annotated[
        SignedSum, Meta(description="Payouts less their stakes, in the asset's minor unit; below 0 for a loss")
    ]


class Movers(Struct, gc=False):
    """The users with the largest net win and with the largest net loss of a UTC day: the largest first, ties by
    user_id."""

    asset: Asset
    from_us: Annotated[AnyTimeUs, Meta(description="Start of the day, included", examples=[1_795_392_000_000_000])]
    to_us: Annotated[AnyTimeUs, Meta(description="End of the day, not included", examples=[1_795_478_400_000_000])]
    won: Annotated[list[Mover], Meta(description="Users whose net is above 0")]
    lost: Annotated[list[Mover], Meta(description="Users whose net is below 0")]


# --- reads


def movers_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id, high, low) of the nets of a day. Conditions: ``gained``, the largest above 0 first; or ``lost``, the
    smallest below 0 first; ties by user_id."""
    (of,) = conditions
    s, e = tables[StandingRow].c, tables[EndedRow].c
    last = select(s.user_id, s.day_net_high.label("high"), s.day_net_low.label("low")).where(
        s.asset == value("of_asset"), s.day == value("first_day"), _moved(of, s.day_net_high, s.day_net_low)
    )
    ended = select(e.user_id, e.net_high, e.net_low).where(
        e.asset == value("of_asset"),
        e.span == "day",
        e.first_day == value("first_day"),
        _moved(of, e.net_high, e.net_low),
    )
    both = union_all(last, ended).subquery().c
    order = (both.high, both.low) if of == "lost" else (both.high.desc(), both.low.desc())
    return select(both.user_id, both.high, both.low).order_by(*order, both.user_id).limit(value("most"))


def _moved(of: str, high: ColumnElement[int], low: ColumnElement[int]) -> ColumnElement[bool]:
    """A sum is high × 2^48 + low with 0 ≤ low: it is below 0 if and only if high is."""
    return high < 0 if of == "lost" else or_(high > 0, and_(high == 0, low > 0))


def queries(board: Board, most: int) -> list[Query]:
    """Those of the wins, and those of the losses."""
    values = {"of_asset": board.asset, "first_day": board.first_day, "most": most}
    return [Query(movers_statement, values, frozenset({of})) for of in ("gained", "lost")]


def document(board: Board, gained: Rows, lost: Rows) -> Movers:
    return Movers(board.asset, board.first_day * DAY_US, board.end_day * DAY_US, _ranked(gained), _ranked(lost))


def _ranked(rows: Rows) -> list[Mover]:
    return [Mover(rank, user_id, net) for rank, (user_id, net) in enumerate(values_of(rows), 1)]
