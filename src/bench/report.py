"""The report: one table for the eye, one JSON file for the next run to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.markup import escape
from rich.table import Table

from bench.figures import Ratio, Row, Slice, Summary


def three_figures(number: float) -> str:
    """``12,300``, ``0.213``: three figures, because the fourth changes with every run."""
    if number >= 1000:
        return f"{round(number, 3 - len(str(int(number)))):,.0f}"
    return f"{number:.3g}"


def rate_text(per_second: float) -> str:
    """``12,300/s``."""
    return f"{three_figures(per_second)}/s"


def load_text(one: Summary | Slice) -> str:
    """``20,400/s (2.83 · 15.6 ms)``: the rate, and p50 and p99 of a request."""
    return f"{rate_text(one.rate)} ({three_figures(one.p50_ms)} · {three_figures(one.p99_ms)} ms)"


def page_text(one: Summary | Slice) -> str:
    """``1.10 · 2.31 · 4.02 ms``: p50, p95 and p99 of a request."""
    return f"{' · '.join(three_figures(ms) for ms in (one.p50_ms, one.p95_ms, one.p99_ms))} ms"


def mib_text(size: float) -> str:
    """``428 MiB``."""
    return f"{size / 2**20:,.0f} MiB"


def ratio_text(ratio: Ratio | None) -> str:
    """``0.61 · 0.64 · 0.70``: smallest, median and largest of the pairs."""
    return "" if ratio is None else f"{ratio.min:.2f} · [b]{ratio.median:.2f}[/] · {ratio.max:.2f}"


def verdict_text(row: Row) -> str:
    """In words, so that it is read without colours too."""
    if row.met is None:
        return ""
    return "[green]met[/]" if row.met else "[red]missed[/]"


def table_of(rows: Sequence[Row], title: str, caption: str) -> Table:
    """The table, a rule between the measures."""
    table = Table(title=escape(title), caption=escape(caption), caption_justify="left", title_justify="left")
    table.add_column("measure")
    table.add_column("stakelog")
    table.add_column("beside it")
    table.add_column("ratio, min · median · max", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            row.name,
            row.ours,
            row.beside,
            ratio_text(row.ratio),
            "" if row.target is None else str(row.target),
            verdict_text(row),
            end_section=following is not None and following.measure != row.measure,
        )
    return table


def write_json(path: Path, facts: dict[str, object], rows: Sequence[Row]) -> None:
    """Everything that was measured, each slice and pair included. Creates the folder; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = [
        {
            "measure": row.measure,
            "name": row.name,
            **row.figures,
            "ratio": row.ratio,
            "target": None if row.target is None else str(row.target),
            "judged": row.judged,
            "met": row.met,
        }
        for row in rows
    ]
    path.write_bytes(msgspec.json.format(msgspec.json.encode({**facts, "measured": measured}), indent=1) + b"\n")
