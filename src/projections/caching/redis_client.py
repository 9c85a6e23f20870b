"""The connections of one process to Redis: short time-outs, nothing tried behind the caller's back, no password told.

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

from projections.caching.port import CacheUnavailable

TIMEOUT_S: Final = 0.25
"""Of every answer of Redis. Chosen: a hundred times what it takes; who waited so long goes to the database."""
CONNECTIONS: Final = 8
"""Chosen: for those who send, and some subscriptions."""
_SENDERS_MAX: Final = 2
"""Round trips under way at once. Chosen: while one is at Redis the other is made."""
_TOGETHER_MAX: Final = 64
"""Calls in one of them. Chosen: Redis answers nobody else meanwhile, for about a millisecond."""
_SECRET: Final = re.compile(r"//[^@/]*@")


class Script:
    """One of ``redis_scripts``, called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


Call = tuple[Script, Sequence[str], Sequence[str | bytes | int]]
"""A script, its keys and its arguments."""
_Waiting = tuple[Call, "asyncio.Future[Any]"]


class RedisClient:
    """Connects when first used. All methods raise CacheUnavailable.

    Calls that come while others are under way wait for each other and go together: a round trip costs the driver ten
    times what one more call in it does, and however many ask, few connections serve them.
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
        self.where = _SECRET.sub("//", url.partition("?")[0])
        """The address, without user and password."""
        self._waiting: list[_Waiting] = []
        self._sending = 0
        self._senders: set[asyncio.Task[None]] = set()

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Whatever goes wrong with Redis is CacheUnavailable."""
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> CacheUnavailable:
        return CacheUnavailable(f"Redis at {self.where} cannot be used: {words_of(error)}")

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        """Calls of this kind may overtake each other. Calling again what was called before must be harmless."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(((script, keys, arguments), answer))
        if self._sending < _SENDERS_MAX:
            self._sending += 1
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def _send(self) -> None:
        together: list[_Waiting] = []
        try:
            while self._waiting:
                together, self._waiting = self._waiting[:_TOGETHER_MAX], self._waiting[_TOGETHER_MAX:]
                try:
                    answers = await self._execute([call for call, _ in together])
                except (RedisError, OSError, TimeoutError) as error:
                    # Whoever waits would only wait for the next time-out.
                    together, self._waiting = together + self._waiting, []
                    answers = [error] * len(together)
                for (_, waiting), answer in zip(together, answers, strict=True):
                    self._answer(waiting, answer)
        finally:
            self._sending -= (
                1  # here, and not when the task is seen to be done: nobody would send what comes meanwhile
            )
            for _, waiting in together:  # those without an answer, where this was cancelled, or broke
                self._answer(waiting, ConnectionError("it was closed"))

    def _answer(self, waiting: "asyncio.Future[Any]", answer: Any) -> None:
        if waiting.done():
            return  # it has one, or its caller gave up
        if isinstance(answer, Exception):
            waiting.set_exception(self._unavailable(answer))
        else:
            waiting.set_result(answer)

    async def call_all(self, calls: Sequence[Call]) -> None:
        """In one round trip and in this order. Calling again what was called before must be harmless."""
        with self.speaking():
            for answer in await self._execute(calls):
                if isinstance(answer, Exception):
                    raise answer

    async def _execute(self, calls: Sequence[Call]) -> list[Any]:
        """Each call's answer, or its error. Raises what the driver raises where the connection fails."""
        answers = await self._execute_once(calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            for script in {script for script, _, _ in calls}:
                await self.redis.script_load(script.text)
            answers = await self._execute_once(calls)
        return answers

    async def _execute_once(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        return await pipeline.execute(raise_on_error=False)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Channel and message, in this order."""
        pipeline = self.redis.pipeline(transaction=False)
        for channel, message in messages:
            pipeline.publish(channel, message)
        with self.speaking():
            await pipeline.execute()

    async def close(self) -> None:
        senders = list(self._senders)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        with self.speaking():
            await self.redis.aclose()
            await self._pool.disconnect()


def words_of(error: Exception) -> str:
    """What the driver says, or what kind of failure it was; a driver's text never quotes a password."""
    return str(error) or type(error).__name__
