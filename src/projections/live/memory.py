"""The live feed inside of one process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from projections.live.port import Heard, Lost, Moved, Order

_WAITING_MAX: Final = 10_000
"""Messages that a subscriber may be behind before it is told that some are lost. Chosen: some ten seconds of peak."""


class MemoryLive:
    """Never unavailable."""

    def __init__(self, *, waiting_max: int = _WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._subscribers: list[_Subscriber] = []

    async def publish(self, messages: Sequence[Moved]) -> None:
        for message in messages:
            for subscriber in self._subscribers:
                subscriber.put(message)

    @asynccontextmanager
    async def subscribe(self, partitions: Sequence[int]) -> AsyncIterator[Heard]:
        subscriber = _Subscriber(frozenset(partitions), self._waiting_max)
        self._subscribers.append(subscriber)
        heard = subscriber.heard()
        try:
            yield heard
        finally:
            self._subscribers.remove(subscriber)
            await heard.aclose()

    async def close(self) -> None:
        self._subscribers.clear()


class _Subscriber:
    def __init__(self, partitions: frozenset[int], waiting_max: int) -> None:
        self._partitions = partitions
        self._waiting: asyncio.Queue[Moved] = asyncio.Queue(waiting_max)

    def put(self, message: Moved) -> None:
        if message.partition in self._partitions and not self._waiting.full():
            self._waiting.put_nowait(message)

    async def heard(self) -> AsyncGenerator[Moved | Lost, None]:
        order = Order()
        while True:
            for told in order.hear(await self._waiting.get()):
                yield told
