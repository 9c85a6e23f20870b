"""The read model through a real PgBouncer in transaction mode: each transaction may use another connection."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from conformance import test_databases
from conformance.read_model_store import PARTITIONS
from databases import EmptyDatabases, open_database
from deploy.local.servers import PgBouncer
from projections.storage.common import Statement
from projections.storage.port import RebuildUnderWay
from projections.storage.server import ServerReadModelStore
from real_servers import running
from system.service import Service
from system.test_reads import Client, fresh

pytestmark = pytest.mark.system

READS: Final = 40
"""Far more than the connections to the server, and than the uses after which psycopg would prepare a statement."""


@pytest.fixture(scope="module")
def pgbouncer(postgresql: EmptyDatabases) -> Iterator[PgBouncer]:
    with running(PgBouncer(postgresql.port)) as server:
        yield server


@pytest.fixture
def url(postgresql: EmptyDatabases, pgbouncer: PgBouncer) -> Iterator[str]:
    """An empty database, through PgBouncer."""
    with postgresql.one() as direct:
        yield urlsplit(pgbouncer.url)._replace(path=urlsplit(direct).path).geturl()


async def test_stores_fold_and_readers_read_on_shared_connections(url: str) -> None:
    await test_databases.test_two_folding_stores_and_many_readers_cause_no_deadlock(url)


async def test_a_temporary_table_ends_with_its_transaction(url: str) -> None:
    await test_databases.test_of_two_rows_with_one_key_in_a_transaction_the_later_one_is_stored(url)
    async with open_database(url).writing() as session:
        left = "SELECT relname FROM pg_class WHERE relpersistence = 't'"
        assert await session.rows(Statement(left, (), {})) == []


async def test_only_one_rebuild_has_the_lock_and_it_ends_with_the_rebuild(url: str) -> None:
    first, second = open_database(url), open_database(url)
    store = ServerReadModelStore(open_database(url))
    async with first.rebuilding():
        await store.make_generation(1, PARTITIONS, live=True)  # on other connections meanwhile
        with pytest.raises(RebuildUnderWay):
            async with second.rebuilding():
                pass
    async with second.rebuilding():
        pass
    for database in (first, second, store):
        await database.close()


def test_a_service_reads_and_a_rebuild_ends_well(url: str, tmp_path: Path) -> None:
    with Service(tmp_path / "data", PARTITIONS="2", READ_MODEL=url) as service:
        with Client(service) as client:
            user_id = fresh(client)
            for path in (f"/v1/wallets/{user_id}", f"/v1/wallets/{user_id}/history", "/v1/orders") * READS:
                assert client.ask(path).status == 200, path
        rebuilt = subprocess.run(
            [sys.executable, "-m", "api", "project", "rebuild", "--data", str(tmp_path / "data")],
            env={"STAKELOG_READ_MODEL": url, "STAKELOG_PARTITIONS": "2", "STAKELOG_AUTH": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert "cannot be used" not in service.log_text()
