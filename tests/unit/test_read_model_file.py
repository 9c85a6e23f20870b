"""The read model's file is deleted or replaced while processes have it open."""

import asyncio
import fcntl
import time
from pathlib import Path
from typing import Any

import pytest

from api.http.problems import _warnings
from ledger.sqlite.folder import READ_MODEL
from projections.models import VERSION
from projections.projecting import follower as follower_module
from projections.projecting.follower import Follower
from projections.reads import statements
from projections.reads.status import read_model_status
from projections.storage import sqlite, sqlite_file, sqlite_reader
from projections.storage.common import create_table
from projections.storage.port import ReadModelUnavailable, Switched
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from projections.tables.queries import Query
from properties.reads_scenario import Scenario, make_scenario
from unit.api_in_memory import InMemoryApi
from unit.folded import Folder, from_scratch, live_tables
from unit.given import open_wallet

BESIDE = ("", "-wal", "-shm", ".lock")


def delete(path: Path, *suffixes: str) -> None:
    for suffix in suffixes or BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    return path.exists()


def make_empty(path: Path) -> None:
    path.touch()


def is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


async def live_store(path: Path, partitions: int) -> SqliteReadModelStore:
    store = SqliteReadModelStore(path)
    await store.make_generation(VERSION, partitions, live=True)
    return store


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(5, commands=120)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / READ_MODEL


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers and followers check the path at once, not once a second."""
    monkeypatch.setattr(sqlite_reader, "_LOOK_S", 0.0)
    monkeypatch.setattr(follower_module, "_CHECK_TABLES_S", 0.0)


# --- readers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
async def test_a_reader_opens_the_new_file_a_second_later(path: Path, quick: bool) -> None:
    store = await live_store(path, 3)
    model = SqliteReadModel(path)
    assert await partitions_of(model, quick) == 3
    delete(path)
    other = await live_store(path, 5)
    await asyncio.sleep(1.05)
    assert await partitions_of(model, quick) == 5
    for one in (model, store, other):
        await one.close()


async def partitions_of(model: SqliteReadModel, quick: bool) -> int:
    (checkpoints,) = await model.fetch([Query(statements.checkpoints, {})], quick=quick)
    return len(checkpoints)


@pytest.mark.usefixtures("at_once")
async def test_a_reader_of_a_deleted_file_says_what_to_do_and_makes_no_file(path: Path) -> None:
    store = await live_store(path, 3)
    model = SqliteReadModel(path)
    delete(path)
    for _ in range(2):
        with pytest.raises(ReadModelUnavailable, match=r"there is no read model at .*: the follower .* rebuild"):
            await read_model_status(model)
    assert not is_there(path)
    with pytest.raises(ReadModelUnavailable, match="there is no read model at"):
        SqliteReadModel(path)
    await model.close()
    await store.close()


async def test_a_reader_checks_the_path_at_most_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await live_store(path, 3)
    model = SqliteReadModel(path)
    looked = 0
    look = sqlite_file.identity_at

    def counted(at: Path) -> tuple[int, int] | None:
        nonlocal looked
        looked += 1
        return look(at)

    monkeypatch.setattr(sqlite_reader, "identity_at", counted)
    ends_s = time.monotonic() + 0.5
    while time.monotonic() < ends_s:
        await read_model_status(model)
    assert looked <= 1
    await model.close()
    await store.close()


@pytest.mark.usefixtures("at_once")
async def test_reads_over_http_are_unavailable_while_the_file_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _warnings.clear()
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(open_wallet())
        await api_client.fold()
        assert (await api_client.get("/v1/wallets/u1/history")).status == 200
        delete(tmp_path / READ_MODEL)
        answer = await api_client.get("/v1/wallets/u1/history")
        assert (answer.status, answer.json()["code"]) == (503, "log_unavailable")
        assert answer.json()["detail"] == "the read model is unavailable"
        assert "stakelog project rebuild" in caplog.text, "the cure is the operator's"


# --- writers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [(), ("",)], ids=["all deleted", "the -wal and the -shm left"])
async def test_a_store_writes_nothing_into_a_deleted_file_and_makes_a_new_one(
    path: Path, left: tuple[str, ...]
) -> None:
    store = await live_store(path, 3)
    delete(path, *left)
    with pytest.raises(Switched, match="was deleted or replaced"):
        await store.make_generation(VERSION, 3, live=False)
    assert await store.generations() == []
    made = await store.make_generation(VERSION, 2, live=True)
    beside = SqliteReadModelStore(path)
    assert await beside.generations() == [made]
    await beside.close()
    await store.close()


@pytest.mark.parametrize("after", [1, 5])
async def test_a_file_that_is_deleted_while_it_is_made_is_detected(
    path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def deleting(*given: Any) -> str:
        nonlocal made
        made += 1
        if made == after:
            delete(path)
        return create_table(*given)

    monkeypatch.setattr(sqlite, "create_table", deleting)
    store = SqliteReadModelStore(path)
    with pytest.raises(Switched):
        await store.generations()
    assert await store.generations() == []
    assert is_there(path)
    await store.close()


async def test_a_store_raises_once_after_its_file_was_replaced(path: Path, tmp_path: Path) -> None:
    store, other = await live_store(path, 3), await live_store(tmp_path / "other", 5)
    await other.close()
    delete(path)
    (tmp_path / "other").replace(path)
    with pytest.raises(Switched):
        await store.generations()
    (made,) = await store.generations()
    assert len(await store.checkpoints(made.number)) == 5
    await store.close()


async def test_two_stores_of_a_deleted_file_agree_on_the_next_one(path: Path) -> None:
    stores = [await live_store(path, 3), SqliteReadModelStore(path)]
    delete(path)
    for store in stores:
        with pytest.raises(Switched):
            await store.generations()
    made = await stores[0].make_generation(VERSION, 3, live=True)
    assert await stores[1].generations() == [made]
    with pytest.raises(Switched, match="another process"):
        await stores[1].make_generation(VERSION, 3, live=True)
    for store in stores:
        await store.close()
    again = SqliteReadModelStore(path)
    assert await again.generations() == [made], "closing the old file did not delete the WAL of the new one"
    await again.close()


async def test_writers_still_take_turns_after_the_lock_file_is_deleted(path: Path) -> None:
    store = await live_store(path, 3)
    delete(path, ".lock")
    beside = SqliteReadModelStore(path)
    with (
        store._in_turn(),
        path.with_name(path.name + ".lock").open("rb") as another,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
    await beside.close()
    await store.close()


async def test_a_store_that_may_not_make_the_file_makes_none(path: Path) -> None:
    with pytest.raises(ReadModelUnavailable, match="there is no read model at"):
        SqliteReadModelStore(path, make=False)
    assert list(path.parent.iterdir()) == []
    store = await live_store(path, 3)
    checking = SqliteReadModelStore(path, make=False)
    delete(path)
    for _ in range(2):
        with pytest.raises(ReadModelUnavailable, match="there is no read model at"):
            await checking.generations()
        with pytest.raises(ReadModelUnavailable, match="there is no read model at"):
            await anext(checking.scan(1, 0))
    assert not is_there(path)
    make_empty(path)
    with pytest.raises(ReadModelUnavailable, match="has no tables of this program's format"):
        await checking.generations()
    assert is_empty(path)
    await checking.close()
    await store.close()


# --- the follower -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("news", [True, False], ids=["while events come", "while nothing comes"])
async def test_a_follower_makes_deleted_tables_again_and_fills_them(
    tmp_path: Path, scenario: Scenario, news: bool
) -> None:
    expected = await from_scratch(tmp_path / "scratch", scenario.partitions)
    folder = Folder(tmp_path / "data", scenario.partitions)
    await folder.append(0.6 if news else 1.0)
    log, store, stop = folder.reader(), folder.store(), asyncio.Event()
    path = folder.path / READ_MODEL
    running = asyncio.create_task(Follower(log, store, batch=50).run(stop))
    await until_heads(path, log.ends())
    delete(path)
    if news:
        await folder.append()
    await until_heads(path, log.ends())
    stop.set()
    await running
    log.close()
    await store.close()
    assert await live_tables(folder.path, len(scenario.partitions)) == expected


async def until_heads(path: Path, ends: list[int]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                model = SqliteReadModel(path)
                try:
                    heads = (await read_model_status(model)).heads
                finally:
                    await model.close()
                if [head.seq for head in heads] == ends:
                    return
            except ReadModelUnavailable:
                pass
            await asyncio.sleep(0.02)
