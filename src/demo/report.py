"""The summary of a day: tables, and a last line with the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.books import house
from demo.books.books import Books
from demo.books.edges import Edge
from demo.play import Comparison, Tally
from demo.traffic.plan import UNIT

SHOWN = 20
"""So many findings of one check are printed; the others are only counted."""

MARGIN_MAX = 0.5
"""With a larger margin the report has "too few bets" in place of the margin."""

FLOWS = ("deposited", "staked", "paid out", "withdrawn", "captured", "transferred", "adjusted")
BONUSES = {
    "registration": ("registration",),
    "first deposit": ("first_deposit",),
    "attendance": ("attendance",),
    "invitation": ("invitation",),
    "by a command": ("deposit", "grant"),
    "gift": ("gift",),
}
"""The kinds of grants in each row of the report."""


@dataclass(slots=True)
class Check:
    """One check: what was checked, and each finding as a sentence."""

    name: str
    checked: str
    findings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """The contents of the report."""

    users: int
    game_players: int
    """The players of the games with rules, who are not among the users."""
    seconds: float
    rules: str
    tally: Tally
    books: Books
    edges: list[Edge]
    comparison: Comparison
    checks: list[Check]

    def is_well(self) -> bool:
        """Whether no check found anything."""
        return not any(check.findings for check in self.checks)


def show(console: Console, summary: Summary) -> None:
    """Print the summary."""
    console.print(_commands(summary))
    console.print(_reads(summary.tally))
    console.print(_refusals(summary.tally))
    console.print(_money(summary.books))
    console.print(_money_flows(summary))
    console.print(_games(summary.edges))
    if made_up := [edge.game for edge in summary.edges if edge.game.startswith("trx_wix")]:
        console.print(
            f"The block headers of {', '.join(made_up)} are made up: no block chain has them.", highlight=False
        )
    console.print(_checks(summary.checks))
    for check in summary.checks:
        for finding in check.findings[:SHOWN]:
            console.print(f"  [red]✗[/] {check.name}: {escape(finding)}", soft_wrap=True, highlight=False)
        if len(check.findings) > SHOWN:
            console.print(f"  [red]✗[/] {check.name}: and {len(check.findings) - SHOWN:,} more")
    differences = len(summary.comparison.differences)
    console.print(
        f"[bold]{summary.comparison.wallets:,} wallets compared, {differences:,} differences.[/] "
        + ("[bold green]All is well.[/]" if summary.is_well() else "[bold red]A check failed.[/]"),
        soft_wrap=True,
        highlight=False,
    )


def percentile_ms(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all samples do not exceed; 0.0 without samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def amount_text(asset: str, amount: int) -> str:
    """An amount in whole units with its decimals, as `-1,234.50`."""
    unit = UNIT.get(asset, 1)
    decimals = len(str(unit)) - 1
    whole, rest = divmod(abs(amount), unit)
    return f"{'-' if amount < 0 else ''}{whole:,}" + (f".{rest:0{decimals}d}" if decimals else "")


def _commands(summary: Summary) -> Table:
    tally = summary.tally
    refused = sum(tally.refused.values())
    table = Table(title="The day", show_header=False, title_justify="left")
    table.add_column(style="cyan")
    table.add_column(justify="right")
    rate = tally.commands / summary.seconds if summary.seconds else 0.0
    rows = (
        ("users", f"{summary.users:,}"),
        ("players of the games, besides", f"{summary.game_players:,}"),
        ("commands sent", f"{tally.commands:,}"),
        ("accepted", f"{tally.accepted:,}"),
        ("refused", f"{refused:,}"),
        ("copies sent, with Idempotency-Hit", f"{tally.copies_sent:,}, {tally.copies_hit:,}"),
        ("responses lost on purpose, sent again", f"{tally.responses_lost:,}"),
        ("retries", f"{tally.retries:,}"),
        ("requests, of them batches", f"{tally.requests:,}, {tally.batches:,}"),
        ("commands a second", f"{rate:,.0f} over {summary.seconds:.1f} s"),
        ("single command p50, p99", _latency(tally.single_ms)),
        ("batch p50, p99", _latency(tally.batch_ms)),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _latency(samples_ms: Sequence[float]) -> str:
    return f"{percentile_ms(samples_ms, 50):.1f} ms, {percentile_ms(samples_ms, 99):.1f} ms"


def _reads(tally: Tally) -> Table:
    table = Table("read", title="Reads of client apps", title_justify="left")
    table.add_column("responses", justify="right")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for kind, samples_ms in sorted(tally.reads_ms.items(), key=lambda item: -len(item[1])):
        p50, p99 = (f"{percentile_ms(samples_ms, percent):.1f} ms" for percent in (50, 99))
        table.add_row(kind, f"{len(samples_ms):,}", p50, p99)
    table.add_row("not modified (304, by ETag)", f"{tally.not_modified:,}", "", "")
    return table


def _refusals(tally: Tally) -> Table:
    table = Table("code", title="Refused, by code", title_justify="left")
    table.add_column("commands", justify="right")
    for code, count in tally.refused.most_common():
        table.add_row(code, f"{count:,}")
    return table


def _money(books: Books) -> Table:
    assets = sorted({asset for _, asset in books.flows})
    table = Table("money", title="Money, by asset", title_justify="left")
    for asset in assets:
        table.add_column(asset, justify="right")
    for flow in FLOWS:
        table.add_row(flow, *(amount_text(asset, books.flows[flow, asset]) for asset in assets))
    in_wallets = {asset: sum(wallet.total(asset) for wallet in books.wallets.values()) for asset in assets}
    table.add_row("in wallets at the end", *(amount_text(asset, in_wallets[asset]) for asset in assets), style="bold")
    return table


def _money_flows(summary: Summary) -> Table:
    """What the house has given, its result, and what the players had to do for their withdrawals."""
    books, wallets = summary.books, list(summary.books.wallets.values())
    assets = sorted({asset for _, asset in books.flows})
    table = Table("money flow", title=f"Money flows, by the rules {summary.rules}", title_justify="left")
    for asset in ("times", *assets):
        table.add_column(asset, justify="right")

    def row(name: str, times: int, amounts: Mapping[str, int]) -> None:
        table.add_row(name, f"{times:,}", *(amount_text(asset, amounts.get(asset, 0)) for asset in assets))

    grants = [grant for wallet in wallets for grant in wallet.grants.values() if not grant.reversed]
    for name, kinds in BONUSES.items():
        of_kind = [grant for grant in grants if grant.kind in kinds]
        row(f"bonus: {name}", len(of_kind), _sums((grant.asset, grant.amount) for grant in of_kind))
    expired = {asset: books.flows["expired", asset] for asset in assets}
    table.add_row("bonus that expired", "", *(amount_text(asset, expired[asset]) for asset in assets))
    paid = [(asset, wallet.commission(asset)) for wallet in wallets for asset in wallet.commission_e9]
    row("commissions, to referrers", sum(amount > 0 for _, amount in paid), _sums(paid))
    for status in ("approved", "rejected", "pending"):
        orders = [order for wallet in wallets for order in wallet.orders.values() if order.status == status]
        row(f"withdrawals {status}", len(orders), _sums((order.asset, order.amount) for order in orders))
    members = Counter[int]()
    for wallet in wallets:
        members.update(wallet.members)
    for level in sorted(members):
        row(f"members counted at level {level}", members[level], {})
    results = (amount_text(asset, house.result(books, asset)) for asset in assets)
    table.add_row("the house's result", "", *results, style="bold")
    return table


def _sums(amounts: Iterable[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for asset, amount in amounts:
        sums[asset] += amount
    return sums


def _games(edges: Sequence[Edge]) -> Table:
    table = Table(
        "game", title="Games, INR: what the house kept of the stakes, without cancelled periods", title_justify="left"
    )
    for column in ("periods", "of them cancelled", "bets", "staked", "paid out", "house's edge", "by the odds, 95 %"):
        table.add_column(column, justify="right")
    for edge in edges:
        table.add_row(
            edge.game,
            f"{edge.periods + edge.cancelled}",
            f"{edge.cancelled}",
            f"{edge.bets:,}",
            amount_text("INR", edge.staked),
            amount_text("INR", edge.paid_out),
            f"{edge.realised:.2%}",
            f"{edge.by_the_odds:.2%} ± {edge.margin:.2%}"
            if edge.margin <= MARGIN_MAX
            else f"{edge.by_the_odds:.2%}, too few bets",
            style="bold" if edge is edges[-1] and len(edges) > 1 else None,
        )
    if not edges:
        table.add_row("none: the service plays no game of 10 s or less", "", "", "", "", "", "", "")
    return table


def _checks(checks: Sequence[Check]) -> Table:
    table = Table("check", "checked", "result", title="Checks", title_justify="left")
    for check in checks:
        found = f"[red]{len(check.findings):,} wrong[/]" if check.findings else "[green]nothing wrong[/]"
        table.add_row(check.name, check.checked, found)
    return table
