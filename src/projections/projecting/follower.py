"""The follower: folds what the log has and the live generation has not, for as long as it runs.

Truths:
(1) it folds from where the tables say they are (``filling``);
(2) the runs of a round, of whatever partitions, are stored in one transaction with their checkpoints, or not at all;
    whatever went wrong, the next round begins from the tables again;
(3) any number of followers may run at once: the checkpoints' compare-and-set lets one of them through;
(4) tables that are deleted or exchanged meanwhile are noticed within about a second, also where nothing new arrives;
(5) the cache and the live feed are told of a commit after it is through, and before the next one.
"""

import asyncio
import logging
from time import monotonic
from typing import Final

from ledger.errors import LogDamaged
from projections.projecting.log_reader import WHAT_TO_DO, LogReader
from projections.projecting.partition import PartitionFolder
from projections.projecting.post_commit import PostCommit
from projections.projecting.projector import Projector
from projections.projecting.retry import patiently, pause
from projections.storage.port import Generation, Overtaken, ReadModelAhead, ReadModelStore, Run, Switched

BATCH: Final = 4_000
"""Records of all partitions in one transaction. Chosen: some 100 ms of work, during which nobody else can write."""
# Chosen: what is visible is some 10 ms behind what is acknowledged, and an idle follower takes no CPU to speak of.
_BUSY_PAUSE_S: Final = 0.004
_IDLE_PAUSE_S: Final = 0.02
_WAITING_PAUSE_S: Final = 0.5
_LOOK_S: Final = 1.0
"""How often a follower with nothing to do looks whether its tables are still there. Chosen: a look is some 20 µs."""

_log = logging.getLogger(__name__)


class Follower:
    """Follows ``log`` into ``store``. One coroutine at a time; blocks while it folds and stores a batch."""

    def __init__(
        self, log: LogReader, store: ReadModelStore, *, batch: int = BATCH, after: PostCommit | None = None
    ) -> None:
        """``after`` is told of every commit; None where there is nobody to tell."""
        self._log, self._store, self._batch = log, store, batch
        self._filling = Projector(log, store, after=after)
        self._told: Generation | None = None
        self._more = True
        self._look_at_s = 0.0

    @property
    def generation(self) -> Generation | None:
        """The one that is followed; None where there is none yet, or other folds filled the live one."""
        return self._filling.generation

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop``. Raises ReadModelAhead, LogDamaged: disasters that no retry can mend."""
        pause_s = _BUSY_PAUSE_S
        while not stop.is_set():
            if await patiently(self.step, stop):
                pause_s = 0.0 if self._more else _BUSY_PAUSE_S
            elif self._filling.stands_still:
                pause_s = _WAITING_PAUSE_S
            else:
                pause_s = min(max(pause_s, _BUSY_PAUSE_S) * 1.5, _IDLE_PAUSE_S)
            await pause(stop, pause_s)

    async def step(self) -> bool:
        """Fold at most one batch of what is new; whether anything was done.

        Raises ReadModelAhead, LogDamaged, and, with nothing stored, ReadModelUnavailable, LogUnavailable.
        """
        try:
            live = self._filling.generation
            if live is None:
                live = await self._filling.take_up()
                if live is None:
                    return False
                self._tell(live)
            if not self._log.changed() and not self._more:
                await self._look()
                await self._filling.idle()
                return False
            return await self._fold(live)
        except (Overtaken, Switched) as error:
            _log.debug("%s; reading the read model again", error)
            self._forget()
            return False
        except BaseException:
            self._forget()
            raise

    async def _look(self) -> None:
        """Once a second: are the tables still there? Raises Switched, ReadModelUnavailable where they are not."""
        if monotonic() >= self._look_at_s:
            await self._store.generations()
            self._look_at_s = monotonic() + _LOOK_S

    def _forget(self) -> None:
        self._filling.forget()
        self._more = True

    def _tell(self, live: Generation) -> None:
        if self._told != live:
            self._told = live
            behind = sum(self._log.ends()) - sum(folder.head.seq for folder in self._filling.folders)
            _log.info("following into generation %d, %d events behind", live.number, behind)

    async def _fold(self, live: Generation) -> bool:
        ends = self._log.ends()
        behind = [folder for folder in self._filling.folders if self._is_behind(folder, ends[folder.partition])]
        if not behind:
            self._more = False
            return False
        share = max(1, self._batch // len(behind))
        await self._filling.store(live, [(folder, await self._run(folder, share)) for folder in behind])
        self._more = any(folder.head.seq < ends[folder.partition] for folder in behind)
        return True

    def _is_behind(self, folder: PartitionFolder, end: int) -> bool:
        if end < folder.head.seq:
            reason = f"the log ends at seq {end}: it got shorter. {WHAT_TO_DO}"
            raise ReadModelAhead(folder.partition, folder.head.seq, reason)
        return end > folder.head.seq

    async def _run(self, folder: PartitionFolder, share: int) -> Run:
        seq = folder.head.seq + 1
        run = await folder.fold(self._log.read(folder.partition, seq, share))
        if run is None:
            # One record a seq: nothing that comes later can be what is missing here.
            raise LogDamaged(folder.partition, seq, "the record does not continue the chain")
        return run
