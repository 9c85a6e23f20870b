"""`stakelog project rebuild`: with a busy service, killed and run again, with other folds, on damage."""

import fcntl
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from ledger.sqlite.folder import EVENTS, READ_MODEL, REBUILD_LOCK
from sqlite_log import damage
from system.read_side import (
    assert_true_of_the_log,
    command,
    ends,
    environment,
    folded,
    gone,
    live,
    program,
    until,
)
from system.service import Service
from system.test_follower_process import betting, post, service_of

pytestmark = pytest.mark.system

SEED: Final = 20_261_124


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose log takes some seconds to fold, and a read model of all of it."""
    folder = tmp_path_factory.mktemp("long") / "data"
    service = service_of(folder)
    with service:
        write_many(service)
        until(lambda: folded(folder))
    return folder


@pytest.fixture
def data(long_log: Path, tmp_path: Path) -> Path:
    shutil.copytree(long_log, tmp_path / "data")
    return tmp_path / "data"


def write_many(service: Service, users: int = 300, bets: int = 20) -> None:
    """Wallets, and their bets, half of them lost."""
    names = [f"u{number}" for number in range(users)]
    post(service, *({"type": "open_wallet", "command_id": "open", "user_id": name} for name in names))
    money = {"order_id": "o", "asset": "INR", "amount": 1_000_000}
    post(service, *({"type": "deposit", "command_id": "d", "user_id": name, **money} for name in names))
    for number in range(bets):
        bet = {"bet_id": f"b{number}"}
        stake = {"game": "external", "period": f"p{number}", "selection": "red", "asset": "INR", "stake": 10}
        placed = (
            {"type": "place_bet", "command_id": f"p{number}", "user_id": name, **bet, **stake} for name in names
        )
        post(service, *placed)
        paid = {"payout": 19 * (number % 2)}
        post(
            service, *({"type": "settle_bet", "command_id": f"s{number}", "user_id": n, **bet, **paid} for n in names)
        )


def generations(data: Path) -> list[tuple[int, int, str]]:
    with closing(sqlite3.connect(data / READ_MODEL, timeout=20)) as connection:
        return connection.execute("SELECT generation, fold_version, status FROM generation ORDER BY 1").fetchall()


def tables_of(data: Path) -> set[str]:
    with closing(sqlite3.connect(data / READ_MODEL, timeout=20)) as connection:
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name for (name,) in found}


def change_rows(data: Path, sql: str) -> None:
    with closing(sqlite3.connect(data / READ_MODEL, isolation_level=None, timeout=20)) as connection:
        connection.execute(sql)


def rebuild(data: Path, *arguments: str, other_folds: str | None = None) -> "subprocess.CompletedProcess[str]":
    done = program(data, "project", "rebuild", *arguments, other_folds=other_folds)
    assert "Traceback" not in done.stderr, done.stderr
    return done


# --- beside the service -----------------------------------------------------------------------------------------


def test_a_rebuild_under_load_takes_the_place_of_the_live_tables(data: Path, tmp_path: Path) -> None:
    """The live heads, read all the time, never go back."""
    service = service_of(data)
    with service:
        with betting(service):
            process = subprocess.Popen(
                [*command(), "project", "rebuild"],
                env=environment(data),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            seen = live(data)
            while process.poll() is None or live(data)[0] == seen[0] == 1:
                now = live(data)
                assert all(after >= before for before, after in zip(seen[1], now[1], strict=True)), (seen, now)
                seen = now
            output, errors = process.communicate()
            assert process.returncode == 0, errors
            assert b"generation 2 is live: " in output
        until(lambda: folded(data))
        assert [(number, status) for number, _, status in generations(data)] == [(2, "live")]
        assert not [name for name in tables_of(data) if name.endswith("_g1")]
        until(lambda: "following into generation 2" in service.log_text())
    assert "Traceback" not in service.log_text()
    assert_true_of_the_log(data, tmp_path / "scratch")


def test_without_a_read_model_the_first_one_is_made(data: Path, tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (data / f"{READ_MODEL}{suffix}").unlink(missing_ok=True)
    done = rebuild(data)
    assert done.returncode == 0, done.stderr
    assert "generation 1 is live" in done.stdout
    assert "the first one" in done.stdout
    assert_true_of_the_log(data, tmp_path / "scratch")
    with service_of(data) as service:
        until(lambda: "following into generation 1, 0 events behind" in service.log_text())


# --- killed -----------------------------------------------------------------------------------------------------


def test_a_rebuild_killed_at_any_moment_changes_nothing_and_continues_when_run_again(
    data: Path, tmp_path: Path
) -> None:
    before, chance = live(data), random.Random(SEED)
    went_on, latest_s = 0, 1.2
    for _ in range(20):
        process = subprocess.Popen(
            [*command(), "project", "rebuild"], env=environment(data), stderr=subprocess.DEVNULL
        )
        until(lambda: len(generations(data)) == 2 or process.poll() is not None)  # noqa: B023
        time.sleep(chance.uniform(0.0, latest_s))
        workers = folders_of(process.pid)
        process.kill()
        process.wait()
        until(lambda: all(gone(one) for one in workers), 60)  # noqa: B023
        now = live(data)
        if now[0] != before[0]:  # it was that quick: the kill came too late
            before, latest_s = now, latest_s / 2
            continue
        assert now == before
        went_on += 1
        if went_on == 5:
            break
    assert went_on >= 2, "no kill met a rebuild at work: the test shows nothing"
    left = generations(data)
    done = rebuild(data)
    assert done.returncode == 0, done.stderr
    if left[-1][2] == "building":
        assert f"continuing with generation {left[-1][0]}" in done.stderr
        assert f"generation {left[-1][0]} is live" in done.stdout
    assert len(generations(data)) == 1
    assert_true_of_the_log(data, tmp_path / "scratch")


def test_an_interrupted_rebuild_says_so_and_leaves_no_process(data: Path) -> None:
    before = live(data)
    process = subprocess.Popen(
        [*command(), "project", "rebuild"], env=environment(data), stderr=subprocess.PIPE, start_new_session=True
    )
    until(lambda: len(generations(data)) == 2)
    until(lambda: bool(psutil.Process(process.pid).children()))
    workers = psutil.Process(process.pid).children()
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"interrupted; run it again to continue" in said
    assert b"Traceback" not in said, said.decode()
    until(lambda: all(gone(one) for one in workers), 60)
    assert live(data) == before


def test_a_killed_worker_process_is_reported_and_its_work_continues(data: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([*command(), "project", "rebuild"], env=environment(data), stderr=subprocess.PIPE)
    until(lambda: len(folders_of(process.pid)) == 2)
    folders_of(process.pid)[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"ended with status -9; its progress is kept: run the rebuild again" in said
    assert b"Traceback" not in said
    assert rebuild(data).returncode == 0
    assert_true_of_the_log(data, tmp_path / "scratch")


def folders_of(pid: int) -> list[psutil.Process]:
    """The processes that fold for it; one that ends while it is looked at is none."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):  # a zombie is one of these too
                if "spawn_main" in " ".join(one.cmdline()):
                    found.append(one)
    return found


