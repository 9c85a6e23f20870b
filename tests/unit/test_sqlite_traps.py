"""The SQLite log and SQLite's traps: what the database itself refuses, and what its failures mean."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from conformance.event_log import Run, append, run_of, whole
from ledger.core.record import EMPTY, Head
from ledger.errors import LogDamaged, LogUnavailable, LogUnreadable, OutcomeUnknown, StaleHead, WrongPartitions
from ledger.sqlite import log as sqlite_log
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader, SqliteRecords

PARTITIONS: Final = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite3"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteEventLog]:
    log = SqliteEventLog(path, PARTITIONS)
    yield log
    await log.close()


def contents(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as other:
        return other.execute("SELECT rowid, * FROM append ORDER BY partition, first_seq").fetchall()


def run_program(program: str, path: Path, *before: str) -> str:
    """Run a Python program, started by ``before``, with the path as its argument. Returns its stdout."""
    src, tests = Path(__file__).parents[2] / "src", Path(__file__).parents[1]
    done = subprocess.run(
        [*before, sys.executable, "-c", program, str(path)],
        env={"PYTHONPATH": f"{src}:{tests}", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the database itself refuses ---------------------------------------------------------------------------------

COLUMNS: Final = "(partition, first_seq, last_seq, records)"
ONE: Final = "CAST('x' || char(10) AS BLOB)"  # a record and its line feed
TWO: Final = "CAST('x' || char(10) || 'y' || char(10) AS BLOB)"

# Partition 0 has the rows 1 to 2 and 3 to 3, in the rowids 1 and 2.
CHANGES: Final = {
    "UPDATE of records": "UPDATE append SET records = x'00' WHERE first_seq = 1",
    "UPDATE of nothing": "UPDATE append SET records = records",
    "UPDATE of a position": "UPDATE append SET first_seq = first_seq + 100, last_seq = last_seq + 100",
    "UPDATE of an end": "UPDATE append SET last_seq = last_seq + 1 WHERE first_seq = 3",
    "UPDATE of a rowid": "UPDATE append SET rowid = rowid + 100",
    "UPDATE OR REPLACE": "UPDATE OR REPLACE append SET first_seq = 3 WHERE first_seq = 1",
    "UPDATE OR IGNORE": "UPDATE OR IGNORE append SET last_seq = 7",
    "UPDATE FROM": "UPDATE append SET records = other.records FROM append AS other WHERE other.first_seq = 3",
    "DELETE": "DELETE FROM append WHERE first_seq = 3",
    "DELETE of all": "DELETE FROM append",
    "REPLACE of a position": f"REPLACE INTO append{COLUMNS} VALUES (0, 1, 2, {TWO})",
    "REPLACE of the last row": f"REPLACE INTO append{COLUMNS} VALUES (0, 3, 3, {ONE})",
    "REPLACE of a rowid": f"REPLACE INTO append(rowid, {COLUMNS[1:]} VALUES (1, 0, 4, 4, {ONE})",
    "INSERT OR REPLACE of a position": f"INSERT OR REPLACE INTO append{COLUMNS} VALUES (0, 1, 1, {ONE})",
    "INSERT OR REPLACE of a rowid": f"INSERT OR REPLACE INTO append(rowid, {COLUMNS[1:]} VALUES (2, 2, 1, 1, {ONE})",
    "INSERT OR REPLACE by SELECT": f"INSERT OR REPLACE INTO append SELECT 0, 1, 1, {ONE}",
    "INSERT OR REPLACE of a row without an end": f"INSERT OR REPLACE INTO append{COLUMNS} VALUES (0, 3, NULL, {ONE})",
    "UPSERT on the position": f"INSERT INTO append{COLUMNS} VALUES (0, 1, 1, {ONE}) "
    "ON CONFLICT (partition, first_seq) DO UPDATE SET records = excluded.records",
    "UPSERT on anything": f"INSERT INTO append{COLUMNS} VALUES (0, 3, 3, {ONE}) "
    "ON CONFLICT DO UPDATE SET records = excluded.records",
    "INSERT of a position": f"INSERT INTO append{COLUMNS} VALUES (0, 1, 1, {ONE})",
    "INSERT inside a row": f"INSERT INTO append{COLUMNS} VALUES (0, 2, 2, {ONE})",
    "INSERT before the first row": f"INSERT INTO append{COLUMNS} VALUES (0, 0, 0, {ONE})",
    "INSERT after a gap": f"INSERT INTO append{COLUMNS} VALUES (0, 5, 5, {ONE})",
    "INSERT of two rows with a gap": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, {ONE}), (0, 6, 6, {ONE})",
    "INSERT of an empty partition's second record": f"INSERT INTO append{COLUMNS} VALUES (1, 2, 2, {ONE})",
    "INSERT of a row that ends before it begins": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 3, x'')",
    "INSERT of more records than seqs": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, {TWO})",
    "INSERT of fewer records than seqs": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 5, {ONE})",
    "INSERT of a record without its line feed": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, x'0A78')",
    "INSERT of no records": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, x'')",
    "INSERT of a text": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, 'x' || char(10))",
    "INSERT of a seq that is no integer": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4.5, {ONE})",
    "INSERT without a position": f"INSERT INTO append{COLUMNS} VALUES (NULL, NULL, NULL, {ONE})",
    "INSERT without a partition": f"INSERT INTO append{COLUMNS} VALUES (NULL, 1, 1, {ONE})",
    "INSERT without an end": f"INSERT INTO append{COLUMNS} VALUES (0, 4, NULL, {ONE})",
    "INSERT without records": f"INSERT INTO append{COLUMNS} VALUES (0, 4, 4, NULL)",
}


@pytest.mark.parametrize("name", CHANGES)
async def test_no_record_is_changed_or_removed_by_sql(log: SqliteEventLog, path: Path, name: str) -> None:
    first = await append(log, 0, EMPTY, "a", "b")
    base = await append(log, 0, first.head, "c")
    before = contents(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for recursive_triggers in ("OFF", "ON"):
            other.execute(f"PRAGMA recursive_triggers={recursive_triggers}")
            with pytest.raises(sqlite3.IntegrityError):
                other.execute(CHANGES[name])
    with pytest.raises(sqlite3.IntegrityError):  # nor by the log's own connection
        log._writer.execute(CHANGES[name])
    assert contents(path) == before
    following = await append(log, 0, base.head, "d")
    assert await whole(log, 0) == first.stored + base.stored + following.stored


async def test_a_row_of_records_with_bytes_of_any_kind_is_counted(log: SqliteEventLog, path: Path) -> None:
    """The trigger counts line feeds in a text: neither zeros nor bytes that are no UTF-8 may disturb it."""
    for number, record in enumerate((b"\x00", b"a\x00b", b"\xff\xfe", bytes(set(range(256)) - {10})), start=1):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            for records in (record, record + b"\n" + record + b"\n"):
                with pytest.raises(sqlite3.IntegrityError):
                    other.execute("INSERT INTO append VALUES (0, ?, ?, ?)", (number, number, records))
            other.execute("INSERT INTO append VALUES (0, ?, ?, ?)", (number, number, record + b"\n"))
    assert len(await whole(log, 0)) == 4


async def test_insert_or_ignore_changes_nothing(log: SqliteEventLog, path: Path) -> None:
    await append(log, 0, EMPTY, "a", "b")
    before = contents(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, pytest.raises(sqlite3.IntegrityError):
        other.execute(f"INSERT OR IGNORE INTO append{COLUMNS} VALUES (0, 1, 1, {ONE})")
    assert contents(path) == before


async def test_the_schema_is_that_of_the_contract(log: SqliteEventLog, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        columns = [(row[1], row[2], row[5]) for row in other.execute("PRAGMA table_info(append)")]
        indexes = {
            tuple(column[2] for column in other.execute(f"PRAGMA index_info({index[1]})"))
            for index in other.execute("PRAGMA index_list(append)").fetchall()
        }
    assert columns == [
        ("partition", "INTEGER", 1),
        ("first_seq", "INTEGER", 2),
        ("last_seq", "INTEGER", 0),
        ("records", "BLOB", 0),
    ]
    assert indexes == {("partition", "first_seq")}


async def test_an_append_is_one_row_of_lines(log: SqliteEventLog, path: Path) -> None:
    one = await append(log, 3, EMPTY, "a")
    three = await append(log, 3, one.head, "b", "c", "d")
    assert contents(path) == [
        (1, 3, 1, 1, one.stored[0] + b"\n"),
        (2, 3, 2, 4, b"".join(record + b"\n" for record in three.stored)),
    ]


async def test_a_record_with_a_line_feed_is_a_broken_invariant_and_writes_nothing(log: SqliteEventLog) -> None:
    records = run_of(0, EMPTY, ["a", "b"]).records
    with pytest.raises(AssertionError, match="line feed"):
        await log.append(0, EMPTY, [records[0], replace(records[1], record=b"{\n}")])
    assert await whole(log, 0) == []
    await append(log, 0, EMPTY, "a")


# --- durable -----------------------------------------------------------------------------------------------------


async def test_the_writing_connection_syncs_each_commit_to_a_wal(log: SqliteEventLog) -> None:
    assert log._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert log._writer.execute("PRAGMA synchronous").fetchone()[0] == 2, "2 is FULL: an fsync for each commit"


def test_each_append_is_synced_before_it_returns(path: Path) -> None:
    """Counted by the kernel: an append without an fsync would survive a killed process, but not a power cut."""
    if not _can_trace():
        pytest.skip("strace is missing, or may not trace")
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from conformance.event_log import append\n"
        "from ledger.sqlite.log import SqliteEventLog\n"
        "from ledger.core.record import EMPTY\n"
        "async def main():\n"
        "    log = SqliteEventLog(Path(sys.argv[1]), 4)\n"
        "    head = EMPTY\n"
        "    for number in range(10):\n"
        "        head = (await append(log, 0, head, f'c{number}')).head\n"
        "        os.write(1, b'appended')\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    trace = path.with_name("trace")
    run_program(program, path, "strace", "-f", "-y", "-o", str(trace), "-e", "trace=fsync,fdatasync,write")
    steps = re.findall(r'(sync)\(\d+<[^>]*-wal>|write\(1<[^>]*>, "(appended)"', trace.read_text())
    told = ["".join(step) for step in steps]
    synced = False
    for step in told:
        assert step == "sync" or synced, "an append returned before the WAL was synced"
        synced = step == "sync"
    assert told.count("appended") == 10


def _can_trace() -> bool:
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


async def test_the_wal_of_a_killed_process_is_synced_before_any_response_depends_on_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_open = SqliteEventLog(path, 1)
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    again = SqliteEventLog(path, 1)
    assert len(synced) == 1
    await again.close()
    await left_open.close()


# --- a full disk is definite -------------------------------------------------------------------------------------


class Connection:
    """The log's writing connection, with one statement that fails on demand."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real
        self.fail_on = ""
        self.code = 0
        self.first: str | None = None
        self.lands = False  # the statement takes effect before it fails

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if self.fail_on and sql.startswith(self.fail_on):
            self.fail_on = ""
            if self.first is not None:
                self._real.execute(self.first)
            if self.lands:
                self._real.execute(sql, *values)
            error = sqlite3.OperationalError("injected failure")
            error.sqlite_errorcode = self.code
            raise error
        return self._real.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def wrapped(log: SqliteEventLog, *, one_statement: bool = False) -> Connection:
    """Wrap the log's connection. By default commits are transactions of several statements."""
    if not one_statement:
        log._one_statement_max = 0
    connection = Connection(log._writer)
    log._writer = connection  # type: ignore[assignment]  # it has the part of a connection that the log uses
    return connection


