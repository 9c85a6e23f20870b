"""The measures of the distributed mode, each a function from its laboratory to rows of the report; the list of all.

Broker, databases, Redis, nodes, worker and load generator share one machine here, so that a rate says little of what
three machines would do; the ratios and the times do. Yardsticks are taken in turns, as in `measures`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from bench.figures import BenchError, Bound, Row, Slice, Summary, Target, ratio_of, summary_of
from bench.lab import programs, servers
from bench.lab.distributed import PARTITIONS, DistributedLab, DistributedPlan
from bench.lab.jobs import BareSends, Visible
from bench.lab.programs import Program
from bench.load.retrying import RetryingClients
from bench.measures import cache as cache_measures
from bench.measures import projection_worker as worker_measures
from bench.measures.soak import soak
from bench.measures.takeover import take_over_once
from bench.report import load_text, page_text, rate_text, three_figures
from ledger.kafka.address import SESSION_TIMEOUT_MS, parse_address

# From the promises of the project.
OF_BARE_SEND = Target(Bound.AT_MOST, 3, "×")
OF_BARE_AGENT = Target(Bound.AT_LEAST, 0.5, "×")
STOPPED = Target(Bound.AT_MOST, 1, " s")
KILLED = Target(Bound.AT_MOST, SESSION_TIMEOUT_MS / 1_000 + 2, " s")
FRESH = Target(Bound.AT_MOST, 20, " s")
NONE_FAILED = Target(Bound.AT_MOST, 0, " failed")
CLAIMED_EVENTS = 1_000_000
"""The promise of the fresh node is for so many, and is judged only there."""

CONNECTIONS = (64, 1)
PACES = (100, 500)
"""Commands a second that must soon be visible: the promise's, and what a machine that holds all servers can do."""
SHOWN = 80
"""Characters of a failure in the table; the file has all."""
BEFORE_S = 0.5
AFTER_S = 0.5
"""How long clients play before a node leaves, and after its partitions have found their owners. Chosen."""
DATABASES = ("postgresql", "mariadb")


def commands(lab: DistributedLab) -> list[Row]:
    """Acknowledged commands at the owner of their partitions and through another node, the same partitions."""
    rows = []
    owner, other = lab.nodes[:2]
    within = lab.of(owner)
    for connections in CONNECTIONS:
        ours, through = [], []
        for pair in range(lab.plan.pairs):
            lab.say(f"commands at their owner and through another node, {connections} connections, pair {pair + 1}")
            ours.append(lab.bets(owner, connections, 1, lab.plan.slice_s, "uniform", within))
            lab.step()
            through.append(lab.bets(other, connections, 1, lab.plan.slice_s, "uniform", within))
            lab.step()
        mine, forwarded = summary_of(ours), summary_of(through)
        ratio = ratio_of([one.rate for one in through], [one.rate for one in ours])
        shown = "1 connection" if connections == 1 else f"{connections} connections"
        rows += [
            Row(
                "commands",
                f"acknowledged at the owner, {shown}",
                load_text(mine),
                figures={"connections": connections, "ours": mine},
            ),
            Row(
                "commands",
                f"through another node, {shown}",
                load_text(forwarded),
                f"at the owner {load_text(mine)}",
                ratio,
                judged=ratio.median,
                figures={"connections": connections, "ours": forwarded, "beside": mine},
            ),
        ]
    return rows


def send(lab: DistributedLab) -> list[Row]:
    """The p50 of one command over one connection, at its owner, beside that of a bare send to the same broker."""
    owner = lab.nodes[0]
    within = lab.of(owner)
    bare = BareSends(url=lab.servers.kafka, limit_s=lab.plan.slice_s)
    lab.yardstick.ask(bare)  # makes its topic
    ours: list[Slice] = []
    beside: list[Slice] = []
    for pair in range(lab.plan.pairs):
        lab.say(f"one command beside one bare send, pair {pair + 1} of {lab.plan.pairs}")
        ours.append(lab.bets(owner, 1, 1, lab.plan.slice_s, "uniform", within))
        lab.step()
        lab.settle(owner)
        beside.append(lab.yardstick.ask(bare))
        lab.step()
    ratio = ratio_of([one.p50_ms for one in ours], [one.p50_ms for one in beside])
    mine, other = summary_of(ours), summary_of(beside)
    return [
        Row(
            "send",
            "p50 of a command, 1 connection",
            load_text(mine),
            f"bare send {load_text(other)}",
            ratio,
            OF_BARE_SEND,
            ratio.median,
            {"ours": mine, "beside": other},
        )
    ]


def visible(lab: DistributedLab) -> list[Row]:
    """From a command's response at one node to a read at another node that includes it; the worker runs."""
    return [_visible_at(lab, per_s) for per_s in PACES]


