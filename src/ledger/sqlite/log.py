"""The embedded event log: one SQLite file, every partition in one table, one thread that commits for all.

Durable means fsynced: WAL with ``synchronous=FULL``. Truths:
(1) an append lands whole or not at all, and only if the partition still ends where it says: each transaction checks
    the heads of its partitions after it has taken the write lock;
(2) appends that wait together, of whatever partitions, share one transaction, so one fsync. If one of them cannot
    land, it alone fails, and the others are tried again without it;
(3) nobody can change or remove a record through SQL: triggers refuse UPDATE and DELETE, and, because REPLACE
    walks past a DELETE trigger, a BEFORE INSERT trigger refuses an existing place, command or rowid;
(4) SQLITE_FULL is definite: the frames did not fit, so the commit frame is not in the WAL. Any other failure of a
    COMMIT is ambiguous, for a frame that was written may come back when the WAL is recovered: ``OutcomeUnknown``,
    and the log refuses to go on in this process. Only a start, which recovers the WAL first, can tell.
"""

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from ledger.core.money import Assets
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.operations.audit import Stored
from ledger.ports import (
    DuplicateCommand,
    LedgerError,
    LogDamaged,
    LogUnavailable,
    LogUnreadable,
    NewRecord,
    OutcomeUnknown,
    StaleHead,
    WrongAssets,
    WrongPartitions,
)

FORMAT: Final = "1"

_SCHEMA: Final = (
    """CREATE TABLE event(
        partition INTEGER NOT NULL, seq INTEGER NOT NULL, user_id TEXT NOT NULL, command_id TEXT NOT NULL,
        record BLOB NOT NULL, PRIMARY KEY (partition, seq), UNIQUE (user_id, command_id))""",
    """CREATE TRIGGER event_is_new BEFORE INSERT ON event
        WHEN EXISTS (SELECT 1 FROM event WHERE partition = NEW.partition AND seq = NEW.seq)
          OR EXISTS (SELECT 1 FROM event WHERE user_id = NEW.user_id AND command_id = NEW.command_id)
          OR EXISTS (SELECT 1 FROM event WHERE rowid = NEW.rowid)
        BEGIN SELECT RAISE(ABORT, 'an event is never replaced'); END""",
    """CREATE TRIGGER event_is_kept BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END""",
    """CREATE TRIGGER event_is_unchanged BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END""",
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_INSERT_META: Final = "INSERT INTO meta VALUES ('format', ?), ('partitions', ?)"
# CAST, because SQL may have made a record TEXT: that, too, has to reach whoever checks the chain as bytes.
_LAST: Final = "SELECT seq, CAST(record AS BLOB) FROM event WHERE partition = ? ORDER BY seq DESC LIMIT 1"
_READ: Final = "SELECT CAST(record AS BLOB) FROM event WHERE partition = ? AND seq >= ? ORDER BY seq LIMIT ?"

# One statement inserts many rows: each sqlite3 call gives the GIL away and has to win it back, which under load costs
# more than the row. Sizes are powers of two, so that few statements are compiled; 512 rows measured as fast as 4,096.
_CHUNKS: Final = tuple((1 << power) for power in range(9, -1, -1))
_INSERT: Final = {
    rows: "INSERT INTO event(partition, seq, user_id, command_id, record) VALUES "  # noqa: S608 only placeholders
    + ",".join(["(?,?,?,?,?)"] * rows)
    for rows in _CHUNKS
}
# Up to so many records are committed by one statement in autocommit: two hand-overs of the GIL instead of eight, and
# under load each costs up to a switch interval. The guard takes the place of a look at other writers' traces inside
# the transaction. Chosen: a statement is compiled for each size, and beyond this the hand-overs are few per record.
_ONE_STATEMENT_MAX: Final = 64
_GUARDED_INSERT: Final = {
    rows: """INSERT INTO event(partition, seq, user_id, command_id, record)
        SELECT column1, column2, column3, column4, column5 FROM (VALUES """  # noqa: S608 only placeholders
    + ",".join(["(?,?,?,?,?)"] * rows)
    + ") WHERE (SELECT data_version FROM pragma_data_version) = ?"
    for rows in range(1, _ONE_STATEMENT_MAX + 1)
}
_STATEMENTS_KEPT: Final = 128
# Failures of a statement that come before it has written anything.
_NOTHING_WRITTEN: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY})
# SQLite's default, 4 MiB of WAL between its checkpoints. Measured: a commit that overwrites the WAL of before takes
# 0.11 ms, one that makes the file longer 0.21 ms, so the WAL should come round soon; 4,096 pages gained nothing.
_WAL_PAGES: Final = 1_000
_READ_INLINE_MAX: Final = 4
_COLUMNS: Final = 5