async def both(log: SqliteEventLog, head: Head, size: int) -> tuple[list[Run], list[BaseException | None]]:
    """Append to partition 0 after ``head`` and to an empty partition 1 at once, as one commit."""
    runs = [
        run_of(0, head, [f"c{head.seq}-{number}" for number in range(size)]),
        run_of(1, EMPTY, ["d"], user_id="u2"),
    ]
    results = await asyncio.gather(
        log.append(0, head, runs[0].records), log.append(1, EMPTY, runs[1].records), return_exceptions=True
    )
    return runs, list(results)


async def test_a_disk_that_is_full_before_the_commit_writes_nothing_and_the_next_append_lands(
    log: SqliteEventLog, path: Path
) -> None:
    base = await append(log, 0, EMPTY, "a")
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count={pages + 8}")
    runs, results = await both(log, base.head, 300)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert "full" in str(results[0])
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored, [])
    assert (await log.head(0), await log.head(1)) == (base.head, EMPTY)
    await log.confirm(0, base.head)
    log._writer.execute("PRAGMA max_page_count=1000000")
    runs, results = await both(log, base.head, 300)
    assert results == [None, None]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored + runs[0].stored, runs[1].stored)


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT"])
@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM]
)
async def test_any_failure_before_the_commit_writes_nothing_and_the_next_append_lands(
    log: SqliteEventLog, statement: str, code: int
) -> None:
    base = await append(log, 0, EMPTY, "a")
    connection = wrapped(log)
    connection.fail_on, connection.code = statement, code
    _, results = await both(log, base.head, 2)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored, [])
    runs, results = await both(log, base.head, 2)
    assert results == [None, None]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored + runs[0].stored, runs[1].stored)


