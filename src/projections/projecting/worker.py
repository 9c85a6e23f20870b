"""The worker: a Faust app whose agent takes the events topic and fills the live generation. No Faust tables.

Truths:
(1) what is folded is what the tables say (``intake``); the offsets that Faust commits are a hint for the next start;
(2) nothing that goes wrong in the agent reaches Faust, which would take the next batch as if nothing had been: what a
    retry can mend is waited for, a disaster ends the worker;
(3) a worker that gets nothing although there is more in the log ends with ``Stalled``: Faust and aiokafka can lose
    their place after a rebalance or a broker's death without a word, and a fresh process finds it again;
(4) a worker ends within ``END_WITHIN_S`` of its stop, whatever Faust does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ssl import SSLContext
from time import monotonic
from typing import Any, Final

import faust
from faust.types import TP
from msgspec import Struct

from ledger.errors import LedgerError
from projections.caching.port import CONFIRM_S
from projections.projecting.delivery import Delivered, Intake
from projections.projecting.worker_metrics import Watched, as_json, as_text

BATCH: Final = 2_000
"""Records in one transaction. Measured: larger ones fold no faster, and are lost whole where another worker was
quicker."""
BATCH_WITHIN_S: Final = 0.01
"""How long a batch is waited for. Chosen: what is visible is some 10 ms behind what was delivered."""
GROUP_SUFFIX: Final = ".read-model"
"""The group is named by the topic and this."""
SESSION_S: Final = 10.0
"""Chosen: so long the partitions of a worker that died stand still; the heart beats in a thread of its own."""
STALLED_S: Final = 60.0
"""Chosen: longer than a rebalance and an election, shorter than somebody's patience."""
END_WITHIN_S: Final = 10.0
WEB_PORT: Final = 6066
_HEARTBEAT_S: Final = 3.0
_WATCH_S: Final = 1.0
_BEAT_S: Final = CONFIRM_S / 2
_SEEK_S: Final = 5.0
_LATE_S: Final = 3.0
"""Chosen: longer than a batch, shorter than a rebalance that goes well."""

_log = logging.getLogger(__name__)


class Stalled(LedgerError):
    """Nothing is delivered although the log has more, or Faust gave up; a new process may do better."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """How the worker reaches Kafka, and where its own pages are."""

    servers: Sequence[str]
    """``host:port`` of some brokers."""
    topic: str
    ssl_context: SSLContext | None = None
    sasl: tuple[str, str, str] | None = None
    """Mechanism, user name and password."""
    web_host: str = "127.0.0.1"
    web_port: int = WEB_PORT
    """0: no pages."""
    stalled_s: float = STALLED_S


class _App(faust.App):
    logger = logging.getLogger("faust.app")

    def _create_directories(self) -> None:
        """There are no tables of Faust's own, so nothing is kept on disk."""


def _credentials(options: WorkerOptions) -> Any:
    if options.sasl is not None:
        mechanism, username, password = options.sasl
        return faust.SASLCredentials(
            mechanism=mechanism, username=username, password=password, ssl_context=options.ssl_context
        )
    return None if options.ssl_context is None else faust.SSLCredentials(options.ssl_context)


def make_app(options: WorkerOptions, take: Callable[[Sequence[Any]], Awaitable[None]]) -> faust.App:
    """A Faust app whose only agent gives batches of the topic's events to ``take``."""
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


async def _batches(stream: Any) -> AsyncIterator[Sequence[Any]]:
    """Events that wait for this agent, up to ``BATCH``; acknowledged when the next ones are asked for.

    Faust's own ``take_events`` counts its time anew after each batch, and gathers only meanwhile: what came while a
    batch was folded still waits, and batches stay small however far the agent is behind.
    """
    stream.enable_acks = False
    waiting = stream.channel.queue
    gathered: list[Any] = []
    until_s = 0.0
    async for event in stream.events():
        if not gathered:
            until_s = monotonic() + BATCH_WITHIN_S
        gathered.append(event)
        if len(gathered) < BATCH:
            if waiting.empty() and (rest_s := until_s - monotonic()) > 0:
                await asyncio.sleep(rest_s)
            if not waiting.empty():
                continue
        yield tuple(gathered)
        for one in gathered:
            await stream.ack(one)
        gathered.clear()


