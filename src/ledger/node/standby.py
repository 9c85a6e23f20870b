"""The partitions of other nodes whose state this node keeps ready, so that it takes one over in milliseconds.

Invariants:
(1) a standby only reads: it appends nothing, delivers nothing and closes no request;
(2) when ``take`` returns, nothing on this node follows the partition any more: the writer that it returns is the only
    one;
(3) follow-ups that the owner knows to have arrived are closed in the standby's state, too, every ``CLOSE_EVERY_S``: a
    takeover delivers only the latest ones again. The owner sends one page of the open ones at a time: while a
    receiver is stopped, there can be millions;
(4) an error of one partition is logged and the partition is tried again; the other partitions are not affected. A
    state that is not on the log is a disaster, as for an owner.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ledger import background
from ledger.errors import DISASTERS, LedgerError
from ledger.node.ports import OpenFollowUps, OtherNodes
from ledger.writer.writer import Writer

LOOK_EVERY_S: Final = 0.25
"""How often new records are read. Chosen: a takeover reads only the records of this time, some hundred
events."""

CLOSE_EVERY_S: Final = 2.0

_PAUSE_S: Final = 2.0
_CAUGHT_UP: Final = 1_000
"""With fewer events in one read the standby has caught up. Chosen: then it reads as fast as the owner writes."""

_log = logging.getLogger(__name__)


class Standbys:
    """Follows the partitions that ``stand_by_for`` names, each with a writer that is not started."""

    def __init__(
        self,
        others: OtherNodes,
        *,
        make: Callable[[int], Writer],
        prepare: Callable[[int], Awaitable[None]] | None,
        wait_until_unused: Callable[[int], Awaitable[None]],
        save_every: int,
        disaster: Callable[[int, LedgerError], None],
    ) -> None:
        """``wait_until_unused`` returns once no owned writer uses the partition's state; the others are as in
        ``OwnedPartitions``."""
        self._make, self._prepare, self._save_every = make, prepare, save_every
        self._wait_until_unused = wait_until_unused
        self._others, self._disaster = others, disaster
        self._following: dict[int, asyncio.Task[None]] = {}
        self._writers: dict[int, Writer] = {}
        self._caught_up: set[int] = set()
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._closing: asyncio.Task[None] | None = None
        self._closed_to: dict[int, int] = {}
        """Partition → the last seq of the page before; 0 at the beginning, and where it is missing."""

    # --- which partitions ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> dict[int, int]:
        """Partition → the last seq in its state."""
        return {partition: writer.head.seq for partition, writer in self._writers.items()}

    @property
    def number(self) -> int:
        """How many partitions are followed."""
        return len(self._following)

    def has_caught_up(self, partition: int) -> bool:
        """Whether the partition's state is as new as its owner's."""
        return partition in self._caught_up

    @property
    def caught_up(self) -> bool:
        """Whether the states of all followed partitions are as new as their owners'."""
        return self._caught_up >= self._following.keys()

    def stand_by_for(self, partitions: frozenset[int]) -> None:
        """Follow these, and no others."""
        for partition in self._following.keys() - partitions:
            self._ending[partition] = background.start(
                self._end(partition, self._stop_following(partition)), f"standby-{partition}-ends"
            )
        for partition in sorted(partitions - self._following.keys()):
            before = self._ending.get(partition)
            self._following[partition] = background.start(self._follow(partition, before), f"standby-{partition}")
        if partitions and self._closing is None:
            self._closing = background.keep(self._close_arrived, "standby-follow-ups")

    async def take(self, partition: int) -> Writer | None:
        """Stop following the partition. Returns its writer, not started; None if there is none."""
        ends = self._stop_following(partition)
        if ends is not None:
            try:
                await asyncio.wait({ends})
            except asyncio.CancelledError:
                # A running save is not stopped: the next writer of the partition must wait for it.
                self._ending[partition] = background.start(self._end(partition, ends), f"standby-{partition}-ends")
                raise
        return self._writers.pop(partition, None)

    async def close(self) -> None:
        """Save every state, and stop following."""
        self.stand_by_for(frozenset())
        tasks = set(self._ending.values())
        if self._closing is not None:
            self._closing.cancel()
            tasks.add(self._closing)
        if tasks:
            await asyncio.wait(tasks)

    def _stop_following(self, partition: int) -> asyncio.Task[None] | None:
        """Stop following the partition. Returns a task that ends once no task follows or saves it; None if there is
        no such task now."""
        following, before = self._following.pop(partition, None), self._ending.get(partition)
        self._caught_up.discard(partition)
        if following is None:
            return before
        following.cancel()
        if before is None or before.done():
            return following
        # A cancelled task that waited for ``before`` ends at once, while ``before`` still runs.
        return background.start(_wait_for(following, before), f"standby-{partition}-ends")

    async def _end(self, partition: int, ends: asyncio.Task[None] | None) -> None:
        if ends is not None:
            await asyncio.wait({ends})
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.store_writes.retire(save=True)

    # --- following -----------------------------------------------------------------------------------------------

    async def _follow(self, partition: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        while True:
            try:
                await self._wait_until_unused(partition)
                if self._prepare is not None:
                    await self._prepare(partition)
                writer = self._make(partition)
                await writer.recover(save_every=self._save_every)
                self._writers[partition] = writer
                while True:
                    read = await writer.follow(save_every=self._save_every)
                    if read < _CAUGHT_UP:
                        self._caught_up.add(partition)
                    await writer.store_writes.merge()
                    await asyncio.sleep(LOOK_EVERY_S)
            except DISASTERS as error:
                self._disaster(partition, error)
                return
            except LedgerError as error:
                _log.warning("partition %d cannot be followed now: %s", partition, error)
            except Exception:  # noqa: BLE001 - a standby that fails must not end the partitions that this node owns
                _log.exception("partition %d cannot be followed", partition)
            self._caught_up.discard(partition)
            if (failed := self._writers.pop(partition, None)) is not None:
                await failed.store_writes.retire(save=False)
            await asyncio.sleep(_PAUSE_S)

    async def _close_arrived(self) -> None:
        while True:
            await asyncio.sleep(CLOSE_EVERY_S)
            try:
                after = {partition: self._closed_to.get(partition, 0) for partition in self._writers}
                found = await self._others.open_follow_ups(after)
            except LedgerError as error:
                _log.info("the owners' open follow-ups are not known now: %s", error)
                continue
            for partition, still_open in found.items():
                writer = self._writers.get(partition)
                if writer is not None:
                    close_arrived(writer, after[partition], still_open)
                    self._closed_to[partition] = 0 if still_open.is_last else still_open.known_to


async def _wait_for(*tasks: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks)


def close_arrived(writer: Writer, after: int, still_open: OpenFollowUps) -> None:
    """Close every follow-up that an event after ``after``, and up to ``still_open.known_to``, sent, unless its seq is
    among the open ones: the owner knows that it has arrived."""
    seqs = set(still_open.seqs)
    for seq in writer.state.open_seqs.between(after, still_open.known_to):
        if seq not in seqs:
            writer.state.close_follow_up(seq)
