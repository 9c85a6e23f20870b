"""The measures of the read side; what they share with the others, and their order, is in `measures`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from msgspec import Struct

from bench.figures import Bound, Row, Slice, Target, ratio_of, summary_of
from bench.lab import programs
from bench.lab.jobs import (
    Arrivals,
    BareLoop,
    Distribution,
    Folding,
    HistoryPages,
    LeaderboardReads,
    Visible,
    WalletReads,
)
from bench.lab.one_node import Lab, Plan
from bench.lab.programs import Program
from bench.load import bodies
from bench.load.bodies import What
from bench.measures.leaders import CLAIMED_USERS, P95_MS, leaders_of_a_month
from bench.report import load_text, page_text, rate_text, three_figures

# From the promises of the project.
OF_BARE_ROUTE = Target(Bound.AT_LEAST, 0.6, "×")
PAGE_P95 = Target(Bound.AT_MOST, 10, " ms")
DISTRIBUTION_P99 = Target(Bound.AT_MOST, 500, " ms")
VISIBLE_P99 = Target(Bound.AT_MOST, 150, " ms")
REBUILD_RATE = Target(Bound.AT_LEAST, 60_000, "/s")

READ_CONNECTIONS = 64
READS: tuple[What, ...] = ("wallet", "history", "stats")
COMMANDS_PER_S = 500
"""The pace at which commands must soon be visible. From the promise."""
BETS_PER_S = 1_000
"""The pace at which what was bet on a period must be at most ``DISTRIBUTION_P99`` old. From the promise."""
PEAK_SHARE = 0.5
PEAK_S = 1.0
SLOW_S_MAX = 30.0
"""No further pair of what goes through a whole log is begun after this long."""
BARE_PAGES_S = 0.3
LEADERBOARD_S = 2.0
"""Enough for some reads of a million users."""


class Shown(Struct, frozen=True):
    """One way to ask for pages of the long history."""

    name: str
    filters: dict[str, str] = {}
    middle: bool = False
    first_only: bool = False


PAGES = (
    Shown("first page", first_only=True),
    Shown("by cursor"),
    Shown("type=deposited", {"type": "deposited"}),
    Shown("asset=GOLD", {"asset": "GOLD"}),
    Shown("game=external", {"game": "external"}),
    Shown("type, asset and game", {"type": "bet_settled", "asset": "INR", "game": "external"}),
    Shown("a fifth of the time", middle=True),
)


def steps(plan: Plan) -> dict[str, int]:
    """How often `Lab.step` is called by each of these measures."""
    return {
        "reads": (len(READS) + 1) * plan.pairs,
        "history": 1 + 2 * len(PAGES),
        "visible": 2 * plan.few_pairs,
        "distribution": 2 * plan.few_pairs,
        "lag": 2 * plan.few_pairs,
        "leaderboard": plan.few_pairs,
        "rebuild": 2 * plan.few_pairs,
        "fold": 2 * plan.few_pairs,
    }


def reads(lab: Lab) -> list[Row]:
    """Reads of the wallet, of a history page and of statistics beside a bare route, all at 64 connections."""
    service, bare = lab.read, lab.bare
    taken: dict[What, list[Slice]] = {what: [] for what in READS}
    beside: list[Slice] = []
    for turn in range(lab.plan.pairs):
        for what in READS:
            lab.say(f"reads of {what}, {turn + 1} of {lab.plan.pairs}")
            wallets = bodies.WALLETS if what == "wallet" else bodies.PLAYERS
            taken[what].append(_read(lab, service, what, wallets, READ_CONNECTIONS, lab.plan.slice_s))
            lab.step()
        lab.say(f"reads of the bare route, {turn + 1} of {lab.plan.pairs}")
        beside.append(_read(lab, bare, "wallet", bodies.WALLETS, READ_CONNECTIONS, lab.plan.slice_s))
        lab.step()
    names = {
        "wallet": f"{bodies.WALLETS:,} wallets",
        "history": f"history pages of {bodies.PAGE}",
        "stats": "statistics",
    }
    rows = []
    for what in READS:
        mine, other = summary_of(taken[what]), summary_of(beside)
        ratio = ratio_of([one.rate for one in taken[what]], [one.rate for one in beside])
        rows.append(
            Row(
                "reads",
                f"reads of {names[what]}, {READ_CONNECTIONS} connections",
                load_text(mine),
                f"bare route {load_text(other)}",
                ratio,
                OF_BARE_ROUTE if what == "wallet" else None,
                ratio.median,
                {"what": what, "ours": mine, "beside": other},
            )
        )
    return rows


def _read(lab: Lab, program: Program, what: What, wallets: int, connections: int, limit_s: float) -> Slice:
    return lab.generator.ask(
        WalletReads(
            port=program.port,
            connections=connections,
            what=what,
            wallets=wallets,
            limit_s=limit_s,
            seed=lab.number(),
        )
    )


def history(lab: Lab) -> list[Row]:
    """Pages of the long wallet's history one after another, the first ones and those that cursors lead to."""
    service, bare = lab.long, lab.bare
    lab.step()
    rows = []
    for shown in PAGES:
        lab.say(f"history of {lab.plan.lines:,} lines, {shown.name}")
        deep = shown.name == "by cursor"
        mine = lab.generator.ask(
            HistoryPages(
                port=service.port,
                filters=shown.filters,
                middle=shown.middle,
                first_only=shown.first_only,
                pages=lab.plan.lines // bodies.PAGE + 1 if deep else lab.plan.pages,
            )
        )
        lab.step()
        other = _read(lab, bare, "wallet", bodies.WALLETS, 1, BARE_PAGES_S)
        lab.step()
        rows.append(
            Row(
                "history",
                f"history of {lab.plan.lines:,} lines, {shown.name}, {mine.done:,} pages",
                page_text(mine),
                f"bare route {page_text(other)}",
                target=PAGE_P95,
                judged=mine.p95_ms,
                figures={"lines": lab.plan.lines, "filters": shown.filters, "ours": mine, "beside": other},
            )
        )
    return rows


