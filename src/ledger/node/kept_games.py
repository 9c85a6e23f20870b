"""The games whose periods may get an outcome, though the rules of this node lack them: the log keeps their names.

Rules that another node started with can name a game that these do not have. Its name is in the log before its first
bet. So a name that this node does not know is looked up in the log, before a command or a read refuses it.
"""

from collections.abc import Sequence

from ledger.core.commands import CancelPeriod, RecordResult
from ledger.core.fields import GAME_STREAM
from ledger.core.games.periods import SECOND_US
from ledger.core.games.rules import Game, RuleBook
from ledger.errors import LedgerError
from ledger.ports import Clock, EventLog
from ledger.writer.requests import CommandRequest, Failed, Request

_LOOK_US = SECOND_US
"""How often at most the log is asked: otherwise wrong names would cost a read each. It is less than the time between
the first bet on a new game and its first outcome (``RESULT_AFTER_US``)."""


class KeptGames:
    """Adds the names that the log keeps to ``rules.names``."""

    def __init__(self, log: EventLog, rules: RuleBook, clock: Clock) -> None:
        self._log, self._rules, self._clock = log, rules, clock
        self._looked_us: int | None = None

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
        if self._rules.names.issuperset(names):
            return
        now_us = self._clock()
        if self._looked_us is not None and abs(now_us - self._looked_us) < _LOOK_US:
            return
        self._rules.names.update(await self._log.games())
        self._looked_us = now_us
