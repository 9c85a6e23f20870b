"""A log of format 1, to be read once: its table ``event`` had one row a record. `stakelog upgrade` uses it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger.errors import LogDamaged, LogUnavailable, LogUnreadable
from ledger.ports import StoredRecord
from ledger.sqlite.log_file import check_length, connect, partitions_in, read_meta

FORMAT_1: Final = "1"


class Format1Log:
    """The records of the file, which no other program writes. Implements ``ledger.operations.audit.RecordsFrom``."""

    _ENDS: Final = "SELECT partition, min(seq), max(seq) FROM event GROUP BY partition"
    # CAST, because SQL may have stored a record as TEXT.
    _PAGE: Final = """SELECT CAST(record AS BLOB), seq FROM event
        WHERE partition = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 10000"""

    def __init__(self, path: Path) -> None:
        """Raises LogUnreadable."""
        self.path = path
        check_length(path)
        self._connection = connect(path)
        self.meta = read_meta(self._connection, path)
        if self.meta.get("format") != FORMAT_1:
            raise LogUnreadable(f"{path} has the format {self.meta.get('format')}, not {FORMAT_1}")
        self.partitions = partitions_in(self.meta, path)

    def ends(self) -> list[int]:
        """Raises LogUnreadable, LogDamaged."""
        with self._translated_errors():
            rows = self._connection.execute(self._ENDS).fetchall()
        ends = [0] * self.partitions
        for partition, first, end in rows:
            if not 0 <= partition < self.partitions:
                raise LogUnreadable(f"{self.path} contains partition {partition}, but has {self.partitions}")
            if first != 1:
                raise LogDamaged(partition, 1, f"the partition begins with seq {first}")
            ends[partition] = end
        return ends

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
        """Yield the partition's records of these seqs in pages, in order. Raises LogUnreadable."""
        seq = from_seq - 1
        while seq < to_seq:
            with self._translated_errors():
                page = self._connection.execute(self._PAGE, (partition, seq, to_seq)).fetchall()
            if not page:
                return
            seq = page[-1][1]
            yield page

    def fold_wal(self) -> None:
        """Write the WAL into the file and delete it, so that the file alone is the log. Raises LogUnavailable."""
        try:
            (mode,) = self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.Error as error:
            mode = str(error)
        if mode != "delete":
            raise LogUnavailable(
                f"{self.path} is in use by another program ({mode}), perhaps a backup or an audit: wait for its end, "
                "and run this again"
            )

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LogUnreadable(f"{self.path} cannot be read: {error}") from error
