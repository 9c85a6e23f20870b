"""``Database`` on MySQL or MariaDB, with the driver asyncmy.

Texts have a binary collation that does not pad. MySQL and MariaDB have different names for it, so the server is asked
which of the two it is. Rows are written by statements of many rows, on MariaDB in its bulk protocol. History is one
table: InnoDB stores a user's lines together, in the order of its primary key; partitions would separate them.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlsplit
from weakref import WeakSet

from asyncmy import create_pool, errors
from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import FOUND_ROWS
from asyncmy.cursors import Cursor, SSCursor
from asyncmy.pool import Pool as Connections
from sqlalchemy import Table, bindparam, select, tuple_
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.engine import Dialect

from ledger import background
from projections.storage.common import Statement, create_index, create_table, drop_table, ready
from projections.storage.database import Conflict, TableGone, within
from projections.storage.port import UNDER_WAY, Pool, ReadModelUnavailable, RebuildUnderWay, address_of, with_address
from projections.tables.queries import Rows
from projections.tables.rows import Key
from projections.tables.tables import Tables

CONNECTIONS: Final = 8
"""Connections in the pool of a process. Chosen: as for PostgreSQL."""
_WAIT_S: Final = 3.0
"""Time-out for getting a connection: after it the read fails."""
_CLEAR_WITHIN_S: Final = 0.1
"""Chosen: a caller whose time is up is not delayed by more."""
_LOOK_S: Final = 30.0
"""Time-out for all statements of a read. Chosen: far above the slowest read, below a proxy's time-out."""
SILENT_READ_S: Final = 20.0
SILENT_WRITE_S: Final = 60.0
SILENT_SCAN_S: Final = 600.0
"""How long the server may send nothing in response to a statement: of a read; of a write; of one that reads whole
tables. After that the connection counts as dead. Chosen: as for PostgreSQL."""
IDLE_WRITE_S: Final = 30
"""How long MariaDB keeps a transaction that has written and gets no statement. Without a limit the server keeps the
locks of a transaction whose connection is dead until it notices, by ``wait_timeout`` after 8 hours. MySQL has no such
limit. Chosen: a transaction sends all its statements within milliseconds."""
_ALONE_S: Final = 60
"""Time-out for waiting until another process has made its tables."""
_PUT_AT_ONCE: Final = 1_000
_PUT_TEXT: Final = 1_000_000
"""Code points in one statement, so at most 4 MB. A server with default settings accepts 16 MB, an old one 4 MB."""
_LOADED_AT_ONCE: Final = (500, 25, 1)
"""Numbers of keys in one statement: few different numbers, so that few statements are prepared. Measured: MariaDB
looks up a list of at most 1,000 keys one by one; a longer list becomes a join."""
_STATEMENTS_KEPT: Final = 256
_CONFLICTS: Final = ("1213", "1205", "1020")
_NO_TABLE: Final = 1146
_CHANGED_TABLE: Final = 1412
"""Error: the table was made after the snapshot that reads it."""

_MARIADB: Final = MariaDBDialect(paramstyle="format")
_MYSQL: Final = mysql.base.MySQLDialect(paramstyle="format")
# Strict: a value that is too long is refused, not cut off. No notes: DROP TABLE IF EXISTS would warn about each
# missing table. DDL waits at most 5 s for readers of its table, because later readers of the table queue behind it.
_SETTINGS: Final = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION sql_notes = 0, "
    "SESSION lock_wait_timeout = 5"
)
_ISOLATION: Final = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
# The collation of the columns. With another one the planner does not treat a column as constant although the
# statement gives its value: it reads all lines of the user and sorts them by that column.
_NAMES: Final = {
    "mariadb": "SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin",
    "mysql": "SET NAMES utf8mb4 COLLATE utf8mb4_0900_bin",
}
_WRITE: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
_HAS_INDEX: Final = "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND index_name = %s"
_LOCK: Final = "SELECT GET_LOCK(MD5(CONCAT('stakelog ', DATABASE())), %s)"
_LOCK_REBUILD: Final = "SELECT GET_LOCK(MD5(CONCAT('stakelog rebuild ', DATABASE())), 0)"
_UNLOCK_REBUILD: Final = "SELECT RELEASE_LOCK(MD5(CONCAT('stakelog rebuild ', DATABASE())))"
_UNLOCK: Final = "SELECT RELEASE_LOCK(MD5(CONCAT('stakelog ', DATABASE())))"


