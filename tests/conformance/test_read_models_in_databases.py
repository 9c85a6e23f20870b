"""The read model's store on PostgreSQL and on MariaDB passes the contract of all stores."""

import pytest

from conformance.read_model import OpenBoth, ReadModelContract
from conformance.read_model_store import OpenStore, ReadModelStoreContract
from databases import open_database
from projections.storage.port import ReadModel, ReadModelStore
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel

pytestmark = pytest.mark.system


class _Store(ReadModelStoreContract):
    @pytest.fixture
    def open_store(self, database_url: str) -> OpenStore:
        async def opened() -> ReadModelStore:
            return ServerReadModelStore(open_database(database_url))

        return opened


class _Model(ReadModelContract):
    @pytest.fixture
    def open_both(self, database_url: str) -> OpenBoth:
        async def opened() -> tuple[ReadModelStore, ReadModel]:
            return ServerReadModelStore(open_database(database_url)), ServerReadModel(open_database(database_url))

        return opened


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
class TestPostgreSqlReadModelStore(_Store):
    pass


@pytest.mark.parametrize("databases", ["mariadb"], indirect=True)
class TestMariaDbReadModelStore(_Store):
    pass


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
class TestPostgreSqlReadModel(_Model):
    pass


@pytest.mark.parametrize("databases", ["mariadb"], indirect=True)
class TestMariaDbReadModel(_Model):
    pass
