"""``stakelog audit verify`` in a process of its own, for the operator's page.

Invariants:
(1) one verification runs at a time;
(2) it runs beside the service, at low priority, and reads only: it slows no command by waiting for it. If memory
    runs out, the kernel ends it and not the service;
(3) ``stop`` ends it.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from contextlib import suppress
from pathlib import Path
from time import time_ns
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from ledger import background

Status = Literal["running", "well", "fault", "failed"]

_PROGRESS: Final = re.compile(r"(\d+) of (\d+) events")
_NICENESS: Final = 10
_LINES_MAX: Final = 50
_ENDED_FIRST: Final = "1000"
"""The largest value that the kernel knows."""
_FAULT: Final = "FAULT "
"""How the line begins that names a fault. The exit status does not tell: it is 1 also if the log cannot be read."""


class VerificationState(Struct, frozen=True):
    """The last verification, or the present one."""

    possible: bool
    """False: the log is not in a folder of this node."""
    status: Status | None = None
    """``fault``: the log is not what it must be; ``failed``: it could not be examined. None: there was none."""
    done: int = 0
    total: int = 0
    """Events; 0: not known yet."""
    began_at_us: int | None = None
    ended_at_us: int | None = None
    by: str | None = None
    """The client that asked for it."""
    lines: tuple[str, ...] = ()
    """What it found, in sentences."""


class Verification:
    """Verifies the log in the folder ``data``; None: it is not in a folder."""

    def __init__(self, data: Path | None) -> None:
        self._data = data
        self.state = VerificationState(data is not None)
        self._task: asyncio.Task[None] | None = None

    def start(self, by: str) -> bool:
        """Begin one, unless one is running. Returns False if that is not possible."""
        if self._data is None:
            return False
        if self.state.status != "running":
            self.state = VerificationState(True, "running", began_at_us=time_ns() // 1_000, by=by)
            self._task = background.start(self._run(self._data), "verification")
        return True

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, data: Path) -> None:
        status: Status = "failed"
        lines: list[str] = []
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "api", "audit", "verify", "--data", str(data)),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._end(status, [f"it cannot be started: {error.strerror}"])
            return
        try:
            _yield_to_the_service(process.pid)
            assert process.stdout is not None
            names_fault = await self._follow(process.stdout, lines)
            exit_status = await process.wait()
            if exit_status == 0:
                status = "well"
            elif names_fault:
                status = "fault"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            self._end(status, lines or ["the process ended without a word"])

    async def _follow(self, pipe: asyncio.StreamReader, lines: list[str]) -> bool:
        """Collect what it prints, until it ends. Returns whether a line names a fault."""
        names_fault = False
        async for raw in pipe:
            line = raw.decode(errors="replace").strip()
            names_fault = names_fault or line.startswith(_FAULT)
            if found := _PROGRESS.search(line) if line.startswith("verifying:") else None:
                self.state = replace(self.state, done=int(found[1]), total=int(found[2]))
            elif line and len(lines) < _LINES_MAX:
                lines.append(line.removeprefix("stakelog audit verify: "))
        return names_fault

    def _end(self, status: Status, lines: list[str]) -> None:
        self.state = replace(self.state, status=status, ended_at_us=time_ns() // 1_000, lines=tuple(lines))


def _yield_to_the_service(pid: int) -> None:
    """Let the process have the processor after the service, and let the kernel end it first if memory runs out: both
    share the limit of one container."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
    with suppress(FileNotFoundError, ProcessLookupError):  # not on Linux; or it has ended
        Path(f"/proc/{pid}/oom_score_adj").write_text(_ENDED_FIRST)
