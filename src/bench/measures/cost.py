"""What an acknowledged command costs: processor time of all processes until the read model has caught up.

It determines the rates, but changes less with other load on the machine. The unit is one turn of the yardstick loop,
which decodes one command, encodes one record and hashes it (`yardsticks.processor`).
"""

from __future__ import annotations

import statistics
from typing import Final, NamedTuple

from bench.figures import Bound, Row, Target, ratio_of
from bench.lab.jobs import CommandLoop
from bench.lab.one_node import Lab
from bench.lab.programs import Program
from bench.report import three_figures


class Load(NamedTuple):
    name: str
    connections: int
    per_request: int
    target: Target


LOADS: Final = (
    Load("1 connection", 1, 1, Target(Bound.AT_MOST, 110, "×")),
    Load("64 connections", 64, 1, Target(Bound.AT_MOST, 32, "×")),
    Load("batches of 1,000, 4 connections", 4, 1000, Target(Bound.AT_MOST, 12, "×")),
)


class Cost(NamedTuple):
    each_us: dict[str, float]
    loop_us: float
    rate: float
    done: int

    @property
    def all_us(self) -> float:
        return sum(self.each_us.values())


def cost(lab: Lab) -> list[Row]:
    """Processor time per command by process and in all, for each load."""
    return [_row(load, [cost_of(lab, lab.busy, load) for _ in range(lab.plan.pairs)]) for load in LOADS]


def cost_of(lab: Lab, service: Program, load: Load) -> Cost:
    """One slice of load, and then the yardstick."""
    lab.catch_up(service)
    lab.say(f"processor time, {load.name}")
    before = service.processor_s()
    taken = lab.bets(service, load.connections, load.per_request, lab.plan.slice_s, "uniform")
    lab.catch_up(service)
    after = service.processor_s()
    lab.step()
    loop = lab.yardstick.ask(CommandLoop(limit_s=lab.plan.short_slice_s / 2))
    lab.step()
    each_us = {name: (used_s - before.get(name, 0.0)) / taken.done * 1e6 for name, used_s in after.items()}
    return Cost(each_us, 1e6 / loop.rate, taken.rate, taken.done)


def _row(load: Load, costs: list[Cost]) -> Row:
    ratio = ratio_of([one.all_us for one in costs], [one.loop_us for one in costs])
    each = {name: statistics.median(one.each_us.get(name, 0.0) for one in costs) for name in costs[0].each_us}
    loop_us = statistics.median(one.loop_us for one in costs)
    return Row(
        "cost",
        f"processor time of a command, {load.name}",
        f"{three_figures(statistics.median(one.all_us for one in costs))} µs: "
        + ", ".join(f"{name} {three_figures(used_us)}" for name, used_us in each.items()),
        f"loop {three_figures(loop_us)} µs",
        ratio,
        load.target,
        ratio.median,
        {"each_us": each, "loop_us": loop_us},
    )
