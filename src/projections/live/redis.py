"""Messages about changes over Redis' publish and subscribe, one channel a partition. Redis delivers at most once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from redis.asyncio.client import PubSub

from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import RedisClient
from projections.live.port import Change, Gap, GapDetector, Messages, decode, encode

_RETRY_S: Final = 0.25
_PING_S: Final = 1.0
"""A connection without a message for this long gets a ping. Chosen."""


class RedisLiveFeed:
    """Closing it closes ``client``."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def publish(self, messages: Sequence[Change]) -> None:
        if messages:
            await self._client.publish([(_channel(message.partition), encode(message)) for message in messages])

    @asynccontextmanager
    async def subscribe(self, partitions: Sequence[int]) -> AsyncIterator[Messages]:
        feed = self._feed(partitions, await self._subscribe(partitions))
        try:
            yield feed
        finally:
            await feed.aclose()

    async def _subscribe(self, partitions: Sequence[int]) -> PubSub:
        """Returns once Redis has confirmed every channel."""
        channels = [_channel(partition) for partition in partitions]
        pubsub = self._client.redis.pubsub()
        try:
            with self._client.translated_errors():
                await pubsub.subscribe(*channels)
                for _ in channels:
                    message = await pubsub.get_message(timeout=_PING_S)
                    if message is None or message["type"] != "subscribe":
                        raise CacheUnavailable(f"Redis at {self._client.address} does not confirm a subscription")
        except BaseException:
            await _close(pubsub)
            raise
        return pubsub

    async def _feed(self, partitions: Sequence[int], pubsub: PubSub) -> AsyncGenerator[Change | Gap, None]:
        detector = GapDetector()
        try:
            while True:
                try:
                    message = await self._next(pubsub)
                except CacheUnavailable:
                    await _close(pubsub)
                    pubsub = await self._resubscribe(partitions)
                    yield Gap(None, 0)
                    continue
                for delivered in () if message is None else detector.receive(message):
                    yield delivered
        finally:
            await _close(pubsub)

    async def _next(self, pubsub: PubSub) -> Change | None:
        """The next message; None if there was none for a while and the connection is alive."""
        with self._client.translated_errors():
            message = await pubsub.get_message(timeout=_PING_S)
            if message is None:
                await pubsub.ping()
                message = await pubsub.get_message(timeout=_PING_S)
                if message is None:
                    raise TimeoutError(f"no message and no pong for {2 * _PING_S:.0f} s")
        if message["type"] != "message":
            return None
        try:
            return decode(message["data"])
        except msgspec.MsgspecError:
            return None  # not from this program: other clients of this Redis may publish anything

    async def _resubscribe(self, partitions: Sequence[int]) -> PubSub:
        while True:
            try:
                return await self._subscribe(partitions)
            except CacheUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        await self._client.close()


def _channel(partition: int) -> str:
    return f"stakelog:live:{partition}"


async def _close(pubsub: PubSub) -> None:
    with suppress(Exception):  # it is closed because it is broken or not used any more
        await pubsub.aclose()  # type: ignore[no-untyped-call]
