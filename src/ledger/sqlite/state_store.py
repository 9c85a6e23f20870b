"""The embedded state store: one SQLite file, a cache of the log that may be deleted.

``synchronous=NORMAL``: after a power cut the last checkpoints may be missing, but never half written; the log has the
rest. Three connections, which in WAL mode do not wait for each other: one for look-ups on the event loop, one for
``get_in_thread``, one for ``save`` in a thread. Each copy and each replacement has another connection.

A partition's values count if and only if it has a checkpoint. A replacement deletes the checkpoint first and writes
the new one last, in many small transactions, so that other partitions can be saved between them. What a crash leaves
of a replacement has no checkpoint, and is deleted when the file is opened.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ledger.core.record import Head
from ledger.core.state_values import VALUES_FORMAT, Value, decode_value, encode_value
from ledger.errors import LedgerError
from ledger.ports import Page, StateCopy
from ledger.sqlite.wal import limit_wal, shrink_wal

# Changes with the file's shape and the values': a store of another format is deleted and rebuilt.
FORMAT: Final = 100 + VALUES_FORMAT

_SCHEMA: Final = (
    """CREATE TABLE value(
        partition INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (partition, key)) WITHOUT ROWID""",
    """CREATE TABLE checkpoint(
        partition INTEGER PRIMARY KEY, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, place BLOB)""",
)
_CHECKPOINT: Final = "SELECT seq, sha256, place FROM checkpoint WHERE partition = ?"
_SET_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)"
_SCAN: Final = "SELECT key, value FROM value WHERE partition = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
_KEYS: Final = "SELECT key FROM value WHERE partition = ? AND key > ? ORDER BY key LIMIT ?"
_DELETE: Final = "DELETE FROM value WHERE partition = ? AND key = ?"
_FORGET_SOME_VALUES: Final = """DELETE FROM value WHERE partition = ?1 AND key IN (
    SELECT key FROM value WHERE partition = ?1 ORDER BY key LIMIT ?2)"""
_NEXT_PARTITION: Final = "SELECT partition FROM value WHERE partition > ? ORDER BY partition LIMIT 1"
# One row for thousands of values: Python releases the GIL for each row, and under load waits long for it.
# Everything but the transfer of the finished page happens without the GIL.
_PAGE: Final = """
    SELECT count(*), max(key), CAST(group_concat(key || char(10) || CAST(value AS TEXT), char(10)) AS BLOB)
    FROM (SELECT key, value FROM value WHERE partition = ? AND key > ? ORDER BY key LIMIT ?)"""
_FORGET_CHECKPOINT: Final = "DELETE FROM checkpoint WHERE partition = ?"

# As in the log: many rows a call, because each call releases the GIL; few sizes, because each is compiled.
_SIZES: Final = (256, 64, 16, 4, 1)
_PUT: Final = {
    rows: "INSERT OR REPLACE INTO value(partition, key, value) VALUES "  # noqa: S608 only placeholders
    + ",".join(["(?,?,?)"] * rows)
    for rows in _SIZES
}
_GET: Final = {
    keys: "SELECT key, value FROM value WHERE partition = ? AND key IN ("  # noqa: S608 only placeholders
    + ",".join("?" * keys)
    + ")"
    for keys in _SIZES
}
_FILL: Final = {
    rows: "INSERT INTO value(partition, key, value) VALUES "  # noqa: S608 only placeholders
    + ",".join(f"(?1,CAST(?{2 * row + 2} AS TEXT),?{2 * row + 3})" for row in range(rows))
    for rows in _SIZES
}

_FILL_VALUES: Final = 16_384
"""Chosen: other partitions wait some 50 ms for their checkpoints."""
_FILL_WAL_PAGES: Final = 8_192
"""32 MiB: chosen, so that the file is synced a few times instead of after each page."""


class SqliteStateStore:
    """``StateStore`` in one file."""

    values_format = VALUES_FORMAT

    def __init__(self, path: Path) -> None:
        """Open or create; a file of another format is deleted and created again. Raises LedgerError."""
        self._path = path
        try:
            self._writing = threading.Lock()  # a lock, because SQLite's own waiting is a loop of sleeps
            self._reading = threading.Lock()
            self._reader, self._saver = self._open()
            self._thread_reader = self._connect()
            self._thread_reader.execute("PRAGMA query_only=1")
            for partition in self._half_replaced():
                self._forget(self._saver, partition)
        except sqlite3.Error as error:
            raise LedgerError(
                f"{path} cannot be used: {error}; it is a cache of the log: "
                "delete it, its -wal and its -shm, and start again"
            ) from error

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        saver = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        if saver.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            saver.close()
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            saver = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
            saver.execute("PRAGMA journal_mode=WAL")
            saver.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                saver.execute(statement)
            saver.execute(f"PRAGMA user_version={FORMAT}")
            saver.execute("COMMIT")
        saver.execute("PRAGMA synchronous=NORMAL")
        saver.execute("PRAGMA cache_size=-32768")
        limit_wal(saver)
        reader = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        reader.execute("PRAGMA query_only=1")
        reader.execute("PRAGMA cache_size=-32768")
        return reader, saver

    def checkpoint(self, partition: int) -> Head | None:
        try:
            row = self._reader.execute(_CHECKPOINT, (partition,)).fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return None if row is None else Head(row[0], row[1])

    def place(self, partition: int) -> bytes | None:
        try:
            row = self._reader.execute(_CHECKPOINT, (partition,)).fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return None if row is None else row[2]

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        return self._get(self._reader, partition, keys)

    def get_in_thread(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        with self._reading:
            return self._get(self._thread_reader, partition, keys)

    def _get(self, reader: sqlite3.Connection, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        done = 0
        try:
            while done < len(keys):
                size = next(size for size in _SIZES if size <= len(keys) - done)
                for key, value in reader.execute(_GET[size], (partition, *keys[done : done + size])):
                    found[key] = decode_value(value)
                done += size
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._unreadable(error) from error
        return found

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        try:
            rows = self._reader.execute(_SCAN, (partition, first, last, limit)).fetchall()
            return [(key, decode_value(value)) for key, value in rows]
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._unreadable(error) from error

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        try:
            return [row[0] for row in self._saver.execute(_KEYS, (partition, after, limit)).fetchall()]
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        saver = self._saver
        # Sorted, so that neighbours in the tree are written together.
        kept = sorted((key, encode_value(value)) for key, value in changes.items() if value is not None)
        self._writing.acquire()
        try:
            saver.execute("BEGIN IMMEDIATE")
            for key, value in changes.items():
                if value is None:
                    saver.execute(_DELETE, (partition, key))
            done = 0
            while done < len(kept):
                size = next(size for size in _SIZES if size <= len(kept) - done)
                values: list[int | str | bytes] = []
                for key, encoded in kept[done : done + size]:
                    values += (partition, key, encoded)
                saver.execute(_PUT[size], values)
                done += size
            saver.execute(_SET_CHECKPOINT, (partition, at.seq, at.sha256, place))
            saver.execute("COMMIT")
            shrink_wal(saver, self._path)
        except sqlite3.Error as error:
            if saver.in_transaction:
                saver.execute("ROLLBACK")
            raise LedgerError(f"{self._path} cannot be written: {error}") from error
        finally:
            self._writing.release()

    def copy(self, partition: int) -> StateCopy | None:
        reader = None
        try:
            reader = self._connect()
            reader.execute("PRAGMA query_only=1")
            reader.execute("BEGIN")
            row = reader.execute(_CHECKPOINT, (partition,)).fetchone()
        except sqlite3.Error as error:
            if reader is not None:
                reader.close()
            raise self._unreadable(error) from error
        if row is None:
            reader.close()
            return None
        return SqliteStateCopy(self._path, reader, partition, Head(row[0], row[1]), row[2])

    def replace(self, partition: int, pages: Iterable[Page], at: Head, place: bytes | None) -> None:
        filler = None
        try:
            filler = self._connect()
            filler.execute("PRAGMA synchronous=NORMAL")
            filler.execute(f"PRAGMA wal_autocheckpoint={_FILL_WAL_PAGES}")
            limit_wal(filler)
            self._forget(filler, partition)
            try:
                for page in pages:
                    self._fill(filler, partition, page)
            except BaseException:
                self._forget(filler, partition)
                raise
            with self._writing:
                filler.execute(_SET_CHECKPOINT, (partition, at.seq, at.sha256, place))
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path} cannot be written: {error}") from error
        finally:
            if filler is not None:
                filler.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)

    def _fill(self, filler: sqlite3.Connection, partition: int, page: Page) -> None:
        """Add a page, in transactions of ``_FILL_VALUES``. The values' bytes stay as they are."""
        lines = page.split(b"\n")
        if len(lines) % 2:
            raise LedgerError(f"a page of the state of partition {partition} is damaged: it has {len(lines)} lines")
        done = 0
        while done < len(lines):
            end = min(done + 2 * _FILL_VALUES, len(lines))
            with self._writing:
                filler.execute("BEGIN IMMEDIATE")
                try:
                    while done < end:
                        size = next(size for size in _SIZES if 2 * size <= end - done)
                        filler.execute(_FILL[size], (partition, *lines[done : done + 2 * size]))
                        done += 2 * size
                finally:  # the caller deletes an unfinished replacement
                    filler.execute("COMMIT")

    def _forget(self, connection: sqlite3.Connection, partition: int) -> None:
        """Delete the partition's state, the checkpoint first: without it the values do not count."""
        with self._writing:
            connection.execute(_FORGET_CHECKPOINT, (partition,))
        some = 1
        while some > 0:
            with self._writing:
                some = connection.execute(_FORGET_SOME_VALUES, (partition, _FILL_VALUES)).rowcount

    def _half_replaced(self) -> list[int]:
        """Return the partitions that have values and no checkpoint."""
        found: list[int] = []
        partition = -1
        while (row := self._saver.execute(_NEXT_PARTITION, (partition,)).fetchone()) is not None:
            partition = row[0]
            if self._saver.execute(_CHECKPOINT, (partition,)).fetchone() is None:
                found.append(partition)
        return found

    def close(self) -> None:
        self._reader.close()
        with self._reading:
            self._thread_reader.close()
        self._saver.close()

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"{self._path} cannot be read: {error}; it is a cache of the log: stop, delete it and start again"
        )


class SqliteStateCopy:
    """``StateCopy`` by a read transaction: the WAL grows until it is closed."""

    def __init__(self, path: Path, reader: sqlite3.Connection, partition: int, at: Head, place: bytes | None) -> None:
        self.at, self.place = at, place
        self._path, self._reader, self._partition = path, reader, partition
        self._values_max: int | None = None  # fewer than the caller's limit, if the values are large
        self._turn = threading.Lock()  # another thread may close it

    def page(self, after: str, values_max: int, bytes_max: int) -> tuple[Page, int, str] | None:
        limit = min(values_max, self._values_max or values_max)
        try:
            with self._turn:
                while True:
                    values, last, page = self._reader.execute(_PAGE, (self._partition, after, limit)).fetchone()
                    if not values:
                        return None
                    if len(page) <= bytes_max or limit == 1:
                        break
                    limit = self._values_max = max(limit // 2, 1)
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path} cannot be read: {error}") from error
        if page.count(b"\n") != 2 * values - 1:
            raise LedgerError(f"{self._path} has a key or a value with a line break after {after!r}")
        if len(page) < bytes_max // 4 and self._values_max is not None:
            self._values_max *= 2
        return page, values, last

    def close(self) -> None:
        with self._turn:
            self._reader.close()
