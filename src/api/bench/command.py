"""`stakelog bench`: measure, show one table, keep one JSON file.

Exit status 0 whether the targets are met or not; 1 if the measurement could not be made; 2 wrong use.
"""

from __future__ import annotations

from pathlib import Path

import click

NAMES = (
    "singles",
    "commit",
    "batches",
    "spread",
    "reads",
    "history",
    "visible",
    "lag",
    "memory",
    "startup",
    "rebuild",
    "fold",
    "verify",
)
"""The measures in their order; `measures.MEASURES` has the same, and importing it here would slow every command."""


@click.command()
@click.option("--only", "only", multiple=True, type=click.Choice(NAMES), help="This measure only; may be repeated.")
@click.option("--quick", is_flag=True, help="Two short slices instead of five: under a minute, rough figures.")
@click.option(
    "--wallets",
    type=click.IntRange(min=10_000),
    help="Wallets in the log of memory, startup, rebuild, fold, verify [100,000]. A million is judged as promised.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/bench"),
    show_default=True,
    help="Folder of the report; the logs that are measured are made and removed in it.",
)
def bench(only: tuple[str, ...], *, quick: bool, wallets: int | None, out: Path) -> None:
    """Measure the service beside bare yardsticks in the same run: about five minutes.

    It starts its own service on a log of its own and touches no other data.
    """
    from api.bench.run import run

    names = [name for name in NAMES if not only or name in only]
    run(names, quick=quick, wallets=wallets, out=out)
