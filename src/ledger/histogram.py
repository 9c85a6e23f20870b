"""A histogram that one thread fills. That of prometheus_client locks for each value."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Bounds of the buckets of durations, in seconds."""


class Histogram:
    """``bounds``: the largest value of each bucket, in ascending order. Values above the last one are in a further
    bucket. ``sum``: of all values."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def count(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def counts(self) -> Sequence[int]:
        """How many values are in each bucket, and above the last one."""
        return self._counts

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Yield (bound as text, how many values are at most this bound) for each bound and for ``+Inf``, the buckets
        of Prometheus' text format."""
        total = 0
        for bound, number in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += number
            yield "+Inf" if bound == float("inf") else str(float(bound)), float(total)
