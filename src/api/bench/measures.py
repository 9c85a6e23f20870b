"""The seven measures, each a function from the laboratory to rows of the report.

They share two logs, so that a run stays within minutes:

1. *the busy log*: 10,000 funded wallets, which takes all the load (`singles`, `commit`, `batches`, `spread`);
2. *the wide log*: ``Plan.wallets`` wallets with one bet each, whose size does not depend on how fast the machine is
   (`memory`, `startup`, `verify`).

Every number is the median over slices that were taken in turns with those of the other side; see `figures`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path

from msgspec import Struct

from api.bench import bodies, programs
from api.bench.bodies import Spread
from api.bench.figures import BenchError, Bound, Row, Slice, Target, ratio_of, summary_of
from api.bench.programs import Program, Worker
from api.bench.report import load_text, rate_text
from api.bench.worker import BareLoop, Bets, Commits, Job, OpenWallets, Verification

# From the promises of the project: what the ledger may cost beside what it cannot do without.
OF_BARE_ROUTE = Target(Bound.AT_LEAST, 0.65, "×")
OF_BARE_COMMIT = Target(Bound.AT_MOST, 3, "×")
BATCHED_RATE = Target(Bound.AT_LEAST, 40_000, "/s")
OF_UNIFORM = Target(Bound.AT_LEAST, 0.95, "×")
OF_BARE_LOOP = Target(Bound.AT_LEAST, 0.5, "×")
# These two are promised for a million wallets and are judged only there.
CLAIMED_WALLETS = 1_000_000
RESIDENT = Target(Bound.AT_MOST, 700, " MiB")
RESTART = Target(Bound.AT_MOST, 15, " s")

SINGLE_CONNECTIONS = (1, 8, 64)
BATCH_CONNECTIONS = (2, 4)
BATCH_SIZES = (100, 1000)
SPREADS: tuple[Spread, ...] = ("uniform", "hot", "zipf")

WALLETS_PER_STEP = 10_000
AFTERWORK_S_MAX = 3.0
"""How long a yardstick waits for the service's afterwork. Chosen; `Lab.unsettled` counts when it was too short."""
BETWEEN_SPREADS_S_MAX = 1.0
"""Shorter: hot, Zipf and uniform load leave the same afterwork, so what is left of it falls on each alike."""
VERIFY_S_MAX = 60.0
"""No further pair of verifications is begun after this long, so that a million wallets do not take an hour."""


class Plan(Struct, frozen=True, kw_only=True):
    """How much of everything. ``pairs`` ≥ 5 for figures worth keeping."""

    pairs: int
    restarts: int
    slice_s: float
    short_slice_s: float
    warm_up_s: float
    wallets: int


FULL = Plan(pairs=5, restarts=3, slice_s=1.5, short_slice_s=1.0, warm_up_s=2.0, wallets=100_000)
QUICK = Plan(pairs=2, restarts=1, slice_s=0.4, short_slice_s=0.4, warm_up_s=0.5, wallets=10_000)


class Lab:
    """The processes and folders of one run, made when first needed. Use as a context manager: it ends them all.

    ``say`` is told what is being done, ``step`` that one of `steps` is.
    """

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None], step: Callable[[], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.say = say
        self.step = step
        self.unsettled = 0
        self._stack = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def generator(self) -> Worker:
        """The load generator, kept warm."""
        return self._stack.enter_context(Worker())

    @cached_property
    def yardstick(self) -> Worker:
        """A second process, for bare commits: it must not share the generator's."""
        return self._stack.enter_context(Worker())

    @cached_property
    def busy(self) -> Program:
        """The service on the busy log: 10,000 wallets funded, warmed up."""
        self.say("opening and funding 10,000 wallets")
        service = self._service("busy")
        service.start()
        self.generator.ask(OpenWallets(port=service.port, first=0, end=bodies.WALLETS, with_bet=False))
        self._warm_up(service)
        return service

    @cached_property
    def bare(self) -> Program:
        """The bare route, warmed up."""
        route = programs.bare_route(self.folder / "bare-route.log")
        self._stack.callback(route.kill)
        route.start()
        self._warm_up(route)
        return route

    @cached_property
    def wide(self) -> Wide:
        """The wide log, just filled, with the service that filled it still running."""
        self.end_busy()
        service = self._service("wide")
        first_start_s = service.start()
        time.sleep(0.5)
        empty = service.resident_bytes()
        wallets = self.plan.wallets
        for first in range(0, wallets, WALLETS_PER_STEP):
            self.say(f"opening {wallets:,} wallets with one bet each: {first:,}")
            end = min(first + WALLETS_PER_STEP, wallets)
            self.generator.ask(OpenWallets(port=service.port, first=first, end=end, with_bet=True))
        self.settle(service)
        return Wide(service, self.folder / "wide", first_start_s, empty, service.resident_bytes())

    def end_busy(self) -> None:
        """Stop the service on the busy log, if it was started, and give its disk space back."""
        if "busy" in self.__dict__:
            self.busy.stop()
            for file in (self.folder / "busy").rglob("*.sqlite3*"):
                file.unlink()
            del self.__dict__["busy"]

    def bets(self, program: Program, connections: int, per_request: int, limit_s: float, spread: Spread) -> Slice:
        """One slice of load, with ids of its own."""
        number = next(self._numbers)
        return self.generator.ask(
            Bets(
                port=program.port,
                connections=connections,
                per_request=per_request,
                limit_s=limit_s,
                spread=spread,
                tag=f"s{number}",
                seed=number,
            )
        )

    def settle(self, service: Program) -> None:
        """Let the service finish its afterwork."""
        self.unsettled += not service.settle(AFTERWORK_S_MAX)

    def once(self, job: Job) -> Slice:
        """``job`` in a new process of its own."""
        with Worker() as worker:
            return worker.ask(job)

    def _service(self, name: str) -> Program:
        service = programs.service(self.folder / name, self.folder / f"{name}.log")
        self._stack.callback(service.kill)
        return service

    def _warm_up(self, program: Program) -> None:
        self.say(f"warming up {program.name}")
        for connections in (64, 1):
            self.bets(program, connections, 1, self.plan.warm_up_s / 2, "uniform")


class Wide(Struct):
    """The wide log, and what was seen while it was made."""

    service: Program
    data: Path
    first_start_s: float
    empty_bytes: dict[str, int]
    full_bytes: dict[str, int]


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
    """One hot wallet, and Zipf, beside uniform load: nobody waits for a row that others write."""
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
            f"{_mib(full)}, {full / wallets:,.0f} bytes a wallet",
            f"empty log {_mib(empty)}, so {per_wallet:,.0f} bytes more",
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
        )
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
    "memory": memory,
    "startup": startup,
    "verify": verify,
}
"""In the order in which they run: first those of the busy log, then those of the wide one, `verify` at the very end,
because it stops the service."""


def steps(plan: Plan, names: Sequence[str]) -> int:
    """How often `Lab.step` is called by the measures ``names``."""
    each = {
        "singles": len(SINGLE_CONNECTIONS) * plan.pairs * 2,
        "commit": plan.pairs * 2,
        "batches": len(BATCH_SIZES) * len(BATCH_CONNECTIONS) * plan.pairs,
        "spread": 2 * plan.pairs * len(SPREADS),
        "memory": 1,
        "startup": 2 * plan.restarts,
        "verify": 2 * plan.pairs,
    }
    return sum(each[name] for name in names)


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
