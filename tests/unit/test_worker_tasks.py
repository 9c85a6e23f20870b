"""A worker ends, with the reason, when its web port is taken, its start-up fails or one of its tasks fails."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conformance.memory_cache import MemoryCache
from ledger.errors import LedgerError
from ledger.sqlite.folder import READ_MODEL
from projections.caching.port import RowsVersion
from projections.live.memory import MemoryLiveFeed
from projections.projecting.delivery import DeliveryProjector
from projections.projecting.post_commit import PostCommit
from projections.projecting.worker import Worker, WorkerOptions
from projections.projecting.worker_metrics import LagMonitor, as_text
from projections.storage.sqlite import SqliteReadModelStore
from properties.reads_scenario import Scenario, play_scenario
from unit.test_delivery import Table, TopicInMemory
from unit.test_metrics import NOT_BASE

NO_BROKER: Final = "127.0.0.1:9"
WITHIN_S: Final = 20.0


class DefectiveCache(MemoryCache):
    """Fails as no cache may: not with CacheUnavailable."""

    defective = False

    async def confirm(self, generation: str, versions: Mapping[int, RowsVersion]) -> None:
        if self.defective:
            raise RuntimeError("a defect in the cache")
        await super().confirm(generation, versions)


class Scene:
    """A worker over a topic in memory; its consumer finds no broker."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self.stop = asyncio.Event()
        self.cache = DefectiveCache()
        self.table = Table(path / "data", scenario.partitions)
        self.topic: TopicInMemory = self.table.topic
        self.store = SqliteReadModelStore(path / READ_MODEL)
        self.delivery = DeliveryProjector(
            self.topic, self.store, self.stop, post_commit=PostCommit(self.cache, MemoryLiveFeed())
        )

    def worker(self, web_port: int = 0) -> Worker:
        options = WorkerOptions(servers=[NO_BROKER], topic="t", web_port=web_port)
        return Worker(self.delivery, LagMonitor(self.topic, self.delivery, lambda: 0), options)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path, await play_scenario(17, commands=30, partitions=3))
    yield scene
    await scene.store.close()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        yield port


def never_started() -> Callable[[], Awaitable[None]]:
    async def start() -> None:
        await asyncio.Event().wait()

    return start


async def test_a_taken_web_port_ends_the_worker_and_is_named(scene: Scene, taken_port: int) -> None:
    with pytest.raises(LedgerError, match=f"127.0.0.1:{taken_port}.*--web-port"):
        await asyncio.wait_for(scene.worker(taken_port).run(scene.stop), WITHIN_S)


async def test_a_worker_tells_its_metrics_in_base_units_with_a_text_each(scene: Scene) -> None:
    await scene.delivery.take(scene.table.everything())
    monitor = LagMonitor(scene.topic, scene.delivery, lambda: 4)
    monitor.assigned = {0, 2}
    await monitor.refresh()
    found = {family.name: family for family in text_string_to_metric_families(as_text(monitor))}
    for name, family in found.items():
        assert re.fullmatch(r"(stakelog_worker|process|stakelog_memory_limit)_[a-z_]+", name), name
        assert not NOT_BASE.search(name), name
        assert family.documentation, name
        assert family.type in {"gauge", "counter"}, name
    for name in ("seq", "next_offset", "end_offset", "lag_records", "lag_seconds", "forks"):
        assert [one.labels for one in found[f"stakelog_worker_{name}"].samples] == [
            {"partition": "0"},
            {"partition": "2"},
        ]
    (retries,) = found["stakelog_worker_database_retries"].samples
    assert (retries.name, retries.value) == ("stakelog_worker_database_retries_total", 4)
    assert found["stakelog_worker_events"].samples[0].value > 0


async def test_a_failed_start_up_ends_the_worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise OSError("no start today")

    worker = scene.worker()
    monkeypatch.setattr(worker.app, "start", fails)
    with pytest.raises(OSError, match="no start today"):
        await asyncio.wait_for(worker.run(scene.stop), WITHIN_S)


async def test_a_defect_in_the_post_commit_hooks_ends_the_worker(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.delivery.take(scene.table.everything())
    worker = scene.worker()
    monkeypatch.setattr(worker.app, "start", never_started())
    monkeypatch.setattr(Worker, "_assigned", lambda _self: {0, 1, 2})
    scene.cache.defective = True
    with pytest.raises(RuntimeError, match="a defect in the cache"):
        await asyncio.wait_for(worker.run(scene.stop), WITHIN_S)


async def test_a_stop_ends_the_worker_while_it_still_starts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = scene.worker()
    monkeypatch.setattr(worker.app, "start", never_started())
    running = asyncio.create_task(worker.run(scene.stop))
    await asyncio.sleep(0)
    scene.stop.set()
    await asyncio.wait_for(running, WITHIN_S)
