"""Messages about changes inside one process, without a server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from projections.live.port import Change, Gap, GapDetector, Messages

_QUEUE_MAX: Final = 10_000
"""Messages that may wait for a slow subscriber; further ones are dropped, and it gets a ``Gap``. Chosen: some ten
seconds of peak load."""


class MemoryLiveFeed:
    """Never raises CacheUnavailable."""

    def __init__(self, *, queue_max: int = _QUEUE_MAX) -> None:
        self._queue_max = queue_max
        self._subscribers: list[_Subscriber] = []

    async def publish(self, messages: Sequence[Change]) -> None:
        for message in messages:
            for subscriber in self._subscribers:
                subscriber.put(message)

    @asynccontextmanager
    async def subscribe(self, partitions: Sequence[int]) -> AsyncIterator[Messages]:
        subscriber = _Subscriber(frozenset(partitions), self._queue_max)
        self._subscribers.append(subscriber)
        feed = subscriber.feed()
        try:
            yield feed
        finally:
            self._subscribers.remove(subscriber)
            await feed.aclose()

    async def close(self) -> None:
        self._subscribers.clear()


class _Subscriber:
    def __init__(self, partitions: frozenset[int], queue_max: int) -> None:
        self._partitions = partitions
        self._queue: asyncio.Queue[Change] = asyncio.Queue(queue_max)

    def put(self, message: Change) -> None:
        if message.partition in self._partitions and not self._queue.full():
            self._queue.put_nowait(message)

    async def feed(self) -> AsyncGenerator[Change | Gap, None]:
        detector = GapDetector()
        while True:
            for delivered in detector.receive(await self._queue.get()):
                yield delivered
