"""One HTTP server of this process: its address, its bounds, its start and its end.

The service has one for clients, and one for other nodes and for operators where ``STAKELOG_INTERNAL`` names it. Both
run in the service's event loop.
"""

import asyncio
import logging
import socket
import time
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from api.cli.sockets import cut_connections, limit_unread
from api.cli.tls import TlsUnusable, refuse_unusable
from api.composition.network import Address, TlsFiles
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


class CannotListen(Exception):
    """The server cannot listen on its address: a sentence for the operator."""


class Listener:
    """Serves one application on one address, from ``start`` to ``end``."""

    def __init__(self, app: Rim, address: Address, connections_max: int, tls: TlsFiles | None = None) -> None:
        """``address``: from ``resolve_free``. ``connections_max``: further ones wait until one ends. ``tls``: checked
        by ``refuse_unusable``."""
        self.app = app
        self.address = address
        self._connections_max = connections_max
        self._tls = tls
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the server has ended by itself."""
        self._servers: dict[asyncio.Future[Any], Server] = {}
        """Those that run: the current one last. Those ahead of it were replaced, and serve their last connections."""
        self._ending = False

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.address}"

    async def start(self) -> None:
        """Returns when it accepts connections, or has ended."""
        if not await self._listens(self._launch(), 1) and not self.ended.done():
            _log.warning(
                "the listening socket of %s was not found: clients that do not read their responses will not be "
                "timed out",
                self.url,
            )

    async def reload(self) -> None:
        """Serve new connections with the certificate and the key as they are now. Open ones keep the previous until
        they end; idle ones are closed. Raises TlsUnusable: nothing has changed."""
        assert self._tls is not None
        await asyncio.to_thread(refuse_unusable, self._tls)
        (*_, previous) = self._servers.values()
        # Both share the port (SO_REUSEPORT) until the new one accepts connections.
        if not await self._listens(self._launch(), 2):
            raise TlsUnusable("the server did not start again")
        previous.stop()  # type: ignore[no-untyped-call]
        while limit_unread(self.address.port) > 1:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _launch(self) -> "asyncio.Future[Any]":
        """Start a server; done when it has ended."""
        certificate, key = (None, None) if self._tls is None else (self._tls.certificate, self._tls.key)
        server = Server(
            self.app,
            address=self.address.host,
            port=self.address.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=self.app.sockets is not None,
            backlog=_BACKLOG,
            backpressure=self._connections_max,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN_MS, max_buffer_size=_BUFFER_BYTES),
            ssl_cert=certificate,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        serving = background.awaited(server.serve(), "server")
        self._servers[serving] = server
        serving.add_done_callback(self._server_ended)
        return serving

    def _server_ended(self, serving: "asyncio.Future[Any]") -> None:
        del self._servers[serving]
        if not (self._servers or self._ending):
            self.ended.set_result(str(serving.exception() or "without a reason"))

    async def _listens(self, serving: "asyncio.Future[Any]", number: int) -> bool:
        """Wait until so many sockets listen. Returns False if the server has ended, or none was found in time."""
        deadline_s = time.monotonic() + _LISTEN_WITHIN_S
        while limit_unread(self.address.port) < number:
            if serving.done() or time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(_LOOK_AGAIN_S)
        return True

    async def end(self) -> None:
        """It ends by itself once its clients have read the last responses; the others are cut off."""
        self._ending = True
        for server in self._servers.values():
            server.stop()  # type: ignore[no-untyped-call]
        while self._servers:
            if (await asyncio.wait(self._servers, timeout=_READ_WITHIN_S))[1]:
                number = cut_connections(self.address.port)
                _log.warning("cut off %d clients of %s that did not read their responses", number, self.url)


def resolve_free(address: Address, setting: str) -> Address:
    """The address with its name resolved. ``setting``: the one that names the port. Raises CannotListen: the server
    shares ports (SO_REUSEPORT), so two services would take turns on one."""
    try:
        family, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {address}: {error.strerror}. If another process uses the port, set {setting} to "
            "another one; otherwise correct the host"
        ) from error
    return Address(str(found[0]), address.port)
