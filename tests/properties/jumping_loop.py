"""An event loop that skips the time until the next timer. No time is skipped while the loop's threads work."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Jumping(selectors.DefaultSelector):
    """Skips the time instead of waiting for a timer; before each skip it waits ``thread_wait_s`` for threads."""

    thread_wait_s = 0.0
    skipped_s = 0.0
    working = 0
    """Calls in the loop's threads that have not ended."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.working:
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

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        ends = super().run_in_executor(executor, func, *args)
        self._jumping.working += 1
        ends.add_done_callback(self._count_ended)
        return ends

    def _count_ended(self, _: asyncio.Future[Any]) -> None:
        self._jumping.working -= 1

    def time(self) -> float:
        return super().time() + self._jumping.skipped_s


def in_skipped_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, run in a new loop that skips the time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test(*arguments, **named))

    return run
