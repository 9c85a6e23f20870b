"""Which adapter serves which port: with ``access``, the only module that names adapters.

All objects live as long as the process; dishka builds it in order and closes it in the reverse order, so the
folder's lock is the first thing taken and the last released.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from logging import getLogger
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, NewType
from urllib.parse import urlsplit

from dishka import AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api.composition.access import AccessParts, AvailableKeys, Limiting
from api.composition.application import Applications, Listening, build_applications
from api.composition.child_process import Child
from api.composition.scratch import scratch_store
from api.composition.settings import MEMORY, SQLITE, Settings
from api.http.metrics import ReadModelGauges
from api.identity.login import Access
from api.sealing.outside import outside_of
from api.sealing.sealer import Sealer
from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.games.rules import RuleBook, book_of
from ledger.errors import (
    DELETE_STATE,
    CheckpointAhead,
    FolderUnusable,
    LogMisconfigured,
    WrongPartitions,
)
from ledger.node.node import Node
from ledger.node.owns_all import NoOtherNodes, OwnsAll
from ledger.node.ports import OtherNodes, Peers
from ledger.operations.seals import SEALS, SealFile
from ledger.peers.forwarding import Forwarding
from ledger.peers.log_view import LogView
from ledger.ports import Clock, EventLog, StateStore
from ledger.snapshots.snapshots import Snapshots
from ledger.sqlite.folder import EVENTS, READ_MODEL, REBUILD_LOCK, STATE, FolderLock, refuse_migrated
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.log_file import wrong_partitions
from ledger.sqlite.readers import SqliteLogReader
from ledger.sqlite.state_store import SqliteStateStore
from projections.auditing.background_check import BackgroundCheck, CpuShare, PartitionCheck
from projections.caching.cached_reads import CacheCounts, CachedReads
from projections.caching.shared_reads import SharedReads
from projections.models import VERSION
from projections.projecting.delivery import DeliveryProjector, PlacedLogReader
from projections.projecting.log_reader import LogReader, refuse_ahead
from projections.projecting.post_commit import PostCommit
from projections.projecting.rebuild import ReadSide
from projections.projecting.worker_metrics import LagMonitor
from projections.reads.queries import Reads
from projections.reads.status import read_model_status
from projections.storage.database import Database
from projections.storage.port import (
    UNDER_WAY,
    ReadModel,
    ReadModelStore,
    ReadModelUnavailable,
    RebuildUnderWay,
    Switched,
    address_of,
)
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel

if TYPE_CHECKING:
    from ledger.kafka.log import KafkaEventLog
    from projections.projecting.worker import Worker

Checking = NewType("Checking", Child)
"""The process that compares the read model with the log."""
Children = NewType("Children", tuple[Child, ...])
"""All child processes of the service."""


_log = getLogger(__name__)


def system_clock() -> int:
    """The machine's time: Unix microseconds, UTC."""
    return time.time_ns() // 1000


class Local(Provider):
    """The parts of every service that are on its own machine."""

    scope = Scope.APP
    settings = from_context(Settings)

    @provide
    def lock(self, settings: Settings) -> Iterator[FolderLock]:
        lock = FolderLock(settings.data)
        yield lock
        lock.release()

    @provide
    def store(self, settings: Settings, _: FolderLock) -> Iterator[StateStore]:
        store = SqliteStateStore(settings.data / STATE)
        yield store
        store.close()

    @provide
    def clock(self) -> Clock:
        return system_clock

    @provide
    async def read_model(self, settings: Settings, _: FolderLock) -> AsyncIterator[ReadModel]:
        """Without its database the service still accepts commands; reads fail until the database can be reached."""
        if settings.read_model == SQLITE:
            await _make_first_generation(SqliteReadModelStore(settings.data / READ_MODEL), settings.partitions)
        model = _model_of(settings, log_outages=True)
        if settings.read_model != SQLITE:
            try:
                await _make_first_generation(_store_of(settings.data, settings.read_model), settings.partitions)
            except (ReadModelUnavailable, Switched) as error:
                _log.warning("no reads yet: %s (%s)", error, address_of(settings.read_model))
        yield model
        await model.close()

    @provide
    async def log_view(self, node: Node, owners: Owners, others: OtherNodes) -> AsyncIterator[LogView]:
        log_view = LogView(node, owners, others)
        yield log_view
        await log_view.close()

    @provide
    async def reads(
        self, model: ReadModel, log_view: LogView, clock: Clock, settings: Settings
    ) -> AsyncIterator[Reads]:
        reads = _reads_of(model, log_view, clock, settings)
        reads.suspects.refuse = settings.refuse_suspect
        reads.suspects.start()
        yield reads
        await reads.suspects.stop()
        if isinstance(reads, CachedReads):
            await reads.close_cache()

    @provide
    async def sealer(
        self, settings: Settings, log_view: LogView, available: AvailableKeys, clock: Clock
    ) -> AsyncIterator[Sealer]:
        """Started."""
        outside = None
        if settings.seals is not None:
            # The chains of several nodes may be copied to one folder.
            name = SEALS if settings.log == SQLITE else f"seals-{_file_name(settings.advertise)}.ndjson"
            outside = outside_of(settings.seals, settings.data, name)
        sign = None if available.keys is None else available.keys.ring.sign
        sealer = Sealer(SealFile(settings.data / SEALS), log_view.heads, clock, settings.seal_s, outside, sign)
        sealer.start()
        yield sealer
        await sealer.stop()


