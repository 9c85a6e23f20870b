"""The file of the embedded read model: which file it is, and what to say when it is missing or cannot be used."""

import os
from pathlib import Path
from typing import Final

from projections.storage.port import ReadModelUnavailable

BUSY_S: Final = 10.0
"""How long a statement waits for a lock of another connection."""

Identity = tuple[int, int]
"""Device and inode. While a process has a file open, no other file gets its inode."""


def unavailable(path: Path, error: Exception) -> ReadModelUnavailable:
    return ReadModelUnavailable(
        f"the read model {path} cannot be used: {error}. It can be rebuilt from the log: free disk space or "
        "correct the file's permissions; if it is damaged, delete it, its -wal and its -shm, and start again"
    )


HOW_TO_MAKE: Final = (
    "the follower of a running service makes it from the log within seconds; without a running service, use "
    "`stakelog project rebuild`"
)


def gone(path: Path) -> ReadModelUnavailable:
    return ReadModelUnavailable(f"there is no read model at {path}: {HOW_TO_MAKE}")


def identity_at(path: Path) -> Identity | None:
    """None if the file does not exist or cannot be read."""
    try:
        return identity(path.stat())
    except OSError:
        return None


def identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"
