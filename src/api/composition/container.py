"""Which adapter serves which port: with ``access`` and ``read_side``, the only modules that name adapters.

All objects live as long as the process; dishka builds it in order and closes it in the reverse order, so the
folder's lock is the first thing taken and the last released.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from logging import getLogger
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NewType
from urllib.parse import urlsplit

from dishka import AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api.composition.access import AccessParts, AvailableKeys, AvailableWebhooks, Limiting
from api.composition.application import Applications, Listening, build_applications
from api.composition.child_process import Child
from api.composition.clock import system_clock
from api.composition.read_side import make_first_generation, model_of, store_of
from api.composition.settings import MEMORY, SQLITE, Settings
from api.http.application import RequestLog
from api.http.consistency import body_of
from api.http.metrics import ReadModelGauges
from api.http.service import AskNode
from api.http.tracing import Tracer
from api.identity.login import Access
from api.sealing.outside import outside_of
from api.sealing.sealer import Sealer
from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.games.rules import RuleBook, book_of
from ledger.errors import (
    DELETE_STATE,
    CheckpointAhead,
    LogMisconfigured,
)
from ledger.histogram import SECONDS, Histogram
from ledger.node.node import Node
from ledger.node.owns_all import NoOtherNodes, OwnsAll
from ledger.node.ports import OtherNodes, Peers
from ledger.operations.seals import SEALS, SealFile
from ledger.peers.forwarding import Forwarding
from ledger.peers.log_view import LogView
from ledger.ports import Clock, EventLog, StateStore
from ledger.snapshots.snapshots import Snapshots
from ledger.sqlite.folder import EVENTS, READ_MODEL, STATE, FolderLock, refuse_migrated
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader
from ledger.sqlite.state_store import SqliteStateStore
from projections.caching.cached_reads import CacheCounts, CachedReads
from projections.caching.shared_reads import SharedReads
from projections.live.hub import Hub, Listen
from projections.live.port import listen
from projections.live.tail import LogTail
from projections.projecting.log_reader import refuse_ahead
from projections.reads.queries import Reads
from projections.reads.status import read_model_status
from projections.storage.port import (
    ReadModel,
    ReadModelUnavailable,
    Switched,
    address_of,
)
from projections.storage.server_reader import ServerReadModel
from projections.storage.slow import TimedReads
from projections.storage.sqlite import SqliteReadModelStore

if TYPE_CHECKING:
    from ledger.kafka.log import KafkaEventLog

Checking = NewType("Checking", Child)
"""The process that compares the read model with the log."""
Children = NewType("Children", tuple[Child, ...])
"""All child processes of the service."""
ReadDurations = NewType("ReadDurations", Histogram)
"""How long reads of the read model took, in seconds."""


class Tracing(NamedTuple):
    """What makes traces, where there are some."""

    tracer: Tracer | None


_log = getLogger(__name__)


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
            await make_first_generation(SqliteReadModelStore(settings.data / READ_MODEL), settings.partitions)
        model = model_of(settings, log_outages=True)
        if settings.read_model != SQLITE:
            try:
                await make_first_generation(store_of(settings.data, settings.read_model), settings.partitions)
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
    def read_durations(self) -> ReadDurations:
        return ReadDurations(Histogram(SECONDS))

    @provide
    def timed_model(self, model: ReadModel, durations: ReadDurations, settings: Settings) -> TimedReads:
        return TimedReads(model, settings.slow_query_ms / 1_000 or inf, durations)

    @provide
    async def reads(
        self, model: TimedReads, log_view: LogView, clock: Clock, settings: Settings
    ) -> AsyncIterator[Reads]:
        reads = _reads_of(model, log_view, clock, settings)
        reads.suspects.refuse = settings.refuse_suspect
        reads.suspects.start()
        yield reads
        await reads.suspects.stop()
        if isinstance(reads, CachedReads):
            await reads.close_cache()

    @provide
    async def hub(
        self, settings: Settings, model: ReadModel, timed: TimedReads, reads: Reads, log_view: LogView
    ) -> AsyncIterator[Hub]:
        async with _listen(settings, model, log_view) as listen:
            hub = Hub(
                timed,
                reads,
                body_of,
                listen,
                feeds_max=settings.feeds_max,
                feeds_of_user_max=settings.feeds_of_user_max,
            )
            yield hub
            await hub.stop()

    @provide
    async def tracing(self, settings: Settings, reads: Reads) -> AsyncIterator[Tracing]:
        """OpenTelemetry is imported only if used: without traces it costs no memory."""
        if settings.traces is None:
            yield Tracing(None)
            return
        from api.tracing.otlp import OtlpTracer, exporter_to
        from api.tracing.visible import Visibility

        visible = Visibility(reads.positions)
        tracer = OtlpTracer(exporter_to(settings.traces), settings.trace_ratio, visible, settings.advertise)
        yield Tracing(tracer)
        await visible.stop()
        await tracer.stop()

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
    def others(self, log: EventLog) -> OtherNodes:
        return NoOtherNodes(log.partitions)

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
        durations: ReadDurations,
        log_view: LogView,
        follower: Child,
        check: Checking,
        sealer: Sealer,
        hub: Hub,
        access: Access,
        limiting: Limiting,
        keys: AvailableKeys,
        webhooks: AvailableWebhooks,
        tracing: Tracing,
        settings: Settings,
    ) -> Applications:
        children = {"follower": follower, "check": check}
        gauges = ReadModelGauges(node, model, children, durations, _pooled(model), _counted(reads))
        return _applications(
            *(settings, node, reads, gauges, log_view, sealer, hub, access, limiting, keys, webhooks, tracing)
        )


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
            forks=log.forks,
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
        durations: ReadDurations,
        log_view: LogView,
        sealer: Sealer,
        hub: Hub,
        access: Access,
        limiting: Limiting,
        keys: AvailableKeys,
        webhooks: AvailableWebhooks,
        tracing: Tracing,
        settings: Settings,
        peers: Peers,
    ) -> Applications:
        from api.nodes.client import HttpPeers

        assert isinstance(peers, HttpPeers)
        gauges = ReadModelGauges(node, model, {}, durations, _pooled(model), _counted(reads))
        return _applications(
            *(settings, node, reads, gauges, log_view, sealer, hub, access, limiting, keys, webhooks, tracing),
            peers.now,
        )


def _applications(
    settings: Settings,
    node: Node,
    reads: Reads,
    gauges: ReadModelGauges,
    log_view: LogView,
    sealer: Sealer,
    hub: Hub,
    access: Access,
    limiting: Limiting,
    keys: AvailableKeys,
    webhooks: AvailableWebhooks,
    tracing: Tracing,
    ask_node: AskNode | None = None,
) -> Applications:
    listening = Listening(
        login=access.login,
        limiter=limiting.limiter,
        adjust_max=settings.adjust_max,
        internal=settings.internal is not None,
        cluster_secret=settings.cluster_secret,
        tls=settings.tls is not None,
        origins=settings.origins,
        ask_node=ask_node,
        log_folder=settings.data if settings.log == SQLITE else None,
        request_log=RequestLog(settings.access_log, settings.slow_request_ms / 1_000 or inf),
        tracer=tracing.tracer,
    )
    seals = sealer.file
    return build_applications(
        *(node, reads, gauges, settings.advertise, log_view, seals, listening, hub),
        keys=keys.keys,
        webhooks=webhooks.webhooks,
    )


@asynccontextmanager
async def _listen(settings: Settings, model: ReadModel, log_view: LogView) -> AsyncIterator[Listen | None]:
    """What tells the live feeds of changes."""
    if settings.log == SQLITE:
        yield LogTail(model, settings.partitions, log_view.end, log_view.records).run
    elif settings.cache == MEMORY:
        yield None
    else:
        from projections.caching.redis_client import RedisClient
        from projections.live.redis import RedisLiveFeed

        live = RedisLiveFeed(RedisClient(settings.cache, connections=1))
        yield partial(listen, live, settings.partitions)
        await live.close()


@asynccontextmanager
async def _declared(log: "SqliteEventLog | KafkaEventLog", settings: Settings) -> AsyncIterator[EventLog]:
    """The log, once it declares the assets and the rules. Closed at the end, for a node that did not start; a
    started one closes it itself."""
    try:
        rules = book_of(settings.games, money=settings.money)
        await log.declare(settings.assets, rules.tables, rules.money_kept, rules.names)
        yield log
    finally:
        await log.close()


async def _rules(log: EventLog, settings: Settings) -> RuleBook:
    """The rules of the settings, and those that the log has kept."""
    return book_of(settings.games, await log.tables(), settings.money, await log.money_rules(), await log.games())


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


def _reads_of(model: ReadModel, log_view: LogView, clock: Clock, settings: Settings) -> Reads:
    if settings.cache == MEMORY:
        return SharedReads(model, log_view, clock)
    from projections.caching.redis import RedisCache
    from projections.caching.redis_client import RedisClient

    return CachedReads(model, log_view, clock, RedisCache(RedisClient(settings.cache)))


def make_container(settings: Settings) -> AsyncContainer:
    own = Embedded() if settings.log == SQLITE else Distributed()
    return make_async_container(Local(), AccessParts(), own, context={Settings: settings})
