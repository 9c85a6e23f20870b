"""The follower as a process: killed at any moment, doubled, stopped, on a full disk, on a log that is not the log."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.core.record import decode, encode
from ledger.sqlite.folder import EVENTS, READ_MODEL, STATE
from sqlite_log import damage, stored_records
from system.conftest import disk_of
from system.other_folds import UNFOLDABLE_USER
from system.players import Crowd
from system.read_side import (
    assert_true_of_the_log,
    children,
    command,
    ends,
    environment,
    folded,
    follower_of,
    gone,
    live,
    log_of,
    move_read_model,
    program,
    until,
)
from system.service import Service

pytestmark = pytest.mark.system

SEED: Final = 20_261_124
PARTITIONS: Final = 4
CLIENTS: Final = 4
KILLS: Final = 7
STOPPED_WITHIN_S: Final = 30.0


@contextmanager
def betting(service: Service, *, patient: bool = True) -> Iterator[Crowd]:
    """Clients that bet meanwhile; in the end each command has its last word."""
    crowd = Crowd(service, SEED, CLIENTS, patient=patient)
    failed: list[BaseException] = []

    def play() -> None:
        try:
            asyncio.run(crowd.play())
        except BaseException as error:  # noqa: BLE001 - the test's thread tells it
            failed.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield crowd
    finally:
        crowd.stop = True
        thread.join(60)
    assert not failed, failed
    assert not thread.is_alive()


def following(data: Path, log: Path, other_folds: str | None = None) -> "tuple[subprocess.Popen[bytes], Path]":
    """A follower of its own, as soon as it follows; what it says goes to the file."""
    with log.open("wb") as said:
        process = subprocess.Popen([*command(other_folds), "project", "follow"], env=environment(data), stderr=said)
    until(lambda: "following into generation" in log.read_text())
    return process, log


def service_of(data: Path) -> Service:
    return Service(data, PARTITIONS=str(PARTITIONS))


def metrics(service: Service) -> dict[str, float]:
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=10) as response:  # noqa: S310
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[:1] != "#"}


def post(service: Service, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(  # noqa: S310 - our own service
        f"{service.url}/v1/commands/batch", json.dumps(commands).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        answers: list[dict[str, Any]] = json.load(response)
    return answers


def open_wallets(number: int = 8) -> list[dict[str, Any]]:
    return [{"type": "open_wallet", "command_id": "open", "user_id": f"u{one}"} for one in range(number)]


def deposits(name: str, number: int, size: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "type": "deposit",
            "command_id": f"{name}-{one}",
            "user_id": f"u{one % 8}",
            "order_id": f"{name}-{one}",
            "asset": "INR",
            "amount": 100,
            "metadata": {str(key): "x" * 500 for key in range(size)},
        }
        for one in range(number)
    ]


# --- kills ------------------------------------------------------------------------------------------------------


def test_kills_of_the_follower_fold_nothing_twice_and_leave_nothing_out(tmp_path: Path) -> None:
    service, chance = service_of(tmp_path / "data"), random.Random(SEED)
    with service:
        with betting(service):
            for number in range(KILLS):
                process = follower_of(service)
                time.sleep(chance.uniform(0.0, 1.4) if number % 3 else chance.uniform(0.6, 0.8))
                process.kill()
                until(lambda process=process: gone(process))  # type: ignore[misc]
        until(lambda: folded(service.data))
        measured = metrics(service)
        assert measured["stakelog_follower_up"] == 1
        assert measured["stakelog_follower_restarts_total"] == KILLS
        assert max(value for name, value in measured.items() if "lag_events" in name) == 0
        assert max(value for name, value in measured.items() if "lag_seconds" in name) == 0
    assert sum(ends(service.data)) > 2_000
    assert service.log_text().count("killed by SIGKILL") == KILLS
    assert "Traceback" not in service.log_text()
    assert_true_of_the_log(service.data, tmp_path / "scratch")


def test_kills_of_the_service_take_the_follower_along_and_the_next_one_goes_on(tmp_path: Path) -> None:
    service, chance = service_of(tmp_path / "data"), random.Random(SEED)
    service.start()
    with betting(service):
        for _ in range(4):
            time.sleep(chance.uniform(0.2, 1.5))
            started = children(service) + children(service, "check")
            assert started
            assert service.process is not None
            os.kill(service.pid, signal.SIGKILL)  # the process alone, not its group
            until(lambda started=started: all(gone(one) for one in started))  # type: ignore[misc]
            service.process.wait()
            service.process = None
            service.start()
        crowd_s = time.monotonic() + 1
        until(lambda: time.monotonic() > crowd_s)
    until(lambda: folded(service.data))
    service.stop()
    assert "Traceback" not in service.log_text()
    assert_true_of_the_log(service.data, tmp_path / "scratch")


def test_a_second_follower_folds_nothing_twice(tmp_path: Path) -> None:
    with service_of(tmp_path / "data") as service:
        data = service.data
        others = [following(data, tmp_path / f"follower-{number}.log") for number in range(2)]
        with betting(service):
            time.sleep(3)
        until(lambda: folded(data))
        for (process, log), number in zip(others, (signal.SIGTERM, signal.SIGINT), strict=True):
            process.send_signal(number)
            assert process.wait(60) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
    assert_true_of_the_log(data, tmp_path / "scratch")


# --- stops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["SIGTERM", "Ctrl-C"])
def test_a_stop_takes_the_children_along(tmp_path: Path, stop: str) -> None:
    service = service_of(tmp_path / "data")
    service.start()
    post(service, *open_wallets(), *deposits("d", 100))
    follower_of(service)
    started = children(service) + children(service, "check")
    if stop == "Ctrl-C":
        os.killpg(service.pid, signal.SIGINT)
    else:
        os.kill(service.pid, signal.SIGTERM)
    assert service.process is not None
    assert service.process.wait(STOPPED_WITHIN_S) == 0
    service.process = None
    assert all(gone(one) for one in started)
    assert "Traceback" not in service.log_text()
    assert service.log_text().endswith("INFO stopped\n"), service.log_text()


def test_a_follower_that_hangs_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    service = service_of(tmp_path / "data")
    service.start()
    process = follower_of(service)
    process.suspend()
    began_s = time.monotonic()
    service.stop()
    assert time.monotonic() - began_s < STOPPED_WITHIN_S
    assert gone(process)


def test_commands_and_readiness_do_not_wait_for_the_follower(tmp_path: Path) -> None:
    with service_of(tmp_path / "data") as service:
        process = follower_of(service)
        until(lambda: "following into generation" in service.log_text())
        process.suspend()
        written = post(service, *open_wallets(), *deposits("d", 200))
        assert {answer["status"] for answer in written} == {201}
        assert service.ready()
        time.sleep(0.2)
        measured = metrics(service)
        assert sum(value for name, value in measured.items() if "lag_events" in name) == len(written)
        assert max(value for name, value in measured.items() if "lag_seconds" in name) >= 0.2
        assert measured["stakelog_follower_up"] == 1
        process.resume()
        until(lambda: folded(service.data))


# --- disasters --------------------------------------------------------------------------------------------------


def shorten(data: Path, partition: int) -> int:
    """Take a partition's last event away, and all that could tell; answers its seq."""
    for name in (STATE, f"{STATE}-wal", f"{STATE}-shm"):
        (data / name).unlink(missing_ok=True)
    return change(data, partition, "DELETE FROM event WHERE partition = ? AND seq = ?")


