"""The seqs of the events whose follow-ups are open, in order: 8 bytes each, because a receiver that is stopped for a
day can leave millions."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

_CLOSED_MIN: Final = 1_024
"""Chosen: below it a closed seq stays in the array, so that closing one costs no copy of the others."""


class OpenSeqs:
    """A sorted set of integers that grows at its end, and shrinks anywhere."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._closed: set[int] = set()
        """Those of ``_seqs`` that are no longer members."""

    def __len__(self) -> int:
        return len(self._seqs) - len(self._closed)

    def __iter__(self) -> Iterator[int]:
        return (seq for seq in self._seqs if seq not in self._closed)

    def __contains__(self, seq: int) -> bool:
        at = bisect_left(self._seqs, seq)
        return at < len(self._seqs) and self._seqs[at] == seq and seq not in self._closed

    def add(self, seq: int) -> None:
        """``seq`` is above all that were added before."""
        assert not self._seqs or seq > self._seqs[-1], (seq, self._seqs[-1])
        self._seqs.append(seq)

    def discard(self, seq: int) -> bool:
        """Remove ``seq``. Returns whether it was a member."""
        if seq not in self:
            return False
        self._closed.add(seq)
        if len(self._closed) > max(_CLOSED_MIN, len(self._seqs) // 2):
            self._seqs = array("q", self)
            self._closed.clear()
        return True

    def between(self, after: int, to: int) -> list[int]:
        """The members above ``after``, up to ``to``."""
        begin, end = bisect_right(self._seqs, after), bisect_right(self._seqs, to)
        return [seq for seq in self._seqs[begin:end] if seq not in self._closed]

    def after(self, seq: int, limit: int) -> list[int]:
        """The first ``limit`` members above ``seq``."""
        found: list[int] = []
        at = bisect_right(self._seqs, seq)
        while len(found) < limit and at < len(self._seqs):
            found += [member for member in self._seqs[at : at + limit] if member not in self._closed]
            at += limit
        return found[:limit]
