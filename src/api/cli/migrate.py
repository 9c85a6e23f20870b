"""``stakelog migrate``: moves the log of an embedded folder to Kafka, and its reads to a database.

Exit status: 0 the move is verified, and the folder names the new log; 1 it failed, or the topic's records are
not the beginning of this log (partition, seq and reason on stdout); 2 wrong use or settings, or nodes are running.
In each case the folder's log is unchanged, and a second run continues where the first one stopped.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec import Struct

from api.cli.forms_of_rules import forms_of_money, forms_of_tables
from api.cli.progress import Report, progress_of_steps

if TYPE_CHECKING:
    from api.composition.settings import Settings
    from ledger.core.money import Assets
    from ledger.kafka.address import KafkaAddress
    from ledger.kafka.log import KafkaEventLog
    from ledger.operations.audit import Verified
    from ledger.sqlite.folder import Migrated
    from ledger.sqlite.readers import SqliteRecords


class CannotMigrate(Exception):
    """Wrong use or settings, or nodes are running: one sentence for the operator."""


class _Move(Struct, frozen=True):
    """The log to move, and its destination."""

    settings: "Settings"
    address: "KafkaAddress"
    workers: int
    assets: "Assets"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.option("--to", "to", help="The cluster, kafka://host:port,…; default STAKELOG_LOG.")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that fold; default as many as cores, at most 4."
)
def migrate(data: Path | None, to: str | None, workers: int | None) -> None:
    """Move a data folder that is not in use into an empty Kafka topic, and its reads into STAKELOG_READ_MODEL.

    Every record keeps its bytes, its seq and its hash. The log is verified first; afterwards the whole topic is read
    back and compared with it. No node may run during the move. After a kill, run it again to continue. At the end the
    folder is marked: `serve` refuses it, and names the new log.

    \b
    STAKELOG_LOG=kafka://kafka-1:9092,kafka-2:9092,kafka-3:9092 \\
    STAKELOG_READ_MODEL=postgresql://stakelog@db/stakelog  stakelog migrate --data ./data
    """
    from ledger.errors import FolderInUse, LedgerError, LogMisconfigured, LogOutdated, WrongAssets, WrongPartitions
    from ledger.operations.audit import Fault
    from ledger.operations.migrate import NotThisLog

    wrong_use = (CannotMigrate, FolderInUse, LogMisconfigured, LogOutdated, WrongAssets, WrongPartitions)
    try:
        _migrate(data, to, workers)
    except Fault as fault:
        click.echo(f"FAULT {fault}")
        _fail("verification of the folder's log failed; nothing was moved. Restore a backup of it", 1)
    except NotThisLog as found:
        click.echo(f"DIFFERS {found}")
        _fail(
            "the topic does not hold the beginning of this folder's log; nothing was changed. Name an empty cluster, "
            "or delete the topic if it is not needed",
            1,
        )
    except wrong_use as error:
        _fail(str(error), 2)
    except LedgerError as error:
        _fail(f"{error}; the moved records are kept, run it again to continue", 1)
    except KeyboardInterrupt:
        _fail("interrupted; the moved records are kept, run it again to continue", 1)


def _fail(why: str, status: int) -> None:
    click.echo(f"stakelog migrate: {why}", err=True)
    sys.exit(status)


def _migrate(data: Path | None, to: str | None, workers: int | None) -> None:
    from ledger.kafka.address import parse_address
    from ledger.sqlite.folder import EVENTS, FolderLock, migrated_to
    from ledger.sqlite.readers import SqliteRecords
    from projections.projecting.rebuild import WORKERS_MAX

    settings = _settings(data)
    url = to or os.environ.get("STAKELOG_LOG", "")
    if not url.startswith("kafka://"):
        raise CannotMigrate("name the destination: --to kafka://host:port,…, or STAKELOG_LOG")
    address = parse_address(url)
    try:
        if not (settings.data / EVENTS).exists():
            raise CannotMigrate(f"there is no event log in {settings.data}: name its folder with --data")
    except OSError as error:
        raise CannotMigrate(f"the folder {settings.data} cannot be read: {error.strerror}") from error
    lock = FolderLock(settings.data)
    try:
        if (went := migrated_to(settings.data)) is not None:
            _say_where_it_went(went, address)
            _say_identity(settings, asyncio.run(_identity(settings)))
            return
        with closing(SqliteRecords(settings.data / EVENTS)) as records:
            _check_partitions(settings, records.partitions)
            move = _Move(
                settings,
                address,
                workers or min(os.cpu_count() or 1, WORKERS_MAX),
                _assets(settings, records.assets()),
            )
            asyncio.run(_run(move, records))
    finally:
        lock.release()


def _settings(data: Path | None) -> "Settings":
    """The settings of the embedded service: its log is in a folder."""
    from api.composition.settings import SettingsError, read_settings

    given = {name: value for name, value in os.environ.items() if name != "STAKELOG_LOG"}
    if data is not None:
        given["STAKELOG_DATA"] = str(data)
    try:
        return read_settings(given)
    except SettingsError as error:
        raise CannotMigrate(str(error)) from error


def _check_partitions(settings: "Settings", stored: int) -> None:
    if "STAKELOG_PARTITIONS" in os.environ and settings.partitions != stored:
        raise CannotMigrate(
            f"the log in {settings.data} has {stored} partitions, not {settings.partitions}: set STAKELOG_PARTITIONS="
            f"{stored}. The number is fixed: another one would separate users from their events"
        )


def _assets(settings: "Settings", declared: "Assets") -> "Assets":
    """The exponents to move: those that were declared with the log."""
    if "STAKELOG_ASSETS" in os.environ or not declared:
        for asset, exponent in settings.assets.items():
            if declared.get(asset, exponent) != exponent:
                raise CannotMigrate(
                    f"the log in {settings.data} was written with {asset}:{declared[asset]}, not with "
                    f"{asset}:{exponent}: set STAKELOG_ASSETS to its old value"
                )
        return {**settings.assets, **declared}
    return declared


def _say_where_it_went(went: "Migrated", address: "KafkaAddress") -> None:
    if went.to != str(address):
        raise CannotMigrate(f"the log of this folder was moved to {went.to} already")
    click.echo(f"well: this folder was moved to {went.to}, topic {went.topic}, already")


async def _run(move: _Move, records: "SqliteRecords") -> None:
    from ledger.kafka.log import TOPIC
    from ledger.operations import migrate as migration
    from ledger.operations.audit import verify
    from ledger.sqlite.folder import Migrated, mark_migrated

    await _refuse_nodes(move)
    began_s = monotonic()
    with progress_of_steps("events") as report:
        # In a thread, so that Ctrl-C works; nothing else reads the file at this time.
        verified = await asyncio.to_thread(
            verify,
            records,
            tables=forms_of_tables(records.tables()),
            money=forms_of_money(records.money_rules()),
            progress=lambda done, total: report("verifying the folder", done, total),
        )
        async with _opened(move, records.partitions) as topic:
            # The exponents and rules are moved too: no node can start with others, and open bets can be paid.
            await topic.declare(move.assets, records.tables(), records.money_rules(), records.games())
            copied_s = monotonic()
            copied = await migration.copy(records, verified.heads, topic, report)
            copied_s = monotonic() - copied_s
        async with _opened(move, records.partitions) as topic:
            await migration.compare(records, verified.heads, topic, report)
            folded = await _read_model(move, report)
            await _refuse_nodes(move)
            await _refuse_newer(verified, topic)
        identities = await _identity(move.settings)
        mark_migrated(
            move.settings.data, Migrated(str(move.address), TOPIC, time_ns() // 1_000, tuple(verified.heads))
        )
    _say_done(move, verified, copied, copied_s, monotonic() - began_s, folded)
    _say_identity(move.settings, identities)


@asynccontextmanager
async def _opened(move: _Move, partitions: int) -> AsyncIterator["KafkaEventLog"]:
    """The topic, created if it is missing, with a reader at its start."""
    from ledger.kafka.log import open_log

    log = await open_log(move.address, partitions)
    try:
        yield log
    finally:
        await log.close()


async def _refuse_nodes(move: _Move) -> None:
    """Raises CannotMigrate if nodes run: their records would take the seqs of records still to be moved."""
    from ledger.kafka.log import TIMEOUT_S
    from ledger.kafka.members import NODES_GROUP, members_of

    members = await members_of(move.address, NODES_GROUP, timeout_s=TIMEOUT_S)
    if members:
        listed = ", ".join(map(str, members))
        raise CannotMigrate(
            f"nodes are running on {move.address}: {listed} in the group {NODES_GROUP}. Stop them, wait until their "
            "session has expired (some 10 s after a kill), then run this again"
        )


async def _read_model(move: _Move, report: Report) -> int | None:
    """Fold the log into the database. Returns None if there is no database."""
    from functools import partial

    from api.composition.read_side import open_read_side
    from api.composition.settings import SQLITE
    from projections.projecting.rebuild import bring_up

    if move.settings.read_model == SQLITE:
        return None
    opens = partial(open_read_side, msgspec.structs.replace(move.settings, log=SQLITE))
    return await bring_up(opens, workers=move.workers, progress=report)


async def _identity(settings: "Settings") -> int | None:
    """Copy clients, tokens and keys into the nodes' database. Returns None if there are none, or no database."""
    from api.composition.access import identity_database
    from api.composition.settings import SQLITE
    from api.identity.copying import copy_identity
    from api.identity.database import IdentityDatabase
    from api.identity.tables import METADATA
    from ledger.files import IDENTITY

    to = settings.identity if settings.identity != SQLITE else settings.read_model
    if to == SQLITE or not (settings.data / IDENTITY).exists():
        return None
    source = identity_database(msgspec.structs.replace(settings, identity=SQLITE))
    target = IdentityDatabase(to, METADATA)
    try:
        return await copy_identity(source, target)
    finally:
        await source.close()
        await target.close()


