"""`stakelog demo` as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from demo.house_rules import HOUSE
from system.service import Service

pytestmark = pytest.mark.system


def demo(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", "demo", *options],
        env=os.environ | {"COLUMNS": "140"} | settings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def well(report: str) -> set[str]:
    """The checks that looked at something and found nothing wrong."""
    return {
        match[1].strip() for match in re.finditer(r"^│ ([a-z ]+)│ (?!0 )[^│]+│ nothing wrong", report, re.MULTILINE)
    }


def test_a_quick_day_ends_with_no_difference() -> None:
    done = demo("--quick", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 differences" in done.stdout
    assert all(game in done.stdout for game in ("wingo_3s", "trx_wix_4s", "k3_4s", "5d_5s", "all games"))
    assert "by the rules betting-house.json; commissions for each bet" in done.stdout
    given = re.findall(r"^│ (bonus: [a-z ]+|commissions, to referrers) +│ +[1-9]", done.stdout, re.MULTILINE)
    kinds = ("registration", "first deposit", "attendance", "invitation", "by a command", "gift")
    assert {name.strip() for name in given} == {*(f"bonus: {kind}" for kind in kinds), "commissions, to referrers"}
    assert well(done.stdout) >= {
        "periods of games",
        "reads during the day",
        "reads of every wallet",
        "accounts of the house",
        "audit reconcile",
        "audit verify",
    }


def test_the_smallest_day_is_whole_and_a_row_changed_by_hand_fails_the_next_one_by_its_last_check(
    tmp_path: Path,
) -> None:
    done = demo("--quick", "--users", "20", "--commands", "200", "--data", str(tmp_path / "day"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines()]
    of = {row[0]: row[1:] for row in rows if len(row) > 1}
    assert int(of["withdrawals approved"][0]) >= 1
    assert int(of["withdrawals rejected"][0]) >= 1
    for game in ("wingo_3s", "trx_wix_4s", "k3_4s", "5d_5s"):
        assert of[game][:2] == ["2", "1"], "periods, of them cancelled"
    assert (of["users"], of["players of the games, besides"]) == (["20"], ["120"])
    assert "The block headers of trx_wix_4s are made up" in done.stdout
    margins = [float(margin) for margin in re.findall(r"± ([0-9.]+)%", done.stdout)]
    assert max(margins, default=0.0) <= 50
    assert (tmp_path / "day" / "events.sqlite3").exists()

    with closing(sqlite3.connect(tmp_path / "day" / "read-model.sqlite3")) as rows_of_all, rows_of_all:
        changed = rows_of_all.execute(
            "UPDATE asset_g1 SET cash = cash + 7 WHERE user_id = 'u00000' AND asset = 'INR'"
        )
        assert changed.rowcount == 1
    second = demo("--quick", "--users", "20", "--commands", "100", "--data", str(tmp_path / "day"))
    assert second.returncode == 1, second.stdout + second.stderr
    assert well(second.stdout) == well(done.stdout) - {"audit reconcile"}, "all else of a second day is well"
    assert re.search(r"audit reconcile: .*u00000.*cash", second.stdout)
    assert set(re.findall(r"audit reconcile: .*?\b(u\d{5})\b", second.stdout)) == {"u00000"}


@pytest.mark.parametrize(
    ("settings", "rules"),
    [({}, "none: the service has no money flows"), ({"RULES": str(HOUSE)}, "commissions by the day")],
    ids=["without money flows", "by the rules of the betting house"],
)
def test_a_day_is_played_and_reconciled_against_a_service_that_runs_already(
    tmp_path: Path, settings: dict[str, str], rules: str
) -> None:
    with Service(tmp_path / "data", **settings) as service:
        done = demo("--quick", "--users", "20", "--commands", "100", "--url", service.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "audit reconcile" in well(done.stdout)
    assert rules in done.stdout


def test_no_service_at_the_url_is_wrong_use_and_one_line() -> None:
    done = demo("--url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == ["stakelog demo: no service is ready at http://127.0.0.1:9"]


def test_options_that_exclude_each_other_are_wrong_use(tmp_path: Path) -> None:
    done = demo("--url", "http://127.0.0.1:9", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_day_stops_the_service_and_removes_its_folder(tmp_path: Path, sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "api", "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline_s = time.monotonic() + 60
        while not any(tmp_path.glob("stakelog-demo-*/data/*")) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        running.send_signal(sent)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.glob("stakelog-demo-*")) == []
