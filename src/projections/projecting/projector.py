"""The live generation while it is filled: which it is, a folder for each partition, and how a run gets into it.

Truths:
(1) folding begins where the tables say they are, which must be on the log: a checkpoint that the log does not hold is
    ``ReadModelAhead``, never a reason to begin anew;
(2) a generation that other folds filled is left as it is; a rebuild makes the next one;
(3) users who are quarantined are tried once by each who fills, in the order of their events.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ledger.core.record import Head
from projections.models import VERSION
from projections.projecting.log_reader import LogReader, ahead_at, refuse_ahead
from projections.projecting.partition import PartitionFolder
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Generation, Quarantined, ReadModelStore, Run

_ROWS_KEPT: Final = 48_000
"""Rows of one table kept in memory, over all partitions; the others are read again when they change. Chosen: what
users who are about play with, in 100 MB at the most."""

_log = logging.getLogger(__name__)


class Projector:
    """The live generation of ``store``, filled from ``log`` by this process and perhaps by others."""

    def __init__(
        self,
        log: LogReader,
        store: ReadModelStore,
        *,
        in_thread: bool = False,
        after: PostCommit | None = None,
    ) -> None:
        """``in_thread``: the log may be asked from any thread, and is not asked in the event loop's; ``after`` is
        told of every commit."""
        self._log, self._store, self._in_thread, self._after = log, store, in_thread, after
        self.generation: Generation | None = None
        self.folders: list[PartitionFolder] = []
        """One a partition, while there is a generation to fill."""
        self.stands_still = False
        """Other folds filled the live generation."""
        self._verified: set[int] = set()
        self._told: Generation | None = None
        self._retaken: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """What was known of the tables may not be so any more."""
        self.generation, self.folders = None, []
        self._verified.clear()
        if self._after is not None:
            self._after.forget()

    async def idle(self, partitions: Collection[int] | None = None) -> None:
        """Nothing is to be folded, of these partitions or of all."""
        if self._after is not None:
            if partitions is not None:
                self._after.only(partitions)
            await self._after.idle()

    async def take_up(self, partitions: Collection[int] | None = None) -> Generation | None:
        """The live generation, made where there is none, these partitions (or all) held against the log.

        None where others fill it. Raises ReadModelAhead, LogDamaged, ReadModelUnavailable, LogUnavailable.
        """
        if self.generation is None:
            await self._read_tables()
        live = self.generation
        if live is None:
            return None
        new = [one for one in partitions or range(len(self.folders)) if one not in self._verified]
        if new:
            await self._verify(live, new)
        return live

    async def _read_tables(self) -> None:
        store, log = self._store, self._log
        live = next((one for one in await store.generations() if one.status == "live"), None)
        if live is None:
            live = await store.make_generation(VERSION, log.partitions, live=True)
        checkpoints = await store.checkpoints(live.number)
        if len(checkpoints) != log.partitions:
            refuse_ahead(log, [checkpoint.head for checkpoint in checkpoints])
        self.stands_still = live.version != VERSION
        if self.stands_still:
            refuse_ahead(log, [checkpoint.head for checkpoint in checkpoints])
            self._tell(live)
            return
        quarantined = await store.quarantine(live.number)
        self.folders = [
            PartitionFolder(
                store,
                live.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=max(1_000, _ROWS_KEPT // log.partitions),
            )
            for partition, checkpoint in enumerate(checkpoints)
        ]
        self.generation = live

    async def _verify(self, live: Generation, partitions: Collection[int]) -> None:
        heads = {partition: self.folders[partition].head for partition in partitions}
        if self._in_thread:
            await asyncio.to_thread(_refuse_ahead, self._log, heads)
        else:
            _refuse_ahead(self._log, heads)
        fresh = {one for one in partitions if (live.number, one) not in self._retaken}
        if fresh:
            for one in await self._store.quarantine(live.number):
                if one.partition in fresh:
                    await self._retake(live, one)
        self._retaken |= {(live.number, one) for one in fresh}
        self._verified |= set(partitions)
        if self._after is not None:
            await self._after.standing(live, {one: self.folders[one].checkpoint for one in self._verified})

    async def _retake(self, live: Generation, one: Quarantined) -> None:
        """Take what is held of a user, in order, as far as it can be digested now."""
        folder = self.folders[one.partition]
        waiting: Quarantined | None = one
        while waiting is not None:
            run = await folder.retake(waiting)
            if run is None:
                _log.warning("%s", _standing_still(waiting))
                return
            await self._commit(live, [run])
            folder.stored(run)
            waiting = next(iter(run.quarantined), None)
        _log.info("user %s of partition %d is folded again", one.user_id, one.partition)

    def _tell(self, live: Generation) -> None:
        if self._told != live:
            self._told = live
            _log.error(
                "the read model's generation %d was filled by version %d of the folds, this program has version %d: "
                "it stands still until `stakelog project rebuild --accept` has made the next one",
                live.number,
                live.version,
                VERSION,
            )

    async def _commit(self, live: Generation, runs: Sequence[Run]) -> None:
        await self._store.commit(live.number, runs)
        if self._after is not None:
            await self._after.touched(live, runs)

    async def store(self, live: Generation, folded: Sequence[tuple[PartitionFolder, Run]]) -> None:
        """Write all of these runs, or none. Raises Overtaken, Switched, ReadModelUnavailable."""
        await self._commit(live, [run for _, run in folded])
        for folder, run in folded:
            folder.stored(run)
            for one in run.quarantined:
                _log.error("%s", _standing_still(one))


def _refuse_ahead(log: LogReader, heads: Mapping[int, Head]) -> None:
    for partition, head in heads.items():
        if (ahead := ahead_at(log, partition, head)) is not None:
            raise ahead


def _standing_still(one: Quarantined) -> str:
    who = f"user {one.user_id} of partition {one.partition}"
    return f"{who} stands still at seq {one.seq} in the read model: {one.reason}"
