"""What a consumer group delivers, into the live generation: nothing twice, nothing left out, whatever it delivers.

Truths:
(1) the tables' checkpoint is the only truth about what is folded. Delivered records are placed by their offsets
    beside the checkpoint's own: what is behind it is skipped, a gap before what came is read from the log;
(2) records that follow each other without a gap are folded by the chain rule, so that forks change nothing; bytes
    that are no record at all are forks, too, for in a topic anybody may have written them;
(3) a batch is one transaction, its checkpoints compared and set: of any number of workers on one partition one gets
    through, the others begin from the tables again;
(4) whatever went wrong, the batch is taken again from what the tables say then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import monotonic, time_ns
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from ledger.core.record import Head, MalformedRecord, time_us_of
from ledger.errors import LogDamaged
from projections.projecting.log_reader import LogReader
from projections.projecting.partition import PartitionFolder, may_be_event
from projections.projecting.post_commit import PostCommit
from projections.projecting.projector import Projector
from projections.projecting.retry import patiently, pause
from projections.storage.port import Generation, Overtaken, ReadModelAhead, ReadModelStore, Run, Switched

READ_AT_ONCE: Final = 4_000
"""Records of a gap that are folded in one transaction. Chosen, as a rebuild's."""
_OTHERS_FILL_S: Final = 0.5
_TELL_S: Final = 5.0

_log = logging.getLogger(__name__)


class PlacedLogReader(LogReader, Protocol):
    """A log whose events stand at offsets, which count forks, too. May be asked from any thread."""

    def offset_behind(self, partition: int, head: Head) -> int | None:
        """The offset behind the event ``head``, 0 where that is the empty log; None where the log lacks it."""
        ...

    def end_offsets(self) -> list[int]:
        """The offset behind the last record of every partition."""
        ...


class Delivered(NamedTuple):
    """A record at its offset."""

    offset: int
    record: bytes


class Standing(Struct):
    """Where this process has come with a partition."""

    seq: int = 0
    next_offset: int | None = None
    """Behind the last record that is in the tables, or is none of the chain; None before anything was delivered."""
    time_us: int = 0
    """Of the oldest event that was delivered and is not in the tables; 0 where there is none."""
    moved_at_s: float = 0.0
    forks: int = 0
    """Records that were delivered and were no events."""
    undelivered_since_s: float | None = None
    """When what was not delivered had to be read from the log, the first time since something was delivered."""


class Counts(Struct):
    """What happened since the start of the process."""

    batches: int = 0
    events: int = 0
    fold_s: float = 0.0
    store_s: float = 0.0
    overtaken: int = 0
    skipped: int = 0
    gaps: int = 0