def change(data: Path, partition: int, sql: str, *values: Any) -> int:
    """Change a partition's last record as no program may."""
    seq = max(one.seq for one in stored_records(data / EVENTS) if one.partition == partition)
    damage(data / EVENTS, sql, *values, partition, seq)
    return seq


def test_a_log_that_got_shorter_stops_the_start_with_its_place(tmp_path: Path) -> None:
    service = service_of(tmp_path / "data")
    with service:
        post(service, *open_wallets(), *deposits("d", 100))
        until(lambda: folded(service.data))
    seq = shorten(service.data, 2)
    assert_halts(service, f"the read model is ahead of the log at partition 2, seq {seq}: the log ends before it")
    before = live(service.data)
    follow = program(service.data, "project", "follow")
    assert follow.returncode == 3
    assert f"partition 2, seq {seq}" in follow.stderr
    assert "Traceback" not in follow.stderr
    assert live(service.data) == before, "nothing was folded again"


def assert_halts(service: Service, reason: str) -> None:
    service.launch()
    assert service.process is not None
    assert service.process.wait(60) == 1
    service.process = None
    last = service.log_text().splitlines()[-1]
    assert last.startswith("stakelog serve: "), last
    assert reason in last
    assert "Traceback" not in service.log_text()


def test_damage_that_the_follower_meets_halts_the_service_with_its_place(tmp_path: Path) -> None:
    service = service_of(tmp_path / "data")
    service.start()
    post(service, *open_wallets(), *deposits("d", 100))
    until(lambda: folded(service.data))
    process = follower_of(service)
    process.suspend()
    post(service, *deposits("e", 100))
    record = log_of(service.data)[2][-1]
    place, _, event = decode(record)
    seq = change(
        service.data, 2, "UPDATE event SET record = ? WHERE partition = ? AND seq = ?", encode(event, place, "f" * 64)
    )
    process.resume()
    assert service.process is not None
    assert service.process.wait(60) == 1
    service.process = None
    last = service.log_text().splitlines()[-1]
    assert last.startswith(f"stakelog serve: the log is damaged at partition 2, seq {seq}: "), last
    assert "Traceback" not in service.log_text()


