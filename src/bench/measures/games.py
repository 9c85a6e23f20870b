"""What games and money flows add to a plain bet: the processor time of a bet in a service that has all of them, and
in one that has none.

1. Both services run at the same time. Each has its own log, of about the same length; their slices alternate.
2. A plain bet is one of the game ``external``, in both services.
3. Counted is the processor time of the service and of its follower until the tables have caught up. The background
   check is not counted: it takes a fixed share of a processor, whatever it checks.
"""

from __future__ import annotations

import statistics
from typing import Final

from bench.figures import Bound, Row, Target, ratio_of
from bench.lab.one_node import Lab
from bench.lab.programs import Program
from bench.report import three_figures

LOADS: Final = (("64 connections", 64, 1), ("batches of 1,000, 4 connections", 4, 1000))
WITH_GAMES: Final = Target(Bound.AT_MOST, 1.1, "×")
"""From the promises of the project."""
COUNTED: Final = ("serve", "project follow")


def games(lab: Lab) -> list[Row]:
    """Processor time of a plain bet, with games and money flows and without."""
    rows = [_row(lab, *load) for load in LOADS]
    lab.end("plain", "house")
    return rows


def _row(lab: Lab, name: str, connections: int, per_request: int) -> Row:
    with_us, without_us = list[float](), list[float]()
    for pair in range(lab.plan.pairs):
        lab.say(f"games and money flows, {name}, pair {pair + 1} of {lab.plan.pairs}")
        without_us.append(_cost_us(lab, lab.plain, connections, per_request))
        lab.step()
        with_us.append(_cost_us(lab, lab.house, connections, per_request))
        lab.step()
    ratio = ratio_of(with_us, without_us)
    return Row(
        "games",
        f"processor time of a plain bet with games and money flows, {name}",
        f"{three_figures(statistics.median(with_us))} µs",
        f"without {three_figures(statistics.median(without_us))} µs",
        ratio,
        WITH_GAMES,
        ratio.median,
        {"with_us": with_us, "without_us": without_us},
    )


def _cost_us(lab: Lab, service: Program, connections: int, per_request: int) -> float:
    lab.catch_up(service)
    before = counted_s(service.processor_s())
    done = lab.bets(service, connections, per_request, lab.plan.slice_s, "uniform").done
    lab.catch_up(service)
    return (counted_s(service.processor_s()) - before) / done * 1e6


def counted_s(processes: dict[str, float]) -> float:
    """The sum of the processor times that count (see 3), in seconds. ``processes``: process → its processor time."""
    return sum(used_s for name, used_s in processes.items() if name in COUNTED)
