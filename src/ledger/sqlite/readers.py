"""The log's file, opened read-only, while a writer uses it or not.

Every read is a short transaction: a long one would prevent the writer from resetting its WAL.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ledger.core.games.tables import PayTable, read_tables
from ledger.core.money import Assets
from ledger.core.money_rules import Money, read_all
from ledger.core.position import partition_of
from ledger.core.record import Head, records_of_user, sha256_hex
from ledger.errors import LedgerError, LogDamaged, LogUnavailable, LogUnreadable
from ledger.ports import StoredRecord
from ledger.sqlite.log_file import (
    SELECT_ASSETS,
    SELECT_GAMES,
    SELECT_MONEY_RULES,
    SELECT_TABLES,
    check_length,
    connect,
    names_in,
    records_from,
    stored_partitions,
)


class _LogFile(ABC):
    """A log's file, opened read-only, until ``close``."""

    def __init__(self, path: Path, *, is_open_here: bool = False) -> None:
        """``is_open_here``: this process has the log open already. Raises LogUnreadable, LogOutdated."""
        self._path = path
        if not path.exists():
            raise LogUnreadable(f"there is no event log at {path}")
        if not is_open_here:
            check_length(path)
        self._connection = connect(path, read_only=True)
        try:
            self.partitions = stored_partitions(self._connection, path)
        except LedgerError:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def tables(self) -> dict[str, PayTable]:
        """Return the pay tables that are kept with the log, by their digests."""
        rows = self._rows(SELECT_TABLES)
        try:
            return read_tables(rows[0][0]) if rows else {}
        except (ValueError, TypeError) as error:
            raise LogUnreadable(f"the pay tables in {self._path} cannot be read: {error}") from error

    def _rows(self, sql: str, parameters: tuple[int | str, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._cannot_be_read(error) from error

    @abstractmethod
    def _cannot_be_read(self, error: sqlite3.Error) -> LedgerError:
        """What to raise for the database's error."""


class SqliteRecords(_LogFile):
    """The records in a log's file, for the auditor. Implements ``ledger.operations.audit.Records``."""

    _ENDS: Final = "SELECT partition, max(last_seq) FROM append GROUP BY partition"
    _PAGE: Final = 2_000

    def assets(self) -> Assets:
        """Return the assets' exponents stored with the log; {} if there are none."""
        rows = self._rows(SELECT_ASSETS)
        try:
            return {str(asset): int(exponent) for asset, exponent in json.loads(rows[0][0]).items()} if rows else {}
        except (ValueError, TypeError, AttributeError) as error:
            raise LogUnreadable(f"the assets declared in {self._path} cannot be read: {error}") from error

    def money_rules(self) -> dict[str, Money]:
        """Return the rules of money flows that are kept with the log, by their digests."""
        rows = self._rows(SELECT_MONEY_RULES)
        try:
            return read_all(rows[0][0]) if rows else {}
        except (ValueError, TypeError) as error:
            raise LogUnreadable(f"the rules of money flows in {self._path} cannot be read: {error}") from error

    def games(self) -> set[str]:
        """Return the names of the games that are kept with the log."""
        rows = self._rows(SELECT_GAMES)
        try:
            return names_in(rows[0] if rows else None)
        except (ValueError, TypeError) as error:
            raise LogUnreadable(f"the names of games in {self._path} cannot be read: {error}") from error

    def ends(self) -> list[int]:
        ends = dict(self._rows(self._ENDS))
        unknown = [partition for partition in ends if not 0 <= partition < self.partitions]
        if unknown:
            raise LogUnreadable(
                f"{self._path} contains partition {unknown[0]}, but was created with {self.partitions} partitions"
            )
        return [ends.get(partition, 0) for partition in range(self.partitions)]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
        """Yield the partition's records of these seqs in pages, in order; fewer if the log ends before ``to_seq``.

        Raises LogDamaged, after the records before the damage; LogUnreadable."""
        for seq, records in self._pages(partition, to_seq, from_seq):
            yield list(zip(records, range(seq, seq + len(records)), strict=True))  # type: ignore[arg-type]
            # Plain tuples: to make a StoredRecord of each one costs a tenth of verify.

    def of_user(self, user_id: str) -> Iterator[list[bytes]]:
        """Yield the wallet's records in pages, in order. It reads all of the user's partition."""
        partition = partition_of(user_id, self.partitions)
        if partition >= self.partitions:
            return
        for _, records in self._pages(partition, self.ends()[partition], 1):
            if found := records_of_user(records, user_id):
                yield found

    def _pages(self, partition: int, to_seq: int, from_seq: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield pages: the seq of the first record, and the records."""
        seq, end, damage = from_seq, to_seq, None
        while seq <= end:
            try:
                page = records_from(self._connection, partition, seq, min(self._PAGE, end - seq + 1))
            except LogDamaged as found:
                end, damage = found.seq - 1, found  # first the records before it
                continue
            except sqlite3.Error as error:
                raise self._cannot_be_read(error) from error
            if not page:
                return
            yield seq, page
            seq += len(page)
        if damage is not None:
            raise damage

    def _cannot_be_read(self, error: sqlite3.Error) -> LedgerError:
        return LogUnreadable(f"{self._path} cannot be read: {error}")


class SqliteLogReader(_LogFile):
    """The log's file, for followers. Implements ``projections.projecting.log_reader.LogReader``."""

    # One look-up in the index per partition; a GROUP BY would scan all of it.
    _ENDS: Final = """WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
        SELECT (SELECT last_seq FROM append WHERE partition = n ORDER BY first_seq DESC LIMIT 1) FROM numbers
        ORDER BY n"""
    _DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

    def __init__(self, path: Path, *, is_open_here: bool = False) -> None:
        """``is_open_here``: this process has the log open already. Raises LogUnreadable, LogOutdated."""
        super().__init__(path, is_open_here=is_open_here)
        self._version: int | None = None

    def changed(self) -> bool:
        version: int = self._rows("PRAGMA data_version")[0][0]
        if version == self._version:
            return False
        self._version = version
        return True

    def ends(self) -> list[int]:
        return [row[0] or 0 for row in self._rows(self._ENDS, (self.partitions,))]

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        try:
            return records_from(self._connection, partition, from_seq, limit)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in self._DAMAGED:
                raise LogDamaged(partition, from_seq, str(error)) from error
            raise self._cannot_be_read(error) from error

    def contains(self, partition: int, head: Head) -> bool:
        return [sha256_hex(record) for record in self.read(partition, head.seq, 1)] == [head.sha256]

    def _cannot_be_read(self, error: sqlite3.Error) -> LedgerError:
        return LogUnavailable(f"the log {self._path} cannot be read: {error}")
