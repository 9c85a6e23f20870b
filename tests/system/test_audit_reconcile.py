"""`stakelog audit reconcile` as an auditor runs it: over HTTP, with a folder's log, against reads right and wrong."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from ledger.sqlite.folder import READ_MODEL
from projections.auditing.oracle import Document
from system.fake_service import Answer, serving
from system.players import HOLD_MAX_S, Crowd
from system.service import Service
from unit.fake_reads import FakeReads
from unit.folders import scenario_counts, scenario_records, write_log
from unit.read_model import ReadModel

pytestmark = pytest.mark.system

COUNTS = scenario_counts()
UNAVAILABLE = Answer(503, {"code": "overloaded"}, retry_after="0")


def reconcile(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", "audit", "reconcile", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_silent(done: "subprocess.CompletedProcess[str]") -> None:
    """But for its progress, which a busy machine brings about."""
    assert [line for line in done.stderr.splitlines() if not line.startswith("reconciling: ")] == [], done


def test_reads_that_are_right_are_well_over_http_and_against_a_folder(tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    with serving(FakeReads(scenario_records())) as told:
        for more in ((), ("--data", str(data))):
            told.connections.clear()
            done = reconcile("--url", told.url, *more)
            assert done.returncode == 0, done
            assert_silent(done)
            assert done.stdout.splitlines()[-1].startswith("well: 0 differences in ")
            assert (
                f"about {COUNTS.wallets} wallets, compared with {COUNTS.events} events in 4 partitions" in done.stdout
            )
            assert f"; {COUNTS.orders} orders in the queue and 18 leaderboards compared; " in done.stdout
            assert re.search(r"; [1-9]\d* periods and [1-9]\d* items of the house compared$", done.stdout.rstrip())
            assert "money supply of INR, in minor units:\n  wallets/bonus" in done.stdout
            assert "house/deposits" in done.stdout
            assert len(told.connections) < 20, "connections are kept alive"


def test_each_wallet_and_member_that_differs_is_named(tmp_path: Path) -> None:
    reads = FakeReads(scenario_records())

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
        assert line.endswith("expected 9000, found 9001")
        assert "NOT well: 1 differences" in done.stdout
        assert reconcile("--url", told.url, "--user", "bob").returncode == 0
        assert reconcile("--url", told.url, "--user", "alice").returncode == 1


def test_a_service_at_work_is_reconciled_as_of_each_response(tmp_path: Path) -> None:
    with Service(tmp_path / "data", PARTITIONS="2") as service:
        done, accepted = asyncio.run(_reconciled_under_load(service))
    assert done.returncode == 0, done
    assert "well: 0 differences" in done.stdout
    assert accepted > 100, "there was no load to speak of"


async def _reconciled_under_load(service: Service) -> tuple[subprocess.CompletedProcess[str], int]:
    """What was said, and how many commands were accepted while it was made."""
    crowd = Crowd(service, seed=5, clients=4, patient=True)
    playing = asyncio.create_task(crowd.play())
    async with asyncio.timeout(60):
        while not any(sent.acceptances for sent in crowd.sent):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.05)
    before = sum(len(sent.acceptances) for sent in crowd.sent)
    reconciling = asyncio.create_task(asyncio.to_thread(reconcile, "--url", service.url))
    async with asyncio.timeout(60):
        while (accepted := sum(len(sent.acceptances) for sent in crowd.sent) - before) <= 100:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    crowd.stop = True
    await playing
    return await reconciling, accepted


def test_a_request_to_a_busy_service_is_repeated() -> None:
    with serving(FakeReads(scenario_records())) as told:
        told.fail_next = [UNAVAILABLE] * 3
        done = reconcile("--url", told.url)
        assert done.returncode == 0, done
        assert told.fail_next == []


def test_reads_that_stay_behind_are_waited_for_and_said() -> None:
    reads = FakeReads(scenario_records())
    reads.ends = {1: 30}
    with serving(reads) as told:
        done = reconcile("--url", told.url, "--wait", "0.5")
    assert done.returncode == 1, done
    assert "the reads of partition 1 are at seq 30" in done.stderr
    assert "BEHIND the reads of partition 1" in done.stdout
    assert "DIFFERS" not in done.stdout


def test_a_log_that_cannot_be_followed_is_one_message(tmp_path: Path) -> None:
    records = scenario_records()
    records[1][3] = records[1][3].replace(b'"referral_counted"', b'"of_tomorrow"')
    data = write_log(tmp_path / "data", records)
    with serving(FakeReads(scenario_records())) as told:
        done = reconcile("--url", told.url, "--data", str(data))
    assert done.returncode == 1, done
    assert "1:4 is of type of_tomorrow" in done.stderr
    assert "Traceback" not in done.stderr


def assert_one_message(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_one_message(tmp_path: Path) -> None:
    two = write_log(tmp_path / "two", [[], []])
    assert_one_message(reconcile("--data", str(tmp_path / "none")), "there is no event log")
    assert_one_message(reconcile("--data", str(two)), "there is no read model")
    assert_one_message(reconcile("--url", "http://127.0.0.1:1"), "cannot be read as a stakelog service")
    assert_one_message(reconcile("--url", "nonsense"), "is not an address")
    with serving(FakeReads(scenario_records())) as told:
        assert_one_message(reconcile("--url", told.url, "--data", str(two)), "do not belong together")
        assert_one_message(reconcile("--url", told.url, "--data", str(tmp_path)), "there is no event log")
        assert_one_message(reconcile("--url", told.url, "--user", "stranger"), "no event of 1 of the wallets")
        told.fail_next = [Answer(502, b"<html>", content_type="text/html")]
        assert_one_message(reconcile("--url", told.url), "returned status 502: <html>")
        told.fail_next = [Answer(200, b"<html>", content_type="text/html")]
        assert_one_message(reconcile("--url", told.url), "returned status 200: <html>")


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (Answer(500, {"code": "internal_error", "request_id": "r1"}), "r1"),
        (Answer(400, {"code": "malformed_request", "field": "cursor"}), "cursor"),
        (Answer(200, b'{"items":[{"data":{"x"}]}'), "it is not JSON"),
        (Answer(200, b"[" * 100_000), "it is not JSON"),
    ],
)
def test_a_read_that_is_broken_is_a_difference_and_the_others_are_compared(instead: Answer, said: str) -> None:
    reads = FakeReads(scenario_records())

    def altered(read: str, user_id: str, answer: Document | None) -> Document | None:
        if (read, user_id) == ("history", "alice"):
            raise instead
        return answer

    reads.altered = altered
    with serving(reads) as told:
        done = reconcile("--url", told.url)
    assert done.returncode == 1, done
    assert_silent(done)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("DIFFERS")]
    assert line.startswith("DIFFERS alice history (all) as of 1:")
    assert 'expected "a page", found "unreadable: ' in line
    assert said in line
    assert f"about {COUNTS.wallets} wallets" in done.stdout


def test_rows_that_were_broken_by_hand_are_named_by_service_and_folder_alike(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS="2")
    with service:
        crowd = Crowd(service, seed=11, clients=3, patient=True)

        async def play() -> None:
            playing = asyncio.create_task(crowd.play())
            await asyncio.sleep(1.5)
            crowd.stop = True
            await playing

        asyncio.run(play())
        assert reconcile("--url", service.url).returncode == 0
        for change in BROKEN:
            with closing(sqlite3.connect(service.data / READ_MODEL, timeout=30)) as connection, connection:
                assert connection.execute(change).rowcount > 0, change
        over_http = reconcile("--url", service.url)
        in_folder = reconcile("--data", str(service.data))
    for done in (over_http, in_folder):
        assert done.returncode == 1, done
        assert_silent(done)
        for read in (" history ", " stats ", " wallet "):
            assert any(read in line and "unreadable" in line for line in done.stdout.splitlines()), (read, done)
        assert " orders items[" in done.stdout
        assert " leaderboards/staked_day?" in done.stdout
    assert "DIFFERS mallory rows (all)" in in_folder.stdout


BROKEN = (
    """UPDATE history_g1 SET data = '{"x"'""",
    "UPDATE statistics_g1 SET staked = 'abc'",
    "UPDATE asset_g1 SET cash = 'abc'",
    "UPDATE standing_g1 SET day_staked_low = day_staked_low + 1",
    "UPDATE orders_g1 SET user_id = 'mallory' WHERE (user_id, order_id) = (SELECT user_id, order_id FROM orders_g1)",
)


def test_an_empty_log_beside_a_filled_read_model_is_not_well(tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", [[], [], [], []])
    asyncio.run(ReadModel.folded(data, scenario_records()))
    done = reconcile("--data", str(data))
    assert done.returncode == 1, done
    assert_silent(done)
    for partition in range(4):
        assert f"DIFFERS partition:{partition} checkpoint seq as of {partition}:" in done.stdout


def test_a_read_that_the_service_does_not_have_is_named(tmp_path: Path) -> None:
    reads = FakeReads(scenario_records())

    def altered(read: str, _user_id: str, answer: Document | None) -> Document | None:
        if read == "stats":
            raise Answer(404, {"code": "not_found"})
        return answer

    reads.altered = altered
    with serving(reads) as told:
        assert_one_message(reconcile("--url", told.url), "/stats of")
    with Service(tmp_path / "data", PARTITIONS="2") as service:
        done = reconcile("--url", service.url)
        assert done.returncode == 0, "an empty log has no wallet to compare"


def test_a_folder_is_reconciled_in_use_and_at_rest_and_each_row_that_was_changed_by_hand_is_named(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path / "data", PARTITIONS="2")
    with service:
        crowd = Crowd(service, seed=7, clients=3, patient=True)

        async def play() -> None:
            playing = asyncio.create_task(crowd.play())
            await asyncio.sleep(1.5)
            in_use = await asyncio.to_thread(reconcile, "--data", str(service.data))
            crowd.stop = True
            await playing
            assert in_use.returncode == 0, in_use

        asyncio.run(play())
        done = reconcile("--url", service.url)
        assert done.returncode == 0, done
        time.sleep(HOLD_MAX_S)  # a hold that expires just before the stop is in the log, and not yet in the reads
    done = reconcile("--data", str(service.data))
    assert done.returncode == 0, done
    by_hand = [
        (
            "UPDATE asset_g1 SET cash = 1 + cash WHERE (user_id, asset) = (SELECT user_id, asset FROM asset_g1)",
            "cash",
        ),
        (
            "UPDATE account_g1 SET debited = debited || '0' WHERE account = 'house/deposits'",
            "house/deposits accounts",
        ),
        ("UPDATE house_g1 SET staked_low = staked_low + 1 WHERE game = 'external'", "house?asset="),
        ("DELETE FROM bet_g1 WHERE (user_id, bet_id) = (SELECT user_id, bet_id FROM bet_g1)", "bets"),
    ]
    for change, named in by_hand:
        copy = Path(shutil.copytree(service.data, tmp_path / f"copy-{named}".replace("/", "-")))
        with closing(sqlite3.connect(copy / READ_MODEL)) as connection, connection:
            assert connection.execute(change).rowcount > 0, change
        done = reconcile("--data", str(copy))
        assert done.returncode == 1, (change, done)
        assert named in done.stdout, (change, done.stdout)
