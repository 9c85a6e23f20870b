"""What login and rate limits add to a command: processor time of the service with both, beside one without login.

Both services run at the same time on logs of their own; slices alternate. With default limits, and one client.
"""

from __future__ import annotations

import statistics
from typing import Final

from bench.figures import Bound, Row, Target, ratio_of
from bench.lab.one_node import Lab
from bench.lab.programs import Program
from bench.report import three_figures

LOADS: Final = (("1 connection", 1, 1), ("64 connections", 64, 1), ("batches of 100, 4 connections", 4, 100))
WITH_LOGIN: Final = Target(Bound.AT_MOST, 1.15, "×")
"""The project's own: login and limits together may add 15 %."""


def login(lab: Lab) -> list[Row]:
    """Processor time of the service per command, with login and without."""
    rows = [_row(lab, *load) for load in LOADS]
    lab.end("logged")
    return rows


def _row(lab: Lab, name: str, connections: int, per_request: int) -> Row:
    with_us, without_us = list[float](), list[float]()
    for pair in range(lab.plan.pairs):
        lab.say(f"login and limits, {name}, pair {pair + 1} of {lab.plan.pairs}")
        without_us.append(_cost_us(lab, lab.busy, connections, per_request, None))
        lab.step()
        with_us.append(_cost_us(lab, lab.logged.service, connections, per_request, lab.logged.token))
        lab.step()
    ratio = ratio_of(with_us, without_us)
    return Row(
        "login",
        f"processor time of a command with login and limits, {name}",
        f"{three_figures(statistics.median(with_us))} µs",
        f"without {three_figures(statistics.median(without_us))} µs",
        ratio,
        WITH_LOGIN,
        ratio.median,
        {"with_us": with_us, "without_us": without_us},
    )


def _cost_us(lab: Lab, service: Program, connections: int, per_request: int, token: str | None) -> float:
    lab.settle(service)
    before_s = service.processor_s()["serve"]
    done = lab.bets(service, connections, per_request, lab.plan.slice_s, "uniform", token=token).done
    return (service.processor_s()["serve"] - before_s) / done * 1e6
