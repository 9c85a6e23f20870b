"""The service's life as a process: start, serve, stop.

Exit status: 0 after SIGTERM or SIGINT, once all accepted requests have their response and the state is saved; 1 if
the log, the folder or the port failed; 2 for wrong settings. One line on stderr says what failed and what to do.

It ends within 15 s of the signal, whatever its clients do. A second signal kills it at once; the next start recovers.
"""

import asyncio
import logging
import signal
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import uvloop
from dishka import AsyncContainer
from dishka.exceptions import ExitError

from api.cli.listener import CannotListen, Listener, resolve_free
from api.cli.open_files import allow_connections
from api.cli.tls import TlsUnusable
from api.composition.access import AvailableKeys
from api.composition.application import Applications
from api.composition.child_process import Child
from api.composition.container import Children, make_container
from api.composition.network import SECRET_LENGTH_MIN, Address
from api.composition.settings import FEEDS_MAX, SQLITE, Settings
from ledger import background
from ledger.core.games.edges import log_lines
from ledger.errors import LedgerError
from ledger.node.node import Node
from ledger.process_settings import set_for_a_node
from ledger.sqlite.folder import EVENTS, STATE

_FINISH_WITHIN_S: Final = 10.0
_FLUSH_S: Final = 0.1
_SAME_SIGNAL_S: Final = 0.5
"""Signals within this time after the first one are ignored: Ctrl-C signals every process of the group, and its leader
forwards it as well."""
_CONNECTIONS_MAX: Final = 4_096
"""Of clients. Chosen: far more than game servers and a balancer keep open."""
_INTERNAL_CONNECTIONS_MAX: Final = 1_024
"""Of other nodes and scrapers: clients cannot crowd them out. Chosen: a node has one for each call under way."""

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class CannotServe(Exception):
    """Why the service could not start, or had to stop: one sentence for the operator."""


class NoLedger(CannotServe):
    """The folder has no ledger, and none may be created."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotServe."""
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    creates = _creates_ledger(settings)
    try:
        address = resolve_free(Address(settings.host, settings.port), "STAKELOG_PORT")
        internal = settings.internal and resolve_free(settings.internal, "STAKELOG_INTERNAL")
    except CannotListen as error:
        raise CannotServe(str(error)) from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            loop.call_later(_SAME_SIGNAL_S, _die_at_next_signal, loop)

    for number in _STOPS:
        loop.add_signal_handler(number, on_signal)
    container = make_container(settings)
    try:
        try:
            if creates:
                # A start that fails by the settings of the keys leaves no log: it would look like a ledger.
                await container.get(AvailableKeys)
            node = await container.get(Node)
            children = await container.get(Children)
            apps = await container.get(Applications)
        except LedgerError as error:
            raise CannotServe(str(error)) from error
        if creates:
            _log.info("created a new ledger in %s", settings.data.resolve())
        if settings.cluster_secret is not None and len(settings.cluster_secret) < SECRET_LENGTH_MIN:
            _log.warning("STAKELOG_CLUSTER_SECRET can be guessed: `openssl rand -hex 32` makes a better one")
        for line in log_lines(apps.public.service.edges):
            _log.warning("%s", line)
        share = _share_of_connections()
        apps.public.service.hub.bound(int(FEEDS_MAX * share))
        listeners = [Listener(apps.public, address, int(_CONNECTIONS_MAX * share), settings.tls)]
        if internal is not None:
            assert apps.internal is not None
            listeners.append(Listener(apps.internal, internal, int(_INTERNAL_CONNECTIONS_MAX * share)))
        loop_delay, samples = apps.public.service.metrics.loop_delay, apps.public.service.samples
        loop_delay.start()
        samples.start()
        try:
            await _serve_node(settings, node, children, listeners, stop)
        finally:
            await apps.public.service.verification.stop()
            await samples.stop()
            await loop_delay.stop()
    finally:
        await _close(container)


