"""``stakelog project`` without a command: one of the workers that fill the read model from Kafka.

It waits while Kafka or the database cannot be reached, also at its start. It ends for two reasons only: a signal, or
a log or read model that an operator must look at. Its background check is a child process, which ends with it.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from typing import Final

import click

from api.cli.logs import set_up_logs
from api.composition.child_process import DISASTER, Child
from api.composition.settings import SQLITE, Settings
from ledger.core.games.edges import exceeded_edges, log_lines
from ledger.errors import LedgerError, LogDamaged, LogMisconfigured, LogUnavailable, LogUnreadable
from ledger.pacing import sleep_unless_stopped
from projections.storage.port import ReadModelAhead, message_for_log

_DISASTERS: Final = (ReadModelAhead, LogDamaged, LogUnreadable)
_OPEN_AGAIN_S: Final = 2.0
_ENDS_WITHIN_S: Final = 2.0

_log = logging.getLogger(__name__)


def work(settings: Settings, *, web_host: str, web_port: int, check: bool) -> None:
    """Never returns. Exit status 0 after a signal, 1 start it again, 2 wrong settings, 3 a restart cannot help."""
    if settings.log == SQLITE:
        click.echo(
            "stakelog project: this is the worker for a log on Kafka; with STAKELOG_LOG=sqlite `stakelog serve` "
            "fills the read model by itself. `stakelog project --help` lists the other commands",
            err=True,
        )
        sys.exit(2)
    set_up_logs(os.environ)
    for name in ("faust", "mode", "aiokafka"):  # they log every rebalance at length
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import uvloop

    try:
        uvloop.run(_work(settings, web_host, web_port, check=check))
    except LedgerError as error:
        click.echo(f"stakelog project: {message_for_log(error)}", err=True)
        if isinstance(error, LogMisconfigured):
            _end(2)
        _end(DISASTER if isinstance(error, _DISASTERS) else 1)
    except OSError as error:
        click.echo(f"stakelog project: {error}", err=True)
        _end(1)
    _end(0)


def _end(status: int) -> None:
    """End the process although a thread of Faust hangs: these threads are no daemons."""
    ending = threading.Timer(_ENDS_WITHIN_S, os._exit, (status,))
    ending.daemon = True
    ending.start()
    sys.exit(status)


async def _work(settings: Settings, web_host: str, web_port: int, *, check: bool) -> None:
    from api.composition.read_side import open_worker

    for line in log_lines(exceeded_edges(settings.games, settings.money, settings.assets)):
        _log.warning("%s", line)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    arguments = ("project", "check", "--with-parent", "--data", str(settings.data))
    checking = Child("the check of the read model", arguments) if check else None
    if checking is not None:
        checking.start()
    try:
        while not stop.is_set():
            try:
                async with open_worker(settings, stop, web_host=web_host, web_port=web_port) as worker:
                    gc.freeze()  # the collector skips all objects loaded so far
                    gc.set_threshold(50_000, 20, 50)  # rows form no cycles
                    await worker.run(stop)
            except LogUnavailable as error:
                _log.warning("%s; retrying", error)
                await sleep_unless_stopped(stop, _OPEN_AGAIN_S)
    finally:
        if checking is not None:
            await checking.stop()
