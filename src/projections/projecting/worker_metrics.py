"""How far a worker is behind, by partition, in records and in time, as JSON and as Prometheus reads it.

The ends come from the log itself, asked beside Faust: a consumer that silently stopped knows no end either.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic, time_ns
from typing import Any, Final, NamedTuple

import msgspec

from ledger.errors import LogUnavailable
from projections.projecting.delivery import Intake, PlacedLogReader

_LOOKS_KEPT: Final = 600
"""Ends kept of a partition, one a second: a lag is never said to be less than it is, but past ten minutes."""

_log = logging.getLogger(__name__)


class Lag(NamedTuple):
    """Of one partition. ``records`` counts forks, too; ``end_offset`` and ``next_offset`` are -1 while not known."""

    partition: int
    seq: int
    next_offset: int
    end_offset: int
    records: int
    lag_ms: int
    forks: int


class Watched:
    """What is looked at: the partitions that were assigned to this process."""

    def __init__(self, log: PlacedLogReader, intake: Intake, retries: Callable[[], int]) -> None:
        """``retries``: how many transactions of this process the database gave up for others' sake."""
        self._log, self.intake, self.retries = log, intake, retries
        self.assigned: set[int] = set()
        self.log_is_there = True
        self._ends: list[int] = []
        self._looks: dict[int, deque[tuple[float, int]]] = {}

    async def look(self) -> None:
        """Ask the log for its ends."""
        try:
            self._ends = await asyncio.to_thread(self._log.end_offsets)
        except LogUnavailable as error:
            if self.log_is_there:
                _log.warning("%s; trying again", error)
            self.log_is_there = False
            return
        self.log_is_there = True
        now_s = monotonic()
        for partition in self.assigned:
            looks = self._looks.setdefault(partition, deque(maxlen=_LOOKS_KEPT))
            looks.append((now_s, self._ends[partition]))
            next_offset = self._next_offset(partition)
            while looks and looks[0][1] <= next_offset:
                looks.popleft()
        for partition in self._looks.keys() - self.assigned:
            del self._looks[partition]

    def undelivered(self, since_s: float) -> dict[int, int]:
        """The ends of partitions where nothing has moved for so long although there is more."""
        if not self.log_is_there:
            return {}
        now_s, found = monotonic(), dict[int, int]()
        for partition in self.assigned - self.unknown().keys():
            moved_at_s = self.intake.standings[partition].moved_at_s
            if self._ends[partition] > self._next_offset(partition) and now_s - moved_at_s > since_s:
                found[partition] = self._ends[partition]
        return found

    def unknown(self) -> dict[int, int]:
        """The ends of partitions of which this process does not know where the tables are."""
        if not self.log_is_there:
            return {}
        return {one: self._ends[one] for one in self.assigned if self._next_offset(one) < 0}

    def lags(self) -> list[Lag]:
        """Of every partition that is assigned, in order."""
        return [self._lag(partition) for partition in sorted(self.assigned)]

    def _lag(self, partition: int) -> Lag:
        standing = self.intake.standings.get(partition)
        next_offset = self._next_offset(partition)
        end = self._ends[partition] if self._ends else -1
        records = max(0, end - max(0, next_offset))
        lag_ms = 0
        if standing is not None and standing.time_us:
            lag_ms = max(0, time_ns() // 1_000 - standing.time_us) // 1_000
        elif records and (looks := self._looks.get(partition)):
            lag_ms = int((monotonic() - looks[0][0]) * 1_000)
        return Lag(
            partition,
            0 if standing is None else standing.seq,
            next_offset,
            end,
            records,
            lag_ms,
            0 if standing is None else standing.forks,
        )

    def _next_offset(self, partition: int) -> int:
        standing = self.intake.standings.get(partition)
        return -1 if standing is None or standing.next_offset is None else standing.next_offset


def as_json(watched: Watched) -> Any:
    """Everything, as JSON values."""
    counts = msgspec.structs.asdict(watched.intake.counts)
    return {
        "partitions": [one._asdict() for one in watched.lags()],
        "waiting": watched.intake.waiting,
        "log_is_there": watched.log_is_there,
        "counts": counts | {"database_retries": watched.retries()},
    }


def as_text(watched: Watched) -> str:
    """Everything, in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(watched))


_OF_PARTITIONS: Final = (
    ("seq", "Last event of the partition that is in the read model."),
    ("next_offset", "Offset behind the last record that is in the read model or is no event; -1 while not known."),
    ("end_offset", "Offset behind the last record of the log; -1 while not known."),
    ("records", "Records of the log that are not in the read model yet; forks count."),
    ("lag_ms", "Age of the oldest record that is not in the read model yet, in milliseconds."),
    ("forks", "Records that were delivered and were no events."),
)
_NAMES: Final = {"records": "lag_records", "forks": "forks_total"}
_COUNTED: Final = (
    ("batches", "Transactions that were committed."),
    ("events", "Events that were folded."),
    ("fold_s", "Seconds spent in folds."),
    ("store_s", "Seconds spent in transactions."),
    ("overtaken", "Transactions given up because another worker was quicker."),
    ("skipped", "Records that were delivered and were in the read model already."),
    ("gaps", "Times that what was not delivered was read from the log."),
)
_SECONDS: Final = {"fold_s": "fold_seconds", "store_s": "store_seconds"}


def _lines(watched: Watched) -> Iterator[str]:
    lags = watched.lags()
    for field, text in _OF_PARTITIONS:
        name = f"stakelog_worker_{_NAMES.get(field, field)}"
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        for lag in lags:
            yield f'{name}{{partition="{lag.partition}"}} {getattr(lag, field)}'
    counts = watched.intake.counts
    values = [(field, text, getattr(counts, field)) for field, text in _COUNTED]
    values.append(("database_retries", "Transactions that the database gave up for others' sake.", watched.retries()))
    for field, text, value in values:
        name = f"stakelog_worker_{_SECONDS.get(field, field)}_total"
        yield from (f"# HELP {name} {text}", f"# TYPE {name} counter", f"{name} {value}")
    yield "# HELP stakelog_worker_waiting Whether the worker waits for the database, the log or a rebuild."
    yield "# TYPE stakelog_worker_waiting gauge"
    yield f"stakelog_worker_waiting {int(watched.intake.waiting)}"
