"""``Database`` on PostgreSQL, with the driver psycopg.

Texts have the collation ``C``, which compares bytes. History is partitioned by month. Lines come in the order of
time, so only the indexes of one month are written, even if the log is old, and a page of the newest lines reads only
the newest months. A month's table is made before its first line and then attached; for this, readers and writers of
rows do not wait.

With ``pgbouncer=1`` in the URL nothing outlives a transaction: a PgBouncer in transaction mode gives each of them
another connection to the server. So there are no prepared statements, and temporary tables are dropped at the end.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from logging import ERROR, getLogger
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from psycopg import AsyncConnection, Error, IsolationLevel, OperationalError, errors, sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text, and_, bindparam, cast, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from ledger import background
from projections.storage.common import Statement, create_index, create_table, drop_table, ready
from projections.storage.database import Conflict, TableGone, within
from projections.storage.port import UNDER_WAY, Pool, ReadModelUnavailable, RebuildUnderWay, address_of, with_address
from projections.tables.queries import Rows
from projections.tables.rows import Key
from projections.tables.tables import MONTH_OF, Tables

CONNECTIONS: Final = 8
"""Connections in the pool of a process. Chosen: more are no faster on a server with few cores, and a server allows
only about 100 in all."""
_WAIT_S: Final = 1.5
"""Time-out for getting a connection: after it the read fails. A connection that is opened too late serves the next
read."""
_LOOK_S: Final = 30.0
"""Time-out for all statements of a read. Chosen: far above the slowest read, below a proxy's time-out."""
SILENT_READ_S: Final = 20.0
SILENT_WRITE_S: Final = 60.0
SILENT_SCAN_S: Final = 600.0
"""How long the server may send nothing in response to a statement: of a read; of a write; of one that reads whole
tables. After that the connection counts as dead: a proxy or a firewall may drop what is sent without closing it.
Chosen: every read ends earlier; a commit may wait for a slow disk, or for the locks of another transaction."""
IDLE_WRITE_S: Final = 30
"""After this time without a statement a writing transaction is ended by the next one, if the way to the server was
lost in between. Else the server keeps the locks of a transaction whose connection is dead until it notices, after
hours. Chosen: a transaction sends all its statements within milliseconds."""
_COPIED_FROM: Final = 64
"""At this number of rows COPY is used. Chosen: COPY costs four round trips. Measured: for thousands of rows it uses a
fifth of the CPU time of one statement for each row."""
_LOADED_AT_ONCE: Final = 5_000
_CONFLICTS: Final = ("40P01", "40001", "55P03")
PGBOUNCER: Final = "pgbouncer"
"""The URL's parameter for a PgBouncer in transaction mode; 1 is its only value."""

_ALONE: Final = 0x57A4E106
_REBUILDING: Final = 0x57A4E107
"""Advisory locks: for making and dropping tables, and for a rebuild. Chosen: any two numbers."""

# Not ``idle_in_transaction_session_timeout``: after each executemany psycopg sends a Flush, which turns that off.
_FREE_LOCKS: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'stakelog'
        AND state = 'idle in transaction' AND backend_xid IS NOT NULL
        AND state_change < now() - make_interval(secs => %s)
"""

_DIALECT: Final[Dialect] = postgresql.base.PGDialect(paramstyle="format")  # type: ignore[no-untyped-call]


class _IntegerOfNumeric(Loader):
    """Decodes numeric as int: SUM over integers has the type numeric."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class _Put(NamedTuple):
    """How rows get into a table: one by one, or through a temporary table."""

    one: str
    incoming: str
    empty: sql.Composed
    copy: sql.Composed
    merge: str


@lru_cache(maxsize=64)
def _put_for(table: Table, on_commit: str) -> _Put:
    names = [column.name for column in table.c]
    incoming = Table(
        f"incoming_{table.name}",
        MetaData(),
        *(Column(column.name, column.type) for column in table.c),
        prefixes=["TEMPORARY"],
    )
    incoming.dialect_options["postgresql"]["on_commit"] = on_commit
    empty = sql.SQL("TRUNCATE {}").format(sql.Identifier(incoming.name))
    copy = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(incoming.name))
    one = _upsert(table, postgresql.insert(table))
    # Rows are read in the order in which they were copied, which is the order of keys: all processes lock in one
    # order.
    merge = _upsert(table, postgresql.insert(table).from_select(names, select(*incoming.c)))
    return _Put(one, create_table(incoming, _DIALECT), empty, copy, merge)


