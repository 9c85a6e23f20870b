"""Waiting for a database or a log that is away, and for a stop, whichever comes first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from ledger.errors import LogUnavailable
from projections.storage.port import ReadModelUnavailable

_RETRY_S_MAX: Final = 2.0
_SHORT_S: Final = 0.02

_log = logging.getLogger(__name__)
T = TypeVar("T")


async def patiently(step: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """What ``step`` answers, tried until the read model and the log are there; None where ``stop`` came first."""
    try:
        return await step()
    except (ReadModelUnavailable, LogUnavailable) as error:
        _log.warning("%s; trying again", error)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((ReadModelUnavailable, LogUnavailable)),
        wait=wait_exponential(multiplier=0.05, max=_RETRY_S_MAX),
        sleep=lambda seconds: pause(stop, seconds),
        stop=lambda _: stop.is_set(),
        before_sleep=_still_waiting,
        retry_error_callback=lambda _: None,
    ):
        with attempt:
            stepped = await step()
            _log.info("the read model is followed again")
            return stepped
    return None


def _still_waiting(state: RetryCallState) -> None:
    outcome = state.outcome
    if outcome is not None and state.attempt_number % 10 == 0:
        _log.warning("%s; tried %d times", outcome.exception(), state.attempt_number)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, and wake up where ``stop`` comes."""
    if seconds <= _SHORT_S:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
