"""The log as files for others to keep, verify and analyse.

::

    DEST/export.json                                        format, number of partitions
    DEST/partition-0003/000000000001-000000100000.ndjson    the records of these seqs

Invariants:
(1) a file under its final name is whole and durable: it is written under a temporary name, fsynced, renamed;
(2) a partition's files, in the order of their names, contain each seq from 1 to their end once;
(3) they contain the exact bytes of the records, in every format, so the chain can be verified from the export alone;
(4) only its own log continues an export: before anything is written, the chain of all exported records is computed
    again, and the log must contain the last record of each partition's files.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from ledger.core.record import EMPTY_SHA256, Head
from ledger.files import sync
from ledger.operations.audit import Fault, RecordsFrom

MANIFEST: Final = "export.json"
_VERSION: Final = 1
_TEMPORARY: Final = ".tmp"
_NAME: Final = re.compile(r"(\d{12})-(\d{12})\.(\w+)")


class WrongFolder(Exception):
    """The folder has an export of another format, or other files; or another process exports into it."""


class DamagedExport(Exception):
    """A file of the export was changed: the text names it, and the reason."""


class UnfitRecord(Exception):
    """A record of the log does not fit into the format: the text names it, and the reason."""


class Format(Protocol):
    """How records are written to a file."""

    @property
    def name(self) -> str:
        """The format's name, also the suffix of the files' names."""
        ...

    def write(self, path: Path, records: Iterable[bytes]) -> None:
        """Raises UnfitRecord, OSError."""
        ...

    def read(self, path: Path) -> Iterator[bytes]:
        """Yield the records in order. Raises DamagedExport, OSError."""
        ...


class Ndjson:
    """One record a line, as ``GET /v1/events`` returns them."""

    name = "ndjson"

    def write(self, path: Path, records: Iterable[bytes]) -> None:
        with path.open("wb") as file:
            for record in records:
                file.write(record + b"\n")

    def read(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n")


class Exported(NamedTuple):
    """The number of events written now, of all exported events, and where each partition's files end."""

    new: int
    events: int
    heads: tuple[Head, ...]


class _Manifest(Struct, forbid_unknown_fields=True):
    stakelog_export: int
    format: str
    partitions: int


class _Link(Struct, gc=False):
    partition: int
    seq: int
    prev: str


_decode_link: Final = msgspec.json.Decoder(_Link).decode


