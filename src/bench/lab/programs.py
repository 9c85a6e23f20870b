"""The processes of a run: started, watched and stopped; none outlives the bench.

Figures of a process tree come from Linux's ``/proc``; elsewhere there are no `resident_bytes`, and `settle` waits a
fixed time.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from bench.figures import BenchError, Slice
from bench.lab.jobs import Arrivals, Done, Job, Reply
from bench.load.freshness import Following

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 1800.0
POLL_S = 0.005
"""The interval of readiness checks: the precision of a start-up time."""

IDLE_SHARE = 0.15
"""A process tree that uses less of one core than this is idle: pollers wake now and then. Chosen."""

_PROC = Path("/proc")


def free_port() -> int:
    """A port of the loopback interface without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A server process with its own port, and its own session so that its children are found at the end.

    ``argv`` and the environment get the port where they hold ``{port}``, and a second port where they hold
    ``{internal}``; the output of the program goes to ``log``. It is ready when ``page`` returns 200. If the thread
    that starts it dies, the kernel ends it, where Linux can.
    """

    def __init__(
        self, name: str, argv: list[str], environment: Mapping[str, str], log: Path, page: str = "/readyz"
    ) -> None:
        self.name = name
        self.port = 0
        self.internal = 0
        self._page = page
        self._argv = argv
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready_s: float = READY_TIMEOUT_S) -> float:
        """Seconds from exec to its first 200. Raises BenchError if it ends or is not ready within ``ready_s``."""
        assert self._process is None, f"{self.name} is running"
        ports = {"port": free_port(), "internal": free_port()}
        self.port, self.internal = ports.values()
        argv = [*_ends_with_us(), *(part.format(**ports) for part in self._argv)]
        environment = {key: value.format(**ports) for key, value in self._environment.items()}
        with self._log.open("ab") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                argv,
                env=_environment_without_settings() | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self._ready():
            took_s = time.perf_counter() - began
            if self._process.poll() is not None:
                status = self._process.returncode
                self._process = None
                raise BenchError(f"{self.name} ended with status {status} before it was ready: {self._last_words()}")
            if took_s > ready_s:
                self.kill()
                raise BenchError(f"{self.name} was not ready within {ready_s:.0f} s: {self._last_words()}")
            time.sleep(POLL_S)
        return time.perf_counter() - began

    def stop(self) -> None:
        """SIGTERM, and wait. Raises BenchError if it does not end, or ends with an error."""
        if self._process is None:
            return
        process = self._process
        process.terminate()
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise BenchError(f"{self.name} did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from error
        self._reap()
        if status not in (0, -signal.SIGTERM):
            raise BenchError(f"{self.name} ended with status {status} after SIGTERM: {self._last_words()}")

    def kill(self) -> None:
        """SIGKILL to it and to its children; does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._reap()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped by this process."""
        return self._process is not None

    @property
    def url(self) -> str:
        """The address of the program."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def metrics_port(self) -> int:
        """Where its metrics are: a node of many has them on its internal listener."""
        has_internal = any("{internal}" in value for value in self._environment.values())
        return self.internal if has_internal else self.port

    @property
    def advertised(self) -> str:
        """Where the other nodes reach it, which is how they name it as an owner."""
        return f"http://127.0.0.1:{self.internal}"

    def tree(self) -> list[int]:
        """Its process and that process's descendants; empty where there is no ``/proc``."""
        return [] if self._process is None else _tree(self._process.pid)

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory by process, the program's own first: ``{"serve": bytes, "project follow": bytes}``."""
        return {_name(pid): _status_bytes(pid, "VmRSS") for pid in self.tree()}

    def processor_s(self) -> dict[str, float]:
        """Processor time by process since its start, in seconds: ``{"serve": 1.5, "project follow": 0.7}``."""
        return {_name(pid): _cpu_s([pid]) for pid in self.tree()}

    def settle(self, limit_s: float) -> bool:
        """Wait until the program is idle, at most ``limit_s``. Returns whether it is idle."""
        deadline = time.perf_counter() + limit_s
        before = _cpu_s(self.tree())
        if not before:
            time.sleep(min(limit_s, 0.5))
            return True
        while True:
            time.sleep(0.1)
            after = _cpu_s(self.tree())
            if after - before < IDLE_SHARE * 0.1:
                return True
            if time.perf_counter() > deadline:
                return False
            before = after

    def _reap(self) -> None:
        """Kill the session's other processes, which should have ended with their parent."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self._page)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        return _last_line(self._log.read_bytes())


def service(data: Path, log: Path, more: Mapping[str, str] | None = None, name: str = "the service") -> Program:
    """The service under test on a log in ``data``, with default settings but for port and auth, and ``more``."""
    ours = {
        "STAKELOG_DATA": str(data),
        "STAKELOG_PORT": "{port}",
        "STAKELOG_HOST": "127.0.0.1",
        "STAKELOG_AUTH": "off",
    }
    return Program(name, [sys.executable, "-m", "api", "serve"], {**ours, **(more or {})}, log)


def read_side_worker(data: Path, log: Path, more: Mapping[str, str]) -> Program:
    """`stakelog project` with these settings, without the check of the read model."""
    argv = [sys.executable, "-m", "api", "project", "--no-check", "--web-port", "{port}"]
    return Program("the worker", argv, {"STAKELOG_DATA": str(data), **more}, log, page="/metrics")


def bare_route(log: Path) -> Program:
    """The yardstick of the HTTP path; see `bare_route`."""
    return Program("the bare route", [sys.executable, "-m", "bench.yardsticks.bare_routes", "{port}"], {}, log)


def run_command(arguments: list[str], data: Path, log: Path, more: Mapping[str, str] | None = None) -> float:
    """Seconds from exec to the end of ``stakelog`` with ``arguments`` on the folder ``data``, ``more`` its settings.

    Raises BenchError if it ends with another status than 0, with its last words.
    """
    began = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "api", *arguments],
            env=_environment_without_settings() | {"STAKELOG_DATA": str(data), **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"stakelog {' '.join(arguments)} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error
    took_s = time.perf_counter() - began
    log.write_bytes(done.stdout)
    if done.returncode:
        raise BenchError(
            f"stakelog {' '.join(arguments)} ended with status {done.returncode}: {_last_line(done.stdout)}"
        )
    return took_s


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it wrote nothing"


class JobProcess:
    """A child process that does jobs (`jobs`). Use as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.lab.jobs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the bench handles Ctrl-C
        )
        self._decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)

    def __enter__(self) -> JobProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def ask(self, job: Job) -> Slice:
        """Do ``job`` in the process and wait. Raises BenchError if the job or the process failed."""
        return self._ask(job).figures

    def follow(self, job: Arrivals) -> Following:
        """Do ``job`` in the process; returns the follower's lag. Raises BenchError as `ask` does."""
        following = self._ask(job).following
        assert following is not None
        return following

    def _ask(self, job: Job) -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the job process ended during {type(job).__name__}")
        reply = self._decoder.decode(line)
        if isinstance(reply, Done):
            return reply
        raise BenchError(reply.why)


