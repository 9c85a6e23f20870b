"""Rebuild: folds the log into a new generation and makes it the live one in one transaction.

Invariants:
(1) Before the switch the rebuild only reads the live generation. A rebuild that is killed, refused or interrupted
    changes nothing that clients read.
(2) The new generation is never ahead of the live one, and at the switch both are at the same event of every
    partition. So a client that has read a position never reads an older one afterwards.
(3) The progress of a rebuild is in the tables. A new rebuild continues an interrupted one.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final, NamedTuple

import msgspec

from ledger.errors import LedgerError, LogDamaged
from projections.models import ROW_TYPES, VERSION
from projections.projecting.log_reader import LogReader, ahead_at, refuse_ahead
from projections.projecting.partition import PartitionProjector
from projections.projecting.pay_tables import PayTables
from projections.storage.port import (
    Checkpoint,
    Difference,
    Generation,
    Overtaken,
    ReadModelAhead,
    ReadModelStore,
    ReadModelUnavailable,
    Run,
)
from projections.tables.rows import Key, Row, key_of

RUN: Final = 4_000
"""Records in one transaction. Measured: larger ones fold no faster, and the live follower waits for each of them."""
WORKERS_MAX: Final = 4
"""Chosen: folding takes 19 µs an event and runs in parallel, storing takes 5 µs and does not."""
LISTED_MAX: Final = 50
_GAP_MAX: Final = 1_000
"""Events to fold during the switch, which blocks all other folding. Chosen: about 50 ms."""
_PASSES_MAX: Final = 50
_ROWS_MAX: Final = 400_000
"""Rows of one table in memory while catching up, over all partitions."""
_POLL_S: Final = 0.2

_log = logging.getLogger(__name__)


class ReadSide(NamedTuple):
    """The log, and the store of the tables that are folded from it."""

    log: LogReader
    store: ReadModelStore


OpenReadSide = Callable[[], AbstractAsyncContextManager[ReadSide]]
"""Opens both. Each worker process calls it, so it must be picklable."""
Progress = Callable[[str, int, int | None], None]
"""Called with the current step, how much of it is done, and of how much (None: unknown)."""


class RowDifference(NamedTuple):
    """A row that differs between the two generations, or that only one of them has."""

    partition: int
    table: str
    owner: str
    """The user or the account; "" if the row belongs to neither."""
    detail: str


class Outcome(NamedTuple):
    """The result of a rebuild. ``differing_in``: table → differing rows; ``differences``: the first of them."""

    generation: int
    switched: bool
    events: int
    differing_in: Mapping[str, int] = {}
    differences: Sequence[RowDifference] = ()
    first: bool = False
    """There was no read model before."""
    mended: Sequence[Difference] = ()
    """The first differences that the background check had found in the dropped rows."""

    @property
    def differing(self) -> int:
        return sum(self.differing_in.values())


class RebuildFailed(LedgerError):
    """A worker process ended before it was done. Its progress is kept."""


async def rebuild(open_side: OpenReadSide, *, workers: int, accept: bool, progress: Progress) -> Outcome:
    """Fold, compare, switch, and drop the previous generation.

    Raises ReadModelAhead, LogDamaged, RebuildFailed, ReadModelUnavailable, LogUnavailable.
    """
    async with open_side() as side:
        return await _Rebuild(side, open_side, workers, progress).run(accept)


async def bring_up(open_side: OpenReadSide, *, workers: int, progress: Progress) -> int:
    """Fold a log that does not change into the live generation, with several processes. Makes the first generation if
    there is none.

    Returns the number of folded events. If it is killed, the next call continues. Raises as ``rebuild``, and
    ReadModelUnavailable if the live generation is of another version of the folds.
    """
    async with open_side() as side:
        return await _Rebuild(side, open_side, workers, progress).bring_up()


class _Rebuild:
    def __init__(self, side: ReadSide, open_side: OpenReadSide, workers: int, progress: Progress) -> None:
        self._log, self._store = side
        self._open_side, self._workers, self._progress = open_side, workers, progress
        self._partitions: list[PartitionProjector] = []

    async def run(self, accept: bool) -> Outcome:
        live = await self._live()
        if live is None:
            return await self._first()
        refuse_ahead(self._log, [checkpoint.head for checkpoint in await self._store.checkpoints(live.number)])
        new = await self._begin(live)
        events = await self._fill(new, await self._seqs(live), building=True)
        self._partitions = await self._open_folders(new)
        await self._catch_up(live, new)
        differing_in, differences = await self._compare(live, new)
        outcome = Outcome(new.number, accept or not differing_in, events, differing_in, differences)
        if not outcome.switched:
            await self._store.drop_generation(new.number)
            return outcome
        await self._catch_up(live, new)
        mended = await self._store.differences(live.number, LISTED_MAX)
        await self._switch(live, new, accept=accept)
        self._progress("dropping the previous tables", 0, None)
        await self._store.drop_generation(live.number)
        return outcome._replace(mended=mended)

    async def _live(self) -> Generation | None:
        return next((one for one in await self._store.generations() if one.status == "live"), None)

    async def _seqs(self, generation: Generation) -> list[int]:
        return [checkpoint.head.seq for checkpoint in await self._store.checkpoints(generation.number)]

    async def _first(self) -> Outcome:
        """Without a generation to compare with, the first one is live from the beginning."""
        made = await self._store.make_generation(VERSION, self._log.partitions, live=True)
        events = await self._fill(made, self._log.ends(), building=False)
        return Outcome(made.number, True, events, first=True)

    async def bring_up(self) -> int:
        live = await self._live()
        if live is None:
            return (await self._first()).events
        if live.version != VERSION:
            raise ReadModelUnavailable(
                f"the read model was folded by version {live.version}, this program has version {VERSION}: "
                "name an empty database, or run `stakelog project rebuild --accept` first"
            )
        refuse_ahead(self._log, [checkpoint.head for checkpoint in await self._store.checkpoints(live.number)])
        return await self._fill(live, self._log.ends(), building=False)

    async def _begin(self, live: Generation) -> Generation:
        """Return the generation of an interrupted rebuild, or a new one. Drop all other unfinished generations."""
        kept: Generation | None = None
        for one in await self._store.generations():
            if one.status == "live":
                continue
            if (
                kept is None
                and one.status == "building"
                and one.version == VERSION
                and await self._can_continue(one, live)
            ):
                kept = one
                _log.info("continuing with generation %d of an interrupted rebuild", one.number)
            else:
                _log.info("dropping generation %d of an interrupted rebuild", one.number)
                await self._store.drop_generation(one.number)
        new = kept or await self._store.make_generation(VERSION, self._log.partitions, live=False)
        # While the tables are empty: making an index of a large table would block the live follower for long.
        # Measured: filling tables with indexes takes a tenth longer than making the indexes at the end.
        await self._store.make_indexes(new.number)
        return new

    async def _can_continue(self, unfinished: Generation, live: Generation) -> bool:
        """Whether this generation is of this log, and not ahead of the live generation."""
        checkpoints = await self._store.checkpoints(unfinished.number)
        try:
            refuse_ahead(self._log, [checkpoint.head for checkpoint in checkpoints])
        except ReadModelAhead:
            return False
        return all(ours.head.seq <= theirs for ours, theirs in zip(checkpoints, await self._seqs(live), strict=True))

    # --- filling ---------------------------------------------------------------------------------------------------

    async def _fill(self, new: Generation, targets: Sequence[int], *, building: bool) -> int:
        """Fold every partition up to its target, whole partitions in parallel processes. Returns the folded
        events."""
        began = await self._seqs(new)
        todo = [partition for partition, seq in enumerate(began) if seq < targets[partition]]
        total, before = sum(targets), sum(began)
        if not todo:
            return 0
        shares = _shares(todo, [target - seq for seq, target in zip(began, targets, strict=True)], self._workers)
        works = [_Work(new.number, [(one, targets[one]) for one in share], building) for share in shares]
        with _workers(self._open_side, works) as workers:
            while not _all_done(workers):
                await asyncio.sleep(_POLL_S)
                self._progress("folding", sum(await self._seqs(new)), total)
        self._progress("folding", total, total)
        return total - before

    async def _open_folders(self, new: Generation) -> list[PartitionProjector]:
        quarantined = await self._store.quarantine(new.number)
        pay_tables = PayTables(self._log.tables)
        return [
            PartitionProjector(
                self._store,
                new.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=max(1_000, _ROWS_MAX // self._log.partitions),
                pay_tables=pay_tables,
            )
            for partition, checkpoint in enumerate(await self._store.checkpoints(new.number))
        ]

    async def _catch_up(self, live: Generation, new: Generation) -> None:
        """Fold what the live generation has more, until the rest is small enough for the switch."""
        for _ in range(_PASSES_MAX):
            seqs = await self._seqs(live)
            behind = sum(seqs) - sum(projector.head.seq for projector in self._partitions)
            if behind <= _GAP_MAX:
                return
            for projector, seq in zip(self._partitions, seqs, strict=True):
                await _fold_to(self._log, self._store, new.number, projector, seq)

    # --- comparing -------------------------------------------------------------------------------------------------

    async def _compare(self, live: Generation, new: Generation) -> tuple[Counter[str], list[RowDifference]]:
        """Return how many rows differ, by table, and the first of them. Each partition is compared at one event."""
        differing, listed = Counter[str](), list[RowDifference]()
        for projector in self._partitions:
            self._progress("comparing", projector.partition, len(self._partitions))
            async with aclosing(_rows_of(self._store, live.number, projector.partition)) as theirs:
                at = await anext(theirs)
                assert isinstance(at, Checkpoint)
                await _fold_to(self._log, self._store, new.number, projector, at.head.seq)
                ours = (await self._store.checkpoints(new.number))[projector.partition]
                if ours.head != at.head:
                    raise LogDamaged(projector.partition, at.head.seq, "another record was folded there")
                if _same(ours, at):
                    continue
                before = differing.total()
                async with aclosing(_rows_of(self._store, new.number, projector.partition)) as mine:
                    await anext(mine)
                    async for difference in _differences(projector.partition, mine, theirs):
                        differing[difference.table] += 1
                        if len(listed) < LISTED_MAX:
                            listed.append(difference)
                if differing.total() == before:
                    for difference in _differing_digests(projector.partition, ours, at):
                        differing[difference.table] += 1
                        listed.append(difference)
        return differing, listed

    # --- switching -------------------------------------------------------------------------------------------------

    async def _switch(self, live: Generation, new: Generation, *, accept: bool) -> None:
        runs: list[tuple[PartitionProjector, Run]] = []

        async def last(checkpoints: Sequence[Checkpoint]) -> Sequence[Run]:
            for projector, checkpoint in zip(self._partitions, checkpoints, strict=True):
                missing = checkpoint.head.seq - projector.head.seq
                if missing > 0:
                    run = await projector.fold(self._log.read(projector.partition, projector.head.seq + 1, missing))
                    if run is None or run.after.head.seq != checkpoint.head.seq:
                        raise LogDamaged(projector.partition, projector.head.seq + 1, "the chain does not continue")
                    runs.append((projector, run))
            return [run for _, run in runs]

        await self._store.switch(live.number, new.number, accept=accept, last=last)


def _same(ours: Checkpoint, theirs: Checkpoint) -> bool:
    nothing = dict.fromkeys((kind.table for kind in ROW_TYPES), 0)
    return {**nothing, **ours.digests} == {**nothing, **theirs.digests}


def _differing_digests(partition: int, ours: Checkpoint, theirs: Checkpoint) -> Iterator[RowDifference]:
    """A row that was changed by hand and then overwritten by an event is right; its running digest stays wrong."""
    for kind in ROW_TYPES:
        if ours.digests.get(kind.table, 0) != theirs.digests.get(kind.table, 0):
            yield RowDifference(partition, kind.table, "", "the rows are the same, their running digest is wrong")


async def _fold_to(
    log: LogReader,
    store: ReadModelStore,
    generation: int,
    projector: PartitionProjector,
    to_seq: int,
    *,
    building: bool = True,
) -> None:
    """Fold the partition up to ``to_seq``, run by run."""
    while (seq := projector.head.seq) < to_seq:
        run = await projector.fold(log.read(projector.partition, seq + 1, min(RUN, to_seq - seq)))
        if run is None:
            raise LogDamaged(projector.partition, seq + 1, "the record does not continue the chain")
        await store.commit(generation, [run], building=building)
        projector.mark_stored(run)


async def _rows_of(
    store: ReadModelStore, generation: int, partition: int
) -> AsyncGenerator["Checkpoint | Row", None]:
    """Yield the checkpoint, then all rows at that checkpoint."""
    is_first = True
    async with aclosing(store.scan(generation, partition)) as pages:
        async for checkpoint, _, page in pages:
            if is_first:
                is_first = False
                yield checkpoint
            for row in page:
                yield row


_ORDER: Final = {kind: number for number, kind in enumerate(ROW_TYPES)}


async def _differences(
    partition: int, ours: "AsyncIterator[Checkpoint | Row]", theirs: "AsyncIterator[Checkpoint | Row]"
) -> AsyncGenerator[RowDifference, None]:
    """Compare row by row; both inputs come table by table in the order of keys."""
    mine, other = await _next(ours), await _next(theirs)
    while mine is not None or other is not None:
        if other is None or (mine is not None and _place(mine) < _place(other)):
            assert mine is not None
            yield _difference(partition, mine, "only in the new rows")
            mine = await _next(ours)
        elif mine is None or _place(other) < _place(mine):
            yield _difference(partition, other, "only in the live rows")
            other = await _next(theirs)
        else:
            if mine != other:
                yield _difference(partition, mine, _changes(other, mine))
            mine, other = await _next(ours), await _next(theirs)


async def _next(rows: "AsyncIterator[Checkpoint | Row]") -> Row | None:
    row = await anext(rows, None)
    assert not isinstance(row, Checkpoint)
    return row


def _place(row: Row) -> tuple[int, Key]:
    return _ORDER[type(row)], key_of(row)


def _difference(partition: int, row: Row, detail: str) -> RowDifference:
    owner = getattr(row, "user_id", getattr(row, "account", ""))
    rest = ", ".join(str(part) for part in key_of(row) if part != owner)
    return RowDifference(partition, row.table, owner, f"{rest}: {detail}" if rest else detail)


def _changes(before: Row, after: Row) -> str:
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return ", ".join(f"{name} {old[name]} → {new[name]}" for name in old if old[name] != new[name])


# --- the worker processes -------------------------------------------------------------------------------------------


class _Work(NamedTuple):
    """What one worker process folds: whole partitions, one after another, each up to its seq."""

    generation: int
    partitions: list[tuple[int, int]]
    building: bool


def _shares(todo: Sequence[int], events: Sequence[int], workers: int) -> list[list[int]]:
    """Divide the partitions among the workers by number of events: the longest first, to the worker with the
    fewest."""
    shares: list[list[int]] = [[] for _ in range(min(workers, len(todo)))]
    loads = [0] * len(shares)
    for partition in sorted(todo, key=lambda one: -events[one]):
        least = loads.index(min(loads))
        shares[least].append(partition)
        loads[least] += events[partition]
    return shares


class _Worker:
    """A worker process."""

    def __init__(self, process: SpawnProcess, receiver: Connection) -> None:
        self.process, self._receiver = process, receiver

    def done(self) -> bool:
        """Whether it is done. Raises the error that it failed with."""
        if self.process.is_alive():
            return False
        if self.process.exitcode == 0:
            return True
        error: LedgerError | None = None
        if self._receiver.poll():
            with suppress(EOFError):
                error = self._receiver.recv()
        raise error or RebuildFailed(
            f"a worker process ended with status {self.process.exitcode}; its progress is kept: run the rebuild again"
        )


def _all_done(workers: Sequence[_Worker]) -> bool:
    """Checks every worker, so that a failed one is noticed before the others are done."""
    return [worker.done() for worker in workers].count(False) == 0


@contextmanager
def _workers(open_side: OpenReadSide, works: Sequence[_Work]) -> Iterator[list[_Worker]]:
    """Start a process for each of ``works``. On exit all of them are ended, done or not."""
    # spawn, not fork: a forked process must not inherit SQLite connections.
    spawn = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    # The workers ignore Ctrl-C: this process handles it and ends them.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for work in works:
            receiver, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_fold_share, args=(open_side, work, sender))
            process.start()
            sender.close()
            workers.append(_Worker(process, receiver))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _fold_share(open_side: OpenReadSide, work: _Work, sender: Connection) -> None:
    """Runs in a worker process. Sends its error to the parent; ends at once when the parent ends."""
    threading.Thread(target=_until_parent_ends, daemon=True).start()
    gc.set_threshold(100_000, 50, 100)  # rows form no cycles
    try:
        asyncio.run(_fold_partitions(open_side, work))
    except LedgerError as error:
        sender.send(error)
        sys.exit(1)


def _until_parent_ends() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # like a kill: the open transaction is rolled back


async def _fold_partitions(open_side: OpenReadSide, work: _Work) -> None:
    async with open_side() as side:
        for partition, to_seq in work.partitions:
            await _fold_partition(side, work, partition, to_seq)


async def _fold_partition(side: ReadSide, work: _Work, partition: int, to_seq: int) -> None:
    log, store = side
    while True:
        quarantined = await store.quarantine(work.generation)
        projector = PartitionProjector(
            store,
            work.generation,
            partition,
            (await store.checkpoints(work.generation))[partition],
            [one for one in quarantined if one.partition == partition],
            pay_tables=PayTables(log.tables),
        )
        if (ahead := ahead_at(log, partition, projector.head)) is not None:
            raise ahead
        try:
            await _fold_to(log, store, work.generation, projector, to_seq, building=work.building)
            return
        except Overtaken:
            continue  # the live generation also has a follower, which was faster
