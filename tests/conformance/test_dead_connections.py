"""A proxy or a firewall that forwards nothing more on open connections, and closes none: the kernel notices nothing,
and keepalives are acknowledged. New connections work."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from api.identity import database as identity
from api.identity.ports import IdentityUnavailable
from api.identity.tables import CLIENTS, METADATA
from databases import EmptyDatabases, open_database
from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import CONNECTIONS, RedisClient
from projections.storage import mysql, postgresql
from projections.storage.common import Statement
from projections.storage.database import Conflict, Database
from projections.storage.port import ReadModelUnavailable
from system.resetting_proxy import ResettingProxy

pytestmark = pytest.mark.system

EACH = pytest.mark.parametrize("databases", ["postgresql", "mariadb"], indirect=True)
POOL = 3
ONE = Statement("SELECT 1", (), {})
ADD = Statement("UPDATE locked SET n = n + %s", ("more",), {})


@pytest.fixture
def proxy() -> Iterator[ResettingProxy]:
    with ResettingProxy() as proxy:
        yield proxy


def through(proxy: ResettingProxy, url: str) -> str:
    port = urlsplit(url).port
    assert port is not None
    proxy.to(port)
    return url.replace(f":{port}", f":{proxy.port}")


@pytest.fixture
async def database(
    proxy: ResettingProxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """All connections of its pool are open, and dead."""
    for module in (postgresql, mysql):
        monkeypatch.setattr(module, "IDLE_WRITE_S", 1)
        monkeypatch.setattr(module, "SILENT_READ_S", 0.3)
        monkeypatch.setattr(module, "SILENT_WRITE_S", 0.3)
    database = open_database(through(proxy, database_url), POOL)
    await database.opened()
    async with AsyncExitStack() as sessions:
        for _ in range(POOL):
            await (await sessions.enter_async_context(database.writing())).rows(ONE)
    assert proxy.freeze() >= POOL
    yield database
    await database.close()


@EACH
async def test_after_one_read_all_dead_connections_are_replaced(
    databases: EmptyDatabases, database: Database
) -> None:
    assert databases
    async with asyncio.timeout(60):
        with pytest.raises(ReadModelUnavailable):
            await database.look([(ONE, ())])
        for _ in range(2 * POOL):
            assert await database.look([(ONE, ())]) == [[(1,)]]
        async with database.writing() as session:
            assert await session.rows(ONE) == [(1,)]


@EACH
async def test_a_read_that_its_caller_gives_up_leaves_no_dead_connection_behind(
    databases: EmptyDatabases, database: Database
) -> None:
    assert databases
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await database.look([(ONE, ())])
        for _ in range(POOL):  # the others may fail before the first one is closed
            try:
                assert await database.look([(ONE, ())]) == [[(1,)]]
            except ReadModelUnavailable:
                continue
            return
        assert await database.look([(ONE, ())]) == [[(1,)]]


@EACH
async def test_a_transaction_whose_connection_dies_fails_and_the_next_one_works(
    databases: EmptyDatabases, database: Database, proxy: ResettingProxy
) -> None:
    assert databases
    async with asyncio.timeout(60):
        with pytest.raises(ReadModelUnavailable):
            await write(database)
        await write(database)
        with pytest.raises(ReadModelUnavailable):
            await write(database, proxy)
        await write(database)


@EACH
async def test_the_locks_of_a_transaction_whose_connection_died_are_freed(
    databases: EmptyDatabases, database: Database, database_url: str, proxy: ResettingProxy
) -> None:
    name = database_url.rpartition("/")[2]
    databases.ask("CREATE TABLE locked (n INTEGER)", name)
    databases.ask("INSERT INTO locked VALUES (0)", name)
    with pytest.raises(ReadModelUnavailable):
        await add_one(database)  # replaces the dead connections
    with pytest.raises(ReadModelUnavailable):
        await add_one(database, proxy)
    async with asyncio.timeout(60):
        while True:
            try:
                await add_one(database)
            except (Conflict, ReadModelUnavailable):
                continue
            break
    assert databases.ask("SELECT n FROM locked", name) == [["1"]]


async def add_one(database: Database, proxy: ResettingProxy | None = None) -> None:
    async with database.writing() as session:
        assert await session.change(ADD, [(1,)]) == 1
        if proxy is not None:
            proxy.freeze()
            await session.rows(ONE)


async def write(database: Database, proxy: ResettingProxy | None = None) -> None:
    async with database.writing() as session:
        assert await session.rows(ONE) == [(1,)]
        if proxy is not None:
            proxy.freeze()  # COMMIT gets no response


async def test_dead_connections_to_redis_are_replaced_one_by_one(proxy: ResettingProxy, redis_url: str) -> None:
    client = RedisClient(through(proxy, redis_url))
    await asyncio.gather(*(client.redis.ping() for _ in range(CONNECTIONS)))
    assert proxy.freeze() == CONNECTIONS
    failures = 0
    async with asyncio.timeout(60):
        while True:
            try:
                with client.translated_errors():
                    await client.redis.ping()
            except CacheUnavailable:
                failures += 1
                continue
            break
    assert failures <= CONNECTIONS
    await client.close()


@EACH
async def test_the_database_of_clients_replaces_its_dead_connections(
    databases: EmptyDatabases, proxy: ResettingProxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert databases
    monkeypatch.setattr(identity, "SILENT_S", 0.3)
    found = identity.IdentityDatabase(through(proxy, database_url), METADATA)

    async def use() -> None:
        async with found.transaction() as connection:
            await connection.execute(select(CLIENTS))

    async with asyncio.timeout(60):
        await asyncio.gather(*(use() for _ in range(identity.CONNECTIONS)))
        assert proxy.freeze() >= 1
        failed = 0
        while True:
            try:
                await use()
            except IdentityUnavailable:
                failed += 1
                assert failed <= identity.CONNECTIONS, "each dead connection fails once"
            else:
                break
    await found.close()
