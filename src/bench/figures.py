"""The arithmetic of the measures: percentiles, medians over pairs, targets. Pure; times in seconds unless named.

1. A percentile is a value that was measured (nearest rank), never an interpolation between two.
2. A ratio is made pair by pair, from two slices that ran one after the other, and then summed up; never from two
   medians whose slices may have run under different load.
3. A target is met or missed by the median of the ratios, or by the median of the rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import Enum

from msgspec import Struct


class BenchError(Exception):
    """The measurement could not be made; the message is one line for the user."""


class Slice(Struct, frozen=True):
    """One stretch of load: how much was done in how long, and how long one request took."""

    done: int
    took_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Commands, reads, commits or events a second."""
        return self.done / self.took_s


class Summary(Struct, frozen=True):
    """Several slices of one side. Each member is the median of the slices' own figures."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    slices: list[Slice]


class Ratio(Struct, frozen=True):
    """How one side compares with the other, pair by pair."""

    min: float
    median: float
    max: float
    pairs: list[float]


class Bound(Enum):
    """On which side of the target is good."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


class Target(Struct, frozen=True):
    """What a figure should reach. ``unit`` follows the number when it is shown: ``" MiB"``, ``"/s"``, ``"×"``."""

    bound: Bound
    value: float
    unit: str = ""

    def met_by(self, figure: float) -> bool:
        """Whether ``figure`` reaches the target; reaching it exactly is enough."""
        return figure >= self.value if self.bound is Bound.AT_LEAST else figure <= self.value

    def __str__(self) -> str:
        return f"{self.bound.value} {self.value:,g}{self.unit}"


class Row(Struct, frozen=True):
    """One line of the report.

    ``ours`` and ``beside`` are for reading; ``figures`` are the same as numbers, for the JSON file. ``judged`` is the
    number that is held against ``target``; there is no verdict without both.
    """

    measure: str
    name: str
    ours: str
    beside: str = ""
    ratio: Ratio | None = None
    target: Target | None = None
    judged: float | None = None
    figures: dict[str, object] = {}

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target."""
        if self.target is None or self.judged is None:
            return None
        return self.target.met_by(self.judged)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ``ordered`` (ascending, not empty): the smallest value that at least ``share``
    (0 < share ≤ 1) of all values do not exceed."""
    assert ordered, "a percentile of nothing"
    assert 0 < share <= 1, share
    return ordered[math.ceil(share * len(ordered)) - 1]


def slice_of(done: int, took_s: float, latencies_s: Sequence[float]) -> Slice:
    """One stretch of load as figures. Raises BenchError if nothing was done in it."""
    if not done or not latencies_s or took_s <= 0:
        raise BenchError("a slice ended before any response")
    ordered = sorted(latencies_s)
    p50_s, p95_s, p99_s = (percentile(ordered, share) for share in (0.50, 0.95, 0.99))
    return Slice(done, took_s, p50_s * 1e3, p95_s * 1e3, p99_s * 1e3)


def summary_of(slices: Sequence[Slice]) -> Summary:
    """The medians over ``slices`` (not empty)."""
    return Summary(
        statistics.median(one.rate for one in slices),
        statistics.median(one.p50_ms for one in slices),
        statistics.median(one.p95_ms for one in slices),
        statistics.median(one.p99_ms for one in slices),
        list(slices),
    )


def ratio_of(ours: Sequence[float], beside: Sequence[float]) -> Ratio:
    """``ours[i] / beside[i]`` of every pair. The two must be of one length, not empty, ``beside`` without zeros."""
    pairs = [mine / other for mine, other in zip(ours, beside, strict=True)]
    return Ratio(min(pairs), statistics.median(pairs), max(pairs), pairs)
