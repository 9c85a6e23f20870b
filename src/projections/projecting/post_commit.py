"""What whoever folds does when a commit is through: it tells the cache and the live feed.

A folder calls ``standing`` when it takes partitions up, ``touched`` after each commit and before the next one, and
``idle`` whenever it found nothing to do. Nothing here fails the folding, or holds it up for longer than a time-out:
what the cache was not told it finds out by itself.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Final

from projections.caching.circuit_breaker import CircuitBreaker
from projections.caching.port import CONFIRM_S, AggregateCache, CacheUnavailable, Position, Step, place_of, step_of
from projections.live.port import Live, Moved, moved_by
from projections.storage.port import Checkpoint, Generation, Run

_AWAY_S: Final = 2.0
"""How long a cache that failed is left alone. Chosen: one that stands still takes a time-out of folding each time."""
_BEAT_S: Final = 1.0
"""How often the feed says where each partition is, so that a loss is noticed where nothing else is said. Chosen."""


class PostCommit:
    """One a process that folds; one coroutine at a time."""

    def __init__(self, cache: AggregateCache, live: Live, *, clock_s: Callable[[], float] = monotonic) -> None:
        """Both are closed with it."""
        self._cache, self._live, self._clock_s = cache, live, clock_s
        self._breaker = CircuitBreaker("the cache of aggregates", away_s=_AWAY_S, clock_s=clock_s)
        self._places: dict[int, Position] = {}
        self._generation: Generation | None = None
        self._confirm_at_s = self._beat_at_s = 0.0

    async def standing(self, generation: Generation, checkpoints: Mapping[int, Checkpoint]) -> None:
        """Partition → its checkpoint, of all that this folder folds, as the tables have them now."""
        self._generation = generation
        self._places = {partition: place_of(checkpoint) for partition, checkpoint in checkpoints.items()}
        self._confirm_at_s = 0.0
        await self.idle()

    def forget(self) -> None:
        """What this folder thought of the tables is not so: nothing is confirmed until ``standing``."""
        self._places = {}

    def only(self, partitions: Collection[int]) -> None:
        """Others fold the rest now, and confirm it."""
        self._places = {partition: place for partition, place in self._places.items() if partition in partitions}

    async def touched(self, generation: Generation, runs: Sequence[Run]) -> None:
        """The runs are in the tables."""
        if generation != self._generation:
            self._generation, self._places = generation, {}
        self._places.update((run.partition, place_of(run.after)) for run in runs)
        if self._breaker.allows():
            await self._say([step_of(generation, run) for run in runs], {}, [moved_by(run) for run in runs])
        await self.idle()

    async def idle(self) -> None:
        """Call it at least every ``CONFIRM_S``: what is kept counts for some of these after the last one."""
        now_s = self._clock_s()
        if now_s < self._confirm_at_s or not self._places or not self._breaker.allows():
            return
        self._confirm_at_s = now_s + CONFIRM_S
        beats: list[Moved] = []
        if now_s >= self._beat_at_s:
            self._beat_at_s = now_s + _BEAT_S
            beats = [Moved(partition, place.seq, place.seq) for partition, place in self._places.items()]
        await self._say([], self._places, beats)

    async def _say(self, steps: Sequence[Step], places: Mapping[int, Position], moved: Sequence[Moved]) -> None:
        assert self._generation is not None
        try:
            if steps:
                await self._cache.step(steps)
            if places:
                await self._cache.confirm(self._generation.identity, places)
            await self._live.publish(moved)
        except CacheUnavailable as error:
            self._breaker.failed(error)
        else:
            self._breaker.answered()

    async def close(self) -> None:
        await self._cache.close()
        await self._live.close()
