"""What a command costs on a long log, compared with a short one; and a minute of batches without a pause.

1. Both services run at the same time; their slices alternate.
2. Bytes are what the kernel wrote to the disk of the folder, from one sync to the next: of the service with all its
   processes, and of whatever else writes to that disk. The counters of a process are not usable: they count a change
   of 4 KiB in a larger piece of the page cache as the whole piece.
"""

from __future__ import annotations

import http.client
import statistics
import time
from typing import Final

from bench.figures import Bound, Row, Target, ratio_of
from bench.lab.one_node import Lab
from bench.lab.programs import Program
from bench.load.freshness import Lag, lag_of
from bench.machine import written_bytes
from bench.measures.cost import LOADS, Cost, Load, cost_of
from bench.report import load_text, rate_text, three_figures

OF_FRESH: Final = Target(Bound.AT_MOST, 1.1, "×")
WRITTEN: Final = {
    "64 connections": Target(Bound.AT_MOST, 4, " KB"),
    "batches of 1,000, 4 connections": Target(Bound.AT_MOST, 2, " KB"),
}
"""Name of a load → the goal for KB written per command."""
SUSTAINED_RATE: Final = Target(Bound.AT_LEAST, 25_000, "/s")
LAG: Final = Target(Bound.AT_MOST, 1, " s")
SUSTAINED_PER_S_MAX: Final = 40_000
"""Commands that are built in advance for each second: 550 MB for a minute. With a faster service the load ends
early."""


class _Taken:
    """The slices of one side."""

    def __init__(self) -> None:
        self.costs: list[Cost] = []
        self.kb: list[float] = []

    def take(self, lab: Lab, service: Program, load: Load) -> None:
        before, took = written_bytes(lab.folder), cost_of(lab, service, load)
        after = written_bytes(lab.folder)
        self.costs.append(took)
        if before is not None and after is not None:
            self.kb.append((after - before) / took.done / 1e3)

    @property
    def text(self) -> str:
        all_us = statistics.median(one.all_us for one in self.costs)
        return f"{three_figures(all_us)} µs, {rate_text(statistics.median(one.rate for one in self.costs))}"


def grown(lab: Lab) -> list[Row]:
    """Processor time and bytes written per command after ``Plan.grown_events`` events, beside a fresh folder."""
    long, fresh = lab.grown, lab.busy
    rows = []
    for load in LOADS:
        ours, beside = _Taken(), _Taken()
        for pair in range(lab.plan.few_pairs):
            lab.say(f"{load.name}, long log beside a fresh one, pair {pair + 1} of {lab.plan.few_pairs}")
            ours.take(lab, long, load)
            beside.take(lab, fresh, load)
        rows += _rows(lab.plan.grown_events, load, ours, beside)
    lab.end("grown")
    return rows


def _rows(events: int, load: Load, ours: _Taken, beside: _Taken) -> list[Row]:
    ratio = ratio_of([one.all_us for one in ours.costs], [one.all_us for one in beside.costs])
    figures = {
        "events": events,
        "ours": [one._asdict() for one in ours.costs],
        "beside": [one._asdict() for one in beside.costs],
    }
    name = f"after {events:,} events, {load.name}"
    rows = [Row("grown", name, ours.text, f"fresh {beside.text}", ratio, OF_FRESH, ratio.median, figures)]
    if ours.kb:
        kb, other_kb = statistics.median(ours.kb), statistics.median(beside.kb)
        rows.append(
            Row(
                "grown",
                f"written per command, {name}",
                f"{three_figures(kb)} KB",
                f"fresh {three_figures(other_kb)} KB",
                ratio_of(ours.kb, beside.kb),
                WRITTEN.get(load.name),
                kb,
                {"events": events, "ours_kb": ours.kb, "beside_kb": beside.kb},
            )
        )
    return rows


def sustained(lab: Lab) -> list[Row]:
    """Batches of 1,000 for ``Plan.sustained_s`` without a pause, and how far the tables are behind at the end."""
    service = lab.busy
    lab.catch_up(service)
    lab.say(f"batches of 1,000 for {lab.plan.sustained_s:g} s")
    taken = lab.bets(service, 4, 1000, lab.plan.sustained_s, "uniform", per_s_max=SUSTAINED_PER_S_MAX)
    lag = _lag(service)
    began = time.perf_counter()
    lab.catch_up(service)
    caught_up_s = time.perf_counter() - began
    lab.step()
    return [
        Row(
            "sustained",
            f"batches of 1,000 for {taken.took_s:.0f} s, 4 connections",
            load_text(taken),
            target=SUSTAINED_RATE,
            judged=taken.rate,
            figures={"ours": taken},
        ),
        Row(
            "sustained",
            "the tables at the end of that",
            f"{lag.ms / 1e3:.2f} s behind, {lag.events:,} events",
            f"caught up {caught_up_s:.2f} s later",
            target=LAG,
            judged=lag.ms / 1e3,
            figures={"lag": lag, "caught_up_s": caught_up_s},
        ),
    ]


def _lag(service: Program) -> Lag:
    connection = http.client.HTTPConnection("127.0.0.1", service.metrics_port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        return lag_of(connection.getresponse().read().decode())
    finally:
        connection.close()
