"""``stakelog project``: what fills the read model, and where it stands.

Exit status 0 well, 1 it failed or was refused, 2 wrong use or settings, 3 (``follow``) the log or the read model is
not what it must be, and starting again cannot mend it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from api.settings import Settings

_NICE: Final = 10  # chosen: a tenth of what the service gets where both want a core


@click.group()
def project() -> None:
    """Fold the log into the tables that client apps read: follow, check, rebuild, status."""


@project.command()
@click.option("--with-parent", is_flag=True, help="End when stdin ends: for a supervisor that holds its other end.")
def follow(with_parent: bool) -> None:
    """Follow the log until SIGTERM or Ctrl-C. `serve` does this by itself; settings are those of `serve`."""
    import uvloop

    from api.children import DISASTER, end_with_parent
    from ledger.ports import LedgerError, LogDamaged
    from projections.store import ReadModelAhead

    if with_parent:
        end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    settings = _settings("follow")
    try:
        uvloop.run(_follow(settings))
    except LedgerError as error:
        click.echo(f"stakelog project follow: {error}", err=True)
        sys.exit(DISASTER if isinstance(error, ReadModelAhead | LogDamaged) else 1)


async def _follow(settings: "Settings") -> None:
    import gc

    from api.providers import open_follower

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_follower(settings) as follower:
        gc.freeze()  # what is loaded by now stays
        gc.set_threshold(50_000, 20, 50)  # rows form no cycles
        await follower.run(stop)


@project.command()
@click.option("--with-parent", is_flag=True, help="End when stdin ends: for a supervisor that holds its other end.")
@click.option("--once", is_flag=True, help="Check every partition at full speed, say what differs, and end.")
def check(with_parent: bool, once: bool) -> None:
    """Hold the read model against the log, round after round. `serve` does this by itself.

    What differs is kept in the read model, logged, and counted in /metrics. With --once, exit status 1 if any does.
    """
    from api.children import end_with_parent
    from ledger.ports import LedgerError

    if with_parent:
        end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    settings = _settings("check")
    try:
        found = asyncio.run(_check(settings, once=once))
    except LedgerError as error:
        click.echo(f"stakelog project check: {error}", err=True)
        sys.exit(1)
    if once:
        click.echo(f"{found} differences" if found else "well: every row is what the log says")
        sys.exit(1 if found else 0)


async def _check(settings: "Settings", *, once: bool) -> int:
    import gc

    from api.providers import open_check
    from projections.proof import Pace

    os.nice(_NICE)
    async with open_check(settings, Pace(1.0) if once else Pace()) as checking:
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if once:
            return await checking.all_partitions()
        task = asyncio.ensure_future(checking.for_ever())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return 0


def _settings(command: str) -> "Settings":
    from api.settings import SettingsError, read_settings

    try:
        return read_settings(os.environ)
    except SettingsError as error:
        click.echo(f"stakelog project {command}: {error}", err=True)
        sys.exit(2)
