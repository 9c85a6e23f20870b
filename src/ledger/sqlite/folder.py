"""The data folder of the embedded mode: its files, and the lock that excludes a second process.

The lock is the kernel's (``flock``), so it ends with the process, however that ends; a remaining lock file means
nothing.

A folder whose log was moved to Kafka has a ``migrated.json``: more writes to the folder would split the ledger in
two. It is written last, durably, after the move is verified. An operator who reverts the move deletes it.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ledger.core.record import Head
from ledger.errors import FolderInUse, FolderMigrated, FolderUnusable
from ledger.files import sync

EVENTS: Final = "events.sqlite3"
NEW_EVENTS: Final = "events.sqlite3.new"
OLD_EVENTS: Final = "events.sqlite3.old"
STATE: Final = "state.sqlite3"
READ_MODEL: Final = "read-model.sqlite3"
REBUILD_LOCK: Final = "rebuild.lock"
LOCK: Final = "stakelog.lock"
MIGRATED: Final = "migrated.json"


class FolderLock:
    """Exclusive use of a data folder, from construction until ``release``."""

    def __init__(self, folder: Path) -> None:
        """Create the folder for its owner only, if it is missing, and lock it. Raises FolderInUse, FolderUnusable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FolderUnusable(
                f"the data folder {folder} cannot be used: {error.strerror}; set STAKELOG_DATA to a writable one"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise FolderInUse(
                f"the data folder {folder} is in use by another process (pid {holder}); "
                "stop it, or set STAKELOG_DATA to another folder"
            ) from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # the pid only helps the operator who finds the folder locked; a full disk must not stop a restart

    def release(self) -> None:
        os.close(self._descriptor)


class Migrated(Struct, frozen=True):
    """Where a folder's log was moved to. Contains no password."""

    to: str
    topic: str
    at_us: int
    heads: tuple[Head, ...]


def migrated_to(folder: Path) -> Migrated | None:
    """Return where the folder's log was moved to; None if it was not. Raises FolderUnusable if that is unknown."""
    try:
        return msgspec.json.decode((folder / MIGRATED).read_bytes(), type=Migrated)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderUnusable(f"{folder / MIGRATED} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FolderUnusable(
            f"{folder / MIGRATED} says that the log of this folder was moved, but not to where: {error}. Delete it "
            "only if no node has written to the new log"
        ) from error


def refuse_migrated(folder: Path) -> None:
    """Raises FolderMigrated if the folder's log was moved; FolderUnusable."""
    moved = migrated_to(folder)
    if moved is not None:
        raise FolderMigrated(
            f"the log of {folder} was moved to {moved.to}, topic {moved.topic}: start nodes with that log "
            f"(STAKELOG_LOG). To continue with the folder instead, delete that topic and then {folder / MIGRATED}; "
            "every command that nodes accepted since then is lost"
        )


def mark_migrated(folder: Path, migrated: Migrated) -> None:
    """Write the mark: durable when this returns, and whole or not at all. Raises FolderUnusable."""
    new = folder / f"{MIGRATED}.new"
    try:
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(migrated)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / MIGRATED)
        sync(folder)
    except OSError as error:
        raise FolderUnusable(f"{folder / MIGRATED} cannot be written: {error.strerror}; run it again") from error
