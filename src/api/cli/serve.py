"""The service's life as a process: start, serve, stop.

Exit status: 0 after SIGTERM or SIGINT, once all accepted requests have their response and the state is saved; 1 if
the log, the folder or the port failed; 2 for wrong settings. One line on stderr says what failed and what to do.
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

from api.cli.child_process import Child
from api.composition.container import Children, make_container
from api.composition.settings import SQLITE, Settings
from api.http.application import Rim
from ledger import background
from ledger.errors import LedgerError
from ledger.node.node import Node
from ledger.sqlite.folder import EVENTS, STATE

_FINISH_WITHIN_S: Final = 10.0
_FLUSH_S: Final = 0.1
_LISTEN_WITHIN_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.01
_BACKLOG: Final = 4096
_SWITCH_S: Final = 0.000_5
_GC_THRESHOLDS: Final = (50_000, 20, 50)

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
    # Both signals may come several times, to the process and to its group; the first one counts.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
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
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
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
    try:
        await node.join()
    except LedgerError as error:
        stopping.cancel()
        server.stop()  # type: ignore[no-untyped-call]
        await serving
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
    server.stop()  # type: ignore[no-untyped-call]
    await serving
    if node.halted.done():
        reason = node.halted.result()
        raise CannotServe(str(reason)) from reason
    for child in children:
        if child.halted.done():
            raise CannotServe(child.halted.result())
    _log.info("stopped")


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
