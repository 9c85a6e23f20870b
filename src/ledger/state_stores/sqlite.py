"""The embedded state store: one SQLite file, a cache of the log that may be thrown away.

``synchronous=NORMAL``: after a power cut the last checkpoints may be missing, never half there, and the log tells
the rest. Two connections: look-ups of the writers, and ``save`` in a thread of its own, which in WAL mode do not
wait for each other.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ledger.ports import LedgerError, Value
from ledger.record import Head
from ledger.state_stores.encoding import decode_value, encode_value

# Changes with every change of the values' shapes: a store of another format is thrown away and made anew.
FORMAT: Final = 2

_SCHEMA: Final = (
    """CREATE TABLE value(
        partition INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (partition, key)) WITHOUT ROWID""",
    "CREATE TABLE checkpoint(partition INTEGER PRIMARY KEY, seq INTEGER NOT NULL, sha256 TEXT NOT NULL)",
)
_CHECKPOINT: Final = "SELECT seq, sha256 FROM checkpoint WHERE partition = ?"
_SET_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)"
_SCAN: Final = "SELECT key, value FROM value WHERE partition = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
_KEYS: Final = "SELECT key FROM value WHERE partition = ? AND key > ? ORDER BY key LIMIT ?"
_DELETE: Final = "DELETE FROM value WHERE partition = ? AND key = ?"
_FORGET_VALUES: Final = "DELETE FROM value WHERE partition = ?"
_FORGET_CHECKPOINT: Final = "DELETE FROM checkpoint WHERE partition = ?"

# As in the log: many rows a call, because each call gives the GIL away; few sizes, because each is compiled.
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


class SqliteStateStore:
    """``StateStore`` in one file."""

    def __init__(self, path: Path) -> None:
        """Open, create, or make anew where the format is another. Raises LedgerError."""
        self._path = path
        try:
            self._reader, self._saver = self._open()
        except sqlite3.DatabaseError as error:
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
        reader = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        reader.execute("PRAGMA query_only=1")
        reader.execute("PRAGMA cache_size=-32768")
        return reader, saver

    def checkpoint(self, partition: int) -> Head | None:
        try:
            row = self._reader.execute(_CHECKPOINT, (partition,)).fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return None if row is None else Head(*row)

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        done = 0
        try:
            while done < len(keys):
                size = next(size for size in _SIZES if size <= len(keys) - done)
                for key, value in self._reader.execute(_GET[size], (partition, *keys[done : done + size])):
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

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head) -> None:
        saver = self._saver
        # Sorted, so that neighbours in the tree are written together.
        kept = sorted((key, encode_value(value)) for key, value in changes.items() if value is not None)
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
            saver.execute(_SET_CHECKPOINT, (partition, at.seq, at.sha256))
            saver.execute("COMMIT")
        except sqlite3.Error as error:
            if saver.in_transaction:
                saver.execute("ROLLBACK")
            raise LedgerError(f"{self._path} cannot be written: {error}") from error

    def forget(self, partitions: Iterable[int]) -> None:
        try:
            for partition in partitions:
                self._saver.execute("BEGIN IMMEDIATE")
                self._saver.execute(_FORGET_CHECKPOINT, (partition,))
                self._saver.execute(_FORGET_VALUES, (partition,))
                self._saver.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path} cannot be written: {error}") from error

    def close(self) -> None:
        self._reader.close()
        self._saver.close()

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"{self._path} cannot be read: {error}; it is a cache of the log: stop, delete it and start again"
        )
