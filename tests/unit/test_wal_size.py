"""A WAL that a long reader made large is small again afterwards, in each of the three databases."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from conformance.event_log import append, whole
from ledger.core.record import EMPTY, Head
from ledger.sqlite import log as sqlite_log
from ledger.sqlite import wal
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.state_store import SqliteStateStore
from ledger.sqlite.wal import shrink_wal, wal_of
from projections.storage.sqlite import SqliteReadModelStore

KEPT: Final = 1 << 20


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "WAL_BYTES_KEPT", KEPT)


@contextmanager
def long_reader(path: Path) -> Iterator[None]:
    """A transaction of another process's connection, open during the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield
        reader.execute("ROLLBACK")


def size(path: Path) -> int:
    return wal_of(path).stat().st_size


async def shrunk(path: Path) -> None:
    async with asyncio.timeout(60):
        while size(path) > KEPT:  # noqa: ASYNC110 - the thread that shrinks it announces nothing
            await asyncio.sleep(0.01)


async def fill(log: SqliteEventLog, path: Path, head: Head) -> Head:
    """Append until the WAL is twice as large as what is kept; returns where partition 0 ends."""
    while size(path) <= 2 * KEPT:
        head = (await append(log, 0, head, *(f"{head.seq}-{number}" for number in range(200)))).head
    return head


async def test_a_quiet_log_shrinks_its_wal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_QUIET_S", 0.01)
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    with long_reader(path):
        head = await fill(log, path, EMPTY)
    await shrunk(path)
    assert len(await whole(log, 0)) == head.seq
    await append(log, 0, head, "later")
    await log.close()


async def test_a_busy_log_shrinks_its_wal_at_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_WAL_PAGES", 64)  # less than is kept, as in real use
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    with long_reader(path):
        head = await fill(log, path, EMPTY)
    for number in range(5):
        head = (await append(log, 0, head, f"later-{number}")).head
    assert size(path) <= KEPT
    await log.close()


async def test_a_reader_that_is_still_active_delays_no_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own truncation waits for readers up to the busy time-out, and keeps writers out while it waits."""
    monkeypatch.setattr(sqlite_log, "_QUIET_S", 0.01)
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    with long_reader(path):
        head = await fill(log, path, EMPTY)
        async with asyncio.timeout(60):
            for number in range(20):
                await asyncio.sleep(0.02)
                head = (await append(log, 0, head, f"later-{number}")).head
    await shrunk(path)
    await log.close()


def test_a_file_that_is_small_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a(b)")
        before = size(path)
        assert shrink_wal(connection, path)
        assert size(path) == before > 0


def test_an_error_is_logged_and_leaves_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE a(b)")
        connection.execute("INSERT INTO a VALUES (zeroblob(3000000))")
        connection.execute("BEGIN IMMEDIATE")  # SQLite makes no checkpoint within a transaction
        assert not shrink_wal(connection, path)
        assert "cannot be shrunk" in caplog.text
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 5_000, "the time-out is set again"
        connection.execute("COMMIT")
        assert shrink_wal(connection, path)
        assert size(path) == 0


def test_a_state_store_shrinks_its_wal_at_the_next_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {"a": 1}, EMPTY)
    copy = store.copy(0)
    assert copy is not None
    number = 0
    while size(path) <= 2 * KEPT:
        number += 1
        store.save(0, {f"key-{number}-{part:0200}": part for part in range(500)}, Head(number, "0" * 64))
    copy.close()
    store.save(1, {"a": 1}, EMPTY)
    store.save(1, {"a": 2}, EMPTY)
    assert size(path) <= KEPT
    assert store.get(1, ["a"]) == {"a": 2}
    store.close()


async def test_a_read_model_shrinks_its_wal_while_nothing_is_folded_and_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "read-model.sqlite3"
    store = SqliteReadModelStore(path)
    generation = await store.make_generation(1, 4, live=True)
    for closes in (False, True):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:  # so that closing deletes no WAL
            other.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            with long_reader(path), closing(sqlite3.connect(path, isolation_level=None)) as filler:
                filler.execute("CREATE TABLE IF NOT EXISTS other(blob)")
                while size(path) <= 2 * KEPT:
                    filler.execute("INSERT INTO other VALUES (zeroblob(100000))")
                assert await store.generations() == [generation], "a reader is still active: it does not wait"
                assert size(path) > KEPT
            if closes:
                await store.close()
            else:
                assert await store.generations() == [generation]
            assert size(path) <= KEPT
