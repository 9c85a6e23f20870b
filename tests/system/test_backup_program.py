"""`stakelog backup` of a service under load: restored, it verifies, has every word that was given, and goes on."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from system.players import Crowd
from system.service import Service
from system.test_audit_program import audit, post, some_commands

pytestmark = pytest.mark.system


def command(data: Path, dest: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "api", "backup", str(dest), "--data", str(data), *arguments]


def run(data: Path, dest: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(data, dest, *arguments), capture_output=True, text=True, check=False)


async def _backed_up_under_load(service: Service, dest: Path, rounds: int) -> list[dict[str, str]]:
    """Positions and heads of all that was acknowledged before the last backup began."""
    crowd = Crowd(service, seed=11, clients=6, patient=True)
    playing = asyncio.create_task(crowd.play())
    acknowledged: list[dict[str, str]] = []
    for number in range(rounds):
        await asyncio.sleep(0.7)
        acknowledged = [
            {"position": acceptance.position, "head": acceptance.head}
            for sent in crowd.sent
            for acceptance in sent.acceptances
        ]
        into = dest.with_name(f"{dest.name}-{number}")
        done = await asyncio.to_thread(run, service.data, into)
        assert done.returncode == 0, done
    crowd.stop = True
    await playing
    return acknowledged


def test_a_backup_under_load_verifies_has_every_word_given_before_and_goes_on(tmp_path: Path) -> None:
    rounds = 3
    data, dest = tmp_path / "data", tmp_path / "copy"
    with Service(data, PARTITIONS="4") as service:
        acknowledged = asyncio.run(_backed_up_under_load(service, dest, rounds))
    assert len(acknowledged) > 200, "there was no load to speak of"
    for number in range(rounds):
        copy = dest.with_name(f"{dest.name}-{number}")
        assert min(path.name for path in copy.iterdir()) == "events.sqlite3"
        assert not list(copy.glob("*-wal"))
        with Service(copy, PARTITIONS="4") as restored:
            assert audit("--data", str(copy)).returncode == 0
            post(restored, some_commands(10_000, 50))
            if number == rounds - 1:
                assert heads_of(restored, {word["position"] for word in acknowledged}) == {
                    word["position"]: word["head"] for word in acknowledged
                }
        done = audit("--data", str(copy))
        assert done.returncode == 0, done


def heads_of(service: Service, positions: set[str]) -> dict[str, str]:
    from hashlib import sha256

    found = {}
    for partition in range(4):
        seq = 1
        while True:
            address = f"{service.url}/v1/events?partition={partition}&from_seq={seq}&limit=10000"
            with urllib.request.urlopen(address) as response:  # noqa: S310 - our own service
                records = response.read().splitlines()
            if not records:
                break
            for record in records:
                position = f"{partition}:{json.loads(record)['seq']}"
                if position in positions:
                    found[position] = sha256(record).hexdigest()
            seq += len(records)
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some ten megabytes, at rest."""
    data = tmp_path_factory.mktemp("large") / "data"
    with Service(data, PARTITIONS="2") as service:
        for first in range(0, 10_000, 500):
            post(service, some_commands(first, 500))
    return data


def test_killed_at_any_moment_there_is_no_backup_or_a_whole_one(large: Path, tmp_path: Path) -> None:
    killed = whole = 0
    for number in range(14):
        dest = tmp_path / "copy"
        process = subprocess.Popen(
            command(large, dest), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        partial = tmp_path / ".copy.partial"
        while process.poll() is None and not partial.exists():
            time.sleep(0.001)
        with suppress(subprocess.TimeoutExpired):
            process.wait(number * 0.04)
        process.kill()
        killed += process.wait() != 0
        if dest.exists():
            whole += 1
            assert audit("--data", str(dest)).returncode == 0
            assert (dest / "events.sqlite3").stat().st_size == (large / "events.sqlite3").stat().st_size
            dest.rename(tmp_path / f"kept-{number}")
    assert killed, "no backup was killed in the middle"
    done = run(large, tmp_path / "copy")
    assert done.returncode == 0, done
    assert not (tmp_path / ".copy.partial").exists()


def test_a_full_disk_leaves_no_backup_and_is_one_message(large: Path, small_disk: Path) -> None:
    done = run(large, small_disk / "copy")
    assert done.returncode == 1, done
    assert "cannot be copied" in done.stderr
    assert "full" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert list(small_disk.iterdir()) == []
