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
from ledger.core.games.rules import built_in_games

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


def test_when_the_house_can_lose(responses: dict[str, list[dict[str, Any]]]) -> None:
    (house,) = responses["When the house can lose"]
    assert {warning["game"] for warning in house["warnings"]} == set(built_in_games())


def test_gifts(responses: dict[str, list[dict[str, Any]]]) -> None:
    created, claimed, received, closed, gift = responses["Gifts"]
    assert [created["type"], claimed["type"], closed["type"]] == ["gift_created", "gift_claimed", "gift_closed"]
    assert (received["type"], received["user_id"]) == ("gift_received", "ada")
    assert (received["data"]["code"], received["data"]["amount"]) == ("diwali", 33_334)
    assert (gift["claimed"], gift["claims"], gift["status"]) == (1, 3, "closed")


def test_referral_codes(responses: dict[str, list[dict[str, Any]]]) -> None:
    claimed, granted, opened, referrer = responses["Referral codes"]
    assert claimed["type"] == "referral_code_claimed"
    assert (granted["type"], granted["user_id"], granted["data"]["code"]) == ("referral_code_granted", "ada", "ADA")
    assert (opened["type"], opened["data"]["referral_code"]) == ("wallet_opened", "ADA")
    assert (referrer["type"], referrer["user_id"], referrer["data"]["referrer_id"]) == (
        "referrer_set",
        "grace",
        "ada",
    )


def test_valid_referrals_and_the_invitation(responses: dict[str, list[dict[str, Any]]]) -> None:
    deposited, valid, invitation = responses["Valid referrals"]
    assert deposited["data"]["referral_rules"] == deposited["data"]["rules"]
    assert (valid["type"], valid["user_id"], valid["data"]["member"]) == ("referral_valid", "ada", "grace")
    assert (invitation["type"], invitation["data"]["kind"]) == ("bonus_granted", "invitation")
    assert (invitation["seq"], invitation["data"]["amount"]) == (valid["seq"] + 1, 5_500)


def test_commissions(responses: dict[str, list[dict[str, Any]]]) -> None:
    placed, settled, paid = responses["Commissions"]
    assert placed["type"] == "bet_placed"
    assert settled["data"]["commission_at_us"] == settled["time_us"], "per_bet: due at once"
    assert (paid["type"], paid["user_id"], paid["data"]["member"]) == ("commission_paid", "ada", "grace")
    assert (paid["data"]["stake"], paid["data"]["level"], paid["data"]["rate_e9"]) == (10_000, 1, 6_000_000)
    assert paid["data"]["amount"] == 60


def test_agent_levels(responses: dict[str, list[dict[str, Any]]]) -> None:
    level_set, placed, settled, paid = responses["Agent levels"]
    assert (level_set["type"], level_set["data"]["level"]) == ("agent_level_set", 1)
    assert [placed["type"], settled["type"]] == ["bet_placed", "bet_settled"]
    assert (paid["type"], paid["user_id"], paid["data"]["rate_e9"]) == ("commission_paid", "ada", 7_000_000)
    assert (paid["data"]["stake"], paid["data"]["amount"]) == (20_000, 140)


def test_every_section_with_examples_is_checked(responses: dict[str, list[dict[str, Any]]]) -> None:
    checked = re.findall(r'responses\["([^"]+)"\]', Path(__file__).read_text())
    assert sorted(checked) == sorted(responses)
