"""A read-model store on disk that is deleted when it is closed. Opening one deletes what killed processes left."""

import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ledger.sqlite.folder import READ_MODEL
from projections.storage.port import ReadModelStore, ReadModelUnavailable
from projections.storage.sqlite import SqliteReadModelStore

PREFIX: Final = "stakelog-check-"
_LOCK: Final = "in-use"


@asynccontextmanager
async def scratch_store(parent: Path) -> AsyncIterator[ReadModelStore]:
    """``parent``: the folder to make it in. Raises ReadModelUnavailable if that is impossible."""
    _delete_abandoned(parent)
    try:
        folder = TemporaryDirectory(prefix=PREFIX, dir=parent)
        lock = os.open(Path(folder.name) / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ReadModelUnavailable(f"no scratch folder can be made in {parent}: {error.strerror}") from error
    with folder:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            store = SqliteReadModelStore(Path(folder.name) / READ_MODEL)
            try:
                yield store
            finally:
                await store.close()
        finally:
            os.close(lock)


def _delete_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # in use, or just deleted by another process
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
