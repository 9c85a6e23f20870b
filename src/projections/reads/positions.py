"""How far the tables are, looked at by one for all who wait: a hundred reads that wait for their ``min_position`` ask
the database as often as a single one does.

Whoever waits looks itself, in its turn, and what it sees is everybody's; so nothing looks when nobody waits any more,
and who closes the tables after the last read meets nobody at them.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from projections.reads import statements
from projections.storage.port import ReadModel, ReadModelUnavailable
from projections.tables.queries import Query

LOOK_EVERY_S: Final = 0.004
"""While somebody waits. Chosen: a look costs a database some 0.5 ms, and what is visible is late by half of this."""

_CHECKPOINTS: Final = (Query(statements.checkpoints),)


class Positions:
    """For one event loop."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self._seqs: dict[int, int] = {}
        self._turn = asyncio.Lock()

    async def reached(self, least: Mapping[int, int], within_s: float) -> None:
        """Return once the tables have all of ``least`` (partition → seq), the time is over, or they cannot be asked;
        whoever reads them then finds out which."""
        deadline = monotonic() + within_s
        while not self._have(least) and (left_s := deadline - monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._turn.acquire()
            except TimeoutError:
                return
            try:
                if not self._have(least):
                    await asyncio.sleep(min(LOOK_EVERY_S, max(deadline - monotonic(), 0.0)))
                    (rows,) = await self._model.fetch(_CHECKPOINTS, quick=True)
                    self._seqs = {row[0]: row[1] for row in rows}
            except ReadModelUnavailable:
                return
            finally:
                self._turn.release()

    def _have(self, least: Mapping[int, int]) -> bool:
        return all(self._seqs.get(partition, 0) >= seq for partition, seq in least.items())
