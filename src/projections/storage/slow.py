"""Measures how long reads of the tables take, and logs slow ones with the names of their queries."""

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
        """``limit_s``: a read that takes this long or longer is slow; infinity: none is. ``durations_s`` gets the
        duration of each read in seconds, also of one that fails or is cancelled; it includes the wait for a
        connection."""
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
