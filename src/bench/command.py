"""`stakelog bench`: measure, show one table, keep one JSON file.

Exit status 0 whether the targets are met or not; 1 if the measurement could not be made; 2 wrong use.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

NAMES = (
    "singles",
    "commit",
    "batches",
    "spread",
    "cost",
    "library",
    "login",
    "feeds",
    "games",
    "settlement",
    "commissions",
    "grown",
    "sustained",
    "reads",
    "history",
    "visible",
    "distribution",
    "lag",
    "memory",
    "startup",
    "leaderboard",
    "rebuild",
    "fold",
    "verify",
)
"""The measures in their order, as `measures.commands.MEASURES`; an import of that would slow every command."""

DISTRIBUTED_NAMES = ("commands", "send", "visible", "cache", "rebuild", "leaving", "soak", "worker", "takeover")
"""The measures of the distributed mode, as `measures.distributed.MEASURES`."""
ONLY_IF_NAMED = ("soak",)
"""Measures that take longer than all other measures together: they run only if they are named."""


def chosen(known: Sequence[str], only: Sequence[str]) -> list[str]:
    """The measures of a run, in their order: those in ``only``, or all but ``ONLY_IF_NAMED``."""
    return [name for name in known if (name in only if only else name not in ONLY_IF_NAMED)]


@click.command()
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(tuple(dict.fromkeys((*NAMES, *DISTRIBUTED_NAMES)))),
    help="This measure only; may be repeated. soak, which takes 22 minutes, is measured only if it is named.",
)
@click.option("--quick", is_flag=True, help="Two short slices instead of five: under a minute, rough figures.")
@click.option(
    "--distributed",
    is_flag=True,
    help="Three nodes on the servers that KAFKA_URL, POSTGRESQL_URL, MARIADB_URL and REDIS_URL name, which must be "
    "empty: `make bench-distributed` starts them.",
)
@click.option(
    "--wallets",
    type=click.IntRange(min=10_000),
    help="Wallets in the log of memory, startup, leaderboard, rebuild, fold, verify [100,000]. A million is judged "
    "as promised.",
)
@click.option(
    "--events",
    type=click.IntRange(min=10_000),
    help="Events in the log of grown [1,000,000].",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/bench"),
    show_default=True,
    help="Folder of the report; the logs that are measured are made and removed in it.",
)
def bench(
    only: tuple[str, ...], *, quick: bool, distributed: bool, wallets: int | None, events: int | None, out: Path
) -> None:
    """Measure the service beside bare yardsticks in the same run: about ten minutes, eight with --distributed.

    It starts its own service on a log of its own and touches no other data.
    """
    from bench import run

    known = DISTRIBUTED_NAMES if distributed else NAMES
    for name in only:
        if name not in known:
            raise click.UsageError(f"{name} is measured {'without' if distributed else 'with'} --distributed only")
    for option, given in (("--wallets", wallets), ("--events", events)):
        if distributed and given is not None:
            raise click.UsageError(f"{option} is for measures without --distributed")
    names = chosen(known, only)
    if distributed:
        run.run(run.distributed(names, quick=quick, environment=os.environ), out=out)
    else:
        run.run(run.embedded(names, quick=quick, wallets=wallets, events=events), out=out)
