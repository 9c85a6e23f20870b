"""Which part of the stakes the house kept in each game, and which part the odds predict, from the books. No I/O."""

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
"""95 % of a normal distribution lie within this many standard deviations."""


@dataclass(slots=True)
class Edge:
    """The periods of one game that have a result. Money is in minor units."""

    game: str
    periods: int = 0
    bets: int = 0
    staked: int = 0
    paid_out: int = 0
    expected: float = 0.0
    variance: float = 0.0
    """The variance of what the house pays, over the results that each period could have had."""
    cancelled: int = 0

    @property
    def realised(self) -> float:
        """The part of the stakes that the house kept, fees included."""
        return 1 - self.paid_out / self.staked if self.staked else 0.0

    @property
    def by_the_odds(self) -> float:
        """The part of the stakes that the house keeps on average."""
        return 1 - self.expected / self.staked if self.staked else 0.0

    @property
    def margin(self) -> float:
        """On 95 % of days like this one `realised` is within this distance of `by_the_odds`."""
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
    """What the house would pay for all bets together, for each result."""
    return [sum(payout_of(rules, bet.selection, bet.stake, result) for bet in bets) for result in results_of(rules)]


def _expected(rules: str, bet: Bet) -> float:
    legs = bet.selection.split("+")
    contract = Fraction(bet.stake, len(legs)) * (10_000 - FEE_BP) / 10_000
    return float(sum(contract * _return(rules, leg) for leg in legs))


def _return(rules: str, leg: str) -> Fraction:
    """The odds of a leg times its chance: the part of its contract amount that it pays back on average."""
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
