"""One HTTP server of this process: its address, its bounds, its start and its end.

The service has one for clients, and one for other nodes and for operators where ``STAKELOG_INTERNAL`` names it. Both
run in the service's event loop.
"""

import asyncio
import logging
import socket
import time
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from api.cli.sockets import cut_connections, limit_unread
from api.composition.network import Address
from api.http.application import Rim
from ledger import background

_READ_WITHIN_S: Final = 2.0
"""How long the last responses may wait for their clients to read them."""
_HEADERS_WITHIN_MS: Final = 10_000
"""Time limit for the headers of a request, from the end of the previous one: an idle connection is closed then."""
_BUFFER_BYTES: Final = 64 * 1024
"""What the server buffers of a connection in each direction; longer headers are 431. Chosen."""
_LISTEN_WITHIN_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.01
_BACKLOG: Final = 4096

_log = logging.getLogger(__name__)


class PortTaken(Exception):
    """The server cannot listen on its address: a sentence for the operator."""


class Listener:
    """Serves one application on one address, from ``start`` to ``end``."""

    def __init__(self, app: Rim, address: Address) -> None:
        """``address``: from ``free_address``."""
        self.app = app
        self.address = address
        self.serving: asyncio.Future[Any]
        """Done when the server has ended."""
        self._server = Server(
            app,
            address=address.host,
            port=address.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN_MS, max_buffer_size=_BUFFER_BYTES),
        )

    async def start(self) -> None:
        """Returns when it accepts connections, or has ended."""
        self.serving = background.awaited(self._server.serve(), "server")
        await self._listening()
        if not limit_unread(self.address.port) and not self.serving.done():
            _log.warning(
                "no time limit for clients of %s that do not read: no listening socket was found", self.address
            )

    async def _listening(self) -> None:
        """Wait until the server accepts connections; it has no event for that."""
        deadline_s = time.monotonic() + _LISTEN_WITHIN_S
        while not self.serving.done() and time.monotonic() < deadline_s:
            try:
                _, writer = await asyncio.open_connection(self.address.host, self.address.port)
            except OSError:
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                writer.close()
                return

    async def end(self) -> None:
        """It ends by itself once its clients have read the last responses; the others are cut off. An error that
        ended it before is in ``serving``."""
        self._server.stop()  # type: ignore[no-untyped-call]
        if not (await asyncio.wait({self.serving}, timeout=_READ_WITHIN_S))[0]:
            number = cut_connections(self.address.port)
            _log.warning("cut off %d clients of %s that did not read their responses", number, self.address)
        await asyncio.wait({self.serving})


def free_address(address: Address, setting: str) -> Address:
    """The address with its name resolved. ``setting``: the one that names the port. Raises PortTaken: the server
    shares ports (SO_REUSEPORT), so two services would take turns on one."""
    try:
        family, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
    except OSError as error:
        raise PortTaken(
            f"{address} is not free to listen on: {error.strerror}; set {setting} to another port"
        ) from error
    return Address(str(found[0]), address.port)