def _share_of_connections() -> float:
    """The fraction (0 to 1) of the wanted connections that the limit of open files allows."""
    wanted = _CONNECTIONS_MAX + _INTERNAL_CONNECTIONS_MAX
    allowed = allow_connections(wanted)
    if allowed < wanted:
        _log.warning(
            "the limit of open files has room for %d connections only, not for %d: raise it (ulimit -n)",
            allowed,
            wanted,
        )
    return allowed / wanted


def _die_at_next_signal(loop: asyncio.AbstractEventLoop) -> None:
    for number in _STOPS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _creates_ledger(settings: Settings) -> bool:
    """Whether this start creates the log. A state without a log is refused elsewhere. Raises NoLedger."""
    if settings.log != SQLITE or (settings.data / EVENTS).exists() or (settings.data / STATE).exists():
        return False
    if not settings.create:
        raise NoLedger(
            f"there is no ledger in {settings.data.resolve()}, and STAKELOG_CREATE=never: set STAKELOG_DATA to the "
            "folder of one, or leave STAKELOG_CREATE unset to create a new one"
        )
    return True


async def _close(container: AsyncContainer) -> None:
    try:
        await container.close()
    except ExitError as errors:
        expected, others = errors.split(LedgerError)
        if expected is None or others is not None:
            raise
        raise CannotServe(f"the state was not saved, the log has everything: {expected.exceptions[0]}") from errors


async def _serve_node(
    settings: Settings, node: Node, children: Sequence[Child], listeners: Sequence[Listener], stop: asyncio.Event
) -> None:
    set_for_a_node()
    await asyncio.gather(*(listener.start() for listener in listeners))
    waiting: list[asyncio.Task[Any]] = [background.awaited(stop.wait(), "stop")]
    if settings.tls is not None:
        waiting.append(background.keep(partial(_reload_on_sighup, listeners[0]), "tls-reload"))
    try:
        await node.join()
    except LedgerError as error:
        await _end(listeners, waiting)
        raise CannotServe(str(error)) from error
    _log.info(
        "stakelog serves on %s, %d partitions in %s; Ctrl-C stops it",
        listeners[0].url,
        settings.partitions,
        settings.data,
    )
    for internal in listeners[1:]:
        _log.info("metrics, and the routes of other nodes, are on %s", internal.url)
    ended = [listener.ended for listener in listeners]
    halted: list[asyncio.Future[Any]] = [node.halted, *(child.halted for child in children)]
    await asyncio.wait((*ended, *waiting, *halted), return_when=asyncio.FIRST_COMPLETED)
    node.stop_accepting()
    for listener in listeners:
        listener.app.service.hub.close()
    await node.leave()
    if given_up := sum(await asyncio.gather(*(listener.app.finish(_FINISH_WITHIN_S) for listener in listeners))):
        _log.warning("gave up %d requests that were half sent or had no response", given_up)
    # The servers send responses from their own threads: wait until the last ones are sent.
    await asyncio.sleep(_FLUSH_S)
    await asyncio.gather(*(child.stop() for child in children))
    await _end(listeners, waiting)
    for server in ended:
        if server.done():
            raise CannotServe(f"the HTTP server ended: {server.result()}")
    if node.halted.done():
        reason = node.halted.result()
        raise CannotServe(str(reason)) from reason
    for child in children:
        if child.halted.done():
            raise CannotServe(child.halted.result())
    _log.info("stopped")


async def _reload_on_sighup(listener: Listener) -> None:
    """Read the certificate again after each SIGHUP. Without TLS the signal ends the process, as it does any other."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told.set)
    while True:
        await told.wait()
        told.clear()
        try:
            await listener.reload()
        except TlsUnusable as error:
            _log.error("SIGHUP: the certificate stays as it was: %s", error)
        else:
            _log.info("SIGHUP: new connections get the certificate as it is now")


async def _end(listeners: Sequence[Listener], waiting: Sequence[asyncio.Task[Any]]) -> None:
    """End the tasks that wait for signals, then the listeners."""
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await asyncio.gather(*(listener.end() for listener in listeners))
