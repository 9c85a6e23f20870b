"""The set's own programs: nodes, workers of the read side, and the balancer, each a process on this machine.

They are configured by the contract's settings, as on separate machines.
"""

import http.client
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.local.install import ROOT, program
from deploy.local.server import Server
from deploy.local.trouble import Trouble

_STAKELOG: Final = ROOT / ".venv" / "bin" / "stakelog"
_BALANCER: Final = ROOT / "deploy" / "balancer" / "haproxy.cfg"


def stakelog() -> Path:
    """The path of the program. Raises Trouble if the project is not set up."""
    if not os.access(_STAKELOG, os.X_OK):
        raise Trouble(f"{_STAKELOG} is missing: run `make setup`")
    return _STAKELOG


def responds(port: int, path: str) -> bool:
    """Whether an HTTP server on this machine responds to GET with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _Stakelog(Server):
    """A process of the program. It gets these settings only, none from the environment of its starter."""

    def __init__(self, name: str, folder: Path, port: int, settings: Mapping[str, str]) -> None:
        """``settings``: STAKELOG_…"""
        self.name = name
        super().__init__(folder, port)
        self._settings = settings

    def prepare(self) -> None:
        """Nothing: the program makes its data folder itself."""

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **self._settings}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Node(_Stakelog):
    """Serves on loopback; the data folder is in the server's folder."""

    def __init__(self, name: str, folder: Path, port: int, internal: int, settings: Mapping[str, str]) -> None:
        """``port``: for clients; ``internal``: for the other nodes and for metrics."""
        super().__init__(name, folder, port, settings)
        self._internal = internal

    def environment(self) -> Mapping[str, str]:
        own = {"STAKELOG_DATA": str(self.folder / "data"), "STAKELOG_HOST": "127.0.0.1"}
        ports = {"STAKELOG_PORT": str(self.port), "STAKELOG_INTERNAL": f"127.0.0.1:{self._internal}"}
        return {**super().environment(), **own, **ports}

    def command(self) -> Sequence[str | Path]:
        return [stakelog(), "serve"]

    def ready(self) -> bool:
        return responds(self.port, "/readyz")


class Worker(_Stakelog):
    """Folds the topic into the tables; its web server shows its progress."""

    def __init__(self, name: str, folder: Path, port: int, settings: Mapping[str, str], *, checks: bool) -> None:
        """``checks``: whether it also starts the check of the read model; one worker of a set does."""
        super().__init__(name, folder, port, settings)
        self._checks = checks

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "STAKELOG_DATA": str(self.folder / "data")}

    def command(self) -> Sequence[str | Path]:
        check = () if self._checks else ("--no-check",)
        return [stakelog(), "project", "--web-port", str(self.port), *check]

    def ready(self) -> bool:
        return responds(self.port, "/metrics")


class Balancer(Server):
    """haproxy, with the same configuration as the containers. It knows three nodes; some may not run."""

    name = "balancer"

    def __init__(
        self, folder: Path, port: int, nodes: Sequence[int], limits: Mapping[str, str] | None = None
    ) -> None:
        """``nodes``: their ports; ``limits``: BALANCER_…, in place of those of the configuration."""
        super().__init__(folder, port)
        self._nodes, self._limits = nodes, limits or {}

    def prepare(self) -> None:
        """Nothing: it has no data."""

    def environment(self) -> Mapping[str, str]:
        nodes = {f"NODE_{number}": f"127.0.0.1:{port}" for number, port in enumerate(self._nodes, 1)}
        return {**super().environment(), "BALANCER_BIND": f"127.0.0.1:{self.port}", **nodes, **self._limits}

    def command(self) -> Sequence[str | Path]:
        return [program("haproxy"), "-db", "-f", _BALANCER]

    def ready(self) -> bool:
        return self.listens()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
