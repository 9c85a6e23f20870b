"""Whatever happens to projectors, readers and the cache, cached rows are true at the seq that the cache names.

The model in memory is tested for every commit, a real Redis in `make test`. ``cache_world.py`` has the random
actions.
"""

import copy
from random import Random
from typing import Final

import pytest
from redis import Redis as RedisClientOfTests

from conformance.memory_cache import MemoryCache
from projections.caching.redis import RedisCache
from projections.caching.redis_client import RedisClient
from properties.cache_world import Counts, play

STEPS: Final = 400
FOR_EVERY_COMMIT: Final = 150
IN_REDIS: Final = 40
LONG_S: Final = 3_600.0


class LossOfMemory:
    def __init__(self, cache: MemoryCache) -> None:
        self._cache = cache
        self._saved: dict[str, object] = {}
        self.save()

    def save(self) -> None:
        stores = ("_marks", "_cached", "_boards")
        self._saved = {name: copy.deepcopy(vars(self._cache)[name]) for name in stores}

    def restore(self) -> None:
        vars(self._cache).update(copy.deepcopy(self._saved))

    def lose(self, chance: Random) -> None:
        stores = [vars(self._cache)[name] for name in ("_marks", "_cached", "_boards")]
        keys = [(of, key) for of in stores for key in of]
        if keys:
            of, key = chance.choice(keys)
            del of[key]

    def lose_all(self) -> None:
        for name in ("_marks", "_cached", "_boards"):
            vars(self._cache)[name].clear()


class LossOfRedis:
    def __init__(self, client: RedisClientOfTests) -> None:
        self._client = client
        self._saved: dict[bytes, bytes] = {}

    def save(self) -> None:
        self._saved = {key: dump for key in self._client.scan_iter() if (dump := self._client.dump(key))}

    def restore(self) -> None:
        self._client.flushall()
        for key, dump in self._saved.items():
            self._client.restore(key, 0, dump)

    def lose(self, chance: Random) -> None:
        if keys := sorted(self._client.scan_iter()):
            self._client.delete(chance.choice(keys))

    def lose_all(self) -> None:
        self._client.flushall()


async def test_all_rows_from_the_model_in_memory_are_true() -> None:
    total = Counts()
    for seed in range(FOR_EVERY_COMMIT):
        cache = MemoryCache(trust_s=LONG_S)
        add(total, await play(cache, LossOfMemory(cache), seed, STEPS))
    assert_that_there_were_many_hits(total)


@pytest.mark.system
async def test_all_rows_from_redis_are_true(redis_url: str) -> None:
    total = Counts()
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    with RedisClientOfTests.from_url(redis_url) as client:
        for seed in range(IN_REDIS):
            client.flushall()
            add(total, await play(cache, LossOfRedis(client), seed, STEPS))
    await cache.close()
    assert_that_there_were_many_hits(total)


def add(total: Counts, more: Counts) -> None:
    total.users += more.users
    total.boards += more.boards
    total.reads += more.reads


def assert_that_there_were_many_hits(total: Counts) -> None:
    """A cache that returns nothing would pass without this."""
    assert total.users > total.reads / 4, total
    assert total.boards > total.reads / 20, total
