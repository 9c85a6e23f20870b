"""The read model on SQLite, in a file and in memory, passes the contracts of ``ReadModelStore`` and ``ReadModel``."""

from pathlib import Path

import pytest

from conformance.read_model import OpenBoth, ReadModelContract
from conformance.read_model_store import OpenStore, ReadModelStoreContract
from projections.storage.port import ReadModel, ReadModelStore
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_memory import MemoryReadModel, MemoryReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel


class TestSqliteReadModelStore(ReadModelStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        async def opened() -> ReadModelStore:
            return SqliteReadModelStore(tmp_path / "read-model.sqlite3")

        return opened


class TestSqliteReadModel(ReadModelContract):
    @pytest.fixture
    def open_both(self, tmp_path: Path) -> OpenBoth:
        path = tmp_path / "read-model.sqlite3"

        async def opened() -> tuple[ReadModelStore, ReadModel]:
            return SqliteReadModelStore(path), SqliteReadModel(path)

        return opened


class TestMemoryReadModel(ReadModelContract):
    @pytest.fixture
    def open_both(self) -> OpenBoth:
        async def opened() -> tuple[ReadModelStore, ReadModel]:
            store = MemoryReadModelStore()
            store.make_common_tables()
            return store, MemoryReadModel(store, nothing_to_fold)

        return opened


async def nothing_to_fold() -> None:
    """The contract fills the store by itself."""
