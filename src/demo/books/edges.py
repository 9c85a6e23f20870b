"""What the house kept of each game beside what the odds say, from the books. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from demo.books.books import Books
from demo.books.payouts import FEE_BP, odds_of, payout_of, results_of
from demo.books.wallets import Bet

NORMAL_95 = 1.96
"""95 % of a normal distribution lie within so many standard deviations."""


@dataclass(slots=True)
class Edge:
    """One game, of the periods with a result. Money in minor units; `variance` is that of what the house pays."""

    game: str
    periods: int = 0
    bets: int = 0
    staked: int = 0
    paid_out: int = 0
    expected: float = 0.0
    variance: float = 0.0
    """Of the payouts, by the results that each period could have had."""
    cancelled: int = 0

    @property
    def realised(self) -> float:
        """The house's part of the stakes, fees included."""
        return 1 - self.paid_out / self.staked if self.staked else 0.0

    @property
    def by_the_odds(self) -> float:
        """What it is on average."""
        return 1 - self.expected / self.staked if self.staked else 0.0

    @property
    def margin(self) -> float:
        """95 % of days like this one end within so much of `by_the_odds`."""
        return NORMAL_95 * math.sqrt(self.variance) / self.staked if self.staked else 0.0


def edges_of(books: Books) -> list[Edge]:
    """Each game that was played, by name, and all of them together at the end."""
    edges: dict[str, Edge] = {}
    for (game, period), result in books.results.items():
        edge = edges.setdefault(game, Edge(game))
        if result is None:
            edge.cancelled += 1
            continue
        edge.periods += 1
        bets = [wallet.bets[bet_id] for wallet, bet_id in books.periods.get((game, period), ())]
        edge.bets += len(bets)
        edge.staked += sum(bet.stake for bet in bets)
        edge.paid_out += sum(bet.payout or 0 for bet in bets)
        edge.expected += sum(_expected(game.rpartition("_")[0], bet) for bet in bets)
        edge.variance += statistics.pvariance(_payouts(game.rpartition("_")[0], bets))
    found = [edges[game] for game in sorted(edges)]
    return [*found, _together(found)] if len(found) > 1 else found


def _payouts(rules: str, bets: list[Bet]) -> list[int]:
    """What the house would pay in all on each result."""
    return [sum(payout_of(rules, bet.selection, bet.stake, result) for bet in bets) for result in results_of(rules)]


def _expected(rules: str, bet: Bet) -> float:
    legs = bet.selection.split("+")
    contract = Fraction(bet.stake, len(legs)) * (10_000 - FEE_BP) / 10_000
    return float(sum(contract * _return(rules, leg) for leg in legs))


def _return(rules: str, leg: str) -> Fraction:
    """The odds of a leg times its chance: what comes back of its contract amount on average."""
    if rules == "5d":
        return Fraction(9, 10) if leg[-1].isdigit() else Fraction(1)
    results = results_of(rules)
    return Fraction(sum(odds_of(rules, leg, result) for result in results), 100 * len(results))


def _together(edges: Sequence[Edge]) -> Edge:
    all_games = Edge("all games")
    for edge in edges:
        for name in ("periods", "bets", "staked", "paid_out", "expected", "variance", "cancelled"):
            setattr(all_games, name, getattr(all_games, name) + getattr(edge, name))
    return all_games