class Embedded(Provider):
    """One process, SQLite log."""

    scope = Scope.APP
    settings = from_context(Settings)

    @provide
    async def log(self, settings: Settings, _: FolderLock) -> AsyncIterator[EventLog]:
        _refuse_gone_log(settings.data)
        async with _declared(SqliteEventLog(settings.data / EVENTS, settings.partitions), settings) as log:
            yield log

    @provide
    def owners(self, log: EventLog, settings: Settings) -> Owners:
        return OwnsAll(log.partitions, address=settings.advertise)

    @provide
    def others(self) -> OtherNodes:
        return NoOtherNodes()

    @provide
    async def node(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        owners: Owners,
        others: OtherNodes,
        settings: Settings,
    ) -> AsyncIterator[Node]:
        """Started. At the end it closes the waiting requests, saves the state, and closes log and store."""
        node = Node(
            log, store, clock, settings.assets, rules=await _rules(log, settings), owners=owners, others=others
        )
        await node.start()
        yield node
        await node.stop()

    @provide
    async def follower(self, settings: Settings, model: ReadModel, _: Node) -> AsyncIterator[Child]:
        """Started, after the node: the node makes the log that it follows."""
        with closing(SqliteLogReader(settings.data / EVENTS, is_open_here=True)) as log:
            try:
                refuse_ahead(log, (await read_model_status(model)).heads)
            except ReadModelUnavailable:
                if settings.read_model == SQLITE:
                    raise
                # The follower checks the same as soon as the database can be reached, and halts the service.
        child = Child("the follower", ("project", "follow", "--with-parent"))
        child.start()
        yield child
        await child.stop()

    @provide
    async def check(self, _: Child) -> AsyncIterator[Checking]:
        """Started, after the follower, which makes the tables to check."""
        child = Child("the check of the read model", ("project", "check", "--with-parent"))
        child.start()
        yield Checking(child)
        await child.stop()

    @provide
    def children(self, follower: Child, check: Checking) -> Children:
        return Children((follower, check))

    @provide
    def applications(
        self,
        node: Node,
        reads: Reads,
        model: ReadModel,
        log_view: LogView,
        follower: Child,
        check: Checking,
        sealer: Sealer,
        access: Access,
        limiting: Limiting,
        keys: AvailableKeys,
        settings: Settings,
    ) -> Applications:
        children = {"follower": follower, "check": check}
        gauges = ReadModelGauges(node, model, children, _pooled(model), _counted(reads))
        return _applications(settings, node, reads, gauges, log_view, sealer, access, limiting, keys)


class Distributed(Provider):
    """One of many nodes: their log in Kafka, and a read model that `stakelog project` fills.

    Kafka clients are imported only if used: the import takes as long as the rest of a start.
    """

    scope = Scope.APP
    settings = from_context(Settings)

    @provide
    async def log(self, settings: Settings, _: FolderLock) -> AsyncIterator[EventLog]:
        from ledger.kafka.address import parse_address
        from ledger.kafka.log import open_log

        _refuse_own_log(settings.data)
        async with _declared(await open_log(parse_address(settings.log), settings.partitions), settings) as log:
            yield log

    @provide
    async def snapshots(self, log: EventLog, store: StateStore, settings: Settings) -> AsyncIterator[Snapshots]:
        from ledger.kafka.address import parse_address
        from ledger.kafka.snapshots import open_snapshots

        kept = await open_snapshots(parse_address(settings.log), settings.partitions)
        snapshots = Snapshots(log, store, kept, spool=settings.data)
        yield snapshots
        await snapshots.close()

    @provide
    def owners(self, settings: Settings) -> Owners:
        from ledger.kafka.address import parse_address
        from ledger.kafka.log import TOPIC
        from ledger.kafka.owners import KafkaOwners

        return KafkaOwners(parse_address(settings.log), settings.advertise, topic=TOPIC)

    @provide
    async def node(
        self,
        log: EventLog,
        store: StateStore,
        snapshots: Snapshots,
        clock: Clock,
        owners: Owners,
        others: OtherNodes,
        settings: Settings,
    ) -> AsyncIterator[Node]:
        """Started, and not yet joined. At the end it finishes everything in flight, leaves, and closes log and
        store."""
        from ledger.kafka.log import KafkaEventLog

        assert isinstance(log, KafkaEventLog)
        node = Node(
            log,
            store,
            clock,
            settings.assets,
            rules=await _rules(log, settings),
            owners=owners,
            others=others,
            clock_off_us=log.clock_off_us,
            prepare=snapshots.prepare,
        )
        await node.start()
        taking = background.keep(lambda: snapshots.write_due(lambda: tuple(node.writers)), "snapshots")
        yield node
        taking.cancel()
        await asyncio.wait({taking})
        await node.stop()

    @provide
    def peers(self, settings: Settings) -> Peers:
        """Closed with the node."""
        from api.nodes.client import HttpPeers

        return HttpPeers(settings.cluster_secret)

    @provide
    def others(self, owners: Owners, peers: Peers, clock: Clock, log: EventLog, settings: Settings) -> OtherNodes:
        return Forwarding(owners, peers, clock, log.partitions, settings.advertise)

    @provide
    def children(self) -> Children:
        return Children(())

    @provide
    def applications(
        self,
        node: Node,
        reads: Reads,
        model: ReadModel,
        log_view: LogView,
        sealer: Sealer,
        access: Access,
        limiting: Limiting,
        keys: AvailableKeys,
        settings: Settings,
    ) -> Applications:
        gauges = ReadModelGauges(node, model, {}, _pooled(model), _counted(reads))
        return _applications(settings, node, reads, gauges, log_view, sealer, access, limiting, keys)


