"""The data folder of the embedded mode: what lies in it, and the lock that keeps a second process out.

The lock is the kernel's (``flock``), so it goes with the process however that ends; a lock file that is left behind
means nothing.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from ledger.ports import FolderInUse, FolderUnusable

EVENTS: Final = "events.sqlite3"
STATE: Final = "state.sqlite3"
READ_MODEL: Final = "read-model.sqlite3"
REBUILD_LOCK: Final = "rebuild.lock"
LOCK: Final = "stakelog.lock"


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
