"""The client library beside plain HTTP: what batches that it makes by itself gain, and what it costs one task."""

from __future__ import annotations

from typing import Final

from bench.figures import Bound, Row, Slice, Target, ratio_of, summary_of
from bench.lab.jobs import LibraryBets
from bench.lab.one_node import Lab
from bench.report import load_text

TASKS: Final = (64, 1)
OF_PLAIN_RATE: Final = Target(Bound.AT_LEAST, 3, "×")
OF_PLAIN_P50: Final = Target(Bound.AT_MOST, 1.15, "×")


def library(lab: Lab) -> list[Row]:
    """64 tasks and one task that each await one command, beside as many that post by plain httpx."""
    return [_row(lab, tasks) for tasks in TASKS]


def _row(lab: Lab, tasks: int) -> Row:
    ours, beside = list[Slice](), list[Slice]()
    for pair in range(lab.plan.pairs):
        lab.say(f"client library, {tasks} tasks, pair {pair + 1} of {lab.plan.pairs}")
        for plain, slices in ((False, ours), (True, beside)):
            number = lab.number()
            job = LibraryBets(
                port=lab.busy.port,
                tasks=tasks,
                limit_s=lab.plan.slice_s,
                tag=f"s{number}",
                seed=number,
                plain=plain,
            )
            slices.append(lab.generator.ask(job))
            lab.step()
            lab.settle(lab.busy)
    rate = ratio_of([one.rate for one in ours], [one.rate for one in beside])
    p50 = ratio_of([one.p50_ms for one in ours], [one.p50_ms for one in beside])
    ratio = p50 if tasks == 1 else rate
    mine, other = summary_of(ours), summary_of(beside)
    return Row(
        "library",
        f"client library, {'p50 of 1 task' if tasks == 1 else f'rate of {tasks} tasks'}",
        load_text(mine),
        f"plain httpx {load_text(other)}",
        ratio,
        OF_PLAIN_P50 if tasks == 1 else OF_PLAIN_RATE,
        ratio.median,
        {"ours": mine, "beside": other, "rate": rate, "p50": p50},
    )
