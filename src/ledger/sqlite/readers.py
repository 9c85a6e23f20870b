"""The log's file, opened read-only, while a writer uses it or not.

Every read is a short transaction: a long one would prevent the writer from resetting its WAL.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ledger.core.money import Assets
from ledger.core.record import Head, sha256_hex
from ledger.errors import LogDamaged, LogUnavailable, LogUnreadable
from ledger.ports import StoredRecord
from ledger.sqlite.log_file import SELECT_ASSETS, check_length, connect, stored_partitions


class SqliteRecords:
    """The records in a log's file, for the auditor. Implements ``ledger.operations.audit.Records``."""

    _ENDS: Final = "SELECT partition, max(seq) FROM event GROUP BY partition"
    _PAGE: Final = """SELECT record, seq, user_id, command_id FROM event
        WHERE partition = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 2000"""
    # Positions come from the index of (user_id, command_id), which is in another order: they are sorted once.
    POSITIONS: Final = "SELECT partition, seq FROM event WHERE user_id = ? ORDER BY partition, seq"
    _RECORD: Final = "SELECT CAST(record AS BLOB) FROM event WHERE partition = ? AND seq = ?"
    _WALLET_PAGE: Final = 500

    def __init__(self, path: Path) -> None:
        """Raises LogUnreadable."""
        self._path = path
        if not path.exists():
            raise LogUnreadable(f"there is no event log at {path}")
        check_length(path)
        self._connection = connect(path, read_only=True)
        self.partitions = stored_partitions(self._connection, path)

    def assets(self) -> Assets:
        """Return the assets' exponents stored with the log; {} if there are none."""
        rows = self._rows(SELECT_ASSETS, ())
        try:
            return {str(asset): int(exponent) for asset, exponent in json.loads(rows[0][0]).items()} if rows else {}
        except (ValueError, TypeError, AttributeError) as error:
            raise LogUnreadable(f"the assets declared in {self._path} cannot be read: {error}") from error

    def ends(self) -> list[int]:
        ends = dict(self._rows(self._ENDS, ()))
        unknown = [partition for partition in ends if not 0 <= partition < self.partitions]
        if unknown:
            raise LogUnreadable(
                f"{self._path} contains partition {unknown[0]}, but was created with {self.partitions} partitions"
            )
        return [ends.get(partition, 0) for partition in range(self.partitions)]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
        """Yield the partition's records of these seqs in pages, in order; fewer if the log ends before ``to_seq``."""
        seq = from_seq - 1
        while page := self._rows(self._PAGE, (partition, seq, to_seq)):
            seq = page[-1][1]
            yield page  # rows have the order of StoredRecord's members: to convert each one costs a tenth of verify

    def story(self, user_id: str) -> Iterator[list[bytes]]:
        """Yield the wallet's records in pages, in order, by the index: the partition's length does not matter."""
        positions = self._rows(self.POSITIONS, (user_id,))
        for first in range(0, len(positions), self._WALLET_PAGE):
            page = positions[first : first + self._WALLET_PAGE]
            yield [record for position in page for (record,) in self._rows(self._RECORD, position)]

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, parameters: tuple[int | str, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise LogUnreadable(f"{self._path} cannot be read: {error}") from error


class SqliteLogReader:
    """The log's file, for followers. Implements ``projections.projecting.follower.LogReader``."""

    # One look-up in the index per partition; a GROUP BY would scan all of it.
    _ENDS: Final = """WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
        SELECT (SELECT max(seq) FROM event WHERE partition = n) FROM numbers ORDER BY n"""
    _RUN: Final = """SELECT seq, CAST(record AS BLOB) FROM event
        WHERE partition = ? AND seq >= ? ORDER BY seq LIMIT ?"""
    _DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

    def __init__(self, path: Path) -> None:
        """Raises LogUnreadable."""
        self._path = path
        if not path.exists():
            raise LogUnreadable(f"there is no event log at {path}")
        check_length(path)
        self._connection = connect(path, read_only=True)
        self.partitions = stored_partitions(self._connection, path)
        self._version: int | None = None

    def changed(self) -> bool:
        version: int = self._rows("PRAGMA data_version", ())[0][0]
        if version == self._version:
            return False
        self._version = version
        return True

    def ends(self) -> list[int]:
        return [row[0] or 0 for row in self._rows(self._ENDS, (self.partitions,))]

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        try:
            rows = self._rows(self._RUN, (partition, from_seq, limit))
        except LogUnavailable as error:
            if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in self._DAMAGED:
                raise LogDamaged(partition, from_seq, str(error.__cause__)) from error
            raise
        for expected, (seq, _) in enumerate(rows, from_seq):
            if seq != expected:
                raise LogDamaged(partition, expected, f"the record is missing, the next one has seq {seq}")
        return [record for _, record in rows]

    def holds(self, partition: int, head: Head) -> bool:
        return [sha256_hex(record) for record in self.read(partition, head.seq, 1)] == [head.sha256]

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, parameters: tuple[int, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise LogUnavailable(f"the log {self._path} cannot be read: {error}") from error
