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

from ledger.errors import LogUnavailable
from projections.projecting.delivery import DeliveryProjector, PlacedLogReader

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
    """Everything, in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(monitor))


_OF_PARTITIONS: Final = (
    ("seq", "Seq of the last event in the read model."),
    ("next_offset", "Offset after the last record that is in the read model or is a fork; -1 while unknown."),
    ("end_offset", "Offset after the last record of the log; -1 while unknown."),
    ("records", "Records of the log that are not in the read model yet, including forks."),
    ("lag_ms", "Age of the oldest record that is not in the read model yet, in milliseconds."),
    ("forks", "Delivered records that were forks."),
)
_NAMES: Final = {"records": "lag_records", "forks": "forks_total"}
_COUNTED: Final = (
    ("batches", "Committed transactions."),
    ("events", "Folded events."),
    ("fold_s", "Seconds spent in folds."),
    ("store_s", "Seconds spent in transactions."),
    ("overtaken", "Transactions rolled back because another worker was faster."),
    ("skipped", "Delivered records that were already in the read model."),
    ("gaps", "How often undelivered records were read from the log."),
)
_RETRIES: Final = "Transactions rolled back by the database (deadlock or serialization failure) and retried."
_SECONDS: Final = {"fold_s": "fold_seconds", "store_s": "store_seconds"}


def _lines(monitor: LagMonitor) -> Iterator[str]:
    lags = monitor.lags()
    for field, text in _OF_PARTITIONS:
        name = f"stakelog_worker_{_NAMES.get(field, field)}"
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        for lag in lags:
            yield f'{name}{{partition="{lag.partition}"}} {getattr(lag, field)}'
    counts = monitor.delivery.counts
    values = [(field, text, getattr(counts, field)) for field, text in _COUNTED]
    values.append(
        (
            "database_retries",
            "Transactions rolled back by the database (deadlock or serialization failure) and retried.",
            monitor.retries(),
        )
    )
    for field, text, value in values:
        name = f"stakelog_worker_{_SECONDS.get(field, field)}_total"
        yield from (f"# HELP {name} {text}", f"# TYPE {name} counter", f"{name} {value}")
    yield "# HELP stakelog_worker_waiting 1 while the worker waits for the database, the log or a rebuild."
    yield "# TYPE stakelog_worker_waiting gauge"
    yield f"stakelog_worker_waiting {int(monitor.delivery.waiting)}"
