"""Turns a folder's log of an older format into one of this format: the same records, so the same seqs and heads.

Invariants:
(1) the old file is only read until the new one is proved: each old record continues the chain, and the new file has
    the same records, byte for byte, and no others;
(2) the unfinished new file records the progress: it grows by transactions of a bounded number of records. After a
    kill at any moment the next run continues it. A new file that is not the beginning of this log is deleted and
    rewritten;
(3) the switch is one rename: before it ``events.sqlite3`` is the old log, after it the new one, so there is always a
    log. The old one has a second name by then, ``events.sqlite3.old``.

State and read model are caches of the log at a seq and a head, so they stay valid. The caller has the folder's lock.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from ledger.core.record import EMPTY, EMPTY_SHA256, Head, sha256_hex
from ledger.errors import FolderUnusable, LogDamaged, LogOutdated, LogUnavailable, LogUnreadable
from ledger.files import sync
from ledger.operations.verifying.damage import link_of
from ledger.ports import StoredRecord
from ledger.sqlite.folder import EVENTS, NEW_EVENTS, OLD_EVENTS
from ledger.sqlite.format_1 import Format1Log
from ledger.sqlite.log_file import FORMAT, SCHEMA, connect, last_head, read_meta
from ledger.sqlite.readers import SqliteRecords

ROW_RECORDS: Final = 64
"""Records in one row: the old file does not say what was one append. Chosen: as many as an append has under load."""

_REPORT_EVERY: Final = 1_000

Progress = Callable[[str, int, int | None], None]
"""Receives the current step, the number of events done, and their total."""


class Upgraded(NamedTuple):
    """``old``: the log as it was before; it is not needed any more."""

    heads: tuple[Head, ...]
    old: Path


def upgrade(folder: Path, progress: Progress) -> Upgraded | None:
    """Upgrade the log in ``folder``. None: it has this format already.

    Raises LogDamaged for the first record that is missing or does not continue the chain; LogUnavailable where
    another program uses the folder or the disk is full; LogUnreadable; FolderUnusable. The old log is kept then.
    """
    path, new, old = folder / EVENTS, folder / NEW_EVENTS, folder / OLD_EVENTS
    if not _is_outdated(path):
        return None
    with closing(Format1Log(path)) as source:
        ends = source.ends()
        _copy(source, ends, new, progress)
        heads = _compare(source, ends, new, progress)
        source.fold_wal()
        if source.ends() != ends:
            raise LogUnavailable(f"another program writes to {path}: stop it, and run this again")
    _switch(path, new, old)
    return Upgraded(heads, old)


def _is_outdated(path: Path) -> bool:
    """Raises LogUnreadable."""
    try:
        SqliteRecords(path).close()
    except LogOutdated:
        return True
    return False


def _copy(source: Format1Log, ends: Sequence[int], new: Path, progress: Progress) -> None:
    """Write the records that ``new`` lacks."""
    meta = {**source.meta, "format": FORMAT}
    try:
        target = _open_or_create(source, ends, meta, new)
        with closing(target):
            target.execute("PRAGMA synchronous=FULL")
            heads = [last_head(target, partition) for partition in range(len(ends))]
            done, total = sum(head.seq for head in heads), sum(ends)
            for partition, end in enumerate(ends):
                seq = heads[partition].seq
                for page in source.read(partition, end, seq + 1):
                    _insert(target, partition, seq, page)
                    seq += len(page)
                    done += len(page)
                    progress("copying", done, total)
    except (sqlite3.Error, OSError) as error:
        raise LogUnavailable(
            f"{new} cannot be written: {error}. It needs as much space as {source.path}; what is written is "
            "kept, run this again to continue"
        ) from error


def _open_or_create(source: Format1Log, ends: Sequence[int], meta: dict[str, str], new: Path) -> sqlite3.Connection:
    """Open ``new``, if it has the beginning of this log; else make it. Raises sqlite3.Error."""
    if new.exists():
        try:
            target = connect(new)
        except LogUnreadable:
            pass
        else:
            if _is_prefix(source, ends, meta, target, new):
                return target
            target.close()
        for leftover in new.parent.glob(f"{new.name}*"):
            leftover.unlink()
    target = connect(new)
    target.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        target.execute(statement)
    target.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    target.execute("COMMIT")
    return target


def _is_prefix(
    source: Format1Log, ends: Sequence[int], meta: dict[str, str], target: sqlite3.Connection, new: Path
) -> bool:
    """Whether each partition of ``target`` ends with a record of ``source``. ``_compare`` reads the others, too."""
    try:
        if read_meta(target, new) != meta:
            return False
        heads = [last_head(target, partition) for partition in range(len(ends))]
    except (sqlite3.DatabaseError, LogUnreadable, LogDamaged):
        return False
    return all(
        head == EMPTY or _hash_at(source, partition, head.seq) == head.sha256 for partition, head in enumerate(heads)
    )


def _hash_at(source: Format1Log, partition: int, seq: int) -> str | None:
    """The hash of the record; None if there is none."""
    for page in source.read(partition, seq, seq):
        return sha256_hex(page[0][0])
    return None


def _insert(target: sqlite3.Connection, partition: int, after: int, page: Sequence[StoredRecord]) -> None:
    """Raises LogDamaged, sqlite3.Error."""
    for expected, (record, seq) in enumerate(page, after + 1):
        if seq != expected:
            raise LogDamaged(partition, expected, f"the record is missing, the next one has seq {seq}")
        if b"\n" in record:
            raise LogDamaged(partition, expected, "the record was changed: it has a line feed")
    target.execute("BEGIN IMMEDIATE")
    for first in range(0, len(page), ROW_RECORDS):
        records = [record for record, _ in page[first : first + ROW_RECORDS]]
        first_seq = after + 1 + first
        row = (partition, first_seq, first_seq + len(records) - 1, b"\n".join([*records, b""]))
        target.execute("INSERT INTO append VALUES (?,?,?,?)", row)
    target.execute("COMMIT")


def _compare(source: Format1Log, ends: Sequence[int], new: Path, progress: Progress) -> tuple[Head, ...]:
    """Return the heads of both logs. Raises LogDamaged, LogUnavailable where the copy differs."""
    with closing(SqliteRecords(new)) as copied:
        if copied.ends() != ends:
            raise _differs(new, "its partitions end at other seqs")
        heads, done, total = [], 0, sum(ends)
        for partition, end in enumerate(ends):
            head = EMPTY_SHA256
            pairs = zip_longest(_records(source, partition, end), _records(copied, partition, end))
            for seq, (ours, theirs) in enumerate(pairs, 1):
                if ours != theirs:
                    raise _differs(new, f"it has another record at partition {partition}, seq {seq}")
                link = link_of(ours)
                if link is None or (link.partition, link.seq, link.prev) != (partition, seq, head):
                    raise LogDamaged(partition, seq, "the record does not continue the chain")
                head = sha256_hex(ours)
                if seq % _REPORT_EVERY == 0:
                    progress("comparing", done + seq, total)
            heads.append(Head(end, head))
            done += end
            progress("comparing", done, total)
    return tuple(heads)


def _records(log: Format1Log | SqliteRecords, partition: int, end: int) -> Iterator[bytes]:
    return (record for record, _ in chain.from_iterable(log.read(partition, end)))


def _differs(new: Path, how: str) -> LogUnavailable:
    return LogUnavailable(f"{new} is not a copy of the log: {how}. Delete {new}, and run this again")


def _switch(path: Path, new: Path, old: Path) -> None:
    """Raises FolderUnusable."""
    try:
        sync(new)
        if not (old.exists() and old.samefile(path)):
            os.link(path, old)
            sync(path.parent)
        new.replace(path)
        sync(path.parent)
    except FileExistsError as error:
        raise FolderUnusable(f"{old} is the log of an earlier upgrade: move it away, and run this again") from error
    except OSError as error:
        raise FolderUnusable(f"{new} cannot replace {path}: {error.strerror}; run this again") from error
