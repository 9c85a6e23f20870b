"""The store of the embedded read model: one SQLite file in the folder of the log.

``synchronous=NORMAL``: a power cut may lose the last runs, each as a whole; they are folded from the log again.
Writers (the follower, a rebuild's workers, the background check) take turns with a lock on a separate file: SQLite's
busy handler sleeps for up to 100 ms at a time, while the kernel wakes the next writer at once.

The file may be deleted or replaced while processes have it open. Invariants:
(1) a store writes only to the file that is at the path, which it checks under the writers' lock. If it is another
    file, the store opens it, or makes a new one, and raises ``Switched``;
(2) a reader checks the path once a second (``sqlite_reader``);
(3) a store with ``make=False`` (the background check) never makes the file: an empty one would look like a read model
    without events.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from time import time_ns
from typing import Any, Final

from msgspec.structs import astuple
from sqlalchemy import bindparam, delete, select, tuple_
from sqlalchemy import column as named_column
from sqlalchemy import table as named_table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from ledger.core.record import EMPTY
from ledger.sqlite.wal import limit_wal, shrink_wal
from projections.models import MODELS
from projections.storage.common import Statement, create_index, create_table, drop_index, drop_table, ready
from projections.storage.port import (
    ALL_USERS,
    Checked,
    Checkpoint,
    Difference,
    Generation,
    LastRuns,
    OutOfStep,
    Overtaken,
    Quarantined,
    QuarantinedEvent,
    ReadModelUnavailable,
    Run,
    Switched,
    Users,
)
from projections.storage.sqlite_file import (
    BUSY_S,
    HOW_TO_MAKE,
    Identity,
    gone,
    identity,
    identity_at,
    unavailable,
    uri,
)
from projections.storage.statements import (
    ADD_CHECKPOINT,
    ADD_EVENT,
    ADD_GENERATION,
    ADVANCE,
    CHECKED,
    CHECKPOINT_OF,
    CHECKPOINTS,
    CLEAR_DIFFERENCES,
    DELETE_EVENT,
    DELETE_GENERATION,
    DIFFERENCES,
    END_QUARANTINE,
    EVENTS,
    GENERATION_TABLES,
    GENERATIONS,
    QUARANTINED,
    SET_STATUS,
    STATUS,
    Compiled,
    advance_values,
    checkpoint_of,
    refuse_switch,
    scan,
)
from projections.tables.model import Models
from projections.tables.rows import Key, Row, is_of_user
from projections.tables.tables import (
    COMMON,
    DIFFERENCE,
    GENERATION,
    LAST_CHECK,
    QUARANTINE,
    SQLITE_FORMAT,
    Tables,
)

DIALECT: Final = sqlite.dialect()
_SCANNED_AT_ONCE: Final = 5_000
_DROPPED_AT_ONCE: Final = 10_000
"""Rows. Chosen: some 20 ms."""
_LET_OTHERS_S: Final = 0.005
"""Pause between two steps of long work. The lock has no queue: without a pause, other writers would starve."""


def _ready(clause: ClauseElement) -> Statement:
    return ready(clause, DIALECT)


_COMPILED: Final = Compiled(DIALECT)
_SCHEMA = named_table("sqlite_master", named_column("type"), named_column("name"))
_HAS_TABLE: Final = select(_SCHEMA.c.name).where(_SCHEMA.c.type == "table", _SCHEMA.c.name == bindparam("wanted"))
_PUT_QUARANTINE: Final = sqlite.insert(QUARANTINE).prefix_with("OR REPLACE")
_PUT_CHECKED: Final = sqlite.insert(LAST_CHECK).prefix_with("OR REPLACE")
_PUT_DIFFERENCE: Final = sqlite.insert(DIFFERENCE).prefix_with("OR REPLACE")


def _text(clause: ClauseElement) -> str:
    return _COMPILED[clause].text


class _Ready:
    """The statements of one generation's tables."""

    def __init__(self, number: int, row_types: tuple[type[Row], ...]) -> None:
        self.tables = Tables(number, row_types)
        self.put: dict[type[Row], str] = {}
        self.get: dict[type[Row], str] = {}
        self.scan: dict[type[Row], str] = {}
        for kind, table in self.tables.of.items():
            added = sqlite.insert(table)
            keys = [column.name for column in table.primary_key]
            rest = {column.name: added.excluded[column.name] for column in table.c if column.name not in keys}
            self.put[kind] = _ready(added.on_conflict_do_update(index_elements=keys, set_=rest)).text
            members = [column for column in table.c if column.name != "partition"]
            self.scan[kind] = _ready(scan(table, kind)).text
            here = select(*members).where(table.c.partition == bindparam("of_partition"))
            for column in members[: kind.key_length]:
                here = here.where(column == bindparam(f"of_{column.name}"))
            self.get[kind] = _ready(here).text


