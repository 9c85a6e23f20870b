"""A child process of ``serve``: started, watched, started again when it dies, and stopped with the service.

Invariants:
(1) the child ends when the service dies: its stdin is a pipe from the service; the kernel closes the pipe however the
    service dies, and the child ends when its stdin ends;
(2) a child that dies is started again, after a longer pause if it died early. If it ends with ``DISASTER``, it is not
    started again: its last line on stderr is the reason why the service must stop;
(3) ``stop`` takes little more than ``END_WITHIN_S``, whatever the child does.
"""

import asyncio
import os
import re
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from logging import getLogger
from time import monotonic
from typing import Final

from ledger import background
from ledger.pacing import sleep_unless_stopped

DISASTER: Final = 3
"""The exit status of a child that found a fault which no restart can repair."""
END_WITHIN_S: Final = 3.0
"""Chosen: a child needs a tenth of a second to finish its batch."""
_PAUSE_S_MIN: Final = 0.1
_PAUSE_S_MAX: Final = 2.0
_LIVED_WELL_S: Final = 5.0
_TAIL_MAX: Final = 4_096
_SPEAKER: Final = re.compile(r"^stakelog [a-z ]+: ")

_log = getLogger(__name__)


class Child:
    """``python -m api`` with ``arguments``, from ``start`` until ``stop``."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        """``name``: its name in messages."""
        self.name = name
        self.restarts = 0
        self._arguments = arguments
        self._process: Process | None = None
        self._stop = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.halted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the child ended with ``DISASTER``."""

    @property
    def up(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.up else None

    def start(self) -> None:
        assert self._watching is None, "a child is started once"
        self._watching = background.keep(self._watch, f"child-{self.name}")

    async def stop(self) -> None:
        """End the child: SIGTERM, and SIGKILL if that takes too long. A second call is harmless."""
        self._stop.set()
        if self._watching is not None:
            await self._watching

    async def _watch(self) -> None:
        pause_s = _PAUSE_S_MIN
        while not self._stop.is_set():
            began_s = monotonic()
            try:
                said = await self._live()
            except OSError as error:
                said = f"it cannot be started: {error}"
            if self._stop.is_set():
                return
            if self._process is not None and self._process.returncode == DISASTER:
                self.halted.set_result(_SPEAKER.sub("", said))
                return
            self.restarts += 1
            pause_s = _PAUSE_S_MIN if monotonic() - began_s > _LIVED_WELL_S else min(2 * pause_s, _PAUSE_S_MAX)
            _log.warning("%s ended (%s); it starts again in %.1f s", self.name, self._ending(), pause_s)
            await sleep_unless_stopped(self._stop, pause_s)

    async def _live(self) -> str:
        """Start the child and wait for its end, or the stop. Returns its last line of output."""
        # -P: modules in the current folder are no part of the program. A new session: a Ctrl-C at the terminal
        # reaches only the service, which then stops the child.
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "api", *self._arguments),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        forwarding = background.start(_forward(process.stderr), "child-output")
        ended = background.awaited(process.wait(), "child-end")
        stopped = background.awaited(self._stop.wait(), "child-stop")
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            await _end(process, ended)
        # A grandchild may keep the pipe open; its output is not awaited.
        await asyncio.wait((forwarding,), timeout=1.0)
        forwarding.cancel()
        return forwarding.result() if forwarding.done() and not forwarding.cancelled() else ""

    def _ending(self) -> str:
        status = None if self._process is None else self._process.returncode
        if status is None:
            return "it could not be started"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


async def _end(process: Process, ended: "asyncio.Task[int]") -> None:
    process.terminate()
    done, _ = await asyncio.wait((ended,), timeout=END_WITHIN_S)
    if not done:
        process.kill()
        await ended


async def _forward(pipe: asyncio.StreamReader) -> str:
    """Copy the child's output to our stderr. Returns its last line."""
    tail = b""
    while chunk := await pipe.read(65_536):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        tail = (tail + chunk)[-_TAIL_MAX:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def end_with_parent() -> None:
    """In the child: end at once when stdin ends, because then the parent is gone."""
    threading.Thread(target=_until_stdin_ends, name="stakelog-parent", daemon=True).start()


def _until_stdin_ends() -> None:
    while os.read(0, 4_096):
        pass
    os._exit(0)  # like a kill: the next process that opens the files rolls back
