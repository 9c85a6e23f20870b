"""Check that the process of this container responds: exit status 0, or 1 with the reason on stderr.

``healthcheck.py PATH [PORT]``. Without a port it asks the internal listener (``STAKELOG_INTERNAL``), or, without one,
the one for clients (``STAKELOG_PORT``, 8080). It stays inside the container, so it does not check a certificate.
"""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from typing import Final

_TIMEOUT_S: Final = 4.0  # chosen: below the image's own time limit for it


def connection_to(port: str, settings: Mapping[str, str]) -> http.client.HTTPConnection:
    """Not open yet. ``port``: empty for that of the settings."""
    host, _, internal = settings.get("STAKELOG_INTERNAL", "").rpartition(":")
    if port:
        return http.client.HTTPConnection("127.0.0.1", int(port), timeout=_TIMEOUT_S)
    if internal:
        on_all = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 - where it listens
        return http.client.HTTPConnection(on_all.get(host, host.strip("[]")), int(internal), timeout=_TIMEOUT_S)
    public = int(settings.get("STAKELOG_PORT", "8080"))
    if not settings.get("STAKELOG_TLS_CERT"):
        return http.client.HTTPConnection("127.0.0.1", public, timeout=_TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", public, timeout=_TIMEOUT_S, context=context)


def main(arguments: Sequence[str]) -> int:
    path = arguments[0] if arguments else "/healthz"
    connection = connection_to(arguments[1] if len(arguments) > 1 else "", os.environ)
    port = connection.port
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"GET {path} on port {port}: {error}\n")
        return 1
    finally:
        connection.close()
    if status != http.client.OK:
        sys.stderr.write(f"GET {path} on port {port} returned status {status}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