def _upsert(table: Table, added: postgresql.Insert) -> str:
    keys = [column.name for column in table.primary_key]
    rest = {column.name: added.excluded[column.name] for column in table.c if column.name not in keys}
    return ready(added.on_conflict_do_update(index_elements=keys, set_=rest), _DIALECT).text


@lru_cache(maxsize=64)
def _load_for(table: Table, key_length: int) -> str:
    """Selects rows by their keys, which are given as one array for each key column."""
    members = [column for column in table.c if column.name != "partition"]
    keys = members[:key_length]
    arrays = [cast(bindparam(f"all_{key.name}"), postgresql.ARRAY(_element(key))) for key in keys]
    wanted = func.unnest(*arrays).table_valued(*(key.name for key in keys)).render_derived(name="wanted")
    same = and_(*(key == wanted.c[key.name] for key in keys))
    here = (
        select(*members).select_from(table.join(wanted, same)).where(table.c.partition == bindparam("of_partition"))
    )
    statement = ready(here, _DIALECT)
    assert statement.names == (*(f"all_{key.name}" for key in keys), "of_partition")
    return statement.text


def _element(column: Column[Any]) -> Any:
    return Text() if isinstance(column.type, String) else BigInteger()


class _Connection(AsyncConnection[Any]):
    """Closed when the server is silent for too long. An asyncio time-out would not do: a cancelled statement of
    psycopg waits for its server."""

    silent_max_s: float | None = SILENT_WRITE_S

    async def wait(self, *args: Any, **options: Any) -> Any:
        if self.silent_max_s is None:
            return await super().wait(*args, **options)
        cut = asyncio.get_running_loop().call_later(self.silent_max_s, self._cut)
        try:
            return await super().wait(*args, **options)
        finally:
            cut.cancel()

    def _cut(self) -> None:
        with suppress(OSError, Error), socket.socket(fileno=os.dup(self.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)  # for libpq the server has closed the connection


class PostgreSqlSession:
    """``Session`` on a connection, which is in a transaction."""

    def __init__(self, connection: AsyncConnection[Any], on_commit: str) -> None:
        """``on_commit``: what happens to temporary tables, in SQL."""
        self._connection, self._on_commit = connection, on_commit
        self._filled: set[Table] = set()
        """Tables whose temporary table has rows of this transaction. PostgreSQL deletes these rows at its end."""

    async def rows(self, statement: Statement, values: Sequence[Any] = ()) -> Rows:
        cursor = await self._connection.execute(statement.text, values)
        return await cursor.fetchall()

    async def change(self, statement: Statement, values: Iterable[Sequence[Any]]) -> int:
        many = list(values)
        if not many:
            return 0
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement.text, many)
            return cursor.rowcount

    async def put(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        put = _put_for(table, self._on_commit)
        async with self._connection.cursor() as cursor:
            if len(rows) < _COPIED_FROM:
                await cursor.executemany(put.one, rows)
                return
            await cursor.execute(put.incoming)
            if table in self._filled:
                await cursor.execute(put.empty)
            self._filled.add(table)
            async with cursor.copy(put.copy) as copy:
                for row in rows:
                    await copy.write_row(row)
            await cursor.execute(put.merge)

    async def stream(self, statement: Statement, values: Sequence[Any], at_once: int) -> AsyncGenerator[Rows, None]:
        async with self._connection.cursor("stakelog_stream") as cursor:
            await cursor.execute(statement.text, values)
            while page := await cursor.fetchmany(at_once):
                yield page

    async def make_table(self, table: Table) -> None:
        if MONTH_OF in table.info:
            table.dialect_options["postgresql"]["partition_by"] = f"RANGE ({table.info[MONTH_OF]})"
        await self._connection.execute(create_table(table, _DIALECT))

    async def make_indexes(self, tables: Tables) -> None:
        for index in tables.indexes:
            await self._connection.execute(create_index(index, _DIALECT))
        # What was filled without its indexes is not known to the planner either, and the server's own rounds never
        # look at a partitioned table as a whole.
        for table in tables.metadata.sorted_tables:
            await self._connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.name)))

    async def drop_table(self, table: Table) -> None:
        await self._connection.execute(drop_table(table, _DIALECT))


