"""The real service as a child process: `python -m api serve` on a free port, in a process group of its own.

    with Service(tmp_path / "data") as service:      # started and ready, stopped by SIGTERM in the end (exit 0)
        http.client.HTTPConnection("127.0.0.1", service.port).request("GET", "/v1/partitions")

A node of many gets an internal listener, and is asked there whether it is ready.

For crashes: `start()`, `kill()`, `start()` … on one folder; each start is on a new port. Settings that a test wants
otherwise are keyword arguments named as in the environment, less the prefix: `Service(data, PARTITIONS="4")`.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0
"""Chosen: an idle machine needs a second for either; a loaded one much more."""


class ServiceFailed(AssertionError):
    """The service did not start, or did not stop well; the text has what it wrote last."""


class Service:
    """A service of one data folder, which outlives it."""

    def __init__(self, data: Path, internal: bool = False, /, **settings: str) -> None:
        """``internal``: with an internal listener; a node of many has one anyway."""
        self.data = data
        self.url = ""
        self.internal = ""
        """Where the other nodes reach it, if it has an internal listener: the URL that it advertises."""
        self.process: subprocess.Popen[bytes] | None = None
        self.program: Sequence[str] = ("-m", "api")
        """Python's arguments; ``("-c", text)``: the program with a change."""
        self._settings = {f"STAKELOG_{name}": value for name, value in settings.items()}
        self._has_internal = internal or settings.get("LOG", "").startswith("kafka://")
        self._log = data.parent / f"{data.name}.log"

    def setting(self, name: str) -> str:
        """One that it was given."""
        return self._settings[f"STAKELOG_{name}"]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        assert self.process is not None, "the service is not running"
        return self.process.pid

    def start(self) -> None:
        """Start and wait until it is ready. Raises ServiceFailed."""
        self.launch()
        deadline_s = time.monotonic() + READY_WITHIN_S
        while not self.ready():
            status = self._running().poll()
            if status is not None:
                self.process = None
                raise ServiceFailed(f"the service ended with status {status} before it was ready:\n{self._tail()}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise ServiceFailed(f"the service was not ready within {READY_WITHIN_S:.0f} s:\n{self._tail()}")
            time.sleep(0.02)

    def launch(self) -> None:
        """Start, and do not wait: for starts that fail, or are killed early."""
        assert self.process is None, "the service is running"
        port, internal = free_port(), free_port()
        scheme = "https" if "STAKELOG_TLS_CERT" in self._settings else "http"
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.internal = f"http://127.0.0.1:{internal}" if self._has_internal else ""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
        ours = {"STAKELOG_AUTH": "off", "STAKELOG_DATA": str(self.data), "STAKELOG_PORT": str(port)}
        theirs = self._settings | ({"STAKELOG_INTERNAL": f"127.0.0.1:{internal}"} if self._has_internal else {})
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve"],
                env=inherited | ours | theirs,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self.internal or self.url).netloc, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM; raises ServiceFailed unless it ends in time, with status 0."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceFailed(f"SIGTERM did not stop it within {STOPPED_WITHIN_S:.0f} s:\n{self._tail()}") from None
        self.process = None
        if status != 0:
            raise ServiceFailed(f"after SIGTERM it ended with status {status}:\n{self._tail()}")

    def kill(self) -> None:
        """SIGKILL to it and all that it started; returns when it has ended."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.process = None

    def log_text(self) -> str:
        """All that the service wrote to stdout and stderr, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-20:]) or "it wrote nothing"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the service is not running"
        return self.process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None:
            return
        if error is None:
            self.stop()
        else:  # keep the test's own failure, whatever the service does now
            self.kill()


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
