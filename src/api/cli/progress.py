"""Progress on stderr, with the time that is left: a bar on a terminal, a line every few seconds in a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

_LINE_EVERY_S: Final = 5.0  # chosen: a short run is silent, a long one shows its progress in a log

Report = Callable[[str, int, int | None], None]
"""Called with the current step, the amount done, and the total; None if the total is unknown."""


@contextmanager
def progress(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function of (done, total) to call at any rate."""
    with progress_of_steps(unit) as report:
        yield lambda done, total: report(doing, done, total)


@contextmanager
def progress_of_steps(unit: str = "") -> Iterator[Report]:
    """As ``progress``, for work of several steps."""
    if sys.stderr.isatty():
        with _bar(unit) as report:
            yield report
    else:
        yield Lines(unit)


@contextmanager
def _bar(unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


def _write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Lines:
    """A line every few seconds. The time left is estimated from the work done since the step began."""

    def __init__(
        self, unit: str, *, write: Callable[[str], None] = _write_line, now_s: Callable[[], float] = monotonic
    ) -> None:
        self._unit = f" {unit}" if unit else ""
        self._write, self._now_s = write, now_s
        self._told_s = now_s()
        self._doing, self._began_s, self._before = "", self._told_s, 0

    def __call__(self, doing: str, done: int, total: int | None) -> None:
        now_s = self._now_s()
        if doing != self._doing:
            self._doing, self._began_s, self._before = doing, now_s, done
        if now_s - self._told_s < _LINE_EVERY_S:
            return
        self._told_s = now_s
        if not total:
            self._write(doing)
            return
        total = max(total, done)  # the total may grow during the work
        line = f"{doing}: {done} of {total}{self._unit} ({100 * done // total} %)"
        if done > self._before:
            left_s = (now_s - self._began_s) / (done - self._before) * (total - done)
            line += f", about {left_s:.0f} s left"
        self._write(line)
