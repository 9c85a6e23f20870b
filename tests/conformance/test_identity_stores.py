"""The store of clients and tokens passes its contract on SQLite, PostgreSQL and MariaDB."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.identity.database import IdentityDatabase
from api.identity.store import DatabaseIdentityStore
from api.identity.tables import METADATA
from conformance.identity_store import IdentityStoreContract, OpenIdentityStore


async def stores_at(where: Path | str) -> AsyncIterator[OpenIdentityStore]:
    opened: list[DatabaseIdentityStore] = []

    def one_more() -> DatabaseIdentityStore:
        opened.append(DatabaseIdentityStore(IdentityDatabase(where, METADATA)))
        return opened[-1]

    yield one_more
    for store in opened:
        await store.close()


class TestSqliteIdentityStore(IdentityStoreContract):
    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenIdentityStore]:
        async for opened in stores_at(tmp_path / "identity.sqlite3"):
            yield opened


class _OnServer(IdentityStoreContract):
    @pytest.fixture
    async def open_store(self, database_url: str) -> AsyncIterator[OpenIdentityStore]:
        async for opened in stores_at(database_url):
            yield opened


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
class TestPostgreSqlIdentityStore(_OnServer):
    pass


@pytest.mark.parametrize("databases", ["mariadb"], indirect=True)
class TestMariaDbIdentityStore(_OnServer):
    pass
