"""The live feed over Redis' publish and subscribe: a channel a partition. It delivers at most once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from redis.asyncio.client import PubSub

from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import RedisClient
from projections.live.port import Heard, Lost, Moved, Order, decode, encode

_AGAIN_S: Final = 0.25
_PING_S: Final = 1.0
"""A connection that says nothing for so long is asked whether it is there. Chosen."""


class RedisLive:
    """``client`` is closed with it."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def publish(self, messages: Sequence[Moved]) -> None:
        if messages:
            await self._client.publish([(_channel(message.partition), encode(message)) for message in messages])

    @asynccontextmanager
    async def subscribe(self, partitions: Sequence[int]) -> AsyncIterator[Heard]:
        heard = self._heard(partitions, await self._subscribed(partitions))
        try:
            yield heard
        finally:
            await heard.aclose()

    async def _subscribed(self, partitions: Sequence[int]) -> PubSub:
        """Once Redis has said that it is."""
        channels = [_channel(partition) for partition in partitions]
        pubsub = self._client.redis.pubsub()
        try:
            with self._client.speaking():
                await pubsub.subscribe(*channels)
                for _ in channels:
                    said = await pubsub.get_message(timeout=_PING_S)
                    if said is None or said["type"] != "subscribe":
                        raise CacheUnavailable(f"Redis at {self._client.where} does not answer a subscription")
        except BaseException:
            await _leave(pubsub)
            raise
        return pubsub

    async def _heard(self, partitions: Sequence[int], pubsub: PubSub) -> AsyncGenerator[Moved | Lost, None]:
        order = Order()
        try:
            while True:
                try:
                    message = await self._next(pubsub)
                except CacheUnavailable:
                    await _leave(pubsub)
                    pubsub = await self._again(partitions)
                    yield Lost(None, 0)
                    continue
                for told in () if message is None else order.hear(message):
                    yield told
        finally:
            await _leave(pubsub)

    async def _next(self, pubsub: PubSub) -> Moved | None:
        """None where nothing was said for a while, and the connection is there."""
        with self._client.speaking():
            said = await pubsub.get_message(timeout=_PING_S)
            if said is None:
                await pubsub.ping()
                said = await pubsub.get_message(timeout=_PING_S)
                if said is None:
                    raise TimeoutError(f"a subscription says nothing for {2 * _PING_S:.0f} s")
        if said["type"] != "message":
            return None
        try:
            return decode(said["data"])
        except msgspec.MsgspecError:
            return None  # not ours: whoever shares this Redis may say what they like

    async def _again(self, partitions: Sequence[int]) -> PubSub:
        while True:
            try:
                return await self._subscribed(partitions)
            except CacheUnavailable:
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        await self._client.close()


def _channel(partition: int) -> str:
    return f"stakelog:live:{partition}"


async def _leave(pubsub: PubSub) -> None:
    with suppress(Exception):  # it is left because it is broken, or because nobody listens any more
        await pubsub.aclose()  # type: ignore[no-untyped-call]
