"""``python3 -m deploy.local install|run [kafka|redis …]``, without names: all of them; ``up`` and ``down``."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.local.install import NAMES, install, say
from deploy.local.server import Server
from deploy.local.servers import SERVERS
from deploy.local.trouble import Trouble
from deploy.local.up import DATABASES, FOLDER, PORT, Plan, down, keep, up

_USAGE: Final = f"""usage: python3 -m deploy.local install [{"|".join(NAMES)} …]
       python3 -m deploy.local run [{"|".join(SERVERS)} …]
       python3 -m deploy.local up [--database postgresql|mysql] [--port {PORT}]
       python3 -m deploy.local down [--clean]"""


def main(arguments: Sequence[str]) -> int:
    """0: done; 1: it could not be done, and stderr says why; 2: asked wrongly."""
    if not arguments or arguments[0] not in {"install", "run", "up", "down", "keep"}:
        say(_USAGE)
        return 2
    what, rest = arguments[0], arguments[1:]
    names = rest or (NAMES if what == "install" else tuple(SERVERS))
    if what in {"install", "run"} and not set(names) <= set(NAMES if what == "install" else SERVERS):
        say(_USAGE)
        return 2
    try:
        match what:
            case "install":
                install(names)
            case "run":
                install(names)
                _run(names)
            case "down":
                asked = _asked_of(rest, clean=True)
                down(asked.folder, clean=asked.clean)
            case "up":
                up(_plan_of(rest))
            case _:
                keep(_plan_of(rest))
    except Trouble as trouble:
        say(f"error: {trouble}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _asked_of(arguments: Sequence[str], *, clean: bool = False) -> argparse.Namespace:
    """Ends the program with status 2 where they are wrong."""
    usage = _USAGE.removeprefix("usage: ")
    parser = argparse.ArgumentParser(prog="python3 -m deploy.local", usage=usage, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    if clean:
        parser.add_argument("--clean", action="store_true")
        return parser.parse_args(arguments)
    parser.add_argument("--database", choices=tuple(DATABASES), default="postgresql")
    for name, default in Plan._field_defaults.items():
        if name not in {"folder", "database"}:
            parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(arguments)


def _plan_of(arguments: Sequence[str]) -> Plan:
    asked = vars(_asked_of(arguments))
    return Plan(**(asked | {"folder": asked["folder"].absolute()}))


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
