"""Waits for ``min_position``: a hundred waiting reads query the database no more often than one.

The waiting reads take turns: one queries the checkpoints, and all of them use the result. There is no background
task: without a waiting read no query runs, and the tables can be closed after the last read.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from projections.reads import statements
from projections.storage.port import ReadModel, ReadModelUnavailable
from projections.tables.queries import Query

POLL_S: Final = 0.004
"""Pause between two queries. Chosen: a query costs a database 0.5 ms, and a read is late by half of the pause on
average."""

_CHECKPOINTS: Final = (Query(statements.checkpoints),)


class Positions:
    """For one event loop."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self._seqs: dict[int, int] = {}
        self._turn = asyncio.Lock()

    async def reached(self, least: Mapping[int, int], within_s: float) -> None:
        """Return once the tables have all of ``least`` (partition → seq), after ``within_s``, or if the database
        fails. The caller's read then finds out which of the three happened."""
        deadline = monotonic() + within_s
        while not self._have(least) and (left_s := deadline - monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._turn.acquire()
            except TimeoutError:
                return
            try:
                if not self._have(least):
                    await asyncio.sleep(min(POLL_S, max(deadline - monotonic(), 0.0)))
                    await self._query()
            except ReadModelUnavailable:
                return
            finally:
                self._turn.release()

    async def look(self) -> Mapping[int, int]:
        """The partitions of the tables → their last seq now. Raises ReadModelUnavailable."""
        async with self._turn:
            await self._query()
        return self._seqs

    async def _query(self) -> None:
        (rows,) = await self._model.fetch(_CHECKPOINTS, quick=True)
        self._seqs = {row[0]: row[1] for row in rows}

    def _have(self, least: Mapping[int, int]) -> bool:
        return all(self._seqs.get(partition, 0) >= seq for partition, seq in least.items())
