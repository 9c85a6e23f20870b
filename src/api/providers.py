"""Which adapter serves which port: the only module that names adapters.

Everything here lives as long as the process; dishka builds it in order and closes it in the reverse order, so the
folder's lock is the first thing taken and the last released.
"""

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from logging import getLogger
from pathlib import Path
from typing import NewType
from urllib.parse import urlsplit

from dishka import AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api.app import Rim, build_app
from api.children import Child
from api.metrics import ReadModelGauges
from api.settings import SQLITE, Settings
from ledger.folder import EVENTS, READ_MODEL, REBUILD_LOCK, STATE, FolderLock, refuse_migrated
from ledger.logs.sqlite import SqliteEventLog, SqliteLogReader, wrong_partitions
from ledger.node import Node
from ledger.ports import CheckpointAhead, Clock, EventLog, FolderInUse, FolderUnusable, LedgerError, StateStore
from ledger.state_stores.sqlite import SqliteStateStore
from projections.folds import VERSION
from projections.follower import LogReader, refuse_ahead
from projections.proof import Check, Pace, Proof
from projections.queries import Reads
from projections.read_model import ReadModel
from projections.rebuild import ReadSide
from projections.standing import standing_of
from projections.store import ReadModelStore, ReadModelUnavailable, Switched
from projections.stores.server import Database, ServerReadModel, ServerReadModelStore
from projections.stores.sqlite import SqliteReadModel, SqliteReadModelStore

Checking = NewType("Checking", Child)
"""The process that holds the read model against the log."""

_log = getLogger(__name__)


def system_clock() -> int:
    """Unix microseconds, UTC, as the machine has them."""
    return time.time_ns() // 1000


class Embedded(Provider):
    """One process, SQLite log, SQLite state."""

    scope = Scope.APP
    settings = from_context(Settings)

    @provide
    def lock(self, settings: Settings) -> Iterator[FolderLock]:
        lock = FolderLock(settings.data)
        yield lock
        lock.release()

    @provide
    async def log(self, settings: Settings, _: FolderLock) -> AsyncIterator[EventLog]:
        _refuse_gone_log(settings.data)
        log = SqliteEventLog(settings.data / EVENTS, settings.partitions)
        try:
            log.declare(settings.assets)
        except LedgerError:
            await log.close()
            raise
        yield log
        await log.close()  # for the node that never started; one that did has closed it

    @provide
    def store(self, settings: Settings, _: FolderLock) -> Iterator[StateStore]:
        store = SqliteStateStore(settings.data / STATE)
        yield store
        store.close()

    @provide
    def clock(self) -> Clock:
        return system_clock

    @provide
    async def node(self, log: EventLog, store: StateStore, clock: Clock, settings: Settings) -> AsyncIterator[Node]:
        """Started; closing it answers what waits, saves the state, and closes log and store."""
        node = Node(log, store, clock, settings.assets)
        await node.start()
        yield node
        await node.stop()

    @provide
    async def read_model(self, settings: Settings, _: FolderLock) -> AsyncIterator[ReadModel]:
        """A database that cannot be reached is no reason not to take commands: reads say so until it is there."""
        if settings.read_model == SQLITE:
            await _make_first_generation(SqliteReadModelStore(settings.data / READ_MODEL), settings.partitions)
        model = _model_of(settings)
        if settings.read_model != SQLITE:
            try:
                await _make_first_generation(_store_of(settings.data, settings.read_model), settings.partitions)
            except (ReadModelUnavailable, Switched) as error:
                _log.warning("reads are not there yet: %s", error)
        yield model
        await model.close()

    @provide
    def reads(self, model: ReadModel, node: Node, clock: Clock) -> Reads:
        return Reads(model, node, clock)

    @provide
    async def follower(self, settings: Settings, model: ReadModel, _: Node) -> AsyncIterator[Child]:
        """Started; the node is there first, so that there is a log to follow."""
        with closing(SqliteLogReader(settings.data / EVENTS)) as log:
            try:
                refuse_ahead(log, (await standing_of(model)).heads)
            except ReadModelUnavailable:
                if settings.read_model == SQLITE:
                    raise
                # The follower asks the same as soon as the database can be reached, and halts the service.
        child = Child("the follower", ("project", "follow", "--with-parent"))
        child.start()
        yield child
        await child.stop()

    @provide
    async def check(self, _: Child) -> AsyncIterator[Checking]:
        """Started; the follower is there first, for there is nothing to check before."""
        child = Child("the check of the read model", ("project", "check", "--with-parent"))
        child.start()
        yield Checking(child)
        await child.stop()

    @provide
    def app(
        self, node: Node, reads: Reads, model: ReadModel, follower: Child, check: Checking, settings: Settings
    ) -> Rim:
        pooled = model if isinstance(model, ServerReadModel) else None
        return build_app(node, reads, ReadModelGauges(node, model, follower, check, pooled), settings.advertise)