def _visible_at(lab: DistributedLab, per_s: float) -> Row:
    """A node that cannot keep the pace refuses reads in the end: that is a result, and named."""
    poster, reader = lab.nodes[:2]
    worker = lab.read_side
    taken: dict[bool, list[Slice]] = {True: [], False: []}
    for turn in range(lab.plan.few_pairs):
        for waits in (True, False):
            lab.say(f"{per_s} commands/s, read at another node{'' if waits else ', without waiting'}, {turn + 1}")
            number = lab.number()
            job = Visible(
                port=poster.port,
                read_port=reader.port,
                per_s=per_s,
                limit_s=lab.plan.paced_s,
                waits=waits,
                tag=f"s{number}",
                seed=number,
            )
            try:
                taken[waits].append(lab.generator.ask(job))
            except BenchError as error:
                return Row(
                    "visible",
                    f"visible at another node, {per_s} commands/s",
                    "not kept up with",
                    f"{str(error)[:SHOWN]} …",
                    figures={"per_s": per_s, "failed": str(error), "ours": taken[True], "beside": taken[False]},
                )
            lab.step()
            lab.settle(worker)
    mine, other = summary_of(taken[True]), summary_of(taken[False])
    return Row(
        "visible",
        f"visible at another node, {three_figures(mine.rate)} commands/s",
        page_text(mine),
        f"a read that need not wait {page_text(other)}",
        figures={"per_s": per_s, "ours": mine, "beside": other},
    )


def cache(lab: DistributedLab) -> list[Row]:
    """How much of a realistic read mix Redis answers at one node, while bets arrive at it."""
    node = lab.nodes[0]
    assert lab.read_side.running
    number = lab.number()
    lab.say("a mix of reads beside 500 bets/s")
    row = cache_measures.hit_ratio(
        node, lab.generator, lab.bettor, limit_s=lab.plan.paced_s, tag=f"s{number}", seed=number
    )
    lab.step()
    return [row]


def rebuild(lab: DistributedLab) -> list[Row]:
    """`stakelog project rebuild` from the topic beside the live tables, while nodes and worker run."""
    lab.filled(lab.plan.fold_events)
    worker = lab.read_side
    for node in lab.nodes:
        lab.catch_up(node)
    lab.settle(worker)
    events = lab.events()
    lab.say(f"rebuilding {events:,} events")
    data = lab.folder / "rebuild"
    settings = lab.servers.settings(data, read_model=lab.servers.postgresql, cached=True)
    took_s = programs.run_command(["project", "rebuild"], data, lab.folder / "rebuild.log", settings)
    lab.step()
    return [
        Row(
            "rebuild",
            f"project rebuild from the topic, {events:,} events",
            f"{rate_text(events / took_s)}, {took_s:.1f} s",
            figures={"events": events, "seconds": took_s},
        )
    ]


def leaving(lab: DistributedLab) -> list[Row]:
    """How long partitions are interrupted when their node is stopped, when it is killed, and by a rolling restart."""
    nodes = lab.nodes
    left: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
    apart: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
    with RetryingClients(lab.urls, PARTITIONS, f"s{lab.number()}") as clients:
        for turn in range(lab.plan.leaves):
            for way in left:
                node = nodes[turn % len(nodes)]
                lab.say(f"{way} to {node.name}, {turn + 1} of {lab.plan.leaves}")
                interrupted, others = _leave(lab, clients, node, way)
                left[way] += interrupted
                apart[way] += others
                lab.step()
        lab.say("a rolling restart")
        clients.play(BEFORE_S)
        began_s = time.perf_counter()
        for node in nodes:
            node.stop()
            lab.settled()
            node.start()
            lab.settled()
            lab.step()
        clients.play(AFTER_S)
        took_s = time.perf_counter() - began_s
        rolled = list(clients.longest_s(began_s, range(PARTITIONS)).values())
    finished = [one for one in clients.finished if one.ended_at_s >= began_s]
    failed = sum(one.failed for one in clients.finished)
    rows = [
        _left(f"interrupted by {way}", left[way], apart[way], target)
        for way, target in (("SIGTERM", STOPPED), ("SIGKILL", KILLED))
    ]
    return [
        *rows,
        Row(
            "leaving",
            f"rolling restart of {len(nodes)} nodes, {took_s:.0f} s, {len(finished):,} commands",
            f"{failed} failed, the longest took {max(rolled):.2f} s",
            f"retried {sum(one.requests - 1 for one in finished)} times",
            target=NONE_FAILED,
            judged=float(failed),
            figures={"seconds": took_s, "commands": len(finished), "longest_s": rolled, "failed": failed},
        ),
    ]


