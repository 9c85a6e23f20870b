"""The tables of the read model, the same for SQLite, PostgreSQL and MySQL.

Each *generation* has its own tables, one per row type; their names end with its number. The other tables exist once:

``generation``   the generations: the version of the folds that fill each, and which one is live
``checkpoint``   per generation and partition: the last event in the rows, and the rows' digests
``quarantine``, ``quarantined_event``  users with an event on which a fold failed, and their events from it on
``proof``, ``difference``  the last results of the background check, per partition and per user

Primary keys begin with the partition (in common tables with the generation before it), so no row is written by two
partitions. Texts compare byte for byte: MySQL's default collation treats ``Bob`` and ``bob`` as one user.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from projections.tables import columns
from projections.tables.rows import Row

SQLITE_FORMAT: Final = 1
"""Version of the tables' shapes. A SQLite read model of another format is rebuilt from the log."""

MONTH_OF: Final = "month_of"
"""In a table's ``info``: the row type's ``month_of``."""

_4_GIB: Final = 2**32 - 1
"""MySQL chooses the type of a text or blob by its maximal length."""
_INT_32_MAX: Final = 2**31 - 1

# utf8mb4_bin, which both have, treats ``bob`` and ``bob `` as one user: it pads with spaces before it compares.
_MYSQL: Final = "utf8mb4_0900_bin"
_MARIADB: Final = "utf8mb4_nopad_bin"


# Plain types with variants, not the dialects' own: importing a dialect takes longer than starting a follower.
def _text(length: int) -> Any:
    """A text of at most ``length`` code points, compared byte for byte."""
    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(String(length, collation=_MYSQL), "mysql")
        .with_variant(String(length, collation=_MARIADB), "mariadb")
    )


def _long_text() -> Any:
    return (
        Text()
        .with_variant(Text(collation="C"), "postgresql")
        .with_variant(Text(_4_GIB, collation=_MYSQL), "mysql")
        .with_variant(Text(_4_GIB, collation=_MARIADB), "mariadb")
    )


def column_type(kind: Any) -> Any:
    """The column type of a field's type; whether it may be None does not matter."""
    return _column_type(inspect.type_info(kind))


def _column_type(kind: inspect.Type) -> Any:
    match kind:
        case inspect.UnionType():
            (only,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
            return _column_type(only)
        case inspect.IntType(lt=limit):
            # SQLite stores integers of any width; the others need to know when 32 bits do not suffice.
            return Integer() if limit is not None and limit <= _INT_32_MAX + 1 else BigInteger()
        case inspect.StrType(max_length=None):
            return _long_text()
        case inspect.StrType(max_length=int(length)):
            return _text(length)
        case _:
            raise AssertionError(f"no column type for {kind}")


def _columns(kind: type[Row]) -> Iterator[Column[Any]]:
    for place, field in enumerate(msgspec.structs.fields(kind)):
        info = inspect.type_info(field.type)
        is_key = place < kind.key_length
        may_be_null = not is_key and isinstance(info, inspect.UnionType) and info.includes_none
        yield Column(
            field.name,
            _column_type(info),
            primary_key=is_key,
            autoincrement=False,
            nullable=may_be_null and not is_key,
        )


def _key(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def _partition() -> Column[Any]:
    return _key("partition", Integer)


def _must(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


class Tables:
    """The tables of one generation: ``tables[BetRow]`` is the table of bets."""

    def __init__(self, generation: int, row_types: Sequence[type[Row]]) -> None:
        self.generation = generation
        self.metadata = MetaData()
        self.of: dict[type[Row], Table] = {kind: self._table(kind) for kind in row_types}
        self.indexes: tuple[Index, ...] = tuple(
            Index(f"{name}_g{generation}", *(table.c[column] for column in columns))
            for kind, table in self.of.items()
            for name, columns in kind.indexes.items()
        )
        """Besides the primary keys. A rebuild makes them after it has filled the tables."""

    def __getitem__(self, kind: type[Row]) -> Table:
        return self.of[kind]

    def _table(self, kind: type[Row]) -> Table:
        # SQLite keeps a row in the tree of its primary key: one tree less to write, and a user's rows lie together.
        # Rows in the order of the log are in a tree of their own, which grows at its end.
        table = Table(
            f"{kind.table}_g{self.generation}",
            self.metadata,
            _partition(),
            *_columns(kind),
            sqlite_with_rowid=kind.in_log_order,
        )
        if kind.month_of is not None:
            table.info[MONTH_OF] = kind.month_of
        return table


_USER_ID: Final = column_type(columns.UserId)
_STATUS: Final = column_type(columns.Status)
_REASON: Final = column_type(columns.Reason)
_TYPE_NAME: Final = column_type(columns.TypeName)
_SHA256: Final = _text(64)

COMMON: Final = MetaData()

GENERATION: Final = Table(
    "generation",
    COMMON,
    _key("generation", Integer),
    _must("fold_version", Integer),
    _must("status", _STATUS),  # building, live or retired
    _must("made_at_us", BigInteger),
)
CHECKPOINT: Final = Table(
    "checkpoint",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _must("seq", BigInteger),
    _must("head", _SHA256),
    _must("digests", _long_text()),
    sqlite_with_rowid=False,
)
QUARANTINE: Final = Table(
    "quarantine",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("user_id", _USER_ID),
    _must("seq", BigInteger),  # the first event that is not in the user's rows
    _must("time_us", BigInteger),  # of that event
    _must("reason", _REASON),
    sqlite_with_rowid=False,
)
QUARANTINED_EVENT: Final = Table(
    "quarantined_event",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("user_id", _USER_ID),
    _key("seq", BigInteger),
    _must("record", LargeBinary().with_variant(LargeBinary(_4_GIB), "mysql", "mariadb")),
    sqlite_with_rowid=False,
)
LAST_CHECK: Final = Table(
    "proof",  # another name would make existing tables unusable
    COMMON,
    _key("generation", Integer),
    _partition(),
    _must("seq", BigInteger),  # the last event up to which the rows were compared with the log
    _must("checked_at_us", BigInteger),
    _must("differences", BigInteger),
    sqlite_with_rowid=False,
)
DIFFERENCE: Final = Table(
    "difference",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("place", _USER_ID),  # ``Difference.owner``; another name would make existing tables unusable
    _key("row_table", _TYPE_NAME),
    _key("row_key", _REASON),
    _key("field", _TYPE_NAME),
    _must("expected", _long_text()),
    _must("found", _long_text()),
    _must("found_at_us", BigInteger),
    sqlite_with_rowid=False,
)
