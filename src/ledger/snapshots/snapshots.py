"""Snapshots: the complete state of a partition, in a store that every node reads. A node that gains a partition for
the first time loads its snapshot, and does not replay the whole log.

Invariants:
(1) a snapshot is the local state at one checkpoint: wallets, all ids, timers, open follow-ups, open bets, the highest
    generation, and the log's place there. A writer reads the time of the last event from the log at its start;
(2) a snapshot is loaded only if its marker is durable, everything agrees with the marker
    (``ledger.snapshots.format``), and its head is on the log's chain. Otherwise it is skipped with a warning, and the
    snapshot before it is loaded;
(3) the snapshots before a new one are deleted only after the new one's marker is durable. Snapshots that other nodes
    are writing stay, unless they are older than the last complete one;
(4) the newest snapshot by seq is loaded, whichever node wrote it. Two nodes may write at once: each snapshot is
    complete by itself;
(5) a snapshot is loaded only where it is newer than the local state, and only as a whole: a crash during a load
    leaves no state (``StateStore.replace``);
(6) a local state, or a snapshot, that is ahead of the log is a disaster: ``CheckpointAhead``.
"""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import DELETE_STATE, CheckpointAhead, ForeignCheckpoint, LedgerError, LogUnreadable
from ledger.ports import EventLog, Page, SnapshotStore, StateCopy, StateStore
from ledger.snapshots.catalogue import Catalogue
from ledger.snapshots.format import (
    VERSION,
    Digest,
    Marker,
    SnapshotBroken,
    chunk_key,
    encode_marker,
    marker_key,
    new_snapshot,
    pack,
    pages_of,
)

EVENTS_MIN: Final = 100_000
"""Events since the last snapshot before the next one is due. Chosen: their replay takes a few seconds, and a snapshot
writes the whole state again."""

VALUES_SHARE: Final = 2
"""The next snapshot is due only after one event per this number of values in the last one. Chosen: snapshots then
write a constant number of values per event, however large the state is."""

CHUNK_VALUES: Final = 8_192
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Chosen: a chunk takes a thread some 30 ms, and is well below a topic's largest message."""

DUTY: Final = 0.1
"""The share of the time that writing a snapshot may use, mostly in a thread. Chosen: the snapshot of a million
events, measured as 1.4 s of work on a quiet machine, takes a quarter of a minute."""

_LOOK_AGAIN_S: Final = 5.0  # chosen: well within the time between two local checkpoints
_PAUSE_S: Final = 60.0
"""How long after a failed snapshot the next one is tried. Chosen: an unavailable broker stays so for a while."""

_LOADS_AT_ONCE: Final = 4  # chosen: a large snapshot does not delay the small ones, and the memory suffices
_SPOOL_BYTES: Final = 16 * 1024 * 1024  # chosen: bytes of a snapshot kept in memory; a larger one waits on disk
_DELETIONS: Final = 500  # chosen: keys in one append

_log = logging.getLogger(__name__)


