"""Heads that were published or sealed earlier. The log must contain each of them at its seq.

A log without its last records, or with its last records rewritten, is a correct log by itself. Only a head that is
kept elsewhere shows the difference.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Anchor(NamedTuple):
    """The hash of the record ``seq`` of a partition, as ``source`` kept it."""

    partition: int
    seq: int
    sha256: str
    source: str


class Contradiction(Exception):
    """Two anchors name different hashes for the same record."""

    def __init__(self, one: Anchor, other: Anchor) -> None:
        super().__init__(f"{one.source} and {other.source} name different hashes for it")
        self.anchor = other


class Anchors:
    """All anchors, by partition and seq."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        """Raises Contradiction."""
        self._by_partition: dict[int, dict[int, Anchor]] = {}
        for anchor in anchors:
            if not anchor.seq:
                continue  # the head of an empty partition says nothing about its records
            kept = self._by_partition.setdefault(anchor.partition, {})
            other = kept.setdefault(anchor.seq, anchor)
            if other.sha256 != anchor.sha256:
                raise Contradiction(other, anchor)

    def of(self, partition: int) -> dict[int, Anchor]:
        """The anchors of a partition: seq → anchor. Empty if it has none."""
        return self._by_partition.get(partition, {})

    def last(self) -> list[Anchor]:
        """The last anchor of each partition that has one."""
        return [kept[max(kept)] for _, kept in sorted(self._by_partition.items())]
