"""Two nodes read through the cache while a real read model is folded. Each document is what the events up to its
``as_of`` say, and the ``as_of`` of a node never goes back.

Lost updates, quarantined users, a new generation and an unavailable cache come at random. The model in memory is
tested for every commit, a real Redis in `make test`.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import pytest
from redis import Redis as RedisClientOfTests

from cases import first
from conformance.memory_cache import MemoryCache
from ledger.core.wallet import DAY_US
from projections.caching.cached_reads import CachedReads
from projections.caching.port import AggregateCache, CachedRows, CacheUnavailable, CacheUpdate, Kind
from projections.caching.redis import RedisCache
from projections.caching.redis_client import RedisClient
from projections.live.memory import MemoryLiveFeed
from projections.models import VERSION
from projections.models.leaderboards import LEADERBOARDS
from projections.projecting.partition import PartitionProjector
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Generation, Quarantined, Run
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from properties.naive_reads import NaiveReads
from properties.reads_scenario import USERS, Scenario, play_scenario
from properties.test_reads_against_the_naive_reads import NOW_US, Ends, plain

TURNS: Final = 600
BACK: Final = 0.05
"""Probability that an unavailable cache is available again, in each turn."""
LONG_S: Final = 3_600.0
REBUILD_FROM: Final = 0.6


class FailingCache(MemoryCache):
    """Raises CacheUnavailable while ``unavailable`` is set."""

    unavailable = False

    async def get(self, kind: Kind, partition: int, user_id: str) -> CachedRows:
        self._refuse()
        return await super().get(kind, partition, user_id)

    async def apply(self, updates: Sequence[CacheUpdate]) -> None:
        self._refuse()
        await super().apply(updates)

    def _refuse(self) -> None:
        if self.unavailable:
            raise CacheUnavailable("a test")


class Scene:
    """A read model in a file, folded run by run; some commits never reach the cache."""

    def __init__(self, scenario: Scenario, path: Path, cache: AggregateCache, chance: Random) -> None:
        self.scenario, self.chance, self.cache = scenario, chance, cache
        self.store, self.model = SqliteReadModelStore(path), SqliteReadModel(path)
        self.naive = NaiveReads(scenario.records)
        self.clock_s = 0.0
        self.post_commit = PostCommit(cache, MemoryLiveFeed(), clock_s=lambda: self.clock_s)
        self.nodes = [CachedReads(self.model, Ends(scenario), lambda: NOW_US, cache) for _ in range(2)]
        self.at: list[dict[int, int]] = [{} for _ in self.nodes]
        self.quarantined: Quarantined | None = None
        self.days = sorted({event["time_us"] // DAY_US for event in self.naive.events})
        self.hits = 0

    async def begin(self) -> None:
        self.live = await self.store.make_generation(VERSION, len(self.scenario.partitions), live=True)
        await self.prepare()

    async def prepare(self) -> None:
        """Start again from the tables, like a new process."""
        checkpoints = await self.store.checkpoints(self.live.number)
        quarantined = await self.store.quarantine(self.live.number)
        self.folders = [
            PartitionProjector(
                self.store,
                self.live.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=50,
            )
            for partition, checkpoint in enumerate(checkpoints)
        ]
        await self.post_commit.started(self.live, dict(enumerate(checkpoints)))

    async def fold(self) -> None:
        folder = self.chance.choice(self.folders)
        records = self.scenario.partitions[folder.partition]
        size = self.chance.choice((1, 1, 2, 5, 20))
        run = await folder.fold(records[folder.head.seq : folder.head.seq + size])
        if run is None:
            return
        assert not run.quarantined
        await self.store.commit(self.live.number, [run])
        if self.chance.random() < 0.03:  # it died before its post-commit hooks
            await self.prepare()
            return
        folder.mark_stored(run)
        await self._committed(run)

    async def _committed(self, run: Run) -> None:
        self.clock_s += 1
        await self.post_commit.committed(self.live, [run])

    async def change_quarantine(self) -> None:
        """Quarantine a user at the next event; or fold the quarantined user's events again."""
        if self.quarantined is None:
            folder = self.chance.choice(self.folders)
            rest = [event for event in self.naive.events if event["partition"] == folder.partition]
            coming = [event for event in rest if event["seq"] > folder.head.seq]
            if not coming:
                return
            first = self.chance.choice(coming[:5])
            user_id = first["user_id"]
            seq = next(event["seq"] for event in coming if event["user_id"] == user_id)
            self.quarantined = Quarantined(folder.partition, user_id, seq, first["time_us"], "a test")
            checkpoint = (await self.store.checkpoints(self.live.number))[folder.partition]
            run = Run(folder.partition, checkpoint, checkpoint, (), (self.quarantined,))
            await self.store.commit(self.live.number, [run])
            await self._committed(run)
            await self.prepare()
            return
        folder = self.folders[self.quarantined.partition]
        released = await folder.retry_quarantined(self.quarantined)
        if released is not None:
            assert not released.quarantined
            await self.store.commit(self.live.number, [released])
            folder.mark_stored(released)
            await self._committed(released)
            self.quarantined = None

    async def rebuild(self) -> None:
        """Another generation, at the same seqs, goes live."""
        made = await self.store.make_generation(VERSION, len(self.scenario.partitions), live=False)
        for old in self.folders:
            records = self.scenario.partitions[old.partition][: old.head.seq]
            folder = PartitionProjector(
                self.store, made.number, old.partition, (await self.store.checkpoints(made.number))[old.partition], []
            )
            if records:
                run = await folder.fold(records)
                assert run is not None
                await self.store.commit(made.number, [run], building=True)
        await self.store.switch(self.live.number, made.number, accept=False)
        self.live = Generation(made.number, made.version, "live", made.made_at_us)
        if self.chance.random() < 0.5:
            await self.read()
        await self.prepare()

    async def read(self) -> None:
        at = self.chance.randrange(len(self.nodes))
        node = self.nodes[at]
        user_id = self.chance.choice(USERS)
        name = self.chance.choice(("wallet", "stats", "board", "wallets"))
        if name == "board":
            await self._read_board(at)
            return
        if name == "wallets":  # never from the cache; what the cache has may not be older afterwards
            listed = await node.wallets([user_id], "", 1, None)
            if self.quarantined is None or self.quarantined.user_id != user_id:
                self._assert_never_back(at, listed.seqs)
            return
        fresh = self.chance.random() < 0.05
        found = await (
            node.wallet(user_id, fresh=fresh) if name == "wallet" else node.statistics(user_id, fresh=fresh)
        )
        ((partition, seq),) = found.seqs.items()
        assert plain(found) == getattr(self.naive.at({partition: seq}), name)(user_id), (name, user_id, found.seqs)
        if self.quarantined is None or self.quarantined.user_id != user_id:
            self._assert_never_back(at, found.seqs)
        else:
            assert found.lag_ms > 0

    async def _read_board(self, at: int) -> None:
        name, day = self.chance.choice(list(LEADERBOARDS)), self.chance.choice(self.days)
        limit = self.chance.choice((1, 3, 200))
        found = await self.nodes[at].leaderboard(name, "INR", day * DAY_US, limit)
        if self.quarantined is None:
            then = self.naive.at(found.seqs)
            assert plain(found) == then.leaderboard(name, "INR", day * DAY_US, limit), (name, day, found.seqs)
        elif not isinstance(self.cache, FailingCache):  # the cache may not know of the quarantine
            assert found.lag_ms >= (NOW_US - self.quarantined.time_us) // 1_000, "a user is quarantined"
        self._assert_never_back(at, found.seqs)

    def _assert_never_back(self, at: int, seqs: dict[int, int]) -> None:
        for partition, seq in seqs.items():
            assert seq >= self.at[at].get(partition, 0), f"partition {partition} went back"
            self.at[at][partition] = seq

    async def close(self) -> None:
        await self.model.close()
        await self.store.close()


