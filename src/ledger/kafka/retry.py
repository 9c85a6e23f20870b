"""A request to brokers is repeated until it succeeds or its time is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError

from ledger.errors import LogUnavailable

T = TypeVar("T")

_RETRY_S: Final = 0.05


async def retry_until(timeout_s: float, request: Callable[[], Awaitable[T]], *, client: Any, failure: str) -> T:
    """Return what ``request`` returns; after each ``KafkaError`` refresh the client's metadata and repeat it.

    Raises LogUnavailable (``failure`` and the last error) after ``timeout_s``, and what else ``request`` raises.
    """
    last: KafkaError | None = None
    try:
        # Not tenacity: its limits are checked between attempts only, and an attempt may hang.
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await request()
                except KafkaError as error:
                    last = error
                await asyncio.sleep(_RETRY_S)
                await client.force_metadata_update()
    except TimeoutError:
        reason = "no response" if last is None else repr(last)
        raise LogUnavailable(f"{failure} within {timeout_s:g} s: {reason}") from last
