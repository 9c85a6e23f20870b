"""The share of a realistic read mix that the cache of aggregates serves while bets arrive.

The mix, over 10,000 funded wallets picked evenly: of 20 reads 15 are of a wallet, 4 of statistics, 1 of a
leaderboard, that one of this day, this week, yesterday or the week before. 500 bets a second arrive, on
wallets picked evenly too. Every wallet is read once before, uncounted: what is measured is a service that has been up
for a while. Hits and misses are those that the service counts itself, of all aggregates together.
"""

from __future__ import annotations

import http.client
import re
from concurrent.futures import ThreadPoolExecutor
from time import time_ns

from bench.figures import BenchError, Bound, Row, Target
from bench.lab.jobs import Arrivals, MixedReads, ReadEach
from bench.lab.programs import JobProcess, Program
from bench.load import bodies
from bench.load.bodies import What
from bench.load.freshness import Following
from bench.load.generator import ANSWER_TIMEOUT_S
from bench.report import load_text

HIT_RATIO = Target(Bound.AT_LEAST, 0.9)
"""From the promises of the project."""
CONNECTIONS = 16
COMMANDS_PER_S = 500
EACH: tuple[What, ...] = ("wallet", "stats")
_COUNTED = re.compile(r'stakelog_cache_reads_total\{aggregate="(\w+)",outcome="(\w+)"\} (\S+)')

Counts = dict[str, dict[str, float]]
"""Aggregate → outcome → reads."""


def hit_ratio(
    service: Program, reader: JobProcess, bettor: JobProcess, *, limit_s: float, tag: str, seed: int
) -> Row:
    """The service has its wallets open and funded. Raises BenchError, also where it has no cache."""
    port, metrics = service.port, service.metrics_port
    for what in EACH:
        reader.ask(ReadEach(port=port, connections=CONNECTIONS, what=what))
    before = counts_of(metrics)
    with ThreadPoolExecutor(1) as beside:
        betting = beside.submit(
            bettor.follow,
            Arrivals(port=port, metrics_port=metrics, per_s=COMMANDS_PER_S, limit_s=limit_s, tag=tag, seed=seed),
        )
        read = reader.ask(
            MixedReads(port=port, connections=CONNECTIONS, limit_s=limit_s, now_us=time_ns() // 1_000, seed=seed)
        )
        bet: Following = betting.result()
    found = since(before, counts_of(metrics))
    ratios = {aggregate: ratio_of_hits(outcomes) for aggregate, outcomes in found.items()}
    together = ratio_of_hits(
        {outcome: sum(of[outcome] for of in found.values()) for outcome in next(iter(found.values()))}
    )
    return Row(
        "cache",
        f"answered by the cache, {bodies.WALLETS:,} wallets, {bet.arrived.rate:,.0f} bets/s beside",
        f"{together:.1%} of {load_text(read)}",
        ", ".join(f"{aggregate} {ratio:.1%}" for aggregate, ratio in ratios.items()),
        target=HIT_RATIO,
        judged=together,
        figures={"counts": found, "reads": read, "bets": bet.arrived},
    )


def counts_of(port: int) -> Counts:
    """What the service has counted. Raises BenchError where it has no cache."""
    counts: Counts = {}
    for aggregate, outcome, number in _COUNTED.findall(_metrics(port)):
        counts.setdefault(aggregate, {})[outcome] = float(number)
    if not counts:
        raise BenchError("the service counts no reads of a cache: set STAKELOG_CACHE=redis://…")
    return counts


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"no metrics from 127.0.0.1:{port}: {error}") from error
    finally:
        connection.close()


def since(before: Counts, after: Counts) -> Counts:
    return {
        aggregate: {outcome: number - before[aggregate][outcome] for outcome, number in outcomes.items()}
        for aggregate, outcomes in after.items()
    }


def ratio_of_hits(outcomes: dict[str, float]) -> float:
    """The share of reads served by the cache. A read counted as ``behind`` was also counted as a hit."""
    total = sum(number for outcome, number in outcomes.items() if outcome != "behind")
    return (outcomes["hit"] - outcomes["behind"]) / total if total else 0.0