def visible(lab: Lab) -> list[Row]:
    """From a command's response to the response of a read that includes it, at 500 commands a second."""
    service = lab.read
    taken: dict[bool, list[Slice]] = {True: [], False: []}
    for turn in range(lab.plan.few_pairs):
        for waits in (True, False):
            lab.say(f"reads of what was just written{'' if waits else ', without waiting'}, {turn + 1}")
            number = lab.number()
            taken[waits].append(
                lab.generator.ask(
                    Visible(
                        port=service.port,
                        per_s=COMMANDS_PER_S,
                        limit_s=lab.plan.paced_s,
                        waits=waits,
                        tag=f"s{number}",
                        seed=number,
                    )
                )
            )
            lab.step()
    mine, other = summary_of(taken[True]), summary_of(taken[False])
    return [
        Row(
            "visible",
            f"visible after its response, {three_figures(mine.rate)} commands/s",
            page_text(mine),
            f"a read that need not wait {page_text(other)}",
            target=VISIBLE_P99,
            judged=mine.p99_ms,
            figures={"per_s": COMMANDS_PER_S, "ours": mine, "beside": other},
        )
    ]


def distribution(lab: Lab) -> list[Row]:
    """How old what was bet on a running period is, while 1,000 bets a second arrive on it."""
    taken: dict[bool, list[Slice]] = {True: [], False: []}
    for turn in range(lab.plan.few_pairs):
        for waits in (True, False):
            lab.say(f"reads of a distribution{'' if waits else ', without waiting'}, {turn + 1}")
            number = lab.number()
            taken[waits].append(
                lab.generator.ask(
                    Distribution(
                        port=lab.read.port,
                        per_s=BETS_PER_S,
                        limit_s=lab.plan.paced_s,
                        waits=waits,
                        tag=f"s{number}",
                        seed=number,
                    )
                )
            )
            lab.step()
    mine, other = summary_of(taken[True]), summary_of(taken[False])
    return [
        Row(
            "distribution",
            f"distribution with a bet after its response, {three_figures(mine.rate)} bets/s",
            page_text(mine),
            f"a read that need not wait {page_text(other)}",
            target=DISTRIBUTION_P99,
            judged=mine.p99_ms,
            figures={"per_s": BETS_PER_S, "ours": mine, "beside": other},
        )
    ]


def lag(lab: Lab) -> list[Row]:
    """How far the follower falls behind while commands arrive at half of the rate that the service takes at most."""
    service = lab.read
    peaks: list[Slice] = []
    followed = []
    for turn in range(lab.plan.few_pairs):
        lab.say(f"the peak rate, {turn + 1} of {lab.plan.few_pairs}")
        peaks.append(lab.bets(service, 4, 1000, PEAK_S, "uniform"))
        lab.step()
        lab.catch_up(service)
        lab.settle(service)
        lab.say(f"half of the peak rate, {turn + 1} of {lab.plan.few_pairs}")
        number = lab.number()
        followed.append(
            lab.generator.follow(
                Arrivals(
                    port=service.port,
                    per_s=PEAK_SHARE * peaks[-1].rate,
                    limit_s=lab.plan.paced_s,
                    tag=f"s{number}",
                    seed=number,
                )
            )
        )
        lab.step()
    arrived, peak = summary_of([one.arrived for one in followed]), summary_of(peaks)
    middle = {
        name: statistics.median(getattr(one, name) for one in followed)
        for name in ("events_median", "ms_median", "caught_up_s")
    }
    events_max, ms_max = max(one.events_max for one in followed), max(one.ms_max for one in followed)
    return [
        Row(
            "lag",
            f"follower while {rate_text(arrived.rate)} arrive",
            f"{middle['events_median']:,.0f} events, {middle['ms_median']:,.0f} ms behind "
            f"(at most {events_max:,} and {ms_max:,.0f} ms)",
            f"half of {load_text(peak)}",
            figures={"followed": followed, "peak": peak},
        ),
        Row(
            "lag",
            f"caught up after {lab.plan.paced_s:g} s of that",
            f"{middle['caught_up_s']:.2f} s (slowest {max(one.caught_up_s for one in followed):.2f} s)",
            f"{statistics.median(one.at_end.events for one in followed):,.0f} events behind when it stopped",
        ),
    ]


