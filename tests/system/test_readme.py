"""The README's first paste, run as it is written."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from system.service import Service

pytestmark = pytest.mark.system
README = Path(__file__).parents[2] / "README.md"


def test_the_first_paste_prints_the_balance_after_the_last_bet(tmp_path: Path) -> None:
    paste = next(
        block for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL) if "post()" in block
    )
    until_the_balance = paste[: paste.index("\n", paste.index("/v1/wallets/ada?"))]
    with Service(tmp_path / "data") as service:
        script = until_the_balance.replace("localhost:8080", f"127.0.0.1:{service.port}")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(done.stdout.splitlines()[-1])["balances"]["INR"]["cash"] == 10_480
        assert f"created a new ledger in {tmp_path / 'data'}" in service.log_text()


def test_make_run_serves_on_the_named_port() -> None:
    done = subprocess.run(
        ["make", "-n", "run", "PORT=9123"], cwd=README.parent, capture_output=True, text=True, check=True
    )
    assert "STAKELOG_PORT=9123" in done.stdout


def test_setting_up_without_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((README.parent / name).read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(
        "#!/bin/sh\necho 'WARNING: Retrying after connection broken by NewConnectionError' >&2\n"
        "echo 'ERROR: Could not find a version' >&2\nexit 1\n"
    )
    python.chmod(0o755)
    done = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith(("make: ***", "make["))]
    assert said == [
        "make setup: the package index cannot be reached; connect to the network, or name a mirror in PIP_INDEX_URL"
    ]