def test_two_rebuilds_at_once_are_one_too_many(data: Path) -> None:
    with (data / REBUILD_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = rebuild(data)
    assert second.returncode == 1
    assert "another rebuild of this read model is running" in second.stderr


# --- other rows -------------------------------------------------------------------------------------------------


def test_other_folds_list_what_differs_and_need_accept(data: Path, tmp_path: Path) -> None:
    lost = count(data, "bet", "status = 'lost'")
    before = live(data)
    done = rebuild(data, other_folds="next")
    assert done.returncode == 1
    assert f"{lost} rows differ from the live ones, 50 of them listed: {lost} in bet" in done.stdout
    assert done.stdout.count("DIFFERS") == 50
    assert "bet of u" in done.stdout
    assert "status lost → missed" in done.stdout
    assert "run it with --accept" in done.stderr
    assert live(data) == before
    assert [status for _, _, status in generations(data)] == ["live"], "a rejected generation is dropped"
    done = rebuild(data, "--accept", other_folds="next")
    assert done.returncode == 0, done.stderr
    assert f"{lost} rows differ" in done.stdout
    assert live(data)[0] == 2
    assert count(data, "bet", "status = 'missed'") == lost
    with service_of(data) as service:
        until(lambda: "rebuild --accept" in service.log_text())
        heads = live(data)[1]
        write_some(service)
        time.sleep(0.5)
        assert live(data) == (2, heads), "rows of other folds are left alone"
        back = rebuild(data, "--accept")
        assert back.returncode == 0, back.stderr
        until(lambda: folded(data))
        assert service.log_text().count("rebuild --accept") == 1, "said once"
    assert_true_of_the_log(data, tmp_path / "scratch")


def write_some(service: Service) -> None:
    write_many_more = [
        {
            "type": "deposit",
            "command_id": "more",
            "user_id": f"u{number}",
            "order_id": "m",
            "asset": "INR",
            "amount": 5,
        }
        for number in range(50)
    ]
    assert {answer["status"] for answer in post(service, *write_many_more)} == {201}


def count(data: Path, table: str, condition: str) -> int:
    with closing(sqlite3.connect(data / READ_MODEL, timeout=20)) as connection:
        sql = f"SELECT count(*) FROM {table}_g{live(data)[0]} WHERE {condition}"
        return int(connection.execute(sql).fetchone()[0])


def test_other_rows_of_the_same_version_need_accept_too(data: Path) -> None:
    """A change of the folds that did not raise their version."""
    done = rebuild(data, other_folds="same")
    assert done.returncode == 1
    assert "status lost → missed" in done.stdout


def test_rows_changed_by_hand_are_mended_by_a_rebuild_that_says_how_far_it_is(data: Path, tmp_path: Path) -> None:
    change_rows(data, "UPDATE asset_g1 SET cash = cash + 7 WHERE user_id = 'u17'")
    change_rows(data, "DELETE FROM bet_g1 WHERE user_id = 'u18' AND bet_id = 'b3'")
    members = "INSERT INTO referral_g1 (partition, user_id, level, asset, members, commissions) "
    change_rows(data, members + "SELECT partition, user_id, 4, '', 9, '0' FROM asset_g1 WHERE user_id = 'u19'")
    assert program(data, "project", "check", "--once").returncode == 1
    often = "import api.cli.progress; api.cli.progress._LINE_EVERY_S = 0.3; from api.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", often, "project", "rebuild", "--workers", "1"],
        env=environment(data),
        capture_output=True,
        text=True,
        check=False,
    )
    # The digests are of what was folded, so a row that was changed beside the folds differs from nothing here: the
    # check finds it, and the rebuild repairs it.
    assert done.returncode == 0, done
    events = sum(ends(data))
    assert f"generation 2 is live: {events} events folded" in done.stdout
    assert "REPAIRED" in done.stdout
    assert "u17" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("folding: ")]
    assert any(re.fullmatch(rf"folding: \d+ of {events} \(\d+ %\), about \d+ s left", line) for line in lines), lines
    assert_true_of_the_log(data, tmp_path / "scratch")


