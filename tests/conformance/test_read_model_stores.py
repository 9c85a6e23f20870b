"""The read model's store on SQLite passes the one contract."""

from pathlib import Path

import pytest

from conformance.read_model_store import OpenStore, ReadModelStoreContract
from projections.store import ReadModelStore
from projections.stores.sqlite import SqliteReadModelStore


class TestSqliteReadModelStore(ReadModelStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        async def opened() -> ReadModelStore:
            return SqliteReadModelStore(tmp_path / "read-model.sqlite3")

        return opened
