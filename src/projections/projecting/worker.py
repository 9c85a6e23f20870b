"""The worker: a Faust app whose agent folds the events topic into the live generation. It has no Faust tables.

Invariants:
(1) The checkpoints in the tables say what is folded (``delivery``). The offsets that Faust commits are only a hint
    for the next start.
(2) No error in the agent reaches Faust, because Faust would drop the batch and continue with the next one. The worker
    retries what a retry can repair; any other error ends it.
(3) A worker that gets no records although the log has more ends with ``Stalled``. Faust and aiokafka can silently
    lose their offset after a rebalance or the death of a broker, and a new process finds it again.
(4) A worker ends within ``END_WITHIN_S`` of its stop, whatever Faust does.
(5) If any of its tasks fails, the start-up included, the worker ends with that error.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from ssl import SSLContext
from time import monotonic
from typing import Any, Final

import faust
from faust.types import TP
from msgspec import Struct

from ledger import background
from ledger.errors import LedgerError
from projections.caching.port import CONFIRM_S
from projections.projecting.delivery import DeliveredRecord, DeliveryProjector
from projections.projecting.worker_metrics import LagMonitor, as_json, as_text

BATCH: Final = 2_000
"""Records in one transaction. Measured: larger batches fold no faster, and all of a batch is folded again if another
worker was faster."""
BATCH_WITHIN_S: Final = 0.01
"""How long to collect a batch. Chosen: it delays the visibility of an event by about 10 ms."""
GROUP_SUFFIX: Final = ".read-model"
"""The name of the consumer group is the topic's name and this suffix."""
SESSION_S: Final = 10.0
"""Chosen: the partitions of a dead worker are not folded for this long. Heartbeats run in a separate thread."""
STALLED_S: Final = 60.0
"""Chosen: longer than a rebalance and a leader election, short enough for an operator."""
END_WITHIN_S: Final = 10.0
WEB_PORT: Final = 6066
_HEARTBEAT_S: Final = 3.0
_WATCH_S: Final = 1.0
_CONFIRM_TICK_S: Final = CONFIRM_S / 2
_SEEK_S: Final = 5.0
_LATE_S: Final = 3.0
"""Records that were not delivered for this long are read from the log. Chosen: longer than a batch, shorter than a
normal rebalance."""

_log = logging.getLogger(__name__)


class Stalled(LedgerError):
    """Faust delivers nothing although the log has more records, or it crashed. Start a new process."""


