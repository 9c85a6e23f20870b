"""An event loop that skips the time until the next timer."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Jumping(selectors.DefaultSelector):
    """Skips the time instead of waiting for a timer; before each skip it waits ``thread_wait_s`` for threads."""

    thread_wait_s = 0.0
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(self.thread_wait_s)
        if not ready:
            self.skipped_s += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are due as soon as no task is ready."""

    def __init__(self, thread_wait_s: float = 0.0) -> None:
        self._jumping = _Jumping()
        self._jumping.thread_wait_s = thread_wait_s
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.skipped_s


def in_skipped_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, run in a new loop that skips the time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test(*arguments, **named))

    return run
