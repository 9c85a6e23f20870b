"""Whatever becomes of folders, readers and the cache itself: what the cache answers is true at the seq that it names.

In memory for every commit, in a real Redis for `make test`; ``cache_world.py`` tells what may happen.
"""

import copy
from random import Random
from typing import Final

import pytest
from redis import Redis as RedisClientOfTests

from projections.caching.memory import MemoryCache
from projections.caching.redis import RedisCache
from projections.caching.redis_client import RedisClient
from properties.cache_world import Judged, play

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
        held = ("_marks", "_kept", "_boards")
        self._saved = {name: copy.deepcopy(vars(self._cache)[name]) for name in held}

    def restore(self) -> None:
        vars(self._cache).update(copy.deepcopy(self._saved))

    def lose(self, chance: Random) -> None:
        held = [vars(self._cache)[name] for name in ("_marks", "_kept", "_boards")]
        keys = [(of, key) for of in held for key in of]
        if keys:
            of, key = chance.choice(keys)
            del of[key]

    def lose_all(self) -> None:
        for name in ("_marks", "_kept", "_boards"):
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


async def test_in_memory_all_that_is_answered_is_true() -> None:
    total = Judged()
    for seed in range(FOR_EVERY_COMMIT):
        cache = MemoryCache(trust_s=LONG_S)
        add(total, await play(cache, LossOfMemory(cache), seed, STEPS))
    assert_that_much_was_answered(total)


@pytest.mark.system
async def test_in_redis_all_that_is_answered_is_true(redis_url: str) -> None:
    total = Judged()
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    with RedisClientOfTests.from_url(redis_url) as client:
        for seed in range(IN_REDIS):
            client.flushall()
            add(total, await play(cache, LossOfRedis(client), seed, STEPS))
    await cache.close()
    assert_that_much_was_answered(total)


def add(total: Judged, more: Judged) -> None:
    total.users += more.users
    total.boards += more.boards
    total.asked += more.asked


def assert_that_much_was_answered(total: Judged) -> None:
    """Else the silence of the cache, and not its truth, would be what was shown."""
    assert total.users > total.asked / 4, total
    assert total.boards > total.asked / 20, total
