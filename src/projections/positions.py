"""How far the tables are, looked at by one for all who wait: a hundred reads that wait for their ``min_position`` ask
the database as often as a single one does."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from projections import statements
from projections.read_model import Ask, ReadModel

LOOK_EVERY_S: Final = 0.004
"""While somebody waits. Chosen: a look costs a database some 0.5 ms, and what is visible is late by half of this."""

_CHECKPOINTS: Final = (Ask(statements.checkpoints, {}),)


class Positions:
    """For one event loop."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self._seqs: dict[int, int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def reached(self, least: Mapping[int, int], within_s: float) -> None:
        """Return once the tables have all of ``least`` (partition → seq), the time is over, or they cannot be asked;
        whoever reads them then finds out which."""
        deadline = monotonic() + within_s
        while not all(self._seqs.get(partition, 0) >= seq for partition, seq in least.items()):
            left_s = deadline - monotonic()
            if left_s <= 0:
                return
            if self._looking is None or self._looking.done():
                self._looking = asyncio.get_running_loop().create_task(self._look(), name="positions")
            looking = self._looking
            await asyncio.wait({looking}, timeout=left_s)
            if looking.done() and looking.exception() is not None:
                return

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_EVERY_S)
        (rows,) = await self._model.fetch(_CHECKPOINTS, quick=True)
        self._seqs = {row[0]: row[1] for row in rows}
