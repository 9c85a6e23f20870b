"""The tables follow from the row types and are the same on four databases."""

import sqlite3
from contextlib import closing
from typing import Any, Final, get_args, get_type_hints

import pytest
from sqlalchemy import Column, Integer, Table, Text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.engine import Dialect
from sqlalchemy.types import String

from ledger.core.events import DATA_TYPES
from projections.models import BY_PARTITION, BY_USER, ROW_TYPES
from projections.models.history import HistoryRow
from projections.storage.common import create_index, create_table, drop_index, drop_table
from projections.tables.rows import Row
from projections.tables.tables import COMMON, Tables

TABLES: Final = Tables(7, ROW_TYPES)
DIALECTS: Final[dict[str, Dialect]] = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(),  # type: ignore[no-untyped-call]
    "mysql": mysql.dialect(),
    "mariadb": MariaDBDialect(),
}
EVERY_TABLE: Final = [*TABLES.metadata.sorted_tables, *COMMON.sorted_tables]


@pytest.mark.parametrize("kind", ROW_TYPES, ids=lambda kind: kind.table)
def test_a_row_has_the_columns_of_its_table_in_their_order(kind: type[Row]) -> None:
    table = TABLES.of[kind]
    assert [column.name for column in table.c] == ["partition", *kind.__struct_fields__]
    assert [column.name for column in table.primary_key] == ["partition", *kind.__struct_fields__[: kind.key_length]]


@pytest.mark.parametrize("kind", ROW_TYPES, ids=lambda kind: kind.table)
def test_a_member_may_be_none_where_its_column_may_be_null(kind: type[Row]) -> None:
    annotations = get_type_hints(kind)
    for name in kind.__struct_fields__:
        may_be_none = type(None) in get_args(annotations[name])
        assert TABLES.of[kind].c[name].nullable == may_be_none, name


def test_every_row_type_has_a_table_named_after_it_and_its_generation() -> None:
    assert [TABLES.of[kind].name for kind in ROW_TYPES] == [f"{kind.table}_g7" for kind in ROW_TYPES]
    assert len(TABLES.metadata.tables) == len(ROW_TYPES)
    assert {*BY_USER, *BY_PARTITION} == set(ROW_TYPES)


@pytest.mark.parametrize("table", EVERY_TABLE, ids=lambda table: table.name)
def test_no_row_is_written_by_two_partitions(table: Table) -> None:
    """Keys begin with the partition, behind the generation where tables are shared by all."""
    if table.name != "generation":
        key = [column.name for column in table.primary_key]
        assert key[0] == "partition" or key[:2] == ["generation", "partition"]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("table", EVERY_TABLE, ids=lambda table: table.name)
def test_every_table_can_be_made_on_every_database(table: Table, dialect: Dialect) -> None:
    made = create_table(table, dialect)
    assert made.strip().startswith(f"CREATE TABLE IF NOT EXISTS {table.name} ")
    assert "PRIMARY KEY" in made
    assert "AUTO_INCREMENT" not in made
    assert "SERIAL" not in made
    for index in table.indexes:
        assert create_index(index, dialect)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("table", EVERY_TABLE, ids=lambda table: table.name)
def test_texts_compare_byte_for_byte(table: Table, dialect: Dialect) -> None:
    """SQLite's own collation is BINARY; the others have to be told, column by column. ``utf8mb4_bin`` would not do:
    it compares as if the shorter text were padded with spaces."""
    told = {"sqlite": None, "postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}[
        dialect.name
    ]
    for column in texts(table):
        kind = column.type.dialect_impl(dialect)
        assert isinstance(kind, String)
        assert kind.collation == told, column
        written = column.type.compile(dialect)
        assert (told is None) == ("COLLATE" not in written), written


def texts(table: Table) -> list[Column[str]]:
    return [column for column in table.c if isinstance(column.type, String)]


@pytest.mark.parametrize("table", EVERY_TABLE, ids=lambda table: table.name)
def test_a_key_fits_into_the_index_of_a_database_that_counts_its_bytes(table: Table) -> None:
    """MySQL: 3,072 bytes, four for a code point; a TEXT cannot be in a key at all."""
    keys: list[list[Column[Any]]] = [
        list(table.primary_key.columns),
        *(list(index.columns) for index in table.indexes),
    ]
    for columns in keys:
        assert not any(isinstance(column.type, Text) for column in columns)
        lengths = [column.type.length or 0 for column in columns if isinstance(column.type, String)]
        assert sum(4 * length + 2 for length in lengths) + 8 * len(columns) <= 3_072


@pytest.mark.parametrize("table", EVERY_TABLE, ids=lambda table: table.name)
def test_an_integer_that_counts_money_time_or_events_has_64_bits(table: Table) -> None:
    small = {column.name for column in table.c if type(column.type) is Integer}
    assert small <= {
        *("partition", "generation", "fold_version", "level", "differences"),
        *("hour", "day", "week", "month", "first_day"),  # counted since 1970
        "closed",  # 0 or 1
    }


def test_every_event_type_fits_into_its_column() -> None:
    kind: Any = TABLES[HistoryRow].c.type.type
    assert max(len(data.type) for data in DATA_TYPES) <= kind.length


def test_indexes_are_named_after_their_generation() -> None:
    assert all(str(index.name).endswith("_g7") for index in TABLES.indexes)


def test_tables_can_be_dropped_twice() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in EVERY_TABLE:
            connection.execute(create_table(table, DIALECTS["sqlite"]))
        for index in TABLES.indexes:
            connection.execute(create_index(index, DIALECTS["sqlite"]))
        for _ in range(2):
            for index in TABLES.indexes:
                connection.execute(drop_index(index, DIALECTS["sqlite"]))
            for table in EVERY_TABLE:
                connection.execute(drop_table(table, DIALECTS["sqlite"]))
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
