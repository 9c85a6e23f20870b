"""When the states of this node's partitions are saved, and how far the log before a checkpoint is checked.

A checkpoint is a partition's state in the state store, true at one head of the log. Without one the next start only
takes longer: the log has everything.

Invariants:
(1) only one thing is written to the state store at a time: each save, and each step of a merge, holds ``store_turn``.
    Between two steps of a merge its partition can be lost, and each partition saved;
(2) a save that fails is tried again after ``CHECKPOINT_S``. The changes stay in memory until then; too many of them
    halt the node, because without checkpoints memory grows without bound;
(3) the background task ends only in ``stop``, or it halts the node.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from ledger import background
from ledger.core.record import EMPTY_SHA256, MalformedRecord, decode, sha256_hex
from ledger.errors import LedgerError, LogDamaged
from ledger.pacing import sleep_unless_stopped
from ledger.ports import EventLog, StateStore
from ledger.writer.writer import Writer

CHANGES_PER_CHECKPOINT: Final = 150_000
"""Changed values in memory, over all partitions, that start a save. Chosen: some 60 MB of memory and 2 s of replay
after a crash."""

CHECKPOINT_S: Final = 15.0
"""A save starts after this time at the latest, so that a crash on a quiet day costs no replay. Chosen."""

CHECKED_AT_START: Final = 100_000
"""Records before the checkpoints whose chain a start checks. Chosen: fresh damage is found before new events are
appended after it."""

_LOOK_EVERY_S: Final = 0.25
_BETWEEN_MERGES_S: Final = 0.02
"""Chosen: about as long as a step of a merge takes, so that commands get half of the processor at least."""

_UNSAVED_MAX: Final = 20
"""How many checkpoints may fail, in multiples of the changes of one, before the node halts. Chosen: some 1.2 GB."""

_RECORDS_PER_READ: Final = 2_000

_log = logging.getLogger(__name__)


class Checkpoints:
    """Saves the states of ``writers`` in the background."""

    def __init__(
        self,
        writers: Mapping[int, Writer],
        *,
        changes_per_checkpoint: int,
        halt: Callable[[int, LedgerError], None],
    ) -> None:
        """``writers``: partition → writer of this node; the node changes this dict at any time. ``halt`` stops the
        node."""
        self._writers, self._halt = writers, halt
        self._changes_per_checkpoint = changes_per_checkpoint
        self.store_turn = asyncio.Lock()
        """Held during each write to the state store."""
        self._to_learn: deque[Writer] = deque()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._last_s = time.monotonic()
        self._pause_s = 0.0

    def start(self) -> None:
        self._task = background.start(self._run(), "checkpoints", failed=self._on_failed)

    async def stop(self) -> None:
        """Return once nothing is being saved. A second call, or a call without a start, is harmless."""
        self._stopping.set()
        if self._task is not None:
            # Never cancelled: its thread would save at the same time as the last checkpoint.
            await asyncio.wait({self._task})

    def learn_keys_of(self, writer: Writer) -> None:
        """Read, in the background, which keys the state store has of this writer's partition."""
        self._to_learn.append(writer)

    async def save_all(self) -> None:
        """Save every partition. Raises LedgerError."""
        for writer in self._writers.values():
            await writer.store_writes.save()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._learn_keys()
            await self._save_if_due()
            merges = await self._merge_step()
            await sleep_unless_stopped(self._stopping, _BETWEEN_MERGES_S if merges else _LOOK_EVERY_S)

    def _on_failed(self, error: BaseException) -> None:
        """Without checkpoints memory grows: better to halt, with a message."""
        self._halt(-1, LedgerError(f"no checkpoint can be saved: {error!r}; nothing is lost, start again"))

    async def _learn_keys(self) -> None:
        try:
            while self._to_learn:
                writer = self._to_learn.popleft()
                after: str | None = ""
                while after is not None and not self._stopping.is_set():
                    if self._writers.get(writer.partition) is not writer:
                        break
                    async with self.store_turn:
                        after = await asyncio.to_thread(writer.state.learn_keys, after)
                    await self._save_if_due()
        except LedgerError as error:
            _log.warning("the state store's keys cannot be read, each new id is looked up on disk: %s", error)

    async def _merge_step(self) -> bool:
        """Take one step of a merge, of one partition after the other: two merges at a time need more space. Returns
        whether there may be another step."""
        for writer in list(self._writers.values()):
            if self._stopping.is_set() or await writer.store_writes.merge():
                return True
        return False

    async def _save_if_due(self) -> None:
        changes = sum(writer.state.changes for writer in self._writers.values())
        elapsed_s = time.monotonic() - self._last_s
        if changes == 0 or elapsed_s < self._pause_s:
            return
        if changes < self._changes_per_checkpoint and elapsed_s < CHECKPOINT_S:
            return
        self._pause_s = 0.0
        for writer in list(self._writers.values()):
            try:
                await writer.store_writes.save()
            except LedgerError as error:
                # Do not retry at once: a full disk stays full for a while.
                _log.warning("no checkpoint of partition %d: %s", writer.partition, error)
                self._pause_s = CHECKPOINT_S
                if changes > _UNSAVED_MAX * self._changes_per_checkpoint:
                    why = f"the state cannot be saved, and {changes} changes wait in memory: {error}"
                    self._halt(writer.partition, LedgerError(f"{why}. The log has everything; start again"))
                break
        self._last_s = time.monotonic()


async def check_tail(log: EventLog, store: StateStore, partition: int, records_max: int) -> None:
    """Check the chain of the partition's last ``records_max`` records before its checkpoint. The replay checks the
    records after it. Raises LogDamaged, LogUnavailable."""
    checkpoint = store.checkpoint(partition)
    end = await log.head(partition)
    if checkpoint is None or checkpoint.seq > end.seq:
        return  # ``Writer.recover`` raises CheckpointAhead
    seq = max(checkpoint.seq - records_max, 0)
    prev: str | None = EMPTY_SHA256 if seq == 0 else None
    while seq < checkpoint.seq:
        records = await log.read(partition, seq + 1, min(_RECORDS_PER_READ, checkpoint.seq - seq))
        if not records:
            raise LogDamaged(partition, seq + 1, "the record is missing")
        for record in records:
            seq += 1
            try:
                place, stated_prev, _ = decode(record)
            except MalformedRecord as error:
                raise LogDamaged(partition, seq, str(error)) from error
            if place != (partition, seq) or (prev is not None and stated_prev != prev):
                raise LogDamaged(partition, seq, "the record does not continue the chain")
            prev = sha256_hex(record)
