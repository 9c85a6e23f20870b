"""Reads of the same thing, asked for at once, done once: whoever asks gets a read that was begun after it asked.

A read that is under way may miss what the asker knows to be true, so nobody joins it; all who come meanwhile share
the next one. So there are never more than one under way and one to come, however many ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[T]] = {}
        self._to_come: dict[K, asyncio.Task[T]] = {}

    async def read(self, key: K, read: Callable[[], Awaitable[T]]) -> T:
        """Raises what ``read`` does. An asker who gives up takes nothing from the others."""
        task = self._to_come.get(key)
        if task is None:
            before = self._under_way.get(key)
            task = asyncio.ensure_future(self._after(key, before, read))
            (self._under_way if before is None else self._to_come)[key] = task
        return await asyncio.shield(task)

    async def _after(self, key: K, before: asyncio.Task[T] | None, read: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        try:
            if before is not None:
                await asyncio.wait([before])
                self._under_way[key] = self._to_come.pop(key)
            return await read()
        finally:
            if self._under_way.get(key) is task:
                del self._under_way[key]
            if self._to_come.get(key) is task:
                del self._to_come[key]
