"""The reader of the SQLite log passes the one contract of log readers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.event_log import PARTITIONS, OpenLog
from conformance.log_reader import LogReaderContract, OpenReader
from ledger.ports import EventLog
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader


class TestSqliteLogReader(LogReaderContract):
    @pytest.fixture
    def open_log(self, tmp_path: Path) -> OpenLog:
        async def opened() -> EventLog:
            return SqliteEventLog(tmp_path / "events.sqlite3", PARTITIONS)

        return opened

    @pytest.fixture
    def open_reader(self, tmp_path: Path) -> Iterator[OpenReader]:
        opened: list[SqliteLogReader] = []

        def one() -> SqliteLogReader:
            reader = SqliteLogReader(tmp_path / "events.sqlite3")
            opened.append(reader)
            return reader

        yield one
        for reader in opened:
            reader.close()
