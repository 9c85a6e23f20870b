"""The real servers start, are stopped by process id, and end with the process that started them."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.local.beside import addresses
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
    with starter_of("redis", "postgresql") as (starter, servers):
        assert len(servers) == 2
        starter.send_signal(end)
        starter.wait(60)
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
    assert "install the counterparts of the Debian packages default-jre-headless maven" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_server_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run([*RUN, "oracle"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "kafka|postgresql|mariadb|redis" in done.stderr


# --- a command beside servers --------------------------------------------------------------------------------------

WITH = [sys.executable, "-m", "deploy.local", "with"]
WAITS = ["sh", "-c", "trap 'echo told; exit 5' TERM; echo $REDIS_URL; while :; do sleep 0.05; done"]


@contextmanager
def command_beside(*names: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The starter, once its command runs, and all that it started."""
    with subprocess.Popen(
        [*WITH, *names, "--", *WAITS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline().startswith("redis://127.0.0.1:")
        yield starter, psutil.Process(starter.pid).children()
        starter.kill()


def test_a_command_beside_servers_knows_them_and_its_status_is_handed_on() -> None:
    shell = ["sh", "-c", "echo $REDIS_URL; exit 7"]
    done = subprocess.run([*WITH, "redis", "--", *shell], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert done.stdout.startswith("redis://127.0.0.1:")
    assert "Stopping redis" in done.stderr


def test_a_broker_beside_a_command_is_configured_as_the_only_one() -> None:
    server = Kafka(port=9_092)
    try:
        assert addresses([server]) == {"KAFKA_URL": "kafka://127.0.0.1:9092?replication_factor=1"}
    finally:
        server.stop()


@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_the_command_and_the_servers_end_with_their_starter(end: signal.Signals, status: int) -> None:
    with command_beside("redis") as (starter, processes):
        assert len(processes) == 2
        starter.send_signal(end)
        said, _ = starter.communicate(timeout=30)
        assert starter.returncode == status
        assert ended(processes)
        assert said.split() == ["told"], "one signal, and time to end well"


def test_a_server_that_ends_ends_the_command_and_is_named() -> None:
    with command_beside("redis") as (starter, processes):
        next(one for one in processes if one.name().startswith("redis")).kill()
        said, errors = starter.communicate(timeout=30)
        assert starter.returncode == 1
        assert "redis has ended" in errors
        assert "Traceback" not in errors
        assert ended(processes)
        assert said.split() == ["told"]


def test_with_needs_servers_and_a_command() -> None:
    for wrong in (["redis"], ["redis", "--"], ["--", "true"], ["oracle", "--", "true"]):
        done = subprocess.run([*WITH, *wrong], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, wrong
        assert "with kafka|postgresql|mariadb|redis" in done.stderr
