"""What all files of a ledger need of the disk."""

import os
from pathlib import Path
from typing import Final

IDENTITY: Final = "identity.sqlite3"
"""In the data folder: clients, tokens and keys."""
MASTER_KEY: Final = "master.key"
"""In the data folder, unless a setting says otherwise: wraps these keys."""


def sync(path: Path) -> None:
    """Make the file, or the names in the folder, durable. Raises OSError.

    Not for an SQLite file or its -shm while this process has the database open: to close any descriptor of it drops
    SQLite's locks. The -wal has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
