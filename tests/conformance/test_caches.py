"""The cache of aggregates in Redis, and its model in memory, pass the same contract."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis as RedisClientOfTests

from conformance.aggregate_cache import (
    BOARD,
    GENERATION,
    LONG_S,
    PARTITIONS,
    AggregateCacheContract,
    OpenCache,
    confirmed,
    put,
    update,
    version,
    wallet,
)
from conformance.memory_cache import MemoryCache
from deploy.local.servers import Redis
from projections.caching.port import MISS, RECENT_MAX, AggregateCache, CacheUnavailable, Kind
from projections.caching.redis import RedisCache
from projections.caching.redis_client import RedisClient
from real_servers import empty


class TestMemoryCache(AggregateCacheContract):
    @pytest.fixture
    def open_cache(self) -> OpenCache:
        first: list[MemoryCache] = []

        def opened(trust_s: float) -> AggregateCache:
            cache = MemoryCache(trust_s=trust_s)
            if first:
                vars(cache).update({**vars(first[0]), "_trust_s": trust_s})
            first.append(cache)
            return cache

        return opened


@pytest.mark.system
class TestRedisCache(AggregateCacheContract):
    @pytest.fixture
    async def open_cache(self, redis_url: str) -> AsyncIterator[OpenCache]:
        opened: list[RedisCache] = []

        def open_one(trust_s: float) -> AggregateCache:
            opened.append(RedisCache(RedisClient(redis_url), trust_s=trust_s))
            return opened[-1]

        yield open_one
        for cache in opened:
            await cache.close()


async def test_recent_changes_are_remembered_for_a_bounded_number_of_users() -> None:
    await remembers_recent_changes(MemoryCache())


@pytest.mark.system
async def test_redis_remembers_recent_changes_of_a_bounded_number_of_users(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    await remembers_recent_changes(cache)
    with RedisClientOfTests.from_url(redis_url) as client:
        assert client.zcard("stakelog:1:recent:0") == RECENT_MAX + 1
    await cache.close()


async def remembers_recent_changes(cache: AggregateCache) -> None:
    """Rows that were read before the oldest remembered change are not cached, for no user."""
    await confirmed(cache)
    found = await cache.get("wallet", 0, "u1")
    assert found.token is not None
    for half in range(2):
        names = [f"x{number}" for number in range(half * RECENT_MAX // 2, (half + 1) * RECENT_MAX // 2)]
        rows: dict[Kind, Any] = {"wallet": {"a:INR": b"1"}}
        await cache.apply([update(10 + half, 11 + half, dict.fromkeys(names, rows))])
    await cache.put("wallet", 0, "u1", found.token, 10, wallet(5))
    assert (await cache.get("wallet", 0, "u1")).fields == wallet(5)
    await cache.apply([update(12, 13, {"u1": {"wallet": {"a:INR": b"6"}}})])
    await cache.put("wallet", 0, "u2", found.token, 10, wallet(5))
    assert (await cache.get("wallet", 0, "u2")).fields is None
    await cache.put("wallet", 0, "u2", found.token, 12, wallet(5))
    assert (await cache.get("wallet", 0, "u2")).fields == wallet(5)


# --- what Redis can lose --------------------------------------------------------------------------------------


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[RedisCache]:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    yield cache
    await cache.close()


@pytest.mark.system
async def test_a_redis_that_lost_all_keys_is_used_again(cache: RedisCache, redis_url: str) -> None:
    await confirmed(cache)
    found = await cache.get("wallet", 0, "u1")
    assert found.token is not None
    await put(cache, "u1", 10, wallet(5))
    empty(redis_url)
    assert await cache.get("wallet", 0, "u1") == MISS
    await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
    await cache.put("wallet", 0, "u1", found.token, 12, wallet(5))
    assert (await cache.get("wallet", 0, "u1"))[1:] == (12, None)
    await put(cache, "u1", 12, wallet(6))
    assert (await cache.get("wallet", 0, "u1"))[1:] == (12, wallet(6))


@pytest.mark.system
async def test_after_redis_lost_its_latest_writes_no_earlier_rows_are_returned(
    cache: RedisCache, redis_url: str
) -> None:
    await confirmed(cache)
    await put(cache, "u1", 10, wallet(5))
    with RedisClientOfTests.from_url(redis_url) as client:
        before = {key: (client.dump(key), client.pttl(key)) for key in client.scan_iter()}
        await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        client.flushall()
        for key, (dump, ttl) in before.items():
            client.restore(key, max(ttl, 0), dump)
    assert (await cache.get("wallet", 0, "u1"))[1:] == (10, wallet(5)), "it is true at 10"
    await cache.apply([update(12, 13)])
    assert (await cache.get("wallet", 0, "u1"))[1:] == (13, None)


@pytest.mark.system
@pytest.mark.parametrize("lost", ["mark:0", "recent:0", "wallet:u1", "recent:0 wallet:u1"])
async def test_after_redis_evicted_keys_no_wrong_rows_are_returned(
    cache: RedisCache, redis_url: str, lost: str
) -> None:
    await confirmed(cache)
    found = await cache.get("wallet", 0, "u1")
    assert found.token is not None
    await put(cache, "u1", 10, wallet(5))
    await cache.apply([update(10, 11, {"u1": {"wallet": {"a:INR": b"6"}}})])
    with RedisClientOfTests.from_url(redis_url) as client:
        for key in lost.split():
            assert client.delete(f"stakelog:1:{key}") == 1
    await cache.apply([update(11, 12, {"u3": {"wallet": {"a:INR": b"6"}}})])
    await cache.put("wallet", 0, "u1", found.token, 10, wallet(5))
    found = await cache.get("wallet", 0, "u1")
    assert found.fields in (None, wallet(6)), found


@pytest.mark.system
async def test_the_name_of_an_epoch_is_never_used_again(redis_url: str) -> None:
    """After Redis lost its latest writes, a new epoch must not have the name of an epoch that a reader still has."""
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    epochs = set()
    for _ in range(3):
        empty(redis_url)
        await confirmed(cache)
        token = (await cache.get("wallet", 0, "u1")).token
        assert token is not None
        epochs.add(token.epoch)
    assert len(epochs) == 3
    await cache.close()


@pytest.mark.system
async def test_cached_rows_expire(cache: RedisCache, redis_url: str) -> None:
    await confirmed(cache)
    await put(cache, "u1", 10, wallet(5))
    found = await cache.get_board(BOARD, PARTITIONS)
    assert found.token is not None
    await cache.put_board(BOARD, found.token, (10, 10), b"document")
    with RedisClientOfTests.from_url(redis_url) as client:
        for key in ("stakelog:1:wallet:u1", "stakelog:1:board:net_day:INR:20000:20001"):
            assert 0 < int(str(client.pttl(key))) <= 3_600_000


@pytest.mark.system
async def test_a_stopped_or_frozen_redis_is_reported_within_the_time_out(own_redis: Redis) -> None:
    cache = RedisCache(RedisClient(own_redis.url), trust_s=LONG_S)
    await confirmed(cache)
    own_redis.pause()
    began_s = time.monotonic()
    with pytest.raises(CacheUnavailable, match=f"Redis at redis://127.0.0.1:{own_redis.port}/0"):
        await cache.get("wallet", 0, "u1")
    assert time.monotonic() - began_s < 60
    own_redis.resume()
    await asyncio.gather(*(until_it_responds(cache) for _ in range(3)))
    own_redis.kill()
    for call in (
        cache.get("wallet", 0, "u1"),
        cache.apply([update(10, 12)]),
        cache.confirm(GENERATION, {0: version(10)}),
        cache.get_board(BOARD, PARTITIONS),
    ):
        with pytest.raises(CacheUnavailable):
            await call
    own_redis.start()
    await until_it_responds(cache)
    assert await cache.get("wallet", 0, "u1") == MISS
    await cache.close()


async def until_it_responds(cache: RedisCache) -> None:
    until_s = time.monotonic() + 30
    while True:
        try:
            await cache.get("wallet", 0, "u1")
        except CacheUnavailable:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)
        else:
            return


@pytest.mark.system
async def test_a_thousand_concurrent_readers_share_few_connections(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url, connections=2), trust_s=LONG_S)
    await confirmed(cache)
    for number in range(20):
        await put(cache, f"u{number}", 10, wallet(number))

    async def read(number: int) -> None:
        for _ in range(5):
            found = await cache.get("wallet", 0, f"u{number % 20}")
            assert found.fields == wallet(number % 20)
            await asyncio.sleep(0)

    await asyncio.gather(*(read(number) for number in range(1_000)))
    await cache.close()


@pytest.mark.system
async def test_a_cancelled_reader_does_not_cancel_the_others(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    await confirmed(cache)
    await put(cache, "u1", 10, wallet(5))
    for _ in range(50):
        reading = [asyncio.ensure_future(cache.get("wallet", 0, "u1")) for _ in range(10)]
        await asyncio.sleep(0)
        for one in reading[::2]:
            one.cancel()
        async with asyncio.timeout(60):
            assert [(await one).fields for one in reading[1::2]] == [wallet(5)] * 5
    await cache.close()


def test_the_address_in_messages_has_no_password() -> None:
    client = RedisClient("rediss://me:secret@cache:6380/3")
    assert client.address == "rediss://cache:6380/3"
