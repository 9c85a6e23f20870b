"""Check that the process of this container responds: exit status 0, or 1 with the reason on stderr.

``healthcheck.py PATH [PORT]``; the port is ``STAKELOG_PORT``, 8080, unless told.
"""

import http.client
import os
import sys
from collections.abc import Sequence
from typing import Final

_TIMEOUT_S: Final = 4.0  # chosen: below the image's own time limit for it


def main(arguments: Sequence[str]) -> int:
    path = arguments[0] if arguments else "/healthz"
    port = int(arguments[1] if len(arguments) > 1 else os.environ.get("STAKELOG_PORT", "8080"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
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
