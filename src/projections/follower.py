"""The follower: folds what the log has and the live generation has not, for as long as it runs.

Truths:
(1) it folds from where the tables say they are, which must be on the log: a checkpoint that the log does not hold is
    ``ReadModelAhead``, never a reason to begin anew;
(2) the runs of a round, of whatever partitions, are stored in one transaction with their checkpoints, or not at all;
    whatever went wrong, the next round begins from the tables again;
(3) any number of followers may run at once: the checkpoints' compare-and-set lets one of them through;
(4) a generation that other folds filled is left as it is; a rebuild makes the next one;
(5) tables that are deleted or exchanged meanwhile are noticed within about a second, also where nothing new arrives;
(6) the cache and the live feed are told of a commit after it is through, and before the next one.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from ledger.ports import LogDamaged, LogUnavailable
from ledger.record import Head, sha256_hex
from projections.after_commit import AfterCommit
from projections.folding import PartitionFolder
from projections.folds import VERSION
from projections.store import (
    Generation,
    Overtaken,
    Quarantined,
    ReadModelAhead,
    ReadModelStore,
    ReadModelUnavailable,
    Run,
    Switched,
)

BATCH: Final = 4_000
"""Records of all partitions in one transaction. Chosen: some 100 ms of work, during which nobody else can write."""
_ROWS_KEPT: Final = 48_000
"""Rows of one table kept in memory, over all partitions; the others are read again when they change. Chosen: what
users who are about play with, in 100 MB at the most."""
# Chosen: what is visible is some 10 ms behind what is acknowledged, and an idle follower takes no CPU to speak of.
_BUSY_PAUSE_S: Final = 0.004
_IDLE_PAUSE_S: Final = 0.02
_WAITING_PAUSE_S: Final = 0.5
_RETRY_S_MAX: Final = 2.0
_LOOK_S: Final = 1.0
"""How often a follower with nothing to do looks whether its tables are still there. Chosen: a look is some 20 µs."""
_WHAT_TO_DO: Final = (
    "Restore the log; only if what is missing is known to be lost, delete the read model: it is made of the log anew"
)

_log = logging.getLogger(__name__)


class LogReader(Protocol):
    """The log, read from its files by another process than the one that writes it. Blocks; called in no hurry.

    All methods raise LogUnavailable where later may be better.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the log was created with."""
        ...

    def changed(self) -> bool:
        """Whether anything may have been appended since this was asked last. Costs next to nothing."""
        ...

    def ends(self) -> list[int]:
        """Every partition's last seq, 0 while it is empty."""
        ...

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """At most ``limit`` records from ``from_seq`` on, one a seq; [] past the end. Raises LogDamaged."""
        ...

    def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


def refuse_ahead(log: LogReader, heads: Sequence[Head]) -> None:
    """Raise ReadModelAhead unless every one of ``heads``, the read model's, is on the log."""
    for ahead in every_ahead(log, heads):
        raise ahead


def every_ahead(log: LogReader, heads: Sequence[Head]) -> Iterator[ReadModelAhead]:
    """For each partition whose head, the read model's, is not on the log, why."""
    if len(heads) != log.partitions:
        partition = min(len(heads), log.partitions)
        seq = heads[partition].seq if partition < len(heads) else 0
        reason = f"it was made of a log of {len(heads)} partitions, this one has {log.partitions}. {_WHAT_TO_DO}"
        yield ReadModelAhead(partition, seq, reason)
        return
    for partition, head in enumerate(heads):
        if head.seq == 0:
            continue
        there = log.read(partition, head.seq, 1)
        if not there:
            yield ReadModelAhead(partition, head.seq, f"the log ends before it: it got shorter. {_WHAT_TO_DO}")
        elif sha256_hex(there[0]) != head.sha256:
            reason = f"the log holds another record there, it is not the log that was folded. {_WHAT_TO_DO}"
            yield ReadModelAhead(partition, head.seq, reason)


