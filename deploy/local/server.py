"""A server as a child process: started, watched, stopped, killed and paused, always by its process id."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar, Final

from deploy.local.trouble import Trouble

_READY_WITHIN_S: Final = 90.0
_STOP_WITHIN_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.05
_FIRST_PORT: Final = 15_000
_RANGES: Final = 29
_RANGE: Final = 500
_numbers: Final = count(random.randrange(_RANGE))  # noqa: S311 - no secret


def free_port() -> int:
    """A port of 127.0.0.1 without a listener.

    It is below the ports that the kernel gives to outgoing connections: while a killed server is away, a client that
    connects again and again could get the server's own port, and the server could not start. Each process takes its
    ports one after the other from a range of its own, so that two processes do not find the same one free.
    """
    first = _FIRST_PORT + os.getpid() % _RANGES * _RANGE
    while True:
        port = first + next(_numbers) % _RANGE
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """Base of all servers. If ``folder`` is None, a temporary one is made, and ``stop`` removes it."""

    name: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    user: ClassVar[str | None] = None
    """The user it runs as if root starts it; None: the same user as the starter."""

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        """``port``: None for a free one."""
        self._made_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"stakelog-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # a server that runs as another user must get in
        self.port = port or free_port()
        self.log = self.folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    # --- what each server defines ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the data folder if it is missing."""
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it takes requests."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        raise NotImplementedError

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait until it takes requests. Raises Trouble."""
        # The kernel sends its signal when the *thread* that started the child ends, not only when the process does.
        assert threading.current_thread() is threading.main_thread(), "start servers from the main thread"
        assert self._process is None, f"{self.name} runs already"
        self.prepare()
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user(["setpriv", "--pdeathsig", self.stop_signal.name.removeprefix("SIG")], self.command()),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,  # this process passes a Ctrl-C at the terminal on
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _READY_WITHIN_S
        while not self.ready():
            if process.poll() is not None:
                raise Trouble(f"{self.name} ended with {process.returncode} while it started:\n{self.said()}")
            if time.monotonic() > until:
                raise Trouble(f"{self.name} was not ready within {_READY_WITHIN_S:.0f} s:\n{self.said()}")
            time.sleep(_LOOK_AGAIN_S)

    def said(self, lines: int = 15) -> str:
        """The last lines of its log since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def succeeds(self, command: Sequence[str | Path]) -> bool:
        """Whether a client program ends with status 0."""
        quiet = subprocess.DEVNULL
        return subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode == 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it, by force if needed; remove a temporary folder. A second call is harmless."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)  # a paused process handles no other signal
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._made_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, like a crash. The folder stays, and ``start`` uses it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it sends no response, and its connections stay open. Returns when all of its threads are stopped:
        the kernel stops them one by one, and a thread that still runs may respond."""
        os.kill(self.pid, signal.SIGSTOP)
        while not all(_is_stopped(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    # --- for servers that must not run as root -----------------------------------------------------------------

    def _as_user(self, setpriv: list[str], command: Sequence[str | Path]) -> list[str]:
        who = []
        if self.user is not None and os.geteuid() == 0:
            who = [f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        return [*setpriv, *who, "--", *map(str, command)]

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a program of the server to its end, as the server's user. Raises Trouble."""
        done = subprocess.run(
            self._as_user(["setpriv"], command)
            if self.user and os.geteuid() == 0
            else [str(part) for part in command],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = "\n".join(done.stdout.strip().splitlines()[-15:])
            raise Trouble(f"{self.name} cannot be prepared:\n{said}\nTried: {' '.join(map(str, command))}")

    def own(self, folder: Path) -> None:
        """Make ``folder`` and give it to the server's user."""
        folder.mkdir(exist_ok=True)
        if self.user is not None and os.geteuid() == 0:
            user = pwd.getpwnam(self.user)
            os.chown(folder, user.pw_uid, user.pw_gid)
        folder.chmod(0o700)


def _is_stopped(thread: Path) -> bool:
    """By its state, which follows the name in brackets. An ended thread counts as stopped."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2].startswith(("T", "Z", "X"))
    except (FileNotFoundError, ProcessLookupError):
        return True