class WebPortTaken(LedgerError):
    """The worker cannot listen on the port of its web pages."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """How the worker reaches Kafka, and the address of its own web pages."""

    servers: Sequence[str]
    """``host:port`` of one or more brokers."""
    topic: str
    ssl_context: SSLContext | None = None
    sasl: tuple[str, str, str] | None = None
    """Mechanism, user name and password."""
    web_host: str = "127.0.0.1"
    web_port: int = WEB_PORT
    """0: no web pages."""
    stalled_s: float = STALLED_S


class _App(faust.App):
    logger = logging.getLogger("faust.app")

    def _create_directories(self) -> None:
        """Nothing to create: without Faust tables nothing is stored on disk."""


def _credentials(options: WorkerOptions) -> Any:
    if options.sasl is not None:
        mechanism, username, password = options.sasl
        return faust.SASLCredentials(
            mechanism=mechanism, username=username, password=password, ssl_context=options.ssl_context
        )
    return None if options.ssl_context is None else faust.SSLCredentials(options.ssl_context)


def make_app(options: WorkerOptions, take: Callable[[Sequence[Any]], Awaitable[None]]) -> faust.App:
    """Return a Faust app whose only agent passes batches of the topic's records to ``take``."""
    app = _App(
        f"{options.topic}{GROUP_SUFFIX}",
        broker=[f"kafka://{server}" for server in options.servers],
        broker_credentials=_credentials(options),
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=_HEARTBEAT_S,
        stream_wait_empty=False,
        stream_buffer_maxsize=4 * BATCH,
        broker_max_poll_records=BATCH,
        web_enabled=bool(options.web_port),
        web_bind=options.web_host,
        web_port=options.web_port or WEB_PORT,
        web_router_enabled=False,
        web_tables_enabled=False,
        worker_redirect_stdouts=False,
    )
    topic = app.topic(options.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def fold(stream: Any) -> None:
        async for events in _batches(stream):
            await take(events)

    app.agent(topic, name="fold")(fold)
    return app


async def _refuse_taken_port(options: WorkerOptions) -> None:
    """Raise WebPortTaken. Faust itself would go on without folding anything."""
    if not options.web_port:
        return
    try:
        probe = await asyncio.get_running_loop().create_server(asyncio.Protocol, options.web_host, options.web_port)
    except OSError as error:
        raise WebPortTaken(
            f"the web pages cannot be served on {options.web_host}:{options.web_port} ({error.strerror}): choose "
            "another port with --web-port, 0 for no web pages"
        ) from error
    probe.close()
    await probe.wait_closed()


async def _batches(stream: Any) -> AsyncIterator[Sequence[Any]]:
    """Yield batches of at most ``BATCH`` records. A batch is acknowledged when the next one is requested.

    Faust's own ``take_events`` restarts its time-out after each batch and collects only during it: records that came
    while a batch was folded stay in the queue, so batches stay small however far the agent is behind.
    """
    stream.enable_acks = False
    queue = stream.channel.queue
    batch: list[Any] = []
    until_s = 0.0
    async for event in stream.events():
        if not batch:
            until_s = monotonic() + BATCH_WITHIN_S
        batch.append(event)
        if len(batch) < BATCH:
            if queue.empty() and (rest_s := until_s - monotonic()) > 0:
                await asyncio.sleep(rest_s)
            if not queue.empty():
                continue
        yield tuple(batch)
        for one in batch:
            await stream.ack(one)
        batch.clear()


class Worker:
    """One process of the consumer group."""

    def __init__(self, delivery: DeliveryProjector, monitor: LagMonitor, options: WorkerOptions) -> None:
        self.delivery, self._monitor, self._options = delivery, monitor, options
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.Event()
        self.app = self._make_app()

    def _make_app(self) -> faust.App:
        async def metrics_page(web: Any, _request: Any) -> Any:
            return web.text(as_text(self._monitor), content_type="text/plain")

        async def lag_page(web: Any, _request: Any) -> Any:
            return web.json(as_json(self._monitor))

        app = make_app(self._options, self._take)
        app.page("/metrics")(metrics_page)
        app.page("/lag")(lag_page)
        app.finalize()
        app.web.init_server()
        return app

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``. Raises ReadModelAhead, LogDamaged and LogUnreadable, which no restart can repair;
        WebPortTaken; Stalled; and whatever any of its tasks fails with."""
        await _refuse_taken_port(self._options)
        starting = background.awaited(self.app.start(), "consumer-start")
        own: set[asyncio.Task[Any]] = {
            background.awaited(stop.wait(), "worker-stop"),
            background.awaited(self._watch(), "worker-watch"),
            background.awaited(self._confirm(), "worker-confirm"),
        }
        running: set[asyncio.Future[Any]] = {starting, self._fatal, *own}
        ended: set[asyncio.Future[Any]] = set()
        try:
            while not ended:
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if starting in ended and starting.exception() is None:
                    ended.discard(starting)  # Faust runs now; ``_watch`` notices when it crashes
        finally:
            self._ending.set()
            for task in own:
                task.cancel()
            await asyncio.wait(own)
            await self._end(starting)
        if self._fatal.done():
            ended.add(self._fatal)
        for one in ended:
            one.result()

    async def _end(self, starting: "asyncio.Task[Any]") -> None:
        try:
            async with asyncio.timeout(END_WITHIN_S):
                starting.cancel()
                await asyncio.wait({starting})
                await self.app.stop()
        except TimeoutError:
            _log.warning("the consumer did not stop within %g s; ending without it", END_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - the worker ends anyway, whatever Faust raises
            _log.warning("the consumer stopped with an error: %r", error)

    # --- folding -------------------------------------------------------------------------------------------------

    async def _take(self, events: Sequence[Any]) -> None:
        if self._ending.is_set() or self._fatal.done():
            await asyncio.Event().wait()  # never return: a batch that is not folded must not be acknowledged
        delivered: dict[int, list[DeliveredRecord]] = {}
        for event in events:
            message = event.message
            delivered.setdefault(message.partition, []).append(DeliveredRecord(message.offset, message.value or b""))
        for records in delivered.values():
            records.sort(key=lambda one: one.offset)
        try:
            await self.delivery.take(delivered)
        except LedgerError as error:
            if not self._fatal.done():
                self._fatal.set_exception(error)
            await asyncio.Event().wait()

    # --- watching ------------------------------------------------------------------------------------------------

    async def _confirm(self) -> None:
        while True:
            await asyncio.sleep(_CONFIRM_TICK_S)
            await self.delivery.idle(self._assigned())

    async def _watch(self) -> None:
        """Raises Stalled, and what ``DeliveryProjector.catch_up`` raises."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self.app.crashed:
                raise Stalled(f"the consumer crashed: {self.app.crash_reason!r}")
            self._monitor.assigned = self._assigned()
            await self._monitor.refresh()
            if not self.delivery.waiting:
                await self._read_from_log(self._monitor.ends_without_offset())
                await self._read_undelivered(self._monitor.undelivered_ends(_LATE_S))

    async def _read_from_log(self, ends: Mapping[int, int]) -> None:
        """Fold from the log up to these ends, and move Faust behind them if it would deliver much that is folded."""
        if not ends:
            return
        await self.delivery.catch_up(ends)
        for partition in ends:
            next_offset = self.delivery.progress_of[partition].next_offset
            topic_partition = TP(self._options.topic, partition)
            try:
                async with asyncio.timeout(_SEEK_S):
                    position = await self.app.consumer.position(topic_partition)
                    if position is not None and next_offset is not None and next_offset - position > BATCH:
                        await self.app.consumer.seek_wait({topic_partition: next_offset})
            except Exception as error:  # noqa: BLE001 - not needed: records that are folded are skipped
                _log.debug("partition %d keeps its offset in the consumer: %r", partition, error)

    async def _read_undelivered(self, ends: Mapping[int, int]) -> None:
        """Read from the log what Faust does not deliver: it may have started too late, or have lost its offset."""
        await self._read_from_log(ends)
        now_s = monotonic()
        for partition in ends:
            progress = self.delivery.progress_of[partition]
            if progress.undelivered_since_s is None:
                progress.undelivered_since_s = now_s
            elif now_s - progress.undelivered_since_s > self._options.stalled_s:
                raise Stalled(
                    f"no record of partition {partition} was delivered for {self._options.stalled_s:g} s although "
                    "the log has more: start a new process"
                )

    def _assigned(self) -> set[int]:
        try:
            return {one.partition for one in self.app.consumer.assignment()}
        except Exception:  # noqa: BLE001 - there is no consumer yet: Faust has no specific error for it
            return set()