class Follower:
    """Follows ``log`` into ``store``. One coroutine at a time; blocks while it folds and stores a batch."""

    def __init__(
        self, log: LogReader, store: ReadModelStore, *, batch: int = BATCH, after: AfterCommit | None = None
    ) -> None:
        """``after`` is told of every commit; None where there is nobody to tell."""
        self._log, self._store, self._batch, self._after = log, store, batch, after
        self._generation: Generation | None = None
        self._folders: list[PartitionFolder] = []
        self._told: Generation | None = None
        self._retaken: set[int] = set()
        self._more = True
        self._stands_still = False
        self._look_at_s = 0.0

    @property
    def generation(self) -> Generation | None:
        """The one that is followed; None where there is none yet, or other folds filled the live one."""
        return self._generation

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop``. Raises ReadModelAhead, LogDamaged: disasters that no retry can mend."""
        pause_s = _BUSY_PAUSE_S
        while not stop.is_set():
            if await self._patiently(stop):
                pause_s = 0.0 if self._more else _BUSY_PAUSE_S
            elif self._stands_still:
                pause_s = _WAITING_PAUSE_S
            else:
                pause_s = min(max(pause_s, _BUSY_PAUSE_S) * 1.5, _IDLE_PAUSE_S)
            await _pause(stop, pause_s)

    async def _patiently(self, stop: asyncio.Event) -> bool:
        """A step, tried until it is possible; False also where ``stop`` came first."""
        try:
            return await self.step()
        except (ReadModelUnavailable, LogUnavailable) as error:
            _log.warning("%s; trying again", error)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((ReadModelUnavailable, LogUnavailable)),
            wait=wait_exponential(multiplier=0.05, max=_RETRY_S_MAX),
            sleep=lambda seconds: _pause(stop, seconds),
            stop=lambda _: stop.is_set(),
            before_sleep=_still_waiting,
            retry_error_callback=lambda _: False,
        ):
            with attempt:
                stepped = await self.step()
                _log.info("the read model is followed again")
                return stepped
        return False

    async def step(self) -> bool:
        """Fold at most one batch of what is new; whether anything was done.

        Raises ReadModelAhead, LogDamaged, and, with nothing stored, ReadModelUnavailable, LogUnavailable.
        """
        try:
            if self._generation is None:
                self._generation = await self._take_up()
            if self._generation is None:
                return False
            if not self._log.changed() and not self._more:
                await self._look()
                if self._after is not None:
                    await self._after.idle()
                return False
            return await self._fold(self._generation)
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
        self._generation, self._folders, self._more = None, [], True
        if self._after is not None:
            self._after.forget()

    # --- where to begin ------------------------------------------------------------------------------------------

    async def _take_up(self) -> Generation | None:
        """The live generation, with its folders; None where others fill it."""
        store, log = self._store, self._log
        live = next((one for one in await store.generations() if one.status == "live"), None)
        if live is None:
            live = await store.make_generation(VERSION, log.partitions, live=True)
        checkpoints = await store.checkpoints(live.number)
        refuse_ahead(log, [checkpoint.head for checkpoint in checkpoints])
        self._stands_still = live.version != VERSION
        if self._stands_still:
            self._tell(live)
            return None
        quarantined = await store.quarantine(live.number)
        self._folders = [
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
        if live.number not in self._retaken:
            for one in quarantined:
                await self._retake(live, one)
            self._retaken.add(live.number)
        if self._after is not None:
            await self._after.standing(live, {folder.partition: folder.checkpoint for folder in self._folders})
        if self._told != live:
            self._told = live
            behind = sum(log.ends()) - sum(checkpoint.head.seq for checkpoint in checkpoints)
            _log.info("following into generation %d, %d events behind", live.number, behind)
        return live

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

    async def _retake(self, live: Generation, one: Quarantined) -> None:
        """Take what is held of a user, in order, as far as it can be digested now."""
        folder = self._folders[one.partition]
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

    # --- folding -------------------------------------------------------------------------------------------------

    async def _fold(self, live: Generation) -> bool:
        ends = self._log.ends()
        behind = [folder for folder in self._folders if self._is_behind(folder, ends[folder.partition])]
        if not behind:
            self._more = False
            return False
        share = max(1, self._batch // len(behind))
        folded = [(folder, await self._run(folder, share)) for folder in behind]
        await self._commit(live, [run for _, run in folded])
        for folder, run in folded:
            folder.stored(run)
            for one in run.quarantined:
                _log.error("%s", _standing_still(one))
        self._more = any(folder.head.seq < ends[folder.partition] for folder in behind)
        return True

    async def _commit(self, live: Generation, runs: Sequence[Run]) -> None:
        await self._store.commit(live.number, runs)
        if self._after is not None:
            await self._after.touched(live, runs)

    def _is_behind(self, folder: PartitionFolder, end: int) -> bool:
        if end < folder.head.seq:
            reason = f"the log ends at seq {end}: it got shorter. {_WHAT_TO_DO}"
            raise ReadModelAhead(folder.partition, folder.head.seq, reason)
        return end > folder.head.seq

    async def _run(self, folder: PartitionFolder, share: int) -> Run:
        seq = folder.head.seq + 1
        run = await folder.fold(self._log.read(folder.partition, seq, share))
        if run is None:
            # One writer, one record a seq: nothing that comes later can be what is missing here.
            raise LogDamaged(folder.partition, seq, "the record does not continue the chain")
        return run


def _standing_still(one: Quarantined) -> str:
    who = f"user {one.user_id} of partition {one.partition}"
    return f"{who} stands still at seq {one.seq} in the read model: {one.reason}"


def _still_waiting(state: RetryCallState) -> None:
    outcome = state.outcome
    if outcome is not None and state.attempt_number % 10 == 0:
        _log.warning("%s; tried %d times", outcome.exception(), state.attempt_number)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, and wake up where ``stop`` comes."""
    if seconds <= _IDLE_PAUSE_S:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