def _leave(lab: DistributedLab, clients: RetryingClients, node: Program, way: str) -> tuple[list[float], list[float]]:
    """The longest command of each of the node's partitions, and of each of the others; in seconds."""
    owners = lab.settled()
    theirs = {partition for partition, url in owners.items() if url == node.advertised}
    clients.play(BEFORE_S)
    since_s = time.perf_counter()
    if way == "SIGTERM":
        node.stop()
    else:
        node.kill()
    lab.settled()
    clients.play(AFTER_S)
    left = list(clients.longest_s(since_s, theirs).values())
    apart = list(clients.longest_s(since_s, set(owners) - theirs).values())
    node.start()
    lab.settled()
    return left, apart


def _left(name: str, left: list[float], apart: list[float], target: Target) -> Row:
    return Row(
        "leaving",
        f"{name}, {len(left)} partitions",
        f"median {median(left):.2f} s, longest {max(left):.2f} s",
        f"partitions of others {median(apart):.2f} s, {max(apart):.2f} s",
        target=target,
        judged=max(left),
        figures={"seconds": left, "seconds_of_others": apart},
    )


def worker(lab: DistributedLab) -> list[Row]:
    """The worker into each database beside a Faust agent that does nothing, nodes and other workers stopped."""
    events = lab.stop()
    agents: list[Slice] = []
    into: dict[str, list[Slice]] = {name: [] for name in DATABASES}
    urls = {"postgresql": lab.servers.postgresql, "mariadb": lab.servers.mariadb}
    data = lab.folder / "folded"
    for turn in range(lab.plan.few_pairs):
        lab.say(f"an agent that does nothing, {turn + 1} of {lab.plan.few_pairs}")
        settings = lab.servers.read(data, read_model=lab.servers.postgresql)
        agents.append(worker_measures.bare_agent(settings, events, f".bench-{lab.number()}"))
        lab.step()
        for name, url in urls.items():
            lab.say(f"the worker into {name}, {turn + 1} of {lab.plan.few_pairs}")
            servers.empty(url)
            settings = lab.servers.read(data, read_model=url)
            into[name].append(worker_measures.worker(settings, events, f".bench-{lab.number()}"))
            lab.step()
    agent = summary_of(agents)
    return [_worker_row(name, events, into[name], agents, agent) for name in DATABASES]


def _worker_row(name: str, events: int, into: list[Slice], agents: list[Slice], agent: Summary) -> Row:
    mine = summary_of(into)
    ratio = ratio_of([one.rate for one in into], [one.rate for one in agents])
    return Row(
        "worker",
        f"worker into {name}, {events:,} events",
        rate_text(mine.rate),
        f"an agent that does nothing {rate_text(agent.rate)}",
        ratio,
        OF_BARE_AGENT,
        ratio.median,
        {"events": events, "ours": mine, "beside": agent},
    )


def takeover(lab: DistributedLab) -> list[Row]:
    """A node without any state takes a large partition over from a snapshot, in a topic of its own."""
    folder = lab.folder / "takeover"
    folder.mkdir()
    lab.say(f"filling a partition with {lab.plan.takeover_events:,} events, and taking it over")
    took = take_over_once(
        parse_address(lab.servers.kafka),
        folder,
        topic="stakelog.bench.takeover",
        events=lab.plan.takeover_events,
    )
    lab.step()
    return [
        Row(
            "takeover",
            f"a fresh node's first response, {took.events:,} events",
            f"{took.total_s:.1f} s: loaded {took.loaded_s:.1f} s, opened {took.opened_s:.2f} s",
            f"snapshot of {took.snapshot_bytes / 2**20:,.0f} MiB, taken in {took.snapshot_s:.1f} s",
            target=FRESH if took.events >= CLAIMED_EVENTS else None,
            judged=took.total_s,
            figures={"takeover": took},
        )
    ]


MEASURES: dict[str, Callable[[DistributedLab], list[Row]]] = {
    "commands": commands,
    "send": send,
    "visible": visible,
    "cache": cache,
    "rebuild": rebuild,
    "leaving": leaving,
    "soak": soak,
    "worker": worker,
    "takeover": takeover,
}
"""In the order in which they run: `worker` stops the nodes, and `takeover` needs none."""


def steps(plan: DistributedPlan, names: Sequence[str]) -> int:
    """How often `Processes.step` is called by the measures ``names``."""
    each = {
        "commands": len(CONNECTIONS) * plan.pairs * 2,
        "send": 2 * plan.pairs,
        "visible": len(PACES) * 2 * plan.few_pairs,
        "cache": 1,
        "rebuild": 1,
        "leaving": 2 * plan.leaves + 3,
        "soak": 1,
        "worker": (1 + len(DATABASES)) * plan.few_pairs,
        "takeover": 1,
    }
    return sum(each[name] for name in names)
