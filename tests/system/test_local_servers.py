"""The real servers start, are stopped by process id, and do not outlive whoever started them."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.local.install import install
from deploy.local.server import Server
from deploy.local.servers import SERVERS, Kafka
from deploy.local.trouble import Trouble

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "deploy.local", "run"]


@contextmanager
def starter_of(*names: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The program that starts servers, once all of them take requests, and the processes of the servers."""
    with subprocess.Popen(
        [*RUN, *names], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        for name in names:
            assert starter.stdout.readline().split()[0] == name
        yield starter, psutil.Process(starter.pid).children()
        starter.kill()


def ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not alive


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_servers_end_with_their_starter(end: signal.Signals) -> None:
    with starter_of("redis", "kafka") as (starter, servers):
        assert len(servers) == 2
        starter.send_signal(end)
        starter.wait(30)
        assert ended(servers)


def test_a_server_that_ends_by_itself_is_named_and_ends_the_others() -> None:
    with starter_of("redis") as (starter, servers):
        servers[0].kill()
        _, said = starter.communicate(timeout=30)
        assert starter.returncode == 1
        assert "redis has ended" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_server_starts_stops_and_starts_again_on_its_own_data(name: str, tmp_path: Path) -> None:
    install([name])
    server: Server = SERVERS[name]()
    try:
        server.start()
        first = psutil.Process(server.pid)
        server.kill()
        assert ended([first])
        server.start()
        second = psutil.Process(server.pid)
        assert server.listens()
        assert second.pid != first.pid
    finally:
        server.stop()
    assert ended([second])
    assert not server.folder.exists(), "a folder that it made is removed"


def test_a_server_that_cannot_start_says_why() -> None:
    install(["kafka"])
    server = Kafka(settings="log.retention.hours=many")
    try:
        with pytest.raises(Trouble, match=r"(?s)kafka .*log\.retention\.hours"):
            server.start()
        assert not server.running
    finally:
        server.stop()


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    """With nothing on PATH, not even a way to install: no traceback, but what to do by hand."""
    install_kafka = [sys.executable, "-m", "deploy.local", "install", "kafka"]
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(install_kafka, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "install by hand what Debian calls default-jre-headless maven" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_server_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run([*RUN, "oracle"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "kafka|postgresql|mariadb|redis" in done.stderr
