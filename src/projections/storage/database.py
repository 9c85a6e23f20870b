"""Port of a database server for the read model: a pool of connections, and sessions that run statements.

``postgresql`` and ``mysql`` implement it; ``tests/conformance/test_databases.py`` tests both.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from sqlalchemy import Table
from sqlalchemy.engine import Dialect

from projections.storage.common import Statement
from projections.storage.port import Pool, ReadModelUnavailable
from projections.tables.queries import Rows
from projections.tables.rows import Key
from projections.tables.tables import Tables


class Conflict(Exception):
    """The database rolled the transaction back: deadlock, lock time-out or serialization failure.

    Nothing was written; retry.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class TableGone(Exception):
    """A statement names a table that does not exist."""


class Session(Protocol):
    """One connection. Statements raise ReadModelUnavailable, Conflict, TableGone."""

    async def rows(self, statement: Statement, values: Sequence[Any] = ()) -> Rows: ...

    async def change(self, statement: Statement, values: Iterable[Sequence[Any]]) -> int:
        """Run the statement for each of ``values``; returns how many rows its WHERE matched in all."""
        ...

    async def put(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows, which are sorted by their keys, or replace the rows that have the same keys."""
        ...

    def stream(self, statement: Statement, values: Sequence[Any], at_once: int) -> AsyncGenerator[Rows, None]:
        """The rows of a statement, page by page, without keeping them in memory."""
        ...

    async def make_table(self, table: Table) -> None: ...

    async def make_indexes(self, tables: Tables) -> None: ...

    async def drop_table(self, table: Table) -> None: ...


class Database(Protocol):
    """One bounded pool of connections to one server, opened by its first use.

    Everything raises ReadModelUnavailable if the server does not respond.
    """

    @property
    def dialect(self) -> Dialect:
        """Known after ``opened``."""
        ...

    @property
    def pool(self) -> Pool: ...

    @property
    def conflicts(self) -> Sequence[str]:
        """The server's codes for deadlocks, lock time-outs and serialization failures."""
        ...

    async def opened(self) -> None:
        """Connect, if not connected yet, and find out the server's dialect."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Session]:
        """One READ COMMITTED transaction: committed at the end, rolled back if an exception is raised."""
        ...

    def alone(self) -> AbstractAsyncContextManager[Session]:
        """For making and dropping tables: one process at a time. In a transaction, if the server supports that for
        DDL."""
        ...

    def rebuilding(self) -> AbstractAsyncContextManager[None]:
        """For a rebuild: one process at a time, on any machine. Raises RebuildUnderWay.

        The server releases the lock when the connection ends, also after a kill.
        """
        ...

    def looking(self) -> AbstractAsyncContextManager[Session]:
        """One READ ONLY transaction on one snapshot."""
        ...

    async def look(self, statements: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        """The rows of each statement, all of one snapshot, in as few round trips as the server allows."""
        ...

    async def load(self, table: Table, key_length: int, partition: int, keys: Sequence[Key]) -> Rows:
        """The rows with these keys that exist, without the column of the partition."""
        ...

    async def make_room(self, generation: int, times_us: Mapping[Table, Iterable[int]]) -> None:
        """Prepare tables that the database splits by month for rows of these times."""
        ...

    def forget_room(self, generation: int) -> None:
        """Forget which months are prepared: their tables may be gone."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """A time limit of what a database does. Raises ReadModelUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ReadModelUnavailable(f"the database did not respond within {seconds:.0f} s") from None
