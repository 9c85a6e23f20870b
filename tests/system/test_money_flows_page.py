"""The examples of `docs/money-flows.md`, run as they are written, in one shell."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.server import free_port

pytestmark = pytest.mark.system
PAGE = Path(__file__).parents[2] / "docs" / "money-flows.md"


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Heading of a section → the responses of its examples, in order."""
    folder = tmp_path_factory.mktemp("money-flows")
    script = "\n".join(["set -eo pipefail", *_script()]).replace("8080", str(free_port()))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=inherited | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr, (folder / "log.txt").read_text())
    assert "Traceback" not in (folder / "log.txt").read_text()
    found: dict[str, list[dict[str, Any]]] = {}
    heading = ""
    for line in done.stdout.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        else:
            found.setdefault(heading, []).append(json.loads(line))
    return found


def _script() -> Iterator[str]:
    """The examples, each after the heading of its section."""
    for section in PAGE.read_text().split("\n## "):
        heading = section.partition("\n")[0]
        yield f"echo '## {heading}'"
        yield from re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_registration(responses: dict[str, list[dict[str, Any]]]) -> None:
    opened, wallet = responses["Registration"]
    assert opened["type"] == "wallet_opened"
    assert wallet["balances"]["INR"]["bonus"] == 2_500
    assert wallet["wagering"] == {"INR": {"required": 2_500, "done": 0, "remaining": 2_500}}


def test_first_deposit(responses: dict[str, list[dict[str, Any]]]) -> None:
    deposited, again = responses["First deposit"]
    assert deposited == again
    assert (deposited["data"]["first_deposit"], deposited["data"]["wagering"]) == (True, 30_000)


def test_attendance(responses: dict[str, list[dict[str, Any]]]) -> None:
    claimed, refused = responses["Attendance"]
    assert (claimed["data"]["streak"], claimed["data"]["amount"]) == (1, 700)
    assert (refused["status"], refused["code"]) == (409, "already_claimed")


def test_wagering(responses: dict[str, list[dict[str, Any]]]) -> None:
    refused, _, settled, wallet = responses["Wagering"]
    assert (refused["code"], refused["remaining"]) == ("wagering_incomplete", 39_200)
    assert settled["type"] == "bet_settled"
    assert wallet["wagering"] == {"INR": {"required": 39_200, "done": 39_200, "remaining": 0}}


def test_bounds_of_withdrawals(responses: dict[str, list[dict[str, Any]]]) -> None:
    refused, requested = responses["Bounds of withdrawals"]
    assert (refused["status"], refused["code"]) == (422, "withdrawal_out_of_bounds")
    assert requested["type"] == "withdrawal_requested"


def test_expiry(responses: dict[str, list[dict[str, Any]]]) -> None:
    (grants,) = responses["Expiry"]
    kinds = {grant["kind"]: grant for grant in grants["items"]}
    assert kinds.keys() == {"registration", "first_deposit", "attendance"}
    for grant in kinds.values():
        assert grant["expires_at_us"] == grant["created_at_us"] + 604_800_000_000
