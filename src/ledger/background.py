"""Background tasks. No other module of the service creates tasks, except one TaskGroup in ``background_check``, and
one thread without an event loop in ``kafka.reader``, which waits for each result.

Invariants:
(1) no task fails silently: its error is raised where it is awaited, or is logged and passed to ``failed``;
(2) a running task is never garbage-collected: this module references it, asyncio only weakly;
(3) other modules use these functions; ``tests/unit/test_background_tasks.py`` lists all their tasks.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from ledger.pacing import Backoff

_PAUSE_S_MIN: Final = 1.0
_PAUSE_S_MAX: Final = 60.0
_WELL_AFTER_S: Final = 600.0
"""Chosen: a task that fails repeatedly does not flood the service log; one that fails rarely restarts after 1 s."""

_log = logging.getLogger(__name__)
_running: Final[set[asyncio.Task[Any]]] = set()

T = TypeVar("T")


def start(
    work: Coroutine[Any, Any, T], name: str, *, failed: Callable[[BaseException], None] | None = None
) -> asyncio.Task[T]:
    """Run ``work`` as a task that need not be awaited. ``failed`` is called with the error that ends it."""

    def ended(task: asyncio.Task[T]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("the task %s has ended", name, exc_info=error)
            if failed is not None:
                failed(error)

    task = awaited(work, name)
    task.add_done_callback(ended)
    return task


def keep(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """Run ``work`` as a task, and again after each error and a pause, until it returns or the task is cancelled."""

    async def again() -> None:
        backoff = Backoff(_PAUSE_S_MIN, _PAUSE_S_MAX, well_after_s=_WELL_AFTER_S)
        while True:
            try:
                await work()
            except Exception:  # noqa: BLE001 - whatever it is, the work must go on
                pause_s = backoff.next_s()
                _log.exception("the task %s has failed; it restarts in %g s", name, pause_s)
                await asyncio.sleep(pause_s)
            else:
                return

    return start(again(), name)


def awaited(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run ``work`` as a task whose creator awaits it, and gets its error."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def result_of(task: asyncio.Task[T]) -> T:
    """The result of a task that outlives its callers.

    If the caller is cancelled, the task continues. Its error then reaches only the other callers that wait for it, if
    there are any; asyncio does not log it."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_drop_error)
        raise


def _drop_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # otherwise asyncio would log it as never retrieved
