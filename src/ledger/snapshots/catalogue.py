"""Where snapshots are kept, as a port, and what is known to stand there for one partition.

Truths:
(1) the last record of a key counts; an empty one deletes it;
(2) a snapshot whose marker cannot be read is known and never taken;
(3) what a new snapshot replaces are the whole ones before it, and half ones that even a whole one is further than: a
    half one may be under way in another node.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from ledger.snapshots.format import Marker, SnapshotBroken, chunk_key, decode_marker, marker_key, name_of, seq_of

_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """A record in a snapshot store; ``value`` is empty where the key was deleted."""

    place: int
    key: str
    value: bytes


class SnapshotStore(Protocol):
    """Records under keys, by partition, where all nodes find them; the last of a key counts."""

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        """Put them, durably and in order; an empty value deletes its key. Raises LogUnavailable (they may be there
        nevertheless)."""
        ...

    def read(self, partition: int, from_place: int) -> AsyncIterator[Sequence[Kept]]:
        """All that is there from ``from_place`` on, in order, to the end as it is when asked. What is no longer the
        last of its key may be left out. Raises LogUnavailable; LogUnreadable where it was made anew."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


class Shelf:
    """What is known to be in the store of one partition."""

    def __init__(self) -> None:
        self.next_place = 0
        self.chunks: dict[str, dict[int, int]] = {}  # snapshot → number → place
        self.markers: dict[str, Marker | None] = {}  # None: one that cannot be used
        self.read_once = False

    def put(self, kept: Kept, partition: int) -> None:
        self.next_place = kept.place + 1
        name = name_of(kept.key, partition)
        if name is None:
            return
        if name.number is None:
            if kept.value:
                self.markers[name.snapshot] = _usable(kept.value, name.snapshot)
            else:
                self.markers.pop(name.snapshot, None)
        elif kept.value:
            self.chunks.setdefault(name.snapshot, {})[name.number] = kept.place
        else:
            chunks = self.chunks.get(name.snapshot, {})
            chunks.pop(name.number, None)
            if not chunks:
                self.chunks.pop(name.snapshot, None)

    def whole(self) -> list[tuple[str, Marker]]:
        """Those that have a marker, the newest first."""
        found = [(snapshot, marker) for snapshot, marker in self.markers.items() if marker is not None]
        return sorted(found, key=lambda item: (item[1].seq, item[0]), reverse=True)

    def replaced_by(self, newest: str) -> list[str]:
        """The snapshots to delete now that ``newest`` is durable."""
        seq = seq_of(newest)
        before = [seq_of(snapshot) for snapshot in self.markers if seq_of(snapshot) < seq]
        # A half one may be under way in another node, unless it is so old that nobody would take it.
        halves_below = max(before, default=0)
        snapshots = self.chunks.keys() | self.markers.keys()
        return sorted(
            snapshot
            for snapshot in snapshots
            if seq_of(snapshot) < (seq if snapshot in self.markers else halves_below)
        )

    def keys(self, partition: int, snapshot: str) -> list[str]:
        """The marker first: without it the chunks do not count."""
        keys = [marker_key(partition, snapshot)] if snapshot in self.markers else []
        return keys + [chunk_key(partition, snapshot, number) for number in sorted(self.chunks.get(snapshot, {}))]


def _usable(value: bytes, snapshot: str) -> Marker | None:
    try:
        return decode_marker(value, snapshot)
    except SnapshotBroken as error:
        _log.warning("snapshot %s is skipped: %s", snapshot, error)
        return None
