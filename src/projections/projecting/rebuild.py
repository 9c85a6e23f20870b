"""A new generation beside the live one, straight from the log, that takes its place in one transaction.

Truths:
(1) until the switch the live generation is only read: a rebuild that is killed, refused or given up changes nothing
    that anybody reads;
(2) the new generation is never ahead of the live one, and at the switch both are at the same event of every
    partition, so nobody who has read a position meets an older one;
(3) what the tables hold says how far a rebuild has come: one that begins finds what another left, and goes on.
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

from ledger.ports import LedgerError, LogDamaged
from projections.models import ROW_TYPES, VERSION
from projections.projecting.log_reader import LogReader, ahead_at, refuse_ahead
from projections.projecting.partition import PartitionFolder
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
"""Records in one transaction. Measured: larger ones fold no faster, and the live follower waits for each."""
WORKERS_MAX: Final = 4
"""Chosen: folding is 19 µs an event and runs beside others, storing is 5 µs and does not."""
LISTED_MAX: Final = 50
_GAP_MAX: Final = 1_000
"""Events that are folded while nobody else can. Chosen: some 50 ms."""
_PASSES_MAX: Final = 50
_ROWS_KEPT: Final = 400_000
"""Rows of one table kept in memory while catching up, over all partitions."""
_LOOK_S: Final = 0.2

_log = logging.getLogger(__name__)


class ReadSide(NamedTuple):
    """The log, and the tables made of it."""

    log: LogReader
    store: ReadModelStore


OpenReadSide = Callable[[], AbstractAsyncContextManager[ReadSide]]
"""Opens both; called in every worker, so it must be picklable."""
Progress = Callable[[str, int, int | None], None]
"""Told what is being done, and how much of how much of it is."""


class RowDifference(NamedTuple):
    """A row that the live generation has otherwise, or not at all, or that only it has."""

    partition: int
    table: str
    place: str
    """The user, or the account; "" where the row belongs to neither."""
    detail: str


class Outcome(NamedTuple):
    """What became of a rebuild. ``differing_in`` counts rows, ``differences`` are the first of them."""

    generation: int
    switched: bool
    events: int
    differing_in: Mapping[str, int] = {}
    differences: Sequence[RowDifference] = ()
    first: bool = False
    """There was no read model: this one is the first."""
    mended: Sequence[Difference] = ()
    """What the check had found in the rows that are gone now: the first of it."""

    @property
    def differing(self) -> int:
        return sum(self.differing_in.values())


class RebuildFailed(LedgerError):
    """A worker ended before its work was done; what it has done is kept."""


async def rebuild(open_side: OpenReadSide, *, workers: int, accept: bool, progress: Progress) -> Outcome:
    """Build, compare, switch, and drop what was live before.

    Raises ReadModelAhead, LogDamaged, RebuildFailed, ReadModelUnavailable, LogUnavailable.
    """
    async with open_side() as side:
        return await _Rebuild(side, open_side, workers, progress).run(accept)


async def bring_up(open_side: OpenReadSide, *, workers: int, progress: Progress) -> int:
    """Fold what the live generation lacks of a log that stands still, by processes; make it where there is none.

    Answers the events folded. One that is killed is gone on with. Raises as ``rebuild`` does; ReadModelUnavailable
    where the live generation is of another version of the folds.
    """
    async with open_side() as side:
        return await _Rebuild(side, open_side, workers, progress).bring_up()


class _Rebuild:
    def __init__(self, side: ReadSide, open_side: OpenReadSide, workers: int, progress: Progress) -> None:
        self._log, self._store = side
        self._open_side, self._workers, self._progress = open_side, workers, progress
        self._folders: list[PartitionFolder] = []

    async def run(self, accept: bool) -> Outcome:
        live = await self._live()
        if live is None:
            return await self._first()
        refuse_ahead(self._log, [checkpoint.head for checkpoint in await self._store.checkpoints(live.number)])
        new = await self._begin(live)
        events = await self._fill(new, await self._seqs(live), building=True)
        self._folders = await self._open_folders(new)
        await self._catch_up(live, new)
        differing_in, differences = await self._compare(live, new)
        outcome = Outcome(new.number, accept or not differing_in, events, differing_in, differences)
        if not outcome.switched:
            await self._store.drop_generation(new.number)
            return outcome
        await self._catch_up(live, new)
        mended = await self._store.differences(live.number, LISTED_MAX)
        await self._switch(live, new, accept=accept)
        self._progress("dropping the tables of before", 0, None)
        await self._store.drop_generation(live.number)
        return outcome._replace(mended=mended)

    async def _live(self) -> Generation | None:
        return next((one for one in await self._store.generations() if one.status == "live"), None)

    async def _seqs(self, generation: Generation) -> list[int]:
        return [checkpoint.head.seq for checkpoint in await self._store.checkpoints(generation.number)]

    async def _first(self) -> Outcome:
        """There is nothing to put beside, or to compare: the first generation is live from the beginning."""
        made = await self._store.make_generation(VERSION, self._log.partitions, live=True)
        events = await self._fill(made, self._log.ends(), building=False)
        return Outcome(made.number, True, events, first=True)

    async def bring_up(self) -> int:
        live = await self._live()
        if live is None:
            return (await self._first()).events
        if live.version != VERSION:
            raise ReadModelUnavailable(
                f"the read model there was folded by version {live.version}, this program has version {VERSION}: "
                "name an empty database, or run `stakelog project rebuild --accept` first"
            )
        refuse_ahead(self._log, [checkpoint.head for checkpoint in await self._store.checkpoints(live.number)])
        return await self._fill(live, self._log.ends(), building=False)

    async def _begin(self, live: Generation) -> Generation:
        """The generation to fill: what an earlier rebuild left, or a new one. What else it left is dropped."""
        kept: Generation | None = None
        for one in await self._store.generations():
            if one.status == "live":
                continue
            if (
                kept is None
                and one.status == "building"
                and one.version == VERSION
                and await self._may_go_on(one, live)
            ):
                kept = one
                _log.info("going on with generation %d, which an earlier rebuild left", one.number)
            else:
                _log.info("dropping generation %d, which an earlier rebuild left", one.number)
                await self._store.drop_generation(one.number)
        new = kept or await self._store.make_generation(VERSION, self._log.partitions, live=False)
        # While they are empty: an index of a large table would hold the live follower up for as long as it is made.
        # Measured: filling tables that have their indexes takes a tenth more than making those in the end.
        await self._store.make_indexes(new.number)
        return new

    async def _may_go_on(self, left: Generation, live: Generation) -> bool:
        """Whether what is there is of this log, and not ahead of the live generation."""
        checkpoints = await self._store.checkpoints(left.number)
        try:
            refuse_ahead(self._log, [checkpoint.head for checkpoint in checkpoints])
        except ReadModelAhead:
            return False
        return all(ours.head.seq <= theirs for ours, theirs in zip(checkpoints, await self._seqs(live), strict=True))

    # --- filling ---------------------------------------------------------------------------------------------------

    async def _fill(self, new: Generation, targets: Sequence[int], *, building: bool) -> int:
        """Every partition up to its target, by processes that take whole partitions; answers the events folded."""
        began = await self._seqs(new)
        todo = [partition for partition, seq in enumerate(began) if seq < targets[partition]]
        total, before = sum(targets), sum(began)
        if not todo:
            return 0
        shares = _shares(todo, [target - seq for seq, target in zip(began, targets, strict=True)], self._workers)
        works = [_Work(new.number, [(one, targets[one]) for one in share], building) for share in shares]
        with _workers(self._open_side, works) as workers:
            while not _all_done(workers):
                await asyncio.sleep(_LOOK_S)
                self._progress("folding", sum(await self._seqs(new)), total)
        self._progress("folding", total, total)
        return total - before

    async def _open_folders(self, new: Generation) -> list[PartitionFolder]:
        quarantined = await self._store.quarantine(new.number)
        return [
            PartitionFolder(
                self._store,
                new.number,
                partition,
                checkpoint,
                [one for one in quarantined if one.partition == partition],
                rows_max=max(1_000, _ROWS_KEPT // self._log.partitions),
            )
            for partition, checkpoint in enumerate(await self._store.checkpoints(new.number))
        ]

    async def _catch_up(self, live: Generation, new: Generation) -> None:
        """What was folded into the live generation meanwhile, until what is left can be folded in the switch."""
        for _ in range(_PASSES_MAX):
            seqs = await self._seqs(live)
            behind = sum(seqs) - sum(folder.head.seq for folder in self._folders)
            if behind <= _GAP_MAX:
                return
            for folder, seq in zip(self._folders, seqs, strict=True):
                await _fold_to(self._log, self._store, new.number, folder, seq)

    # --- comparing -------------------------------------------------------------------------------------------------

    async def _compare(self, live: Generation, new: Generation) -> tuple[Counter[str], list[RowDifference]]:
        """How many rows differ, table by table, and the first of them; each partition is compared at one event."""
        differing, listed = Counter[str](), list[RowDifference]()
        for folder in self._folders:
            self._progress("comparing", folder.partition, len(self._folders))
            async with aclosing(_rows_of(self._store, live.number, folder.partition)) as theirs:
                at = await anext(theirs)
                assert isinstance(at, Checkpoint)
                await _fold_to(self._log, self._store, new.number, folder, at.head.seq)
                ours = (await self._store.checkpoints(new.number))[folder.partition]
                if ours.head != at.head:
                    raise LogDamaged(folder.partition, at.head.seq, "it was folded with another record there")
                if _same(ours, at):
                    continue
                before = differing.total()
                async with aclosing(_rows_of(self._store, new.number, folder.partition)) as mine:
                    await anext(mine)
                    async for difference in _differences(folder.partition, mine, theirs):
                        differing[difference.table] += 1
                        if len(listed) < LISTED_MAX:
                            listed.append(difference)
                if differing.total() == before:
                    for difference in _differing_digests(folder.partition, ours, at):
                        differing[difference.table] += 1
                        listed.append(difference)
        return differing, listed

    # --- switching -------------------------------------------------------------------------------------------------

    async def _switch(self, live: Generation, new: Generation, *, accept: bool) -> None:
        runs: list[tuple[PartitionFolder, Run]] = []

        async def last(checkpoints: Sequence[Checkpoint]) -> Sequence[Run]:
            for folder, checkpoint in zip(self._folders, checkpoints, strict=True):
                missing = checkpoint.head.seq - folder.head.seq
                if missing > 0:
                    run = await folder.fold(self._log.read(folder.partition, folder.head.seq + 1, missing))
                    if run is None or run.after.head.seq != checkpoint.head.seq:
                        raise LogDamaged(folder.partition, folder.head.seq + 1, "the chain does not go on")
                    runs.append((folder, run))
            return [run for _, run in runs]

        await self._store.switch(live.number, new.number, accept=accept, last=last)


def _same(ours: Checkpoint, theirs: Checkpoint) -> bool:
    nothing = dict.fromkeys((kind.table for kind in ROW_TYPES), 0)
    return {**nothing, **ours.digests} == {**nothing, **theirs.digests}


def _differing_digests(partition: int, ours: Checkpoint, theirs: Checkpoint) -> Iterator[RowDifference]:
    """Rows that were changed by hand and then by an event are right again; their running digest stays wrong."""
    for kind in ROW_TYPES:
        if ours.digests.get(kind.table, 0) != theirs.digests.get(kind.table, 0):
            yield RowDifference(partition, kind.table, "", "the rows are the same, their running digest is wrong")


async def _fold_to(
    log: LogReader,
    store: ReadModelStore,
    generation: int,
    folder: PartitionFolder,
    to_seq: int,
    *,
    building: bool = True,
) -> None:
    """Fold the partition up to ``to_seq``, run by run."""
    while (seq := folder.head.seq) < to_seq:
        run = await folder.fold(log.read(folder.partition, seq + 1, min(RUN, to_seq - seq)))
        if run is None:
            raise LogDamaged(folder.partition, seq + 1, "the record does not continue the chain")
        await store.commit(generation, [run], building=building)
        folder.stored(run)


async def _rows_of(
    store: ReadModelStore, generation: int, partition: int
) -> AsyncGenerator["Checkpoint | Row", None]:
    """The checkpoint, then the rows that were there at that moment."""
    told = False
    async with aclosing(store.scan(generation, partition)) as pages:
        async for checkpoint, _, page in pages:
            if not told:
                told = True
                yield checkpoint
            for row in page:
                yield row


_ORDER: Final = {kind: number for number, kind in enumerate(ROW_TYPES)}


async def _differences(
    partition: int, ours: "AsyncIterator[Checkpoint | Row]", theirs: "AsyncIterator[Checkpoint | Row]"
) -> AsyncGenerator[RowDifference, None]:
    """Row by row; both come table by table in the order of their keys."""
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
    place = getattr(row, "user_id", getattr(row, "account", ""))
    rest = ", ".join(str(part) for part in key_of(row) if part != place)
    return RowDifference(partition, row.table, place, f"{rest}: {detail}" if rest else detail)


def _changes(before: Row, after: Row) -> str:
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return ", ".join(f"{name} {old[name]} → {new[name]}" for name in old if old[name] != new[name])


# --- the workers ---------------------------------------------------------------------------------------------------


class _Work(NamedTuple):
    """What one worker folds: whole partitions, one after another, each up to its seq."""

    generation: int
    partitions: list[tuple[int, int]]
    building: bool


def _shares(todo: Sequence[int], events: Sequence[int], workers: int) -> list[list[int]]:
    """Partitions for each worker, so that all have about as many events: the longest first, to whoever has least."""
    shares: list[list[int]] = [[] for _ in range(min(workers, len(todo)))]
    loads = [0] * len(shares)
    for partition in sorted(todo, key=lambda one: -events[one]):
        least = loads.index(min(loads))
        shares[least].append(partition)
        loads[least] += events[partition]
    return shares


class _Worker:
    """A process that does a share of the work."""

    def __init__(self, process: SpawnProcess, heard: Connection) -> None:
        self.process, self._heard = process, heard

    def done(self) -> bool:
        """Raises what it failed with."""
        if self.process.is_alive():
            return False
        if self.process.exitcode == 0:
            return True
        error: LedgerError | None = None
        if self._heard.poll():
            with suppress(EOFError):
                error = self._heard.recv()
        raise error or RebuildFailed(
            f"a process that folds ended with status {self.process.exitcode}; what it did is kept: run it again"
        )


def _all_done(workers: Sequence[_Worker]) -> bool:
    """Asks every one, so that none that failed is waited for until the others are done."""
    return [worker.done() for worker in workers].count(False) == 0


@contextmanager
def _workers(open_side: OpenReadSide, works: Sequence[_Work]) -> Iterator[list[_Worker]]:
    """A process for each of ``works``, all of them gone in the end, whether they were done or not."""
    # spawn: a fork would take SQLite's connections along, which must not be.
    spawn = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    # Whoever is started here takes no notice of a Ctrl-C: that is for us, and ends them.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for work in works:
            heard, said = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_fold_share, args=(open_side, work, said))
            process.start()
            said.close()
            workers.append(_Worker(process, heard))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _fold_share(open_side: OpenReadSide, work: _Work, said: Connection) -> None:
    """In a worker. What it fails with is said; the process ends at once where its parent does."""
    threading.Thread(target=_until_parent_ends, daemon=True).start()
    gc.set_threshold(100_000, 50, 100)  # rows form no cycles
    try:
        asyncio.run(_fold_partitions(open_side, work))
    except LedgerError as error:
        said.send(error)
        sys.exit(1)


def _until_parent_ends() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # as a kill would: what was under way is rolled back


async def _fold_partitions(open_side: OpenReadSide, work: _Work) -> None:
    async with open_side() as side:
        for partition, to_seq in work.partitions:
            await _fold_partition(side, work, partition, to_seq)


async def _fold_partition(side: ReadSide, work: _Work, partition: int, to_seq: int) -> None:
    log, store = side
    while True:
        quarantined = await store.quarantine(work.generation)
        folder = PartitionFolder(
            store,
            work.generation,
            partition,
            (await store.checkpoints(work.generation))[partition],
            [one for one in quarantined if one.partition == partition],
        )
        if (ahead := ahead_at(log, partition, folder.head)) is not None:
            raise ahead
        try:
            await _fold_to(log, store, work.generation, folder, to_seq, building=work.building)
            return
        except Overtaken:
            continue  # a generation that is live already has its follower, too
