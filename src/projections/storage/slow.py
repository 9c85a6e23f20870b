"""Reads of the tables are timed. Those that take longer than a limit are logged, with the tables that they read."""

import logging
from collections.abc import Sequence
from time import perf_counter

from ledger.histogram import Histogram
from ledger.pacing import RareWarnings
from projections.storage.port import ReadModel
from projections.tables.queries import Query, Rows

_SLOW_EVERY_S = 1.0


class TimedReads:
    """A read model that counts how long its reads take, and logs slow ones, at most one a second."""

    def __init__(self, model: ReadModel, limit_s: float, durations_s: Histogram) -> None:
        """``limit_s``: infinity to log none. A duration includes the wait for a connection, and ends when the read
        fails or is cancelled, too."""
        self._model, self._limit_s, self._durations_s = model, limit_s, durations_s
        self._warnings = RareWarnings(logging.getLogger(__name__), every_s=_SLOW_EVERY_S)

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        began_s = perf_counter()
        try:
            return await self._model.fetch(queries, quick=quick)
        finally:
            took_s = perf_counter() - began_s
            self._durations_s.count(took_s)
            if took_s >= self._limit_s:
                names = ", ".join(query.builder.__name__ for query in queries)
                self._warnings.warn("slow read of the read model: %s took %.0f ms", names, took_s * 1_000)

    async def close(self) -> None:
        await self._model.close()
