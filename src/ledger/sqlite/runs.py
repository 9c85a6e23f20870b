"""A partition's ids on disk: sorted runs of keys and values, written in order and merged, never changed in place.

No id is ever deleted, and new ones are anywhere in the order of keys. In one tree each of them changes another page,
and the longer the log, the rarer two of them share one. Measured, at a million bets: 11 µs and 4.6 KB
written per bet, at the beginning 4 µs and 0.3 KB. So a save adds one run, and runs of about the same size become one:
an id is written again once while the log grows four-fold, and a look-up reads from few runs.

Invariants:
(1) the keys of a run are in order, each once. If two runs share a key, the newer run counts, which has the higher
    number. An empty value means that the key was deleted;
(2) only runs in table ``run`` count. A run's chunks are written before the run is listed, and deleted after it is
    unlisted, so that a merge may take many transactions, with saves between them. Chunks of other runs are deleted
    before the next merge, and when the file is opened;
(3) a merge changes nothing that a reader sees.
"""

import sqlite3
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from operator import itemgetter
from typing import Final

from ledger.ports import Page

Pairs = list[tuple[bytes, bytes]]
"""Keys and their encoded values, in the order of keys."""

Transaction = Callable[[], AbstractContextManager[None]]
"""A write transaction: all or nothing."""

SCHEMA: Final = (
    "CREATE TABLE run(partition INTEGER, run INTEGER, entries INTEGER, PRIMARY KEY (partition, run)) WITHOUT ROWID",
    # With rowids: a long row without them leaves up to half of its last page empty.
    "CREATE TABLE chunk(partition INTEGER, run INTEGER, first BLOB, lines BLOB)",
    "CREATE UNIQUE INDEX chunk_place ON chunk(partition, run, first)",
)

_RUNS: Final = "SELECT run, entries FROM run WHERE partition = ? ORDER BY run DESC"
# Of all chunks, so that a run that is saved during a merge is newer than the merged one.
_NEWEST: Final = "SELECT coalesce(max(run), 0) FROM chunk WHERE partition = ?"
_LIST: Final = "INSERT INTO run VALUES (?, ?, ?)"
_UNLIST: Final = "DELETE FROM run WHERE partition = ? AND run BETWEEN ? AND ?"
_ADD: Final = "INSERT INTO chunk VALUES (?, ?, ?, ?)"
_DELETE_SOME: Final = """DELETE FROM chunk WHERE rowid IN (
    SELECT rowid FROM chunk WHERE partition = ? AND run = ? LIMIT 2048)"""
_NEXT_RUN: Final = "SELECT min(run) FROM chunk WHERE partition = ? AND run > ?"
_CHUNKS: Final = "SELECT count(*) FROM chunk WHERE partition = ? AND run BETWEEN ? AND ?"
_IS_LISTED: Final = "SELECT 1 FROM run WHERE partition = ? AND run = ?"
# One statement, so that all runs are read in one snapshot: a merge may commit between two statements. A run is read
# when its row is fetched.
_FIND: Final = """SELECT (
        SELECT lines FROM chunk
        WHERE chunk.partition = ?1 AND chunk.run = run.run AND first <= ?2 ORDER BY first DESC LIMIT 1)
    FROM run WHERE partition = ?1 ORDER BY run DESC"""
_AT: Final = """SELECT first, lines FROM chunk WHERE partition = ? AND run = ? AND first <= ?
    ORDER BY first DESC LIMIT 1"""
_BEHIND: Final = """SELECT first, lines FROM chunk WHERE partition = ? AND run = ? AND first > ?
    ORDER BY first LIMIT 16"""

_CHUNK_BYTES: Final = 1_850
"""Two chunks of usual ids fit into a page of 4 KiB. Measured: with 12 KB a look-up takes four times as long."""
_MERGED_AT_ONCE: Final = 4
_SMALL: Final = 1_024
"""Runs with fewer pairs count as equally long. Chosen: they are written again every few saves, in 1 ms."""
_PAIRS_PER_COMMIT: Final = 16_384
"""Chosen: other partitions wait some 20 ms for their checkpoints."""
_BYTES_PER_CHUNK: Final = 2_200
"""Measured: with its part of the index and of the unused end of the page."""
_BYTES_PER_COMMIT: Final = 2 * 1024 * 1024
"""Chosen: ids of 100 bytes."""


def find(reader: sqlite3.Connection, partition: int, key: str) -> bytes | None:
    """The value under ``key``; None if there is none."""
    wanted = key.encode()
    line = b"\n%b\n" % wanted
    for (lines,) in reader.execute(_FIND, (partition, wanted)):
        if lines is not None and (at := lines.find(line)) >= 0:
            begin = at + len(line)
            return lines[begin : lines.index(b"\n", begin)] or None
    return None


def add(writer: sqlite3.Connection, partition: int, pairs: Pairs) -> None:
    """Add the newest run, within the caller's transaction."""
    if pairs:
        run = writer.execute(_NEWEST, (partition,)).fetchone()[0] + 1
        fill(writer, partition, run, pairs)
        list_run(writer, partition, run, len(pairs))


