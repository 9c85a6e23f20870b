"""``stakelog bench`` as a person runs it: a table, and a JSON file with the figures it shows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from databases import EmptyDatabases
from deploy.local.servers import Kafka

pytestmark = pytest.mark.system


def test_a_quick_measure_shows_its_figures_and_keeps_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "bench", "--quick", "--only", "verify", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "audit verify" in done.stdout
    (kept,) = tmp_path.glob("*.json")
    assert "verify" in json.dumps(json.loads(kept.read_text()))


def test_a_measure_that_does_not_exist_is_wrong_use() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "bench", "--only", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def distributed(
    environment: dict[str, str], *arguments: str, out: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    to = ["--out", str(out)] if out else []
    return subprocess.run(
        [sys.executable, "-m", "api", "bench", "--distributed", "--quick", *arguments, *to],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def environment(
    own_kafka: Kafka, postgresql: EmptyDatabases, mariadb: EmptyDatabases, redis_url: str
) -> Iterator[dict[str, str]]:
    """Servers without data."""
    with postgresql.one() as of_postgresql, mariadb.one() as of_mariadb:
        yield {
            "KAFKA_URL": f"{own_kafka.url}?replication_factor=1",
            "POSTGRESQL_URL": of_postgresql,
            "MARIADB_URL": of_mariadb,
            "REDIS_URL": redis_url,
        }


def test_nodes_on_real_servers_are_measured_and_nothing_of_theirs_is_left(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = distributed(environment, "--only", "send", out=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "p50 of a command" in done.stdout
    (kept,) = tmp_path.iterdir()  # the folder of nodes and logs is gone
    (row,) = json.loads(kept.read_text())["measured"]
    assert row["judged"] > 0
    nodes = [one for one in psutil.process_iter(["environ"]) if environment["KAFKA_URL"] in _log_of(one)]
    assert not nodes

    again = distributed(environment, "--only", "send", out=tmp_path)
    assert again.returncode == 1
    assert again.stderr.strip().count("\n") == 0
    assert "Kafka has the topic stakelog.bench, and the bench would destroy it" in again.stderr


def _log_of(process: psutil.Process) -> str:
    return str((process.info["environ"] or {}).get("STAKELOG_LOG", ""))


def command_line(process: psutil.Process) -> list[str]:
    """[] of one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # raised for zombies, too
        return []


def test_a_run_that_is_ended_by_a_signal_ends_its_nodes(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "api", "bench", "--distributed", "--only", "leaving", "--out", str(tmp_path)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        children: list[psutil.Process] = []
        deadline_s = time.monotonic() + 60
        while len(children) < 3:
            assert time.monotonic() < deadline_s, "three nodes"
            children = [one for one in psutil.Process(running.pid).children() if "serve" in command_line(one)]
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert list(tmp_path.iterdir()) == []


def test_servers_that_are_not_named_end_it_with_one_line() -> None:
    done = distributed({"KAFKA_URL": ""}, "--only", "send")
    assert done.returncode == 1
    assert "KAFKA_URL is not set: `make bench-distributed` starts the servers" in done.stderr
    assert done.stderr.strip().count("\n") == 0
