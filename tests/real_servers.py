"""Real servers for tests, started when the first test needs one, and stopped with the session.

Missing servers are installed. A server that cannot start is a failure, never a skip: a promise about Kafka must be
tested on Kafka.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from redis import Redis as RedisClient

from databases import EmptyDatabases
from deploy.local.install import install
from deploy.local.server import Server
from deploy.local.servers import Kafka, MariaDb, PostgreSql, Redis

if TYPE_CHECKING:
    from kafka_judge import Logs

ServerT = TypeVar("ServerT", bound=Server)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for all tests. Each test has its own topics; a test that kills brokers uses ``own_kafka``."""
    with running_kafka() as server:
        yield server


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A broker for one test, to be killed, paused and started again."""
    with running_kafka() as server:
        yield server


@pytest.fixture
async def logs(kafka: Kafka) -> AsyncIterator["Logs"]:
    """A new topic on the shared broker."""
    async with _logs_of(kafka) as logs:
        yield logs


@pytest.fixture
async def own_logs(own_kafka: Kafka) -> AsyncIterator["Logs"]:
    """A new topic on the test's own broker."""
    async with _logs_of(own_kafka) as logs:
        yield logs


@asynccontextmanager
async def _logs_of(kafka: Kafka) -> AsyncIterator["Logs"]:
    from kafka_judge import Logs  # imported only if used

    logs = Logs(kafka)
    yield logs
    await logs.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[EmptyDatabases]:
    """One server for all tests. Each test has its own database; a test that kills servers starts its own server."""
    with running(PostgreSql(arguments=PostgreSql.careless)) as server:
        yield EmptyDatabases(server.url)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[EmptyDatabases]:
    with running(MariaDb(arguments=MariaDb.careless)) as server:
        yield EmptyDatabases(server.url)


@pytest.fixture
def databases(request: pytest.FixtureRequest) -> EmptyDatabases:
    """The server that the test is parametrised with, indirectly: ``postgresql`` or ``mariadb``."""
    found: EmptyDatabases = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def database_url(databases: EmptyDatabases) -> Iterator[str]:
    """An empty database on that server."""
    with databases.one() as url:
        yield url


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """One server for all tests, which empty it; a test that kills it uses ``own_redis``."""
    with running(Redis()) as server:
        yield server


@pytest.fixture
def redis_url(redis: Redis) -> str:
    """An empty database on that server."""
    empty(redis.url)
    return redis.url


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A server for one test, to be killed, paused and started again."""
    with running(Redis()) as server:
        yield server


def empty(redis_url: str) -> None:
    """Remove all data of this Redis."""
    with RedisClient.from_url(redis_url) as client:
        client.flushall()


def running_kafka() -> AbstractContextManager[Kafka]:
    return running(Kafka())


@contextmanager
def running(server: ServerT) -> Iterator[ServerT]:
    install([server.name])
    try:
        server.start()
        yield server
    finally:
        server.stop()
