"""`stakelog audit reconcile` as an auditor runs it: over HTTP, with a folder's log, against reads right and wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from projections.recomputed import Document
from system.service import Service
from system.told_service import Answer, serving
from unit.folders import story_records, write_log
from unit.told_reads import ToldReads

pytestmark = pytest.mark.system

UNAVAILABLE = Answer(503, {"code": "overloaded"}, retry_after="0")


def reconcile(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", "audit", "reconcile", *arguments], capture_output=True, text=True, check=False
    )


def test_reads_that_are_right_are_well_over_http_and_against_a_folder(tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", story_records())
    with serving(ToldReads(story_records())) as told:
        for more in ((), ("--data", str(data))):
            told.connections.clear()
            done = reconcile("--url", told.url, *more)
            assert done.returncode == 0, done
            assert done.stderr == ""
            assert done.stdout.splitlines()[-1].startswith("well: 0 differences in ")
            assert "about 8 wallets, held against 85 events in 4 partitions" in done.stdout
            assert "money supply of INR, in minor units:\n  wallets/bonus" in done.stdout
            assert "house/deposits" in done.stdout
            assert len(told.connections) < 20, "connections are kept alive"


def test_each_wallet_and_member_that_differs_is_named(tmp_path: Path) -> None:
    reads = ToldReads(story_records())

    def altered(read: str, user_id: str, answer: Document | None) -> Document | None:
        if (read, user_id) == ("stats", "alice"):
            assert answer is not None
            answer["totals"][0]["staked"] += 1
        return answer

    reads.altered = altered
    with serving(reads) as told:
        done = reconcile("--url", told.url)
        assert done.returncode == 1, done
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("DIFFERS")]
        assert line.startswith("DIFFERS alice stats totals[0].staked as of 1:")
        assert line.endswith("expected 3200, found 3201")
        assert "NOT well: 1 differences" in done.stdout
        assert reconcile("--url", told.url, "--user", "bob").returncode == 0
        assert reconcile("--url", told.url, "--user", "alice").returncode == 1


def test_a_service_that_is_busy_is_asked_again() -> None:
    with serving(ToldReads(story_records())) as told:
        told.fail_next = [UNAVAILABLE] * 3
        done = reconcile("--url", told.url)
        assert done.returncode == 0, done
        assert told.fail_next == []


def test_reads_that_stay_behind_are_waited_for_and_said() -> None:
    reads = ToldReads(story_records())
    reads.ends = {1: 30}
    with serving(reads) as told:
        done = reconcile("--url", told.url, "--wait", "0.5")
    assert done.returncode == 1, done
    assert "the reads of partition 1 are at seq 30" in done.stderr
    assert "BEHIND the reads of partition 1" in done.stdout
    assert "DIFFERS" not in done.stdout


def test_a_log_that_cannot_be_followed_is_one_message(tmp_path: Path) -> None:
    records = story_records()
    records[1][3] = records[1][3].replace(b'"referral_counted"', b'"of_tomorrow"')
    data = write_log(tmp_path / "data", records)
    with serving(ToldReads(story_records())) as told:
        done = reconcile("--url", told.url, "--data", str(data))
    assert done.returncode == 1, done
    assert "1:4 is of type of_tomorrow" in done.stderr
    assert "Traceback" not in done.stderr


def assert_one_message(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_said_plainly(tmp_path: Path) -> None:
    two = write_log(tmp_path / "two", [[], []])
    assert_one_message(reconcile(), "--url is missing")
    assert_one_message(reconcile("--url", "http://127.0.0.1:1"), "cannot be read as a stakelog service")
    assert_one_message(reconcile("--url", "nonsense"), "is not an address")
    with serving(ToldReads(story_records())) as told:
        assert_one_message(reconcile("--url", told.url, "--data", str(two)), "do not belong together")
        assert_one_message(reconcile("--url", told.url, "--data", str(tmp_path)), "there is no event log")
        assert_one_message(reconcile("--url", told.url, "--user", "stranger"), "no event of 1 of the wallets")
        told.fail_next = [Answer(500, {"code": "internal_error"})]
        assert_one_message(reconcile("--url", told.url), "answered 500")
        told.fail_next = [Answer(200, b"<html>")]
        assert_one_message(reconcile("--url", told.url), "answered 200: <html>")


def test_a_service_without_such_reads_is_named(tmp_path: Path) -> None:
    """Until the routes are there, the real service answers 404: that is said, and is no difference."""
    reads = ToldReads(story_records())

    def altered(read: str, _user_id: str, answer: Document | None) -> Document | None:
        if read == "stats":
            raise Answer(404, {"code": "not_found"})
        return answer

    reads.altered = altered
    with serving(reads) as told:
        assert_one_message(reconcile("--url", told.url), "/stats of")
    with Service(tmp_path / "data", PARTITIONS="2") as service:
        done = reconcile("--url", service.url)
        assert done.returncode == 0, "an empty log has nobody to ask about"
