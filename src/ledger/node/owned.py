"""The partitions that this node owns, each from its gain to its loss.

::

    gained ─► prepare, recover, open ─► commands ─► lost: finish what is in flight, save, drop
                 ▲                        │
                 └── still this node's? ◄─┘ superseded, or stopped by an error

Invariants:
(1) a partition has a writer on this node only between its gain and its loss, and never two;
(2) each of its writers opens it with a generation that is higher than every generation in the log. That is the
    group's generation. Only a group that was created again has a lower one. Then the writer opens with one more than
    the highest generation in the log, but only if the group, read after the log, says that this node owns the
    partition;
(3) a partition that stays through a change of the group keeps its writer, which opens again with the new generation;
(4) gained partitions open independently: one with a long replay does not keep the others closed;
(5) an error of one partition ends no other. An error that means that the log lost or changed records is a disaster:
    the node halts. Events that contradict another partition's (``PartitionsDisagree``) stop their partition alone: if
    they halted the node, each next owner would halt, too, until no node is left;
(6) partitions that are the node's until the process ends (``own_all``) recover together, and none opens before all
    have recovered. No other node can take one over, so any other error that ends one of them halts the node.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ledger import background
from ledger.cluster_ports import Owners
from ledger.errors import DISASTERS, LedgerError, PartitionsDisagree, Superseded
from ledger.node.ports import OtherNodes
from ledger.node.standby import Standbys
from ledger.pacing import Backoff
from ledger.writer.writer import Writer

Prepare = Callable[[int], Awaitable[None]]
"""(partition): make its local state as new as possible without replaying the log. Called before each
``Writer.recover``, while the partition has no writer; it may be cancelled at any moment, as by a crash."""

FINISH_WITHIN_S: Final = 2.0
"""How long the requests in flight may take when a partition is lost. Chosen: the time of about a thousand appends."""

_PAUSE_S_MIN: Final = 0.1
_PAUSE_S_MAX: Final = 30.0
_WELL_AFTER_S: Final = 60.0
"""A partition that has stayed open for this long is tried again at once after its next failure. Chosen."""

_log = logging.getLogger(__name__)


class Takeovers:
    """How many partitions this node has opened, and the seconds from gain to open."""

    def __init__(self) -> None:
        self.number = 0
        self.seconds = 0.0
        self.seconds_last = 0.0

    def add(self, seconds: float) -> None:
        self.number += 1
        self.seconds += seconds
        self.seconds_last = seconds


class OwnedPartitions:
    """``Assignee``: recovers, opens and closes the writers of this node's partitions. ``writers`` is shared with the
    node, and changed by this class only."""

    def __init__(
        self,
        owners: Owners,
        others: OtherNodes,
        writers: dict[int, Writer],
        *,
        make: Callable[[int], Writer],
        prepare: Prepare | None,
        check_tail: Callable[[int], Awaitable[None]],
        save_every: int,
        recovered: Callable[[Writer], None],
        dropped: Callable[[Writer], None],
        disaster: Callable[[int, LedgerError], None],
    ) -> None:
        """``check_tail`` checks the log before a checkpoint, of partitions that are owned until the process ends.
        ``recovered`` is called before a writer starts, ``dropped`` after a writer has ended and was removed."""
        self._owners, self._writers = owners, writers
        self._make, self._prepare, self._check_tail, self._save_every = make, prepare, check_tail, save_every
        self._recovered, self._dropped, self._disaster = recovered, dropped, disaster
        self.standbys = Standbys(
            others,
            make=make,
            prepare=prepare,
            wait_until_unused=self._wait_until_unused,
            save_every=save_every,
            disaster=disaster,
        )
        self._generations: dict[int, int] = {}  # of the partitions that are this node's by agreement
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._retiring: dict[int, asyncio.Task[None]] = {}
        self._backoffs: dict[int, Backoff] = {}
        self._until_the_end = False
        self._joined = False
        self._was_settled = False
        self.takeovers = Takeovers()
        self.replayed = 0
        """Records that ``own_all`` has replayed."""

    @property
    def owned(self) -> int:
        """How many partitions are this node's by agreement."""
        return len(self._generations)

    @property
    def open(self) -> int:
        """How many of them take commands."""
        return sum(self._is_open(partition) for partition in self._generations)

    @property
    def stopped(self) -> list[int]:
        """Those that accept no commands until this process ends: another partition contradicts them."""
        return sorted(partition for partition, writer in self._writers.items() if writer.halted)

    @property
    def settled(self) -> bool:
        """Whether the node has joined, and all its partitions are open or have stopped, but not all have stopped.
        At first also whether its standbys have caught up: in a rolling restart the next node must not stop before
        that."""
        stopped = len(self.stopped)
        if not self._joined or self.open + stopped < len(self._generations) or 0 < stopped == len(self._generations):
            return False
        self._was_settled = self._was_settled or self.standbys.caught_up
        return self._was_settled

    def _is_open(self, partition: int) -> bool:
        writer = self._writers.get(partition)
        return writer is not None and writer.is_open

    # --- Assignee ------------------------------------------------------------------------------------------------

    async def own_all(self, partitions: frozenset[int], generation: int) -> None:
        began_s = time.monotonic()
        writers: list[Writer] = []
        for partition in sorted(partitions):
            await self._check_tail(partition)
            writer = self._make(partition)
            self.replayed += await writer.recover(save_every=self._save_every)
            writers.append(writer)
        self._joined = self._until_the_end = True
        self._generations = dict.fromkeys(partitions, generation)
        self._writers.update((writer.partition, writer) for writer in writers)
        for writer in writers:
            self._recovered(writer)
            await self._save_where_large()
        _log.info(
            "recovered %d partitions, %d records replayed, in %.1f s",
            len(writers),
            self.replayed,
            time.monotonic() - began_s,
        )
        for writer in writers:
            writer.start(generation)

    async def _save_where_large(self) -> None:
        """Called before any writer starts, so that a start without checkpoints needs no more memory than any other
        start."""
        for writer in self._writers.values():
            if writer.state.changes >= self._save_every:
                await writer.store_writes.save_or_warn()

    async def gain(self, partitions: frozenset[int], generation: int) -> None:
        self._joined = True
        new = sorted(partitions - self._generations.keys())
        _log.info("generation %d: this node owns %d partitions, new: %s", generation, len(partitions), new or "none")
        for partition in sorted(partitions):
            kept = partition in self._generations
            self._generations[partition] = generation
            writer = self._writers.get(partition)
            if kept and writer is not None:
                if generation > writer.generation:
                    writer.open_again(generation)
            elif not kept or partition not in self._opening or self._opening[partition].done():
                self._begin_to_open(partition)

    async def lose(self, partitions: frozenset[int]) -> None:
        _log.info("this node no longer owns partitions %s", sorted(partitions))
        await asyncio.gather(*(self._lose(partition) for partition in partitions))

    def stand_by_for(self, partitions: frozenset[int]) -> None:
        self.standbys.stand_by_for(partitions - self._generations.keys())

    def progress(self) -> tuple[dict[int, int], dict[int, int]]:
        reached = {partition: self._writers[partition].head.seq for partition in self._writers}
        owned = {partition: reached.get(partition, 0) for partition in self._generations}
        return owned, self.standbys.ready

    def is_ready_for(self, partition: int) -> bool:
        return self.standbys.has_caught_up(partition)

    # --- losing --------------------------------------------------------------------------------------------------

    async def hand_over_all(self) -> None:
        """Lose every partition that another node can take over."""
        if self._generations and not self._until_the_end:
            await self.lose(frozenset(self._generations))

    async def close(self) -> None:
        """End the standbys, and wait until nothing is being saved."""
        await self.standbys.close()
        if self._retiring:
            await asyncio.wait(self._retiring.values())

    async def _lose(self, partition: int) -> None:
        self._generations.pop(partition, None)
        opening = self._opening.pop(partition, None)
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.release(FINISH_WITHIN_S)
            self._retire(writer, save=True)
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})

    def _retire(self, writer: Writer, *, save: bool) -> None:
        # Nothing cancels this task: the next writer of the partition waits for it.
        self._retiring[writer.partition] = background.start(
            writer.store_writes.retire(save=save), f"retire-{writer.partition}"
        )
        self._dropped(writer)

    async def _wait_until_unused(self, partition: int) -> None:
        """Wait until no writer of this class uses the partition's state."""
        tasks = (self._opening.get(partition), self._retiring.get(partition))
        using = [task for task in tasks if task is not None]
        if using:
            await asyncio.wait(using)

    # --- opening -------------------------------------------------------------------------------------------------

    def ended(self, partition: int, error: LedgerError) -> None:
        """The partition's writer has ended with ``error``."""
        if isinstance(error, PartitionsDisagree):
            _log.error("partition %d has stopped: %s", partition, error)  # its halted writer refuses all requests
            return
        if self._until_the_end or isinstance(error, DISASTERS):
            self._disaster(partition, error)
            return
        writer = self._writers.get(partition)
        if writer is None or not writer.halted:
            return  # it is being lost already
        _log.warning("partition %d is dropped: %s", partition, error)
        del self._writers[partition]
        self._retire(writer, save=isinstance(error, Superseded))
        self._begin_to_open(partition, error)

    def _begin_to_open(self, partition: int, why: LedgerError | None = None) -> None:
        before = self._opening.get(partition)
        if before is not None:
            before.cancel()  # it may wait for the open of a writer that has ended
        self._opening[partition] = background.start(
            self._open_until_done(partition, before, why), f"open-{partition}"
        )

    async def _open_until_done(
        self, partition: int, before: asyncio.Task[None] | None, why: LedgerError | None
    ) -> None:
        """Try until the partition is open, or another node owns it. ``before``: the previous task of this kind;
        ``why``: the error that ended the last writer."""
        for task in (before, self._retiring.get(partition)):
            if task is not None:
                await asyncio.wait({task})
        began_s = time.monotonic()
        while True:
            if why is not None and not isinstance(why, Superseded):
                await asyncio.sleep(self._backoff(partition).next_s())
            try:
                if why is not None and not await self._owners.is_mine(partition):
                    _log.info("another node owns partition %d now, or it is being assigned again", partition)
                    return
                if await self._open(partition):
                    self.takeovers.add(time.monotonic() - began_s)
                return
            except DISASTERS as error:
                self._disaster(partition, error)
                return
            except LedgerError as error:
                why = error
                _log.warning("partition %d cannot be opened yet: %s", partition, error)
            except Exception as error:  # noqa: BLE001 - a partition that cannot be opened must not close others
                _log.exception("partition %d cannot be opened", partition)
                why = LedgerError(repr(error))

    async def _open(self, partition: int) -> bool:
        """Whether the partition has been opened. Raises LedgerError."""
        writer = await self.standbys.take(partition)
        if writer is not None:
            await writer.follow(save_every=self._save_every)
        else:
            if self._prepare is not None:
                await self._prepare(partition)
            writer = self._make(partition)
            await writer.recover(save_every=self._save_every)
        generation = self._generations[partition]
        if generation <= writer.highest_generation:
            if not await self._owners.is_mine(partition):
                return False
            generation = writer.highest_generation + 1
        self._writers[partition] = writer
        self._recovered(writer)
        writer.start(generation, strictly=True)
        await writer.opened.wait()  # cancelled where the writer ends before
        return True

    def _backoff(self, partition: int) -> Backoff:
        backoff = self._backoffs.get(partition)
        if backoff is None:
            backoff = self._backoffs[partition] = Backoff(_PAUSE_S_MIN, _PAUSE_S_MAX, well_after_s=_WELL_AFTER_S)
        return backoff
