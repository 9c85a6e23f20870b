"""The data folder of the embedded mode: what lies in it, and the lock that keeps a second process out.

The lock is the kernel's (``flock``), so it goes with the process however that ends; a lock file that is left behind
means nothing.

A folder whose log was moved to Kafka says so in ``migrated.json``: who went on writing here would part the ledger in
two. It is written last, durably, when the move is proved; an operator who takes the move back deletes it.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ledger.core.record import Head
from ledger.errors import FolderInUse, FolderMigrated, FolderUnusable

EVENTS: Final = "events.sqlite3"
STATE: Final = "state.sqlite3"
READ_MODEL: Final = "read-model.sqlite3"
REBUILD_LOCK: Final = "rebuild.lock"
LOCK: Final = "stakelog.lock"
MIGRATED: Final = "migrated.json"


class FolderLock:
    """Exclusive use of a data folder, from construction until ``release``."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing, and lock it. Raises FolderInUse, FolderUnusable."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FolderUnusable(
                f"the data folder {folder} cannot be used: {error.strerror}; "
                "set STAKELOG_DATA to one that can be written"
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
            pass  # the pid is a courtesy to whoever finds the folder locked; a full disk must not stop a restart

    def release(self) -> None:
        os.close(self._descriptor)


class Migrated(Struct, frozen=True):
    """Where a folder's log went. No password is in it."""

    to: str
    topic: str
    at_us: int
    heads: tuple[Head, ...]


def migrated_to(folder: Path) -> Migrated | None:
    """Where the folder's log went; None where it is here. Raises FolderUnusable where that cannot be told."""
    try:
        return msgspec.json.decode((folder / MIGRATED).read_bytes(), type=Migrated)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderUnusable(f"{folder / MIGRATED} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FolderUnusable(
            f"{folder / MIGRATED} says that the log of this folder was moved, but not where: {error}. Delete it only "
            "if no node has written to where it went"
        ) from error


def refuse_migrated(folder: Path) -> None:
    """Raise FolderMigrated where the folder's log went elsewhere; FolderUnusable."""
    went = migrated_to(folder)
    if went is not None:
        raise FolderMigrated(
            f"the log of {folder} was moved to {went.to}, topic {went.topic}: start nodes there (STAKELOG_LOG). To "
            f"go on here instead, delete that topic and then {folder / MIGRATED}; what nodes accepted since is lost"
        )


def mark_migrated(folder: Path, migrated: Migrated) -> None:
    """Write that the log went there: durable when this returns, and whole or not at all. Raises FolderUnusable."""
    new = folder / f"{MIGRATED}.new"
    try:
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(migrated)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / MIGRATED)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FolderUnusable(f"{folder / MIGRATED} cannot be written: {error.strerror}; run it again") from error
