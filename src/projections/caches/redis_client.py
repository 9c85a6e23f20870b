"""The connections of one process to Redis: short time-outs, nothing tried behind the caller's back, no password told.

``decode_responses`` stays off: rows are bytes.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from projections.cache import CacheUnavailable

TIMEOUT_S: Final = 0.25
"""Of every answer of Redis. Chosen: a hundred times what it takes; who waited so long goes to the database."""
CONNECTIONS: Final = 32
"""Chosen: as many reads at once as one process makes."""
_SECRET: Final = re.compile(r"//[^@/]*@")


class Script:
    """One of ``redis_scripts``, called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


Call = tuple[Script, Sequence[str], Sequence[str | bytes | int]]
"""A script, its keys and its arguments."""


class RedisClient:
    """Connects when first used. All methods raise CacheUnavailable."""

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

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Whatever goes wrong with Redis is CacheUnavailable."""
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise CacheUnavailable(f"Redis at {self.where} cannot be used: {words_of(error)}") from error

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        with self.speaking():
            try:
                return await self.redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self.redis.eval(script.text, len(keys), *keys, *arguments)

    async def call_all(self, calls: Sequence[Call], publish: Sequence[tuple[str, bytes]] = ()) -> None:
        """In one round trip and in this order. Calling again what was called before must be harmless."""
        with self.speaking():
            try:
                await self._call_all(calls, publish)
            except NoScriptError:
                for script in {call[0] for call in calls}:
                    await self.redis.script_load(script.text)
                await self._call_all(calls, publish)

    async def _call_all(self, calls: Sequence[Call], publish: Sequence[tuple[str, bytes]]) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        for channel, message in publish:
            pipeline.publish(channel, message)
        await pipeline.execute()

    async def close(self) -> None:
        with self.speaking():
            await self.redis.aclose()
            await self._pool.disconnect()


def words_of(error: Exception) -> str:
    """What the driver says, or what kind of failure it was; a driver's text never quotes a password."""
    return str(error) or type(error).__name__
