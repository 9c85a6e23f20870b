"""The service's life as a process: start, serve, stop.

Exit status: 0 after SIGTERM or SIGINT, once all accepted requests have their response and the state is saved; 1 if
the log, the folder or the port failed; 2 for wrong settings. One line on stderr says what failed and what to do.

It ends within 15 s of the signal, whatever its clients do. A second signal kills it at once; the next start recovers.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import uvloop
from dishka import AsyncContainer
from dishka.exceptions import ExitError
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from api.cli.sockets import cut_connections, limit_unread
from api.composition.child_process import Child
from api.composition.container import Children, make_container
from api.composition.settings import SQLITE, Settings
from api.http.application import Rim
from ledger import background
from ledger.errors import LedgerError
from ledger.node.node import Node
from ledger.sqlite.folder import EVENTS, STATE

_FINISH_WITHIN_S: Final = 10.0
_FLUSH_S: Final = 0.1
_READ_WITHIN_S: Final = 2.0
"""How long the last responses may wait for their clients to read them."""
_SAME_SIGNAL_S: Final = 0.5
"""Signals within this time after the first one are ignored: Ctrl-C signals every process of the group, and its leader
forwards it as well."""
_BUFFER_BYTES: Final = 64 * 1024
"""What the server buffers of a connection in each direction; longer headers are 431. Chosen."""
_LISTEN_WITHIN_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.01
_BACKLOG: Final = 4096
_SWITCH_S: Final = 0.000_5
_GC_THRESHOLDS: Final = (50_000, 20, 50)

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
    _refuse_taken_port(settings.host, settings.port)
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
            node = await container.get(Node)
            children = await container.get(Children)
            app = await container.get(Rim)
        except LedgerError as error:
            raise CannotServe(str(error)) from error
        if creates:
            _log.info("created a new ledger in %s", settings.data.resolve())
        await _serve_node(settings, node, children, app, stop)
    finally:
        await _close(container)


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
    settings: Settings, node: Node, children: Sequence[Child], app: Rim, stop: asyncio.Event
) -> None:
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        log_enabled=False,
        http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=_BUFFER_BYTES),
    )
    serving = background.awaited(server.serve(), "server")
    stopping = background.awaited(stop.wait(), "stop")
    # Keep the garbage collector from walking all objects loaded so far, and from running every 700 allocations:
    # values form no cycles. Measured: it took a third of the time of a large batch.
    gc.freeze()
    # The committing thread needs the GIL a few times a commit; at 5 ms each a busy loop would keep the disk idle.
    # Measured at 64 connections: a third more commands than with the default.
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_GC_THRESHOLDS)
    await _listening(settings, serving)
    if not limit_unread(settings.port):
        _log.warning("no time limit for clients that do not read: no listening socket was found")
    try:
        await node.join()
    except LedgerError as error:
        stopping.cancel()
        await _end(server, serving, settings.port)
        raise CannotServe(str(error)) from error
    _log.info(
        "stakelog serves on %s, %d partitions in %s; Ctrl-C stops it",
        settings.advertise,
        settings.partitions,
        settings.data,
    )
    halted: list[asyncio.Future[Any]] = [node.halted, *(child.halted for child in children)]
    await asyncio.wait((serving, stopping, *halted), return_when=asyncio.FIRST_COMPLETED)
    node.stop_accepting()
    await node.leave()
    if given_up := await app.finish(_FINISH_WITHIN_S):
        _log.warning("gave up %d requests that were half sent or had no response", given_up)
    # The server sends responses from its own thread: wait until the last ones are sent.
    await asyncio.sleep(_FLUSH_S)
    await asyncio.gather(*(child.stop() for child in children))
    stopping.cancel()
    if serving.done():
        raise CannotServe(f"the HTTP server ended: {serving.exception() or 'without a reason'}")
    await _end(server, serving, settings.port)
    if node.halted.done():
        reason = node.halted.result()
        raise CannotServe(str(reason)) from reason
    for child in children:
        if child.halted.done():
            raise CannotServe(child.halted.result())
    _log.info("stopped")


async def _end(server: Server, serving: "asyncio.Future[Any]", port: int) -> None:
    """End the server. It ends by itself once its clients have read the last responses; the others are cut off."""
    server.stop()  # type: ignore[no-untyped-call]
    if not (await asyncio.wait({serving}, timeout=_READ_WITHIN_S))[0]:
        _log.warning("cut off %d clients that did not read their responses", cut_connections(port))
    await serving


async def _listening(settings: Settings, serving: "asyncio.Future[Any]") -> None:
    """Wait until the server accepts connections; it has no event for that."""
    deadline_s = time.monotonic() + _LISTEN_WITHIN_S
    while not serving.done() and time.monotonic() < deadline_s:
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            writer.close()
            return


def _refuse_taken_port(host: str, port: int) -> None:
    """The server shares ports (SO_REUSEPORT), so two services would take turns on one; refuse that here."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotServe(
                f"{host}:{port} is not free to listen on: {error.strerror}; set STAKELOG_PORT to another port"
            ) from error
