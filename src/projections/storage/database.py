"""What the read model needs of a database server: a pool of connections, and sessions that run statements.

``postgresql`` and ``mysql`` implement it; ``tests/conformance/test_databases.py`` tests both.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import Table
from sqlalchemy.engine import Dialect

from projections.storage.common import Statement
from projections.storage.port import Pool
from projections.tables.queries import Rows
from projections.tables.rows import Key
from projections.tables.tables import Tables


class Conflict(Exception):
    """The database gave the transaction up for another one's sake: nothing was written, trying again may do."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class TableGone(Exception):
    """A statement names a table that is not there."""


class Session(Protocol):
    """One connection. Statements raise ReadModelUnavailable, Conflict, TableGone."""

    async def rows(self, statement: Statement, values: Sequence[Any] = ()) -> Rows: ...

    async def change(self, statement: Statement, values: Iterable[Sequence[Any]]) -> int:
        """Run the statement for each of ``values``; answers how many rows its WHERE found in all."""
        ...

    async def put(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, sorted by their keys, in place of what those keys have."""
        ...

    def stream(self, statement: Statement, values: Sequence[Any], at_once: int) -> AsyncGenerator[Rows, None]:
        """The rows of a statement, page by page, none of them kept."""
        ...

    async def make_table(self, table: Table) -> None: ...

    async def make_indexes(self, tables: Tables) -> None: ...

    async def drop_table(self, table: Table) -> None: ...


class Database(Protocol):
    """One bounded pool of connections to one server, opened by its first use.

    Everything raises ReadModelUnavailable where the server does not answer.
    """

    @property
    def dialect(self) -> Dialect:
        """Known once the server was asked: ``opened``."""
        ...

    @property
    def pool(self) -> Pool: ...

    @property
    def conflicts(self) -> Sequence[str]:
        """The server's codes for deadlocks, lock time-outs and failures to serialise."""
        ...

    async def opened(self) -> None:
        """Connect where that was not done yet, and learn which dialect is spoken."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Session]:
        """One READ COMMITTED transaction, committed, or rolled back with whatever was raised."""
        ...

    def alone(self) -> AbstractAsyncContextManager[Session]:
        """For those who make and drop tables: one at a time, in a transaction if the server has it for tables."""
        ...

    def rebuilding(self) -> AbstractAsyncContextManager[None]:
        """For those who rebuild: one at a time, whatever machine they are on. Raises RebuildUnderWay.

        The server lets go of it when the connection ends, however its process died.
        """
        ...

    def looking(self) -> AbstractAsyncContextManager[Session]:
        """One READ ONLY transaction of one moment."""
        ...

    async def look(self, asked: Sequence[tuple[Statement, Sequence[Any]]]) -> list[Rows]:
        """The rows of each, all of one moment, in as few round trips as the server can."""
        ...

    async def load(self, table: Table, key_length: int, partition: int, keys: Sequence[Key]) -> Rows:
        """Those of the partition's rows that there are, without their partition."""
        ...

    async def make_room(self, generation: int, times_us: Mapping[Table, Iterable[int]]) -> None:
        """Prepare tables that the database splits by month for rows of these times."""
        ...

    def forget_room(self, generation: int) -> None:
        """Forget for which months there is room: it may be gone."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...