def test_a_running_digest_that_is_wrong_is_listed_and_mended_where_that_is_accepted(
    data: Path, tmp_path: Path
) -> None:
    change_rows(data, "UPDATE checkpoint SET digests = '{}' WHERE partition = 1")
    refused = rebuild(data)
    assert refused.returncode == 1, refused
    assert "partition 1, asset of no user: the rows are the same, their running digest is wrong" in refused.stdout
    done = rebuild(data, "--accept")
    assert done.returncode == 0, done
    assert_true_of_the_log(data, tmp_path / "scratch")


# --- a log that is not what it was ------------------------------------------------------------------------------


def test_a_damaged_log_is_named_with_its_place_and_the_live_tables_stay(data: Path) -> None:
    before = live(data)
    damage(data / EVENTS, "DELETE FROM event WHERE partition = 1 AND seq = 100")
    done = rebuild(data)
    assert done.returncode == 1
    assert (
        "stakelog project rebuild: the log is damaged at partition 1, seq 100: the record is missing" in done.stderr
    )
    assert live(data) == before


def test_a_log_that_got_shorter_is_a_disaster(data: Path) -> None:
    before = live(data)
    damage(data / EVENTS, "DELETE FROM event WHERE partition = 1 AND seq > 100")
    done = rebuild(data)
    assert done.returncode == 1
    assert f"ahead of the log at partition 1, seq {before[1][1]}" in done.stderr
    assert live(data) == before
