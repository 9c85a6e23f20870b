"""The follower: folds every new record of the log into the live generation, until it is stopped.

Invariants:
(1) It folds from the checkpoints in the tables on (``projector``).
(2) The runs of a round, of all partitions, are committed in one transaction together with their checkpoints. After
    any failure the next round begins from the tables again.
(3) Any number of followers may run at once: compare-and-set on the checkpoints lets one of them commit.
(4) Deleted or exchanged tables are noticed within about a second, also while the log does not grow.
(5) The post-commit hooks of a commit run before the next commit.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from ledger.errors import LogDamaged
from ledger.pacing import sleep_unless_stopped
from projections.projecting.log_reader import WHAT_TO_DO, LogReader
from projections.projecting.partition import PartitionProjector
from projections.projecting.post_commit import PostCommit
from projections.projecting.projector import Projector
from projections.projecting.retry import retry_until_stopped
from projections.storage.port import Generation, Overtaken, ReadModelAhead, ReadModelStore, Run, Switched

BATCH: Final = 4_000
"""Records of all partitions in one transaction. Chosen: about 100 ms of work, during which SQLite blocks other
writers.
"""
# Chosen: an event is visible about 10 ms after it was acknowledged, and an idle follower uses almost no CPU.
_BUSY_PAUSE_S: Final = 0.004
_LOADED_PAUSE_S: Final = 0.06
"""Under load. A transaction costs as much as dozens of events, and a row that changes often is written once per
batch, so large batches cost less per event. Chosen: with the 40 ms that folding takes under full load, within the
150 ms in which an event becomes visible."""
_LOADED_EVENTS_PER_S: Final = 600
"""This rate or more, since the batch before, is load: one client that sends one command after another. Chosen: three
events within ``_BUSY_PAUSE_S``, so that a client who waits to see its own command waits 4 ms."""
_IDLE_PAUSE_S: Final = 0.02
_OTHER_VERSION_PAUSE_S: Final = 0.5
_CHECK_TABLES_S: Final = 1.0
"""How often an idle follower checks that its tables exist. Chosen: a check takes about 20 µs."""

_log = logging.getLogger(__name__)


class Follower:
    """Folds ``log`` into ``store``. Not safe for concurrent coroutines; it blocks while it folds and stores a
    batch."""

    def __init__(
        self,
        log: LogReader,
        store: ReadModelStore,
        *,
        batch: int = BATCH,
        post_commit: PostCommit | None = None,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._clock_s = clock_s
        self._log, self._store, self._batch = log, store, batch
        self._projector = Projector(log, store, post_commit=post_commit)
        self._reported: Generation | None = None
        self._has_more = True
        self._is_loaded = False
        self._folded_at_s = clock_s()
        self._check_tables_at_s = 0.0

    @property
    def generation(self) -> Generation | None:
        """The live generation; None if it was not read yet, or is of another version of the folds."""
        return self._projector.generation

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop``. Raises ReadModelAhead and LogDamaged: a retry cannot repair them."""
        pause_s = _BUSY_PAUSE_S
        while not stop.is_set():
            if await retry_until_stopped(self.step, stop):
                pause_s = self.pause_s
            elif self._projector.other_version_is_live:
                pause_s = _OTHER_VERSION_PAUSE_S
            else:
                pause_s = min(max(pause_s, _BUSY_PAUSE_S) * 1.5, _IDLE_PAUSE_S)
            await sleep_unless_stopped(stop, pause_s)

    @property
    def pause_s(self) -> float:
        """How long to wait after a step that folded."""
        if self._has_more:
            return 0.0
        return _LOADED_PAUSE_S if self._is_loaded else _BUSY_PAUSE_S

    async def step(self) -> bool:
        """Fold at most one batch. Returns whether anything was folded.

        Raises ReadModelAhead and LogDamaged; raises ReadModelUnavailable and LogUnavailable, with nothing stored.
        """
        try:
            live = self._projector.generation
            if live is None:
                live = await self._projector.prepare()
                if live is None:
                    return False
                self._report(live)
            if not self._log.changed() and not self._has_more:
                await self._check_tables()
                await self._projector.idle()
                return False
            return await self._fold(live)
        except (Overtaken, Switched) as error:
            _log.debug("%s; reading the read model again", error)
            self._forget()
            return False
        except BaseException:
            self._forget()
            raise

    async def _check_tables(self) -> None:
        """Once a second. Raises Switched or ReadModelUnavailable if the tables were deleted or exchanged."""
        if monotonic() >= self._check_tables_at_s:
            await self._store.generations()
            self._check_tables_at_s = monotonic() + _CHECK_TABLES_S

    def _forget(self) -> None:
        self._projector.forget()
        self._has_more = True

    def _report(self, live: Generation) -> None:
        if self._reported != live:
            self._reported = live
            behind = sum(self._log.ends()) - sum(projector.head.seq for projector in self._projector.partitions)
            _log.info("following into generation %d, %d events behind", live.number, behind)

    async def _fold(self, live: Generation) -> bool:
        ends = self._log.ends()
        behind = [one for one in self._projector.partitions if self._is_behind(one, ends[one.partition])]
        if not behind:
            self._has_more = False
            return False
        share = max(1, self._batch // len(behind))
        before = sum(projector.head.seq for projector in behind)
        await self._projector.store(live, [(projector, await self._run(projector, share)) for projector in behind])
        self._note_rate(sum(projector.head.seq for projector in behind) - before)
        self._has_more = any(projector.head.seq < ends[projector.partition] for projector in behind)
        return True

    def _note_rate(self, folded: int) -> None:
        now_s = self._clock_s()
        self._is_loaded = folded >= _LOADED_EVENTS_PER_S * (now_s - self._folded_at_s)
        self._folded_at_s = now_s

    def _is_behind(self, projector: PartitionProjector, end: int) -> bool:
        if end < projector.head.seq:
            reason = f"the log ends at seq {end}: it got shorter. {WHAT_TO_DO}"
            raise ReadModelAhead(projector.partition, projector.head.seq, reason)
        return end > projector.head.seq

    async def _run(self, projector: PartitionProjector, share: int) -> Run:
        seq = projector.head.seq + 1
        run = await projector.fold(self._log.read(projector.partition, seq, share))
        if run is None:
            # The log has one record for each seq, so no later record can continue the chain.
            raise LogDamaged(projector.partition, seq, "the record does not continue the chain")
        return run
