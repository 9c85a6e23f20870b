"""One process' connections to Redis: short time-outs, no hidden retries, no password in any message.

``decode_responses`` stays off: rows are bytes.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ledger import background
from projections.caching.port import CacheUnavailable

TIMEOUT_S: Final = 0.25
"""For each response of Redis. Chosen: a hundred times the usual duration; after it the caller reads the database."""
CONNECTIONS: Final = 8
"""Chosen: enough for the senders and some subscriptions."""
_SENDERS_MAX: Final = 2
"""Concurrent round trips. Chosen: while Redis works on one, the next one is prepared."""
_CALLS_MAX: Final = 64
"""Calls in one round trip. Chosen: they block Redis for about a millisecond."""
_SECRET: Final = re.compile(r"//[^@/]*@")


class Script:
    """One of ``redis_scripts``, called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


Call = tuple[Script, Sequence[str], Sequence[str | bytes | int]]
"""A script, its keys and its arguments."""
_Pending = tuple[Call, "asyncio.Future[Any]"]


class RedisClient:
    """Connects when first used. All methods raise CacheUnavailable.

    Calls that come while round trips run are collected, and sent together in the next one. A round trip costs the
    driver ten times as much as one more call in it, and a few connections serve any number of callers.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS, timeout_s: float = TIMEOUT_S) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self.redis: Redis = Redis(connection_pool=pool)
        self._pool = pool
        self.address = _SECRET.sub("//", url.partition("?")[0])
        """The URL without user, password and parameters."""
        self._pending: list[_Pending] = []
        self._sending = 0
        self._senders: set[asyncio.Task[None]] = set()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn every error of the driver into CacheUnavailable."""
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> CacheUnavailable:
        return CacheUnavailable(f"Redis at {self.address} cannot be used: {message_of(error)}")

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        """Run a script and return its result. Calls can overtake each other; repeating a call must be harmless."""
        response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append(((script, keys, arguments), response))
        if self._sending < _SENDERS_MAX:
            self._sending += 1
            sender = background.start(self._send(), "redis-calls")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await response

    async def _send(self) -> None:
        batch: list[_Pending] = []
        try:
            while self._pending:
                batch, self._pending = self._pending[:_CALLS_MAX], self._pending[_CALLS_MAX:]
                try:
                    responses = await self._execute([call for call, _ in batch])
                except (RedisError, OSError, TimeoutError) as error:
                    # The pending calls fail too: otherwise each of them would wait for its own time-out.
                    batch, self._pending = batch + self._pending, []
                    responses = [error] * len(batch)
                for (_, future), response in zip(batch, responses, strict=True):
                    self._resolve(future, response)
        finally:
            # Now, not in a done callback: a call that comes in between would start no sender.
            self._sending -= 1
            for _, future in batch:  # calls without a response, because this task was cancelled or failed
                self._resolve(future, ConnectionError("the connection was closed"))

    def _resolve(self, future: "asyncio.Future[Any]", response: Any) -> None:
        if future.done():
            return  # it has its response, or its caller was cancelled
        if isinstance(response, Exception):
            future.set_exception(self._unavailable(response))
        else:
            future.set_result(response)

    async def call_all(self, calls: Sequence[Call]) -> None:
        """Run all calls in one round trip, in this order. Repeating a call must be harmless."""
        with self.translated_errors():
            for response in await self._execute(calls):
                if isinstance(response, Exception):
                    raise response

    async def _execute(self, calls: Sequence[Call]) -> list[Any]:
        """Return the response or the error of each call. Raises the driver's error if the connection fails."""
        responses = await self._execute_once(calls)
        if any(isinstance(response, NoScriptError) for response in responses):
            for script in {script for script, _, _ in calls}:
                await self.redis.script_load(script.text)
            responses = await self._execute_once(calls)
        return responses

    async def _execute_once(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        return await pipeline.execute(raise_on_error=False)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish pairs of channel and message, in this order."""
        pipeline = self.redis.pipeline(transaction=False)
        for channel, message in messages:
            pipeline.publish(channel, message)
        with self.translated_errors():
            await pipeline.execute()

    async def close(self) -> None:
        senders = list(self._senders)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        with self.translated_errors():
            await self.redis.aclose()
            await self._pool.disconnect()


def message_of(error: Exception) -> str:
    """The driver's message, or the type of the error if it has none. Redis-py never puts a password into a
    message."""
    return str(error) or type(error).__name__
