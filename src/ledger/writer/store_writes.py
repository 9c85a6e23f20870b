"""What a writer writes to the state store: the checkpoints of its partition, and the steps of the store's merges.

Invariants:
(1) a checkpoint has durable events only, and all of them up to its head: its changes are taken between two rounds;
(2) the store takes one write at a time (``store_turn``), and each is run to its end, even if its caller is cancelled;
(3) when ``retire`` has returned nothing is written any more: another writer may read the store. A write that has its
    turn before ends first.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ledger import background
from ledger.core.record import Head
from ledger.errors import LedgerError
from ledger.ports import EventLog, StateStore
from ledger.writer.state import PartitionState

_log = logging.getLogger(__name__)

T = TypeVar("T")


class StoreWrites:
    """The only writer of one partition to the store."""

    def __init__(
        self,
        partition: int,
        log: EventLog,
        store: StateStore,
        store_turn: asyncio.Lock,
        between_rounds: asyncio.Lock,
        now: Callable[[], tuple[PartitionState, Head]],
    ) -> None:
        """``now`` returns the state and its head; they belong together while ``between_rounds`` is locked."""
        self._partition, self._log, self._store = partition, log, store
        self._store_turn, self._between_rounds, self._now = store_turn, between_rounds, now
        self._may_merge = True
        self._retired = False

    async def save_or_warn(self) -> None:
        """Save the state while the process does other work. On an error the changes stay in memory."""
        try:
            await self.save()
        except LedgerError as error:
            _log.warning("no checkpoint of partition %d: %s", self._partition, error)

    async def save(self) -> None:
        """Make a checkpoint while commands continue. Raises LedgerError: the changes stay in memory."""
        async with self._store_turn:
            if self._retired:
                return
            async with self._between_rounds:
                state, at = self._now()
                changes = state.begin_checkpoint()
                place = self._log.place(self._partition, at)
            saved = False
            try:
                if changes:
                    await self._write(partial(state.save, changes, at, place))
                    self._may_merge = True
                saved = True
            finally:
                state.end_checkpoint(saved=saved)

    async def merge(self) -> bool:
        """Let the store take one step of its merges of this partition. Returns whether there may be another one; to
        give the merge up, take no further step."""
        if not self._may_merge:
            return False
        async with self._store_turn:
            self._may_merge = not self._retired and await self._write(partial(self._store.merge, self._partition))
        return self._may_merge

    async def retire(self, *, save: bool) -> None:
        """After the writer's end: save the state if ``save``, and never again. When this returns, another writer may
        read the store: an older state saved after that would make it fold in events twice."""
        if save:
            await self.save_or_warn()
        self._retired = True
        async with self._store_turn:
            pass  # wait for the write under way

    async def _write(self, write: Callable[[], T]) -> T:
        """Run it in a thread, to its end even if the caller is cancelled: no other write may run at the same time."""
        assert self._store_turn.locked(), f"partition {self._partition} writes to the store without its turn"
        writing = background.awaited(asyncio.to_thread(write), f"save-{self._partition}")
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise
