"""The measures of the write side, each a function from the laboratory to rows of the report; and the list of all.

They share three logs, so that a run stays within minutes:

1. *the busy log*: 10,000 funded wallets, which takes all the load (`singles`, `commit`, `batches`, `spread`,
   `cost`, `library`, `sustained`, and `login` beside a service with login); `grown` compares it with a log that was
   written without a service;
2. *the read log*: 10,000 wallets, some with a long history (`reads`, `history`, `visible`, `lag`);
3. *the wide log*: ``Plan.wallets`` wallets with one bet each, whose size does not depend on how fast the machine is
   (`memory`, `startup`, `leaderboard`, `rebuild`, `fold`, `verify`).

`games` has two services of its own; `settlement` and `commissions` have a node in this process each.

Every number is the median over slices that were taken in turns with those of the other side; see `figures`. The
service is measured with all that belongs to it: while commands arrive its follower works too, on the same processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from bench.figures import BenchError, Bound, Row, Slice, Target, ratio_of, summary_of
from bench.lab.jobs import BareLoop, Commits, Verification
from bench.lab.one_node import Lab, Plan
from bench.load.bodies import Spread
from bench.measures import reads as read_measures
from bench.measures.commissions import commissions
from bench.measures.cost import LOADS, cost
from bench.measures.feeds import feeds
from bench.measures.games import LOADS as GAMES_LOADS
from bench.measures.games import games
from bench.measures.grown import grown, sustained
from bench.measures.library import TASKS as LIBRARY_TASKS
from bench.measures.library import library
from bench.measures.login import LOADS as LOGIN_LOADS
from bench.measures.login import login
from bench.measures.settlement import settlement
from bench.report import load_text, mib_text, rate_text

# From the promises of the project: what the ledger may cost beside what it cannot do without.
OF_BARE_ROUTE = Target(Bound.AT_LEAST, 0.55, "×")
OF_BARE_COMMIT = Target(Bound.AT_MOST, 3, "×")
BATCHED_RATE = Target(Bound.AT_LEAST, 40_000, "/s")
OF_UNIFORM = Target(Bound.AT_LEAST, 0.95, "×")
OF_BARE_LOOP = Target(Bound.AT_LEAST, 0.6, "×")
RESIDENT_EMPTY = Target(Bound.AT_MOST, 150, " MiB")
# These two are promised for a million wallets and are judged only there.
CLAIMED_WALLETS = 1_000_000
RESIDENT = Target(Bound.AT_MOST, 600, " MiB")
RESTART = Target(Bound.AT_MOST, 2, " s")

SINGLE_CONNECTIONS = (1, 8, 64)
BATCH_CONNECTIONS = (2, 4)
BATCH_SIZES = (100, 1000)
SPREADS: tuple[Spread, ...] = ("uniform", "hot", "zipf")

BETWEEN_SPREADS_S_MAX = 1.0
"""Shorter: hot, Zipf and uniform load leave the same afterwork, so what is left of it falls on each alike."""
VERIFY_S_MAX = 60.0
"""No further pair of verifications is begun after this long, so that a million wallets do not take an hour."""


def singles(lab: Lab) -> list[Row]:
    """Single commands beside the bare route, at 1, 8 and 64 connections."""
    rows = []
    for connections in SINGLE_CONNECTIONS:
        service, bare = lab.busy, lab.bare
        ours, beside = [], []
        for pair in range(lab.plan.pairs):
            lab.say(f"single commands, {connections} connections, pair {pair + 1} of {lab.plan.pairs}")
            ours.append(lab.bets(service, connections, 1, lab.plan.slice_s, "uniform"))
            lab.step()
            lab.settle(service)
            beside.append(lab.bets(bare, connections, 1, lab.plan.slice_s, "uniform"))
            lab.step()
        ratio = ratio_of([one.rate for one in ours], [one.rate for one in beside])
        mine, other = summary_of(ours), summary_of(beside)
        rows.append(
            Row(
                "singles",
                f"single commands, {_connections(connections)}",
                load_text(mine),
                f"bare route {load_text(other)}",
                ratio,
                OF_BARE_ROUTE if connections == 64 else None,
                ratio.median,
                {"ours": mine, "beside": other},
            )
        )
    return rows


def commit(lab: Lab) -> list[Row]:
    """The p50 of a single command over one connection beside that of a bare fsynced commit."""
    service = lab.busy
    ours, beside = [], []
    for pair in range(lab.plan.pairs):
        lab.say(f"one command beside one bare commit, pair {pair + 1} of {lab.plan.pairs}")
        ours.append(lab.bets(service, 1, 1, lab.plan.short_slice_s, "uniform"))
        lab.step()
        lab.settle(service)
        beside.append(lab.yardstick.ask(Commits(folder=str(lab.folder / "commits"), limit_s=lab.plan.short_slice_s)))
        lab.step()
    ratio = ratio_of([one.p50_ms for one in ours], [one.p50_ms for one in beside])
    mine, other = summary_of(ours), summary_of(beside)
    return [
        Row(
            "commit",
            "p50 of a command, 1 connection",
            load_text(mine),
            f"bare commit {load_text(other)}",
            ratio,
            OF_BARE_COMMIT,
            ratio.median,
            {"ours": mine, "beside": other},
        )
    ]


def batches(lab: Lab) -> list[Row]:
    """Batches of 100 and 1,000 from 2 and from 4 connections; the better one is reported, both are in the file."""
    rows = []
    for size in BATCH_SIZES:
        taken: dict[int, list[Slice]] = {connections: [] for connections in BATCH_CONNECTIONS}
        for turn in range(lab.plan.pairs):
            for connections in BATCH_CONNECTIONS:
                lab.say(f"batches of {size:,} over {connections} connections, {turn + 1} of {lab.plan.pairs}")
                taken[connections].append(lab.bets(lab.busy, connections, size, lab.plan.short_slice_s, "uniform"))
                lab.step()
        sums = {connections: summary_of(slices) for connections, slices in taken.items()}
        best = max(sums, key=lambda connections: sums[connections].rate)
        rows.append(
            Row(
                "batches",
                f"batches of {size:,}, {_connections(best)}",
                load_text(sums[best]),
                target=BATCHED_RATE if size == 1000 else None,
                judged=sums[best].rate,
                figures={"best_connections": best} | {f"connections_{at}": one for at, one in sums.items()},
            )
        )
    return rows


def spread(lab: Lab) -> list[Row]:
    """One hot wallet, and Zipf, beside uniform load: no command waits for a row that others write."""
    rows = []
    for name, connections, per_request in (("single commands", 64, 1), ("batches of 1,000", 4, 1000)):
        taken: dict[Spread, list[Slice]] = {which: [] for which in SPREADS}
        for turn in range(lab.plan.pairs):
            for which in SPREADS:
                lab.say(f"{name}, {which}, {turn + 1} of {lab.plan.pairs}")
                taken[which].append(lab.bets(lab.busy, connections, per_request, lab.plan.short_slice_s, which))
                lab.step()
                lab.busy.settle(BETWEEN_SPREADS_S_MAX)
        sums = {which: summary_of(slices) for which, slices in taken.items()}
        for which, shown in (("hot", "one hot wallet"), ("zipf", "Zipf")):
            ratio = ratio_of([one.rate for one in taken[which]], [one.rate for one in taken["uniform"]])
            rows.append(
                Row(
                    "spread",
                    f"{name}, {shown}",
                    load_text(sums[which]),
                    f"uniform {load_text(sums['uniform'])}",
                    ratio,
                    OF_UNIFORM if which == "hot" else None,
                    ratio.median,
                    {"ours": sums[which], "beside": sums["uniform"]},
                )
            )
    return rows


def memory(lab: Lab) -> list[Row]:
    """Resident memory of all the service's processes, with every wallet of the wide log open and one bet in each."""
    wide, wallets = lab.wide, lab.plan.wallets
    full, empty = sum(wide.full_bytes.values()), sum(wide.empty_bytes.values())
    if not full:
        raise BenchError("resident memory is read from /proc, which this system does not have")
    per_wallet = (full - empty) / wallets
    lab.step()
    return [
        Row(
            "memory",
            f"memory, {wallets:,} wallets, one bet each",
            f"{mib_text(full)}, {full / wallets:,.0f} bytes a wallet: {_each(wide.full_bytes)}",
            f"empty log {mib_text(empty)}, so {per_wallet:,.0f} bytes more: {_each(wide.empty_bytes)}",
            target=RESIDENT if wallets >= CLAIMED_WALLETS else None,
            judged=full / 2**20,
            figures={
                "wallets": wallets,
                "resident_bytes": full,
                "resident_bytes_empty": empty,
                "bytes_per_wallet": full / wallets,
                "bytes_per_wallet_above_empty": per_wallet,
                "processes": wide.full_bytes,
                "processes_empty": wide.empty_bytes,
            },
        ),
        Row(
            "memory",
            "memory, empty log",
            f"{mib_text(empty)}: {_each(wide.empty_bytes)}",
            target=RESIDENT_EMPTY,
            judged=empty / 2**20,
        ),
    ]


