"""How far a worker is behind, by partition, in records and in time, as JSON and in the format of Prometheus.

The ends come from the log, not from Faust: a consumer that silently stopped does not know the end either.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic, time_ns
from typing import Any, Final, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.errors import LogUnavailable
from ledger.process_metrics import register_process
from projections.projecting.delivery import Counts, DeliveryProjector, PlacedLogReader

_SAMPLES_MAX: Final = 600
"""Samples of a partition's end, one a second: a lag of more than ten minutes may be reported as ten minutes."""

_log = logging.getLogger(__name__)


class PartitionLag(NamedTuple):
    """``records`` counts forks too. ``end_offset`` and ``next_offset`` are -1 while unknown."""

    partition: int
    seq: int
    next_offset: int
    end_offset: int
    records: int
    lag_ms: int
    forks: int


class LagMonitor:
    """The lag of the partitions that are assigned to this process."""

    def __init__(self, log: PlacedLogReader, delivery: DeliveryProjector, retries: Callable[[], int]) -> None:
        """``retries``: returns how many transactions of this process the database rolled back (deadlock or
        serialization failure)."""
        self._log, self.delivery, self.retries = log, delivery, retries
        self.assigned: set[int] = set()
        self.log_available = True
        self._ends: list[int] = []
        self._samples: dict[int, deque[tuple[float, int]]] = {}

    async def refresh(self) -> None:
        """Read the ends of the log."""
        try:
            self._ends = await asyncio.to_thread(self._log.end_offsets)
        except LogUnavailable as error:
            if self.log_available:
                _log.warning("%s; retrying", error)
            self.log_available = False
            return
        self.log_available = True
        now_s = monotonic()
        for partition in self.assigned:
            samples = self._samples.setdefault(partition, deque(maxlen=_SAMPLES_MAX))
            samples.append((now_s, self._ends[partition]))
            next_offset = self._next_offset(partition)
            while samples and samples[0][1] <= next_offset:
                samples.popleft()
        for partition in self._samples.keys() - self.assigned:
            del self._samples[partition]

    def undelivered_ends(self, since_s: float) -> dict[int, int]:
        """The ends of partitions where nothing was folded for so long although the log has more records."""
        if not self.log_available:
            return {}
        now_s, found = monotonic(), dict[int, int]()
        for partition in self.assigned - self.ends_without_offset().keys():
            moved_at_s = self.delivery.progress_of[partition].moved_at_s
            if self._ends[partition] > self._next_offset(partition) and now_s - moved_at_s > since_s:
                found[partition] = self._ends[partition]
        return found

    def ends_without_offset(self) -> dict[int, int]:
        """The ends of partitions whose offset in the tables this process does not know."""
        if not self.log_available:
            return {}
        return {one: self._ends[one] for one in self.assigned if self._next_offset(one) < 0}

    def lags(self) -> list[PartitionLag]:
        """Of every assigned partition, in order."""
        return [self._lag(partition) for partition in sorted(self.assigned)]

    def _lag(self, partition: int) -> PartitionLag:
        progress = self.delivery.progress_of.get(partition)
        next_offset = self._next_offset(partition)
        end = self._ends[partition] if self._ends else -1
        records = max(0, end - max(0, next_offset))
        lag_ms = 0
        if progress is not None and progress.time_us:
            lag_ms = max(0, time_ns() // 1_000 - progress.time_us) // 1_000
        elif records and (samples := self._samples.get(partition)):
            lag_ms = int((monotonic() - samples[0][0]) * 1_000)
        return PartitionLag(
            partition,
            0 if progress is None else progress.seq,
            next_offset,
            end,
            records,
            lag_ms,
            0 if progress is None else progress.forks,
        )

    def _next_offset(self, partition: int) -> int:
        progress = self.delivery.progress_of.get(partition)
        return -1 if progress is None or progress.next_offset is None else progress.next_offset


def as_json(monitor: LagMonitor) -> Any:
    """Everything, as JSON values."""
    counts = msgspec.structs.asdict(monitor.delivery.counts)
    return {
        "partitions": [one._asdict() for one in monitor.lags()],
        "waiting": monitor.delivery.waiting,
        "log_is_there": monitor.log_available,
        "counts": counts | {"database_retries": monitor.retries()},
    }


def as_text(monitor: LagMonitor) -> str:
    """Everything, and what the process uses, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_WorkerGauges(monitor))
    register_process(registry, {})
    return generate_latest(registry).decode()


class _WorkerGauges(Collector):
    def __init__(self, monitor: LagMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        lags, delivery = self._monitor.lags(), self._monitor.delivery
        for name, text, of_lag in _OF_PARTITIONS:
            gauge = GaugeMetricFamily(name, text, labels=["partition"])
            for lag in lags:
                gauge.add_metric([str(lag.partition)], of_lag(lag))
            yield gauge
        forks = CounterMetricFamily(
            "stakelog_worker_forks", "Delivered records that were forks", labels=["partition"]
        )
        for lag in lags:
            forks.add_metric([str(lag.partition)], lag.forks)
        yield forks
        for name, text, of_counts in _COUNTED:
            yield CounterMetricFamily(name, text, value=of_counts(delivery.counts))
        yield CounterMetricFamily(
            "stakelog_worker_database_retries",
            "Transactions rolled back by the database (deadlock or serialization failure) and retried",
            value=self._monitor.retries(),
        )
        yield GaugeMetricFamily(
            "stakelog_worker_waiting",
            "1 while the worker waits for the database, the log or a rebuild",
            value=float(delivery.waiting),
        )


_OF_PARTITIONS: Final[tuple[tuple[str, str, Callable[[PartitionLag], float]], ...]] = (
    ("stakelog_worker_seq", "Seq of the last event in the read model", lambda lag: lag.seq),
    (
        "stakelog_worker_next_offset",
        "Offset after the last record that is in the read model or is a fork; -1 while unknown",
        lambda lag: lag.next_offset,
    ),
    (
        "stakelog_worker_end_offset",
        "Offset after the last record of the log; -1 while unknown",
        lambda lag: lag.end_offset,
    ),
    (
        "stakelog_worker_lag_records",
        "Records of the log that are not in the read model yet, including forks",
        lambda lag: lag.records,
    ),
    (
        "stakelog_worker_lag_seconds",
        "Age of the oldest record that is not in the read model yet",
        lambda lag: lag.lag_ms / 1_000,
    ),
)
_COUNTED: Final[tuple[tuple[str, str, Callable[[Counts], float]], ...]] = (
    ("stakelog_worker_batches", "Committed transactions", lambda counts: counts.batches),
    ("stakelog_worker_events", "Folded events", lambda counts: counts.events),
    ("stakelog_worker_fold_seconds", "Seconds spent in folds", lambda counts: counts.fold_s),
    ("stakelog_worker_store_seconds", "Seconds spent in transactions", lambda counts: counts.store_s),
    (
        "stakelog_worker_overtaken",
        "Transactions rolled back because another worker was faster",
        lambda counts: counts.overtaken,
    ),
    (
        "stakelog_worker_skipped",
        "Delivered records that were already in the read model",
        lambda counts: counts.skipped,
    ),
    ("stakelog_worker_gaps", "How often undelivered records were read from the log", lambda counts: counts.gaps),
)
