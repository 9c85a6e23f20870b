"""The partitions that are a node's by agreement, each from its gain to its loss.

::

    gained ─► prepare, recover, open ─► commands ─► lost: finish what is in flight, save, forget
                 ▲                        │
                 └── still this node's? ◄─┘ superseded, or it could not go on

Truths:
(1) a partition has a writer here only between its gain and its loss, and never two;
(2) each of its writers opens it with a generation that is higher than every one in the log: its group's, or, where
    that is lower because the group was made anew, one more than the highest, and then only if the group, asked after
    the highest was read, says that the partition is this node's;
(3) one that stays through a change of the group goes on as it is, and opens again with the new generation;
(4) partitions are gained beside each other: a long one keeps no short one closed;
(5) what ends a single partition ends nothing else. What means that the log lost or changed records is a disaster,
    and the node's to stop for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.errors import DISASTERS, LedgerError, Superseded
from ledger.node.ports import Owners
from ledger.node.standby import OpenFollowUps, Standbys
from ledger.writer.writer import Writer

Prepare = Callable[[int], Awaitable[None]]
"""(partition): bring its state on this machine as far as can be had without replaying the log. Called before each
``Writer.recover``, while the partition has no writer; may be cancelled at any moment, as by a crash."""

FINISH_WITHIN_S: Final = 2.0
"""How long what is in flight may take when a partition is lost. Chosen: a thousand usual appends."""

_PAUSE_S_MIN: Final = 0.1
_PAUSE_S_MAX: Final = 30.0
_WENT_WELL_S: Final = 60.0

_log = logging.getLogger(__name__)


class Takeovers:
    """How many partitions were opened here, and how long each took from gain to open, in seconds."""

    def __init__(self) -> None:
        self.number = 0
        self.seconds = 0.0
        self.seconds_last = 0.0

    def add(self, seconds: float) -> None:
        self.number += 1
        self.seconds += seconds
        self.seconds_last = seconds


class OwnedPartitions:
    """Gains and loses partitions as the owners' group says. ``writers`` is shared with the node, and changed here."""

    def __init__(
        self,
        owners: Owners,
        writers: dict[int, Writer],
        *,
        make: Callable[[int], Writer],
        prepare: Prepare | None,
        save_every: int,
        open_follow_ups: OpenFollowUps,
        recovered: Callable[[Writer], None],
        dropped: Callable[[Writer], None],
        disaster: Callable[[int, LedgerError], None],
    ) -> None:
        """``open_follow_ups``: see ``Standbys``. ``recovered`` is called before a writer starts, ``dropped`` after a
        writer has ended and was removed."""
        self._owners, self._writers = owners, writers
        self._make, self._prepare, self._save_every = make, prepare, save_every
        self._recovered, self._dropped, self._disaster = recovered, dropped, disaster
        self.heirs = Standbys(
            make=make,
            prepare=prepare,
            free=self._free,
            save_every=save_every,
            open_follow_ups=open_follow_ups,
            disaster=disaster,
        )
        self._mine: dict[int, int] = {}
        self._taking: dict[int, asyncio.Task[None]] = {}
        self._retiring: dict[int, asyncio.Task[None]] = {}
        self._pauses: dict[int, tuple[float, float]] = {}
        self._joined = False
        self._was_settled = False
        self.takeovers = Takeovers()

    @property
    def owned(self) -> int:
        """How many partitions are this node's by agreement."""
        return len(self._mine)

    @property
    def open(self) -> int:
        """In how many of them commands are taken."""
        return sum(self._is_open(partition) for partition in self._mine)

    @property
    def settled(self) -> bool:
        """Whether the group was joined, and every partition that is this node's is open; at first also whether it is
        ready for what it inherits: whoever restarts nodes one by one must not stop the next before."""
        if not self._joined or self.open < len(self._mine):
            return False
        self._was_settled = self._was_settled or self.heirs.caught_up
        return self._was_settled

    def _is_open(self, partition: int) -> bool:
        writer = self._writers.get(partition)
        return writer is not None and writer.is_open

    # --- what the group says -------------------------------------------------------------------------------------

    async def gain(self, partitions: frozenset[int], generation: int) -> None:
        self._joined = True
        new = sorted(partitions - self._mine.keys())
        _log.info("generation %d: %d partitions are here, new: %s", generation, len(partitions), new or "none")
        for partition in sorted(partitions):
            kept = partition in self._mine
            self._mine[partition] = generation
            writer = self._writers.get(partition)
            if kept and writer is not None:
                if generation > writer.generation:
                    writer.open_again(generation)
            elif not kept or partition not in self._taking or self._taking[partition].done():
                self._begin_to_take(partition)

    async def lose(self, partitions: frozenset[int]) -> None:
        _log.info("no longer here: %s", sorted(partitions))
        await asyncio.gather(*(self._lose(partition) for partition in partitions))

    async def lose_all(self) -> None:
        if self._mine:
            await self.lose(frozenset(self._mine))

    def inherit(self, partitions: frozenset[int]) -> None:
        self.heirs.inherit(partitions - self._mine.keys())

    def holds(self) -> tuple[dict[int, int], dict[int, int]]:
        reached = {partition: self._writers[partition].head.seq for partition in self._writers}
        return {partition: reached.get(partition, 0) for partition in self._mine}, self.heirs.ready

    def is_ready_for(self, partition: int) -> bool:
        return self.heirs.has_caught_up(partition)

    async def _free(self, partition: int) -> None:
        """Wait until nothing here uses the partition's state."""
        using = [task for task in (self._taking.get(partition), self._retiring.get(partition)) if task is not None]
        if using:
            await asyncio.wait(using)

    async def settle(self) -> None:
        """Follow nothing any more, and wait for what is being saved."""
        await self.heirs.close()
        if self._retiring:
            await asyncio.wait(self._retiring.values())

    async def _lose(self, partition: int) -> None:
        self._mine.pop(partition, None)
        taking = self._taking.pop(partition, None)
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.release(FINISH_WITHIN_S)
            self._retire(writer, save=True)
        if taking is not None:
            taking.cancel()
            await asyncio.wait({taking})

    def _retire(self, writer: Writer, *, save: bool) -> None:
        # A task that nothing cancels: whoever takes the partition next waits for it.
        self._retiring[writer.partition] = asyncio.get_running_loop().create_task(
            writer.retire(save=save), name=f"retire-{writer.partition}"
        )
        self._dropped(writer)

    # --- taking one ----------------------------------------------------------------------------------------------

    def ended(self, partition: int, error: LedgerError) -> None:
        """The partition's writer could not go on."""
        if isinstance(error, DISASTERS):
            self._disaster(partition, error)
            return
        writer = self._writers.get(partition)
        if writer is None or not writer.halted:
            return  # it is being lost already
        _log.warning("partition %d is dropped: %s", partition, error)
        del self._writers[partition]
        self._retire(writer, save=isinstance(error, Superseded))
        self._begin_to_take(partition, error)

    def _begin_to_take(self, partition: int, why: LedgerError | None = None) -> None:
        before = self._taking.get(partition)
        if before is not None:
            before.cancel()  # it may wait for the open of a writer that has ended
        self._taking[partition] = asyncio.get_running_loop().create_task(
            self._take(partition, before, why), name=f"take-{partition}"
        )

    async def _take(self, partition: int, before: asyncio.Task[None] | None, why: LedgerError | None) -> None:
        """Until the partition is open here. ``before``: whoever tried until now; ``why``: what ended the last one."""
        for task in (before, self._retiring.get(partition)):
            if task is not None:
                await asyncio.wait({task})
        began_s = time.monotonic()
        while True:
            if why is not None and not isinstance(why, Superseded):
                await asyncio.sleep(self._pause_s(partition))
            try:
                if why is not None and not await self._owners.is_mine(partition):
                    _log.info("partition %d is another node's, or will be given anew", partition)
                    return
                if await self._open(partition):
                    self.takeovers.add(time.monotonic() - began_s)
                return
            except DISASTERS as error:
                self._disaster(partition, error)
                return
            except LedgerError as error:
                why = error
                _log.warning("partition %d cannot be taken yet: %s", partition, error)
            except Exception as error:  # noqa: BLE001 - a partition that cannot be taken closes no other
                _log.exception("partition %d cannot be taken", partition)
                why = LedgerError(repr(error))

    async def _open(self, partition: int) -> bool:
        """Whether the partition has been opened here. Raises LedgerError."""
        writer = await self.heirs.take(partition)
        if writer is not None:
            await writer.follow(save_every=self._save_every)
        else:
            if self._prepare is not None:
                await self._prepare(partition)
            writer = self._make(partition)
            await writer.recover(save_every=self._save_every)
        generation = self._mine[partition]
        if generation <= writer.highest_generation:
            if not await self._owners.is_mine(partition):
                return False
            generation = writer.highest_generation + 1
        self._writers[partition] = writer
        self._recovered(writer)
        writer.start(generation, strictly=True)
        await writer.opened.wait()  # cancelled where it ends before
        return True

    def _pause_s(self, partition: int) -> float:
        """Longer from time to time, until the partition has lived well for a while."""
        now_s = time.monotonic()
        last_s, pause_s = self._pauses.get(partition, (now_s, _PAUSE_S_MIN / 2))
        pause_s = _PAUSE_S_MIN if now_s - last_s > _WENT_WELL_S + pause_s else min(2 * pause_s, _PAUSE_S_MAX)
        self._pauses[partition] = (now_s, pause_s)
        return pause_s