def _say_identity(settings: "Settings", rows: int | None) -> None:
    from ledger.files import IDENTITY, MASTER_KEY

    data = settings.data
    if rows is not None:
        click.echo(
            f"{rows} rows of clients, tokens and keys are in the database of the nodes. Each node needs the master "
            f"key of this folder: name a copy of {data / MASTER_KEY} in STAKELOG_MASTER_KEY_FILE"
        )
    elif (data / IDENTITY).exists():
        click.echo(
            f"clients, tokens and keys stay in {data / IDENTITY}: no database is named. Run this again with "
            "STAKELOG_IDENTITY or STAKELOG_READ_MODEL before the nodes start, or private texts cannot be read"
        )


async def _refuse_newer(verified: "Verified", topic: "KafkaEventLog") -> None:
    """Refuse events of a node that ran while the tables were folded."""
    from ledger.operations.migrate import Interleaved

    for partition, head in enumerate(verified.heads):
        if await topic.head(partition) != head:
            raise Interleaved(
                f"partition {partition}, seq {head.seq + 1}: a node has opened the partition while it was moved"
            )


def _say_done(
    move: _Move, verified: "Verified", copied: int, copied_s: float, took_s: float, folded: int | None
) -> None:
    for partition, head in enumerate(verified.heads):
        click.echo(f"partition {partition}: seq {head.seq} {head.sha256}")
    rate = f" ({copied / copied_s:,.0f}/s)" if copied and copied_s else ""
    click.echo(
        f"well: {verified.events} events in {len(verified.heads)} partitions are in {move.address}, byte for byte as "
        f"in {move.settings.data}: {copied} moved now{rate}, all read back, {took_s:.1f} s in all"
    )
    if folded is None:
        click.echo("STAKELOG_READ_MODEL names no database: the workers fold the topic when they start")
    else:
        click.echo(
            f"{folded} events were folded into the read model; `stakelog project check --once` verifies its rows"
        )
    click.echo("start the nodes with STAKELOG_LOG set; this folder is marked as moved and is not served any more")