def _refuse_gone_log(data: Path) -> None:
    """A log that was moved to Kafka, or a state without its log: to make an empty log beside it would look like a
    ledger that never had an event."""
    refuse_migrated(data)
    if (data / STATE).exists() and not (data / EVENTS).exists():
        raise CheckpointAhead(
            f"{data} has a state ({STATE}) but no log ({EVENTS}): the log is gone. Nothing was changed; restore the "
            "log, or name another folder. Only if there never was one, delete the state"
        )


def _store_of(data: Path, read_model: str, *, make: bool = True) -> ReadModelStore:
    """The tables, to write. ``read_model``: as in the settings. Unless ``make``: those that others have made."""
    if read_model == SQLITE:
        return SqliteReadModelStore(data / READ_MODEL, make=make)
    return ServerReadModelStore(_database_of(read_model), make=make)


def _model_of(settings: Settings) -> ReadModel:
    """The tables, to read."""
    if settings.read_model == SQLITE:
        return SqliteReadModel(settings.data / READ_MODEL)
    return ServerReadModel(_database_of(settings.read_model_replica or settings.read_model))


def _database_of(url: str) -> Database:
    # A driver is loaded by those who use it: that takes as long as all the rest of a start.
    if urlsplit(url).scheme == "postgresql":
        from projections.stores.postgresql import PostgreSqlDatabase

        return PostgreSqlDatabase(url)
    from projections.stores.mysql import MySqlDatabase

    return MySqlDatabase(url)


async def _make_first_generation(store: ReadModelStore, partitions: int) -> None:
    """Where there is none yet. Closes the store."""
    try:
        if not any(generation.status == "live" for generation in await store.generations()):
            await store.make_generation(VERSION, partitions, live=True)
    finally:
        await store.close()


@asynccontextmanager
async def open_read_side(data: Path, read_model: str) -> AsyncIterator[ReadSide]:
    """The folder's log, to read, and the tables made of it, to write. Raises LedgerError."""
    with closing(SqliteLogReader(data / EVENTS)) as log:
        store = _store_of(data, read_model)
        try:
            yield ReadSide(log, store)
        finally:
            await store.close()


@asynccontextmanager
async def open_read_model(
    settings: Settings, partitions: int | None = None
) -> AsyncIterator[tuple[LogReader, ReadModel]]:
    """The folder's log and its tables, to read. Raises LedgerError; WrongPartitions unless there are as many."""
    data = settings.data
    with closing(SqliteLogReader(data / EVENTS)) as log:
        if partitions is not None and partitions != log.partitions:
            raise wrong_partitions(data / EVENTS, log.partitions, partitions)
        if settings.read_model == SQLITE and not (data / READ_MODEL).exists():
            raise ReadModelUnavailable(f"there is no read model in {data}: `stakelog project rebuild` makes it")
        model = _model_of(settings)
        try:
            yield log, model
        finally:
            await model.close()


@contextmanager
def rebuild_lock(data: Path) -> Iterator[None]:
    """One rebuild at a time in this folder. Raises FolderInUse, FolderUnusable."""
    try:
        descriptor = os.open(data / REBUILD_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FolderUnusable(f"the data folder {data} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderInUse(f"another rebuild of the read model in {data} is under way: wait for its end") from None
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def open_check(settings: Settings, quick: Pace, thorough: Pace) -> AsyncIterator[Check]:
    """The check of this folder's read model; whoever has it runs it. Raises LedgerError."""
    with closing(SqliteLogReader(settings.data / EVENTS)) as log:
        store = _store_of(settings.data, settings.read_model, make=False)
        try:
            yield Check(store, Proof(store, log, quick), Proof(store, log, thorough), system_clock)
        finally:
            await store.close()


def make_container(settings: Settings) -> AsyncContainer:
    return make_async_container(Embedded(), context={Settings: settings})
