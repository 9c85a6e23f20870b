"""Live feeds: how long a bet takes to the client that follows its wallet, and what the feeds cost other reads.

500 bets a second, with and without feeds in turns; one connection reads wallets meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from bench.figures import Bound, Row, Slice, Target, ratio_of, summary_of
from bench.lab.jobs import Feeds, WalletReads
from bench.lab.one_node import Lab
from bench.report import three_figures

CONNECTIONS: Final = 2_000
PER_S: Final = 500
EVENT_WITHIN: Final = Target(Bound.AT_MOST, 500, " ms")
READS_SLOWER: Final = Target(Bound.AT_MOST, 2, "×")
_POLL_S: Final = 0.1


def feeds(lab: Lab) -> list[Row]:
    """2,000 feeds while 500 bets a second are placed."""
    with_feeds, reads_with, reads_without, kilobytes = list[Slice](), list[Slice](), list[Slice](), list[float]()
    for pair in range(lab.plan.few_pairs):
        lab.say(f"live feeds, pair {pair + 1} of {lab.plan.few_pairs}")
        reads_without.append(_slices(lab, 0)[1])
        lab.step()
        before = lab.busy.resident_bytes()["serve"]
        events, reads, most = _slices(lab, CONNECTIONS)
        with_feeds.append(events)
        reads_with.append(reads)
        kilobytes.append((most - before) / CONNECTIONS / 1e3)
        lab.step()
    found = summary_of(with_feeds)
    ratio = ratio_of([one.p99_ms for one in reads_with], [one.p99_ms for one in reads_without])
    each_kb = max(kilobytes)  # those after the first pair use memory that the service has kept
    return [
        Row(
            "feeds",
            f"bet to its live feed, {CONNECTIONS:,} feeds, {PER_S} commands/s",
            f"p50 {three_figures(found.p50_ms)}, p99 {three_figures(found.p99_ms)} ms",
            f"at most {three_figures(each_kb)} kB of memory a feed",
            None,
            EVENT_WITHIN,
            found.p99_ms,
            {"events": with_feeds, "kilobytes": kilobytes},
        ),
        Row(
            "feeds",
            "wallet reads meanwhile, p99",
            f"{three_figures(summary_of(reads_with).p99_ms)} ms",
            f"without feeds {three_figures(summary_of(reads_without).p99_ms)} ms",
            ratio,
            READS_SLOWER,
            ratio.median,
            {"with": reads_with, "without": reads_without},
        ),
    ]


def _slices(lab: Lab, connections: int) -> tuple[Slice, Slice, int]:
    """One slice of bets with this number of feeds: their events at the clients, the reads of wallets meanwhile, and
    the most memory that the service had, in bytes."""
    service, number, limit_s = lab.busy, lab.number(), lab.plan.paced_s
    lab.settle(service)
    job = Feeds(port=service.port, connections=connections, per_s=PER_S, limit_s=limit_s, tag=f"f{number}")
    read = WalletReads(
        port=service.port, connections=1, what="wallet", wallets=CONNECTIONS, limit_s=limit_s, seed=number
    )
    with ThreadPoolExecutor(2) as threads:
        events = threads.submit(lab.generator.ask, job)
        reads = threads.submit(lab.yardstick.ask, read)
        most = 0
        while not events.done():
            most = max(most, service.resident_bytes()["serve"])
            try:
                events.result(_POLL_S)
            except TimeoutError:
                continue
        return events.result(), reads.result(), most
