"""Asks for the outcomes of periods whose bets are still open after the period's end.

An outcome is announced to every partition when it is recorded. The announcement is lost where its sender or its
receiver ends at that moment; the open bets are not. So each partition asks the stream of the game for every period
with open bets: after a start at once, later ``ASK_AFTER_US`` after the end, and again until they are settled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from ledger import background
from ledger.core.fields import GAME_STREAM
from ledger.core.record import decode
from ledger.core.settlement import resolution_of
from ledger.ports import Clock
from ledger.writer.requests import Accepted, AnyResponse
from ledger.writer.writer import Writer

_LOOK_S: Final = 1.0
_ASKED_MAX: Final = 64
"""The most periods that one partition asks for at a time. Chosen: an hour of twenty games takes a minute."""

_log = logging.getLogger(__name__)

Ask = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[AnyResponse]]]
"""(the stream of a game, the period) … → for each the record of its outcome, None, or why it could not be read."""


class Unsettled:
    """One task for all partitions of a node."""

    def __init__(self, writers: Mapping[int, Writer], clock: Clock, ask: Ask) -> None:
        self._writers, self._clock, self._ask = writers, clock, ask
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = background.keep(self._run, "unsettled")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            await self.ask_once()
            await asyncio.sleep(_LOOK_S)

    async def ask_once(self) -> None:
        """Ask for every outcome that is due, and hand those that are known to the writers of the bets."""
        now_us = self._clock()
        waiting = [
            (writer, (f"{GAME_STREAM}{game}", period))
            for writer in self._writers.values()
            if writer.is_open
            for game, period in writer.state.open_bets.take_to_ask(now_us, _ASKED_MAX)
        ]
        if not waiting:
            return
        responses = await self._ask([asked for _, asked in waiting])
        for (writer, (stream, period)), response in zip(waiting, responses, strict=True):
            if isinstance(response, Accepted):
                event = decode(response.record).event
                resolution = resolution_of(event, response.position, response.head, writer.partition)
                writer.receive(resolution, lambda: None)
            else:
                reason = "it has no outcome yet" if response is None else response
                _log.info("partition %d waits for period %s of %s: %s", writer.partition, period, stream, reason)
