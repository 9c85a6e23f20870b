"""The embedded event log: one SQLite file, every partition in one table, a row an append, one thread that commits.

Durable means fsynced: WAL with ``synchronous=FULL``. Invariants:
(1) an append lands whole or not at all, and only on the head it names: each commit checks, while it holds the write
    lock, that no other connection has written since the heads were read;
(2) all waiting appends, of any partitions, share one transaction, so one fsync. If one of them cannot land, nothing
    is written, and each is committed alone: only the appends that cannot land fail;
(3) SQLITE_FULL is definite: the frames did not fit, so the commit frame is not in the WAL. Any other failure of a
    COMMIT is ambiguous, because a frame that was written may come back when the WAL is recovered: the append raises
    ``OutcomeUnknown``, and the log refuses everything until the process restarts. A start recovers the WAL first.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from ledger.core.games.tables import PayTable, read_tables, write_tables
from ledger.core.money import Assets, lacking
from ledger.core.money_rules import Money, read_all, write_all
from ledger.core.record import Head, sha256_hex
from ledger.errors import (
    LedgerError,
    LogDamaged,
    LogUnavailable,
    LogUnreadable,
    OutcomeUnknown,
    StaleHead,
    WrongAssets,
)
from ledger.files import sync
from ledger.ports import NewRecord
from ledger.sqlite.log_file import (
    FORMAT,
    INSERT_APPEND,
    INSERT_META,
    SCHEMA,
    SELECT_ASSETS,
    SELECT_GAMES,
    SELECT_MONEY_RULES,
    SELECT_TABLES,
    check_length,
    connect,
    last_head,
    names_in,
    records_from,
    stored_partitions,
    wrong_partitions,
)
from ledger.sqlite.wal import limit_wal, shrink_wal, wal_of

# Up to this many appends are committed by one statement in autocommit: the GIL changes hands twice instead of eight
# times, and under load each change costs up to a switch interval. The guard replaces the check for other writers
# inside the transaction. Chosen: one statement is compiled for each number.
_ONE_STATEMENT_MAX: Final = 64
# Because of the trigger SQLite copies the statement's rows once. Chosen: a round of a batch of 1,000 has less.
_ONE_STATEMENT_BYTES_MAX: Final = 1024 * 1024
_GUARDED_INSERT: Final = {
    rows: """INSERT INTO append(partition, first_seq, last_seq, records)
        SELECT column1, column2, column3, column4 FROM (VALUES """  # noqa: S608 only placeholders
    + ",".join(["(?,?,?,?)"] * rows)
    + ") WHERE (SELECT data_version FROM pragma_data_version) = ?"
    for rows in range(1, _ONE_STATEMENT_MAX + 1)
}
# Failures of a statement that come before it has written anything.
_NOTHING_WRITTEN: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CONSTRAINT}
)
# 4 MiB of WAL between checkpoints. Measured: a commit that overwrites an earlier part of the WAL takes 0.11 ms, one
# that extends the file 0.21 ms, so the WAL should be reset soon; 16 MiB gained nothing.
_WAL_PAGES: Final = 2_000
_QUIET_S: Final = 2.0  # chosen: after so long without an append the WAL may be shrunk
_READ_INLINE_MAX: Final = 4


class _Append(NamedTuple):
    partition: int
    after: Head
    records: Sequence[NewRecord]
    landed: asyncio.Future[None]


class _Landed(NamedTuple):
    append: _Append
    error: LedgerError | None


class _Batch:
    """Appends that are committed together: their rows, and the heads before and after the commit."""

    def __init__(self, appends: Sequence[_Append]) -> None:
        self.rows: list[tuple[int, int, int, bytes]] = []
        self._steps: list[tuple[int, Head, Head]] = []
        self.size = 0
        for partition, after, records, _ in appends:
            last = records[-1]
            stored = b"\n".join([*(record.record for record in records), b""])
            self.rows.append((partition, records[0].seq, last.seq, stored))
            self._steps.append((partition, after, Head(last.seq, sha256_hex(last.record))))
            self.size += len(stored)
        self.heads = {partition: head for partition, _, head in self._steps}

    def stale(self, heads: Sequence[Head]) -> StaleHead | None:
        """The reason why the batch does not continue ``heads``, if there is one."""
        ends: dict[int, Head] = {}
        for partition, after, head in self._steps:
            end = ends.get(partition) or heads[partition]
            if end != after:
                return StaleHead(f"partition {partition} ends at seq {end.seq}, not {after.seq}")
            ends[partition] = head
        return None


class SqliteEventLog:
    """``EventLog`` in one file, for one process at a time: take the folder's lock first."""

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
        limit_wal(writer)
        self._sync_wal()
        if writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            writer.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                writer.execute(statement)
            writer.execute(INSERT_META, (FORMAT, str(partitions)))
            writer.execute("COMMIT")
        stored = stored_partitions(writer, self._path)
        if stored != partitions:
            raise wrong_partitions(self._path, stored, partitions)
        return stored

    async def declare(
        self,
        assets: Assets,
        tables: Mapping[str, PayTable] | None = None,
        money: Mapping[str, Money] | None = None,
        games: Set[str] = frozenset(),
    ) -> None:
        """Store the assets' exponents with the log, so that no written amount changes its meaning; the pay tables
        and rules of money flows by their digests, so that every bet is paid by the one that it was taken under, and
        every bonus and commission can be recomputed; and the names of the games, so that their periods can still get
        an outcome after the rules have changed.

        Raises WrongAssets if an asset has another exponent in this log, or `assets` lacks one of this log;
        LogUnreadable if they cannot be stored."""
        try:
            row = self._writer.execute(SELECT_ASSETS).fetchone()
            declared: dict[str, int] = json.loads(row[0]) if row else {}
            for asset, exponent in assets.items():
                if declared.get(asset, exponent) != exponent:
                    raise WrongAssets(
                        f"the log in {self._path.parent} was written with {asset}:{declared[asset]}, not with "
                        f"{asset}:{exponent}: set STAKELOG_ASSETS to the first, or use another folder"
                    )
            if (why := lacking(assets, declared)) is not None:
                raise WrongAssets(f"the log in {self._path.parent} {why}")
            if not assets.keys() <= declared.keys():
                both = json.dumps({**declared, **assets}, sort_keys=True)
                self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('assets', ?)", (both,))
            kept = self._kept_tables()
            if tables and not tables.keys() <= kept.keys():
                text = write_tables({**kept, **tables})
                self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('tables', ?)", (text,))
            kept_money = self._kept_money()
            if money and not money.keys() <= kept_money.keys():
                text = write_all({**kept_money, **money})
                self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('money_rules', ?)", (text,))
            self._keep_games(games)
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            raise LogUnreadable(f"the assets and rules declared in {self._path} cannot be stored: {error}") from error

    def _kept_tables(self) -> dict[str, PayTable]:
        row = self._writer.execute(SELECT_TABLES).fetchone()
        return read_tables(row[0]) if row else {}

    async def tables(self) -> dict[str, PayTable]:
        try:
            return self._kept_tables()
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise LogUnreadable(f"the pay tables in {self._path} cannot be read: {error}") from error

    def _kept_money(self) -> dict[str, Money]:
        row = self._writer.execute(SELECT_MONEY_RULES).fetchone()
        return read_all(row[0]) if row else {}

    async def money_rules(self) -> dict[str, Money]:
        try:
            return self._kept_money()
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise LogUnreadable(f"the rules of money flows in {self._path} cannot be read: {error}") from error

    def _kept_games(self) -> set[str]:
        return names_in(self._writer.execute(SELECT_GAMES).fetchone())

    def _keep_games(self, names: Set[str]) -> None:
        kept = self._kept_games()
        if not names <= kept:
            text = json.dumps(sorted(kept | names))
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('games', ?)", (text,))

    async def games(self) -> set[str]:
        try:
            return self._kept_games()
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise LogUnreadable(f"the names of games in {self._path} cannot be read: {error}") from error

    async def keep_games(self, names: Set[str]) -> None:
        try:
            self._keep_games(names)
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise LogUnreadable(f"the names of games in {self._path} cannot be stored: {error}") from error

    def _sync_wal(self) -> None:
        """Make durable what a killed process left in the WAL: it may be written and not yet fsynced, and from now on
        responses depend on it."""
        wal = wal_of(self._path)
        if wal.exists():
            sync(wal)

    # --- appending ---------------------------------------------------------------------------------------------

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        assert records, "an append has at least one record"
        assert not any(b"\n" in record.record for record in records), "a line feed ends a record"
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        self._loop = asyncio.get_running_loop()
        landed = self._loop.create_future()
        self._waiting.append(_Append(partition, after, records, landed))
        if not self._under_way:
            self._flush_soon()
        await landed

    def _flush_soon(self) -> None:
        """Flush at the end of this step of the event loop, so that writers that wake together commit together."""
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
        # After the writers that wake up now, so that the next commit has their appends. Measured at 64 connections:
        # +8 %.
        self._flush_soon()

    def _commit_all(self) -> None:
        """Run the commit thread: each list of waiting appends becomes one transaction."""
        while True:
            try:
                appends = self._work.get(timeout=_QUIET_S)
            except Empty:
                if self._broken is None:
                    shrink_wal(self._writer, self._path)
                continue
            if appends is None:
                return
            landed = self._commit_or_break(appends)
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._finished, landed)

    def _commit_or_break(self, appends: list[_Append]) -> list[_Landed]:
        try:
            return self._commit(appends)
        except Exception as error:  # noqa: BLE001 - whatever it is, no append may wait without an end
            unknown = self._unknown(error)
            return [_Landed(append, unknown) for append in appends]

    def _commit(self, appends: list[_Append]) -> list[_Landed]:
        error = self._commit_together(_Batch(appends))
        if len(appends) > 1 and isinstance(error, StaleHead):
            return [landed for append in appends for landed in self._commit([append])]
        return [_Landed(append, error) for append in appends]

    def _commit_together(self, batch: _Batch) -> LedgerError | None:
        """Commit all of the batch, or nothing of it. Returns the reason, where it did not land."""
        if self._broken is not None:
            return LogUnavailable(self._broken)
        try:
            if not self._commit_in_one_statement(batch):
                self._commit_in_transaction(batch)
        except LedgerError as error:
            return error
        for partition, head in batch.heads.items():
            self._heads[partition] = head
        return None

    def _commit_in_one_statement(self, batch: _Batch) -> bool:
        """Whether the batch landed so. False: nothing was written, because it is too large, or does not continue the
        known heads, or another connection has written. Raises LogUnavailable, OutcomeUnknown."""
        if (
            len(batch.rows) > self._one_statement_max
            or batch.size > _ONE_STATEMENT_BYTES_MAX
            or batch.stale(self._heads)
        ):
            return False
        try:
            values = [*chain.from_iterable(batch.rows), self._data_version]
            return self._writer.execute(_GUARDED_INSERT[len(batch.rows)], values).rowcount > 0
        except sqlite3.Error as error:
            # A statement in autocommit is its own COMMIT, so its failure may be the COMMIT's.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NOTHING_WRITTEN:
                raise self._failed_commit(error, batch) from error
            raise self._not_written(error) from error

    def _commit_in_transaction(self, batch: _Batch) -> None:
        """Raises StaleHead, LogUnavailable, OutcomeUnknown."""
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            self._notice_other_writers()
            if (stale := batch.stale(self._heads)) is not None:
                writer.execute("ROLLBACK")
                raise stale
            for row in batch.rows:
                writer.execute(INSERT_APPEND, row)
        except LogDamaged as error:  # the writer then reads the log, and names the damage
            self._roll_back()
            raise StaleHead(f"another program changed the log {self._path}: {error}") from error
        except sqlite3.Error as error:
            # Before COMMIT the WAL can hold no commit frame: definite, whatever the reason.
            self._roll_back()
            raise self._not_written(error) from error
        try:
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed_commit(error, batch) from error

    def _notice_other_writers(self) -> None:
        """Only this process should write, because it has the folder's lock. If another did, read the heads again."""
        version = self._writer.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._heads = [last_head(self._writer, partition) for partition in range(self.partitions)]
            self._data_version = version

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _not_written(self, error: sqlite3.Error) -> LogUnavailable:
        return LogUnavailable(f"the log {self._path} cannot be written: {error}")

    def _failed_commit(self, error: sqlite3.Error, batch: _Batch) -> LedgerError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            try:
                self._roll_back()
                if all(last_head(self._writer, partition) == self._heads[partition] for partition in batch.heads):
                    return LogUnavailable(f"the disk of {self._path} is full; nothing was written")
            except (sqlite3.Error, LogDamaged) as second:
                return self._unknown(second)
        return self._unknown(error)

    def _unknown(self, error: Exception) -> OutcomeUnknown:
        """From now on the log refuses appends and reads: only a start can find out what the file contains."""
        self._broken = (
            f"a commit to {self._path} failed in a way that leaves its outcome unknown ({error}); "
            "restart the service: it recovers the log at start"
        )
        return OutcomeUnknown(self._broken)

    # --- reading -----------------------------------------------------------------------------------------------

    async def confirm(self, partition: int, head: Head) -> None:
        # The folder's lock excludes other writers, so the heads known to this process are the heads.
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        if self._heads[partition] != head:
            raise StaleHead(f"partition {partition} ends at seq {self._heads[partition].seq}, not {head.seq}")

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        # A look-up reads its whole row: 7 µs in one of 4 records, 25 in one of 60, 750 in one of 1,000 (decision 15).
        # A thread costs more than the usual look-up.
        if limit <= _READ_INLINE_MAX:
            return self._read(self._inline_reader, partition, from_seq, limit)
        return await asyncio.to_thread(self._read_locked, partition, from_seq, limit)

    def _read_locked(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        with self._reading:  # threads share this connection; the event loop has another, and never waits for them
            return self._read(self._reader, partition, from_seq, limit)

    def _read(self, reader: sqlite3.Connection, partition: int, from_seq: int, limit: int) -> list[bytes]:
        if self._broken is not None:
            raise LogUnavailable(self._broken)
        try:
            return records_from(reader, partition, from_seq, limit)
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
        """Does nothing: this log is read by seq."""

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
