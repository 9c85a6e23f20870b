"""Post-commit hooks: update the cache of aggregates and publish to the live feed.

A projector calls ``started`` when it begins with its partitions, ``committed`` after each commit and before the next
one, and ``idle`` when it has nothing to fold. No hook makes folding fail, or delays it by more than a time-out: the
cache detects a missing update by itself.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Final

from projections.caching.circuit_breaker import CircuitBreaker
from projections.caching.port import (
    CONFIRM_S,
    AggregateCache,
    CacheUnavailable,
    CacheUpdate,
    RowsVersion,
    rows_version_of,
    update_of,
)
from projections.live.port import Change, LiveFeed, change_of
from projections.storage.port import Checkpoint, Generation, Run

_BREAKER_PAUSE_S: Final = 2.0
"""How long a failed cache is not used. Chosen: a cache that does not respond delays folding by one time-out each."""
_POSITIONS_S: Final = 1.0
"""How often the feed publishes the position of each partition, so that subscribers notice lost messages also while
nothing changes. Chosen."""


class PostCommit:
    """One for each process that folds. Not safe for concurrent coroutines."""

    def __init__(self, cache: AggregateCache, live: LiveFeed, *, clock_s: Callable[[], float] = monotonic) -> None:
        """``close`` closes both."""
        self._cache, self._live, self._clock_s = cache, live, clock_s
        self._breaker = CircuitBreaker("cache of aggregates", pause_s=_BREAKER_PAUSE_S, clock_s=clock_s)
        self._versions: dict[int, RowsVersion] = {}
        self._generation: Generation | None = None
        self._confirm_at_s = self._positions_at_s = 0.0

    async def started(self, generation: Generation, checkpoints: Mapping[int, Checkpoint]) -> None:
        """``checkpoints``: as the tables have them, for all partitions that this process folds."""
        self._generation = generation
        self._versions = {partition: rows_version_of(checkpoint) for partition, checkpoint in checkpoints.items()}
        self._confirm_at_s = 0.0
        await self.idle()

    def forget(self) -> None:
        """The tables may differ from what this process knows: confirm nothing until ``started``."""
        self._versions = {}

    def restrict_to(self, partitions: Collection[int]) -> None:
        """Other processes fold all other partitions now, and confirm them."""
        self._versions = {one: version for one, version in self._versions.items() if one in partitions}

    async def committed(self, generation: Generation, runs: Sequence[Run]) -> None:
        """These runs are in the tables."""
        if generation != self._generation:
            self._generation, self._versions = generation, {}
        self._versions.update((run.partition, rows_version_of(run.after)) for run in runs)
        if self._breaker.allows():
            await self._send([update_of(generation, run) for run in runs], {}, [change_of(run) for run in runs])
        await self.idle()

    async def idle(self) -> None:
        """Call it at least every ``CONFIRM_S``: the cache is trusted only while its marks are confirmed."""
        now_s = self._clock_s()
        if now_s < self._confirm_at_s or not self._versions or not self._breaker.allows():
            return
        self._confirm_at_s = now_s + CONFIRM_S
        positions: list[Change] = []
        if now_s >= self._positions_at_s:
            self._positions_at_s = now_s + _POSITIONS_S
            positions = [Change(one, version.seq, version.seq) for one, version in self._versions.items()]
        await self._send([], self._versions, positions)

    async def _send(
        self, updates: Sequence[CacheUpdate], versions: Mapping[int, RowsVersion], changes: Sequence[Change]
    ) -> None:
        assert self._generation is not None
        try:
            if updates:
                await self._cache.apply(updates)
            if versions:
                await self._cache.confirm(self._generation.identity, versions)
            await self._live.publish(changes)
        except CacheUnavailable as error:
            self._breaker.failed(error)
        else:
            self._breaker.succeeded()

    async def close(self) -> None:
        await self._cache.close()
        await self._live.close()
