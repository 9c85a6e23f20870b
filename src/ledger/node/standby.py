"""The partitions of other nodes whose state this node keeps ready, so that to take one over takes milliseconds.

Truths:
(1) an heir only reads: it appends nothing, delivers nothing and answers nobody;
(2) when ``take`` returns, nobody here follows the partition any more: what it answers is the only writer of it;
(3) what the owner knows to have arrived is closed here, too, every ``CLOSE_EVERY_S``: a takeover delivers again what
    was under way lately, not all that ever was;
(4) what goes wrong with one partition is told and tried again, and stops nothing else; but a state that is not on the
    log is the same disaster as an owner's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from ledger.errors import DISASTERS, LedgerError
from ledger.writer.writer import Writer

LOOK_EVERY_S: Final = 0.25
"""How often the log is asked for what is new. Chosen: a takeover has that much to read, some hundred events."""

CLOSE_EVERY_S: Final = 2.0

_PAUSE_S: Final = 2.0
_CAUGHT_UP: Final = 1_000
"""Chosen: who has read so few events at one look reads as fast as the owner writes."""

OpenFollowUps = Callable[[Iterable[int]], Awaitable[Mapping[int, tuple[int, Sequence[int]]]]]
"""(partitions) → of those whose owner answers: the seq at which it was asked, and the seqs of the events whose
follow-ups it does not know to have arrived by then."""

_log = logging.getLogger(__name__)


class Standbys:
    """Follows what ``inherit`` says."""

    def __init__(
        self,
        *,
        make: Callable[[int], Writer],
        prepare: Callable[[int], Awaitable[None]] | None,
        free: Callable[[int], Awaitable[None]],
        save_every: int,
        open_follow_ups: OpenFollowUps,
        disaster: Callable[[int, LedgerError], None],
    ) -> None:
        """``free`` returns once this process no longer uses the partition's state; the others are as in
        ``OwnedPartitions``."""
        self._make, self._prepare, self._free, self._save_every = make, prepare, free, save_every
        self._open_follow_ups, self._disaster = open_follow_ups, disaster
        self._following: dict[int, asyncio.Task[None]] = {}
        self._writers: dict[int, Writer] = {}
        self._caught_up: set[int] = set()
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._closing: asyncio.Task[None] | None = None

    # --- what is followed ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> dict[int, int]:
        """Partition → the seq up to which its state is true here."""
        return {partition: writer.head.seq for partition, writer in self._writers.items()}

    @property
    def inherits(self) -> int:
        """How many partitions are followed."""
        return len(self._following)

    def has_caught_up(self, partition: int) -> bool:
        """Whether its state is as good as its owner's."""
        return partition in self._caught_up

    @property
    def caught_up(self) -> bool:
        """Whether the state of all that is followed is as good as its owner's."""
        return self._caught_up >= self._following.keys()

    def inherit(self, partitions: frozenset[int]) -> None:
        """Follow these, and no others."""
        create = asyncio.get_running_loop().create_task
        for partition in self._following.keys() - partitions:
            self._ending[partition] = create(
                self._end(partition, self._drop(partition)), name=f"heir-{partition}-ends"
            )
        for partition in sorted(partitions - self._following.keys()):
            before = self._ending.get(partition)
            self._following[partition] = create(self._follow(partition, before), name=f"heir-{partition}")
        if self._closing is None:
            self._closing = create(self._close_what_arrived(), name="heirs-close")

    async def take(self, partition: int) -> Writer | None:
        """Follow it no more. Its writer, not started, if there is one."""
        ends = self._drop(partition)
        if ends is not None:
            try:
                await asyncio.wait({ends})
            except asyncio.CancelledError:
                # What is being saved goes on: whoever comes next must wait for it.
                self._ending[partition] = asyncio.get_running_loop().create_task(
                    self._end(partition, ends), name=f"heir-{partition}-ends"
                )
                raise
        return self._writers.pop(partition, None)

    async def close(self) -> None:
        """Save what is ready, and follow nothing any more."""
        self.inherit(frozenset())
        assert self._closing is not None
        self._closing.cancel()
        await asyncio.wait({self._closing, *self._ending.values()})

    def _drop(self, partition: int) -> asyncio.Task[None] | None:
        """Follow it no more. Answers what is done once nobody follows it, and nobody saves what he had of it."""
        following, before = self._following.pop(partition, None), self._ending.get(partition)
        self._caught_up.discard(partition)
        if following is None:
            return before
        following.cancel()
        if before is None or before.done():
            return following
        # One that waited for the one before it ends at once, and that one has not.
        return asyncio.get_running_loop().create_task(_wait_for(following, before), name=f"heir-{partition}-ends")

    async def _end(self, partition: int, ends: asyncio.Task[None] | None) -> None:
        if ends is not None:
            await asyncio.wait({ends})
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.retire(save=True)

    # --- following -----------------------------------------------------------------------------------------------

    async def _follow(self, partition: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        while True:
            try:
                await self._free(partition)
                if self._prepare is not None:
                    await self._prepare(partition)
                writer = self._make(partition)
                await writer.recover(save_every=self._save_every)
                self._writers[partition] = writer
                while True:
                    read = await writer.follow(save_every=self._save_every)
                    if read < _CAUGHT_UP:
                        self._caught_up.add(partition)
                    await asyncio.sleep(LOOK_EVERY_S)
            except DISASTERS as error:
                self._disaster(partition, error)
                return
            except LedgerError as error:
                _log.warning("partition %d cannot be followed now: %s", partition, error)
            except Exception:  # noqa: BLE001 - an heir that fails must not end its owner
                _log.exception("partition %d cannot be followed", partition)
            self._caught_up.discard(partition)
            if (writer_before := self._writers.pop(partition, None)) is not None:
                await writer_before.retire(save=False)
            await asyncio.sleep(_PAUSE_S)

    async def _close_what_arrived(self) -> None:
        while True:
            await asyncio.sleep(CLOSE_EVERY_S)
            try:
                open_ = await self._open_follow_ups(list(self._writers))
            except LedgerError as error:
                _log.info("what has arrived of others' follow-ups is not known now: %s", error)
                continue
            for partition, (known_to, seqs) in open_.items():
                writer = self._writers.get(partition)
                if writer is not None:
                    close_arrived(writer, known_to, seqs)


async def _wait_for(*tasks: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks)


def close_arrived(writer: Writer, known_to: int, open_seqs: Sequence[int]) -> None:
    """Close every follow-up of an event up to ``known_to`` that is not among ``open_seqs``: its owner knows that it
    has arrived."""
    still_open = set(open_seqs)
    for seq, _ in writer.state.open_follow_ups():
        if seq <= known_to and seq not in still_open:
            writer.state.close_follow_up(seq)
