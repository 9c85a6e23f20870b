"""The store of webhooks passes its contract on SQLite, PostgreSQL and MariaDB."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.identity.database import IdentityDatabase
from api.identity.database_keys import DatabaseKeyStore
from api.identity.key_store import KeyStore
from api.identity.tables import METADATA
from api.webhooks.ports import WebhookStore
from api.webhooks.store import DatabaseWebhookStore
from conformance.webhook_store import OpenWebhookStore, WebhookStoreContract


async def stores_at(where: Path | str) -> AsyncIterator[OpenWebhookStore]:
    opened: list[IdentityDatabase] = []

    def one_more() -> tuple[WebhookStore, KeyStore]:
        opened.append(IdentityDatabase(where, METADATA))
        return DatabaseWebhookStore(opened[-1]), DatabaseKeyStore(opened[-1])

    yield one_more
    for database in opened:
        await database.close()


class TestSqliteWebhookStore(WebhookStoreContract):
    @pytest.fixture
    async def open_webhooks(self, tmp_path: Path) -> AsyncIterator[OpenWebhookStore]:
        async for opened in stores_at(tmp_path / "identity.sqlite3"):
            yield opened


class _OnServer(WebhookStoreContract):
    @pytest.fixture
    async def open_webhooks(self, database_url: str) -> AsyncIterator[OpenWebhookStore]:
        async for opened in stores_at(database_url):
            yield opened


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
class TestPostgreSqlWebhookStore(_OnServer):
    pass


@pytest.mark.parametrize("databases", ["mariadb"], indirect=True)
class TestMariaDbWebhookStore(_OnServer):
    pass