class Snapshots:
    """Writes and loads the snapshots of this node's partitions."""

    def __init__(
        self,
        log: EventLog,
        states: StateStore,
        store: SnapshotStore,
        *,
        spool: Path | None = None,
        events_min: int = EVENTS_MIN,
        chunk_values: int = CHUNK_VALUES,
        duty: float = DUTY,
    ) -> None:
        """``spool``: the folder for a snapshot that is being loaded, unless it fits into memory."""
        self._log, self._states, self._store = log, states, store
        self._spool, self._events_min, self._chunk_values, self._duty = spool, events_min, chunk_values, duty
        self._catalogues = [Catalogue() for _ in range(log.partitions)]
        # Separate threads: checkpoints of the open partitions must not wait for these.
        self._loaders = ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load")
        self._storing: dict[int, asyncio.Future[None]] = {}
        self._not_before_s = 0.0
        self._turn = asyncio.Lock()

    # --- gaining a partition -------------------------------------------------------------------------------------

    async def prepare(self, partition: int) -> None:
        """Make the local state as new as possible without a replay, and make the log begin at its head.

        Call it before the partition's writer recovers, while no writer uses its state. Raises CheckpointAhead,
        LogUnavailable, LogUnreadable, LedgerError where the local state cannot be written. May be cancelled.
        """
        if (before := self._storing.get(partition)) is not None:
            await asyncio.wait({before})  # a cancelled call still stores
        local = self._states.checkpoint(partition) or EMPTY
        await self._check_on_log(partition, local, self._states.place(partition))
        catalogue = await self._update_catalogue(partition)
        for snapshot, marker in catalogue.complete():
            if marker.seq <= local.seq:
                return
            try:
                await self._load(partition, snapshot, marker)
            except (SnapshotBroken, ForeignCheckpoint) as error:
                _log.warning("snapshot %s of partition %d is skipped: %s", snapshot, partition, error)
                catalogue.markers[snapshot] = None
                local = self._states.checkpoint(partition) or EMPTY
            else:
                return

    async def _check_on_log(self, partition: int, head: Head, place: bytes | None) -> None:
        """Raises CheckpointAhead, ForeignCheckpoint."""
        if head.seq == 0:
            return
        await self._log.begin_at(partition, head, place)
        found = await self._log.read(partition, head.seq, 1)
        if not found:
            raise CheckpointAhead(
                f"the state or a snapshot of partition {partition} is at seq {head.seq}, and the log ends before it: "
                "the log got shorter. Nothing was changed; restore the log. Only if the log is known to be right, "
                f"delete the snapshots (topic stakelog.snapshots), and {DELETE_STATE}"
            )
        if sha256_hex(found[0]) != head.sha256:
            raise ForeignCheckpoint(
                f"the state or a snapshot of partition {partition} is of another log: its head at seq {head.seq} is "
                "not in this one. Nothing was changed; restore the log that belongs to it. Only if this log is known "
                f"to be right, {DELETE_STATE}"
            )

    async def _load(self, partition: int, snapshot: str, marker: Marker) -> None:
        """Raises SnapshotBroken, ForeignCheckpoint and what ``prepare`` does."""
        began_s = time.monotonic()
        self._check_marker(partition, marker)
        with tempfile.SpooledTemporaryFile(
            max_size=_SPOOL_BYTES, dir=None if self._spool is None else str(self._spool)
        ) as spool:
            sizes = await self._fetch(partition, snapshot, marker, spool)
            await self._check_on_log(partition, marker.head, marker.place)
            fetched_s = time.monotonic()
            spool.seek(0)
            await self._replace_state(partition, marker, pages_of(_chunks(spool, sizes), marker.values))
        _log.info(
            "partition %d: snapshot at seq %d loaded, %d values; fetched in %.1f s, stored in %.1f s",
            partition,
            marker.seq,
            marker.values,
            fetched_s - began_s,
            time.monotonic() - fetched_s,
        )

    async def _replace_state(self, partition: int, marker: Marker, pages: Iterable[Page]) -> None:
        """Replace the local state. After a cancelled call there is no state, and no thread still works on it."""
        cancelled = threading.Event()
        pages = _unless(cancelled, pages)
        waiting = self._loaders.submit(self._states.replace, partition, pages, marker.head, marker.place)
        work = self._storing[partition] = asyncio.wrap_future(waiting)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if not waiting.cancel():
                cancelled.set()
                await asyncio.wait({work})
            raise

    def _check_marker(self, partition: int, marker: Marker) -> None:
        if marker.partition != partition or marker.partitions != self._log.partitions:
            raise SnapshotBroken(f"it is of partition {marker.partition} of {marker.partitions}")
        if marker.values_format != self._states.values_format:
            raise SnapshotBroken(
                f"its values have format {marker.values_format}, this program's {self._states.values_format}"
            )

    async def _fetch(self, partition: int, snapshot: str, marker: Marker, spool: IO[bytes]) -> list[int]:
        """Copy the chunks into ``spool``, in order. Returns their sizes. Raises SnapshotBroken."""
        offsets = self._catalogues[partition].chunks.get(snapshot, {})
        if sorted(offsets) != list(range(marker.chunks)):
            raise SnapshotBroken(f"it has {len(offsets)} chunks of {marker.chunks}")
        digest = Digest()
        sizes: list[int] = []
        if marker.chunks:
            async for page in self._store.read(partition, offsets[0]):
                for record in page:
                    number = len(sizes)
                    if record.offset == offsets[number] and record.key == chunk_key(partition, snapshot, number):
                        digest.add(record.value)
                        sizes.append(spool.write(record.value))
                        if len(sizes) == marker.chunks:
                            break
                if len(sizes) == marker.chunks:
                    break
        if len(sizes) < marker.chunks:
            raise SnapshotBroken(f"its chunk {len(sizes)} of {marker.chunks} is not at its offset")
        if digest.closed(partition, marker.head, marker.place) != marker.digest:
            raise SnapshotBroken("its digest differs from its marker's")
        return sizes

    async def _update_catalogue(self, partition: int) -> Catalogue:
        """Read the new records of the store. Returns the catalogue."""
        catalogue = self._catalogues[partition]
        try:
            async for page in self._store.read(partition, catalogue.next_offset):
                for record in page:
                    catalogue.add(record, partition)
        except LogUnreadable as error:
            if catalogue.next_offset == 0:
                raise
            _log.warning("the snapshots of partition %d are read from their start: %s", partition, error)
            self._catalogues[partition] = Catalogue()
            return await self._update_catalogue(partition)
        catalogue.read_once = True
        return catalogue

    # --- writing one -----------------------------------------------------------------------------------------------

    async def write_due(self, partitions: Callable[[], Iterable[int]]) -> None:
        """Write the snapshots that are due, until the task is cancelled. Each round looks at the partitions that
        ``partitions`` returns."""
        while True:
            for partition in list(partitions()):
                await self.snapshot_if_due(partition)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def snapshot_if_due(self, partition: int) -> bool:
        """Write a snapshot if it is due. Returns whether it was written. It works slowly, so that the writers
        keep most of the time, and it may be cancelled. An error is only a warning: a snapshot is never needed, it
        saves time.
        """
        if time.monotonic() < self._not_before_s:
            return False
        try:
            async with self._turn:  # two snapshots at a time would use twice ``duty``
                at = self._states.checkpoint(partition)
                if at is None or at.seq < self._events_min or not await self._is_due(partition, at):
                    return False
                return await self.write(partition) is not None
        except LedgerError as error:
            _log.warning("no snapshot of partition %d: %s", partition, error)
        except Exception:  # noqa: BLE001 - an error of one partition must not end the snapshots of all
            _log.exception("no snapshot of partition %d", partition)
        self._not_before_s = time.monotonic() + _PAUSE_S
        return False

    async def _is_due(self, partition: int, at: Head) -> bool:
        if not self._due_after(self._catalogues[partition], at):
            return False
        return self._due_after(await self._update_catalogue(partition), at)  # another owner may have written one

    def _due_after(self, catalogue: Catalogue, at: Head) -> bool:
        if not catalogue.read_once:
            return True
        complete = catalogue.complete()
        if not complete:
            return True
        last = complete[0][1]
        return at.seq - last.seq >= max(self._events_min, last.values // VALUES_SHARE)

    async def write(self, partition: int) -> Marker | None:
        """Write a snapshot of the local state at its checkpoint, then delete those before it.

        Returns its marker; None where there is no state. Raises LedgerError: the snapshots before it are kept.
        """
        began_s = time.monotonic()
        copy = await asyncio.to_thread(self._states.copy, partition)
        if copy is None:
            return None
        snapshot = new_snapshot(copy.at.seq)
        try:
            marker = await self._write_copy(partition, snapshot, copy)
        finally:
            copy.close()
        catalogue = await self._update_catalogue(partition)
        for old in catalogue.replaced_by(snapshot):
            await self._delete(partition, catalogue.keys(partition, old))
        _log.info(
            "partition %d: snapshot at seq %d, %d values in %d chunks, in %.1f s",
            partition,
            marker.seq,
            marker.values,
            marker.chunks,
            time.monotonic() - began_s,
        )
        return marker

    async def _write_copy(self, partition: int, snapshot: str, copy: StateCopy) -> Marker:
        digest, after, values, chunks = Digest(), "", 0, 0
        while True:
            began_s = time.monotonic()
            found = await asyncio.to_thread(self._next_chunk, copy, after)
            if found is None:
                break
            chunk, some, after = found
            await self._store.append(partition, [(chunk_key(partition, snapshot, chunks), chunk)])
            digest.add(chunk)
            values, chunks = values + some, chunks + 1
            await asyncio.sleep((time.monotonic() - began_s) * (1 / self._duty - 1))
        marker = Marker(
            v=VERSION,
            values_format=self._states.values_format,
            partition=partition,
            partitions=self._log.partitions,
            seq=copy.at.seq,
            sha256=copy.at.sha256,
            place=copy.place,
            chunks=chunks,
            values=values,
            digest=digest.closed(partition, copy.at, copy.place),
        )
        await self._store.append(partition, [(marker_key(partition, snapshot), encode_marker(marker))])
        return marker

    def _next_chunk(self, copy: StateCopy, after: str) -> tuple[bytes, int, str] | None:
        found = copy.page(after, self._chunk_values, CHUNK_BYTES)
        return None if found is None else (pack(found[0]), found[1], found[2])

    async def _delete(self, partition: int, keys: Sequence[str]) -> None:
        for begin in range(0, len(keys), _DELETIONS):
            await self._store.append(partition, [(key, b"") for key in keys[begin : begin + _DELETIONS]])

    async def close(self) -> None:
        """Call it once all loads have ended or were cancelled. Closing again is harmless."""
        self._loaders.shutdown(wait=False)
        await self._store.close()


def _unless(cancelled: threading.Event, pages: Iterable[Page]) -> Iterator[Page]:
    for page in pages:
        if cancelled.is_set():
            raise LedgerError("the snapshot is no longer needed: the partition was lost")
        yield page


def _chunks(spool: IO[bytes], sizes: Sequence[int]) -> Iterator[bytes]:
    for size in sizes:
        yield spool.read(size)
