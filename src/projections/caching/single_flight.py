"""Single flight: concurrent reads of the same key share one read, which begins after each of them was requested.

A read that is already running may miss what a new caller knows, so a new caller never joins it. All callers that come
while it runs share the next read. So at most one read runs and one waits for each key, however many callers there
are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from ledger import background

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}
        self._next: dict[K, asyncio.Task[T]] = {}

    async def read(self, key: K, read: Callable[[], Awaitable[T]]) -> T:
        """Raises what ``read`` raises. A caller that is cancelled does not cancel the read of the others."""
        task = self._next.get(key)
        if task is None:
            running = self._running.get(key)
            task = background.awaited(self._run_after(key, running, read), "shared-read")
            (self._running if running is None else self._next)[key] = task
        return await background.result_of(task)

    async def _run_after(self, key: K, running: asyncio.Task[T] | None, read: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        try:
            if running is not None:
                await asyncio.wait([running])
                self._running[key] = self._next.pop(key)
            return await read()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
            if self._next.get(key) is task:
                del self._next[key]
