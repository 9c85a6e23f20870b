"""Snapshots: a partition's state as a whole, kept where every node finds it, so that a node that gains a partition it
never had need not read the whole log.

Truths:
(1) a snapshot is the local state at one checkpoint: wallets, all ids, timers, open follow-ups, open bets, the highest
    generation, and the log's place there. The last event's time is in its record, which a writer reads at its start;
(2) it counts only once its marker is durable, everything is as the marker says (``ledger.snapshots.format``), and its
    head is on the log's chain. One that does not is skipped with a warning, and the one before it is taken;
(3) those before it are deleted only after its marker is durable; what others are writing meanwhile is left alone,
    unless even the snapshot before this one was further;
(4) the newest by seq is taken, whoever wrote it. Two nodes may write at once: each snapshot is whole by itself;
(5) a snapshot is loaded only where it is further than the local state, and only whole: what is left of a crash in the
    middle is no state (``StateStore.replace``);
(6) a local state, or a snapshot, that knows more than the log is a disaster: ``CheckpointAhead``.
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
from ledger.errors import CheckpointAhead, ForeignCheckpoint, LedgerError, LogUnreadable
from ledger.ports import EventLog, Page, StateCopy, StateStore
from ledger.snapshots.catalogue import Shelf, SnapshotStore
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
"""New events that a snapshot must save. Chosen: a few seconds of replay, against writing the whole state again."""

ENTRIES_SHARE: Final = 2
"""… and at least one for so many entries of the snapshot before: chosen, so that writing snapshots stays a constant
number of entries an event, however large the state is."""

CHUNK_ENTRIES: Final = 8_192
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Chosen: with these a chunk takes a thread some 30 ms, and is well below a topic's largest message."""

DUTY: Final = 0.1
"""The share of the time in which a snapshot is worked on, mostly beside the event loop. Chosen: a million events',
measured 1.4 s of work on a quiet machine, take a quarter of a minute."""

_LOOK_AGAIN_S: Final = 5.0  # chosen: well within the time between two local checkpoints
_PAUSE_S: Final = 60.0
"""How long after one that failed the next is tried. Chosen: a broker that is away is away for a while."""

_LOADS_AT_ONCE: Final = 4  # chosen: so that a large one keeps no small one waiting, and there is memory for them
_SPOOL_BYTES: Final = 16 * 1024 * 1024  # chosen: what of a snapshot is held in memory; the rest waits on disk
_DELETIONS: Final = 500  # chosen: keys in one append

_log = logging.getLogger(__name__)


