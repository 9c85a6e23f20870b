"""Reads as values: the queries of a read, and the pure function that makes a document from their rows.

``projections.reads`` runs them: it adds the user, reads the position in the same snapshot, pages and writes cursors.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, select

from projections.tables.rows import Row
from projections.tables.tables import Tables

Rows = list[Any]
Conditions = frozenset[str]
Builder = Callable[[Tables, Conditions], Select[Any]]
"""Makes a statement for one generation's tables; the set names its optional conditions."""
Filters = Mapping[str, str | int]

CLOCKS_DIFFER_US: Final = 60_000_000
"""Nodes' clocks differ by less than this. Chosen: NTP keeps them within a second; a minute is far more."""

NO_CONDITIONS: Final[Conditions] = frozenset()


class Query(NamedTuple):
    """One statement and its values. ``builder`` and ``conditions`` name the statement: it is compiled once.

    The adapter adds the live generation as the value ``generation``.
    """

    builder: Builder
    values: Mapping[str, Any] = {}
    conditions: Conditions = NO_CONDITIONS


class UserStatus(Struct, gc=False):
    """How far the rows of a user are folded, and whether the wallet is open."""

    user_id: str
    partition: int
    seq: int
    """The last event of the partition that is in the user's rows."""
    quarantined_at_us: int | None
    """Time of the first event that is not in the rows of a quarantined user."""
    wallet: Sequence[Any]
    """The fields of the user's ``WalletRow``; all None if it does not exist."""

    @property
    def is_open(self) -> bool:
        return self.wallet[1] not in (None, "none")


class UserRead(NamedTuple):
    """A read of few rows of one user. The query also gets the values of ``of_one_user``."""

    query: Query
    document: Callable[[UserStatus, Rows], Any]
    """Returns None if the item does not exist."""
    missing: str = "wallet_not_found"
    """The code of the problem if the item does not exist."""
    quick: bool = True
    """Whether the rows are found by primary key."""


class Cursor(Struct, frozen=True):
    """Where the next page of a list begins. ``after``: place of the last item of the previous page; ``snapshot``: the
    positions of the first page."""

    after: tuple[int | str, ...]
    snapshot: tuple[int, ...]


class UserList(NamedTuple):
    """A list of one user's items, newest first, page by page.

    The queries also get the values of ``of_one_user``, and ``most``: the largest number of rows.
    """

    name: str
    place_kinds: str
    """Kinds of the values of a place: ``i`` integer, ``t`` text."""
    place: Callable[[Sequence[Any]], tuple[Any, ...]]
    """Returns the place of a row in the list."""
    queries: Callable[[Filters, Cursor | None], list[Query]]
    item: Callable[[int, Sequence[Any]], Any]
    """Makes an item from a partition and a row."""
    page: Callable[[list[Any], str | None], Any]
    """Makes a document from the items and the next cursor."""
    has_snapshot: bool = False
    """Whether the cursor contains the first page's seq."""


def value(name: str) -> ColumnElement[Any]:
    """A value that the query is run with."""
    return bindparam(name)


def of_one_user(table: Table) -> ColumnElement[bool]:
    return and_(table.c.partition == value("of_partition"), table.c.user_id == value("user"))


def fields_of(table: Table) -> list[ColumnElement[Any]]:
    """The columns of a user's row, without the user."""
    return [column for column in table.c if column.name not in ("partition", "user_id")]


def place_in(kind: type[Row], *names: str) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Returns what takes the place, the columns of these two names or more, out of a row of ``fields_of``."""
    fields = [name for name in kind.__struct_fields__ if name != "user_id"]
    return itemgetter(*(fields.index(name) for name in names))


def by_id(table: Table, id_column: str) -> Select[Any]:
    """One item of a user, by the value ``id``."""
    return select(*fields_of(table)).where(of_one_user(table), table.c[id_column] == value("id"))


def only(item: Callable[[int, Sequence[Any]], Any]) -> Callable[[UserStatus, Rows], Any]:
    """The document of a read by id: the item of the one row, None without a row."""
    return lambda user, rows: item(user.partition, rows[0]) if rows else None


def newest_first(statement: Select[Any], *place: ColumnElement[Any]) -> Select[Any]:
    """``statement`` as a page of a list: ordered by place, at most ``most`` rows."""
    return statement.order_by(*(column.desc() for column in place)).limit(value("most"))


def after_place(time_us: ColumnElement[Any], seq: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """Only rows after a place in a list of one user, where time and seq rise together.

    Written out, because not every database uses an index for a comparison of row values.
    """
    return [time_us <= value("after_time_us"), seq < value("after_seq")]


def page_by_time(table: Table, conditions: Conditions) -> Select[Any]:
    """A page of a user's rows, by ``created_at_us`` and ``seq``. Conditions: ``after`` a place."""
    c = table.c
    wanted = [of_one_user(table)]
    if "after" in conditions:
        wanted += after_place(c.created_at_us, c.seq)
    return newest_first(select(*fields_of(table)).where(*wanted), c.created_at_us, c.seq)


def list_by_time(
    name: str,
    kind: type[Row],
    statement: Builder,
    item: Callable[[int, Sequence[Any]], Any],
    page: Callable[[list[Any], str | None], Any],
) -> UserList:
    """A list without filters. ``statement`` makes a ``page_by_time`` of the rows of this kind."""

    def queries(_: Filters, at: Cursor | None) -> list[Query]:
        if at is None:
            return [Query(statement)]
        return [Query(statement, {"after_time_us": at.after[0], "after_seq": at.after[1]}, frozenset({"after"}))]

    return UserList(name, "ii", place_in(kind, "created_at_us", "seq"), queries, item, page)
