"""One run: the folder, the progress, the measures in turn, the report, and the clean-up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bench import machine, report
from bench.figures import BenchError, Row
from bench.lab.one_node import Processes

REPORT_WIDTH = 150
"""Of the table where there is no terminal to ask: wide enough for its longest lines."""


LabT = TypeVar("LabT", bound=Processes)
MakeLab = Callable[[Path, Callable[[str], None], Callable[[], None]], LabT]


class Kind(Struct, Generic[LabT], frozen=True):
    """What is to be measured, and where. ``make``: a laboratory of a folder, which says what it does and counts
    ``steps``."""

    title: str
    plan: Struct
    measures: dict[str, Callable[[LabT], list[Row]]]
    steps: int
    make: MakeLab[LabT]


def embedded(names: Sequence[str], *, quick: bool, wallets: int | None, events: int | None) -> Kind[Any]:
    """The service on a log of its own."""
    from bench.lab import one_node as lab
    from bench.measures import commands as measures

    plan = lab.QUICK if quick else lab.FULL
    if wallets is not None:
        plan = msgspec.structs.replace(plan, wallets=wallets)
    if events is not None:
        plan = msgspec.structs.replace(plan, grown_events=events)
    chosen = {name: measure for name, measure in measures.MEASURES.items() if name in names}
    return Kind("stakelog bench", plan, chosen, measures.steps(plan, names), partial(lab.Lab, plan))


def distributed(names: Sequence[str], *, quick: bool, environment: Mapping[str, str]) -> Kind[Any]:
    """Nodes, workers and the servers that ``environment`` names. Raises click.ClickException."""
    from bench.lab import distributed as distributed_lab
    from bench.lab.servers import servers_of
    from bench.measures import distributed as distributed_measures

    plan = distributed_lab.QUICK if quick else distributed_lab.FULL
    chosen = {name: measure for name, measure in distributed_measures.MEASURES.items() if name in names}
    try:
        make = partial(distributed_lab.DistributedLab, plan, servers_of(environment))
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    return Kind("stakelog bench --distributed", plan, chosen, distributed_measures.steps(plan, names), make)


def run(kind: Kind[Any], *, out: Path) -> None:
    """Measure and report. Raises click.ClickException (one line) if that is not possible; what was measured before
    the trouble is reported all the same."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=REPORT_WIDTH)
    began_at = datetime.now(UTC)
    began = time.perf_counter()
    try:
        with _ended_by_sigterm(), _folder(out) as folder:
            facts = machine.facts(folder)
            rows, unsettled, troubles = _measured(kind, folder, console)
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    trouble = "\n".join(troubles)
    if trouble and not rows:
        raise click.ClickException(trouble)
    took_s = time.perf_counter() - began
    path = out / f"{began_at:%Y%m%dT%H%M%SZ}.json"
    kept = {
        "at": began_at.isoformat(timespec="seconds"),
        "took_s": round(took_s, 1),
        "machine": facts | {"load_average_after": list(os.getloadavg())},
        "plan": kind.plan,
        "unsettled": unsettled,
        "failed": troubles,
    }
    try:
        report.write_json(path, kept, rows)
    except OSError as error:
        raise click.ClickException(f"the report cannot be written: {error}") from error
    console.print(report.table_of(rows, f"{kind.title}, {took_s:.0f} s", f"{_caption(facts)}\n{path}"))
    if trouble:
        raise click.ClickException(trouble)


def _caption(facts: dict[str, object]) -> str:
    how = (
        "in brackets: p50 and p99 of a request; of pages and what is visible: p50, p95 and p99; pairs taken in turns"
    )
    return f"{how}\n{machine.summary(facts)}"


def _measured(kind: Kind[Any], folder: Path, console: Console) -> tuple[list[Row], int, list[str]]:
    """The rows, how often a yardstick could not wait until the service was idle, and a line for each that failed."""
    rows: list[Row] = []
    troubles: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=kind.steps)
        laboratory = kind.make(
            folder,
            lambda doing: progress.update(task, description=escape(doing)),
            lambda: progress.advance(task),
        )
        with laboratory:
            for name, measure in kind.measures.items():
                if not console.is_terminal:
                    console.print(f"measuring {name} …")
                try:
                    rows += measure(laboratory)
                except BenchError as error:
                    troubles.append(f"{name}: {error}")
        return rows, laboratory.unsettled, troubles


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder beside the reports, so on the disk that is meant; gone at the end."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, so that it leaves no process and no folder behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
