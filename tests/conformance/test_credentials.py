"""Credentials in URLs: percent-encoded, of any characters, on each real server that checks them."""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from redis import Redis as SyncRedis

from api.composition.settings import read_settings
from conformance.read_model_store import PARTITIONS
from databases import EmptyDatabases, open_database
from deploy.local.servers import PostgreSql, Redis
from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import RedisClient
from projections.storage.port import ReadModelUnavailable
from projections.storage.server import ServerReadModelStore
from real_servers import running

pytestmark = pytest.mark.system

USER = "kä@s:e/%41"
PASSWORDS = [
    pytest.param("pässwörd", id="Latin"),
    pytest.param("пароль-密码-🔑", id="other scripts"),
    pytest.param("a@b/c:d%e?f#g&h=i+j k%40", id="delimiters"),
]


def with_credentials(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{parts.scheme}://{credentials}@{parts.hostname}:{parts.port}{parts.path}"


@pytest.fixture(scope="module")
def strict_postgresql() -> Iterator[EmptyDatabases]:
    """A server that demands a password of everyone but ``postgres``."""
    with running(PostgreSql(arguments=PostgreSql.careless)) as server:
        (server.folder / "data" / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        databases = EmptyDatabases(server.url)
        databases.ask("SELECT pg_reload_conf()")
        yield databases


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("databases", ["strict_postgresql", "mariadb"], indirect=True)
async def test_a_database_accepts_the_credentials_of_its_url(
    databases: EmptyDatabases, database_url: str, password: str
) -> None:
    name = database_url.rpartition("/")[2]
    if databases.kind == "postgresql":
        create = [
            f"CREATE ROLE \"{USER}\" LOGIN PASSWORD '{password}'",
            f'ALTER DATABASE {name} OWNER TO "{USER}"',
        ]
        drop = [f"ALTER DATABASE {name} OWNER TO postgres", f'DROP OWNED BY "{USER}"', f'DROP ROLE "{USER}"']
    else:
        create = [
            f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}'",
            f"GRANT ALL ON {name}.* TO '{USER}'@'127.0.0.1'",
        ]
        drop = [f"DROP USER '{USER}'@'127.0.0.1'"]
    for statement in create:
        databases.ask(statement)
    try:
        url = with_credentials(database_url, USER, password)
        store = ServerReadModelStore(open_database(read_settings({"STAKELOG_READ_MODEL": url}).read_model))
        live = await store.make_generation(1, PARTITIONS, live=True)
        assert await store.generations() == [live]
        await store.close()
        stranger = ServerReadModelStore(open_database(with_credentials(database_url, USER, password + "x")))
        with pytest.raises(ReadModelUnavailable) as refused:
            await stranger.generations()
        assert password not in str(refused.value)
        await stranger.close()
    finally:
        for statement in drop:
            databases.ask(statement, name if statement.startswith("DROP OWNED") else "stakelog")


@pytest.mark.parametrize("password", PASSWORDS)
async def test_redis_accepts_the_credentials_of_its_url(redis: Redis, password: str) -> None:
    with SyncRedis.from_url(redis.url) as administrator:
        administrator.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{password}", "allchannels", "+@all")
        try:
            url = with_credentials(redis.url, USER, password)
            client = RedisClient(read_settings({"STAKELOG_CACHE": url}).cache)
            await client.publish([("channel", b"message")])
            assert client.address == redis.url
            await client.close()
            stranger = RedisClient(with_credentials(redis.url, USER, password + "x"))
            with pytest.raises(CacheUnavailable) as refused:
                await stranger.publish([("channel", b"message")])
            assert password not in str(refused.value)
            await stranger.close()
        finally:
            administrator.execute_command("ACL", "DELUSER", USER)
