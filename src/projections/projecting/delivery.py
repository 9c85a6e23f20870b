"""Folds the records that a consumer group delivers into the live generation: none twice, none left out.

Invariants:
(1) Only the checkpoint in the tables says what is folded. The offsets of delivered records are compared with the
    checkpoint's offset: earlier records are skipped, and a gap before the first delivered record is read from the
    log.
(2) Records that follow each other without a gap are folded by the chain rule, so forks change nothing. Bytes that are
    no record are forks too, because any Kafka client may have written them.
(3) A batch is one transaction with compare-and-set on its checkpoints. If several workers fold one partition, one of
    them commits, and the others begin from the tables again.
(4) After any failure the batch is folded again from the checkpoints that the tables have then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import monotonic, time_ns
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from ledger.core.record import Head, MalformedRecord, time_us_of
from ledger.errors import LogDamaged
from ledger.pacing import sleep_unless_stopped
from projections.projecting.log_reader import LogReader
from projections.projecting.partition import PartitionProjector, may_be_event
from projections.projecting.post_commit import PostCommit
from projections.projecting.projector import Projector
from projections.projecting.retry import retry_until_stopped
from projections.storage.port import Generation, Overtaken, ReadModelAhead, ReadModelStore, Run, Switched

GAP_BATCH: Final = 4_000
"""Records of a gap in one transaction. Chosen: the batch of a rebuild."""
_OTHER_VERSION_PAUSE_S: Final = 0.5
_PROGRESS_LOG_S: Final = 5.0

_log = logging.getLogger(__name__)


class PlacedLogReader(LogReader, Protocol):
    """A log whose records have offsets, which count forks too. Safe to use from any thread."""

    def offset_behind(self, partition: int, head: Head) -> int | None:
        """The offset after the event ``head``; 0 for the empty log; None if the event is not on the log."""
        ...

    def end_offsets(self) -> list[int]:
        """The offset after the last record of every partition."""
        ...


class DeliveredRecord(NamedTuple):
    offset: int
    record: bytes


class PartitionProgress(Struct):
    """How far this process has folded a partition."""

    seq: int = 0
    next_offset: int | None = None
    """The offset after the last record that is in the tables or is a fork; None before the first delivery."""
    time_us: int = 0
    """Of the oldest delivered event that is not in the tables; 0 if there is none."""
    moved_at_s: float = 0.0
    forks: int = 0
    """Delivered records that were no events."""
    undelivered_since_s: float | None = None
    """When undelivered records had to be read from the log for the first time since the last delivery."""


class Counts(Struct):
    """Since the start of the process."""

    batches: int = 0
    events: int = 0
    fold_s: float = 0.0
    store_s: float = 0.0
    overtaken: int = 0
    skipped: int = 0
    gaps: int = 0


class DeliveryProjector:
    """One process' share of folding into the live generation."""

    def __init__(
        self,
        log: PlacedLogReader,
        store: ReadModelStore,
        stop: asyncio.Event,
        *,
        post_commit: PostCommit | None = None,
    ) -> None:
        self._log, self._stop = log, stop
        self._projector = Projector(log, store, log_in_thread=True, post_commit=post_commit)
        self.counts = Counts()
        self.progress_of: dict[int, PartitionProgress] = {}
        """By partition; only partitions that had a delivery."""
        self.waiting = False
        """Nothing can be folded now: the database or the log is unavailable, or a rebuild is needed."""
        self._reported: Generation | None = None
        self._turn = asyncio.Lock()

    async def take(self, delivered: Mapping[int, Sequence[DeliveredRecord]]) -> None:
        """Return once all delivered events are in the tables, or ``stop`` is set.

        ``delivered``: by partition, in the order of offsets. Raises ReadModelAhead, LogDamaged, LogUnreadable: a
        retry cannot repair them.
        """
        for partition, records in delivered.items():
            progress = self._progress(partition)
            progress.time_us, progress.undelivered_since_s = _time_us(records[0].record), None
            progress.moved_at_s = monotonic()
        await self._until_done(delivered.keys(), lambda live: self._fold_all(live, delivered))
        for partition in delivered:
            self.progress_of[partition].time_us = 0

    async def catch_up(self, ends: Mapping[int, int]) -> None:
        """Fold all records before these offsets, by partition, from the log, whether or not they are ever delivered.

        Raises as ``take``.
        """
        if not ends:
            return
        for partition in ends:
            self._progress(partition)
        await self._until_done(ends.keys(), lambda live: self._read_up_to(live, ends))

    async def idle(self, assigned: Collection[int]) -> None:
        """Call it often: it confirms to the cache that this process folds the ``assigned`` partitions."""
        if not self._turn.locked():
            async with self._turn:
                await self._projector.idle(assigned)

    def _progress(self, partition: int) -> PartitionProgress:
        return self.progress_of.setdefault(partition, PartitionProgress())

    async def _until_done(self, partitions: Collection[int], work: Callable[[Generation], Awaitable[None]]) -> None:
        async with self._turn:
            while not self._stop.is_set():
                self.waiting = True  # until a step can work
                if await retry_until_stopped(lambda: self._step(partitions, work), self._stop):
                    break
                pause_s = _OTHER_VERSION_PAUSE_S if self._projector.other_version_is_live else 0.0
                await sleep_unless_stopped(self._stop, pause_s)
            self.waiting = False

    async def _step(self, partitions: Collection[int], work: Callable[[Generation], Awaitable[None]]) -> bool:
        """Returns whether the work is done; False if another version is live or another worker was faster."""
        try:
            live = await self._projector.prepare(partitions)
            if live is None:
                return False
            self._report(live)
            self.waiting = False
            await work(live)
            return True
        except (Overtaken, Switched) as error:
            self.counts.overtaken += isinstance(error, Overtaken)
            _log.debug("%s; reading the read model again", error)
            self._forget()
            return False
        except BaseException:
            self.waiting = True
            self._forget()
            raise

    def _forget(self) -> None:
        self._projector.forget()
        for progress in self.progress_of.values():
            progress.next_offset = None

    def _report(self, live: Generation) -> None:
        if self._reported != live:
            self._reported = live
            _log.info("folding into generation %d", live.number)

    # --- which records to fold -----------------------------------------------------------------------------------

    async def _fold_all(self, live: Generation, delivered: Mapping[int, Sequence[DeliveredRecord]]) -> None:
        for partition, records in delivered.items():
            next_offset = await self._next_offset(partition)
            self.counts.skipped += sum(one.offset < next_offset for one in records)
        while not self._stop.is_set() and (rest := await self._rest(live, delivered)):
            await self._fold(live, rest)

    async def _read_up_to(self, live: Generation, ends: Mapping[int, int]) -> None:
        for partition, end in ends.items():
            progress = self.progress_of[partition]
            if await self._next_offset(partition) < end:
                progress.next_offset = await self._fill_gap(live, partition, end, end - 1)

    async def _rest(
        self, live: Generation, delivered: Mapping[int, Sequence[DeliveredRecord]]
    ) -> dict[int, Sequence[DeliveredRecord]]:
        """By partition, the records that continue the tables without a gap. Fills the gaps before them."""
        rest: dict[int, Sequence[DeliveredRecord]] = {}
        for partition, records in delivered.items():
            progress = self.progress_of[partition]
            next_offset = await self._next_offset(partition)
            if (first := _first_from(records, next_offset)) is None:
                continue
            if records[first].offset > next_offset:
                next_offset = await self._fill_gap(live, partition, records[first].offset, records[-1].offset)
                first = _first_from(records, next_offset)
            progress.next_offset = next_offset
            if first is not None:
                rest[partition] = _without_gap(records, first)
        return rest

    async def _next_offset(self, partition: int) -> int:
        """The offset after the last event in the tables."""
        progress, head = self.progress_of[partition], self._projector.partitions[partition].head
        if progress.next_offset is None:
            found = await asyncio.to_thread(self._log.offset_behind, partition, head)
            if found is None:
                raise ReadModelAhead(partition, head.seq, "the last folded event is not on the log")
            progress.next_offset, progress.seq = found, head.seq
        return progress.next_offset

    async def _fill_gap(self, live: Generation, partition: int, to_offset: int, last_offset: int) -> int:
        """Fold from the log up to ``to_offset`` or further. Returns the next offset to fold."""
        projector, progress = self._projector.partitions[partition], self.progress_of[partition]
        first_seq, logged_at_s = projector.head.seq, monotonic()
        self.counts.gaps += 1
        next_offset = progress.next_offset or 0
        while next_offset < to_offset and not self._stop.is_set():
            seq = projector.head.seq
            records = await asyncio.to_thread(self._log.read, partition, seq + 1, GAP_BATCH)
            if not records:
                # The log was read to its end, past everything that was delivered: the rest are forks.
                next_offset = last_offset + 1
                break
            run = await self._run(projector, records)
            if run is None:
                raise LogDamaged(partition, seq + 1, "the record does not continue the chain")
            await self._store(live, [(projector, run)])
            behind = await asyncio.to_thread(self._log.offset_behind, partition, projector.head)
            assert behind is not None, "the event was just read from the log"
            next_offset = progress.next_offset = behind
            if monotonic() - logged_at_s > _PROGRESS_LOG_S:
                logged_at_s = monotonic()
                _log.info("partition %d: %d events read from the log", partition, projector.head.seq - first_seq)
        return next_offset

    # --- folding -------------------------------------------------------------------------------------------------

    async def _fold(self, live: Generation, rest: Mapping[int, Sequence[DeliveredRecord]]) -> None:
        folded: list[tuple[PartitionProjector, Run]] = []
        for partition, records in rest.items():
            projector = self._projector.partitions[partition]
            run = await self._run(projector, [one.record for one in records])
            if run is not None:
                folded.append((projector, run))
        if folded:
            await self._store(live, folded)
        events = {run.partition: run.after.head.seq - run.before.head.seq for _, run in folded}
        for partition, records in rest.items():
            progress = self.progress_of[partition]
            progress.next_offset = records[-1].offset + 1
            progress.moved_at_s = monotonic()
            progress.forks += len(records) - events.get(partition, 0)

    async def _run(self, projector: PartitionProjector, records: Sequence[bytes]) -> Run | None:
        began_s = monotonic()
        try:
            run = await projector.fold(records)
        except LogDamaged:
            readable = [record for record in records if may_be_event(record)]
            if len(readable) == len(records):
                raise
            run = await projector.fold(readable)
        self.counts.fold_s += monotonic() - began_s
        return run

    async def _store(self, live: Generation, folded: Sequence[tuple[PartitionProjector, Run]]) -> None:
        began_s = monotonic()
        await self._projector.store(live, folded)
        self.counts.store_s += monotonic() - began_s
        self.counts.batches += 1
        for _, run in folded:
            self.counts.events += run.after.head.seq - run.before.head.seq
            progress = self.progress_of[run.partition]
            progress.seq, progress.moved_at_s = run.after.head.seq, monotonic()


def _first_from(records: Sequence[DeliveredRecord], offset: int) -> int | None:
    """The index of the first record at ``offset`` or later; None if there is none."""
    return next((index for index, one in enumerate(records) if one.offset >= offset), None)


def _without_gap(records: Sequence[DeliveredRecord], first: int) -> Sequence[DeliveredRecord]:
    """The records from index ``first`` up to the first gap."""
    offset = records[first].offset
    for index in range(first, len(records)):
        if records[index].offset != offset + index - first:
            return records[first:index]
    return records[first:]


def _time_us(record: bytes) -> int:
    try:
        return time_us_of(record)
    except MalformedRecord:
        return time_ns() // 1_000  # a fork, or damage that the fold reports