async def play(scene: Scene) -> None:
    chance = scene.chance
    await scene.begin()
    for turn in range(TURNS):
        match chance.choices(("fold", "read", "quarantine", "rebuild", "unavailable"), (20, 120, 1, 1, 1))[0]:
            case "fold":
                await scene.fold()
            case "read":
                await scene.read()
            case "quarantine":
                await scene.change_quarantine()
            case "rebuild" if scene.quarantined is None and turn > TURNS * REBUILD_FROM:
                await scene.rebuild()
            case "unavailable" if isinstance(scene.cache, FailingCache):
                scene.cache.unavailable = True
        if isinstance(scene.cache, FailingCache) and scene.cache.unavailable and chance.random() < BACK:
            scene.cache.unavailable = False
            for node in scene.nodes:
                node.breaker.succeeded()
    for node in scene.nodes:
        scene.hits += sum(number for (_, outcome), number in node.counts.items() if outcome == "hit")
    await scene.close()


@pytest.mark.parametrize("seed", first(1, range(3)))
async def test_reads_through_a_cache_in_memory_are_what_the_events_say(seed: int, tmp_path: Path) -> None:
    cache = FailingCache(trust_s=LONG_S)
    scene = Scene(await play_scenario(seed), tmp_path / "read-model.sqlite3", cache, Random(seed))
    await play(scene)
    assert scene.hits > TURNS / 20, "too few cache hits for this test to mean anything"


@pytest.mark.system
@pytest.mark.parametrize("seed", range(10, 18))
async def test_reads_through_redis_are_what_the_events_say(seed: int, redis_url: str, tmp_path: Path) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    scene = Scene(await play_scenario(seed), tmp_path / "read-model.sqlite3", cache, Random(seed))
    await play(scene)
    with RedisClientOfTests.from_url(redis_url) as client:
        assert client.keys("stakelog:1:wallet:*")
    await cache.close()
    assert scene.hits > TURNS / 20, "too few cache hits for this test to mean anything"
