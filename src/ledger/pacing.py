"""Pauses between attempts, and how often to warn of the same thing."""

import asyncio
import logging
import time
from typing import Final

WARN_EVERY_S: Final = 10.0
"""Chosen: an operator sees that a failure lasts, and the log stays readable."""
_SHORT_S: Final = 0.02
"""A shorter sleep is not interrupted by a stop. Chosen: a stop does not notice it, and it costs half as much."""


async def sleep_unless_stopped(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for so long, or until ``stop`` is set."""
    if seconds <= _SHORT_S:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class Backoff:
    """Pauses in seconds, from ``min_s``, each twice as long as the one before, up to ``max_s``.

    Begins again with ``min_s`` after ``reset``, and once ``well_after_s`` has passed since the last pause.
    """

    def __init__(self, min_s: float, max_s: float, *, well_after_s: float = float("inf")) -> None:
        self._min_s, self._max_s, self._well_after_s = min_s, max_s, well_after_s
        self._pause_s = 0.0
        self._last_s = 0.0

    def next_s(self) -> float:
        """The next pause."""
        now_s = time.monotonic()
        if now_s - self._last_s > self._well_after_s + self._pause_s:
            self._pause_s = 0.0
        self._last_s = now_s
        self._pause_s = min(2 * self._pause_s, self._max_s) if self._pause_s else self._min_s
        return self._pause_s

    def reset(self) -> None:
        self._pause_s = 0.0


class RareWarnings:
    """Writes a warning to ``log`` at most once in ``every_s``; warnings that come sooner are dropped.

    For failures that every attempt repeats while one cause lasts.
    """

    def __init__(self, log: logging.Logger, *, every_s: float = WARN_EVERY_S, level: int = logging.WARNING) -> None:
        self._log, self._every_s, self._level = log, every_s, level
        self._last_s = -every_s

    def warn(self, message: str, *values: object) -> None:
        """``message`` and ``values`` as for ``logging``."""
        now_s = time.monotonic()
        if now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            self._log.log(self._level, message, *values)
