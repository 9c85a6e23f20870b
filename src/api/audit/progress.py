"""Progress on stderr, with the time that is left: a bar on a terminal, a line now and then in a file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_LINE_EVERY_S: Final = 10.0  # chosen: a short run is silent, a long one shows in a log that it lives


@contextmanager
def progress(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Answers what is to be told (done, in all) now and then, as often as one likes."""
    if sys.stderr.isatty():
        with _bar(doing, unit) as tell:
            yield tell
    else:
        yield _Lines(doing, unit)


@contextmanager
def _bar(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    def __init__(self, doing: str, unit: str) -> None:
        self._doing, self._unit = doing, unit
        self._began_s = self._told_s = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s < _LINE_EVERY_S or not done:
            return
        self._told_s = now_s
        left_s = (now_s - self._began_s) / done * (total - done)
        sys.stderr.write(f"{self._doing}: {done} of {total} {self._unit}, about {left_s:.0f} s left\n")
        sys.stderr.flush()
