"""The caches of aggregates in memory and in Redis pass the one contract, and no cache keeps its promise too."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
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
    kept,
    place,
    standing,
    step,
    wallet,
)
from deploy.local.servers import Redis
from projections.caching.memory import MemoryCache
from projections.caching.none import NoCache
from projections.caching.port import NO_BOARD, NOTHING, RECENT_MAX, AggregateCache, CacheUnavailable, Kind, Ticket
from projections.caching.redis import RedisCache
from projections.caching.redis_client import TIMEOUT_S, RedisClient
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


@pytest.mark.parametrize("make", [MemoryCache, NoCache])
async def test_recent_touches_are_known_of_so_many_users_only(make: Callable[[], AggregateCache]) -> None:
    await holds_recent_touches(make())


@pytest.mark.system
async def test_redis_knows_recent_touches_of_so_many_users_only(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    await holds_recent_touches(cache)
    with RedisClientOfTests.from_url(redis_url) as client:
        assert client.zcard("stakelog:1:recent:0") == RECENT_MAX + 1
    await cache.close()


async def holds_recent_touches(cache: AggregateCache) -> None:
    """What was read before the oldest touch that is still known is not kept, whoever it is of."""
    await standing(cache)
    looked = await cache.look("wallet", 0, "u1")
    if looked.ticket is None:
        return
    for half in range(2):
        names = [f"x{number}" for number in range(half * RECENT_MAX // 2, (half + 1) * RECENT_MAX // 2)]
        rows: dict[Kind, Any] = {"wallet": {"a:INR": b"1"}}
        await cache.step([step(10 + half, 11 + half, dict.fromkeys(names, rows))])
    await cache.keep("wallet", 0, "u1", looked.ticket, 10, wallet(5))
    assert (await cache.look("wallet", 0, "u1")).fields == wallet(5)
    await cache.step([step(12, 13, {"u1": {"wallet": {"a:INR": b"6"}}})])
    await cache.keep("wallet", 0, "u2", looked.ticket, 10, wallet(5))
    assert (await cache.look("wallet", 0, "u2")).fields is None
    await cache.keep("wallet", 0, "u2", looked.ticket, 12, wallet(5))
    assert (await cache.look("wallet", 0, "u2")).fields == wallet(5)


async def test_no_cache_answers_nothing() -> None:
    cache = NoCache()
    await standing(cache)
    await cache.step([step(10, 12)])
    await cache.keep("wallet", 0, "u1", Ticket(GENERATION, "1"), 12, wallet(5))
    assert await cache.look("wallet", 0, "u1") == NOTHING
    assert await cache.look_board(BOARD, PARTITIONS) == NO_BOARD
    await cache.close()


# --- what only Redis may lose --------------------------------------------------------------------------------------


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[RedisCache]:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    yield cache
    await cache.close()


@pytest.mark.system
async def test_a_redis_that_lost_all_knows_nothing_and_is_used_again(cache: RedisCache, redis_url: str) -> None:
    await standing(cache)
    looked = await cache.look("wallet", 0, "u1")
    assert looked.ticket is not None
    await kept(cache, "u1", 10, wallet(5))
    empty(redis_url)
    assert await cache.look("wallet", 0, "u1") == NOTHING
    await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
    await cache.keep("wallet", 0, "u1", looked.ticket, 12, wallet(5))
    assert (await cache.look("wallet", 0, "u1"))[1:] == (12, None)
    await kept(cache, "u1", 12, wallet(6))
    assert (await cache.look("wallet", 0, "u1"))[1:] == (12, wallet(6))


@pytest.mark.system
async def test_a_redis_that_lost_its_latest_writes_trusts_nothing_of_before(
    cache: RedisCache, redis_url: str
) -> None:
    await standing(cache)
    await kept(cache, "u1", 10, wallet(5))
    with RedisClientOfTests.from_url(redis_url) as client:
        before = {key: (client.dump(key), client.pttl(key)) for key in client.scan_iter()}
        await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        client.flushall()
        for key, (dump, ttl) in before.items():
            client.restore(key, max(ttl, 0), dump)
    assert (await cache.look("wallet", 0, "u1"))[1:] == (10, wallet(5)), "which is true at 10"
    await cache.step([step(12, 13)])
    assert (await cache.look("wallet", 0, "u1"))[1:] == (13, None)


@pytest.mark.system
@pytest.mark.parametrize("lost", ["mark:0", "recent:0", "wallet:u1", "recent:0 wallet:u1"])
async def test_a_redis_that_evicts_keys_answers_nothing_wrong(cache: RedisCache, redis_url: str, lost: str) -> None:
    await standing(cache)
    looked = await cache.look("wallet", 0, "u1")
    assert looked.ticket is not None
    await kept(cache, "u1", 10, wallet(5))
    await cache.step([step(10, 11, {"u1": {"wallet": {"a:INR": b"6"}}})])
    with RedisClientOfTests.from_url(redis_url) as client:
        for key in lost.split():
            assert client.delete(f"stakelog:1:{key}") == 1
    await cache.step([step(11, 12, {"u3": {"wallet": {"a:INR": b"6"}}})])
    await cache.keep("wallet", 0, "u1", looked.ticket, 10, wallet(5))
    found = await cache.look("wallet", 0, "u1")
    assert found.fields in (None, wallet(6)), found


@pytest.mark.system
async def test_an_epoch_is_named_by_nothing_that_comes_again(redis_url: str) -> None:
    """A Redis that lost its latest writes must not give a new epoch the name of one that somebody still holds."""
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    epochs = set()
    for _ in range(3):
        empty(redis_url)
        await standing(cache)
        ticket = (await cache.look("wallet", 0, "u1")).ticket
        assert ticket is not None
        epochs.add(ticket.epoch)
    assert len(epochs) == 3
    await cache.close()


@pytest.mark.system
async def test_what_is_kept_goes_by_itself(cache: RedisCache, redis_url: str) -> None:
    await standing(cache)
    await kept(cache, "u1", 10, wallet(5))
    looked = await cache.look_board(BOARD, PARTITIONS)
    assert looked.ticket is not None
    await cache.keep_board(BOARD, looked.ticket, (10, 10), b"document")
    with RedisClientOfTests.from_url(redis_url) as client:
        for key in ("stakelog:1:wallet:u1", "stakelog:1:board:net_day:INR:20000:20001"):
            assert 0 < int(str(client.pttl(key))) <= 3_600_000


@pytest.mark.system
async def test_a_redis_that_is_away_or_stands_still_is_told_soon(own_redis: Redis) -> None:
    cache = RedisCache(RedisClient(own_redis.url), trust_s=LONG_S)
    await standing(cache)
    own_redis.pause()
    began_s = time.monotonic()
    with pytest.raises(CacheUnavailable, match=f"Redis at redis://127.0.0.1:{own_redis.port}/0"):
        await cache.look("wallet", 0, "u1")
    assert time.monotonic() - began_s < 10 * TIMEOUT_S
    own_redis.resume()
    await asyncio.gather(*(until_it_answers(cache) for _ in range(3)))
    own_redis.kill()
    for asked in (
        cache.look("wallet", 0, "u1"),
        cache.step([step(10, 12)]),
        cache.confirm(GENERATION, {0: place(10)}),
        cache.look_board(BOARD, PARTITIONS),
    ):
        with pytest.raises(CacheUnavailable):
            await asked
    own_redis.start()
    await until_it_answers(cache)
    assert await cache.look("wallet", 0, "u1") == NOTHING
    await cache.close()


async def until_it_answers(cache: RedisCache) -> None:
    until_s = time.monotonic() + 30
    while True:
        try:
            await cache.look("wallet", 0, "u1")
        except CacheUnavailable:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)
        else:
            return


@pytest.mark.system
async def test_a_thousand_readers_at_once_share_few_connections(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url, connections=2), trust_s=LONG_S)
    await standing(cache)
    for number in range(20):
        await kept(cache, f"u{number}", 10, wallet(number))

    async def read(number: int) -> None:
        for _ in range(5):
            looked = await cache.look("wallet", 0, f"u{number % 20}")
            assert looked.fields == wallet(number % 20)
            await asyncio.sleep(0)

    await asyncio.gather(*(read(number) for number in range(1_000)))
    await cache.close()


@pytest.mark.system
async def test_who_gives_up_takes_nothing_from_the_others(redis_url: str) -> None:
    cache = RedisCache(RedisClient(redis_url), trust_s=LONG_S)
    await standing(cache)
    await kept(cache, "u1", 10, wallet(5))
    for _ in range(50):
        asking = [asyncio.ensure_future(cache.look("wallet", 0, "u1")) for _ in range(10)]
        await asyncio.sleep(0)
        for one in asking[::2]:
            one.cancel()
        async with asyncio.timeout(20):
            assert [(await one).fields for one in asking[1::2]] == [wallet(5)] * 5
    await cache.close()


def test_its_address_is_told_without_the_password() -> None:
    client = RedisClient("rediss://me:secret@cache:6380/3")
    assert client.where == "rediss://cache:6380/3"
