"""What the nodes share for rate limits and signed requests, in a real Redis, which is killed and comes back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.limits.ports import SharedUnavailable
from api.limits.redis import RedisBuckets, RedisNonces
from deploy.local.servers import Redis
from projections.caching.redis_client import RedisClient

pytestmark = pytest.mark.system

KEYS = [f"user:u{number}" for number in range(1_200)]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_url, connections=2, timeout_s=30)
    yield client
    await client.close()


async def test_what_nodes_spend_adds_up_and_drains_with_time(client: RedisClient) -> None:
    node, other = RedisBuckets(client), RedisBuckets(client)
    assert await node.add({"client:a": 400.0}) == {"client:a": 400.0}
    after = (await other.add({"client:a": 200.0}))["client:a"]
    assert 300 < after < 600, "600 s less the time that has passed"
    later = (await node.add({"client:a": 0.0}))["client:a"]
    assert later < after
    assert (await node.add({"client:a": -700.0}))["client:a"] == 0
    assert 5 <= (await node.add({"client:a": 9.0}))["client:a"] <= 9, "a bucket is never more than full"


async def test_many_buckets_are_added_in_one_call_and_forgotten_when_they_are_full(client: RedisClient) -> None:
    buckets = RedisBuckets(client)
    full_in_s = await buckets.add({key: 500.0 + number for number, key in enumerate(KEYS)})
    assert [round(full_in_s[key]) for key in KEYS] == [500 + number for number in range(len(KEYS))]
    await buckets.add(dict.fromkeys(KEYS, -5_000.0))
    async with asyncio.timeout(60):
        while await client.redis.dbsize():  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.01)


async def test_a_nonce_is_new_once_on_all_nodes(client: RedisClient) -> None:
    node, other = RedisNonces(client), RedisNonces(client)
    found = await asyncio.gather(*(nonces.is_new("server-1:n") for nonces in (node, other, node, other)))
    assert sorted(found) == [False, False, False, True]
    assert await other.is_new("server-2:n")


async def test_without_redis_nothing_is_guessed_and_it_is_used_again_once_it_is_back(own_redis: Redis) -> None:
    client = RedisClient(own_redis.url)
    buckets, nonces = RedisBuckets(client), RedisNonces(client)
    own_redis.kill()
    for _ in range(2):
        with pytest.raises(SharedUnavailable):
            await buckets.add({"client:a": 1.0})
        with pytest.raises(SharedUnavailable):
            await nonces.is_new("n")
    own_redis.start()
    async with asyncio.timeout(60):
        while True:
            try:
                assert await nonces.is_new("m")
                break
            except SharedUnavailable:
                await asyncio.sleep(0.05)
    assert await buckets.add({"client:a": 90.0}) == {"client:a": 90.0}
    await buckets.close()