class PostgreSqlDatabase:
    """``Database`` on a PostgreSQL server."""

    dialect: Dialect = _DIALECT
    conflicts: Sequence[str] = _CONFLICTS

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        """``url``: as libpq reads it, and with ``pgbouncer=1`` for a PgBouncer in transaction mode. Nothing is opened
        yet."""
        self._url, self._connections = _without(PGBOUNCER, url), connections
        self._through_pgbouncer = self._url != url
        self._on_commit = "DROP" if self._through_pgbouncer else "DELETE ROWS"
        self._address = address_of(url)
        self._pool: AsyncConnectionPool[_Connection] | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._lost_way = False
        """Whether a connection was lost since the last write: the server may keep the locks of its transaction."""
        self._looks: set[asyncio.Task[list[Rows]]] = set()
        self._months: dict[int, set[tuple[str, int]]] = {}
        """Generation → the (table, month) pairs that have a partition."""

    @property
    def pool(self) -> Pool:
        if self._pool is None:
            return Pool(0, 0, self._connections)
        found = self._pool.get_stats()
        size = found.get("pool_size", 0)
        return Pool(size, size - found.get("pool_available", 0), self._connections)

    async def opened(self) -> None:
        await self._opened()

    async def _opened(self) -> AsyncConnectionPool[_Connection]:
        async with self._opening:
            assert not self._closed, "the database is closed"
            if self._pool is None:
                pool = AsyncConnectionPool(
                    self._url,
                    min_size=1,
                    max_size=self._connections,
                    open=False,
                    timeout=_WAIT_S,
                    # Give up soon: then the next request for a connection makes the pool connect at once. The pool's
                    # own attempts have longer and longer pauses.
                    reconnect_timeout=1.0,
                    connection_class=_Connection,
                    kwargs={
                        "autocommit": True,
                        "application_name": "stakelog",
                        "connect_timeout": 3,
                        **({"prepare_threshold": None} if self._through_pgbouncer else {}),
                    },
                    configure=_configure,
                    name="stakelog",
                )
                getLogger("psycopg").setLevel(ERROR)  # its warnings repeat what callers raise
                await pool.open()
                self._pool = pool
        return self._pool

    @asynccontextmanager
    async def _connected(self, silent_max_s: float | None = SILENT_WRITE_S) -> AsyncIterator[_Connection]:
        pool = await self._opened()
        with with_address(self._address), _translated():
            async with pool.connection() as connection:
                connection.silent_max_s = silent_max_s
                try:
                    yield connection
                except OperationalError:
                    if connection.closed:
                        self._lost_way = True
                        # The server went away, or the way to it: the other connections are probably dead too. They
                        # are replaced without a check, which a dead one would never answer.
                        await pool.drain()
                    raise
                finally:
                    connection.silent_max_s = SILENT_WRITE_S

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[PostgreSqlSession]:
        level = IsolationLevel.READ_COMMITTED
        async with self._in_transaction(level, read_only=False, silent_max_s=SILENT_WRITE_S) as connection:
            if self._lost_way:
                await connection.execute(_FREE_LOCKS, [IDLE_WRITE_S])
                self._lost_way = False
            yield PostgreSqlSession(connection, self._on_commit)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[PostgreSqlSession]:
        async with self._alone() as connection:
            yield PostgreSqlSession(connection, self._on_commit)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[_Connection]:
        # Without a limit: it waits for its turn, and then makes indexes of any size.
        level = IsolationLevel.READ_COMMITTED
        async with self._in_transaction(level, read_only=False, silent_max_s=None) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ALONE])
            yield connection

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[None]:
        # The lock of a transaction, not of a session: it also works through a PgBouncer. The open transaction has no
        # snapshot and has written nothing, so it keeps no dead rows.
        level = IsolationLevel.READ_COMMITTED
        async with self._in_transaction(level, read_only=False, silent_max_s=SILENT_WRITE_S) as connection:
            cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_REBUILDING])
            if await cursor.fetchone() != (True,):
                raise RebuildUnderWay(UNDER_WAY)
            yield

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[PostgreSqlSession]:
        level = IsolationLevel.REPEATABLE_READ
        async with self._in_transaction(level, read_only=True, silent_max_s=SILENT_SCAN_S) as connection:
            yield PostgreSqlSession(connection, self._on_commit)

    @asynccontextmanager
    async def _in_transaction(
        self, isolation: IsolationLevel, *, read_only: bool, silent_max_s: float | None
    ) -> AsyncIterator[_Connection]:
        async with self._connected(silent_max_s) as connection:
            await connection.set_isolation_level(isolation)
            await connection.set_read_only(read_only)
            async with connection.transaction():
                yield connection

    async def look(self, statements: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        # A task of its own: a cancelled statement of psycopg waits up to 10 s for a server that does not respond.
        task = background.awaited(self._look_until_closed(statements), "look")
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)
        return await background.result_of(task)

    async def _look_until_closed(self, statements: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        try:
            return await self._look(statements)
        except ReadModelUnavailable:
            if self._closed:  # psycopg turns a cancellation into its own error
                raise asyncio.CancelledError from None
            raise

    async def _look(self, statements: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        with with_address(self._address):
            async with within(_LOOK_S), self._connected(SILENT_READ_S) as connection:
                await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(True)
                # One round trip: all statements are sent before the first response is read.
                async with connection.pipeline(), connection.transaction():
                    cursors = [await connection.execute(statement.text, values) for statement, values in statements]
                return [await cursor.fetchall() for cursor in cursors]

    async def load(self, table: Table, key_length: int, partition: int, keys: Sequence[Key]) -> Rows:
        found: Rows = []
        text = _load_for(table, key_length)
        async with self._connected() as connection:
            for start in range(0, len(keys), _LOADED_AT_ONCE):
                columns = [list(column) for column in zip(*keys[start : start + _LOADED_AT_ONCE], strict=True)]
                found += await (await connection.execute(text, [*columns, partition])).fetchall()
        return found

    # --- tables split by month -----------------------------------------------------------------------------------

    async def make_room(self, generation: int, times_us: Mapping[Table, Iterable[int]]) -> None:
        known = self._months.setdefault(generation, set())
        months = {(table.name, _month_of(time_us)) for table, times in times_us.items() for time_us in times}
        missing = sorted(months - known)
        if not missing:
            return
        async with self._alone() as connection:
            for table, month in missing:
                await _make_month(connection, table, month)
        known.update(missing)

    def forget_room(self, generation: int) -> None:
        self._months.pop(generation, None)

    async def close(self) -> None:
        self._closed = True
        for look in self._looks:  # their callers are gone
            look.cancel()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


async def _make_month(connection: AsyncConnection[Any], table: str, month: int) -> None:
    year, number = divmod(month, 12)
    name = f"{table}_{year}_{number + 1:02}"
    found = await connection.execute("SELECT to_regclass(%s)", [name])
    if await found.fetchone() != (None,):
        return
    names = {"month": sql.Identifier(name), "table": sql.Identifier(table)}
    await connection.execute(sql.SQL("CREATE TABLE {month} (LIKE {table} INCLUDING ALL)").format(**names))
    attach = sql.SQL("ALTER TABLE {table} ATTACH PARTITION {month} FOR VALUES FROM ({first}) TO ({end})")
    first, end = sql.Literal(_begin_us(month)), sql.Literal(_begin_us(month + 1))
    await connection.execute(attach.format(**names, first=first, end=end))


def _without(parameter: str, url: str) -> str:
    """The URL without this parameter: libpq refuses those that it does not know."""
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if pair.partition("=")[0] != parameter]
    return urlunsplit(parts._replace(query="&".join(kept)))


def _month_of(time_us: int) -> int:
    """Months since the year 0, UTC."""
    at = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return at.year * 12 + at.month - 1


def _begin_us(month: int) -> int:
    year, number = divmod(month, 12)
    return int(datetime(year, number + 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


async def _configure(connection: AsyncConnection[Any]) -> None:
    connection.adapters.register_loader("numeric", _IntegerOfNumeric)
    # psycopg would choose the smallest type for each value, and prepare the statement again for each choice.
    connection.adapters.register_dumper(int, Int8Dumper)


@contextmanager
def _translated() -> Iterator[None]:
    """Translate psycopg's errors into the port's."""
    try:
        yield
    except errors.UndefinedTable as error:
        raise TableGone(_words(error)) from error
    except Error as error:
        if (code := error.sqlstate or "") in _CONFLICTS:
            raise Conflict(code) from error
        if isinstance(error, PoolTimeout):
            raise ReadModelUnavailable(
                "the database gives no connection: see that it runs and can be reached"
            ) from error
        raise ReadModelUnavailable(f"the database cannot be used: {_words(error)}") from error


def _words(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
