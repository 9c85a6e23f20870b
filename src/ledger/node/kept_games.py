"""The games whose periods may get an outcome, though the rules of this node lack them: the log keeps their names.

Rules that another node started with can name a game that these do not have. Its name is in the log before its first
bet. So a name that this node does not know is looked up in the log, before a command or a read refuses it.
"""

import asyncio
from collections.abc import Sequence

from ledger import background
from ledger.core.commands import CancelPeriod, RecordResult
from ledger.core.fields import GAME_STREAM
from ledger.core.games.periods import SECOND_US
from ledger.core.games.rules import Game, RuleBook
from ledger.errors import LedgerError
from ledger.ports import Clock, EventLog
from ledger.writer.requests import CommandRequest, Failed, Request

_LOOK_US = SECOND_US
"""How often at most the log is asked: otherwise wrong names would cost a read each, also while reads fail. It is less
than the time between the first bet on a new game and its first outcome (``RESULT_AFTER_US``)."""


class KeptGames:
    """Adds the names that the log keeps to ``rules.names``."""

    def __init__(self, log: EventLog, rules: RuleBook, clock: Clock) -> None:
        self._log, self._rules, self._clock = log, rules, clock
        self._look: asyncio.Task[None] | None = None
        """The last read of the names, which all who come while it runs share. One that failed answers those who come
        too early for another."""
        self._looked_us = 0

    async def game(self, name: str) -> Game | None:
        """The game of that name; None if no rules that the log knows have had it. Raises LedgerError."""
        await self._look_up([name])
        return self._rules.with_outcomes(name)

    async def look_up_for(self, requests: Sequence[Request]) -> None:
        """Before the requests are decided: look up the games of their outcomes. If the log cannot be read, those with
        an unknown game are closed as ``log_unavailable``."""
        of_outcomes = [
            (request, request.user_id.removeprefix(GAME_STREAM))
            for request in requests
            if type(request) is CommandRequest and type(request.command) in (RecordResult, CancelPeriod)
        ]
        if not of_outcomes:
            return
        try:
            await self._look_up([name for _, name in of_outcomes])
        except LedgerError as error:
            for request, name in of_outcomes:
                if name not in self._rules.names:
                    request.close(Failed("log_unavailable", error.for_clients))

    async def _look_up(self, names: Sequence[str]) -> None:
        """Raises LedgerError."""
        came_us = self._clock()
        for _ in range(2):  # the first read may have begun long before this call; the second begins after it
            if self._rules.names.issuperset(names):
                return
            if self._look is None or (self._look.done() and abs(self._clock() - self._looked_us) >= _LOOK_US):
                self._looked_us = self._clock()
                self._look = background.awaited(self._read(), "kept-games")
            looked_us = self._looked_us
            await background.result_of(self._look)
            if came_us - looked_us < _LOOK_US:
                return

    async def _read(self) -> None:
        self._rules.names.update(await self._log.games())
