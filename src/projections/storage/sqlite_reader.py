"""Reads the embedded read model from the file that ``SqliteReadModelStore`` writes.

The file may be deleted or replaced while connections have it open. A connection checks its path once a second and
opens the file that is there; without a file, reads raise ReadModelUnavailable.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Final

from sqlalchemy.dialects import sqlite

from projections.models import MODELS
from projections.storage.common import Statement, ready
from projections.storage.port import ReadModelUnavailable
from projections.storage.sqlite_file import BUSY_S, Identity, gone, identity_at, unavailable, uri
from projections.storage.statements import LIVE
from projections.tables.model import Models
from projections.tables.queries import Builder, Query, Rows
from projections.tables.rows import Row
from projections.tables.tables import Tables

_DIALECT: Final = sqlite.dialect()
_LIVE: Final = ready(LIVE, _DIALECT)
_READERS: Final = 2
"""Threads for the reads that take longer. Chosen: as many as small machines have cores."""
_LOOK_S: Final = 1.0
"""How often a connection checks that its file is still the file at the path. Chosen: a check takes 2 µs."""


@lru_cache(maxsize=4)
def _tables_for(generation: int, row_types: tuple[type[Row], ...]) -> Tables:
    """Four entries: the live generation, its successor, and a margin."""
    return Tables(generation, row_types)


@lru_cache(maxsize=1024)
def _ready_for(tables: Tables, builder: Builder, conditions: frozenset[str]) -> Statement:
    """Cached for all readers: compiling takes a millisecond, and an audit reads in many threads."""
    return ready(builder(tables, conditions), _DIALECT)


class SqliteReadModel:
    """``ReadModel`` over the file that a ``SqliteReadModelStore`` made. Read-only; other processes write at the same
    time.

    Quick reads run in the caller's thread (10–30 µs from the page cache; using another thread costs more). All others
    run in threads, each with its own connection, so that a long read does not delay commands.
    """

    def __init__(self, path: Path, *, models: Models = MODELS) -> None:
        self._prepare(path, models)
        self._inline = _Reader(path)
        self._own = threading.local()
        self._opened: list[_Reader] = [self._inline]
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="stakelog-read")

    def _prepare(self, path: Path, models: Models) -> None:
        """What ``_fetch`` needs."""
        self._path, self._row_types = path, models.row_types
        self._statements: dict[tuple[int, Builder, frozenset[str]], Statement] = {}
        self._tables: dict[int, Tables] = {}

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        if quick:
            return self._fetch(self._inline.current().execute, queries)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch_here, queries)

    def _fetch_here(self, queries: Sequence[Query]) -> list[Rows]:
        reader: _Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = _Reader(self._path)
            self._opened.append(reader)
        return self._fetch(reader.current().execute, queries)

    def _fetch(self, execute: Callable[..., sqlite3.Cursor], queries: Sequence[Query]) -> list[Rows]:
        live_now = _LIVE
        try:
            execute("BEGIN")  # deferred: the first statement fixes the snapshot for all of them
            try:
                live = execute(live_now.text, live_now.values({})).fetchone()
                if live is None:
                    raise ReadModelUnavailable(f"{self._path} has no live generation yet: its follower is starting")
                generation: int = live[0]
                tables = _tables_for(generation, self._row_types)
                found = []
                for query in queries:
                    statement = _ready_for(tables, query.builder, query.conditions)
                    values = statement.values({"generation": generation, **query.values})
                    found.append(execute(statement.text, values).fetchall())
                return found
            finally:
                execute("COMMIT")
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    async def close(self) -> None:
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """``close`` for a caller without an event loop."""
        self._threads.shutdown()
        for reader in self._opened:
            reader.close()


class _Reader:
    """One connection to the file at the path; opens the new file if it is replaced. Not safe for concurrent use."""

    def __init__(self, path: Path) -> None:
        """Raises ReadModelUnavailable."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: Identity | None = None
        self._look_at_s = 0.0
        self.current()

    def current(self) -> sqlite3.Connection:
        """The connection to the file that was at the path at most a second ago. Raises ReadModelUnavailable if there
        is no file."""
        if self._connection is None or monotonic() >= self._look_at_s:
            file = identity_at(self._path)  # before opening: if it is replaced after this, the next check opens it
            if file is None:
                raise gone(self._path)
            if self._connection is None or file != self._file:
                self.close()
                self._connection, self._file = self._connect(), file
            self._look_at_s = monotonic() + _LOOK_S
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                uri(self._path, "ro"),
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_S,
                cached_statements=256,
            )
            connection.execute("PRAGMA cache_size=-8192")
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