def startup(lab: Lab) -> list[Row]:
    """Seconds from exec to the first 200 of /readyz on the wide log, after SIGKILL and after SIGTERM.

    The first kill meets the service right after it was filled; before each later one it takes half a second of
    batches, so that there is something since the last checkpoint to be recovered.
    """
    wide = lab.wide
    service = wide.service
    killed_s, stopped_s = [], []
    resident = 0
    for turn in range(lab.plan.restarts):
        lab.say(f"restarts, {turn + 1} of {lab.plan.restarts}")
        if turn:
            lab.bets(service, 2, 1000, 0.5, "uniform")
        service.kill()
        killed_s.append(service.start())
        resident = sum(service.resident_bytes().values())
        lab.step()
        lab.settle(service)
        service.stop()
        stopped_s.append(service.start())
        lab.step()
    rows = []
    for how, took_s in (("SIGKILL", killed_s), ("SIGTERM", stopped_s)):
        rows.append(
            Row(
                "startup",
                f"start after {how}, {lab.plan.wallets:,} wallets",
                f"{statistics.median(took_s):.2f} s (slowest {max(took_s):.2f} s)",
                f"empty log {wide.first_start_s:.2f} s",
                target=RESTART if lab.plan.wallets >= CLAIMED_WALLETS else None,
                judged=max(took_s),
                figures={
                    "seconds": took_s,
                    "seconds_empty": wide.first_start_s,
                    "resident_bytes_after_restart": resident,
                },
            )
        )
    return rows


