"""The log's file: its tables, how it is opened, and what is checked before anything else reads it.

Invariants:
(1) SQL can neither change nor remove a record: triggers refuse UPDATE and DELETE, and, because REPLACE bypasses a
    DELETE trigger, a BEFORE INSERT trigger refuses an existing position, command or rowid;
(2) a file that is no event log, is truncated, or has another format is refused and left unchanged.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LogUnreadable, WrongPartitions

FORMAT: Final = "1"

SCHEMA: Final = (
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
INSERT_META: Final = "INSERT INTO meta VALUES ('format', ?), ('partitions', ?)"
SELECT_ASSETS: Final = "SELECT value FROM meta WHERE key = 'assets'"
# CAST, because SQL may have stored a record as TEXT: the code that checks the chain needs bytes.
_LAST: Final = "SELECT seq, CAST(record AS BLOB) FROM event WHERE partition = ? ORDER BY seq DESC LIMIT 1"

_STATEMENTS_KEPT: Final = 128


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Connect to the log's file, in autocommit. Raises LogUnreadable."""
    try:
        uri = f"file:{_quoted(path)}?mode={'ro' if read_only else 'rwc'}"
        # A read-only folder has no room for the WAL's index; without a WAL the file alone is the log.
        if read_only and not path.with_name(path.name + "-wal").exists():
            uri += "&immutable=1" if not os.access(path.parent, os.W_OK) else ""
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


def stored_partitions(connection: sqlite3.Connection, path: Path) -> int:
    """Return the number of partitions of the log in this file. Raises LogUnreadable."""
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.Error as error:
        raise LogUnreadable(f"{path} is not an event log of stakelog: {error}") from error
    if meta.get("format") != FORMAT:
        raise LogUnreadable(f"{path} has the format {meta.get('format')}; this program reads format {FORMAT}")
    partitions = str(meta.get("partitions"))
    if not partitions.isdecimal():
        raise LogUnreadable(f"{path} is damaged: its number of partitions is {partitions!r}")
    return int(partitions)


def wrong_partitions(path: Path, stored: int, wanted: int) -> WrongPartitions:
    return WrongPartitions(
        f"the log in {path.parent} was created with {stored} partitions, not {wanted}: "
        f"set STAKELOG_PARTITIONS={stored}, or use another folder"
    )


def last_head(connection: sqlite3.Connection, partition: int) -> Head:
    """Return the seq and the hash of the partition's last record."""
    row = connection.execute(_LAST, (partition,)).fetchone()
    return EMPTY if row is None else Head(row[0], sha256_hex(row[1]))


def check_length(path: Path) -> None:
    """Raise LogUnreadable if the file is shorter than its header says, and no WAL may contain the rest."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) == 0 or path.with_name(path.name + "-wal").exists():
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise LogUnreadable(f"{path} is not an event log: it has no SQLite header")
    page_size = int.from_bytes(header[16:18], "big")
    declared = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    actual = path.stat().st_size
    if actual < declared:
        raise LogUnreadable(
            f"{path} is truncated: it has {actual} of {declared} bytes; nothing was changed. Restore it from a backup"
        )