@lru_cache(maxsize=4)
def _ready_for(generation: int, row_types: tuple[type[Row], ...]) -> _Ready:
    """Cached for all stores: compiling takes 50 ms. Four entries: the live generation, its successor, and a
    margin."""
    return _Ready(generation, row_types)


class SqliteReadModelStore:
    """``ReadModelStore`` in one file."""

    def __init__(self, path: Path, *, make: bool = True, models: Models = MODELS) -> None:
        """Open or create the file; a file of another format is replaced. ``make=False``: open an existing file only.

        Raises ReadModelUnavailable.
        """
        self._path, self._make, self._row_types = path, make, models.row_types
        self._lock_path = path.with_name(path.name + ".lock")
        self._turn: int | None = None
        try:
            if not make and identity_at(path) is None:
                raise gone(path)
            self._turn = self._open_turn()
            with self._in_turn():
                self._connection, self._file = self._open()
        except ReadModelUnavailable:
            self._close_turn()
            raise
        except (OSError, sqlite3.Error) as error:
            self._close_turn()
            raise self._unavailable(error) from error

    def _open_turn(self) -> int:
        return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _open(self) -> tuple[sqlite3.Connection, Identity | None]:
        """Call under the lock, so that no other process makes the file. Raises OSError, sqlite3.Error,
        ReadModelUnavailable."""
        # Checked before it is opened: if it is replaced after this check, the next check finds the other file.
        file = identity_at(self._path)
        if file is None and not self._make:
            raise gone(self._path)
        connection = self._connect()
        if connection.execute("PRAGMA user_version").fetchone()[0] != SQLITE_FORMAT:
            connection.close()
            if not self._make:
                raise ReadModelUnavailable(f"{self._path} has no tables of this program's format: {HOW_TO_MAKE}")
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._path.touch()
            file = identity_at(self._path)
            connection = self._connect()
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            for table in COMMON.sorted_tables:
                connection.execute(create_table(table, DIALECT))
            connection.execute(f"PRAGMA user_version={SQLITE_FORMAT}")
            connection.execute("COMMIT")
        return connection, file

    def _connect(self) -> sqlite3.Connection:
        location = uri(self._path, "rwc" if self._make else "rw")
        connection = sqlite3.connect(location, uri=True, isolation_level=None, timeout=BUSY_S, cached_statements=256)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-24576")
        connection.execute("PRAGMA temp_store=MEMORY")
        limit_wal(connection)
        return connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        self._take_turn()
        assert self._turn is not None
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _take_turn(self) -> None:
        assert self._turn is not None, "the store is closed"
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            while identity(os.fstat(self._turn)) != identity_at(self._lock_path):
                # The lock file was deleted: other processes lock a new one.
                another = self._open_turn()
                os.close(self._turn)
                self._turn = another
                fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            raise self._unavailable(error) from error

    def _look(self) -> None:
        """If the file at the path is another one or is missing, open or make it, and raise Switched."""
        if not self._is_at_the_path():
            with self._in_turn():
                self._keep_to_the_path()

    def _is_at_the_path(self) -> bool:
        # ``_file`` is None if the file was deleted before it could be checked. A missing file is None too: not the
        # same.
        return self._file is not None and self._file == identity_at(self._path)

    def _keep_to_the_path(self) -> None:
        """``_look``, under the writers' lock."""
        if self._is_at_the_path():
            return
        try:
            another = self._open()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error
        # SQLite notices that its file has moved, and leaves the -wal and the -shm at the path alone.
        self._connection.close()
        self._connection, self._file = another
        raise Switched(f"the read model {self._path} was deleted or replaced by another file")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, rolled back if an exception is raised."""
        with self._in_turn():
            self._keep_to_the_path()
            connection = self._connection
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ReadModelUnavailable:
        return unavailable(self._path, error)

    def _rows(self, clause: ClauseElement, **given: Any) -> list[Any]:
        statement = _COMPILED[clause]
        try:
            return self._connection.execute(statement.text, statement.values(given)).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _of(self, generation: int) -> _Ready:
        return _ready_for(generation, self._row_types)

    # --- generations ---------------------------------------------------------------------------------------------

    async def generations(self) -> list[Generation]:
        self._look()
        shrink_wal(self._connection, self._path)  # a follower calls this while it has nothing to fold
        return self._generations()

    def _generations(self) -> list[Generation]:
        return [Generation(*row) for row in self._rows(GENERATIONS)]

    async def make_generation(self, version: int, partitions: int, *, live: bool) -> Generation:
        with self._transaction() as connection:
            there = connection.execute(_text(GENERATIONS)).fetchall()
            if live and any(status == "live" for _, _, status, _ in there):
                raise Switched("another process has just made a live generation")
            number, status = max((row[0] for row in there), default=0) + 1, "live" if live else "building"
            made = Generation(number, version, status, time_ns() // 1_000)
            connection.execute(_text(ADD_GENERATION), (made.number, version, made.status, made.made_at_us))
            connection.executemany(
                _text(ADD_CHECKPOINT),
                [(made.number, partition, EMPTY.seq, EMPTY.sha256, "{}") for partition in range(partitions)],
            )
            tables = self._of(made.number).tables
            for table in tables.metadata.sorted_tables:
                connection.execute(create_table(table, DIALECT))
            if live:
                self._make_indexes(connection, tables)
        return made

    async def make_indexes(self, generation: int) -> None:
        # One transaction for each index: a transaction keeps the writers' lock until its end.
        for index in self._of(generation).tables.indexes:
            with self._transaction() as connection:
                connection.execute(create_index(index, DIALECT))
            await asyncio.sleep(_LET_OTHERS_S)

    def _make_indexes(self, connection: sqlite3.Connection, tables: Tables) -> None:
        for index in tables.indexes:
            connection.execute(create_index(index, DIALECT))

    async def drop_generation(self, generation: int) -> None:
        # Its checkpoints are deleted first, so that no process looks for dropped tables; its row in
        # ``generation`` last, so that after a crash the next call finds it and continues.
        with self._transaction() as connection:
            self._refuse_live(connection, generation)
            for table in GENERATION_TABLES[:-1]:
                connection.execute(_text(DELETE_GENERATION[table]), (generation,))
        tables = self._of(generation).tables
        for index in tables.indexes:
            await self._drop_piece(drop_index(index, DIALECT))
        for table in tables.metadata.sorted_tables:
            if not self._rows(_HAS_TABLE, wanted=table.name):
                continue
            # DROP TABLE keeps the writers' lock for the time of all pages of the table. So the table is emptied
            # first.
            keys = list(table.primary_key)
            some = select(*keys).order_by(*keys).limit(_DROPPED_AT_ONCE)
            emptying = _ready(delete(table).where(tuple_(*keys).in_(some)))
            while await self._drop_piece(emptying.text, emptying.values({})) == _DROPPED_AT_ONCE:
                pass
            await self._drop_piece(drop_table(table, DIALECT))
        with self._transaction() as connection:
            connection.execute(_text(DELETE_GENERATION[GENERATION]), (generation,))

    async def _drop_piece(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._transaction() as connection:
            dropped = connection.execute(sql, values).rowcount
        await asyncio.sleep(_LET_OTHERS_S)
        return dropped

    def _refuse_live(self, connection: sqlite3.Connection, generation: int) -> None:
        status = connection.execute(_text(STATUS), (generation,)).fetchone()
        if status is not None and status[0] == "live":
            raise OutOfStep(f"generation {generation} is live")

    async def checkpoints(self, generation: int) -> list[Checkpoint]:
        rows = self._rows(CHECKPOINTS, number=generation)
        return [checkpoint_of(seq, head, digests) for _, seq, head, digests in rows]

    async def switch(self, old: int, new: int, *, accept: bool, last: LastRuns | None = None) -> None:
        with self._transaction() as connection:
            statuses = {number: status for number, _, status, _ in connection.execute(_text(GENERATIONS))}
            if statuses.get(old) != "live":
                raise Switched(f"generation {old} is not the live one any more")
            if statuses.get(new) != "building":
                raise OutOfStep(f"generation {new} is not being built")
            at_old = self._checkpoints(connection, old)
            if last is not None:
                self._write(connection, new, await last(at_old))
            refuse_switch(old, new, at_old, self._checkpoints(connection, new), accept=accept)
            for number, old_status, new_status in ((old, "live", "retired"), (new, "building", "live")):
                flip = {"number": number, "old_status": old_status, "new_status": new_status}
                connection.execute(_text(SET_STATUS), _COMPILED[SET_STATUS].values(flip))

    def _checkpoints(self, connection: sqlite3.Connection, generation: int) -> list[Checkpoint]:
        rows = connection.execute(_text(CHECKPOINTS), (generation,))
        return [checkpoint_of(seq, head, digests) for _, seq, head, digests in rows]

    # --- folding -------------------------------------------------------------------------------------------------

    async def load(
        self, generation: int, partition: int, wanted: Mapping[type[Row], Collection[Key]]
    ) -> dict[type[Row], list[Row]]:
        get = self._of(generation).get
        found: dict[type[Row], list[Row]] = {}
        try:
            execute = self._connection.execute
            for kind, keys in wanted.items():
                rows = (execute(get[kind], (partition, *key)).fetchone() for key in keys)
                found[kind] = [kind(*row) for row in rows if row is not None]
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return found

    async def commit(self, generation: int, runs: Sequence[Run], *, building: bool = False) -> None:
        with self._transaction() as connection:
            status = connection.execute(_text(STATUS), (generation,)).fetchone()
            if status is None or status[0] != ("building" if building else "live"):
                raise Switched(f"generation {generation} is {'gone' if status is None else status[0]}")
            self._write(connection, generation, runs)

    def _write(self, connection: sqlite3.Connection, generation: int, runs: Sequence[Run]) -> None:
        put = self._of(generation).put
        for run in runs:
            self._advance(connection, generation, run)
        changed: dict[type[Row], list[tuple[Any, ...]]] = {}
        for run in runs:
            partition = run.partition
            for kind, rows in run.rows:
                changed.setdefault(kind, []).extend((partition, *astuple(row)) for row in rows)
        for kind, values in changed.items():  # of all runs together: a call costs as much as a row
            connection.executemany(put[kind], values)
        for run in runs:
            self._keep_quarantine(connection, generation, run)

    def _advance(self, connection: sqlite3.Connection, generation: int, run: Run) -> None:
        values = _COMPILED[ADVANCE].values(advance_values(generation, run))
        if connection.execute(_text(ADVANCE), values).rowcount != 1:
            where = f"partition {run.partition} of generation {generation}"
            raise Overtaken(f"{where} is not at seq {run.before.head.seq}, or has other rows")

    def _keep_quarantine(self, connection: sqlite3.Connection, generation: int, run: Run) -> None:
        if not (run.quarantined_events or run.released or run.free or run.quarantined):
            return
        here = (generation, run.partition)
        connection.executemany(_text(ADD_EVENT), [(*here, *event) for event in run.quarantined_events])
        connection.executemany(_text(DELETE_EVENT), [(*here, event.user_id, event.seq) for event in run.released])
        connection.executemany(_text(END_QUARANTINE), [(*here, user_id) for user_id in run.free])
        connection.executemany(
            _text(_PUT_QUARANTINE),
            [(*here, one.user_id, one.seq, one.time_us, one.reason) for one in run.quarantined],
        )

    async def quarantine(self, generation: int) -> list[Quarantined]:
        return [Quarantined(*row) for row in self._rows(QUARANTINED, number=generation)]

    async def quarantined_events(
        self, generation: int, partition: int, user_id: str, limit: int
    ) -> list[QuarantinedEvent]:
        rows = self._rows(EVENTS, number=generation, of_partition=partition, user=user_id, most=limit)
        return [QuarantinedEvent(*row) for row in rows]

    # --- checking ------------------------------------------------------------------------------------------------

    async def scan(
        self, generation: int, partition: int, kinds: Sequence[type[Row]] | None = None, users: Users = ALL_USERS
    ) -> AsyncGenerator[tuple[Checkpoint, type[Row], Sequence[Row]], None]:
        scans = self._of(generation).scan
        wanted = self._row_types if kinds is None else kinds
        if identity_at(self._path) is None:
            raise gone(self._path)
        try:
            # Never make the file: an empty one would look like a read model without events.
            location = uri(self._path, "rw")
            connection = sqlite3.connect(location, uri=True, isolation_level=None, timeout=BUSY_S)
            try:
                connection.execute("BEGIN")  # one moment for all tables; ended in seconds, so the WAL can be reset
                at = connection.execute(_text(CHECKPOINT_OF), (generation, partition)).fetchone()
                if at is None:
                    raise Switched(f"generation {generation} is gone")
                checkpoint = checkpoint_of(*at)
                for kind in wanted:
                    here = (partition, *users) if is_of_user(kind) else (partition,)
                    rows = connection.execute(scans[kind], here)
                    while page := [kind(*row) for row in islice(rows, _SCANNED_AT_ONCE)]:
                        yield checkpoint, kind, page
                yield checkpoint, wanted[-1], ()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    async def report(
        self, generation: int, partition: int, seq: int, now_us: int, found: Sequence[Difference]
    ) -> None:
        with self._transaction() as connection:
            if connection.execute(_text(STATUS), (generation,)).fetchone() is None:
                raise Switched(f"generation {generation} is gone")
            connection.execute(_text(_PUT_CHECKED), (generation, partition, seq, now_us, len(found)))
            connection.execute(_text(CLEAR_DIFFERENCES), (generation, partition))
            connection.executemany(
                _text(_PUT_DIFFERENCE),
                [(generation, *astuple(one), now_us) for one in found],
            )

    async def checked(self, generation: int) -> list[Checked]:
        return [Checked(*row) for row in self._rows(CHECKED, number=generation)]

    async def differences(self, generation: int, limit: int) -> list[Difference]:
        return [Difference(*row) for row in self._rows(DIFFERENCES, number=generation, most=limit)]

    async def close(self) -> None:
        if self._is_at_the_path():
            shrink_wal(self._connection, self._path)
        self._connection.close()
        self._close_turn()

    def _close_turn(self) -> None:
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None
