"""The warnings of a service and of a worker whose commissions and bonuses can cost more than the games win."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from system.service import Service
from system.test_games import call

pytestmark = pytest.mark.system
RULES = {"money": {"INR": {"registration": 2_500, "wagering": {"bonus": 20}}}}  # 5 %; K3 wins 5.86 %
WARNS = (
    "WARNING trx_wix_10m, trx_wix_1m, trx_wix_30s and 7 more games, INR: the house can lose. Of a stake on big, ",
    "WARNING 5d_10m, 5d_1m, 5d_30s and 2 more games, INR: the house can lose. Of a stake on A:big, ",
)
"""One line for all games with the same figures."""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    return path


def test_a_service_warns_at_its_start_and_of_each_game_in_its_reads_of_the_house(
    tmp_path: Path, rules_file: Path
) -> None:
    with Service(tmp_path / "data", PARTITIONS="4", RULES=str(rules_file)) as service:
        _, house = call(service, "GET", "/v1/house?asset=INR")
        warnings: list[dict[str, Any]] = house["warnings"]
        lines = service.log_text().splitlines()
    assert len(warnings) == 15, "three kinds of games in five lengths"
    for warning in warnings:
        assert warning["message"].startswith(f"{warning['game']}, INR: the house can lose.")
    for line in WARNS:
        assert sum(line in written for written in lines) == 1
    assert sum("the house can lose" in line for line in lines) == len(WARNS)


def test_a_service_without_money_flows_warns_of_nothing(tmp_path: Path) -> None:
    with Service(tmp_path / "data", PARTITIONS="4") as service:
        assert "the house can lose" not in service.log_text()


def test_a_worker_warns_before_it_connects(tmp_path: Path, rules_file: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    settings = {"LOG": "kafka://127.0.0.1:1", "DATA": str(tmp_path / "data"), "RULES": str(rules_file)}
    settings |= {"READ_MODEL": "postgresql://stakelog@127.0.0.1:1/stakelog"}
    ours = {f"STAKELOG_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "api", "project", "--no-check"]
    with subprocess.Popen(command, env=inherited | ours, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        found = [line for _, line in zip(WARNS, worker.stderr, strict=False)]
        worker.terminate()
    assert all("the house can lose" in line for line in found), found
    assert all(any(line in written for written in found) for line in WARNS)
