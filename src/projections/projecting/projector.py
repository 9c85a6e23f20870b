"""The live generation while this process folds into it: its partition projectors, and the commit of their runs.

Invariants:
(1) Folding begins at the checkpoints in the tables. A checkpoint that is not on the log raises ReadModelAhead; it is
    never a reason to begin at the start.
(2) A generation of another version of the folds is not changed; a rebuild makes the next generation.
(3) Each process retries the quarantined users of a partition once, in the order of their events.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ledger.core.record import Head
from projections.models import VERSION
from projections.projecting.log_reader import LogReader, ahead_at, refuse_ahead
from projections.projecting.partition import PartitionProjector
from projections.projecting.pay_tables import PayTables
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Generation, Quarantined, ReadModelStore, Run

_ROWS_MAX: Final = 48_000
"""Rows of one table in memory, over all partitions; other rows are read again when they change. Chosen: the rows of
the active users, in at most 100 MB."""

_log = logging.getLogger(__name__)


class Projector:
    """The live generation of ``store``; other processes may fold into it at the same time."""

    def __init__(
        self,
        log: LogReader,
        store: ReadModelStore,
        *,
        log_in_thread: bool = False,
        post_commit: PostCommit | None = None,
    ) -> None:
        """``log_in_thread``: read the log in a worker thread, because reading it may take long."""
        self._log, self._store, self._log_in_thread, self._post_commit = log, store, log_in_thread, post_commit
        self.generation: Generation | None = None
        self.partitions: list[PartitionProjector] = []
        """One for each partition; empty while ``generation`` is None."""
        self.other_version_is_live = False
        """The live generation was filled by another version of the folds."""
        self._verified: set[int] = set()
        self._reported: Generation | None = None
        self._retried: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """The tables may have changed: read them again before the next fold."""
        self.generation, self.partitions = None, []
        self._verified.clear()
        if self._post_commit is not None:
            self._post_commit.forget()

    async def idle(self, partitions: Collection[int] | None = None) -> None:
        """There is nothing to fold. ``partitions``: all that this process folds; None for all there are."""
        if self._post_commit is not None:
            if partitions is not None:
                self._post_commit.restrict_to(partitions)
            await self._post_commit.idle()

    async def prepare(self, partitions: Collection[int] | None = None) -> Generation | None:
        """Return the live generation, with the heads of these partitions (None: all) verified against the log.

        Makes the first generation if there is none. Returns None if the live generation is of another version of the
        folds. Raises ReadModelAhead, LogDamaged, ReadModelUnavailable, LogUnavailable.
        """
        if self.generation is None:
            await self._read_tables()
        live = self.generation
        if live is None:
            return None
        unverified = [one for one in partitions or range(len(self.partitions)) if one not in self._verified]
        if unverified:
            await self._verify(live, unverified)
        return live

    async def _read_tables(self) -> None:
        store, log = self._store, self._log
        live = next((one for one in await store.generations() if one.status == "live"), None)
        if live is None:
            live = await store.make_generation(VERSION, log.partitions, live=True)
        checkpoints = await store.checkpoints(live.number)
        if len(checkpoints) != log.partitions:
            refuse_ahead(log, [checkpoint.head for checkpoint in checkpoints])
        self.other_version_is_live = live.version != VERSION
        if self.other_version_is_live:
            refuse_ahead(log, [checkpoint.head for checkpoint in checkpoints])
            self._report_other_version(live)
            return
        quarantined = await store.quarantine(live.number)
        pay_tables = PayTables(log.tables)
        self.partitions = [
            PartitionProjector(
                store,
                live.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=max(1_000, _ROWS_MAX // log.partitions),
                pay_tables=pay_tables,
            )
            for partition, checkpoint in enumerate(checkpoints)
        ]
        self.generation = live

    async def _verify(self, live: Generation, partitions: Collection[int]) -> None:
        heads = {partition: self.partitions[partition].head for partition in partitions}
        if self._log_in_thread:
            await asyncio.to_thread(_refuse_ahead, self._log, heads)
        else:
            _refuse_ahead(self._log, heads)
        not_retried = {one for one in partitions if (live.number, one) not in self._retried}
        if not_retried:
            for one in await self._store.quarantine(live.number):
                if one.partition in not_retried:
                    await self._retry_quarantined(live, one)
        self._retried |= {(live.number, one) for one in not_retried}
        self._verified |= set(partitions)
        if self._post_commit is not None:
            checkpoints = {one: self.partitions[one].checkpoint for one in self._verified}
            await self._post_commit.started(live, checkpoints)

    async def _retry_quarantined(self, live: Generation, one: Quarantined) -> None:
        """Fold a user's quarantined events in order, up to the first one that still fails."""
        projector = self.partitions[one.partition]
        quarantined: Quarantined | None = one
        while quarantined is not None:
            run = await projector.retry_quarantined(quarantined)
            if run is None:
                _log.warning("%s", _quarantine_message(quarantined))
                return
            await self._commit(live, [run])
            projector.mark_stored(run)
            quarantined = next(iter(run.quarantined), None)
        _log.info("user %s of partition %d is no longer quarantined", one.user_id, one.partition)

    def _report_other_version(self, live: Generation) -> None:
        if self._reported != live:
            self._reported = live
            _log.error(
                "the read model's generation %d was filled by version %d of the folds, this program has version %d: "
                "nothing is folded until `stakelog project rebuild --accept` has made the next generation",
                live.number,
                live.version,
                VERSION,
            )

    async def _commit(self, live: Generation, runs: Sequence[Run]) -> None:
        await self._store.commit(live.number, runs)
        if self._post_commit is not None:
            await self._post_commit.committed(live, runs)

    async def store(self, live: Generation, folded: Sequence[tuple[PartitionProjector, Run]]) -> None:
        """Commit all of these runs, or none. Raises Overtaken, Switched, ReadModelUnavailable."""
        await self._commit(live, [run for _, run in folded])
        for projector, run in folded:
            projector.mark_stored(run)
            for one in run.quarantined:
                _log.error("%s", _quarantine_message(one))


def _refuse_ahead(log: LogReader, heads: Mapping[int, Head]) -> None:
    for partition, head in heads.items():
        if (ahead := ahead_at(log, partition, head)) is not None:
            raise ahead


def _quarantine_message(one: Quarantined) -> str:
    user = f"user {one.user_id} of partition {one.partition}"
    return f"{user} is quarantined in the read model from seq {one.seq} on: {one.reason}"
