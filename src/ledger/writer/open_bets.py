"""The open bets of a partition by the period that they wait for: the record of what is left to settle.

Of each bet there is only its seq in memory, 8 bytes, because a game server that is down for a day can leave millions;
the state has the rest under the bet's key.

Invariants:
(1) a bet is a member from the commit of its event until the commit of the event that ends it;
(2) a batch that is rolled back has changed nothing;
(3) a period whose bets are still open ``ASK_AFTER_US`` after its end is to be asked for, again and again, until they
    are settled; after a start, as soon as its outcome may be known.
"""

from typing import Final

from ledger.core.games.periods import RESULT_AFTER_US, SECOND_US, ends_at_us
from ledger.core.items import OpenBet
from ledger.writer.open_seqs import OpenSeqs

ASK_AFTER_US: Final = 60 * SECOND_US
"""How long after a period's end a partition first asks for its outcome, and how often it repeats that."""

Period = tuple[str, str]
"""The name of a game, and the name of its period."""


class _Open:
    """The open bets of one period, and when to ask for its outcome."""

    __slots__ = ("ask_at_us", "digests", "ended_to", "ends_at_us", "seqs")

    def __init__(self, period: Period) -> None:
        self.ends_at_us = ends_at_us(*period)
        self.ask_at_us = self.ends_at_us + ASK_AFTER_US
        self.seqs = OpenSeqs()
        self.digests: set[str] = set()
        self.ended_to = 0
        """No bet up to this seq is open: a settlement of many rounds need not begin at the first bet again."""


class OpenBets:
    """Changed within a batch, like the state that it is a part of."""

    def __init__(self) -> None:
        self._periods: dict[Period, _Open] = {}
        self._placed: list[tuple[int, OpenBet]] = []
        self._ended: list[tuple[int, Period]] = []

    def place(self, seq: int, bet: OpenBet) -> None:
        self._placed.append((seq, bet))

    def end(self, seq: int, period: Period) -> None:
        self._ended.append((seq, period))

    def commit(self) -> None:
        for seq, bet in self._placed:
            self.load(seq, bet)
        for seq, period in self._ended:
            open_bets = self._periods[period]
            removed = open_bets.seqs.discard(seq)
            assert removed, (seq, period)
            if not len(open_bets.seqs):
                del self._periods[period]
        self.roll_back()

    def roll_back(self) -> None:
        self._placed.clear()
        self._ended.clear()

    def load(self, seq: int, bet: OpenBet) -> None:
        """Add a bet that is durable. Its seq is above all that were added before."""
        of_game = bet.of_game
        period = (of_game.game, of_game.period)
        open_bets = self._periods.get(period)
        if open_bets is None:
            open_bets = self._periods[period] = _Open(period)
        open_bets.seqs.add(seq)
        open_bets.digests.add(of_game.table_digest)

    @property
    def digests(self) -> set[str]:
        """The tables that the open bets of all periods were taken under, and maybe some of bets that have ended."""
        return {digest for open_bets in self._periods.values() for digest in open_bets.digests}

    @property
    def games(self) -> set[str]:
        """The names of the games of the open bets."""
        return {game for game, _ in self._periods}

    def of_period(self, period: Period, limit: int) -> list[int]:
        """The seqs of the first ``limit`` open bets of the period, as of the last commit."""
        open_bets = self._periods.get(period)
        if open_bets is None:
            return []
        found = open_bets.seqs.after(open_bets.ended_to, limit)
        open_bets.ended_to = found[0] - 1
        return found

    def ask_soon(self) -> None:
        """After a start: ask for every outcome as soon as it may be known."""
        for open_bets in self._periods.values():
            open_bets.ask_at_us = open_bets.ends_at_us + RESULT_AFTER_US

    def take_to_ask(self, now_us: int, limit: int) -> list[Period]:
        """At most ``limit`` periods that are to be asked for now. Each is due again after ``ASK_AFTER_US``."""
        due = []
        for period, open_bets in self._periods.items():
            if open_bets.ask_at_us <= now_us:
                open_bets.ask_at_us = now_us + ASK_AFTER_US
                due.append(period)
                if len(due) == limit:
                    break
        return due