class _Append(NamedTuple):
    partition: int
    after: Head
    records: Sequence[NewRecord]
    landed: asyncio.Future[None]


class _Landed(NamedTuple):
    append: _Append
    error: LedgerError | None


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a log's file, in autocommit. Raises LogUnreadable."""
    try:
        uri = f"file:{_quoted(path)}?mode={'ro' if read_only else 'rwc'}"
        # A folder that cannot be written has no place for the WAL's index; without a WAL the file alone is the log.
        if read_only and not path.with_name(path.name + "-wal").exists():
            uri += "&immutable=1" if not _writable(path.parent) else ""
        connection = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=10,
            cached_statements=_STATEMENTS_KEPT,
        )
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise LogUnreadable(f"{path} cannot be opened as an event log: {error}") from error
    return connection


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def stored_partitions(connection: sqlite3.Connection, path: Path) -> int:
    """How many partitions the log in this file has. Raises LogUnreadable."""
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.Error as error:
        raise LogUnreadable(f"{path} is not an event log of stakelog: {error}") from error
    if meta.get("format") != FORMAT:
        raise LogUnreadable(f"{path} has the format {meta.get('format')}; this program reads format {FORMAT}")
    partitions = str(meta.get("partitions"))
    if not partitions.isdecimal():
        raise LogUnreadable(f"{path} is damaged: it states {partitions} as its number of partitions")
    return int(partitions)


def wrong_partitions(path: Path, stored: int, wanted: int) -> WrongPartitions:
    return WrongPartitions(
        f"the log in {path.parent} was created with {stored} partitions, not {wanted}: "
        f"set STAKELOG_PARTITIONS={stored}, or use another folder"
    )


def last_head(connection: sqlite3.Connection, partition: int) -> Head:
    """The seq and the hash of the partition's last record."""
    row = connection.execute(_LAST, (partition,)).fetchone()
    return EMPTY if row is None else Head(row[0], sha256_hex(row[1]))


