"""The commands of `docs/production.md`, run as they are written, in one shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.server import free_port

pytestmark = pytest.mark.system
PAGE = Path(__file__).parents[2] / "docs" / "production.md"


def test_the_page_leads_from_a_first_start_to_a_revoked_client(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = "\n".join(["set -o pipefail", *blocks])
    everywhere = "STAKELOG_HOST=0.0.0.0"
    for written, here in (
        (everywhere, "STAKELOG_HOST=127.0.0.1"),
        ("8443", str(free_port())),
        ("9090", str(free_port())),
    ):
        assert written in script
        script = script.replace(written, here)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=inherited | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    log = (tmp_path / "ledger" / "log.txt").read_text()
    assert done.returncode == 0, (done.stdout, done.stderr, log)
    responses = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    clients, opened, deposited, refused, wallet, others = responses[:6]
    assert [client["client_id"] for client in clients["items"]] == ["admin"]
    assert (opened["type"], deposited["type"]) == ("wallet_opened", "deposited")
    assert (refused["code"], refused["needs"]) == ("forbidden", ["operator"])
    assert wallet["balances"]["INR"]["cash"] == 10_000
    assert others["code"] == "forbidden"
    assert "SIGHUP: new connections get the certificate" in log
    assert log.endswith("INFO stopped\n")
    assert "Traceback" not in log
    for secret in (tmp_path / "ledger").glob("*.json"):
        assert secret.stat().st_mode & 0o077 == 0
    secrets = [(tmp_path / "ledger" / "admin.secret").read_text().strip()]
    assert not [secret for secret in secrets if secret in log]
