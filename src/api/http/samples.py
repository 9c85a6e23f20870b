"""The last hour of this process, in memory: what the operator's page plots.

Invariants:
(1) a sample has what happened since the sample before it; a sample is taken every ``EVERY_S``, or later if the event
    loop is busy, and ``took_s`` says after how long;
(2) nothing waits for a sample: reading the lag may take ``_LOOK_S`` at most, and a sample without it has None;
(3) the balances of a read model that is more than ``LATE_MS`` behind the log are not sampled: they are old;
(4) memory is bounded: at most ``KEPT`` samples, and the house accounts once a minute.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, time_ns
from typing import Final

from msgspec import Struct

from api.http.metrics import Metrics
from api.http.problems import KINDS
from ledger import background
from ledger.histogram import SECONDS

EVERY_S: Final = 5.0
KEPT: Final = 720
"""Samples of an hour."""
LATE_MS: Final = 10_000
"""Chosen: reads are some milliseconds behind the log, and seconds while a worker starts again."""
HOUSE_EVERY_S: Final = 60.0
HOUSE_KEPT: Final = 61
"""Samples of an hour, and the one before it."""
_LOOK_S: Final = 1.0
_COMMANDS: Final = ("/v1/commands", "/v1/commands/batch")
_REPEATED: Final = frozenset({"duplicate", "dry_run"})
_FAILED: Final = frozenset(code for code, kind in KINDS.items() if kind.status >= 500)
"""Outcomes that are the service's failure, not a refusal by its rules."""


class Sample(Struct, frozen=True, array_like=True):
    """What happened in ``took_s`` seconds before ``time_us``. Array-like: an hour of it is sent to a browser."""

    time_us: int
    took_s: float
    accepted: int
    repeated: int
    """Commands whose first response was sent again, and dry runs."""
    refused: int
    failed: int
    """Commands without an outcome, because the service was not able to decide."""
    durations: Sequence[int]
    """Requests that posted commands, by the bucket of ``SECONDS`` that their duration is in."""
    lag_ms: int | None
    """Age of the oldest event that reads do not show, of all partitions. None: the read model could not be read."""
    waiting: int
    """Commands and follow-ups that wait for a partition."""


class HouseSample(Struct, frozen=True, array_like=True):
    """Balances at ``time_us``, in minor units."""

    time_us: int
    accounts: dict[str, int]
    """By account and asset: ``house/stakes INR``."""


class Samples:
    """Takes samples after its ``start`` was called."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.last_hour: deque[Sample] = deque(maxlen=KEPT)
        self.house: deque[HouseSample] = deque(maxlen=HOUSE_KEPT)
        self._taken_s = monotonic()
        self._outcomes: dict[str, int] = {}
        self._durations: Sequence[int] = [0] * (len(SECONDS) + 1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = background.keep(self._run, "samples")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            await self.take()
            await asyncio.sleep(EVERY_S)

    async def take(self) -> None:
        """Take one sample."""
        looked = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                looked = await self._metrics.read_model.look()
        now_s, now_us = monotonic(), time_ns() // 1_000
        outcomes = self._metrics.outcomes()
        durations = self._metrics.requests.durations("POST", _COMMANDS)
        accepted = repeated = refused = failed = 0
        for outcome, total in outcomes.items():
            number = total - self._outcomes.get(outcome, 0)
            if outcome == "accepted":
                accepted += number
            elif outcome in _REPEATED:
                repeated += number
            elif outcome in _FAILED:
                failed += number
            else:
                refused += number
        lag_ms = self._metrics.read_model.lag_ms if looked else None
        self.last_hour.append(
            Sample(
                now_us,
                round(now_s - self._taken_s, 3),
                accepted,
                repeated,
                refused,
                failed,
                [after - before for before, after in zip(self._durations, durations, strict=True)],
                lag_ms,
                self._metrics.waiting(),
            )
        )
        self._taken_s, self._outcomes, self._durations = now_s, outcomes, durations
        last_us = self.house[-1].time_us if self.house else 0
        is_present = lag_ms is not None and lag_ms <= LATE_MS
        if is_present and now_us - last_us >= (HOUSE_EVERY_S - EVERY_S / 2) * 1_000_000:
            self.house.append(HouseSample(now_us, self._metrics.read_model.house()))