def fill(writer: sqlite3.Connection, partition: int, run: int, pairs: Pairs) -> None:
    """Add pairs to a run that is not listed yet. Their keys are behind those that it has."""
    size = sum(map(len, chain.from_iterable(pairs))) + 2 * len(pairs)
    number = max(_CHUNK_BYTES * len(pairs) // max(size, 1), 1)
    chunks = (pairs[at : at + number] for at in range(0, len(pairs), number))
    writer.executemany(
        _ADD,
        ((partition, run, some[0][0], b"\n".join([b"", *chain.from_iterable(some), b""])) for some in chunks),
    )


def list_run(writer: sqlite3.Connection, partition: int, run: int, count: int) -> None:
    """From now on the run counts."""
    if count:
        writer.execute(_LIST, (partition, run, count))


def unlist_all(writer: sqlite3.Connection, partition: int) -> None:
    """From now on no run of the partition counts."""
    writer.execute(_UNLIST, (partition, 0, sys.maxsize))


def merge(
    writer: sqlite3.Connection, partition: int, transaction: Transaction, has_room: Callable[[int], bool]
) -> Iterator[None]:
    """Merge the newest runs into one if enough of them have about the same size, and if the disk ``has_room`` for so
    many more bytes. Each step is one transaction at most. Saves may come between two steps. To give the merge up,
    take no further step: the runs stay as they are."""
    runs = writer.execute(_RUNS, (partition,)).fetchall()
    number = merged_at_once([count for _, count in runs])
    old = sorted(run for run, _ in runs[:number])
    if not old:
        return
    (chunks,) = writer.execute(_CHUNKS, (partition, old[0], old[-1])).fetchone()
    if not has_room(chunks * _BYTES_PER_CHUNK):
        return
    new, count = writer.execute(_NEWEST, (partition,)).fetchone()[0] + 1, 0
    blocks = merged([_pairs_of_run(writer, partition, run) for run in old], keep_deleted=number < len(runs))
    each = chain.from_iterable(blocks)
    while pairs := list(islice(each, _PAIRS_PER_COMMIT)):
        if not has_room(_BYTES_PER_COMMIT):  # others fill the disk, too
            yield from delete_unlisted(writer, partition, transaction)
            return
        with transaction():
            fill(writer, partition, new, pairs)
        count += len(pairs)
        yield
    with transaction():
        writer.execute(_UNLIST, (partition, old[0], old[-1]))
        list_run(writer, partition, new, count)
    yield
    yield from delete_unlisted(writer, partition, transaction)


def merged_at_once(counts: Sequence[int]) -> int:
    """How many of the runs, the newest first, are to be merged; 0 if too few have about the same size."""
    levels = [((number // _SMALL).bit_length() + 1) // 2 for number in counts]  # each four times the one below
    for level in sorted(set(levels)):
        if levels.count(level) >= _MERGED_AT_ONCE:
            return len(levels) - levels[::-1].index(level)
    return 0


def delete_unlisted(writer: sqlite3.Connection, partition: int, transaction: Transaction) -> Iterator[None]:
    """Delete what is left of merged runs, and of a merge that failed or was given up, one transaction a step."""
    run = -1
    while (run := writer.execute(_NEXT_RUN, (partition, run)).fetchone()[0]) is not None:
        some = writer.execute(_IS_LISTED, (partition, run)).fetchone() is None
        while some:
            with transaction():
                some = writer.execute(_DELETE_SOME, (partition, run)).rowcount > 0
            yield


def pairs_by_run(reader: sqlite3.Connection, partition: int, first: bytes) -> list[Iterator[Pairs]]:
    """Of each run its pairs from ``first`` on, the oldest run first. To be read within one transaction."""
    runs = reader.execute(_RUNS, (partition,)).fetchall()
    return [_pairs_of_run(reader, partition, run, first) for run, _ in reversed(runs)]


def _pairs_of_run(reader: sqlite3.Connection, partition: int, run: int, first: bytes = b"") -> Iterator[Pairs]:
    at, rows = first, reader.execute(_AT, (partition, run, first)).fetchall()
    if rows:
        pairs = _pairs_of_chunks(rows)
        if pairs := pairs[bisect_left(pairs, first, key=itemgetter(0)) :]:
            yield pairs
        at = rows[-1][0]
    while rows := reader.execute(_BEHIND, (partition, run, at)).fetchall():
        yield _pairs_of_chunks(rows)
        at = rows[-1][0]


def _pairs_of_chunks(rows: Sequence[tuple[bytes, bytes]]) -> Pairs:
    return pairs_of(b"".join([lines[1:] for _, lines in rows])[:-1])


def pairs_of(page: Page) -> Pairs:
    """Raises ValueError where a line is missing."""
    lines = page.split(b"\n")
    return list(zip(lines[::2], lines[1::2], strict=True))


def merged(sources: Sequence[Iterator[Pairs]], *, keep_deleted: bool) -> Iterator[Pairs]:
    """The pairs of all sources in the order of keys, in blocks. If sources share a key, the last of them counts."""
    pending: list[Pairs] = [[] for _ in sources]
    while True:
        for at, source in enumerate(sources):
            pending[at] = pending[at] or next(source, [])
        ends = [pairs[-1][0] for pairs in pending if pairs]
        if not ends:
            return
        end, block = min(ends), dict[bytes, bytes]()
        for at, pairs in enumerate(pending):
            number = bisect_right(pairs, end, key=itemgetter(0))
            block.update(pairs[:number])
            pending[at] = pairs[number:]
        if not keep_deleted and b"" in block.values():
            block = {key: value for key, value in block.items() if value}
        if block:
            yield sorted(block.items())
