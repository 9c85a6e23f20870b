"""``stakelog project``: fill the read model, and show its status.

Exit status 0 success, 1 it failed or was refused, 2 wrong use or settings, or there is no log, 3 (``follow`` and the
worker) the log or the read model is damaged, and a restart does not help.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ledger import background

if TYPE_CHECKING:
    from api.composition.settings import Settings
    from ledger.errors import LedgerError
    from projections.projecting.log_reader import LogReader

_Command = TypeVar("_Command", bound=Callable[..., Any])

_NICE: Final = 10  # chosen: a tenth of the service's share when both want a core


def _data_option(command: _Command) -> _Command:
    """``--data``, as in ``audit``."""
    help_text = "The data folder; default STAKELOG_DATA or ./data."
    return click.option("--data", type=click.Path(path_type=Path), help=help_text)(command)


@click.group(invoke_without_command=True)
@_data_option
@click.option("--web-host", default="127.0.0.1", show_default=True, help="The address of the worker's own pages.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65_535),
    default=6066,
    show_default=True,
    help="Their port: /metrics for Prometheus, /lag as JSON; 0 for none.",
)
@click.option("--no-check", is_flag=True, help="Do not run the background check of the read model.")
@click.pass_context
def project(context: click.Context, data: Path | None, web_host: str, web_port: int, no_check: bool) -> None:
    """Fold the log into the tables that client apps read.

    Without a command: a worker that fills PostgreSQL or MySQL from Kafka, until SIGTERM or Ctrl-C. Start as many
    workers as needed, on any machine; they share the partitions. Settings are those of `serve`. With the log in
    SQLite, `serve` does this by itself.

    Exit status 1: start it again; 3: the log or the read model is damaged, and a restart does not help.
    """
    context.obj = data
    if context.invoked_subcommand is None:
        from api.cli.worker import work

        work(_settings("", data), web_host=web_host, web_port=web_port, check=not no_check)


@project.command()
@_data_option
@click.option("--with-parent", is_flag=True, help="End when stdin ends: for a supervisor that keeps it open.")
def follow(data: Path | None, with_parent: bool) -> None:
    """Follow the log until SIGTERM or Ctrl-C. `serve` does this by itself; settings are those of `serve`."""
    import uvloop

    from api.cli.logs import set_up_logs
    from api.composition.child_process import DISASTER, end_with_parent
    from ledger.errors import LedgerError, LogDamaged
    from projections.storage.port import ReadModelAhead, message_for_log

    if with_parent:
        end_with_parent()
    set_up_logs(os.environ)
    settings = _settings("follow", data)
    try:
        uvloop.run(_follow(settings))
    except LedgerError as error:
        click.echo(f"stakelog project follow: {message_for_log(error)}", err=True)
        sys.exit(DISASTER if isinstance(error, ReadModelAhead | LogDamaged) else _status_of(error))


async def _follow(settings: "Settings") -> None:
    import gc

    from api.composition.read_side import make_post_commit, open_read_side
    from projections.projecting.follower import Follower

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_read_side(settings) as (log, store):
        gc.freeze()  # the collector skips all objects loaded so far
        gc.set_threshold(50_000, 20, 50)  # rows form no cycles
        post_commit = make_post_commit(settings.cache)
        try:
            await Follower(log, store, post_commit=post_commit).run(stop)
        finally:
            if post_commit is not None:
                await post_commit.close()


@project.command()
@_data_option
@click.option("--accept", is_flag=True, help="Switch although the new rows differ; the differences are listed.")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that fold; default as many as cores, at most 4."
)
def rebuild(data: Path | None, accept: bool, workers: int | None) -> None:
    """Fold new tables from the log, compare them with the live ones, and switch to them. The service may run.

    The rows of both must be equal at the same event of every partition. If they differ, the differences are listed
    and the live tables stay. --accept switches nevertheless: after a change of the folds, or to repair rows that were
    changed by hand; repaired findings of the background check are listed. A killed rebuild changes nothing; run it
    again to continue.
    """
    from ledger.errors import LedgerError
    from projections.projecting.rebuild import WORKERS_MAX
    from projections.storage.port import message_for_log

    settings = _settings_of_a_log("rebuild", data)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        switched = asyncio.run(_rebuild(settings, accept, workers or min(os.cpu_count() or 1, WORKERS_MAX)))
    except LedgerError as error:
        click.echo(f"stakelog project rebuild: {message_for_log(error)}", err=True)
        sys.exit(_status_of(error))
    except KeyboardInterrupt:
        click.echo("stakelog project rebuild: interrupted; run it again to continue", err=True)
        sys.exit(1)
    sys.exit(0 if switched else 1)


async def _rebuild(settings: "Settings", accept: bool, workers: int) -> bool:
    from functools import partial
    from time import monotonic

    from api.cli.progress import progress_of_steps
    from api.composition.read_side import open_read_side, rebuild_lock
    from projections.projecting.rebuild import rebuild as rebuild_from_log

    began_s = monotonic()
    async with rebuild_lock(settings):
        with progress_of_steps() as report:
            outcome = await rebuild_from_log(
                partial(open_read_side, settings),
                workers=workers,
                accept=accept,
                progress=report,
            )
    took_s = monotonic() - began_s
    for one in outcome.differences:
        click.echo(f"DIFFERS partition {one.partition}, {one.table} of {one.owner or 'no user'}: {one.detail}")
    for found in outcome.mended:
        click.echo(f"REPAIRED {found}")
    if outcome.differing:
        listed = len(outcome.differences)
        rest = f", {listed} of them listed" if listed < outcome.differing else ""
        click.echo(f"{outcome.differing} rows differ from the live ones{rest}: " + _per_table(outcome.differing_in))
    if not outcome.switched:
        click.echo("the live tables stay; if the new rows are right, run it with --accept", err=True)
        return False
    rate = f"{outcome.events} events folded in {took_s:.1f} s"
    click.echo(f"generation {outcome.generation} is live: {rate}" + (", the first one" if outcome.first else ""))
    return True


def _per_table(differing: "Mapping[str, int]") -> str:
    return ", ".join(f"{number} in {table}" for table, number in differing.items())


@project.command()
@_data_option
def status(data: Path | None) -> None:
    """Show the live generation, its position in each partition, quarantined users, and the last check's findings.

    Exit status 1 if the read model is AHEAD of the log (the log got shorter, or is another log), or if the background
    check found that rows differ from the log.
    """
    from ledger.errors import LedgerError
    from projections.storage.port import message_for_log

    settings = _settings_of_a_log("status", data)
    try:
        wrong = asyncio.run(_status(settings, settings.partitions if "STAKELOG_PARTITIONS" in os.environ else None))
    except LedgerError as error:
        click.echo(f"stakelog project status: {message_for_log(error)}", err=True)
        sys.exit(_status_of(error))
    sys.exit(1 if wrong else 0)


async def _status(settings: "Settings", wanted: int | None) -> bool:
    """Whether the read model is ahead of the log, or differs from it. ``wanted``: the number of partitions that the
    log must have, if it is known."""
    from time import time_ns

    from api.composition.read_side import open_read_model
    from projections.models import VERSION
    from projections.projecting.log_reader import every_ahead
    from projections.reads.status import details_of, read_model_status
    from projections.storage.port import EVERY_USER

    async with open_read_model(settings, wanted) as (log, model):
        status, details = await read_model_status(model), await details_of(model)
        ends = log.ends()
        now_us = time_ns() // 1_000
        click.echo(f"generation {status.generation}, folded by version {status.version}")
        if status.version != VERSION:
            click.echo(f"this program has version {VERSION}: run `stakelog project rebuild --accept`")
        # A read model of another log may have more partitions, or fewer: the lines below report that.
        for partition, (head, end) in enumerate(zip(status.heads, ends, strict=False)):
            line = f"partition {partition}: seq {head.seq} {head.sha256[:16]}"
            if head.seq < end:
                age_s = (now_us - _time_us(log, partition, head.seq + 1)) / 1_000_000
                line += f", {end - head.seq} events behind, the oldest {age_s:.1f} s old"
            click.echo(line)
        ahead = list(every_ahead(log, status.heads))
        for why in ahead:
            click.echo(f"AHEAD partition {why.partition}, seq {why.seq}: {why.reason}")
        for one in details.quarantined:
            click.echo(f"QUARANTINED {one.user_id} (partition {one.partition}) at seq {one.seq}: {one.reason}")
        if status.quarantined > len(details.quarantined):
            click.echo(f"… {status.quarantined} users are quarantined in all")
        for check in details.checks:
            at = datetime.fromtimestamp(check.checked_at_us / 1_000_000, UTC).isoformat(timespec="seconds")
            found = f"{check.differences} rows differ" if check.differences else "all rows agree with the log"
            click.echo(f"checked partition {check.partition} up to seq {check.seq} at {at}: {found}")
        for partition, place, table in details.differing:
            whose = "every user" if place == EVERY_USER else place or "no user"
            click.echo(f"DIFFERS {whose} (partition {partition}) in {table}")
        if status.differences:
            click.echo(f"{status.differences} differences from the log: run `stakelog project rebuild --accept`")
    return bool(ahead or status.differences)


def _time_us(log: "LogReader", partition: int, seq: int) -> int:
    """Raises LogDamaged, LogUnavailable."""
    from ledger.core.record import MalformedRecord, time_us_of
    from ledger.errors import LogDamaged

    try:
        return time_us_of(log.read(partition, seq, 1)[0])
    except MalformedRecord as error:
        raise LogDamaged(partition, seq, f"the record cannot be read: {error}") from error


@project.command()
@_data_option
def supply(data: Path | None) -> None:
    """Show the source, the present accounts and the sinks of each asset's money, from the folded totals."""
    from ledger.errors import LedgerError
    from projections.storage.port import message_for_log

    settings = _settings_of_a_log("supply", data)
    try:
        asyncio.run(_supply(settings))
    except LedgerError as error:
        click.echo(f"stakelog project supply: {message_for_log(error)}", err=True)
        sys.exit(_status_of(error))