@lru_cache(maxsize=64)
def _put_for(table: Table) -> str:
    added = mysql.insert(table)
    keys = {column.name for column in table.primary_key}
    rest = {column.name: added.inserted[column.name] for column in table.c if column.name not in keys}
    return ready(added.on_duplicate_key_update(rest), _MARIADB).text


@lru_cache(maxsize=256)
def _load_for(table: Table, key_length: int, number: int) -> str:
    """Rows by their keys, as a list of ``number`` rows of values."""
    members = [column for column in table.c if column.name != "partition"]
    keys = members[:key_length]
    wanted: list[Any] = [
        [bindparam(f"k{row}_{place}", type_=key.type) for place, key in enumerate(keys)] for row in range(number)
    ]
    here = table.c.partition == bindparam("of_partition")
    if key_length == 1:
        listed = keys[0].in_([one for (one,) in wanted])
    else:
        listed = tuple_(*keys).in_([tuple_(*one) for one in wanted])
    return ready(select(*members).where(here, listed), _MARIADB).text


class MySqlSession:
    """``Session`` on a connection."""

    def __init__(self, connection: Connection, dialect: Dialect, silent_max_s: float | None) -> None:
        self._connection, self._dialect, self._silent_max_s = connection, dialect, silent_max_s

    async def rows(self, statement: Statement, values: Sequence[Any] = ()) -> Rows:
        return await self.run(statement.text, values)

    async def change(self, statement: Statement, values: Iterable[Sequence[Any]]) -> int:
        many = [tuple(one) for one in values]
        if not many:
            return 0
        async with _time_limited(self._silent_max_s):
            cursor = self._connection.cursor()
            await cursor.executemany(statement.text, many)
            return cast("int", cursor.rowcount)

    async def put(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        cursor = self._connection.cursor()
        for some in _parts(rows):
            async with _time_limited(self._silent_max_s):
                await cursor.executemany(_put_for(table), some)

    async def stream(self, statement: Statement, values: Sequence[Any], at_once: int) -> AsyncGenerator[Rows, None]:
        cursor = self._connection.cursor(SSCursor)
        async with _time_limited(self._silent_max_s):
            await cursor.execute(statement.text, tuple(values))
        while page := await self._fetched(cursor, at_once):
            yield page
        async with _time_limited(self._silent_max_s):
            await cursor.close()

    @asynccontextmanager
    async def transaction(self, begin: str) -> AsyncIterator[None]:
        """Commit at the end. After an exception the caller closes the connection, which ends the transaction."""
        await self.run(begin)
        yield
        await self.run("COMMIT")

    async def run(self, text: str, values: Sequence[Any] = ()) -> Rows:
        return await _rows(self._connection, text, values, self._silent_max_s)

    async def make_table(self, table: Table) -> None:
        await self.run(create_table(table, self._dialect))

    async def make_indexes(self, tables: Tables) -> None:
        for index in tables.indexes:
            if not await self.run(_HAS_INDEX, [index.name]):
                await self.run(create_index(index, self._dialect))
        # Without ANALYZE the server collects its statistics some seconds later; until then queries would use no
        # index.
        quote = self._dialect.identifier_preparer.quote
        names = ", ".join(quote(table.name) for table in tables.metadata.sorted_tables)
        await self.run(f"ANALYZE TABLE {names}")

    async def drop_table(self, table: Table) -> None:
        await self.run(drop_table(table, self._dialect))

    async def _fetched(self, cursor: Cursor, number: int) -> Rows:
        async with _time_limited(self._silent_max_s):
            return list(await cursor.fetchmany(number))


class MySqlDatabase:
    """``Database`` on a MySQL or MariaDB server."""

    conflicts: Sequence[str] = _CONFLICTS

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        """``url``: mysql://user:password@host:port/database, with ?ssl_ca=<file> for TLS.

        User and password are percent-encoded UTF-8. Nothing is opened yet.
        """
        self._url, self._connections = url, connections
        self._address = address_of(url)
        self._pool: Connections | None = None
        self._dialect: Dialect = _MYSQL
        self._set_up: WeakSet[Connection] = WeakSet()
        self._opening = asyncio.Lock()
        self._closed = False

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def pool(self) -> Pool:
        if self._pool is None:
            return Pool(0, 0, self._connections)
        return Pool(self._pool.size, self._pool.size - self._pool.freesize, self._connections)

    async def opened(self) -> None:
        await self._opened()

    async def _opened(self) -> Connections:
        async with self._opening:
            assert not self._closed, "the database is closed"
            if self._pool is None:
                with with_address(self._address), _translated():
                    pool = await create_pool(minsize=0, maxsize=self._connections, **_arguments(self._url))
                    async with asyncio.timeout(_WAIT_S), pool.acquire() as connection:
                        self._dialect = _MARIADB if "MariaDB" in connection.get_server_info() else _MYSQL
                self._pool = pool
        return self._pool

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """A connection. After an error the connection is not used again."""
        pool = await self._opened()
        with with_address(self._address):
            with _translated():
                async with asyncio.timeout(_WAIT_S):
                    connection = await pool.acquire()
            try:
                if connection not in self._set_up:
                    await _rows(connection, _NAMES[self._dialect.name])
                    await _rows(connection, _ISOLATION)
                    self._set_up.add(connection)
                yield connection
            except (ReadModelUnavailable, asyncio.CancelledError):
                # The server went away, or the way to it, or the caller's time is up: the other connections are
                # probably dead too. The pool is locked while another caller connects: then it is cleared later.
                connection.close()
                await asyncio.wait({background.start(pool.clear(), "pool-clear")}, timeout=_CLEAR_WITHIN_S)
                raise
            except BaseException:
                connection.close()
                raise
            finally:
                pool.release(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[MySqlSession]:
        async with self._connected() as connection:
            session = MySqlSession(connection, self._dialect, SILENT_WRITE_S)
            await session.run(_WRITE)
            async with session.transaction("START TRANSACTION"):
                yield session

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[MySqlSession]:
        async with self._connected() as connection:
            # Without a limit: it waits for its turn, and then makes indexes of any size.
            if await _rows(connection, _LOCK, [_ALONE_S], None) != [(1,)]:
                raise ReadModelUnavailable("another process has been making or dropping tables for a minute")
            yield MySqlSession(connection, self._dialect, None)
            await _rows(connection, _UNLOCK)

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[None]:
        async with self._connected() as connection:
            if await _rows(connection, _LOCK_REBUILD) != [(1,)]:
                raise RebuildUnderWay(UNDER_WAY)
            yield
            await _rows(connection, _UNLOCK_REBUILD)  # after an error the connection is closed, which unlocks, too

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[MySqlSession]:
        async with self._looking(SILENT_SCAN_S) as session:
            yield session

    @asynccontextmanager
    async def _looking(self, silent_max_s: float) -> AsyncIterator[MySqlSession]:
        async with self._connected() as connection:
            session = MySqlSession(connection, self._dialect, silent_max_s)
            async with session.transaction("START TRANSACTION READ ONLY"):
                yield session

    async def look(self, statements: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        with with_address(self._address):
            async with within(_LOOK_S):
                if len(statements) == 1:  # one statement has one snapshot anyway
                    ((statement, values),) = statements
                    async with self._connected() as connection:
                        return [await _rows(connection, statement.text, values, SILENT_READ_S)]
                async with self._looking(SILENT_READ_S) as session:
                    return [await session.rows(statement, values) for statement, values in statements]

    async def load(self, table: Table, key_length: int, partition: int, keys: Sequence[Key]) -> Rows:
        found: Rows = []
        start = 0
        async with self._connected() as connection:
            while start < len(keys):
                number = next(number for number in _LOADED_AT_ONCE if number <= len(keys) - start)
                values = [value for key in keys[start : start + number] for value in key]
                found += await _rows(connection, _load_for(table, key_length, number), [partition, *values])
                start += number
        return found

    async def make_room(self, generation: int, times_us: Mapping[Table, Iterable[int]]) -> None:
        """Nothing to do: no table is split."""

    def forget_room(self, generation: int) -> None:
        """Nothing to forget: no table is split."""

    async def close(self) -> None:
        self._closed = True
        if self._pool is not None:
            self._pool.close()
            await self._pool.wait_closed()
            self._pool = None


def _arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    found: dict[str, Any] = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        # Bytes: asyncmy encodes a str as Latin-1, but the server stores the hash of the UTF-8 bytes.
        "password": unquote_to_bytes(parts.password or ""),
        "database": unquote(parts.path.lstrip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": 3,
        "init_command": f"{_SETTINGS} /*M! , SESSION idle_write_transaction_timeout = {IDLE_WRITE_S:d} */",
        # An UPDATE returns how many rows its WHERE matched, not how many it changed.
        "client_flag": FOUND_ROWS,
        "stmt_cache_size": _STATEMENTS_KEPT,
        "program_name": "stakelog",
    }
    for authority in parse_qs(parts.query).get("ssl_ca", ()):
        found["ssl"] = ssl.create_default_context(cafile=authority)
    return found


async def _rows(
    connection: Connection,
    text: str,
    values: Sequence[Any] = (),
    silent_max_s: float | None = SILENT_WRITE_S,
) -> Rows:
    async with _time_limited(silent_max_s):
        cursor = connection.cursor()
        await cursor.execute(text, tuple(values) if values else None)
        rows: Rows = [] if cursor.description is None else list(await cursor.fetchall())
    if rows and any(isinstance(value, Decimal) for value in rows[0]):  # SUM() of integers
        return [tuple(int(value) if isinstance(value, Decimal) else value for value in row) for row in rows]
    return rows


@asynccontextmanager
async def _time_limited(silent_max_s: float | None) -> AsyncIterator[None]:
    """Around one call of the driver: its errors are the port's, and it has a time limit."""
    with _translated():
        try:
            async with asyncio.timeout(silent_max_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise ReadModelUnavailable(f"the database did not respond within {silent_max_s:.0f} s") from None


def _parts(rows: Sequence[Sequence[Any]]) -> Iterator[list[tuple[Any, ...]]]:
    """Divide rows into as few statements as possible, each small enough for every server."""
    part: list[tuple[Any, ...]] = []
    text = 0
    for row in rows:
        size = sum(len(value) for value in row if isinstance(value, str | bytes))
        if part and (len(part) == _PUT_AT_ONCE or text + size > _PUT_TEXT):
            yield part
            part, text = [], 0
        part.append(tuple(row))
        text += size
    if part:
        yield part


@contextmanager
def _translated() -> Iterator[None]:
    """Translate asyncmy's errors into the port's. Use it only around calls of the driver: other errors are defects of
    this program."""
    try:
        yield
    except errors.MySQLError as error:
        number, words = error.args[0] if error.args else 0, str(error.args[-1]) if error.args else "no message"
        if number in (_NO_TABLE, _CHANGED_TABLE):
            raise TableGone(words) from error
        if str(number) in _CONFLICTS:
            raise Conflict(str(number)) from error
        raise ReadModelUnavailable(f"the database cannot be used: {words}") from error
    except TimeoutError as error:
        raise ReadModelUnavailable("the database gives no connection: see that it runs and can be reached") from error
    except (OSError, EOFError) as error:
        raise ReadModelUnavailable(f"the database cannot be used: {error or 'the connection was closed'}") from error
