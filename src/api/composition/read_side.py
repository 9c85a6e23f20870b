"""Opens the log and the tables for the programs of the read side: follower, worker, rebuild, check, audit.

A driver of a database, and the client of Kafka, are imported only if the settings name them.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api.composition.clock import system_clock
from api.composition.scratch import scratch_store
from api.composition.settings import MEMORY, SQLITE, Settings
from ledger.errors import (
    FolderUnusable,
    WrongPartitions,
)
from ledger.sqlite.folder import EVENTS, READ_MODEL, REBUILD_LOCK
from ledger.sqlite.log_file import wrong_partitions
from ledger.sqlite.readers import SqliteLogReader
from projections.auditing.background_check import BackgroundCheck, CpuShare, PartitionCheck
from projections.models import VERSION
from projections.projecting.delivery import DeliveryProjector, PlacedLogReader
from projections.projecting.log_reader import LogReader
from projections.projecting.post_commit import PostCommit
from projections.projecting.rebuild import ReadSide
from projections.projecting.worker_metrics import LagMonitor
from projections.storage.database import Database
from projections.storage.port import (
    UNDER_WAY,
    ReadModel,
    ReadModelStore,
    ReadModelUnavailable,
    RebuildUnderWay,
)
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel

if TYPE_CHECKING:
    from projections.projecting.worker import Worker


def store_of(data: Path, read_model: str, *, make: bool = True) -> ReadModelStore:
    """The tables, to write. ``read_model``: as in the settings. ``make``: create missing tables."""
    if read_model == SQLITE:
        return SqliteReadModelStore(data / READ_MODEL, make=make)
    return ServerReadModelStore(_database_of(read_model), make=make)


def model_of(settings: Settings, *, log_outages: bool = False) -> ReadModel:
    """The tables, to read. ``log_outages``: for a service, whose clients get no address in a message."""
    if settings.read_model == SQLITE:
        return SqliteReadModel(settings.data / READ_MODEL)
    return ServerReadModel(_database_of(settings.read_model_replica or settings.read_model), log_outages=log_outages)


def _database_of(url: str) -> Database:
    # A driver is imported only if used: the import takes as long as the rest of a start.
    if urlsplit(url).scheme == "postgresql":
        from projections.storage.postgresql import PostgreSqlDatabase

        return PostgreSqlDatabase(url)
    from projections.storage.mysql import MySqlDatabase

    return MySqlDatabase(url)


async def make_first_generation(store: ReadModelStore, partitions: int) -> None:
    """Make the first generation if there is none. Closes the store."""
    try:
        if not any(generation.status == "live" for generation in await store.generations()):
            await store.make_generation(VERSION, partitions, live=True)
    finally:
        await store.close()


def _reader_of(settings: Settings) -> PlacedLogReader | SqliteLogReader:
    """The log, to read. Raises LedgerError."""
    if settings.log == SQLITE:
        return SqliteLogReader(settings.data / EVENTS)
    return _topic_of(settings)


def _topic_of(settings: Settings) -> PlacedLogReader:
    # Imported only if used, as the drivers of databases.
    from ledger.kafka.address import parse_address
    from ledger.kafka.log import TOPIC
    from ledger.kafka.reader import KafkaLogReader

    return KafkaLogReader(parse_address(settings.log), topic=TOPIC)


@asynccontextmanager
async def open_read_side(settings: Settings) -> AsyncIterator[ReadSide]:
    """The log, to read, and its tables, to write. Raises LedgerError."""
    with closing(_reader_of(settings)) as log:
        store = store_of(settings.data, settings.read_model)
        try:
            yield ReadSide(log, store)
        finally:
            await store.close()


def make_post_commit(cache: str) -> PostCommit | None:
    """The post-commit hook of a folding process. ``cache``: as in the settings. The caller closes it."""
    if cache == MEMORY:
        return None
    from projections.caching.redis import RedisCache
    from projections.caching.redis_client import RedisClient
    from projections.live.redis import RedisLiveFeed

    client = RedisClient(cache, connections=2)
    return PostCommit(RedisCache(client), RedisLiveFeed(client))


@asynccontextmanager
async def open_read_model(
    settings: Settings, partitions: int | None = None
) -> AsyncIterator[tuple[LogReader, ReadModel]]:
    """The log and its tables, to read. Raises LedgerError; WrongPartitions if their number differs."""
    data = settings.data
    with closing(_reader_of(settings)) as log:
        if partitions is not None and partitions != log.partitions:
            if settings.log == SQLITE:
                raise wrong_partitions(data / EVENTS, log.partitions, partitions)
            raise WrongPartitions(
                f"the topic was created with {log.partitions} partitions, not {partitions}: set "
                f"STAKELOG_PARTITIONS={log.partitions}, or use another cluster"
            )
        if settings.read_model == SQLITE and not (data / READ_MODEL).exists():
            raise ReadModelUnavailable(f"there is no read model in {data}: run `stakelog project rebuild` to make it")
        model = model_of(settings)
        try:
            yield log, model
        finally:
            await model.close()


@asynccontextmanager
async def rebuild_lock(settings: Settings) -> AsyncIterator[None]:
    """Allows one rebuild of this read model at a time, on all machines. Raises RebuildUnderWay, FolderUnusable,
    ReadModelUnavailable."""
    if settings.read_model == SQLITE:
        with _locked_file(settings.data):
            yield
        return
    database = _database_of(settings.read_model)
    try:
        async with database.rebuilding():
            yield
    finally:
        await database.close()


@contextmanager
def _locked_file(data: Path) -> Iterator[None]:
    try:
        descriptor = os.open(data / REBUILD_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FolderUnusable(f"the data folder {data} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RebuildUnderWay(UNDER_WAY) from None
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def open_check(settings: Settings, quick: CpuShare, thorough: CpuShare) -> AsyncIterator[BackgroundCheck]:
    """The check of this read model; the caller runs it. Raises LedgerError."""
    with closing(_reader_of(settings)) as log:
        store = store_of(settings.data, settings.read_model, make=False)
        # A folder in memory would cost what the check saves: /tmp often is one, the data folder is not.
        scratch = partial(scratch_store, settings.data if settings.data.is_dir() else Path(gettempdir()))
        checks = [PartitionCheck(store, log, cpu, scratch) for cpu in (quick, thorough)]
        try:
            yield BackgroundCheck(store, checks[0], checks[1], system_clock)
        finally:
            await store.close()


@asynccontextmanager
async def open_worker(
    settings: Settings, stop: asyncio.Event, *, web_host: str, web_port: int
) -> AsyncIterator["Worker"]:
    """A worker over the topic; the caller runs it. Raises LedgerError."""
    from ledger.kafka.address import parse_address
    from ledger.kafka.log import TOPIC
    from projections.projecting.worker import Worker, WorkerOptions

    address = parse_address(settings.log)
    options = address.client_options()
    sasl = (str(address.sasl_mechanism), str(address.sasl_username), str(address.sasl_password))
    with closing(await asyncio.to_thread(_topic_of, settings)) as log:
        store = ServerReadModelStore(_database_of(settings.read_model))
        post_commit = make_post_commit(settings.cache)
        try:
            delivery = DeliveryProjector(log, store, stop, post_commit=post_commit)
            monitor = LagMonitor(log, delivery, lambda: store.retries)
            yield Worker(
                delivery,
                monitor,
                WorkerOptions(
                    servers=address.servers,
                    topic=TOPIC,
                    web_host=web_host,
                    web_port=web_port,
                    ssl_context=options.get("ssl_context"),
                    sasl=sasl if address.security_protocol.startswith("SASL") else None,
                ),
            )
        finally:
            if post_commit is not None:
                await post_commit.close()
            await store.close()
