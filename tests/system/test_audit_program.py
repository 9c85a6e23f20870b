"""``stakelog audit verify`` as an auditor runs it: on a folder in use, on one at rest, over HTTP; exit 0, 1 or 2."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sqlite_log import damage
from system.service import Service

pytestmark = pytest.mark.system


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", "audit", "verify", *arguments], capture_output=True, text=True, check=False
    )


def post(service: Service, commands: list[dict[str, object]]) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own service
        f"{service.url}/v1/commands/batch", json.dumps(commands).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        assert all(item["status"] == 201 for item in json.load(response))


def some_commands(first: int, count: int) -> list[dict[str, object]]:
    commands: list[dict[str, object]] = []
    for number in range(first, first + count):
        user_id = f"u{number}"
        commands.append({"type": "open_wallet", "command_id": "o", "user_id": user_id})
        deposit = {"type": "deposit", "order_id": "d", "asset": "INR", "amount": 100 + number}
        commands.append({**deposit, "command_id": "d", "user_id": user_id})
    return commands


def shorten(data: Path, seq: int) -> None:
    """Remove the record of this seq."""
    damage(data / "events.sqlite3", "DELETE FROM event WHERE seq = ?", seq)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_log_is_well_while_it_is_written_over_http_and_at_rest(data: Path, tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    with Service(data) as service:
        post(service, some_commands(0, 300))
        with urllib.request.urlopen(f"{service.url}/v1/partitions") as response:  # noqa: S310
            heads.write_bytes(response.read())
        post(service, some_commands(300, 100))
        for where in (("--data", str(data)), ("--url", service.url)):
            done = audit(*where, "--heads", str(heads))
            assert done.returncode == 0, done
            assert "800 events" in done.stdout
    done = audit("--data", str(data), "--heads", str(heads))
    assert done.returncode == 0, done
    assert "16 published heads are in it" in done.stdout
    assert "anchored: " in done.stdout
    assert "; 200 records after them are not anchored" in done.stdout


def test_a_forged_record_is_named_with_partition_and_seq(data: Path) -> None:
    with Service(data, PARTITIONS="2") as service:
        post(service, some_commands(0, 20))
    damage(
        data / "events.sqlite3",
        """UPDATE event SET record = CAST(replace(CAST(record AS TEXT), '"local"', '"eve"') AS BLOB)
           WHERE partition = 1 AND seq = 4""",
    )
    done = audit("--data", str(data))
    assert done.returncode == 1, done
    assert "partition 1, seq 4" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_log_without_its_end_is_named_by_the_heads_published_earlier(data: Path, tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    with Service(data, PARTITIONS="1") as service:
        post(service, some_commands(0, 20))
        with urllib.request.urlopen(f"{service.url}/v1/partitions") as response:  # noqa: S310
            heads.write_bytes(response.read())
    shorten(data, 40)
    (data / "seals.ndjson").unlink()
    alone = audit("--data", str(data))
    assert alone.returncode == 0, alone
    assert "anchored: to nothing" in alone.stdout
    done = audit("--data", str(data), "--heads", str(heads))
    assert done.returncode == 1, done
    assert "partition 0, seq 40" in done.stdout
    assert "ends at seq 39" in done.stdout


def sealed(data: Path) -> list[dict[str, Any]]:
    file = data / "seals.ndjson"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def wait_for_a_seal_of(data: Path, seq: int, *, seals: int = 1) -> None:
    """Until a seal names this seq of partition 0, and there are so many seals."""
    until_s = time.monotonic() + 30
    while len(sealed(data)) < seals or not any(seal["partitions"][0]["seq"] == seq for seal in sealed(data)):
        assert time.monotonic() < until_s, sealed(data)
        time.sleep(0.05)


def test_a_running_service_seals_its_log_and_an_auditor_compares_them(data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with Service(data, PARTITIONS="1", SEAL_S="1", SEALS=str(outside)) as service:
        post(service, some_commands(0, 20))
        wait_for_a_seal_of(data, 40, seals=2)  # two, so that a page of one has a next one
        until_s = time.monotonic() + 30
        while True:  # the service lists a seal once its line is fsynced, a moment after the file shows it
            with urllib.request.urlopen(f"{service.url}/v1/seals?limit=1") as response:  # noqa: S310
                newest = json.load(response)
            if newest["items"][0]["partitions"][0]["seq"] == 40:
                break
            assert time.monotonic() < until_s, newest
            time.sleep(0.05)
        assert newest["next_cursor"] is not None
        for where in (("--data", str(data)), ("--url", service.url)):
            done = audit(*where)
            assert done.returncode == 0, done
            assert "anchored: the seal of 20" in done.stdout
            assert "; 0 records after them are not anchored" in done.stdout
    chain = (data / "seals.ndjson").read_bytes()
    assert (outside / "seals.ndjson").read_bytes() == chain or (outside / "seals.ndjson").read_bytes() in chain

    shorten(data, 40)
    done = audit("--data", str(data))
    assert done.returncode == 1, done
    assert "partition 0, seq 40: the record is missing: the log ends at seq 39, but the seal of 20" in done.stdout
    (data / "seals.ndjson").unlink()
    assert audit("--data", str(data)).returncode == 0, "who cut the log removed its seals, too"
    done = audit("--data", str(data), "--seals", str(outside))
    assert done.returncode == 1, done
    assert "partition 0, seq 40" in done.stdout


def test_a_changed_seal_is_named(data: Path) -> None:
    with Service(data, PARTITIONS="1", SEAL_S="1") as service:
        post(service, some_commands(0, 2))
        wait_for_a_seal_of(data, 4)
    file = data / "seals.ndjson"
    file.write_bytes(file.read_bytes().replace(b'"seq":4', b'"seq":3'))
    done = audit("--data", str(data))
    assert done.returncode == 1, done
    assert "FAULT " in done.stdout


def test_the_settings_of_seals_are_checked_and_listed(data: Path) -> None:
    assert (
        "STAKELOG_SEAL_S"
        in subprocess.run(
            [sys.executable, "-m", "api", "serve", "--help"], capture_output=True, text=True, check=True
        ).stdout
    )
    for name, value in (("STAKELOG_SEAL_S", "0"), ("STAKELOG_SEALS", "ftp://host/x"), ("STAKELOG_SEALS", "http://")):
        done = subprocess.run(
            [sys.executable, "-m", "api", "serve"],
            env={**os.environ, "STAKELOG_DATA": str(data), "STAKELOG_AUTH": "off", name: value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done
        assert name in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "/nowhere"), "there is no event log in /nowhere"),
        (("--url", "http://127.0.0.1:1"), "cannot be read as a stakelog service"),
        (("--url", "nonsense"), "is not an address"),
        (("--data", "/nowhere", "--url", "http://127.0.0.1:1"), "not both"),
        (("--heads", "/nowhere"), "does not exist"),
    ],
)
def test_wrong_use_is_one_message_and_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    done = audit(*arguments)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_heads_file_that_is_something_else_ends_with_2(tmp_path: Path, data: Path) -> None:
    with Service(data):
        pass
    heads = tmp_path / "heads.json"
    heads.write_text("[]")
    done = audit("--data", str(data), "--heads", str(heads))
    assert done.returncode == 2, done
    assert "is not the JSON of GET /v1/partitions" in done.stderr
