"""How late the event loop runs what is due. Work that keeps it busy delays every request by as much."""

import asyncio
from typing import Final

from ledger import background
from ledger.histogram import SECONDS, Histogram

_EVERY_S: Final = 0.1
"""The length of one sleep. Chosen: ten samples a second."""


class LoopDelay:
    """Sleeps again and again for ``_EVERY_S``. ``delay_s`` counts by how many seconds each sleep was too long."""

    def __init__(self) -> None:
        self.delay_s = Histogram(SECONDS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = background.keep(self._run, "loop-delay")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.delay_s.count(max(loop.time() - due_s, 0.0))