async def test_a_disk_that_is_full_at_the_commit_writes_nothing_and_the_next_append_lands(
    log: SqliteEventLog,
) -> None:
    base = await append(log, 0, EMPTY, "a")
    connection = wrapped(log)
    connection.fail_on, connection.code, connection.first = "COMMIT", sqlite3.SQLITE_FULL, "ROLLBACK"
    _, results = await both(log, base.head, 2)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored, [])
    runs, results = await both(log, base.head, 2)
    assert results == [None, None]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored + runs[0].stored, runs[1].stored)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a disk small enough to fill")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_real_full_disk_writes_nothing_and_the_next_append_lands(small_disk: Path) -> None:
    log = SqliteEventLog(small_disk / "events.sqlite3", PARTITIONS)
    base = await append(log, 0, EMPTY, "a")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    stored, head = base.stored, base.head
    filled = False
    for _ in range(40):
        runs, results = await both(log, head, 100)
        if results[0] is not None:
            filled = True
            break
        stored, head = stored + runs[0].stored, runs[0].head
    assert filled
    for _ in range(3):
        _, results = await both(log, head, 300)
        assert isinstance(results[0], LogUnavailable)
        assert "full" in str(results[0])
        assert await whole(log, 0) == stored
        assert await log.head(0) == head
    ballast.unlink()
    runs, results = await both(log, head, 100)
    assert results[0] is None
    assert await whole(log, 0) == stored + runs[0].stored
    await log.close()
    again = SqliteEventLog(small_disk / "events.sqlite3", PARTITIONS)
    assert await whole(again, 0) == stored + runs[0].stored
    await again.close()