class Intake:
    """One process's share of filling the live generation."""

    def __init__(
        self, log: PlacedLogReader, store: ReadModelStore, stop: asyncio.Event, *, after: PostCommit | None = None
    ) -> None:
        """``after`` is told of every commit."""
        self._log, self._stop = log, stop
        self._filling = Projector(log, store, in_thread=True, after=after)
        self.counts = Counts()
        self.standings: dict[int, Standing] = {}
        """By partition, of those that something was ever delivered of."""
        self.waiting = False
        """For the database, the log, or a rebuild: nothing can be folded now."""
        self._told: Generation | None = None
        self._turn = asyncio.Lock()

    async def take(self, delivered: Mapping[int, Sequence[Delivered]]) -> None:
        """Return when all of it is in the tables, was before, or the stop came.

        ``delivered``: by partition, in the order of offsets. Raises ReadModelAhead, LogDamaged, LogUnreadable:
        disasters, which no retry can mend.
        """
        for partition, records in delivered.items():
            standing = self._standing(partition)
            standing.time_us, standing.undelivered_since_s = _time_us(records[0].record), None
            standing.moved_at_s = monotonic()
        await self._until_done(delivered.keys(), lambda live: self._fold_all(live, delivered))
        for partition in delivered:
            self.standings[partition].time_us = 0

    async def catch_up(self, ends: Mapping[int, int]) -> None:
        """Fold from the log what stands before these offsets, by partition, whether it is ever delivered or not.

        Raises as ``take``.
        """
        if not ends:
            return
        for partition in ends:
            self._standing(partition)
        await self._until_done(ends.keys(), lambda live: self._read_up_to(live, ends))

    async def idle(self, assigned: Collection[int]) -> None:
        """Call it often: whoever reads from a cache relies on who folds ``assigned`` being there."""
        if not self._turn.locked():
            async with self._turn:
                await self._filling.idle(assigned)

    def _standing(self, partition: int) -> Standing:
        return self.standings.setdefault(partition, Standing())

    async def _until_done(self, partitions: Collection[int], work: Callable[[Generation], Awaitable[None]]) -> None:
        async with self._turn:
            while not self._stop.is_set():
                self.waiting = True  # until a step gets through
                if await patiently(lambda: self._step(partitions, work), self._stop):
                    break
                await pause(self._stop, _OTHERS_FILL_S if self._filling.stands_still else 0.0)
            self.waiting = False

    async def _step(self, partitions: Collection[int], work: Callable[[Generation], Awaitable[None]]) -> bool:
        """Whether the work was done; False where others fill the tables, or were quicker."""
        try:
            live = await self._filling.take_up(partitions)
            if live is None:
                return False
            self._tell(live)
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
        self._filling.forget()
        for standing in self.standings.values():
            standing.next_offset = None

    def _tell(self, live: Generation) -> None:
        if self._told != live:
            self._told = live
            _log.info("filling generation %d", live.number)

    # --- what is to be folded ------------------------------------------------------------------------------------

    async def _fold_all(self, live: Generation, delivered: Mapping[int, Sequence[Delivered]]) -> None:
        for partition, records in delivered.items():
            next_offset = await self._next_offset(partition)
            self.counts.skipped += sum(one.offset < next_offset for one in records)
        while not self._stop.is_set() and (rest := await self._rest(live, delivered)):
            await self._fold(live, rest)

    async def _read_up_to(self, live: Generation, ends: Mapping[int, int]) -> None:
        for partition, end in ends.items():
            standing = self.standings[partition]
            if await self._next_offset(partition) < end:
                standing.next_offset = await self._fill_gap(live, partition, end, end - 1)

    async def _rest(
        self, live: Generation, delivered: Mapping[int, Sequence[Delivered]]
    ) -> dict[int, Sequence[Delivered]]:
        """By partition, what continues the tables without a gap; gaps before it are filled."""
        rest: dict[int, Sequence[Delivered]] = {}
        for partition, records in delivered.items():
            standing = self.standings[partition]
            next_offset = await self._next_offset(partition)
            if (missing := _first_from(records, next_offset)) is None:
                continue
            if records[missing].offset > next_offset:
                next_offset = await self._fill_gap(live, partition, records[missing].offset, records[-1].offset)
                missing = _first_from(records, next_offset)
            standing.next_offset = next_offset
            if missing is not None:
                rest[partition] = _without_gap(records, missing)
        return rest

    async def _next_offset(self, partition: int) -> int:
        """Behind what the tables hold."""
        standing, head = self.standings[partition], self._filling.folders[partition].head
        if standing.next_offset is None:
            found = await asyncio.to_thread(self._log.offset_behind, partition, head)
            if found is None:
                raise ReadModelAhead(partition, head.seq, "the log does not hold what was folded last")
            standing.next_offset, standing.seq = found, head.seq
        return standing.next_offset

    async def _fill_gap(self, live: Generation, partition: int, to_offset: int, last_offset: int) -> int:
        """Fold from the log what stands before ``to_offset``, or further; answers the offset behind that."""
        folder, standing = self._filling.folders[partition], self.standings[partition]
        began, told_s = folder.head.seq, monotonic()
        self.counts.gaps += 1
        next_offset = standing.next_offset or 0
        while next_offset < to_offset and not self._stop.is_set():
            seq = folder.head.seq
            records = await asyncio.to_thread(self._log.read, partition, seq + 1, READ_AT_ONCE)
            if not records:
                # The log was read to its end, beyond what was delivered: all of that are forks.
                next_offset = last_offset + 1
                break
            run = await self._run(folder, records)
            if run is None:
                raise LogDamaged(partition, seq + 1, "the record does not continue the chain")
            await self._store(live, [(folder, run)])
            behind = await asyncio.to_thread(self._log.offset_behind, partition, folder.head)
            assert behind is not None, "it was read just now"
            next_offset = standing.next_offset = behind
            if monotonic() - told_s > _TELL_S:
                told_s = monotonic()
                _log.info("partition %d: %d events read from the log", partition, folder.head.seq - began)
        return next_offset

    # --- folding -------------------------------------------------------------------------------------------------

    async def _fold(self, live: Generation, rest: Mapping[int, Sequence[Delivered]]) -> None:
        folded: list[tuple[PartitionFolder, Run]] = []
        for partition, records in rest.items():
            folder = self._filling.folders[partition]
            run = await self._run(folder, [one.record for one in records])
            if run is not None:
                folded.append((folder, run))
        if folded:
            await self._store(live, folded)
        events = {run.partition: run.after.head.seq - run.before.head.seq for _, run in folded}
        for partition, records in rest.items():
            standing = self.standings[partition]
            standing.next_offset = records[-1].offset + 1
            standing.moved_at_s = monotonic()
            standing.forks += len(records) - events.get(partition, 0)

    async def _run(self, folder: PartitionFolder, records: Sequence[bytes]) -> Run | None:
        began_s = monotonic()
        try:
            run = await folder.fold(records)
        except LogDamaged:
            readable = [record for record in records if may_be_event(record)]
            if len(readable) == len(records):
                raise
            run = await folder.fold(readable)
        self.counts.fold_s += monotonic() - began_s
        return run

    async def _store(self, live: Generation, folded: Sequence[tuple[PartitionFolder, Run]]) -> None:
        began_s = monotonic()
        await self._filling.store(live, folded)
        self.counts.store_s += monotonic() - began_s
        self.counts.batches += 1
        for _, run in folded:
            self.counts.events += run.after.head.seq - run.before.head.seq
            standing = self.standings[run.partition]
            standing.seq, standing.moved_at_s = run.after.head.seq, monotonic()


def _first_from(records: Sequence[Delivered], offset: int) -> int | None:
    """The index of the first record at ``offset`` or behind."""
    return next((index for index, one in enumerate(records) if one.offset >= offset), None)


def _without_gap(records: Sequence[Delivered], first: int) -> Sequence[Delivered]:
    """From the index ``first`` on, as many as follow each other."""
    offset = records[first].offset
    for index in range(first, len(records)):
        if records[index].offset != offset + index - first:
            return records[first:index]
    return records[first:]


def _time_us(record: bytes) -> int:
    try:
        return time_us_of(record)
    except MalformedRecord:
        return time_ns() // 1_000  # a fork, or damage that the fold names
