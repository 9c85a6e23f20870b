"""The log's file: its tables, how it is opened, how its rows are read, and what is checked before that.

A row of ``append`` is one append: its records in order, each followed by a line feed. A record is JSON, so no line
feed is inside it. Invariants:
(1) SQL can neither change nor remove a record: triggers refuse UPDATE and DELETE, and, because REPLACE bypasses a
    DELETE trigger, a BEFORE INSERT trigger refuses a row that does not continue its partition, or has an existing
    rowid. It also counts the line feeds;
(2) a file that is no event log, is truncated, or has another format is refused and left unchanged;
(3) readers return records only from rows that follow each other and have as many records as they say.

The table has rowids. Measured against WITHOUT ROWID, by processor time and bytes per record in appends of 64: 3.3 µs
and 608 bytes, not 4.7 µs and 650. There each partition fills pages of its own, and a split leaves half a page empty.

Pages have 2 KB. SQLite stores a row that is longer than a page in full pages of its own, and the remainder beside
other rows. A row of half a page to a page stays whole and leaves the rest of its page empty: with pages of 4 KB these
are the rows that 64 connections make, some 2.4 KB. Measured there, by bytes per record in the file and bytes written:
700 and 2,000 with 2 KB; 820 and 2,460 with 4 KB; 650 and 1,750 with 1 KB, where single records take 1,050. Processor
time is the same; a look-up in a row of 62 takes a quarter more than with 4 KB.
"""

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LogDamaged, LogOutdated, LogUnreadable, WrongPartitions

FORMAT: Final = "2"
OLD_FORMATS: Final = frozenset({"1"})
"""Formats that `stakelog upgrade` turns into this one."""

