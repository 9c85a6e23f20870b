"""``stakelog bench`` as a person runs it: a table, and a JSON file with the figures it shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