def verify(lab: Lab) -> list[Row]:
    """Verification of the wide log beside the bare loop over it, each in a new process, the service stopped."""
    wide = lab.wide
    wide.service.stop()
    lab.say("reading the log once, so that both sides find it in memory")
    lab.once(BareLoop(data=str(wide.data)))
    ours: list[Slice] = []
    beside: list[Slice] = []
    began = time.perf_counter()
    for pair in range(lab.plan.pairs):
        if ours and time.perf_counter() - began > VERIFY_S_MAX:
            break
        lab.say(f"verification beside the bare loop, pair {pair + 1} of {lab.plan.pairs}")
        ours.append(lab.once(Verification(data=str(wide.data))))
        lab.step()
        beside.append(lab.once(BareLoop(data=str(wide.data))))
        lab.step()
    if ours[0].done != beside[0].done:
        raise BenchError(f"verification saw {ours[0].done:,} events, the bare loop {beside[0].done:,}")
    ratio = ratio_of([one.rate for one in ours], [one.rate for one in beside])
    mine, other = summary_of(ours), summary_of(beside)
    return [
        Row(
            "verify",
            f"audit verify, {ours[0].done:,} events",
            f"{rate_text(mine.rate)}",
            f"bare loop {rate_text(other.rate)}",
            ratio,
            OF_BARE_LOOP,
            ratio.median,
            {"events": ours[0].done, "ours": mine, "beside": other},
        )
    ]


MEASURES: dict[str, Callable[[Lab], list[Row]]] = {
    "singles": singles,
    "commit": commit,
    "batches": batches,
    "spread": spread,
    "cost": cost,
    "library": library,
    "login": login,
    "feeds": feeds,
    "games": games,
    "settlement": settlement,
    "commissions": commissions,
    "grown": grown,
    "sustained": sustained,
    **read_measures.OF_READ_LOG,
    "memory": memory,
    "startup": startup,
    **read_measures.OF_WIDE_LOG,
    "verify": verify,
}
"""In the order in which they run: those of the busy log, of the read log, of the wide log; `fold` and `verify` at the
very end, because they stop the service."""


def steps(plan: Plan, names: Sequence[str]) -> int:
    """How often `Lab.step` is called by the measures ``names``."""
    each = {
        "singles": len(SINGLE_CONNECTIONS) * plan.pairs * 2,
        "commit": plan.pairs * 2,
        "batches": len(BATCH_SIZES) * len(BATCH_CONNECTIONS) * plan.pairs,
        "spread": 2 * plan.pairs * len(SPREADS),
        "cost": 2 * plan.pairs * len(LOADS),
        "library": 2 * plan.pairs * len(LIBRARY_TASKS),
        "login": 2 * plan.pairs * len(LOGIN_LOADS),
        "feeds": 2 * plan.few_pairs,
        "games": 2 * plan.pairs * len(GAMES_LOADS),
        "settlement": 1,
        "commissions": 1,
        "grown": 4 * plan.few_pairs * len(LOADS),
        "sustained": 1,
        "memory": 1,
        "startup": 2 * plan.restarts,
        "verify": 2 * plan.pairs,
        **read_measures.steps(plan),
    }
    return sum(each[name] for name in names)


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"


def _each(processes: dict[str, int]) -> str:
    return ", ".join(f"{name} {mib_text(size)}" for name, size in processes.items())