SCHEMA: Final = (
    """CREATE TABLE append(
        partition INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, records BLOB NOT NULL,
        PRIMARY KEY (partition, first_seq))""",
    # TEXT never equals x'0A', so it is refused. The count of line feeds costs too little to be measured. It uses the
    # function replace(), the only one that removes them; it needs TEXT, so its result is cast back to count bytes.
    """CREATE TRIGGER append_continues BEFORE INSERT ON append
        WHEN NEW.first_seq IS NOT 1 + coalesce(
            (SELECT last_seq FROM append WHERE partition = NEW.partition ORDER BY first_seq DESC LIMIT 1), 0)
          OR typeof(NEW.last_seq) <> 'integer' OR NEW.last_seq < NEW.first_seq
          OR substr(NEW.records, -1) <> x'0A'
          OR NEW.last_seq - NEW.first_seq + 1 <> length(NEW.records)
             - length(CAST(replace(CAST(NEW.records AS TEXT), char(10), '') AS BLOB))
          OR EXISTS (SELECT 1 FROM append WHERE rowid = NEW.rowid)
        BEGIN SELECT RAISE(ABORT, 'an append continues its partition, and is never replaced'); END""",
    """CREATE TRIGGER append_is_kept BEFORE DELETE ON append
        BEGIN SELECT RAISE(ABORT, 'an append is never deleted'); END""",
    """CREATE TRIGGER append_is_unchanged BEFORE UPDATE ON append
        BEGIN SELECT RAISE(ABORT, 'an append is never changed'); END""",
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
INSERT_APPEND: Final = "INSERT INTO append(partition, first_seq, last_seq, records) VALUES (?,?,?,?)"
INSERT_META: Final = "INSERT INTO meta VALUES ('format', ?), ('partitions', ?)"
SELECT_TABLES: Final = "SELECT value FROM meta WHERE key = 'tables'"
SELECT_MONEY_RULES: Final = "SELECT value FROM meta WHERE key = 'money_rules'"
SELECT_GAMES: Final = "SELECT value FROM meta WHERE key = 'games'"
SELECT_ASSETS: Final = "SELECT value FROM meta WHERE key = 'assets'"
# CAST, because SQL may have stored the records as TEXT: the code that checks the chain needs bytes.
_LAST: Final = """SELECT first_seq, last_seq, CAST(records AS BLOB) FROM append
    WHERE partition = ? ORDER BY first_seq DESC LIMIT 1"""
_ROW_WITH: Final = """SELECT first_seq, last_seq, CAST(records AS BLOB) FROM append
    WHERE partition = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1"""
_ROWS: Final = """SELECT first_seq, last_seq, CAST(records AS BLOB) FROM append
    WHERE partition = ?1 AND first_seq >= coalesce(
        (SELECT max(first_seq) FROM append WHERE partition = ?1 AND first_seq <= ?2), ?2) AND last_seq >= ?2
    ORDER BY first_seq"""

_PAGE_BYTES: Final = 2_048
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
        if not read_only:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # takes effect only in a new file
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise LogUnreadable(f"{path} cannot be opened as an event log: {error}") from error
    return connection


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def read_meta(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """Return what is stored about the log. Raises LogUnreadable."""
    try:
        return dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.Error as error:
        raise LogUnreadable(f"{path} is not an event log of stakelog: {error}") from error


def names_in(row: Sequence[str] | None) -> set[str]:
    """The names of games in a row of ``SELECT_GAMES``. Raises ValueError, TypeError."""
    return {str(name) for name in json.loads(row[0])} if row else set()


def partitions_in(meta: Mapping[str, str], path: Path) -> int:
    """Raises LogUnreadable."""
    partitions = str(meta.get("partitions"))
    if not partitions.isdecimal():
        raise LogUnreadable(f"{path} is damaged: its number of partitions is {partitions!r}")
    return int(partitions)


def refuse_outdated(path: Path) -> None:
    """Raise LogOutdated if the log has an older format. A file that is no log is not reported here."""
    with suppress(LogUnreadable), closing(connect(path, read_only=True)) as connection:
        stored_partitions(connection, path)


def stored_partitions(connection: sqlite3.Connection, path: Path) -> int:
    """Return the number of partitions of the log in this file. Raises LogUnreadable, LogOutdated."""
    meta = read_meta(connection, path)
    if meta.get("format") in OLD_FORMATS:
        raise LogOutdated(
            f"the log in {path.parent} has the format of an earlier version: stop what uses the folder and run "
            f"`stakelog upgrade --data {path.parent}`. Nothing was changed"
        )
    if meta.get("format") != FORMAT:
        raise LogUnreadable(f"{path} has the format {meta.get('format')}; this program reads format {FORMAT}")
    return partitions_in(meta, path)


def wrong_partitions(path: Path, stored: int, wanted: int) -> WrongPartitions:
    return WrongPartitions(
        f"the log in {path.parent} was created with {stored} partitions, not {wanted}: "
        f"set STAKELOG_PARTITIONS={stored}, or use another folder"
    )


def split(partition: int, first_seq: int, last_seq: int, records: bytes) -> list[bytes]:
    """Return the records of a row. Raises LogDamaged."""
    found = records.split(b"\n")
    if found.pop() or len(found) != last_seq - first_seq + 1:
        reason = f"the row of seq {first_seq} to {last_seq} has {len(found)} records, or its end is missing"
        raise LogDamaged(partition, first_seq, reason)
    return found


def records_from(connection: sqlite3.Connection, partition: int, from_seq: int, limit: int) -> list[bytes]:
    """Return at most ``limit`` records from ``from_seq`` on.

    Raises sqlite3.Error; LogDamaged for the first of these seqs whose record is missing, or whose row has another
    number of records than it says. The read transaction ends with the call: a long one would keep the WAL from being
    reset.
    """
    if limit == 1:  # measured: a look-up takes two thirds of the time
        row = connection.execute(_ROW_WITH, (partition, from_seq)).fetchone()
        if row is not None and row[1] >= from_seq:
            return [split(partition, *row)[from_seq - row[0]]]
    found: list[bytes] = []
    expected = from_seq
    with closing(connection.execute(_ROWS, (partition, from_seq))) as rows:
        for first_seq, last_seq, records in rows:
            if first_seq == last_seq == expected and 0 < records.find(b"\n") == len(records) - 1:
                found.append(records[:-1])  # measured: takes half as long as split()
            elif first_seq > expected:
                raise LogDamaged(partition, expected, f"the record is missing, the next one has seq {first_seq}")
            elif first_seq < expected != from_seq:
                raise LogDamaged(partition, first_seq, "two rows have a record of this seq")
            else:
                row = split(partition, first_seq, last_seq, records)
                found += row if first_seq == expected else row[expected - first_seq :]
            expected = last_seq + 1
            if expected - from_seq >= limit:
                return found[:limit]
    return found


def last_head(connection: sqlite3.Connection, partition: int) -> Head:
    """Return the seq and the hash of the partition's last record. Raises LogDamaged, sqlite3.Error."""
    found = connection.execute(_LAST, (partition,)).fetchone()
    if found is None:
        return EMPTY
    return Head(found[1], sha256_hex(split(partition, *found)[-1]))


def check_length(path: Path) -> None:
    """Raise LogUnreadable if the file is shorter than its header says, and no WAL may contain the rest.

    Only in a process that has no connection to the file: to close the file here drops SQLite's locks on it. Then the
    next process that closes the database deletes the WAL, and this one would commit into a deleted file.
    """
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
