"""The service as a child process: on a free port, with its own folder, and always stopped at the end.

`running` yields once the child is started, so the caller can watch it while it gets ready. It stops the child with
SIGTERM, however its body ends. The child leads a process group: a Ctrl-C at the terminal reaches only the demo, which
then stops the child. Processes of the group that still run after `STOP_TIMEOUT_S` are killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from http_client.login import Credentials

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
"""Chosen: an idle machine needs a second or two for each."""
RECONCILED_AT_ONCE = 16
"""Chosen: the service has no other requests at that time."""


class ServiceFailedError(Exception):
    """The child did not start, or ended by itself; the message has its last lines of output."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running child: its address, and the process to watch."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    async def ended(self) -> ServiceFailedError:
        """Wait until the child ends by itself; returns the error that says so."""
        status = await self.process.wait()
        return ServiceFailedError(f"the service ended with status {status}: {_last_lines(self.log)}")


@asynccontextmanager
async def running(data: Path, log: Path, rules: Path) -> AsyncIterator[Service]:
    """`python -m api serve` on `data` by the rules file `rules`, its output in the file `log`."""
    port = _free_port()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api",
            "serve",
            env=environment(data)
            | {"STAKELOG_HOST": "127.0.0.1", "STAKELOG_PORT": str(port), "STAKELOG_RULES": str(rules)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        yield service
    finally:
        await _stop(process)


async def verify(data: Path) -> str | None:
    """Run `python -m api audit verify` on the folder. Returns None if all is well, else its output."""
    status, output = await _audit("verify", "--data", str(data))
    return None if status == 0 else f"audit verify ended with status {status}: {output}"


async def reconcile(url: str, reader: Credentials | None) -> list[str]:
    """Run `python -m api audit reconcile` on the service at `url`, over HTTP, with the login of `reader`. Returns no
    lines if all is well."""
    with tempfile.NamedTemporaryFile(suffix=".json") as login:  # for this user only
        arguments = ["reconcile", "--url", url, "--at-once", str(RECONCILED_AT_ONCE)]
        if reader is not None:
            login.write(msgspec.json.encode(reader))
            login.flush()
            arguments += ["--login", login.name]
        status, output = await _audit(*arguments)
    if status == 0:
        return []
    return [f"audit reconcile ended with status {status}", *output.splitlines()]


async def _audit(*arguments: str) -> tuple[int, str]:
    """Run `python -m api audit`. Returns its exit status and its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api", "audit", *arguments),
        env={name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await _stop(process, group=False)
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace").strip()


def environment(data: Path) -> dict[str, str]:
    """This process's environment with the default settings, so that each day meets the same service."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    return others | {"STAKELOG_DATA": str(data), "STAKELOG_AUTH": "off"}


async def _stop(process: asyncio.subprocess.Process, *, group: bool = True) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()
    await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "it wrote nothing"
