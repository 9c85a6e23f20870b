"""`stakelog audit export` as a process: of a service in use, killed again and again, on a disk that fills."""

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from api.cli.audit.http_records import HttpRecords
from ledger.operations.export import Format, Ndjson
from ledger.operations.parquet import Parquet
from system.service import Service
from system.test_audit_program import post, some_commands

pytestmark = pytest.mark.system

FORMS: dict[str, Format] = {"ndjson": Ndjson(), "parquet": Parquet()}


def command(dest: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "api", "audit", "export", str(dest), *arguments]


def run(dest: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(dest, *arguments), capture_output=True, text=True, check=False)


def exported(dest: Path, kind: str) -> list[list[bytes]]:
    return [
        [record for path in sorted(folder.iterdir()) for record in FORMS[kind].read(path)]
        for folder in sorted(dest.glob("partition-*"))
    ]


def told(url: str, partitions: int) -> list[list[bytes]]:
    with closing(HttpRecords(url)) as records:
        return [
            [row[0] for page in records.read(partition, end) for row in page]
            for partition, end in enumerate(records.ends()[:partitions])
        ]


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_service_in_use_is_exported_from_its_folder_and_goes_on_over_http(tmp_path: Path, kind: str) -> None:
    data, dest = tmp_path / "data", tmp_path / "dest"
    with Service(data, PARTITIONS="2") as service:
        post(service, some_commands(0, 300))
        first = run(dest, "--data", str(data), "--format", kind)
        assert first.returncode == 0, first
        assert "exported 600 events" in first.stdout
        post(service, some_commands(300, 100))
        second = run(dest, "--url", service.url, "--format", kind)
        assert second.returncode == 0, second
        assert "exported 200 events" in second.stdout
        assert "now has 800 events of 2 partitions" in second.stdout
        assert exported(dest, kind) == told(service.url, 2)


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_killed_at_any_moment_it_goes_on_and_loses_and_doubles_nothing(tmp_path: Path, kind: str) -> None:
    data, dest = tmp_path / "data", tmp_path / "dest"
    with Service(data, PARTITIONS="2") as service:
        for start in range(0, 3_000, 500):
            post(service, some_commands(start, 500))
        expected = told(service.url, 2)
    arguments = ("--data", str(data), "--format", kind, "--file-events", "20")
    chance = random.Random(7)
    killed = 0
    for _ in range(8):
        process = subprocess.Popen(command(dest, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = len(list(dest.rglob("*")))
        while process.poll() is None and len(list(dest.rglob("*"))) <= files + chance.randrange(40):
            time.sleep(0.002)
        process.kill()
        killed += process.wait() != 0
    assert killed, "no run was killed in the middle"
    done = run(dest, *arguments)
    assert done.returncode == 0, done
    assert exported(dest, kind) == expected
    assert not list(dest.rglob("*.tmp"))


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_full_disk_is_one_message_and_what_is_whole_stays(tmp_path: Path, small_disk: Path, kind: str) -> None:
    data, dest = tmp_path / "data", small_disk / "dest"
    with Service(data, PARTITIONS="1") as service:
        for start in range(0, 2_500, 500):
            post(service, some_commands(start, 500))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_600_000))
    arguments = ("--data", str(data), "--format", kind, "--file-events", "200")
    done = run(dest, *arguments)
    assert done.returncode == 1, done
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(dest.rglob("*.tmp"))
    (whole,) = exported(dest, kind)
    assert whole
    ballast.unlink()
    done = run(dest, *arguments)
    assert done.returncode == 0, done
    assert len(exported(dest, kind)[0]) == 5_000


def test_without_pyarrow_the_program_says_how_to_install_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from api.cli.main import main; main()"
    arguments = ["audit", "export", str(tmp_path / "dest"), "--data", str(tmp_path), "--format", "parquet"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("stakelog audit export: Parquet needs pyarrow")
    assert len(done.stderr.splitlines()) == 1
