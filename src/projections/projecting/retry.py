"""Retry while the read model or the log is unavailable, until a stop is requested."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from ledger.errors import LogUnavailable
from ledger.pacing import sleep_unless_stopped
from projections.storage.port import ReadModelUnavailable, message_for_log

_PAUSE_S_MAX: Final = 2.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


async def retry_until_stopped(step: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """Return what ``step`` returns, or None if ``stop`` is set before it succeeds.

    Retries while ``step`` raises ReadModelUnavailable or LogUnavailable; any other error is raised.
    """
    try:
        return await step()
    except (ReadModelUnavailable, LogUnavailable) as error:
        _log.warning("%s; retrying", message_for_log(error))
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((ReadModelUnavailable, LogUnavailable)),
        wait=wait_exponential(multiplier=0.05, max=_PAUSE_S_MAX),
        sleep=lambda seconds: sleep_unless_stopped(stop, seconds),
        stop=lambda _: stop.is_set(),
        before_sleep=_log_every_tenth,
        retry_error_callback=lambda _: None,
    ):
        with attempt:
            result = await step()
            _log.info("folding into the read model continues")
            return result
    return None


def _log_every_tenth(state: RetryCallState) -> None:
    outcome = state.outcome
    error = None if outcome is None else outcome.exception()
    if error is not None and state.attempt_number % 10 == 0:
        _log.warning("%s; %d attempts failed", message_for_log(error), state.attempt_number)
