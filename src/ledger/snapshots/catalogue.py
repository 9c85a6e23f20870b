"""The snapshots of one partition that are known to be in the store.

Invariants:
(1) only the last record of a key counts; an empty value deletes the key;
(2) a snapshot whose marker cannot be read is listed, but never loaded;
(3) a new snapshot replaces the complete ones before it, and the incomplete ones that are older than a complete one: a
    newer incomplete one may be under way on another node.
"""

import logging

from ledger.ports import SnapshotRecord
from ledger.snapshots.format import Marker, SnapshotBroken, chunk_key, decode_marker, marker_key, name_of, seq_of

_log = logging.getLogger(__name__)


class Catalogue:
    """The known snapshots of one partition. ``chunks``: snapshot → number → offset; ``markers``: snapshot → marker,
    None if the marker cannot be used."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.chunks: dict[str, dict[int, int]] = {}
        self.markers: dict[str, Marker | None] = {}
        self.read_once = False

    def add(self, record: SnapshotRecord, partition: int) -> None:
        """Take note of the store's next record."""
        self.next_offset = record.offset + 1
        name = name_of(record.key, partition)
        if name is None:
            return
        if name.number is None:
            if record.value:
                self.markers[name.snapshot] = _usable(record.value, name.snapshot)
            else:
                self.markers.pop(name.snapshot, None)
        elif record.value:
            self.chunks.setdefault(name.snapshot, {})[name.number] = record.offset
        else:
            chunks = self.chunks.get(name.snapshot, {})
            chunks.pop(name.number, None)
            if not chunks:
                self.chunks.pop(name.snapshot, None)

    def complete(self) -> list[tuple[str, Marker]]:
        """The snapshots that have a marker, the newest first."""
        found = [(snapshot, marker) for snapshot, marker in self.markers.items() if marker is not None]
        return sorted(found, key=lambda item: (item[1].seq, item[0]), reverse=True)

    def replaced_by(self, newest: str) -> list[str]:
        """The snapshots to delete once ``newest`` is durable."""
        seq = seq_of(newest)
        before = [seq_of(snapshot) for snapshot in self.markers if seq_of(snapshot) < seq]
        # An incomplete one may be under way on another node, unless it is so old that no node would load it.
        incomplete_below = max(before, default=0)
        snapshots = self.chunks.keys() | self.markers.keys()
        return sorted(
            snapshot
            for snapshot in snapshots
            if seq_of(snapshot) < (seq if snapshot in self.markers else incomplete_below)
        )

    def keys(self, partition: int, snapshot: str) -> list[str]:
        """The snapshot's keys, the marker's first: without a marker the chunks do not count."""
        keys = [marker_key(partition, snapshot)] if snapshot in self.markers else []
        return keys + [chunk_key(partition, snapshot, number) for number in sorted(self.chunks.get(snapshot, {}))]


def _usable(value: bytes, snapshot: str) -> Marker | None:
    try:
        return decode_marker(value, snapshot)
    except SnapshotBroken as error:
        _log.warning("snapshot %s is skipped: %s", snapshot, error)
        return None
