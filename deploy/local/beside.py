"""``with``: runs a command with servers that stop when it ends; their addresses are in its environment.

Invariants:
(1) when the command or a server ends, or this process gets a signal, everything ends; this process ends last;
(2) a Ctrl-C or SIGTERM reaches the command as one SIGTERM, and the command has ``_END_WITHIN_S`` to end; the
    servers are stopped after it. If this process is killed, the kernel sends a signal to the command and each server;
(3) the exit status is the command's; 128 + the signal if a signal ended it.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from deploy.local.install import say
from deploy.local.server import Server
from deploy.local.servers import SERVERS, Kafka
from deploy.local.trouble import Trouble

_END_WITHIN_S: Final = 60.0
"""Chosen: longer than the nodes of a bench take to leave."""
_LOOK_S: Final = 0.1


@contextmanager
def started(names: Sequence[str]) -> Iterator[list[Server]]:
    """Started servers that take requests, in the order of ``names``; stopped in reverse order. Raises Trouble.

    Until then SIGTERM acts like Ctrl-C. Neither interrupts the stopping.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers: list[Server] = []
    try:
        for name in names:
            began_s = time.monotonic()
            say(f"Starting {name} …")
            server = SERVERS[name]()
            servers.append(server)
            server.start()
            say(f"  ready in {time.monotonic() - began_s:.1f} s, log in {server.log}")
        yield servers
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for server in reversed(servers):
            say(f"Stopping {server.name} …")
            server.stop()


def refuse_ended(servers: Sequence[Server]) -> None:
    """Raises Trouble with the name of the first server that has ended."""
    for server in servers:
        if not server.running:
            raise Trouble(f"{server.name} has ended:\n{server.said()}")


def addresses(servers: Sequence[Server]) -> Mapping[str, str]:
    """``KAFKA_URL`` and so on, as the settings take them."""
    # One broker cannot keep three copies, which is the default.
    alone = "?replication_factor=1"
    return {f"{one.name.upper()}_URL": one.url + (alone if isinstance(one, Kafka) else "") for one in servers}


def beside(names: Sequence[str], command: Sequence[str]) -> int:
    """Run ``command`` with these servers. Returns its exit status. Raises Trouble."""
    with started(names) as servers, _running(command, addresses(servers)) as process:
        while process.poll() is None:
            refuse_ended(servers)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
        status = process.returncode
        return status if status >= 0 else 128 - status


@contextmanager
def _running(command: Sequence[str], more: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command],
        env=os.environ | more,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # this process passes a Ctrl-C at the terminal on, once
    )
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                say(f"error: {command[0]} did not end within {_END_WITHIN_S:.0f} s of SIGTERM and is killed")
                process.kill()
                process.wait()
