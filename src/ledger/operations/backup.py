"""A copy of the embedded data folder, taken while the service writes to it.

Invariants:
(1) each file is copied under one read snapshot of it, so the copy is consistent while the service writes;
(2) the caches (state, read model) are copied before the log, so none of them is ahead of the copied log: a start
    refuses a state that is. Events that only the log has are replayed;
(3) the keys are copied after the log: each event's private texts have their key in the copy. A master key that is not
    in the folder is not copied. Only the user who makes the copy can read it, also while it is written: it contains
    keys and the balances of all users;
(4) DEST is missing, or a whole, fsynced copy: the copy is written to a sibling folder and renamed. The next run
    deletes the sibling folder of a killed one; a lock distinguishes it from the folder of a running one.

A snapshot prevents the reset of its file's WAL, so a WAL grows by everything written during the copy.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ledger.errors import FolderInUse, FolderUnusable, LogUnavailable
from ledger.files import IDENTITY, MASTER_KEY, sync
from ledger.sqlite.folder import EVENTS, READ_MODEL, STATE
from ledger.sqlite.log_file import refuse_outdated

_CACHES: Final = (STATE, READ_MODEL)
_SECRET: Final = (IDENTITY, MASTER_KEY)
_STEP_PAGES: Final = 1_024  # chosen: 4 MiB between two reports of progress
_UNUSABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Copied(NamedTuple):
    """``left_out``: caches that cannot be read; a start rebuilds them from the log."""

    files: tuple[str, ...]
    bytes: int
    left_out: tuple[str, ...]


def back_up(
    data: Path,
    dest: Path,
    *,
    prove: Callable[[Path], None],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Copied:
    """Copy the folder ``data``, in use or not, to ``dest``, which must not exist or be empty.

    ``prove`` receives the finished copy before it is renamed, and raises if it is damaged. ``progress`` receives
    (bytes, total) now and then. Raises FolderUnusable, FolderInUse, LogOutdated, LogUnavailable, and what ``prove``
    raises; then there is no ``dest``.
    """
    if not (data / EVENTS).exists():
        raise FolderUnusable(f"there is no event log in {data}: name its folder with --data")
    refuse_outdated(data / EVENTS)
    with _sibling(dest) as folder:
        copied = _copy(data, folder, progress)
        prove(folder)
        _delete_wal(folder)
        sync(folder)
        try:
            folder.rename(dest)
        except OSError as error:
            raise FolderUnusable(f"the copy cannot get the name {dest}: {error.strerror}") from error
        sync(dest.parent)
    return copied


@contextmanager
def _sibling(dest: Path) -> Iterator[Path]:
    """An empty, locked folder next to ``dest``; deleted at the end unless it was renamed."""
    dest = dest.absolute()
    folder = dest.parent / f".{dest.name}.partial"
    try:
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise FolderUnusable(f"{dest} exists and is not an empty folder: a backup never overwrites")
        if not dest.parent.is_dir():
            raise FolderUnusable(f"there is no folder {dest.parent}: create it, or mount it, first")
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)  # a killed run of an older version may have left it readable to others
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FolderUnusable(f"no backup can be written at {dest}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderInUse(f"another backup to {dest} is under way, in {folder}") from None
        _empty(folder)
        try:
            yield folder
        finally:
            if folder.exists() and os.fstat(lock).st_ino == folder.stat().st_ino:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _copy(data: Path, folder: Path, progress: Callable[[int, int], None]) -> Copied:
    names = [name for name in (*_CACHES, EVENTS, *_SECRET) if (data / name).exists()]
    work = _Work(sum((data / name).stat().st_size for name in names), progress)
    left_out = []
    for name in names:
        try:
            os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            if name == MASTER_KEY:
                _copy_text(data / name, folder / name)
            else:
                _copy_file(data / name, folder / name, work)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if name not in _CACHES or code not in _UNUSABLE:
                raise LogUnavailable(f"{data / name} cannot be copied to {folder}: {error}") from error
            left_out.append(name)
            for path in folder.glob(f"{name}*"):
                path.unlink()
        except OSError as error:
            raise LogUnavailable(f"{data / name} cannot be copied to {folder}: {error.strerror}") from error
    kept = tuple(name for name in names if name not in left_out)
    return Copied(kept, sum((folder / name).stat().st_size for name in kept), tuple(left_out))


class _Work:
    """Bytes done; a file that grows during the copy makes the total larger."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._before, self._total, self._progress = 0, total, progress
        self._file = 0

    def step(self, done: int) -> None:
        self._file = done
        self._progress(self._before + done, max(self._total, self._before + done))

    def next_file(self) -> None:
        self._before += self._file
        self._file = 0


def _copy_file(source: Path, target: Path, work: _Work) -> None:
    with closing(_reader(source)) as reader, closing(sqlite3.connect(target, isolation_level=None)) as writer:
        # One snapshot: without a transaction each write to the source would restart the copy.
        reader.execute("BEGIN")
        page_size: int = reader.execute("PRAGMA page_size").fetchone()[0]
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        # No other process uses the file before it is renamed: it needs no journal, and one fsync at the end.
        writer.execute("PRAGMA journal_mode=OFF")
        writer.execute("PRAGMA synchronous=OFF")
        reader.backup(
            writer,
            pages=_STEP_PAGES,
            progress=lambda _status, left, total: work.step((total - left) * page_size),
        )
        reader.execute("COMMIT")
    work.next_file()
    sync(target)


def _copy_text(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    sync(target)


def _reader(path: Path) -> sqlite3.Connection:
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    uri = f"file:{quoted}?mode=ro"
    if not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK):
        uri += "&immutable=1"  # no room for the WAL's index, and no WAL
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)


def _delete_wal(folder: Path) -> None:
    """Delete the empty WAL and its index that a reader of the copy created."""
    for path in folder.iterdir():
        if path.name.endswith(("-wal", "-shm")):
            assert not path.name.endswith("-wal") or path.stat().st_size == 0, (
                f"{path} has records that its file lacks"
            )
            path.unlink()
