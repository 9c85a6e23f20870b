"""Reads through the cache, of two nodes, while a real read model is folded: each is what the events until its own
``as_of`` say, and no node ever says an older one than it has said.

Commits that the cache never hears of, users who stand still and are taken again, another generation, a cache that is
away: all of it comes by chance. In memory for every commit, in a real Redis for `make test`.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import pytest
from redis import Redis as RedisClientOfTests

from ledger.core.wallet import DAY_US
from projections.caching.cached_reads import CachedReads
from projections.caching.memory import MemoryCache
from projections.caching.port import AggregateCache, CacheUnavailable, Kind, Looked, Step
from projections.caching.redis import RedisCache
from projections.caching.redis_client import RedisClient
from projections.live.memory import MemoryLive
from projections.models import VERSION
from projections.models.leaderboards import LEADERBOARDS
from projections.projecting.partition import PartitionFolder
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Generation, Quarantined, Run
from projections.storage.sqlite import SqliteReadModel, SqliteReadModelStore
from properties.naive_reads import NaiveReads
from properties.reads_scenario import USERS, Story, tell
from properties.test_reads_against_the_naive_reads import NOW_US, Ends, plain

TURNS: Final = 600
BACK: Final = 0.05
"""In how many turns of those in which it is away the cache comes back."""
LONG_S: Final = 3_600.0
REBUILD_FROM: Final = 0.6


class Away(MemoryCache):
    """It can be told not to answer."""

    away = False

    async def look(self, kind: Kind, partition: int, user_id: str) -> Looked:
        self._refuse()
        return await super().look(kind, partition, user_id)

    async def step(self, steps: Sequence[Step]) -> None:
        self._refuse()
        await super().step(steps)

    def _refuse(self) -> None:
        if self.away:
            raise CacheUnavailable("a test")


class Scene:
    """A read model on a file, folded run by run, with whoever folds telling the cache or not."""

    def __init__(self, told: Story, path: Path, cache: AggregateCache, chance: Random) -> None:
        self.told, self.chance, self.cache = told, chance, cache
        self.store, self.model = SqliteReadModelStore(path), SqliteReadModel(path)
        self.naive = NaiveReads(told.records)
        self.clock_s = 0.0
        self.after = PostCommit(cache, MemoryLive(), clock_s=lambda: self.clock_s)
        self.nodes = [CachedReads(self.model, Ends(told), lambda: NOW_US, cache) for _ in range(2)]
        self.at: list[dict[int, int]] = [{} for _ in self.nodes]
        self.still: Quarantined | None = None
        self.days = sorted({event["time_us"] // DAY_US for event in self.naive.events})
        self.times = 0

    async def begin(self) -> None:
        self.live = await self.store.make_generation(VERSION, len(self.told.partitions), live=True)
        await self.take_up()

    async def take_up(self) -> None:
        """As a folder that starts, and knows what the tables say only."""
        checkpoints = await self.store.checkpoints(self.live.number)
        quarantined = await self.store.quarantine(self.live.number)
        self.folders = [
            PartitionFolder(
                self.store,
                self.live.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=50,
            )
            for partition, checkpoint in enumerate(checkpoints)
        ]
        await self.after.standing(self.live, dict(enumerate(checkpoints)))

    async def fold(self) -> None:
        folder = self.chance.choice(self.folders)
        records = self.told.partitions[folder.partition]
        size = self.chance.choice((1, 1, 2, 5, 20))
        run = await folder.fold(records[folder.head.seq : folder.head.seq + size])
        if run is None:
            return
        assert not run.quarantined
        await self.store.commit(self.live.number, [run])
        if self.chance.random() < 0.03:  # it died before it told anybody
            await self.take_up()
            return
        folder.stored(run)
        await self._touched(run)

    async def _touched(self, run: Run) -> None:
        self.clock_s += 1
        await self.after.touched(self.live, [run])

    async def stand_still(self) -> None:
        """As if a user's next event could not be digested; or, the next time, as if now it can."""
        if self.still is None:
            folder = self.chance.choice(self.folders)
            rest = [event for event in self.naive.events if event["partition"] == folder.partition]
            coming = [event for event in rest if event["seq"] > folder.head.seq]
            if not coming:
                return
            first = self.chance.choice(coming[:5])
            user_id = first["user_id"]
            seq = next(event["seq"] for event in coming if event["user_id"] == user_id)
            self.still = Quarantined(folder.partition, user_id, seq, first["time_us"], "a test")
            checkpoint = (await self.store.checkpoints(self.live.number))[folder.partition]
            run = Run(folder.partition, checkpoint, checkpoint, (), (self.still,))
            await self.store.commit(self.live.number, [run])
            await self._touched(run)
            await self.take_up()
            return
        folder = self.folders[self.still.partition]
        taken = await folder.retake(self.still)
        if taken is not None:
            assert not taken.quarantined
            await self.store.commit(self.live.number, [taken])
            folder.stored(taken)
            await self._touched(taken)
            self.still = None

    async def rebuild(self) -> None:
        """Another generation, at the very same places, goes live."""
        made = await self.store.make_generation(VERSION, len(self.told.partitions), live=False)
        for old in self.folders:
            records = self.told.partitions[old.partition][: old.head.seq]
            folder = PartitionFolder(
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
        await self.take_up()

    async def read(self) -> None:
        at = self.chance.randrange(len(self.nodes))
        node = self.nodes[at]
        user_id = self.chance.choice(USERS)
        name = self.chance.choice(("wallet", "stats", "board"))
        if name == "board":
            await self._read_board(at)
            return
        fresh = self.chance.random() < 0.05
        found = await (
            node.wallet(user_id, fresh=fresh) if name == "wallet" else node.statistics(user_id, fresh=fresh)
        )
        ((partition, seq),) = found.seqs.items()
        assert plain(found) == getattr(self.naive.at({partition: seq}), name)(user_id), (name, user_id, found.seqs)
        if self.still is None or self.still.user_id != user_id:
            self._goes_on(at, found.seqs)
        else:
            assert found.lag_ms > 0

    async def _read_board(self, at: int) -> None:
        name, day = self.chance.choice(list(LEADERBOARDS)), self.chance.choice(self.days)
        limit = self.chance.choice((1, 3, 200))
        found = await self.nodes[at].leaderboard(name, "INR", day * DAY_US, limit)
        if self.still is None:
            then = self.naive.at(found.seqs)
            assert plain(found) == then.leaderboard(name, "INR", day * DAY_US, limit), (name, day, found.seqs)
        elif not isinstance(self.cache, Away):  # which may not have heard of it
            assert found.lag_ms >= (NOW_US - self.still.time_us) // 1_000, "somebody stands still"
        self._goes_on(at, found.seqs)

    def _goes_on(self, at: int, seqs: dict[int, int]) -> None:
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
        match chance.choices(("fold", "read", "still", "rebuild", "away"), (20, 120, 1, 1, 1))[0]:
            case "fold":
                await scene.fold()
            case "read":
                await scene.read()
            case "still":
                await scene.stand_still()
            case "rebuild" if scene.still is None and turn > TURNS * REBUILD_FROM:
                await scene.rebuild()
            case "away" if isinstance(scene.cache, Away):
                scene.cache.away = True
        if isinstance(scene.cache, Away) and scene.cache.away and chance.random() < BACK:
            scene.cache.away = False
            for node in scene.nodes:
                node.breaker.answered()
    for node in scene.nodes:
        scene.times += sum(number for (_, outcome), number in node.counts.items() if outcome == "hit")
    await scene.close()


@pytest.mark.parametrize("seed", range(3))
async def test_reads_through_a_cache_in_memory_say_what_the_events_say(seed: int, tmp_path: Path) -> None:
    cache = Away(trust_s=LONG_S)
    scene = Scene(await tell(seed), tmp_path / "read-model.sqlite3", cache, Random(seed))
    await play(scene)
    assert scene.times > TURNS / 20, "the cache was to be what answers"


@pytest.mark.system
@pytest.mark.parametrize("seed", range(10, 18))
async def test_reads_through_redis_say_what_the_events_say(seed: int, redis_url: str, tmp_path: Path) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    scene = Scene(await tell(seed), tmp_path / "read-model.sqlite3", cache, Random(seed))
    await play(scene)
    with RedisClientOfTests.from_url(redis_url) as client:
        assert client.keys("stakelog:1:wallet:*")
    await cache.close()
    assert scene.times > TURNS / 20, "the cache was to be what answers"
