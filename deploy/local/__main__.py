"""``python3 -m deploy.local install|run [kafka|postgresql|mariadb|redis …]``; without names: all four."""

import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from deploy.local.install import NAMES, install, say
from deploy.local.server import Server
from deploy.local.servers import SERVERS
from deploy.local.trouble import Trouble

_USAGE: Final = f"usage: python3 -m deploy.local install|run [{'|'.join(NAMES)} …]"


def main(arguments: Sequence[str]) -> int:
    """0: done; 1: it could not be done, and stderr says why; 2: asked wrongly."""
    if not arguments or arguments[0] not in {"install", "run"} or not set(arguments[1:]) <= set(NAMES):
        say(_USAGE)
        return 2
    names = arguments[1:] or NAMES
    try:
        install(names)
        if arguments[0] == "run":
            _run(names)
    except Trouble as trouble:
        say(f"error: {trouble}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(names: Sequence[str]) -> None:
    """Start them, print their addresses, and stop them on Ctrl-C or SIGTERM, or as soon as one of them ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started: list[Server] = []
    try:
        for name in names:
            began = time.monotonic()
            say(f"Starting {name} …")
            server = SERVERS[name]()
            started.append(server)
            server.start()
            say(f"  ready in {time.monotonic() - began:.1f} s, log in {server.log}")
            sys.stdout.write(f"{name} {server.url}\n")
            sys.stdout.flush()
        say("All run. Ctrl-C stops them.")
        while all(server.running for server in started):
            time.sleep(0.5)
        ended = next(server for server in started if not server.running)
        raise Trouble(f"{ended.name} has ended:\n{ended.said()}")
    finally:
        for server in reversed(started):
            say(f"Stopping {server.name} …")
            server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
