"""SQLite's locks on the log's files, while this process has it open.

To close any descriptor of a file drops the process's POSIX locks on it. A process that then closes the database takes
itself for the last one: it deletes the WAL, and this process would commit into a deleted file.
"""

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from api.cli import sockets
from conformance.event_log import append, whole
from ledger.core.record import EMPTY
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader
from ledger.sqlite.wal import wal_of

READ_AND_CLOSE = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM append').fetchone()"


def other_process_reads(path: Path) -> None:
    """Open the log for reading and writing, read it, and close it, as an operator's shell does."""
    subprocess.run([sys.executable, "-c", READ_AND_CLOSE, str(path)], check=True)


def look_for_sockets(_: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert sockets.limit_unread(port) == 1
        assert sockets.cut_connections(port) == 0


def read_the_log(path: Path) -> None:
    with closing(SqliteLogReader(path, is_open_here=True)) as reader:
        assert reader.ends() == [1, 0]


def close_the_file(path: Path) -> None:
    path.open("rb").close()


@pytest.mark.parametrize("happens", [look_for_sockets, read_the_log])
async def test_what_the_service_does_beside_the_log_keeps_its_locks(tmp_path: Path, happens: object) -> None:
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    first = await append(log, 0, EMPTY, "a")
    assert callable(happens)
    happens(path)
    before = wal_of(path).stat()
    other_process_reads(path)
    assert wal_of(path).stat().st_ino == before.st_ino, "the other process has deleted the WAL"
    second = await append(log, 0, first.head, "b")
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT max(last_seq) FROM append").fetchone() == (2,)
    assert await whole(log, 0) == first.stored + second.stored
    await log.close()


async def test_the_locks_are_lost_when_a_descriptor_of_the_file_is_closed(tmp_path: Path) -> None:
    """So the test above can fail."""
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    await append(log, 0, EMPTY, "a")
    close_the_file(path)
    other_process_reads(path)
    assert not wal_of(path).exists()
    await log.close()
