"""The log's file as tests look at it and damage it: record by record, whatever the rows are.

records = stored_records(folder / EVENTS)                       # [(partition, seq, record), …]
damage(folder / EVENTS, "DELETE FROM event WHERE seq = 2")      # as no program may
"""

import sqlite3
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple


class Stored(NamedTuple):
    partition: int
    seq: int
    record: bytes


def stored_records(path: Path) -> list[Stored]:
    """Every record, in the order of partitions and seqs."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return _split(connection)


def records_by_partition(path: Path, partitions: int) -> list[list[bytes]]:
    stored = stored_records(path)
    return [[one.record for one in stored if one.partition == partition] for partition in range(partitions)]


def damage(path: Path, sql: str, *values: Any) -> int:
    """Run ``sql`` on a table ``event(partition, seq, record)`` of all records, then write its rows back.

    Records that follow each other and were one append are one row again. Returns how many records were changed.
    """
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        rows = connection.execute("SELECT partition, first_seq, last_seq FROM append").fetchall()
        first_seq_of = {
            (partition, seq): first_seq
            for partition, first_seq, last_seq in rows
            for seq in range(first_seq, last_seq + 1)
        }
        connection.execute("CREATE TEMP TABLE event(partition, seq, record, PRIMARY KEY (partition, seq))")
        connection.executemany("INSERT INTO event VALUES (?,?,?)", _split(connection))
        changed = connection.execute(sql, values).rowcount
        connection.execute("DELETE FROM append")
        found = connection.execute(
            "SELECT partition, seq, CAST(record AS BLOB) FROM event ORDER BY partition, seq"
        ).fetchall()
        # The number of a record minus its seq is the same for all records without a gap between them.
        for _, run in groupby(
            enumerate(Stored(*row) for row in found),
            lambda one: (one[1].partition, one[0] - one[1].seq, first_seq_of.get(one[1][:2])),
        ):
            together = [stored for _, stored in run]
            records = b"".join(stored.record + b"\n" for stored in together)
            first, last = together[0], together[-1]
            connection.execute("INSERT INTO append VALUES (?,?,?,?)", (first.partition, first.seq, last.seq, records))
        connection.execute("DROP TABLE event")
        for _, again in triggers:
            connection.execute(again)
        connection.execute("COMMIT")
    return changed


def _split(connection: sqlite3.Connection) -> list[Stored]:
    return [
        Stored(partition, seq, record)
        for partition, first_seq, records in connection.execute(
            "SELECT partition, first_seq, records FROM append ORDER BY partition, first_seq"
        )
        for seq, record in enumerate(records.split(b"\n")[:-1], first_seq)
    ]