def check_length(path: Path) -> None:
    """Raise LogUnreadable where the file is shorter than its own header says, and no WAL could hold the rest."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) == 0 or path.with_name(path.name + "-wal").exists():
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise LogUnreadable(f"{path} is not an event log: it does not begin as an SQLite file does")
    page_size = int.from_bytes(header[16:18], "big")
    declared = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    actual = path.stat().st_size
    if actual < declared:
        raise LogUnreadable(
            f"{path} is truncated: it has {actual} of {declared} bytes; nothing was changed. Restore it from a backup"
        )


class _CommitFailed(Exception):
    """COMMIT itself failed, after everything before it went well."""


class SqliteEventLog:
    """``EventLog`` in one file. One process at a time may hold it: take the folder's lock first."""

    shared: Final = False
    append_bytes: Final = 64 * 1024 * 1024  # chosen: a WAL of that size is no trouble, and no round comes near it

    def __init__(self, path: Path, partitions: int) -> None:
        """Open or create. Raises LogUnreadable, WrongPartitions."""
        self._path = path
        if path.exists():
            check_length(path)
        self._writer = connect(path)
        try:
            self.partitions = self._prepare(partitions)
            self._heads = [last_head(self._writer, partition) for partition in range(self.partitions)]
            self._data_version = self._writer.execute("PRAGMA data_version").fetchone()[0]
            self._reader = connect(path)
            self._inline_reader = connect(path)
        except sqlite3.Error as error:
            self._writer.close()
            raise LogUnreadable(f"{path} cannot be used as an event log: {error}") from error
        except LedgerError:
            self._writer.close()
            raise
        self._broken: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Append] = []
        self._under_way: list[_Append] = []
        self._flush_due = False
        self._one_statement_max = _ONE_STATEMENT_MAX
        self._reading = threading.Lock()
        self._work: SimpleQueue[list[_Append] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._commit_all, name="stakelog-commit", daemon=True)
        self._thread.start()

    def _prepare(self, partitions: int) -> int:
        writer = self._writer
        for pragma in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            f"PRAGMA wal_autocheckpoint={_WAL_PAGES}",
            "PRAGMA cache_size=-65536",
        ):
            writer.execute(pragma)
        self._sync_wal()
        if writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            writer.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                writer.execute(statement)
            writer.execute(_INSERT_META, (FORMAT, str(partitions)))
            writer.execute("COMMIT")
        stored = stored_partitions(writer, self._path)
        if stored != partitions:
            raise wrong_partitions(self._path, stored, partitions)
        return stored

    async def declare(self, assets: Assets) -> None:
        """Remember the assets' exponents beside the log. Raises WrongAssets where one of them was another before, so
        that no amount that is written changes its meaning; LogUnreadable where that cannot be kept."""
        try:
            row = self._writer.execute("SELECT value FROM meta WHERE key = 'assets'").fetchone()
            before: dict[str, int] = json.loads(row[0]) if row else {}
            for asset, exponent in assets.items():
                if before.get(asset, exponent) != exponent:
                    raise WrongAssets(
                        f"the log in {self._path.parent} was written with {asset}:{before[asset]}, not with "
                        f"{asset}:{exponent}: set STAKELOG_ASSETS to what it was, or use another folder"
                    )
            if not assets.keys() <= before.keys():
                declared = json.dumps({**before, **assets}, sort_keys=True)
                self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('assets', ?)", (declared,))
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            raise LogUnreadable(f"the assets declared in {self._path} cannot be kept: {error}") from error

    def _sync_wal(self) -> None:
        """Make durable what a killed process left in the WAL: it may have been written and not yet fsynced, and from
        now on answers rest on it."""
        wal = self._path.with_name(self._path.name + "-wal")
        if wal.exists():
            with wal.open("rb") as file:
                os.fsync(file.fileno())

    # --- appending ---------------------------------------------------------------------------------------------

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        assert records, "an append has at least one record"
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        self._loop = asyncio.get_running_loop()
        landed = self._loop.create_future()
        self._waiting.append(_Append(partition, after, records, landed))
        if not self._under_way:
            self._flush_soon()
        await landed

    def _flush_soon(self) -> None:
        """At the end of this step of the loop, so that writers that wake together commit together."""
        if not self._flush_due:
            self._flush_due = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._waiting and not self._under_way:
            self._under_way, self._waiting = self._waiting, []
            self._work.put(self._under_way)

    def _finished(self, landed: list[_Landed]) -> None:
        self._under_way = []
        for append, error in landed:
            if append.landed.cancelled():
                continue
            if error is None:
                append.landed.set_result(None)
            else:
                append.landed.set_exception(error)
        # Behind the writers that wake up now, so that what they append goes along. Measured at 64 connections: +8 %.
        self._flush_soon()

    def _commit_all(self) -> None:
        """The thread: each list that waits becomes one transaction."""
        while (appends := self._work.get()) is not None:
            landed = self._commit_or_break(appends)
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._finished, landed)

    def _commit_or_break(self, appends: list[_Append]) -> list[_Landed]:
        try:
            return self._commit(appends)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for an answer for ever
            unknown = self._unknown(error)
            return [_Landed(append, unknown) for append in appends]

    def _commit(self, appends: list[_Append]) -> list[_Landed]:
        failed: list[_Landed] = []
        while appends:
            culprit, error = self._transaction(appends)
            if error is None:
                return failed + [_Landed(append, None) for append in appends]
            if culprit is None:
                return failed + [_Landed(append, error) for append in appends]
            failed.append(_Landed(culprit, error))
            appends = [append for append in appends if append is not culprit]
        return failed

    def _transaction(self, appends: list[_Append]) -> tuple[_Append | None, LedgerError | None]:
        """Commit them all; or nothing, and the one that is to blame (None: all), and why."""
        if self._broken is not None:
            return None, LogUnavailable(self._broken)
        committed, failure = self._together(appends)
        if committed or failure is not None:
            return None, failure
        writer = self._writer
        current: _Append | None = None
        heads: dict[int, Head] = {}
        try:
            writer.execute("BEGIN IMMEDIATE")
            self._notice_other_writers()
            for current in appends:
                partition, after, records, _ = current
                head = heads.get(partition) or self._heads[partition]
                if head != after:
                    writer.execute("ROLLBACK")
                    return current, StaleHead(f"partition {partition} ends at seq {head.seq}, not {after.seq}")
                for sql, values in _inserts(partition, records):
                    writer.execute(sql, values)
                last = records[-1]
                heads[partition] = Head(last.seq, sha256_hex(last.record))
            current = None
        except sqlite3.IntegrityError as error:
            self._roll_back()
            assert current is not None, "only an INSERT can break integrity"
            return current, DuplicateCommand(
                f"the log refused records of partition {current.partition}: {error}. The state forgot what the log "
                "holds: stop, delete state.sqlite3, its -wal and its -shm, and start again; the log makes it anew"
            )
        except sqlite3.Error as error:
            # Before COMMIT nothing can be in the WAL with a commit frame: definite, whatever the reason.
            self._roll_back()
            return None, LogUnavailable(f"the log {self._path} cannot be written: {error}")
        try:
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            return None, self._failed_commit(error, heads)
        for partition, head in heads.items():
            self._heads[partition] = head
        return None, None

    def _together(self, appends: list[_Append]) -> tuple[bool, LedgerError | None]:
        """Commit them all in as few statements as can be; (False, None): nothing was written, look closer why."""
        values: list[int | str | bytes] = []
        heads: dict[int, Head] = {}
        for partition, after, records, _ in appends:
            if (heads.get(partition) or self._heads[partition]) != after:
                return False, None
            for record in records:
                values += (partition, record.seq, record.user_id, record.command_id, record.record)
            last = records[-1]
            heads[partition] = Head(last.seq, sha256_hex(last.record))
        rows = len(values) // _COLUMNS
        try:
            if rows <= self._one_statement_max:
                statement = _GUARDED_INSERT[rows]
                if self._writer.execute(statement, [*values, self._data_version]).rowcount == 0:
                    return False, None
            elif not self._insert_and_commit(values, rows):
                return False, None
        except sqlite3.IntegrityError:
            self._roll_back()
            return False, None
        except _CommitFailed as failed:
            return False, self._failed_commit(failed.__cause__, heads)
        except sqlite3.Error as error:
            # A statement in autocommit is its own COMMIT, so its failure may be the COMMIT's. Before the COMMIT of
            # several statements nothing can be in the WAL with a commit frame: definite, whatever the reason.
            alone = rows <= self._one_statement_max
            if alone and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NOTHING_WRITTEN:
                return False, self._failed_commit(error, heads)
            self._roll_back()
            return False, LogUnavailable(f"the log {self._path} cannot be written: {error}")
        for partition, head in heads.items():
            self._heads[partition] = head
        return True, None

    def _insert_and_commit(self, values: list[int | str | bytes], rows: int) -> bool:
        """Insert all rows in one transaction; False, and nothing written, where somebody else wrote to the file."""
        writer = self._writer
        writer.execute("BEGIN IMMEDIATE")
        if writer.execute("PRAGMA data_version").fetchone()[0] != self._data_version:
            self._roll_back()
            return False
        done = 0
        while done < rows:
            size = next(size for size in _CHUNKS if size <= rows - done)
            writer.execute(_INSERT[size], values[done * _COLUMNS : (done + size) * _COLUMNS])
            done += size
        try:
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise _CommitFailed from error
        return True

    def _notice_other_writers(self) -> None:
        """Nobody else should write while we hold the folder; should somebody, our heads are no longer true."""
        version = self._writer.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self._heads = [last_head(self._writer, partition) for partition in range(self.partitions)]

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _failed_commit(self, error: BaseException | None, heads: dict[int, Head]) -> LedgerError:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if full:
            try:
                self._roll_back()
                if all(last_head(self._writer, partition) == self._heads[partition] for partition in heads):
                    return LogUnavailable(f"the disk of {self._path} is full; nothing was written")
            except sqlite3.Error as second:
                error = second
        return self._unknown(error)

    def _unknown(self, error: BaseException | None) -> OutcomeUnknown:
        """From now on this log takes and tells nothing: only a start can tell what is in it."""
        self._broken = (
            f"a commit to {self._path} failed in a way that leaves its outcome unknown ({error}); "
            "restart the service: it recovers the log at start"
        )
        return OutcomeUnknown(self._broken)

    # --- reading -----------------------------------------------------------------------------------------------

    async def confirm(self, partition: int, head: Head) -> None:
        # The folder's lock keeps other writers out, so the heads of this process are the heads.
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        if self._heads[partition] != head:
            raise StaleHead(f"partition {partition} ends at seq {self._heads[partition].seq}, not {head.seq}")

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        if limit <= _READ_INLINE_MAX:  # 10 µs from the page cache; a thread costs more than the look-up
            return self._read(self._inline_reader, partition, from_seq, limit)
        return await asyncio.to_thread(self._read_in_turn, partition, from_seq, limit)

    def _read_in_turn(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        with self._reading:  # threads share this connection; the loop has its own, and never waits for them
            return self._read(self._reader, partition, from_seq, limit)

    def _read(self, reader: sqlite3.Connection, partition: int, from_seq: int, limit: int) -> list[bytes]:
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        try:
            # fetchall ends the read transaction at once: a long one would keep the WAL from being reset.
            return [row[0] for row in reader.execute(_READ, (partition, from_seq, limit)).fetchall()]
        except sqlite3.Error as error:
            raise LogUnavailable(f"the log {self._path} cannot be read: {error}") from error

    async def head(self, partition: int) -> Head:
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        return self._heads[partition]

    def place(self, partition: int, head: Head) -> bytes | None:
        assert head.seq <= self._heads[partition].seq, (partition, head)
        return None

    async def begin_at(self, partition: int, head: Head, place: bytes | None) -> None:
        """It is read by its seqs: nothing to do."""

    async def close(self) -> None:
        while under_way := [append.landed for append in (*self._under_way, *self._waiting)]:
            await asyncio.wait(under_way)
        self._broken = self._broken or f"the log {self._path} is closed"
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        self._inline_reader.close()
        with self._reading:
            self._reader.close()
        self._writer.close()


class SqliteRecords:
    """The records in a log's file, for the auditor: read-only, beside a live writer or without one.

    Implements ``ledger.operations.audit.Records``. Reads in short transactions, page by page, so that a writer's WAL
    can be reset.
    """

    _ENDS: Final = "SELECT partition, max(seq) FROM event GROUP BY partition"
    _PAGE: Final = """SELECT record, seq, user_id, command_id FROM event
        WHERE partition = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 2000"""
    # The places come from the index of (user_id, command_id); sorted once, because that index is not in their order.
    PLACES: Final = "SELECT partition, seq FROM event WHERE user_id = ? ORDER BY partition, seq"
    _PLACE: Final = "SELECT CAST(record AS BLOB) FROM event WHERE partition = ? AND seq = ?"
    _STORY_PAGE: Final = 500

    def __init__(self, path: Path) -> None:
        """Raises LogUnreadable."""
        self._path = path
        if not path.exists():
            raise LogUnreadable(f"there is no event log at {path}")
        check_length(path)
        self._connection = connect(path, read_only=True)
        self.partitions = stored_partitions(self._connection, path)

    def assets(self) -> Assets:
        """The assets' exponents that were declared beside the log; {} where nobody did."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'assets'", ())
        try:
            return {str(asset): int(exponent) for asset, exponent in json.loads(rows[0][0]).items()} if rows else {}
        except (ValueError, TypeError, AttributeError) as error:
            raise LogUnreadable(f"the assets declared in {self._path} cannot be read: {error}") from error

    def ends(self) -> list[int]:
        ends = dict(self._rows(self._ENDS, ()))
        strangers = [partition for partition in ends if not 0 <= partition < self.partitions]
        if strangers:
            raise LogUnreadable(f"{self._path} holds partition {strangers[0]}, it was created with {self.partitions}")
        return [ends.get(partition, 0) for partition in range(self.partitions)]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[Stored]]:
        """The partition's records of these seqs, in order, in pages; fewer where the log ends before."""
        seq = from_seq - 1
        while page := self._rows(self._PAGE, (partition, seq, to_seq)):
            seq = page[-1][1]
            yield page  # rows in the order of Stored's members: to make each one anew costs a tenth of verify

    def story(self, user_id: str) -> Iterator[list[bytes]]:
        """The wallet's records in order, in pages, by the index: however long the partition is."""
        places = self._rows(self.PLACES, (user_id,))
        for first in range(0, len(places), self._STORY_PAGE):
            page = places[first : first + self._STORY_PAGE]
            yield [record for place in page for (record,) in self._rows(self._PLACE, place)]

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, parameters: tuple[int | str, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise LogUnreadable(f"{self._path} cannot be read: {error}") from error


class SqliteLogReader:
    """The log in its file for those who follow it: read-only, beside a live writer or without one.

    Implements ``projections.projecting.follower.LogReader``. Every read is a short transaction of its own, so that a
    writer's WAL can be reset.
    """

    # One look-up in the index a partition; a GROUP BY would walk through all of it.
    _ENDS: Final = """WITH RECURSIVE every(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM every WHERE n + 1 < ?)
        SELECT (SELECT max(seq) FROM event WHERE partition = n) FROM every ORDER BY n"""
    _RUN: Final = """SELECT seq, CAST(record AS BLOB) FROM event
        WHERE partition = ? AND seq >= ? ORDER BY seq LIMIT ?"""
    _DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

    def __init__(self, path: Path) -> None:
        """Raises LogUnreadable."""
        self._path = path
        if not path.exists():
            raise LogUnreadable(f"there is no event log at {path}")
        check_length(path)
        self._connection = connect(path, read_only=True)
        self.partitions = stored_partitions(self._connection, path)
        self._version: int | None = None

    def changed(self) -> bool:
        version: int = self._rows("PRAGMA data_version", ())[0][0]
        if version == self._version:
            return False
        self._version = version
        return True

    def ends(self) -> list[int]:
        return [row[0] or 0 for row in self._rows(self._ENDS, (self.partitions,))]

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        try:
            rows = self._rows(self._RUN, (partition, from_seq, limit))
        except LogUnavailable as error:
            if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in self._DAMAGED:
                raise LogDamaged(partition, from_seq, str(error.__cause__)) from error
            raise
        for expected, (seq, _) in enumerate(rows, from_seq):
            if seq != expected:
                raise LogDamaged(partition, expected, f"the record is missing, the next one there has seq {seq}")
        return [record for _, record in rows]

    def holds(self, partition: int, head: Head) -> bool:
        return [sha256_hex(record) for record in self.read(partition, head.seq, 1)] == [head.sha256]

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, parameters: tuple[int, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise LogUnavailable(f"the log {self._path} cannot be read: {error}") from error


def _inserts(partition: int, records: Sequence[NewRecord]) -> Iterator[tuple[str, list[int | str | bytes]]]:
    """The statements, and their values, that insert the records in as few calls as there are powers of two."""
    done = 0
    while done < len(records):
        rows = next(size for size in _CHUNKS if size <= len(records) - done)
        values: list[int | str | bytes] = []
        for record in records[done : done + rows]:
            values += (partition, record.seq, record.user_id, record.command_id, record.record)
        yield _INSERT[rows], values
        done += rows
