"""The database of clients and tokens on SQLite. On every database: tests/conformance/test_identity_stores.py."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from api.identity.database import IdentityDatabase
from api.identity.ports import IdentityUnavailable
from api.identity.tables import METADATA, REVOCATION_COUNT
from ledger.sqlite.folder import FolderLock

ROW = insert(REVOCATION_COUNT).values(only=0, value=7)


async def test_the_first_use_creates_the_file_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "identity.sqlite3"
    database = IdentityDatabase(path, METADATA)
    assert not path.exists()
    async with database.transaction() as connection:
        await connection.execute(ROW)
        assert path.stat().st_mode & 0o777 == 0o600
        assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())  # noqa: ASYNC240
    await database.close()
    await database.close()


async def test_a_file_that_others_can_read_is_made_readable_to_its_owner_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "identity.sqlite3"
    path.touch()
    path.chmod(0o644)
    database = IdentityDatabase(path, METADATA)
    async with database.transaction() as connection:
        await connection.execute(ROW)
    await database.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in caplog.text


async def test_an_exception_rolls_a_transaction_back(tmp_path: Path) -> None:
    database = IdentityDatabase(tmp_path / "identity.sqlite3", METADATA)

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(ROW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.transaction() as connection:
        assert (await connection.execute(select(REVOCATION_COUNT))).all() == []
    await database.close()


async def test_several_processes_may_create_the_tables_at_once(tmp_path: Path) -> None:
    many = [IdentityDatabase(tmp_path / "identity.sqlite3", METADATA) for _ in range(4)]

    async def use(database: IdentityDatabase) -> None:
        async with database.transaction() as connection:
            await connection.execute(select(REVOCATION_COUNT))

    await asyncio.gather(*map(use, many))
    for database in many:
        await database.close()


async def test_a_broken_file_is_unavailable_and_shows_no_path_to_clients(tmp_path: Path) -> None:
    path = tmp_path / "identity.sqlite3"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    database = IdentityDatabase(path, METADATA)
    with pytest.raises(IdentityUnavailable, match="DatabaseError") as failed:
        async with database.transaction():
            pass
    assert str(path) in str(failed.value), "for who runs the service"
    assert str(tmp_path) not in failed.value.for_clients
    await database.close()


async def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "identity.sqlite3"
    database = IdentityDatabase(path, METADATA)
    async with database.transaction() as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one() == 2, "FULL"
        await connection.execute(ROW)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT value FROM identity_revocation_count").fetchone() == (7,)
    other.close()
    await database.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_is_away_is_unavailable_and_its_password_is_not_shown(scheme: str) -> None:
    database = IdentityDatabase(f"{scheme}://stakelog:secret@127.0.0.1:1/none", METADATA)
    with pytest.raises(IdentityUnavailable, match="the database of clients and tokens failed") as failed:
        async with database.transaction():
            pass
    assert "secret" not in str(failed.value)
    await database.close()


def test_a_data_folder_that_is_made_is_its_owners_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    for folder, mode in ((tmp_path / "new", 0o700), (there, 0o755)):
        FolderLock(folder).release()
        assert folder.stat().st_mode & 0o777 == mode
