"""The store of keys passes its contract in memory, on SQLite, PostgreSQL and MariaDB."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.identity.copying import OtherRows, copy_identity
from api.identity.database import IdentityDatabase
from api.identity.database_keys import DatabaseKeyStore
from api.identity.identity import GAME_SERVER
from api.identity.memory_keys import MemoryKeyStore
from api.identity.ports import Client
from api.identity.store import DatabaseIdentityStore
from api.identity.tables import METADATA
from conformance.key_store import FIRST, KeyStoreContract, OpenKeyStore, user_key


async def stores_at(where: Path | str) -> AsyncIterator[OpenKeyStore]:
    opened: list[IdentityDatabase] = []

    def one_more() -> DatabaseKeyStore:
        opened.append(IdentityDatabase(where, METADATA))
        return DatabaseKeyStore(opened[-1])

    yield one_more
    for database in opened:
        await database.close()


class TestMemoryKeyStore(KeyStoreContract):
    @pytest.fixture
    def open_keys(self) -> OpenKeyStore:
        store = MemoryKeyStore()
        return lambda: store


class TestSqliteKeyStore(KeyStoreContract):
    @pytest.fixture
    async def open_keys(self, tmp_path: Path) -> AsyncIterator[OpenKeyStore]:
        async for opened in stores_at(tmp_path / "identity.sqlite3"):
            yield opened

    async def test_a_deleted_key_is_in_no_file(self, open_keys: OpenKeyStore, tmp_path: Path) -> None:
        store = open_keys()
        await store.add_user_keys([user_key(f"u{n}", n) for n in range(20)])
        gone, kept = user_key("u7", 7), user_key("u8", 8)
        assert await store.delete_user_key("u7")
        octets = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
        assert gone.key_id.encode() not in octets
        assert kept.key_id.encode() in octets


@pytest.mark.system
class _OnServer(KeyStoreContract):
    @pytest.fixture
    async def open_keys(self, database_url: str) -> AsyncIterator[OpenKeyStore]:
        async for opened in stores_at(database_url):
            yield opened

    async def test_clients_and_keys_are_copied_from_a_folder(self, database_url: str, tmp_path: Path) -> None:
        source, target = (IdentityDatabase(where, METADATA) for where in (tmp_path / "one.sqlite3", database_url))
        here, there = DatabaseKeyStore(source), DatabaseKeyStore(target)
        clients = [DatabaseIdentityStore(database) for database in (source, target)]
        await clients[0].add_client(Client("games", GAME_SERVER, "$argon2id$", 1, ("wingo_1m",)))
        await here.add_signing_key(FIRST)
        users = [f"u{n}" for n in range(1_500)]
        await here.add_user_keys([user_key(name) for name in users])
        await there.add_user_keys([user_key("u7")])  # a copy that was interrupted
        for _ in range(2):
            # The users' keys, the client, its change, the number of that change, and the signing key.
            assert await copy_identity(source, target) == 1_504
            assert await there.user_keys(users) == await here.user_keys(users)
            assert await there.signing_keys() == [FIRST]
            assert await clients[1].clients() == await clients[0].clients()
        await there.delete_user_key("u7")
        await there.add_user_keys([user_key("u7", 9)])
        with pytest.raises(OtherRows, match="identity_user_key"):
            await copy_identity(source, target)
        for database in (source, target):
            await database.close()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
class TestPostgreSqlKeyStore(_OnServer):
    pass


@pytest.mark.parametrize("databases", ["mariadb"], indirect=True)
class TestMariaDbKeyStore(_OnServer):
    pass
