"""The embedded state store: one SQLite file, a cache of the log that may be deleted.

``synchronous=NORMAL``: after a power cut the last checkpoints may be missing, but never half written; the log has the
rest. Three connections, which in WAL mode do not wait for each other: one for look-ups on the event loop, one for
``get_in_thread`` and ``scan``, one for ``save`` in a thread. Each copy and each replacement has another connection.

Wallets, timers and follow-ups are rows of table ``value``; the ids, ``<user_id> <item>``, are in ``runs``.

A partition's values count if and only if it has a checkpoint. A replacement deletes the checkpoint first and writes
the new one last, in many small transactions, so that other partitions can be saved between them. What a crash leaves
of a replacement has no checkpoint, and is deleted when the file is opened.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ledger.core.record import Head
from ledger.core.state_values import VALUES_FORMAT, Value, decode_value, encode_value
from ledger.errors import LedgerError
from ledger.ports import Page, StateCopy
from ledger.sqlite import runs
from ledger.sqlite.wal import limit_wal, shrink_wal

# Changes with the file's shape and the values': a store of another format is deleted and rebuilt.
FORMAT: Final = 200 + VALUES_FORMAT

_SCHEMA: Final = (
    """CREATE TABLE value(
        partition INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (partition, key)) WITHOUT ROWID""",
    """CREATE TABLE checkpoint(
        partition INTEGER PRIMARY KEY, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, place BLOB)""",
    *runs.SCHEMA,
)
_CHECKPOINT: Final = "SELECT seq, sha256, place FROM checkpoint WHERE partition = ?"
_PARTITIONS: Final = "SELECT partition FROM checkpoint"
_SET_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)"
_ROWS: Final = """SELECT CAST(key AS BLOB), value FROM value WHERE partition = ? AND key >= CAST(? AS TEXT)
    ORDER BY key LIMIT 500"""
_FORGET_SOME_VALUES: Final = """DELETE FROM value WHERE partition = ?1 AND key IN (
    SELECT key FROM value WHERE partition = ?1 ORDER BY key LIMIT ?2)"""
_FORGET_SOME_CHUNKS: Final = """DELETE FROM chunk WHERE rowid IN (
    SELECT rowid FROM chunk WHERE partition = ? LIMIT ?)"""
_NEXT_PARTITION: Final = """SELECT min(partition) FROM (
    SELECT min(partition) AS partition FROM value WHERE partition > ?1
    UNION ALL SELECT min(partition) FROM chunk WHERE partition > ?1)"""
_FORGET_CHECKPOINT: Final = "DELETE FROM checkpoint WHERE partition = ?"

# As in the log: many rows a call, because each call releases the GIL; few sizes, because each is compiled.
_SIZES: Final = (256, 64, 16, 4, 1)
_PUT: Final = {
    rows: "INSERT OR REPLACE INTO value(partition, key, value) VALUES "  # noqa: S608 only placeholders
    + ",".join(["(?,?,?)"] * rows)
    for rows in _SIZES
}
_DELETE: Final = {
    keys: "DELETE FROM value WHERE partition = ? AND key IN ("  # noqa: S608 only placeholders
    + ",".join("?" * keys)
    + ")"
    for keys in _SIZES
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

_FORGOTTEN_AT_ONCE: Final = 4_096
"""Chosen: other partitions wait some 50 ms for their checkpoints."""
_FILL_WAL_PAGES: Final = 8_192
"""32 MiB: chosen, so that the file is synced a few times instead of after each page."""
DISK_RESERVE_BYTES: Final = 256 * 1024 * 1024
"""A merge leaves so much space to the log. Chosen: some 400,000 events."""
_MERGE_AGAIN_S: Final = 300
"""Chosen: a full disk stays full for a while. Until then the partition gets some 20 more runs."""
_DONE: Final = object()

_log = logging.getLogger(__name__)

T = TypeVar("T")


class SqliteStateStore:
    """``StateStore`` in one file."""

    values_format = VALUES_FORMAT

    def __init__(self, path: Path) -> None:
        """Open or create; a file of another format is deleted and created again. Raises LedgerError."""
        self._path = path
        try:
            self._writing = threading.Lock()  # a lock, because SQLite's own waiting is a loop of sleeps
            self._reading = threading.Lock()
            self._merges: dict[int, Iterator[None]] = {}
            self._merge_after_s: dict[int, float] = {}
            self._reader, self._saver = self._open()
            self._thread_reader = self._connect()
            self._thread_reader.execute("PRAGMA query_only=1")
            self._thread_reader.execute("PRAGMA cache_size=-32768")
            for partition in self._half_replaced():
                self._forget(self._saver, partition)
            transaction = partial(self._transaction, self._saver)
            for (partition,) in self._saver.execute(_PARTITIONS).fetchall():
                for _ in runs.delete_unlisted(self._saver, partition, transaction):
                    pass
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
        rows = [key for key in keys if not _is_id(key)]
        try:
            for some in _blocks(rows):
                for key, value in reader.execute(_GET[len(some)], (partition, *some)):
                    found[key] = decode_value(value)
            for key in keys:
                if _is_id(key) and (value := runs.find(reader, partition, key)) is not None:
                    found[key] = decode_value(value)
        except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
            raise self._unreadable(error) from error
        return found

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        end = last.encode()
        try:
            with self._reading, _moment(self._thread_reader) as reader:
                pairs = takewhile(lambda pair: pair[0] < end, _pairs(reader, partition, first.encode()))
                return [(key.decode(), decode_value(value)) for key, value in islice(pairs, limit)]
        except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
            raise self._unreadable(error) from error

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        try:
            with _moment(self._saver) as reader:
                pairs = _pairs(reader, partition, _next_key(after))
                return [key.decode() for key, _ in islice(pairs, limit)]
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(error) from error

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        saver = self._saver
        encoded = [(key, b"" if value is None else encode_value(value)) for key, value in changes.items()]
        ids = sorted((key.encode(), value) for key, value in encoded if _is_id(key))
        # Sorted, so that neighbours in the tree are written together.
        rows = sorted(pair for pair in encoded if not _is_id(pair[0]))
        try:
            with self._transaction(saver):
                for gone in _blocks([key for key, value in rows if not value]):
                    saver.execute(_DELETE[len(gone)], (partition, *gone))
                for kept in _blocks([pair for pair in rows if pair[1]]):
                    saver.execute(_PUT[len(kept)], list(chain.from_iterable((partition, *pair) for pair in kept)))
                runs.add(saver, partition, ids)
                saver.execute(_SET_CHECKPOINT, (partition, at.seq, at.sha256, place))
            with self._writing:
                shrink_wal(saver, self._path)
        except (sqlite3.Error, ValueError) as error:
            raise LedgerError(f"{self._path} cannot be written: {error}") from error

    def merge(self, partition: int) -> bool:
        steps = self._merges.setdefault(partition, self._merge(partition))
        if next(steps, _DONE) is not _DONE:
            return True
        self._merges.pop(partition, None)
        return False

    def _merge(self, partition: int) -> Iterator[None]:
        """Each step is one transaction at most, so that the partitions are saved in between. An error is logged only:
        more runs cost time, and the merge is tried again."""
        transaction = partial(self._transaction, self._saver)
        if time.monotonic() < self._merge_after_s.get(partition, 0.0):
            return
        try:
            yield from runs.delete_unlisted(self._saver, partition, transaction)
            yield from runs.merge(self._saver, partition, transaction, partial(self._has_room, partition))
        except (sqlite3.Error, OSError, ValueError) as error:
            self._pause_merges(partition, f"{error}")
            try:
                yield from runs.delete_unlisted(self._saver, partition, transaction)
            except sqlite3.Error as next_error:
                _log.warning("%s keeps what the merge has written until the next one: %s", self._path, next_error)

    def _has_room(self, partition: int, size: int) -> bool:
        """Whether so many bytes more leave the log its space."""
        (free_pages,) = self._saver.execute("PRAGMA freelist_count").fetchone()
        (page_size,) = self._saver.execute("PRAGMA page_size").fetchone()
        more = size - free_pages * page_size
        if more <= 0:
            return True
        disk = os.statvfs(self._path.parent)
        if more + DISK_RESERVE_BYTES <= disk.f_bavail * disk.f_frsize:
            return True
        self._pause_merges(
            partition, f"the disk needs {more + DISK_RESERVE_BYTES} free bytes, the log's reserve included"
        )
        return False

    def _pause_merges(self, partition: int, why: str) -> None:
        self._merge_after_s[partition] = time.monotonic() + _MERGE_AGAIN_S
        _log.warning(
            "%s: the ids of partition %d are not merged, look-ups of them become slower; next attempt in %d s: %s",
            self._path,
            partition,
            _MERGE_AGAIN_S,
            why,
        )

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

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
            self._merges.pop(partition, None)  # its next step would add ids of the state that is replaced
            filler = self._connect()
            filler.execute("PRAGMA synchronous=NORMAL")
            filler.execute(f"PRAGMA wal_autocheckpoint={_FILL_WAL_PAGES}")
            limit_wal(filler)
            self._forget(filler, partition)
            ids = 0
            try:
                for page in pages:
                    ids += self._fill(filler, partition, page)
            except BaseException:
                self._forget(filler, partition)
                raise
            with self._transaction(filler):
                runs.list_run(filler, partition, 1, ids)
                filler.execute(_SET_CHECKPOINT, (partition, at.seq, at.sha256, place))
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path} cannot be written: {error}") from error
        finally:
            if filler is not None:
                filler.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)

    def _fill(self, filler: sqlite3.Connection, partition: int, page: Page) -> int:
        """Add a page; the values' bytes stay as they are. Returns how many ids it has."""
        try:
            pairs = runs.pairs_of(page)
        except ValueError as error:
            raise LedgerError(f"a page of the state of partition {partition} is damaged: {error}") from error
        ids = [pair for pair in pairs if _is_id(pair[0].decode())]
        rows = [pair for pair in pairs if not _is_id(pair[0].decode())]
        with self._transaction(filler):
            runs.fill(filler, partition, 1, ids)
            for some in _blocks(rows):
                filler.execute(_FILL[len(some)], (partition, *chain.from_iterable(some)))
        return len(ids)

    def _forget(self, connection: sqlite3.Connection, partition: int) -> None:
        """Delete the partition's state, the checkpoint first: without it the values do not count."""
        with self._transaction(connection):
            connection.execute(_FORGET_CHECKPOINT, (partition,))
            runs.unlist_all(connection, partition)
        for statement in (_FORGET_SOME_VALUES, _FORGET_SOME_CHUNKS):
            some = 1
            while some > 0:
                with self._transaction(connection):
                    some = connection.execute(statement, (partition, _FORGOTTEN_AT_ONCE)).rowcount

    def _half_replaced(self) -> list[int]:
        """Return the partitions that have values and no checkpoint."""
        found: list[int] = []
        partition = -1
        while (next_one := self._saver.execute(_NEXT_PARTITION, (partition,)).fetchone()[0]) is not None:
            partition = next_one
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
        self._turn = threading.Lock()  # another thread may close it

    def page(self, after: str, values_max: int, bytes_max: int) -> tuple[Page, int, str] | None:
        lines: list[bytes] = []
        size = 0
        try:
            with self._turn:
                for pair in islice(_pairs(self._reader, self._partition, _next_key(after)), values_max):
                    size += len(pair[0]) + len(pair[1]) + 2
                    if lines and size > bytes_max:
                        break
                    lines += pair
        except (sqlite3.Error, ValueError) as error:
            raise LedgerError(f"{self._path} cannot be read: {error}") from error
        page = b"\n".join(lines)
        if lines and page.count(b"\n") != len(lines) - 1:
            raise LedgerError(f"{self._path} has a key or a value with a line break after {after!r}")
        return (page, len(lines) // 2, lines[-2].decode()) if lines else None

    def close(self) -> None:
        with self._turn:
            self._reader.close()


def _is_id(key: str) -> bool:
    """Whether it is the key of a command or an item. Their number grows with the log."""
    return " " in key and key[0] != "!"


def _blocks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in blocks whose sizes are in ``_SIZES``."""
    done = 0
    while done < len(items):
        size = next(size for size in _SIZES if size <= len(items) - done)
        yield items[done : done + size]
        done += size


def _next_key(key: str) -> bytes:
    """The smallest key after this one."""
    return key.encode() + b"\0"


def _pairs(reader: sqlite3.Connection, partition: int, first: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys from ``first`` on, in order, and their encoded values. To be read within one transaction."""
    ids = runs.merged(runs.pairs_by_run(reader, partition, first), keep_deleted=False)
    return chain.from_iterable(runs.merged([_rows(reader, partition, first), ids], keep_deleted=True))


def _rows(reader: sqlite3.Connection, partition: int, first: bytes) -> Iterator[runs.Pairs]:
    while rows := reader.execute(_ROWS, (partition, first)).fetchall():
        yield rows
        first = rows[-1][0] + b"\0"


@contextmanager
def _moment(reader: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A read transaction: all reads see the same snapshot."""
    reader.execute("BEGIN")
    try:
        yield reader
    finally:
        reader.execute("COMMIT")