async def _supply(settings: "Settings") -> None:
    from api.composition.read_side import open_read_model
    from projections.reads.supply import account_totals

    async with open_read_model(settings) as (_, model):
        totals = await account_totals(model)
    for asset in sorted({total.asset for total in totals}):
        own = [total for total in totals if total.asset == asset]
        click.echo(f"{asset + ', in minor units':<26}{'took in':>28}{'gave out':>28}{'balance':>28}")
        for one in own:
            click.echo(f"  {one.account:<24}{one.credited:>28,}{one.debited:>28,}{one.balance:>28,}")
        click.echo(f"  {'sum':<80}{sum(one.balance for one in own):>28,}")
    click.echo("a house account with a balance below zero is a source of money, above zero a sink")


@project.command()
@_data_option
@click.option("--with-parent", is_flag=True, help="End when stdin ends: for a supervisor that keeps it open.")
@click.option("--once", is_flag=True, help="Check every partition at full speed, list the differences, and end.")
def check(data: Path | None, with_parent: bool, once: bool) -> None:
    """Compare the read model with the log, round after round. `serve` does this by itself.

    Differences are stored in the read model, logged, and counted in /metrics. With --once: exit status 1 if any.
    """
    from api.cli.logs import set_up_logs
    from api.composition.child_process import end_with_parent
    from ledger.errors import LedgerError
    from projections.storage.port import message_for_log

    if with_parent:
        end_with_parent()
    set_up_logs(os.environ)
    settings = _settings("check", data)
    try:
        found = asyncio.run(_check(settings, once=once))
    except LedgerError as error:
        click.echo(f"stakelog project check: {message_for_log(error)}", err=True)
        sys.exit(_status_of(error))
    if once:
        click.echo(f"{found} differences" if found else "well: every row agrees with the log")
        sys.exit(1 if found else 0)


