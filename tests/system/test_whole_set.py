"""The whole set, as `make up` starts it: a day is played against it while its parts are killed, and reconciles."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FIRST_PORT = 31_100


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of a set that is up. One that the database's own user may enter."""
    made = Path(tempfile.mkdtemp(prefix="stakelog-set-"))
    made.chmod(0o755)
    try:
        up = local("up", "--folder", str(made), "--port", str(FIRST_PORT))
        assert up.returncode == 0, up
        yield made
    finally:
        local("down", "--folder", str(made))
        shutil.rmtree(made, ignore_errors=True)


def kill(folder: Path, part: str, number: signal.Signals) -> None:
    parts = json.loads((folder / "running.json").read_text())["parts"]
    os.kill(parts[part][1], number)


def test_a_day_reconciles_although_nodes_and_a_worker_are_killed_meanwhile(folder: Path) -> None:
    url = f"http://127.0.0.1:{FIRST_PORT}"
    admin = folder / "secrets" / "admin.json"
    assert admin.stat().st_mode & 0o077 == 0, "others may read the secret"
    where = ["--url", url, "--login", str(admin)]
    with subprocess.Popen(
        [sys.executable, "-m", "api", "demo", "--users", "60", "--commands", "1500", *where],
        env=os.environ | {"COLUMNS": "140"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as playing:
        for part, number in (("node-2", signal.SIGKILL), ("worker-1", signal.SIGKILL), ("node-1", signal.SIGTERM)):
            time.sleep(4)  # any moment of the day will do
            kill(folder, part, number)
        said, _ = playing.communicate()
    assert playing.returncode == 0, said
    assert " 0 differences. All is well." in said
