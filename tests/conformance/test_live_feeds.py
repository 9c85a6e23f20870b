"""The live feeds in memory and over Redis pass the same contract; a subscriber learns of lost messages."""

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
from projections.live.memory import MemoryLiveFeed
from projections.live.port import Change, Gap, Messages
from projections.live.redis import RedisLiveFeed


class TestMemoryLive(LiveFeedContract):
    @pytest.fixture
    def live(self) -> MemoryLiveFeed:
        return MemoryLiveFeed()


@pytest.mark.system
class TestRedisLive(LiveFeedContract):
    @pytest.fixture
    async def live(self, redis_url: str) -> AsyncIterator[RedisLiveFeed]:
        live = RedisLiveFeed(RedisClient(redis_url))
        yield live
        await live.close()


async def test_a_slow_subscriber_learns_of_the_messages_that_it_lost() -> None:
    live = MemoryLiveFeed(queue_max=3)
    async with live.subscribe([0]) as feed:
        await live.publish([Change(0, seq, seq + 1, BET) for seq in range(1, 9)])
        assert [await next_of(feed) for _ in range(3)] == [Change(0, seq, seq + 1, BET) for seq in (1, 2, 3)]
        await live.publish([Change(0, 9, 10, BET)])
        assert [await next_of(feed) for _ in range(2)] == [Gap(0, 9), Change(0, 9, 10, BET)]


@pytest.mark.system
@pytest.mark.parametrize("how", ["killed", "cut", "paused"])
async def test_a_broken_subscription_is_renewed_and_yields_a_gap(own_redis: Redis, how: str) -> None:
    live, publisher = RedisLiveFeed(RedisClient(own_redis.url)), RedisLiveFeed(RedisClient(own_redis.url))
    async with live.subscribe([0, 1]) as feed:
        await publisher.publish([Change(0, 1, 2, BET)])
        assert await next_of(feed) == Change(0, 1, 2, BET)
        waiting = asyncio.ensure_future(next_of(feed))
        await asyncio.sleep(0)
        match how:
            case "killed":
                own_redis.kill()
                with pytest.raises(CacheUnavailable):
                    await publisher.publish([Change(0, 2, 3, BET)])
                own_redis.start()
            case "cut":
                with RedisClientOfTests.from_url(own_redis.url) as client:
                    client.client_kill_filter(_type="pubsub")
            case _:
                own_redis.pause()
                await asyncio.sleep(2.5)  # longer than the time-out of the ping
                own_redis.resume()
        assert await waiting == Gap(None, 0)
        await publish_until_received(publisher, feed)
    await live.close()
    await publisher.close()


MESSAGE: Final = Change(1, 1, 2, BET)


async def publish_until_received(publisher: RedisLiveFeed, feed: Messages) -> None:
    async def publish() -> None:
        while True:
            with suppress(CacheUnavailable):
                await publisher.publish([MESSAGE])
            await asyncio.sleep(0.02)

    publishing = asyncio.create_task(publish())
    try:
        while (message := await next_of(feed)) != MESSAGE:
            assert isinstance(message, Gap), message
    finally:
        publishing.cancel()


@pytest.mark.system
async def test_a_subscription_that_cannot_begin_raises(own_redis: Redis) -> None:
    own_redis.kill()
    live = RedisLiveFeed(RedisClient(own_redis.url))
    with pytest.raises(CacheUnavailable):
        async with live.subscribe([0]):
            raise AssertionError("subscribed without a server")
    await live.close()
    own_redis.start()


@pytest.mark.system
async def test_foreign_messages_on_its_channels_are_ignored(redis_url: str) -> None:
    live = RedisLiveFeed(RedisClient(redis_url))
    async with live.subscribe([0]) as feed:
        with RedisClientOfTests.from_url(redis_url) as client:
            for nonsense in (b"", b"{}", b"\xff", b'{"partition":"0"}'):
                assert client.publish("stakelog:live:0", nonsense) == 1
        await live.publish([Change(0, 1, 2, BET)])
        assert await next_of(feed) == Change(0, 1, 2, BET)
    await live.close()
