"""``python -m api.cli.tls_trial CERTIFICATE KEY``: serve with these files for a moment, in a process of its own.

Exit status 0 once a client of this process has made a TLS connection; any other end means that they cannot be used.
"""

import asyncio
import ssl
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.server.embed import Server

from ledger import background

_LOOK_AGAIN_S: Final = 0.01


async def _unused(_scope: Any, _receive: Any, _send: Any) -> None:
    """No request is sent."""


async def _serve(certificate: Path, key: Path, folder: Path) -> None:
    """Raises whatever the server or the client raises."""
    place = folder / "socket"
    server = Server(
        _unused,
        uds=place,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    serving = background.awaited(server.serve(), "server")
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # this process is on both ends
    while not serving.done():
        try:
            _, writer = await asyncio.open_unix_connection(str(place), ssl=client, server_hostname="")
        except FileNotFoundError:
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            writer.close()
            server.stop()  # type: ignore[no-untyped-call]
            break
    else:
        raise RuntimeError("the server ended before it accepted a connection")
    await serving


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), Path(name)))
