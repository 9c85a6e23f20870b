"""What the tests of keys and private texts start from."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.identity.database import IdentityDatabase
from api.identity.database_keys import DatabaseKeyStore
from api.identity.master_key import MasterKeys
from api.identity.tables import METADATA

MASTER, OTHER_MASTER = b"M" * 32, b"O" * 32
MASTERS = MasterKeys([MASTER])


@asynccontextmanager
async def key_store(folder: Path) -> AsyncIterator[DatabaseKeyStore]:
    database = IdentityDatabase(folder / "identity.sqlite3", METADATA)
    try:
        yield DatabaseKeyStore(database)
    finally:
        await database.close()
