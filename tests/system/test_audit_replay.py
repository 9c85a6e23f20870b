"""`stakelog audit replay` as a process: on a folder in use, over HTTP, and with a reader that closes early."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from system.service import Service
from system.test_audit_program import post, some_commands

pytestmark = pytest.mark.system

USER = "u7"


def replay(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "api", "audit", "replay", *arguments], capture_output=True, check=False
    )


def events(service: Service, partition: int) -> bytes:
    address = f"{service.url}/v1/events?partition={partition}&limit=10000"
    with urllib.request.urlopen(address) as response:  # noqa: S310 - our own service
        body: bytes = response.read()
        return body


def test_a_replay_is_the_same_from_a_folder_in_use_and_over_http(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Service(data, PARTITIONS="2") as service:
        post(service, some_commands(0, 400))
        told = [events(service, partition) for partition in (0, 1)]
        of_user = b"".join(
            line + b"\n"
            for partition in told
            for line in partition.splitlines()
            if f'"user_id":"{USER}"'.encode() in line
        )
        for where in (("--data", str(data)), ("--url", service.url)):
            assert replay(*where, "--partition", "1", "--format", "ndjson").stdout == told[1]
            done = replay(*where, "--user", USER, "--format", "ndjson")
            assert (done.returncode, done.stdout, done.stderr) == (0, of_user, b"")
            table = replay(*where, "--user", USER)
            assert b"deposited" in table.stdout
            assert table.stdout.endswith(b"2 events\n")
            unknown = replay(*where, "--user", "stranger")
            assert unknown.returncode == 2
            assert b"no event of stranger" in unknown.stderr
        assert replay("--data", str(data), "--partition", "0", "--format", "ndjson").stdout == told[0]


@pytest.mark.parametrize("kind", ["table", "ndjson"])
def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    with Service(data, PARTITIONS="1") as service:
        for first in range(0, 2_000, 500):
            post(service, some_commands(first, 500))
    command = f"{sys.executable} -m api audit replay --data {data} --partition 0 --format {kind} | head -n 3"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert len(done.stdout.splitlines()) == 3
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_missing_service_is_reported(tmp_path: Path) -> None:
    with Service(tmp_path / "data", PARTITIONS="1") as service:
        url = service.url
    done = replay("--url", url, "--partition", "0")
    assert done.returncode == 2
    assert b"cannot be read as a stakelog service" in done.stderr
    assert b"Traceback" not in done.stderr
