"""Keeps the WAL of an SQLite database small, also after a long reader made it large.

SQLite resets a WAL when no reader needs it, and never shortens its file: after a reader that was stopped for a minute
under load, 134 MB stayed. Invariants, for each connection that writes:
(1) ``limit_wal``: the first commit after a reset shortens the file to ``WAL_BYTES_KEPT``;
(2) ``shrink_wal``, called when the database is quiet, empties a larger file. It never waits for another connection.
"""

import logging
import sqlite3
from pathlib import Path
from typing import Final

WAL_BYTES_KEPT: Final = 16 * 1024 * 1024
"""Chosen: four times the size between two checkpoints. A shorter file is extended again under load, and a commit that
extends it takes twice as long."""

_log = logging.getLogger(__name__)


def wal_of(path: Path) -> Path:
    """The path of the database's WAL."""
    return path.with_name(path.name + "-wal")


def limit_wal(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.Error."""
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")


def shrink_wal(connection: sqlite3.Connection, path: Path) -> bool:
    """Empty the WAL if its file is larger than ``WAL_BYTES_KEPT``. Returns whether the file is small now.

    False where a reader or a writer is active: call it again later. An error is logged only: no data depends on the
    file's size, and where the disk is broken the next commit fails, too.
    """
    try:
        if wal_of(path).stat().st_size <= WAL_BYTES_KEPT:
            return True
        (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout=0")
        try:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout={timeout_ms}")
    except FileNotFoundError:
        return True
    except (sqlite3.Error, OSError) as error:
        _log.warning("the WAL of %s cannot be shrunk; it is tried again: %s", path, error)
        return False
    return not busy
