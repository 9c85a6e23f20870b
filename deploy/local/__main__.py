"""``python3 -m deploy.local``: ``install`` and ``run`` (all servers if none is named), ``with``, ``up``, ``down``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.local.beside import beside, refuse_ended, started
from deploy.local.install import NAMES, install, say
from deploy.local.login import AUTH
from deploy.local.servers import SERVERS
from deploy.local.trouble import Trouble
from deploy.local.up import DATABASES, FOLDER, PORT, Plan, down, keep, up

_USAGE: Final = f"""usage: python3 -m deploy.local install [{"|".join(NAMES)} …]
       python3 -m deploy.local run [{"|".join(SERVERS)} …]
       python3 -m deploy.local with {"|".join(SERVERS)} … -- command …
       python3 -m deploy.local up [--database postgresql|mysql] [--port {PORT}] [--auth on|off] [--rules FILE]
       python3 -m deploy.local down [--clean]"""


def main(arguments: Sequence[str]) -> int:
    """The exit status. 0: done; 1: failed, the reason is on stderr; 2: wrong use; ``with``: its command's status."""
    if not arguments or arguments[0] not in {"install", "run", "with", "up", "down", "keep"}:
        say(_USAGE)
        return 2
    what, rest = arguments[0], arguments[1:]
    command: Sequence[str] = ()
    if what == "with":
        at = rest.index("--") if "--" in rest else len(rest)
        rest, command = rest[:at], rest[at + 1 :]
        if not rest or not command:
            say(_USAGE)
            return 2
    names = rest or (NAMES if what == "install" else tuple(SERVERS))
    if what in {"install", "run", "with"} and not set(names) <= set(NAMES if what == "install" else SERVERS):
        say(_USAGE)
        return 2
    try:
        match what:
            case "install":
                install(names)
            case "run":
                install(names)
                _run(names)
            case "with":
                install(names)
                return beside(names, command)
            case "down":
                options = _options_of(rest, clean=True)
                down(options.folder, clean=options.clean)
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


def _options_of(arguments: Sequence[str], *, clean: bool = False) -> argparse.Namespace:
    """The parsed arguments. Ends the program with status 2 if they are wrong."""
    usage = _USAGE.removeprefix("usage: ")
    parser = argparse.ArgumentParser(prog="python3 -m deploy.local", usage=usage, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    if clean:
        parser.add_argument("--clean", action="store_true")
        return parser.parse_args(arguments)
    parser.add_argument("--database", choices=tuple(DATABASES), default="postgresql")
    parser.add_argument("--auth", choices=AUTH, default="on")
    parser.add_argument("--rules", default="")
    for name, default in Plan._field_defaults.items():
        if isinstance(default, int):
            parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(arguments)


def _plan_of(arguments: Sequence[str]) -> Plan:
    options = vars(_options_of(arguments))
    rules = options["rules"] and str(Path(options["rules"]).absolute())
    return Plan(**(options | {"folder": options["folder"].absolute(), "rules": rules}))


def _run(names: Sequence[str]) -> None:
    """Start the servers and print their addresses. Stop them on Ctrl-C or SIGTERM, or when one of them ends."""
    with started(names) as servers:
        for server in servers:
            sys.stdout.write(f"{server.name} {server.url}\n")
        sys.stdout.flush()
        say("All servers run. Ctrl-C stops them.")
        while True:
            refuse_ended(servers)
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