class Worker:
    """One process of the group."""

    def __init__(self, intake: Intake, watched: Watched, options: WorkerOptions) -> None:
        self.intake, self._watched, self._options = intake, watched, options
        self._disaster: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.Event()
        self.app = self._make_app()

    def _make_app(self) -> faust.App:
        async def metrics_page(web: Any, _request: Any) -> Any:
            return web.text(as_text(self._watched), content_type="text/plain")

        async def lag_page(web: Any, _request: Any) -> Any:
            return web.json(as_json(self._watched))

        app = make_app(self._options, self._take)
        app.page("/metrics")(metrics_page)
        app.page("/lag")(lag_page)
        app.finalize()
        app.web.init_server()
        return app

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``. Raises ReadModelAhead, LogDamaged, LogUnreadable (disasters), Stalled."""
        stopping = asyncio.create_task(stop.wait())
        watching = asyncio.create_task(self._watch())
        beating = asyncio.create_task(self._beat())
        starting = asyncio.create_task(self.app.start())
        try:
            await asyncio.wait((stopping, watching, self._disaster), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ending.set()
            beating.cancel()
            await asyncio.wait({beating})
            await self._end(starting)
            stopping.cancel()
            if not watching.done():
                watching.cancel()
        for done in (self._disaster, watching):
            if done.done() and not done.cancelled():
                done.result()

    async def _end(self, starting: "asyncio.Task[Any]") -> None:
        try:
            async with asyncio.timeout(END_WITHIN_S):
                if not starting.done():
                    starting.cancel()
                with suppress(asyncio.CancelledError):
                    await starting
                await self.app.stop()
        except TimeoutError:
            _log.warning("the consumer did not end within %g s and is left behind", END_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - all that Faust may raise when it ends is no news any more
            _log.warning("the consumer ended badly: %r", error)

    # --- folding -------------------------------------------------------------------------------------------------

    async def _take(self, events: Sequence[Any]) -> None:
        if self._ending.is_set() or self._disaster.done():
            await asyncio.Event().wait()  # what is not taken must not be acknowledged
        delivered: dict[int, list[Delivered]] = {}
        for event in events:
            message = event.message
            delivered.setdefault(message.partition, []).append(Delivered(message.offset, message.value or b""))
        for records in delivered.values():
            records.sort(key=lambda one: one.offset)
        try:
            await self.intake.take(delivered)
        except LedgerError as error:
            if not self._disaster.done():
                self._disaster.set_exception(error)
            await asyncio.Event().wait()

    # --- watching ------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            await self.intake.idle(self._assigned())

    async def _watch(self) -> None:
        """Raises Stalled, and the disasters of ``Intake``."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self.app.crashed:
                raise Stalled(f"the consumer gave up: {self.app.crash_reason!r}")
            self._watched.assigned = self._assigned()
            await self._watched.look()
            if not self.intake.waiting:
                await self._read(self._watched.unknown())
                await self._read_late(self._watched.undelivered(_LATE_S))

    async def _read(self, ends: Mapping[int, int]) -> None:
        """Fold from the log up to there, and have Faust go on behind it, where it would deliver much in vain."""
        if not ends:
            return
        await self.intake.catch_up(ends)
        for partition in ends:
            next_offset = self.intake.standings[partition].next_offset
            place = TP(self._options.topic, partition)
            try:
                async with asyncio.timeout(_SEEK_S):
                    position = await self.app.consumer.position(place)
                    if position is not None and next_offset is not None and next_offset - position > BATCH:
                        await self.app.consumer.seek_wait({place: next_offset})
            except Exception as error:  # noqa: BLE001 - whatever it is: what is delivered in vain is skipped
                _log.debug("partition %d is delivered from where it is: %r", partition, error)

    async def _read_late(self, late: Mapping[int, int]) -> None:
        """What is not delivered is read from the log: Faust may have begun behind it, or have lost its place."""
        await self._read(late)
        now_s = monotonic()
        for partition in late:
            standing = self.intake.standings[partition]
            if standing.undelivered_since_s is None:
                standing.undelivered_since_s = now_s
            elif now_s - standing.undelivered_since_s > self._options.stalled_s:
                raise Stalled(
                    f"of partition {partition} nothing was delivered for {self._options.stalled_s:g} s although the "
                    "log went on: a new process may find its place"
                )

    def _assigned(self) -> set[int]:
        try:
            return {place.partition for place in self.app.consumer.assignment()}
        except Exception:  # noqa: BLE001 - no consumer yet: Faust has no error of its own for that
            return set()