class Snapshots:
    """Takes and loads the snapshots of the partitions that live in this process."""

    def __init__(
        self,
        log: EventLog,
        states: StateStore,
        kept: SnapshotStore,
        *,
        spool: Path | None = None,
        events_min: int = EVENTS_MIN,
        chunk_entries: int = CHUNK_ENTRIES,
        duty: float = DUTY,
    ) -> None:
        """``spool``: the folder where a snapshot waits on its way in, unless it fits into memory."""
        self._log, self._states, self._kept = log, states, kept
        self._spool, self._events_min, self._chunk_entries, self._duty = spool, events_min, chunk_entries, duty
        self._shelves = [Shelf() for _ in range(log.partitions)]
        # Threads of their own: checkpoints of the partitions that are open must not wait for these.
        self._loaders = ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load")
        self._storing: dict[int, asyncio.Future[None]] = {}
        self._not_before_s = 0.0
        self._turn = asyncio.Lock()

    # --- gaining a partition -------------------------------------------------------------------------------------

    async def prepare(self, partition: int) -> None:
        """Make the local state as new as it can be without replaying, and let the log begin there.

        Before the partition's writer recovers; nobody uses its state meanwhile. Raises CheckpointAhead,
        LogUnavailable, LogUnreadable, LedgerError where the local state cannot be written. May be cancelled.
        """
        if (before := self._storing.get(partition)) is not None:
            await asyncio.wait({before})  # of a call that was cancelled
        local = self._states.checkpoint(partition) or EMPTY
        await self._check_on_log(partition, local, self._states.place(partition))
        shelf = await self._look(partition)
        for snapshot, marker in shelf.whole():
            if marker.seq <= local.seq:
                return
            try:
                await self._load(partition, snapshot, marker)
            except (SnapshotBroken, ForeignCheckpoint) as error:
                _log.warning("snapshot %s of partition %d is skipped: %s", snapshot, partition, error)
                shelf.markers[snapshot] = None
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
                f"what was derived from partition {partition} is at seq {head.seq}, which the log does not reach: "
                "the log got shorter. Nothing was changed; restore it, or, if it is known to be right, delete the "
                "state (state.sqlite3) and the snapshots (topic stakelog.snapshots)"
            )
        if sha256_hex(found[0]) != head.sha256:
            raise ForeignCheckpoint(
                f"what was derived from partition {partition} is of another log: its head at seq {head.seq} is not "
                "in this one. Nothing was changed; restore the log that belongs to it, or delete the state "
                "(state.sqlite3)"
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
            await self._store(partition, marker, pages_of(_chunks(spool, sizes), marker.entries))
        _log.info(
            "partition %d: snapshot at seq %d loaded, %d entries; fetched in %.1f s, stored in %.1f s",
            partition,
            marker.seq,
            marker.entries,
            fetched_s - began_s,
            time.monotonic() - fetched_s,
        )

    async def _store(self, partition: int, marker: Marker, pages: Iterable[Page]) -> None:
        """Replace the local state; who is cancelled meanwhile leaves none, and nobody at work."""
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
        """Bring the chunks into ``spool``, in order; answers their sizes. Raises SnapshotBroken."""
        places = self._shelves[partition].chunks.get(snapshot, {})
        if sorted(places) != list(range(marker.chunks)):
            raise SnapshotBroken(f"it has {len(places)} chunks of {marker.chunks}")
        digest = Digest()
        sizes: list[int] = []
        if marker.chunks:
            async for page in self._kept.read(partition, places[0]):
                for kept in page:
                    number = len(sizes)
                    if kept.place == places[number] and kept.key == chunk_key(partition, snapshot, number):
                        digest.add(kept.value)
                        sizes.append(spool.write(kept.value))
                        if len(sizes) == marker.chunks:
                            break
                if len(sizes) == marker.chunks:
                    break
        if len(sizes) < marker.chunks:
            raise SnapshotBroken(f"its chunk {len(sizes)} of {marker.chunks} is not where it was")
        if digest.closed(partition, marker.head, marker.place) != marker.digest:
            raise SnapshotBroken("its digest is another than its marker says")
        return sizes

    async def _look(self, partition: int) -> Shelf:
        """What is in the store by now."""
        shelf = self._shelves[partition]
        try:
            async for page in self._kept.read(partition, shelf.next_place):
                for kept in page:
                    shelf.put(kept, partition)
        except LogUnreadable as error:
            if shelf.next_place == 0:
                raise
            _log.warning("the snapshots of partition %d are read from their start: %s", partition, error)
            self._shelves[partition] = Shelf()
            return await self._look(partition)
        shelf.read_once = True
        return shelf

    # --- taking one ------------------------------------------------------------------------------------------------

    async def look_after(self, partitions: Callable[[], Iterable[int]]) -> None:
        """Take what is due of ``partitions``, asked for each time, until it is cancelled."""
        while True:
            for partition in list(partitions()):
                await self.snapshot_if_due(partition)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def snapshot_if_due(self, partition: int) -> bool:
        """Take a snapshot where it pays; answers whether. Slowly, beside the writers; it may be cancelled.

        What goes wrong is a warning: a snapshot is never needed, it only saves time.
        """
        if time.monotonic() < self._not_before_s:
            return False
        try:
            async with self._turn:  # else two of them would take twice the share
                at = self._states.checkpoint(partition)
                if at is None or at.seq < self._events_min or not await self._is_due(partition, at):
                    return False
                return await self.take(partition) is not None
        except LedgerError as error:
            _log.warning("no snapshot of partition %d: %s", partition, error)
        except Exception:  # noqa: BLE001 - whatever it is, it must not end the snapshots of all partitions unheard
            _log.exception("no snapshot of partition %d", partition)
        self._not_before_s = time.monotonic() + _PAUSE_S
        return False

    async def _is_due(self, partition: int, at: Head) -> bool:
        if not self._due_after(self._shelves[partition], at):
            return False
        return self._due_after(await self._look(partition), at)  # another owner may have taken one meanwhile

    def _due_after(self, shelf: Shelf, at: Head) -> bool:
        if not shelf.read_once:
            return True
        whole = shelf.whole()
        if not whole:
            return True
        last = whole[0][1]
        return at.seq - last.seq >= max(self._events_min, last.entries // ENTRIES_SHARE)

    async def take(self, partition: int) -> Marker | None:
        """Write a snapshot of the local state at its checkpoint, then delete those before it.

        Answers its marker; None where there is no state. Raises LedgerError: the ones before are still there.
        """
        began_s = time.monotonic()
        copy = await asyncio.to_thread(self._states.copy, partition)
        if copy is None:
            return None
        snapshot = new_snapshot(copy.at.seq)
        try:
            marker = await self._write(partition, snapshot, copy)
        finally:
            copy.close()
        shelf = await self._look(partition)
        for old in shelf.replaced_by(snapshot):
            await self._delete(partition, shelf.keys(partition, old))
        _log.info(
            "partition %d: snapshot at seq %d, %d entries in %d chunks, in %.1f s",
            partition,
            marker.seq,
            marker.entries,
            marker.chunks,
            time.monotonic() - began_s,
        )
        return marker

    async def _write(self, partition: int, snapshot: str, copy: StateCopy) -> Marker:
        digest, after, entries, chunks = Digest(), "", 0, 0
        while True:
            began_s = time.monotonic()
            found = await asyncio.to_thread(self._next_chunk, copy, after)
            if found is None:
                break
            chunk, some, after = found
            await self._kept.append(partition, [(chunk_key(partition, snapshot, chunks), chunk)])
            digest.add(chunk)
            entries, chunks = entries + some, chunks + 1
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
            entries=entries,
            digest=digest.closed(partition, copy.at, copy.place),
        )
        await self._kept.append(partition, [(marker_key(partition, snapshot), encode_marker(marker))])
        return marker

    def _next_chunk(self, copy: StateCopy, after: str) -> tuple[bytes, int, str] | None:
        found = copy.page(after, self._chunk_entries, CHUNK_BYTES)
        return None if found is None else (pack(found[0]), found[1], found[2])

    async def _delete(self, partition: int, keys: Sequence[str]) -> None:
        for begin in range(0, len(keys), _DELETIONS):
            await self._kept.append(partition, [(key, b"") for key in keys[begin : begin + _DELETIONS]])

    async def close(self) -> None:
        """Loads have ended, or were cancelled. Closing again is harmless."""
        self._loaders.shutdown(wait=False)
        await self._kept.close()


def _unless(cancelled: threading.Event, pages: Iterable[Page]) -> Iterator[Page]:
    for page in pages:
        if cancelled.is_set():
            raise LedgerError("a snapshot is no longer loaded: the partition was lost meanwhile")
        yield page


def _chunks(spool: IO[bytes], sizes: Sequence[int]) -> Iterator[bytes]:
    for size in sizes:
        yield spool.read(size)