# --- any other failure of a commit is ambiguous ---------------------------------------------------------------------


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize(
    "code",
    [sqlite3.SQLITE_IOERR | 4 << 8, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM, 0],
)
async def test_any_other_failure_of_the_commit_leaves_the_outcome_unknown_and_closes_the_log(
    path: Path, code: int, lands: bool
) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    base = await append(log, 0, EMPTY, "a")
    connection = wrapped(log)
    connection.fail_on, connection.code = "COMMIT", code
    connection.first = "COMMIT" if lands else "ROLLBACK"
    runs, results = await both(log, base.head, 2)
    assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown]
    with pytest.raises(LogUnavailable, match="restart"):
        await append(log, 2, EMPTY, "later")
    with pytest.raises(LogUnavailable, match="restart"):
        await log.confirm(0, base.head)
    with pytest.raises(LogUnavailable, match="restart"):
        await log.head(0)
    with pytest.raises(LogUnavailable, match="restart"):
        await log.read(0, 1, 10)
    await log.close()
    again = SqliteEventLog(path, PARTITIONS)
    assert await whole(again, 0) == base.stored + (runs[0].stored if lands else [])
    assert await whole(again, 1) == (runs[1].stored if lands else [])
    assert await whole(again, 2) == []
    await again.close()


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_BUSY | 2 << 8,  # BUSY_SNAPSHOT
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
    ],
)
async def test_a_commit_of_one_statement_that_wrote_nothing_can_be_repeated(log: SqliteEventLog, code: int) -> None:
    base = await append(log, 0, EMPTY, "a")
    connection = wrapped(log, one_statement=True)
    connection.fail_on, connection.code = "INSERT", code
    _, results = await both(log, base.head, 2)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored, [])
    runs, results = await both(log, base.head, 2)
    assert results == [None, None]
    assert (await whole(log, 0), await whole(log, 1)) == (base.stored + runs[0].stored, runs[1].stored)


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR | 4 << 8, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM, 0]
)
async def test_a_commit_of_one_statement_that_may_have_landed_leaves_the_outcome_unknown(
    path: Path, code: int, lands: bool
) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    base = await append(log, 0, EMPTY, "a")
    connection = wrapped(log, one_statement=True)
    connection.fail_on, connection.code, connection.lands = "INSERT", code, lands
    runs, results = await both(log, base.head, 2)
    assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown]
    with pytest.raises(LogUnavailable, match="restart"):
        await append(log, 2, EMPTY, "later")
    await log.close()
    again = SqliteEventLog(path, PARTITIONS)
    assert await whole(again, 0) == base.stored + (runs[0].stored if lands else [])
    assert await whole(again, 1) == (runs[1].stored if lands else [])
    await again.close()