def export(
    records: RecordsFrom,
    folder: Path,
    form: Format,
    *,
    file_events_max: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Exported:
    """Begin the export in ``folder``, or continue it to the present end of the log.

    ``progress`` receives (events checked or written, total) now and then. Raises WrongFolder, DamagedExport,
    UnfitRecord, Fault if the log's chain is broken or the export is of another log, OSError, and what ``records``
    raises.
    """
    ends = records.ends()
    with _locked(folder, form, len(ends)):
        work = _Work(sum(ends), progress)
        heads = []
        for partition, end in enumerate(ends):
            existing = _Existing(folder / f"partition-{partition:04d}", partition, form)
            head, last = existing.examine(work)
            _require_same_log(records, partition, end, head, last)
            heads.append(head)
        before = sum(head.seq for head in heads)
        for partition, end in enumerate(ends):
            into = folder / f"partition-{partition:04d}"
            while heads[partition].seq < end:
                to_seq = min(end, heads[partition].seq + file_events_max)
                heads[partition] = _write_file(records, into, partition, heads[partition], to_seq, form, work)
    return Exported(sum(head.seq for head in heads) - before, sum(head.seq for head in heads), tuple(heads))


class _Work:
    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def step(self) -> None:
        self._done += 1
        if self._done % 1_000 == 0 or self._done == self._total:
            self._progress(self._done, max(self._total, self._done))


class _Existing:
    """One partition's files of earlier runs."""

    def __init__(self, folder: Path, partition: int, form: Format) -> None:
        self._folder, self._partition, self._form = folder, partition, form

    def examine(self, work: _Work) -> tuple[Head, bytes | None]:
        """Return where they end, and the last record. Raises DamagedExport, WrongFolder, OSError."""
        seq, head, last = 0, EMPTY_SHA256, None
        for path, first, end in self._files():
            if first != seq + 1:
                raise DamagedExport(f"{path} begins at seq {first}, but the files before it end at {seq}")
            for record in self._form.read(path):
                seq += 1
                if why := _breaks(record, self._partition, seq, head):
                    raise DamagedExport(f"{path}, seq {seq}: {why}")
                head, last = sha256(record).hexdigest(), record
                work.step()
            if seq != end:
                raise DamagedExport(f"{path} ends at seq {seq}, not at {end}")
        return Head(seq, head), last

    def _files(self) -> list[tuple[Path, int, int]]:
        if not self._folder.exists():
            return []
        found = []
        for path in sorted(self._folder.iterdir()):
            if path.name.endswith(_TEMPORARY):
                path.unlink()  # unfinished by a killed run
                continue
            match = _NAME.fullmatch(path.name)
            if match is None or match[3] != self._form.name:
                raise WrongFolder(f"{path} is no file of a {self._form.name} export: choose another folder")
            found.append((path, int(match[1]), int(match[2])))
        return found


def _breaks(record: bytes, partition: int, seq: int, head: str) -> str | None:
    """Return why the record does not continue the chain, or None."""
    try:
        link = _decode_link(record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"the record cannot be read: {error}"
    if (link.partition, link.seq) != (partition, seq):
        return f"its position is {link.partition}:{link.seq}"
    if link.prev != head:
        return "its prev is not the hash of the record before it"
    return None


def _require_same_log(records: RecordsFrom, partition: int, end: int, head: Head, last: bytes | None) -> None:
    """Raises Fault."""
    if last is None:
        return
    if head.seq > end:
        raise Fault(
            partition,
            end + 1,
            f"the log ends before it, the export continues to seq {head.seq}: it is of another log, choose another "
            "folder; or the log got shorter",
        )
    in_log = next((row[0] for page in records.read(partition, head.seq, head.seq) for row in page), None)
    if in_log != last:
        reason = (
            "the log and the export have different records here: the export is of another log; choose another folder"
        )
        raise Fault(partition, head.seq, reason)


def _write_file(
    records: RecordsFrom, folder: Path, partition: int, head: Head, to_seq: int, form: Format, work: _Work
) -> Head:
    """Write the records after ``head`` up to ``to_seq`` to one file. Returns where it ends."""
    ended = head

    def continued() -> Iterator[bytes]:
        nonlocal ended
        rows = chain.from_iterable(records.read(partition, to_seq, head.seq + 1))
        for seq, row in enumerate(rows, head.seq + 1):
            record = row[0]
            if why := _breaks(record, partition, seq, ended.sha256):
                raise Fault(partition, seq, why)
            ended = Head(seq, sha256(record).hexdigest())
            work.step()
            yield record
        if ended.seq != to_seq:
            raise Fault(partition, ended.seq + 1, "the record is missing")

    if not folder.exists():
        folder.mkdir()
        sync(folder.parent)
    name = f"{head.seq + 1:012d}-{to_seq:012d}.{form.name}"
    _write_whole(folder / name, lambda path: form.write(path, continued()))
    return ended


@contextmanager
def _locked(folder: Path, form: Format, partitions: int) -> Iterator[None]:
    """Create or recognise the folder, and lock it for the block. Raises WrongFolder, Fault, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WrongFolder(f"another export into {folder} is running") from None
        _recognise(folder, _Manifest(_VERSION, form.name, partitions))
        yield
    finally:
        os.close(descriptor)


def _recognise(folder: Path, ours: _Manifest) -> None:
    path = folder / MANIFEST
    if not path.exists():
        if any(found.name != MANIFEST + _TEMPORARY for found in folder.iterdir()):
            raise WrongFolder(f"{folder} is not empty and no export: choose another folder")
        text = json.dumps(msgspec.to_builtins(ours)) + "\n"
        _write_whole(path, lambda temporary: _write_text(temporary, text))
        return
    try:
        theirs = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except msgspec.MsgspecError as error:
        raise WrongFolder(f"{path} is not that of an export: {error}") from error
    if theirs.format != ours.format:
        raise WrongFolder(f"{folder} is an export in {theirs.format}: continue it with --format {theirs.format}")
    if theirs.partitions != ours.partitions:
        raise Fault(
            min(theirs.partitions, ours.partitions),
            1,
            f"the export is of a log with {theirs.partitions} partitions, this one has {ours.partitions}: it is of "
            "another log; choose another folder",
        )
    if theirs.stakelog_export != ours.stakelog_export:
        raise WrongFolder(f"{folder} is an export of version {theirs.stakelog_export}; this program knows {_VERSION}")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write under a temporary name and rename. If writing fails, the file is deleted."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        write(temporary)
        sync(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