def leaderboard(lab: Lab) -> list[Row]:
    """Reads of this month's leaderboards, each user of the wide log in them, one after another."""
    wide, users = lab.wide, lab.plan.wallets
    lab.catch_up(wide.service)
    taken: list[Slice] = []
    for turn in range(lab.plan.few_pairs):
        lab.say(f"leaderboards of the month, {users:,} users, {turn + 1} of {lab.plan.few_pairs}")
        lab.settle(wide.service)
        taken.append(
            lab.generator.ask(
                LeaderboardReads(port=wide.service.port, connections=1, limit_s=max(lab.plan.paced_s, LEADERBOARD_S))
            )
        )
        lab.step()
    mine = summary_of(taken)
    return [
        Row(
            "leaderboard",
            f"leaderboard of the month, {users:,} users, 1 connection",
            page_text(mine),
            target=P95_MS if users >= CLAIMED_USERS else None,
            judged=mine.p95_ms,
            figures={"users": users, "ours": mine},
        ),
        leaders_of_a_month(lab),
    ]


def rebuild(lab: Lab) -> list[Row]:
    """`stakelog project rebuild` of the wide log while its service runs, beside the bare loop over that log."""
    wide = lab.wide
    lab.catch_up(wide.service)

    def once() -> Slice:
        took_s = programs.run_command(["project", "rebuild"], wide.data, lab.folder / "rebuild.log")
        return Slice(0, took_s, took_s * 1e3, took_s * 1e3, took_s * 1e3)

    return [_whole_log(lab, "rebuild", "project rebuild", once, REBUILD_RATE)]


def fold(lab: Lab) -> list[Row]:
    """The follower's own folding and storing into empty tables, beside the bare loop; the service stopped."""
    wide = lab.wide
    wide.service.stop()

    def once() -> Slice:
        into = lab.folder / f"folded-{lab.number()}"
        return lab.once(Folding(data=str(wide.data), into=str(into), events=lab.plan.fold_events))

    return [_whole_log(lab, "fold", "folding and storing", once, None)]


def _whole_log(lab: Lab, measure: str, name: str, once: Callable[[], Slice], target: Target | None) -> Row:
    """``once`` and the bare loop over the wide log in turns. A slice with 0 ``done`` did all of the log's events."""
    data = str(lab.wide.data)
    lab.once(BareLoop(data=data))  # so that both sides find the log in memory
    ours: list[Slice] = []
    beside: list[Slice] = []
    began = time.perf_counter()
    for pair in range(lab.plan.few_pairs):
        if ours and time.perf_counter() - began > SLOW_S_MAX:
            break
        lab.say(f"{name} beside the bare loop, pair {pair + 1} of {lab.plan.few_pairs}")
        mine = once()
        lab.step()
        other = lab.once(BareLoop(data=data))
        lab.step()
        ours.append(Slice(mine.done or other.done, mine.took_s, mine.p50_ms, mine.p95_ms, mine.p99_ms))
        beside.append(other)
    ratio = ratio_of([one.rate for one in ours], [one.rate for one in beside])
    summary, other_summary = summary_of(ours), summary_of(beside)
    return Row(
        measure,
        f"{name}, {ours[0].done:,} events",
        rate_text(summary.rate),
        f"bare loop {rate_text(other_summary.rate)}",
        ratio,
        target,
        summary.rate,
        {"events": ours[0].done, "ours": summary, "beside": other_summary},
    )


OF_READ_LOG: dict[str, Callable[[Lab], list[Row]]] = {
    "reads": reads,
    "history": history,
    "visible": visible,
    "distribution": distribution,
    "lag": lag,
}
OF_WIDE_LOG: dict[str, Callable[[Lab], list[Row]]] = {"leaderboard": leaderboard, "rebuild": rebuild, "fold": fold}