def _applications(
    settings: Settings,
    node: Node,
    reads: Reads,
    gauges: ReadModelGauges,
    log_view: LogView,
    sealer: Sealer,
    access: Access,
    limiting: Limiting,
    keys: AvailableKeys,
) -> Applications:
    listening = Listening(
        login=access.login,
        limiter=limiting.limiter,
        adjust_max=settings.adjust_max,
        internal=settings.internal is not None,
        cluster_secret=settings.cluster_secret,
        tls=settings.tls is not None,
        origins=settings.origins,
    )
    return build_applications(node, reads, gauges, settings.advertise, log_view, sealer.file, listening, keys.keys)


@asynccontextmanager
async def _declared(log: "SqliteEventLog | KafkaEventLog", settings: Settings) -> AsyncIterator[EventLog]:
    """The log, once it declares the assets and the rules. Closed at the end, for a node that did not start; a
    started one closes it itself."""
    try:
        rules = book_of(settings.games, money=settings.money)
        await log.declare(settings.assets, rules.tables, rules.money_kept)
        yield log
    finally:
        await log.close()


async def _rules(log: EventLog, settings: Settings) -> RuleBook:
    """The rules of the settings, and those that the log has kept."""
    return book_of(settings.games, await log.tables(), settings.money, await log.money_rules())


def _file_name(address: str) -> str:
    """The node's address as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in urlsplit(address).netloc)


def _pooled(model: ReadModel) -> ServerReadModel | None:
    return model if isinstance(model, ServerReadModel) else None


def _counted(reads: Reads) -> Callable[[], CacheCounts] | None:
    return reads.cache_counts if isinstance(reads, CachedReads) else None


def _refuse_own_log(data: Path) -> None:
    """Refuse a folder with its own log: its state belongs to that log, and its events would be left behind."""
    if (data / EVENTS).exists():
        raise LogMisconfigured(
            f"{data} has its own log ({EVENTS}), and STAKELOG_LOG names Kafka: name another folder"
        )


def _refuse_gone_log(data: Path) -> None:
    """Refuse a log that was moved to Kafka, or a state without its log: a new empty log would look like a ledger that
    never had an event."""
    refuse_migrated(data)
    if (data / STATE).exists() and not (data / EVENTS).exists():
        raise CheckpointAhead(
            f"{data} has a state ({STATE}) but no log ({EVENTS}): the log is gone. Nothing was changed; restore the "
            f"log, or name another folder. Only if there never was a log, {DELETE_STATE}"
        )


def _store_of(data: Path, read_model: str, *, make: bool = True) -> ReadModelStore:
    """The tables, to write. ``read_model``: as in the settings. ``make``: create missing tables."""
    if read_model == SQLITE:
        return SqliteReadModelStore(data / READ_MODEL, make=make)
    return ServerReadModelStore(_database_of(read_model), make=make)


def _model_of(settings: Settings, *, log_outages: bool = False) -> ReadModel:
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


def _reads_of(model: ReadModel, log_view: LogView, clock: Clock, settings: Settings) -> Reads:
    if settings.cache == MEMORY:
        return SharedReads(model, log_view, clock)
    from projections.caching.redis import RedisCache
    from projections.caching.redis_client import RedisClient

    return CachedReads(model, log_view, clock, RedisCache(RedisClient(settings.cache)))


async def _make_first_generation(store: ReadModelStore, partitions: int) -> None:
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
        store = _store_of(settings.data, settings.read_model)
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
        model = _model_of(settings)
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
        store = _store_of(settings.data, settings.read_model, make=False)
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


def make_container(settings: Settings) -> AsyncContainer:
    own = Embedded() if settings.log == SQLITE else Distributed()
    return make_async_container(Local(), AccessParts(), own, context={Settings: settings})
