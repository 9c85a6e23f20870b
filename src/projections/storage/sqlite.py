"""The embedded read model: one SQLite file beside the log, written by the follower, read by everybody.

``synchronous=NORMAL``: after a power cut the last runs may be missing, never half there, and the log tells the rest.
Writers (the follower, a rebuild's workers, the background check) take turns by a lock on a file of its own: SQLite's
own busy handler sleeps for up to 100 ms at a time, the kernel wakes the next one at once.

Somebody may delete the file, or put another in its place, under those who have it open. Truths:
(1) a store writes nothing unless its file is the one at the path, which it looks at in its turn: ``Switched``, with
    what is there now opened, or made anew;
(2) whoever reads looks once a second, and opens what is there now; while nothing is, it says so;
(3) whoever may not make the file, the check, never does: an empty one would pass for a read model.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, insert, select, tuple_, update
from sqlalchemy import column as named_column
from sqlalchemy import table as named_table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from ledger.core.record import EMPTY, Head
from ledger.sqlite.wal import limit_wal, shrink_wal
from projections.models import MODELS
from projections.storage.common import Statement, create_index, create_table, drop_index, drop_table, ready
from projections.storage.port import (
    EVERYBODY,
    Checkpoint,
    Difference,
    Differs,
    Generation,
    Held,
    LastRuns,
    OutOfStep,
    Overtaken,
    Proved,
    Quarantined,
    ReadModelUnavailable,
    Run,
    Switched,
    Users,
)
from projections.tables.model import Models
from projections.tables.queries import Builder, Query, Rows
from projections.tables.rows import Key, Row, is_of_user
from projections.tables.tables import (
    CHECKPOINT,
    COMMON,
    DIFFERENCE,
    GENERATION,
    PROOF,
    QUARANTINE,
    QUARANTINED_EVENT,
    SQLITE_FORMAT,
    Tables,
)

_DIALECT: Final = sqlite.dialect()
_SCANNED_AT_ONCE: Final = 5_000
_BUSY_S: Final = 10.0
_DROPPED_AT_ONCE: Final = 10_000
"""Rows. Chosen: some 20 ms."""
_LET_OTHERS_S: Final = 0.005
"""Between two steps of long work: the lock does not queue, so whoever takes it again at once starves the others."""
_READERS: Final = 2
"""Threads for the reads that take longer. Chosen: as many as small machines have cores."""
_LOOK_S: Final = 1.0
"""How often a connection that reads looks whether its file is still the one at the path. Chosen: a look is 2 µs."""

_Identity = tuple[int, int]
"""Device and inode. While anybody has a file open, no other one can have its inode."""


def _ready(clause: ClauseElement) -> Statement:
    return ready(clause, _DIALECT)


_GENERATIONS: Final = _ready(
    select(GENERATION.c.generation, GENERATION.c.fold_version, GENERATION.c.status, GENERATION.c.made_at_us).order_by(
        GENERATION.c.generation
    )
)
_STATUS: Final = _ready(select(GENERATION.c.status).where(GENERATION.c.generation == bindparam("number")))
_SET_STATUS: Final = _ready(
    update(GENERATION).where(GENERATION.c.generation == bindparam("number")).values(status=bindparam("new_status"))
)
_ADD_GENERATION: Final = _ready(insert(GENERATION))
_CHECKPOINTS: Final = _ready(
    select(CHECKPOINT.c.partition, CHECKPOINT.c.seq, CHECKPOINT.c.head, CHECKPOINT.c.digests)
    .where(CHECKPOINT.c.generation == bindparam("number"))
    .order_by(CHECKPOINT.c.partition)
)
_CHECKPOINT_OF: Final = _ready(
    select(CHECKPOINT.c.seq, CHECKPOINT.c.head, CHECKPOINT.c.digests).where(
        CHECKPOINT.c.generation == bindparam("number"), CHECKPOINT.c.partition == bindparam("of_partition")
    )
)
_ADD_CHECKPOINT: Final = _ready(insert(CHECKPOINT))
_ADVANCE: Final = _ready(
    update(CHECKPOINT)
    .where(
        CHECKPOINT.c.generation == bindparam("number"),
        CHECKPOINT.c.partition == bindparam("of_partition"),
        CHECKPOINT.c.seq == bindparam("old_seq"),
        CHECKPOINT.c.head == bindparam("old_head"),
        CHECKPOINT.c.digests == bindparam("old_digests"),
    )
    .values(seq=bindparam("new_seq"), head=bindparam("new_head"), digests=bindparam("new_digests"))
)
_QUARANTINE: Final = _ready(
    select(
        QUARANTINE.c.partition, QUARANTINE.c.user_id, QUARANTINE.c.seq, QUARANTINE.c.time_us, QUARANTINE.c.reason
    ).where(QUARANTINE.c.generation == bindparam("number"))
)
_PUT_QUARANTINE: Final = _ready(sqlite.insert(QUARANTINE).prefix_with("OR REPLACE"))
_FREE: Final = _ready(
    delete(QUARANTINE).where(
        QUARANTINE.c.generation == bindparam("number"),
        QUARANTINE.c.partition == bindparam("of_partition"),
        QUARANTINE.c.user_id == bindparam("user"),
    )
)
_HOLD: Final = _ready(insert(QUARANTINED_EVENT))
_RELEASE: Final = _ready(
    delete(QUARANTINED_EVENT).where(
        QUARANTINED_EVENT.c.generation == bindparam("number"),
        QUARANTINED_EVENT.c.partition == bindparam("of_partition"),
        QUARANTINED_EVENT.c.user_id == bindparam("user"),
        QUARANTINED_EVENT.c.seq == bindparam("at_seq"),
    )
)
_HELD: Final = _ready(
    select(QUARANTINED_EVENT.c.user_id, QUARANTINED_EVENT.c.seq, QUARANTINED_EVENT.c.record)
    .where(
        QUARANTINED_EVENT.c.generation == bindparam("number"),
        QUARANTINED_EVENT.c.partition == bindparam("of_partition"),
        QUARANTINED_EVENT.c.user_id == bindparam("user"),
    )
    .order_by(QUARANTINED_EVENT.c.seq)
    .limit(bindparam("most"))
)
_SCHEMA = named_table("sqlite_master", named_column("type"), named_column("name"))
_HAS_TABLE: Final = _ready(
    select(_SCHEMA.c.name).where(_SCHEMA.c.type == "table", _SCHEMA.c.name == bindparam("wanted"))
)
_PUT_PROOF: Final = _ready(sqlite.insert(PROOF).prefix_with("OR REPLACE"))
_CLEAR_DIFFERENCES: Final = _ready(
    delete(DIFFERENCE).where(
        DIFFERENCE.c.generation == bindparam("number"), DIFFERENCE.c.partition == bindparam("of_partition")
    )
)
_PUT_DIFFERENCE: Final = _ready(sqlite.insert(DIFFERENCE).prefix_with("OR REPLACE"))
_PROVED: Final = _ready(
    select(PROOF.c.partition, PROOF.c.seq, PROOF.c.checked_at_us, PROOF.c.differences)
    .where(PROOF.c.generation == bindparam("number"))
    .order_by(PROOF.c.partition)
)
_DIFFERENCES: Final = _ready(
    select(*(column for column in DIFFERENCE.c if column.name not in ("generation", "found_at_us")))
    .where(DIFFERENCE.c.generation == bindparam("number"))
    .order_by(*DIFFERENCE.primary_key)
    .limit(bindparam("most"))
)
_DROPPED_FIRST: Final = tuple(
    _ready(delete(table).where(table.c.generation == bindparam("number")))
    for table in (CHECKPOINT, QUARANTINE, QUARANTINED_EVENT, PROOF, DIFFERENCE)
)
_DROP_GENERATION: Final = _ready(delete(GENERATION).where(GENERATION.c.generation == bindparam("number")))


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
            here = select(*members).where(table.c.partition == bindparam("of_partition"))
            scanned = here
            if is_of_user(kind):
                scanned = here.where(members[0] >= bindparam("first"), members[0] < bindparam("last"))
            self.scan[kind] = _ready(scanned.order_by(*members[: kind.key_length])).text
            for column in members[: kind.key_length]:
                here = here.where(column == bindparam(f"of_{column.name}"))
            self.get[kind] = _ready(here).text


@lru_cache(maxsize=4)
def _ready_for(generation: int, row_types: tuple[type[Row], ...]) -> _Ready:
    """Kept beyond one store: to compile them takes 50 ms. Four: the live generation, its successor, and a margin."""
    return _Ready(generation, row_types)


class SqliteReadModelStore:
    """``ReadModelStore`` in one file."""

    def __init__(self, path: Path, *, make: bool = True, models: Models = MODELS) -> None:
        """Open or create; one of another format is made anew. Unless ``make``: open what others have made.

        Raises ReadModelUnavailable.
        """
        self._path, self._make, self._row_types = path, make, models.row_types
        self._lock_path = path.with_name(path.name + ".lock")
        self._turn: int | None = None
        try:
            if not make and _identity_at(path) is None:
                raise _gone(path)
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

    def _open(self) -> tuple[sqlite3.Connection, _Identity | None]:
        """In turn, so that nobody else makes it meanwhile. Raises OSError, sqlite3.Error, ReadModelUnavailable."""
        # Looked at before it is opened: where it is exchanged in between, the next look finds another and opens that.
        file = _identity_at(self._path)
        if file is None and not self._make:
            raise _gone(self._path)
        connection = self._connect()
        if connection.execute("PRAGMA user_version").fetchone()[0] != SQLITE_FORMAT:
            connection.close()
            if not self._make:
                raise ReadModelUnavailable(f"{self._path} has no tables of this program's format: {_HOW_TO_MAKE}")
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._path.touch()
            file = _identity_at(self._path)
            connection = self._connect()
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            for table in COMMON.sorted_tables:
                connection.execute(create_table(table, _DIALECT))
            connection.execute(f"PRAGMA user_version={SQLITE_FORMAT}")
            connection.execute("COMMIT")
        return connection, file

    def _connect(self) -> sqlite3.Connection:
        uri = _uri(self._path, "rwc" if self._make else "rw")
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S, cached_statements=256)
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
            while _identity(os.fstat(self._turn)) != _identity_at(self._lock_path):
                # Deleted: whoever comes now takes turns by another file.
                another = self._open_turn()
                os.close(self._turn)
                self._turn = another
                fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            raise self._unavailable(error) from error

    def _look(self) -> None:
        """Raises Switched where another file than ours is at the path, or none; it is opened, or made, then."""
        if not self._is_at_the_path():
            with self._in_turn():
                self._keep_to_the_path()

    def _is_at_the_path(self) -> bool:
        # A file that was gone before it could be looked at is None, as is one that is not there: not the same.
        return self._file is not None and self._file == _identity_at(self._path)

    def _keep_to_the_path(self) -> None:
        """``_look``, in turn."""
        if self._is_at_the_path():
            return
        try:
            another = self._open()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error
        # SQLite sees that the file has moved, and leaves the -wal and the -shm at the path to the one that is there.
        self._connection.close()
        self._connection, self._file = another
        raise Switched(f"the read model {self._path} was deleted or exchanged: another file is there now")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed, or rolled back with whatever was raised."""
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
        return _unavailable(self._path, error)

    def _rows(self, statement: Statement, **given: Any) -> list[Any]:
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
        return [Generation(*row) for row in self._rows(_GENERATIONS)]

    async def make_generation(self, version: int, partitions: int, *, live: bool) -> Generation:
        with self._transaction() as connection:
            there = connection.execute(_GENERATIONS.text).fetchall()
            if live and any(status == "live" for _, _, status, _ in there):
                raise Switched("another process has made a live generation meanwhile")
            number, status = max((row[0] for row in there), default=0) + 1, "live" if live else "building"
            made = Generation(number, version, status, time_ns() // 1_000)
            connection.execute(_ADD_GENERATION.text, (made.number, version, made.status, made.made_at_us))
            connection.executemany(
                _ADD_CHECKPOINT.text,
                [(made.number, partition, EMPTY.seq, EMPTY.sha256, "{}") for partition in range(partitions)],
            )
            tables = self._of(made.number).tables
            for table in tables.metadata.sorted_tables:
                connection.execute(create_table(table, _DIALECT))
            if live:
                self._make_indexes(connection, tables)
        return made

    async def make_indexes(self, generation: int) -> None:
        # One transaction an index: each holds the writers' lock while it is made.
        for index in self._of(generation).tables.indexes:
            with self._transaction() as connection:
                connection.execute(create_index(index, _DIALECT))
            await asyncio.sleep(_LET_OTHERS_S)

    def _make_indexes(self, connection: sqlite3.Connection, tables: Tables) -> None:
        for index in tables.indexes:
            connection.execute(create_index(index, _DIALECT))

    async def drop_generation(self, generation: int) -> None:
        # Its checkpoints go first, so that nobody looks for tables that are gone; what names it goes last, so that
        # whoever finds it half dropped drops it again.
        with self._transaction() as connection:
            self._refuse_live(connection, generation)
            for statement in _DROPPED_FIRST:
                connection.execute(statement.text, (generation,))
        tables = self._of(generation).tables
        for index in tables.indexes:
            await self._drop_piece(drop_index(index, _DIALECT))
        for table in tables.metadata.sorted_tables:
            if not self._rows(_HAS_TABLE, wanted=table.name):
                continue
            # A table is dropped page by page under the writers' lock, however large it is; so it is emptied first.
            keys = list(table.primary_key)
            some = select(*keys).order_by(*keys).limit(_DROPPED_AT_ONCE)
            emptying = _ready(delete(table).where(tuple_(*keys).in_(some)))
            while await self._drop_piece(emptying.text, emptying.values({})) == _DROPPED_AT_ONCE:
                pass
            await self._drop_piece(drop_table(table, _DIALECT))
        with self._transaction() as connection:
            connection.execute(_DROP_GENERATION.text, (generation,))

    async def _drop_piece(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._transaction() as connection:
            dropped = connection.execute(sql, values).rowcount
        await asyncio.sleep(_LET_OTHERS_S)
        return dropped

    def _refuse_live(self, connection: sqlite3.Connection, generation: int) -> None:
        status = connection.execute(_STATUS.text, (generation,)).fetchone()
        if status is not None and status[0] == "live":
            raise OutOfStep(f"generation {generation} is live")

    async def checkpoints(self, generation: int) -> list[Checkpoint]:
        rows = self._rows(_CHECKPOINTS, number=generation)
        return [_checkpoint(seq, head, digests) for _, seq, head, digests in rows]

    async def switch(self, old: int, new: int, *, accept: bool, last: LastRuns | None = None) -> None:
        with self._transaction() as connection:
            statuses = {number: status for number, _, status, _ in connection.execute(_GENERATIONS.text)}
            if statuses.get(old) != "live":
                raise Switched(f"generation {old} is not the live one any more")
            if statuses.get(new) != "building":
                raise OutOfStep(f"generation {new} is not being built")
            theirs = connection.execute(_CHECKPOINTS.text, (old,)).fetchall()
            if last is not None:
                live = [_checkpoint(seq, head, digests) for _, seq, head, digests in theirs]
                self._write(connection, new, await last(live))
            ours = connection.execute(_CHECKPOINTS.text, (new,)).fetchall()
            if len(ours) != len(theirs):
                raise OutOfStep(f"generations {old} and {new} are of different logs")
            for (partition, seq, head, digests), (_, old_seq, old_head, old_digests) in zip(
                ours, theirs, strict=True
            ):
                if (seq, head) != (old_seq, old_head):
                    raise OutOfStep(f"partition {partition}: generation {new} is at {seq}, {old} at {old_seq}")
                if not accept and _checkpoint(seq, head, digests) != _checkpoint(old_seq, old_head, old_digests):
                    raise Differs(f"partition {partition}: the rows of generations {old} and {new} differ")
            connection.execute(_SET_STATUS.text, _SET_STATUS.values({"number": old, "new_status": "retired"}))
            connection.execute(_SET_STATUS.text, _SET_STATUS.values({"number": new, "new_status": "live"}))

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
            status = connection.execute(_STATUS.text, (generation,)).fetchone()
            if status is None or status[0] != ("building" if building else "live"):
                raise Switched(f"generation {generation} is {'gone' if status is None else status[0]}")
            self._write(connection, generation, runs)

    def _write(self, connection: sqlite3.Connection, generation: int, runs: Sequence[Run]) -> None:
        put = self._of(generation).put
        for run in runs:
            self._advance(connection, generation, run)
        for run in runs:
            for kind, rows in run.rows:
                partition = run.partition
                values = [(partition, *msgspec.structs.astuple(row)) for row in rows]
                connection.executemany(put[kind], values)
            self._keep_quarantine(connection, generation, run)

    def _advance(self, connection: sqlite3.Connection, generation: int, run: Run) -> None:
        values = _ADVANCE.values(
            {
                "number": generation,
                "of_partition": run.partition,
                "old_seq": run.before.head.seq,
                "old_head": run.before.head.sha256,
                "old_digests": _digests_text(run.before),
                "new_seq": run.after.head.seq,
                "new_head": run.after.head.sha256,
                "new_digests": _digests_text(run.after),
            }
        )
        if connection.execute(_ADVANCE.text, values).rowcount != 1:
            where = f"partition {run.partition} of generation {generation}"
            raise Overtaken(f"{where} is not at seq {run.before.head.seq}, or its rows are others")

    def _keep_quarantine(self, connection: sqlite3.Connection, generation: int, run: Run) -> None:
        here = (generation, run.partition)
        connection.executemany(_HOLD.text, [(*here, *held) for held in run.held])
        connection.executemany(_RELEASE.text, [(*here, held.user_id, held.seq) for held in run.released])
        connection.executemany(_FREE.text, [(*here, user_id) for user_id in run.free])
        connection.executemany(
            _PUT_QUARANTINE.text, [(*here, one.user_id, one.seq, one.time_us, one.reason) for one in run.quarantined]
        )

    async def quarantine(self, generation: int) -> list[Quarantined]:
        return [Quarantined(*row) for row in self._rows(_QUARANTINE, number=generation)]

    async def held(self, generation: int, partition: int, user_id: str, limit: int) -> list[Held]:
        rows = self._rows(_HELD, number=generation, of_partition=partition, user=user_id, most=limit)
        return [Held(*row) for row in rows]

    # --- checking ------------------------------------------------------------------------------------------------

    async def scan(
        self, generation: int, partition: int, kinds: Sequence[type[Row]] | None = None, users: Users = EVERYBODY
    ) -> AsyncGenerator[tuple[Checkpoint, type[Row], Sequence[Row]], None]:
        scan = self._of(generation).scan
        wanted = self._row_types if kinds is None else kinds
        if _identity_at(self._path) is None:
            raise _gone(self._path)
        try:
            # Not to be made here: an empty file in place of a deleted one would pass for a read model.
            uri = _uri(self._path, "rw")
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
            try:
                connection.execute("BEGIN")  # one moment for all tables; ended in seconds, so the WAL can be reset
                at = connection.execute(_CHECKPOINT_OF.text, (generation, partition)).fetchone()
                if at is None:
                    raise Switched(f"generation {generation} is gone")
                checkpoint = _checkpoint(*at)
                for kind in wanted:
                    here = (partition, *users) if is_of_user(kind) else (partition,)
                    rows = connection.execute(scan[kind], here)
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
            if connection.execute(_STATUS.text, (generation,)).fetchone() is None:
                raise Switched(f"generation {generation} is gone")
            connection.execute(_PUT_PROOF.text, (generation, partition, seq, now_us, len(found)))
            connection.execute(_CLEAR_DIFFERENCES.text, (generation, partition))
            connection.executemany(
                _PUT_DIFFERENCE.text,
                [(generation, *msgspec.structs.astuple(one), now_us) for one in found],
            )

    async def proved(self, generation: int) -> list[Proved]:
        return [Proved(*row) for row in self._rows(_PROVED, number=generation)]

    async def differences(self, generation: int, limit: int) -> list[Difference]:
        return [Difference(*row) for row in self._rows(_DIFFERENCES, number=generation, most=limit)]

    async def close(self) -> None:
        if self._is_at_the_path():
            shrink_wal(self._connection, self._path)
        self._connection.close()
        self._close_turn()

    def _close_turn(self) -> None:
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None


def _unavailable(path: Path, error: Exception) -> ReadModelUnavailable:
    return ReadModelUnavailable(
        f"the read model {path} cannot be used: {error}. It is made of the log: free the disk or mend its rights; if "
        "it is damaged, delete it, its -wal and its -shm, and start again"
    )


_HOW_TO_MAKE: Final = (
    "the follower of a running service makes it of the log within seconds; where none runs, `stakelog project "
    "rebuild` does"
)


def _gone(path: Path) -> ReadModelUnavailable:
    return ReadModelUnavailable(f"there is no read model at {path}: {_HOW_TO_MAKE}")


def _identity_at(path: Path) -> _Identity | None:
    """None where there is no file, or none that can be looked at."""
    try:
        return _identity(path.stat())
    except OSError:
        return None


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


def _checkpoint(seq: int, head: str, digests: str) -> Checkpoint:
    """Raises ReadModelUnavailable where somebody wrote other digests than we do."""
    try:
        texts = msgspec.json.decode(digests, type=dict[str, str])
        return Checkpoint(Head(seq, head), {table: int(text, 16) for table, text in texts.items()})
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReadModelUnavailable(
            f"a checkpoint of the read model is damaged, at seq {seq}: {error}. The read model is made of the log: "
            "rebuild it with stakelog project rebuild, or delete it and start again"
        ) from error


def _digests_text(checkpoint: Checkpoint) -> str:
    texts = {table: f"{digest:032x}" for table, digest in checkpoint.digests.items()}
    return msgspec.json.encode(texts, order="sorted").decode()


_LIVE: Final = _ready(select(GENERATION.c.generation).where(GENERATION.c.status == "live"))


class SqliteReadModel:
    """``ReadModel`` over the file that a ``SqliteReadModelStore`` made: read-only, beside its writers.

    Quick reads are looked up in the caller's thread (10–30 µs from the page cache; a thread costs more than that),
    the others in threads with a connection each, so that a long one does not hold up commands.
    """

    def __init__(self, path: Path, *, models: Models = MODELS) -> None:
        self._path, self._row_types = path, models.row_types
        self._inline = _Reader(path)
        self._statements: dict[tuple[int, Builder, frozenset[str]], Statement] = {}
        self._own = threading.local()
        self._opened: list[_Reader] = [self._inline]
        self._tables: dict[int, Tables] = {}
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="stakelog-read")

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        if quick:
            return self._fetch(self._inline, queries)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch_here, queries)

    def _fetch_here(self, queries: Sequence[Query]) -> list[Rows]:
        reader: _Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = _Reader(self._path)
            self._opened.append(reader)
        return self._fetch(reader, queries)

    def _fetch(self, reader: "_Reader", queries: Sequence[Query]) -> list[Rows]:
        execute = reader.current().execute
        try:
            execute("BEGIN")  # deferred: the first look fixes the moment for all of them
            try:
                live = execute(_LIVE.text, _LIVE.values({})).fetchone()
                if live is None:
                    raise ReadModelUnavailable(f"{self._path} has no live generation yet: its follower is starting")
                generation: int = live[0]
                found = []
                for query in queries:
                    statement = self._statement(generation, query)
                    values = statement.values({"generation": generation, **query.values})
                    found.append(execute(statement.text, values).fetchall())
                return found
            finally:
                execute("COMMIT")
        except sqlite3.Error as error:
            raise _unavailable(self._path, error) from error

    def _statement(self, generation: int, query: Query) -> Statement:
        name = (generation, query.builder, query.conditions)
        statement = self._statements.get(name)
        if statement is None:
            tables = self._tables.get(generation)
            if tables is None:
                tables = self._tables[generation] = Tables(generation, self._row_types)
            statement = self._statements[name] = _ready(query.builder(tables, query.conditions))
        return statement

    async def close(self) -> None:
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """``close``, for who has no event loop."""
        self._threads.shutdown()
        for reader in self._opened:
            reader.close()


class _Reader:
    """One connection that reads the file at the path, also where that becomes another one. Not for two at once."""

    def __init__(self, path: Path) -> None:
        """Raises ReadModelUnavailable."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: _Identity | None = None
        self._look_at_s = 0.0
        self.current()

    def current(self) -> sqlite3.Connection:
        """To the file that is there, or was a second ago. Raises ReadModelUnavailable where there is none."""
        if self._connection is None or monotonic() >= self._look_at_s:
            file = _identity_at(self._path)  # before it is opened: exchanged in between, it is opened once more
            if file is None:
                raise _gone(self._path)
            if self._connection is None or file != self._file:
                self.close()
                self._connection, self._file = self._connect(), file
            self._look_at_s = monotonic() + _LOOK_S
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                _uri(self._path, "ro"),
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_S,
                cached_statements=256,
            )
            connection.execute("PRAGMA cache_size=-8192")
        except sqlite3.Error as error:
            raise _unavailable(self._path, error) from error
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
