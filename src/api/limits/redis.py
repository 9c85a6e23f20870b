"""What the nodes share, in Redis. Each method is one script: atomic, and harmless when repeated but for ``add``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from api.limits.ports import SharedUnavailable
from api.limits.signatures import KEEP_S
from projections.caching.port import CacheUnavailable
from projections.caching.redis_client import RedisClient, Script

_KEYS_MAX: Final = 500
"""Buckets in one script. Chosen: it blocks Redis for about a millisecond."""
_PREFIX: Final = "stakelog:1:"

_ADD: Final = Script(
    """
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local full_in = {}
    for i, key in ipairs(KEYS) do
        local full_at = math.max(tonumber(redis.call('GET', key) or '0'), now) + tonumber(ARGV[i])
        full_in[i] = math.max(full_at - now, 0)
        redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil(full_in[i] / 1000) + 1)
    end
    return full_in
    """
)
"""KEYS: buckets. ARGV: what was spent of each, in microseconds. The value of a key is the time at which its bucket is
full, by the clock of Redis: those of the nodes may differ."""

_USE: Final = Script(
    """
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
    return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
    """
)
"""KEYS: the nonce. ARGV: an id of this call, so that a repeated call finds itself, and how long to keep it in ms."""


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except CacheUnavailable as error:
        raise SharedUnavailable(str(error)) from error


class RedisBuckets:
    """Closing it closes ``client``. A call that is repeated counts twice: clients then get less, never more."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def add(self, spent_s: Mapping[str, float]) -> dict[str, float]:
        names, full_in_s = list(spent_s), dict[str, float]()
        for begin in range(0, len(names), _KEYS_MAX):
            some = names[begin : begin + _KEYS_MAX]
            keys = [f"{_PREFIX}rate:{name}" for name in some]
            with _translated_errors():
                full_in_us = await self._client.call(_ADD, keys, [round(spent_s[name] * 1e6) for name in some])
            full_in_s |= {name: us / 1e6 for name, us in zip(some, full_in_us, strict=True)}
        return full_in_s

    async def close(self) -> None:
        with _translated_errors():
            await self._client.close()


class RedisNonces:
    """Closing it closes ``client``."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def is_new(self, nonce: str) -> bool:
        with _translated_errors():
            used = await self._client.call(_USE, (f"{_PREFIX}nonce:{nonce}",), (uuid4().hex, int(KEEP_S * 1_000)))
        return bool(used)

    async def close(self) -> None:
        with _translated_errors():
            await self._client.close()