def _ends_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "TERM", "--"]


def _environment_without_settings() -> dict[str, str]:
    """A developer's STAKELOG_LOG must not send the bench's bets to a real log."""
    return {key: value for key, value in os.environ.items() if not key.startswith("STAKELOG_")}


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(_stat(entry)[1])
    tree = [root] if root in parents else []
    for pid in tree:  # grows while it is walked
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def _stat(entry: Path) -> list[str]:
    """The members after the name, which may hold anything: state, parent …; see proc_pid_stat(5)."""
    return entry.read_text().rpartition(")")[2].split()


def _cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = _stat(_PROC / str(pid) / "stat")
            ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _name(pid: int) -> str:
    """What a process of the program does: what follows ``-m api`` in its command line, less the options."""
    with contextlib.suppress(OSError):
        return name_of((_PROC / str(pid) / "cmdline").read_bytes(), str(pid))
    return str(pid)


def name_of(command_line: bytes, otherwise: str) -> str:
    """``serve``, ``project follow``: the words after ``api`` of a NUL-separated command line."""
    words = command_line.decode("utf-8", "replace").split("\0")
    said = words[words.index("api") + 1 :] if "api" in words else []
    return " ".join(word for word in said if word and not word.startswith("-")) or otherwise


def _status_bytes(pid: int, member: str) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(f"{member}:"):
                return int(line.split()[1]) * 1024
    return 0
