"""The live feeds in this process and over Redis pass the one contract; what is lost on the way is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import pytest
from redis import Redis as RedisClientOfTests

from conformance.live_feed import BET, LiveFeedContract, next_of
from deploy.local.servers import Redis
from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import RedisClient
from projections.live.memory import MemoryLive
from projections.live.port import Heard, Lost, Moved
from projections.live.redis import RedisLive


class TestMemoryLive(LiveFeedContract):
    @pytest.fixture
    def live(self) -> MemoryLive:
        return MemoryLive()


@pytest.mark.system
class TestRedisLive(LiveFeedContract):
    @pytest.fixture
    async def live(self, redis_url: str) -> AsyncIterator[RedisLive]:
        live = RedisLive(RedisClient(redis_url))
        yield live
        await live.close()


async def test_who_does_not_keep_up_is_told_what_it_lost() -> None:
    live = MemoryLive(waiting_max=3)
    async with live.subscribe([0]) as heard:
        await live.publish([Moved(0, seq, seq + 1, BET) for seq in range(1, 9)])
        assert [await next_of(heard) for _ in range(3)] == [Moved(0, seq, seq + 1, BET) for seq in (1, 2, 3)]
        await live.publish([Moved(0, 9, 10, BET)])
        assert [await next_of(heard) for _ in range(2)] == [Lost(0, 9), Moved(0, 9, 10, BET)]


@pytest.mark.system
@pytest.mark.parametrize("how", ["killed", "cut", "paused"])
async def test_a_subscription_that_breaks_is_begun_again_and_says_so(own_redis: Redis, how: str) -> None:
    live, publisher = RedisLive(RedisClient(own_redis.url)), RedisLive(RedisClient(own_redis.url))
    async with live.subscribe([0, 1]) as heard:
        await publisher.publish([Moved(0, 1, 2, BET)])
        assert await next_of(heard) == Moved(0, 1, 2, BET)
        waiting = asyncio.ensure_future(next_of(heard))
        await asyncio.sleep(0)
        match how:
            case "killed":
                own_redis.kill()
                with pytest.raises(CacheUnavailable):
                    await publisher.publish([Moved(0, 2, 3, BET)])
                own_redis.start()
            case "cut":
                with RedisClientOfTests.from_url(own_redis.url) as client:
                    client.client_kill_filter(_type="pubsub")
            case _:
                own_redis.pause()
                await asyncio.sleep(2.5)  # longer than a subscription may say nothing
                own_redis.resume()
        assert await waiting == Lost(None, 0)
        await publish_until_heard(publisher, heard)
    await live.close()
    await publisher.close()


TELLS: Final = Moved(1, 1, 2, BET)


async def publish_until_heard(publisher: RedisLive, heard: Heard) -> None:
    async def publish() -> None:
        while True:
            with suppress(CacheUnavailable):
                await publisher.publish([TELLS])
            await asyncio.sleep(0.02)

    publishing = asyncio.create_task(publish())
    try:
        while (said := await next_of(heard)) != TELLS:
            assert isinstance(said, Lost), said
    finally:
        publishing.cancel()


@pytest.mark.system
async def test_a_subscription_that_cannot_begin_says_so(own_redis: Redis) -> None:
    own_redis.kill()
    live = RedisLive(RedisClient(own_redis.url))
    with pytest.raises(CacheUnavailable):
        async with live.subscribe([0]):
            raise AssertionError("nobody is there")
    await live.close()
    own_redis.start()


@pytest.mark.system
async def test_what_others_say_on_its_channels_is_left_out(redis_url: str) -> None:
    live = RedisLive(RedisClient(redis_url))
    async with live.subscribe([0]) as heard:
        with RedisClientOfTests.from_url(redis_url) as client:
            for nonsense in (b"", b"{}", b"\xff", b'{"partition":"0"}'):
                assert client.publish("stakelog:live:0", nonsense) == 1
        await live.publish([Moved(0, 1, 2, BET)])
        assert await next_of(heard) == Moved(0, 1, 2, BET)
    await live.close()