async def test_a_full_disk_at_a_commit_of_one_statement_is_unknown_if_the_records_exist(
    path: Path,
) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    connection = wrapped(log, one_statement=True)
    connection.fail_on, connection.code, connection.lands = "INSERT", sqlite3.SQLITE_FULL, True
    with pytest.raises(OutcomeUnknown):
        await append(log, 0, EMPTY, "a")
    await log.close()


async def test_appends_that_waited_behind_an_unknown_outcome_were_not_written(path: Path) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    connection = wrapped(log)
    connection.fail_on, connection.code, connection.first = "COMMIT", sqlite3.SQLITE_IOERR, "COMMIT"
    first = asyncio.create_task(append(log, 0, EMPTY, "a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is on its way to the disk
    behind = asyncio.create_task(append(log, 1, EMPTY, "b"))
    results = await asyncio.gather(first, behind, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknown, LogUnavailable]
    await log.close()
    again = SqliteEventLog(path, PARTITIONS)
    assert (len(await whole(again, 0)), len(await whole(again, 1))) == (1, 0)
    await again.close()


async def test_a_full_disk_is_an_unknown_outcome_if_the_records_exist(path: Path) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    connection = wrapped(log)
    connection.fail_on, connection.code, connection.first = "COMMIT", sqlite3.SQLITE_FULL, "COMMIT"
    with pytest.raises(OutcomeUnknown):
        await append(log, 0, EMPTY, "a")
    await log.close()


def test_a_disk_that_fails_in_mid_commit_leaves_the_outcome_unknown(path: Path) -> None:
    """A limit on file sizes makes the kernel itself refuse the WAL's next bytes, as a broken disk would."""
    program = (
        "import asyncio, resource, sys\n"
        "from pathlib import Path\n"
        "from conformance.event_log import append\n"
        "from ledger.sqlite.log import SqliteEventLog\n"
        "from ledger.errors import LogDamaged, LogUnavailable, OutcomeUnknown\n"
        "from ledger.core.record import EMPTY\n"
        "async def main():\n"
        "    log = SqliteEventLog(Path(sys.argv[1]), 4)\n"
        "    base = await append(log, 0, EMPTY, 'a')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))\n"
        "    try:\n"
        "        await append(log, 0, base.head, *(f'c{n}' for n in range(2_000)))\n"
        "    except OutcomeUnknown:\n"
        "        print('unknown')\n"
        "    try:\n"
        "        await append(log, 0, base.head, 'b')\n"
        "    except LogUnavailable:\n"
        "        print('closed')\n"
        "asyncio.run(main())\n"
    )
    assert run_program(program, path).split() == ["unknown", "closed"]
    assert asyncio.run(count_of(path, 0)) == 1


async def count_of(path: Path, partition: int) -> int:
    log = SqliteEventLog(path, PARTITIONS)
    records = await whole(log, partition)
    await log.close()
    return len(records)


async def test_an_unexpected_error_in_the_commit_thread_is_an_unknown_outcome_and_closes_the_log(path: Path) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    records = run_of(0, EMPTY, ["a"]).records
    broken = [replace(records[0], seq=2**70)]  # no integer of SQLite: fails in the driver, not as an sqlite3.Error
    async with asyncio.timeout(60):
        with pytest.raises(OutcomeUnknown):
            await log.append(0, EMPTY, broken)
        with pytest.raises(LogUnavailable):
            await log.append(0, EMPTY, records)
        await log.close()


async def test_an_append_to_a_closed_log_is_refused(path: Path) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    await log.close()
    async with asyncio.timeout(60):
        with pytest.raises(LogUnavailable):
            await append(log, 0, EMPTY, "a")
        with pytest.raises(LogUnavailable):
            await log.read(0, 1, 10)


# --- others on the same file -------------------------------------------------------------------------------------


async def test_another_sql_writer_makes_the_next_append_stale_rather_than_a_fork(
    log: SqliteEventLog, path: Path
) -> None:
    base = await append(log, 0, EMPTY, "a")
    theirs = run_of(0, base.head, ["theirs"])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO append VALUES (0, 2, 2, ?)", (theirs.stored[0] + b"\n",))
    with pytest.raises(StaleHead):
        await append(log, 0, base.head, "ours")
    assert await whole(log, 0) == base.stored + theirs.stored
    assert await log.head(0) == theirs.head
    last = await append(log, 0, theirs.head, "ours")
    assert await whole(log, 0) == base.stored + theirs.stored + last.stored


@pytest.mark.parametrize("records", [1, 2, 64, 65, 200])
async def test_another_sql_writer_is_noticed_by_commits_of_any_size(
    log: SqliteEventLog, path: Path, records: int
) -> None:
    base = await append(log, 0, EMPTY, "a")
    theirs = run_of(1, EMPTY, ["theirs"])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO append VALUES (1, 1, 1, ?)", (theirs.stored[0] + b"\n",))
    ids = [f"c{number}" for number in range(records)]
    results = await asyncio.gather(
        append(log, 0, base.head, *ids), append(log, 1, EMPTY, "ours"), return_exceptions=True
    )
    assert isinstance(results[0], Run), "its partition did not change"
    assert isinstance(results[1], StaleHead)
    assert await whole(log, 0) == base.stored + results[0].stored
    assert await whole(log, 1) == theirs.stored


@pytest.mark.parametrize("records", [1, 64, 65, 200])
async def test_a_head_that_another_sql_writer_changed_or_removed_makes_the_next_append_stale(
    log: SqliteEventLog, path: Path, records: int
) -> None:
    """The next seq is free, so no trigger refuses the append: only the check of the head does."""
    first = await append(log, 0, EMPTY, "a")
    base = await append(log, 0, first.head, "b")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER append_is_unchanged")
        other.execute("UPDATE append SET records = x'000A' WHERE first_seq = 2")
    with pytest.raises(StaleHead):
        await append(log, 0, base.head, *(f"c{number}" for number in range(records)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE append SET records = x'00' WHERE first_seq = 2")
    for _ in range(2):
        with pytest.raises(StaleHead, match="damaged at partition 0, seq 2"):
            await append(log, 0, base.head, *(f"c{number}" for number in range(records)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER append_is_kept")
        other.execute("DELETE FROM append WHERE first_seq = 2")
    with pytest.raises(StaleHead):
        await append(log, 0, base.head, *(f"c{number}" for number in range(records)))
    assert len(contents(path)) == 1


DAMAGES: Final = {
    "a row is missing": (
        "DELETE FROM append WHERE first_seq = 2",
        2,
        "the record is missing, the next one has seq 4",
    ),
    "a row says more than it has": ("UPDATE append SET last_seq = 5 WHERE first_seq = 2", 2, "has 2 records"),
    "a row has more than it says": ("UPDATE append SET last_seq = 2 WHERE first_seq = 2", 2, "has 2 records"),
    "a row begins later": ("UPDATE append SET first_seq = 3 WHERE first_seq = 2", 2, "the next one has seq 3"),
    "a row has bytes behind its end": (
        "UPDATE append SET records = CAST(records || 'x' AS BLOB) WHERE first_seq = 2",
        2,
        "its end is missing",
    ),
    "a row has lost its end": (
        "UPDATE append SET records = substr(records, 1, length(records) - 1) WHERE first_seq = 2",
        2,
        "its end is missing",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_rows_that_do_not_follow_each_other_are_damage_and_give_no_records(
    log: SqliteEventLog, path: Path, name: str
) -> None:
    head, stored = EMPTY, list[bytes]()
    for ids in (["a"], ["b", "c"], ["d", "e"]):
        run = await append(log, 0, head, *ids)
        head, stored = run.head, stored + run.stored
    statement, seq, reason = DAMAGES[name]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for trigger in ("append_is_kept", "append_is_unchanged"):
            other.execute(f"DROP TRIGGER {trigger}")
        other.execute(statement)
    for limit in (2, 100):
        with pytest.raises(LogDamaged, match=f"partition 0, seq {seq}: .*{reason}"):
            await log.read(0, 1, limit)
    assert await log.read(0, 1, 1) == stored[:1]
    with closing(SqliteRecords(path)) as records:
        pages = records.read(0, 5)
        assert next(pages) == [(stored[0], 1)]
        with pytest.raises(LogDamaged, match=reason):
            next(pages)
    with closing(SqliteLogReader(path)) as reader, pytest.raises(LogDamaged, match=reason):
        reader.read(0, 1, 5)


async def test_nothing_is_written_while_another_process_keeps_the_lock(log: SqliteEventLog, path: Path) -> None:
    log._writer.execute("PRAGMA busy_timeout=50")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="locked"):
            await append(log, 0, EMPTY, "a")
        other.execute("ROLLBACK")
    await append(log, 0, EMPTY, "a")


_WAL_PAGES: Final = 64
_WAL_LIMIT: Final = 6 * _WAL_PAGES * 4_096


async def test_a_follower_that_polls_does_not_let_the_wal_grow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_WAL_PAGES", _WAL_PAGES)
    log, follower = SqliteEventLog(path, PARTITIONS), SqliteEventLog(path, PARTITIONS)
    longest, written, seen = await _append_while(log, follower)
    assert seen == written
    assert longest <= _WAL_LIMIT, f"the WAL grew to {longest} bytes"
    await log.close()
    await follower.close()


async def test_a_reader_in_one_long_transaction_lets_the_wal_grow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the test above can fail."""
    monkeypatch.setattr(sqlite_log, "_WAL_PAGES", _WAL_PAGES)
    log = SqliteEventLog(path, PARTITIONS)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM append").fetchone()
        longest, _, _ = await _append_while(log, log)
        reader.execute("ROLLBACK")
    assert longest > _WAL_LIMIT
    await log.close()


async def _append_while(log: SqliteEventLog, follower: SqliteEventLog) -> tuple[int, int, int]:
    """Append some megabytes while the follower polls. Returns the WAL's largest size, records written and read."""
    wal = log._path.with_name(log._path.name + "-wal")
    longest, written, seen, head = 0, 0, 0, EMPTY
    for number in range(100):
        run = await append(log, 0, head, *(f"c{number}-{part}" for part in range(100)))
        head, written = run.head, written + len(run.records)
        seen += len(await follower.read(0, seen + 1, 150))
        longest = max(longest, wal.stat().st_size)
    return longest, written, seen


def content_of(path: Path) -> bytes:
    return path.read_bytes()


# --- files that are no log ---------------------------------------------------------------------------------------


async def test_another_number_of_partitions_is_refused(path: Path) -> None:
    await SqliteEventLog(path, PARTITIONS).close()
    before = content_of(path)
    with pytest.raises(WrongPartitions, match="STAKELOG_PARTITIONS=4"):
        SqliteEventLog(path, PARTITIONS + 1)
    assert content_of(path) == before


@pytest.mark.parametrize("content", [b"no database" * 1_000, b"SQLite format 3\0" + b"\xff" * 10_000, b"x"])
def test_a_file_that_is_no_database_is_refused_and_left_unchanged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogUnreadable):
        SqliteEventLog(path, PARTITIONS)
    assert path.read_bytes() == content


def test_a_database_that_is_no_log_is_refused_and_left_unchanged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine(it TEXT)")
    with pytest.raises(LogUnreadable, match="is not an event log"):
        SqliteEventLog(path, PARTITIONS)
    with closing(sqlite3.connect(path)) as other:
        assert [row[0] for row in other.execute("SELECT name FROM sqlite_schema")] == ["mine"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE meta SET value = '3' WHERE key = 'format'",
        "DELETE FROM meta WHERE key = 'format'",
        "DELETE FROM meta WHERE key = 'partitions'",
        "UPDATE meta SET value = 'many' WHERE key = 'partitions'",
    ],
)
async def test_a_log_with_an_unknown_description_is_refused(path: Path, damage: str) -> None:
    await SqliteEventLog(path, PARTITIONS).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(damage)
    with pytest.raises(LogUnreadable):
        SqliteEventLog(path, PARTITIONS)


@pytest.mark.parametrize("left", [0.9, 0.5, 0.01])
async def test_a_truncated_file_is_refused_and_left_unchanged(path: Path, left: float) -> None:
    log = SqliteEventLog(path, PARTITIONS)
    await append(log, 0, EMPTY, *(f"c{number}" for number in range(500)))
    await log.close()
    content = content_of(path)
    os.truncate(path, int(len(content) * left))
    with pytest.raises(LogUnreadable, match="truncated"):
        SqliteEventLog(path, PARTITIONS)
    assert content_of(path) == content[: int(len(content) * left)]
