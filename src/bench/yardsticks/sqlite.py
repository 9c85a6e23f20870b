"""The service's yardsticks on the same disk and processor; and two measures without a service: verification and
folding.

1. The bare commit is what no durable ledger on SQLite can undercut: one row, one fsynced commit, nothing else.
2. The bare loop is what no verification can undercut by much: every record read, decoded without a type and hashed.
3. Both yardsticks read or write the disk that the service's data folder is on, and call nothing of the ledger.
"""

from __future__ import annotations

import gc
import hashlib
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop

from bench.figures import BenchError, Slice, slice_of
from ledger.errors import LedgerError
from ledger.operations.audit import Fault, verify
from ledger.sqlite.folder import EVENTS, READ_MODEL
from ledger.sqlite.readers import SqliteLogReader, SqliteRecords
from projections.projecting.follower import Follower
from projections.storage.sqlite import SqliteReadModelStore

RECORD_BYTES = 600
"""About the size of a ``bet_placed`` record."""


def bare_commits(folder: Path, limit_s: float) -> Slice:
    """Insert blobs of ``RECORD_BYTES`` one commit at a time, WAL and synchronous=FULL, for ``limit_s`` seconds.

    The database in ``folder`` is made on the first call and grows with each. Raises BenchError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blob = b"x" * RECORD_BYTES
    took_s = array("d")
    try:
        with closing(sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS plain (id INTEGER PRIMARY KEY, body BLOB)")
            began = at = perf_counter()
            while at < began + limit_s:
                connection.execute("INSERT INTO plain (body) VALUES (?)", (blob,))
                now = perf_counter()
                took_s.append(now - at)
                at = now
    except sqlite3.Error as error:
        raise BenchError(f"the bare commit failed: {error}") from error
    return slice_of(len(took_s), at - began, took_s)


def bare_loop(data: Path) -> Slice:
    """Read, decode and hash every record of the log in ``data``. ``done`` is events. Raises BenchError."""
    began = perf_counter()
    events = 0
    decode, sha256 = msgspec.json.decode, hashlib.sha256
    try:
        with closing(sqlite3.connect(f"file:{data / 'events.sqlite3'}?mode=ro", uri=True)) as connection:
            for (records,) in connection.execute("SELECT records FROM append ORDER BY partition, first_seq"):
                for record in records.split(b"\n")[:-1]:
                    decode(record)
                    sha256(record).digest()
                    events += 1
    except sqlite3.Error as error:
        raise BenchError(f"the log in {data} cannot be read: {error}") from error
    took_s = perf_counter() - began
    return slice_of(events, took_s, [took_s])


def verification(data: Path) -> Slice:
    """What ``stakelog audit verify`` does with the log in ``data``, without the start of the program.

    ``done`` is events. Raises BenchError if the log is not well.
    """
    began = perf_counter()
    try:
        with closing(SqliteRecords(data / EVENTS)) as records:
            events = verify(records).events
    except (Fault, LedgerError) as error:
        raise BenchError(f"the log in {data} is not well: {error}") from error
    took_s = perf_counter() - began
    return slice_of(events, took_s, [took_s])


def folding(data: Path, into: Path, events: int) -> Slice:
    """What the follower does with the log in ``data``, into empty tables in the folder ``into``, as fast as it can.

    Ends when at least ``events`` events, or all of the log, are in the tables; ``done`` is events, each latency a
    round's. Raises BenchError.
    """
    into.mkdir(parents=True, exist_ok=True)

    async def run() -> Slice:
        took_s = array("d")
        with closing(SqliteLogReader(data / EVENTS)) as log:
            store = SqliteReadModelStore(into / READ_MODEL)
            try:
                follower = Follower(log, store)
                gc.freeze()  # as `stakelog project follow` does
                gc.set_threshold(50_000, 20, 50)
                folded = 0
                began = at = perf_counter()
                while folded < events and await follower.step():
                    now = perf_counter()
                    took_s.append(now - at)
                    at = now
                    assert follower.generation is not None
                    heads = [checkpoint.head for checkpoint in await store.checkpoints(follower.generation.number)]
                    folded = sum(head.seq for head in heads)
                return slice_of(folded, at - began, took_s)
            finally:
                await store.close()

    try:
        return uvloop.run(run())
    except LedgerError as error:
        raise BenchError(f"the log in {data} cannot be folded: {error}") from error