def test_a_full_disk_of_the_read_model_stops_no_command_and_is_waited_out(tmp_path: Path) -> None:
    service = service_of(tmp_path / "data")
    with service:
        post(service, *open_wallets())
        until(lambda: folded(service.data))
    with disk_of(8, tmp_path / "disk") as disk:
        move_read_model(service.data, disk)
        (service.data / READ_MODEL).symlink_to(disk / READ_MODEL)
        ballast = disk / "ballast"
        with service:
            until(lambda: "following into generation" in service.log_text().split("stopped")[-1])
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4_096)):
                    pass
            written = post(service, *deposits("d", 400))
            assert {answer["status"] for answer in written} == {201}
            until(lambda: "retrying" in service.log_text())
            heads = live(service.data)[1]
            assert sum(heads) < sum(ends(service.data))
            time.sleep(0.5)
            assert live(service.data)[1] == heads
            assert metrics(service)["stakelog_follower_up"] == 1
            ballast.unlink()
            until(lambda: folded(service.data))
            until(lambda: "folding into the read model continues" in service.log_text())
        assert "Traceback" not in service.log_text()
        (service.data / READ_MODEL).unlink()
        move_read_model(disk, service.data)
    assert_true_of_the_log(service.data, tmp_path / "scratch")


@pytest.mark.parametrize("suffixes", [("", "-wal", "-shm", ".lock"), ("",)], ids=["all of it", "the file alone"])
def test_a_read_model_deleted_under_the_service_is_rebuilt_and_read_again(
    tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    service = service_of(tmp_path / "data")
    with service:
        post(service, *open_wallets(), *deposits("d", 400))
        until(lambda: folded(service.data))
        statuses: set[int] = set()
        for number in range(1, 4):
            for target in ("/v1/wallets/u0", "/v1/wallets/u0/history?limit=200"):
                assert read(service, target)[0] == 200  # quick ones and others: each connection has the file open
            for suffix in suffixes:
                (service.data / f"{READ_MODEL}{suffix}").unlink(missing_ok=True)
            if number > 1:  # also where nothing is posted
                until(lambda: rebuilt(service.data))
            (written,) = post(service, *deposits(f"after-{number}", 1))
            position = written["result"]["position"]
            target = f"/v1/wallets/u0/history?limit=200&min_position={position}&timeout_ms=10000"
            deadline_s = time.monotonic() + 60
            while (answer := read(service, target))[0] != 200 and time.monotonic() < deadline_s:
                statuses.add(answer[0])
                time.sleep(0.05)
            assert answer[0] == 200, answer
            assert len(answer[1]["items"]) == 50 + number, answer
            # A connection looks once a second whether its file was replaced.
            wallet = read(service, f"/v1/wallets/u0?min_position={position}&timeout_ms=10000")[1]
            assert wallet["balances"]["INR"]["cash"] == 100 * (50 + number), wallet
        assert statuses <= {503}
        until(lambda: rebuilt(service.data))
        reconciled = program(service.data, "audit", "reconcile", "--url", service.url)
        assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
        assert program(service.data, "audit", "reconcile").returncode == 0
    assert "Traceback" not in service.log_text()
    assert "the follower ended" not in service.log_text(), service.log_text()
    assert_true_of_the_log(service.data, tmp_path / "scratch")


def rebuilt(data: Path) -> bool:
    """``folded``, of a file that may be missing or empty."""
    try:
        return folded(data)
    except sqlite3.Error:
        return False


def read(service: Service, target: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{service.url}{target}", timeout=30) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# --- who cannot be folded ----------------------------------------------------------------------------------------


def test_a_user_who_cannot_be_folded_is_quarantined_alone_and_folded_after_the_fix(tmp_path: Path) -> None:
    service = service_of(tmp_path / "data")
    with service, betting(service):
        time.sleep(2)
    for suffix in ("", "-wal", "-shm"):
        (service.data / f"{READ_MODEL}{suffix}").unlink(missing_ok=True)
    follower, log = following(service.data, tmp_path / "follower.log", "choking")
    until(lambda: folded(service.data))
    follower.terminate()
    said = log.read_text()
    assert follower.wait(60) == 0, said
    assert f"user {UNFOLDABLE_USER} of partition" in said
    assert "cannot fold wallet_opened" in said
    status = program(service.data, "project", "status")
    assert status.returncode == 0, status.stderr
    assert status.stdout.count("QUARANTINED") == 1
    assert f"QUARANTINED {UNFOLDABLE_USER} (partition " in status.stdout
    assert rows_of(service.data, "history", UNFOLDABLE_USER) == 0
    assert rows_of(service.data, "history") > 500
    with service:
        until(lambda: "is no longer quarantined" in service.log_text())
        assert metrics(service)["stakelog_quarantined_users"] == 0
        assert rows_of(service.data, "history", UNFOLDABLE_USER) > 10
    assert_true_of_the_log(service.data, tmp_path / "scratch")


def rows_of(data: Path, table: str, user_id: str = "%") -> int:
    generation, _ = live(data)
    connection = sqlite3.connect(data / READ_MODEL, timeout=10)
    (number,) = connection.execute(
        f"SELECT count(*) FROM {table}_g{generation} WHERE user_id LIKE ?", (user_id,)
    ).fetchone()
    connection.close()
    return int(number)


def test_follow_says_in_a_line_why_it_cannot(tmp_path: Path) -> None:
    nothing = program(tmp_path / "nothing", "project", "follow")
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("stakelog project follow: there is no event log at")
    assert len(nothing.stderr.splitlines()) == 1