async def _check(settings: "Settings", *, once: bool) -> int:
    import gc

    from api.composition.read_side import open_check
    from projections.auditing.background_check import BUSY_SHARE, QUICK_SHARE, THOROUGH_SHARE, CpuShare

    os.nice(_NICE)
    shares = (
        (CpuShare(1.0), CpuShare(1.0))
        if once
        else (
            CpuShare(QUICK_SHARE),
            CpuShare(THOROUGH_SHARE, busy_share=BUSY_SHARE),
        )
    )
    async with open_check(settings, *shares) as checking:
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if once:
            return await checking.all_partitions()
        task = background.awaited(checking.run(), "check")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return 0


def _status_of(error: "LedgerError") -> int:
    """The exit status of a command that failed: 2 for wrong settings and for a log of an older format."""
    from ledger.errors import LogOutdated, WrongPartitions

    return 2 if isinstance(error, LogOutdated | WrongPartitions) else 1


def _settings(command: str, data: Path | None) -> "Settings":
    """``data``: the folder of the command, or of `project` before it; None for that of the environment."""
    from api.composition.settings import SettingsError, read_settings

    folder = data or click.get_current_context().obj
    try:
        return read_settings(os.environ if folder is None else {**os.environ, "STAKELOG_DATA": str(folder)})
    except SettingsError as error:
        click.echo(f"{f'stakelog project {command}'.rstrip()}: {error}", err=True)
        sys.exit(2)


def _settings_of_a_log(command: str, data: Path | None) -> "Settings":
    """For commands that need a log."""
    from api.composition.settings import SQLITE
    from ledger.sqlite.folder import EVENTS

    settings = _settings(command, data)
    if settings.log != SQLITE:
        return settings
    try:
        if (settings.data / EVENTS).exists():
            return settings
        why = f"there is no event log in {settings.data}"
    except OSError as error:
        why = f"the folder {settings.data} cannot be read: {error.strerror}"
    click.echo(f"stakelog project {command}: {why}: name the folder of a log with --data or STAKELOG_DATA", err=True)
    sys.exit(2)
