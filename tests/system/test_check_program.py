"""The background check of a running service finds rows that were changed by hand, and only these."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledger.sqlite.folder import READ_MODEL
from system.service import Service

pytestmark = [pytest.mark.system, pytest.mark.timeout(1_200)]

FOUND_WITHIN_S = 400.0
"""A minute is what was measured and promised; a machine that runs other tests too may take longer, because the check
has a small share of a core, and half of it while the machine is busy."""
PAUSE_S = 0.5
"""Between two users of a client: a log that grows faster than the check may read is never read to its end."""
OF_GAME = {"game": "external", "period": "p", "selection": "s"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "data", PARTITIONS="4") as running:
        yield running


def post(service: Service, *commands: dict[str, object]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("POST", "/v1/commands/batch", json.dumps(commands), {"Content-Type": "application/json"})
    answers = json.loads(connection.getresponse().read())
    connection.close()
    assert all(answer["status"] in (200, 201) for answer in answers), answers


def play(service: Service, users: range) -> None:
    """Some events of each user."""
    for user in users:
        name = f"u{user}"
        steps: list[dict[str, object]] = [
            {"type": "open_wallet"},
            {"type": "deposit", "order_id": "o", "asset": "INR", "amount": 1_000},
            {"type": "place_bet", "bet_id": "b", "asset": "INR", "stake": 10, **OF_GAME},
            {"type": "settle_bet", "bet_id": "b", "payout": 5},
        ]
        post(service, *({"command_id": f"c{n}", "user_id": name, **step} for n, step in enumerate(steps)))


def metrics(service: Service) -> dict[str, float]:
    """Those without labels."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {
        name: float(value)
        for name, _, value in (line.partition(" ") for line in lines)
        if not name.startswith("#") and "{" not in name
    }


def until(what: str, true: Callable[[], bool], seconds: float = FOUND_WITHIN_S) -> float:
    """Wait for it, and say how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


def checks(service: Service) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(service.pid).children()
        return [child for child in children if "check" in child.cmdline()]
    return []


def by_hand(service: Service, statement: str) -> int:
    """On the tables of the first generation."""
    with closing(sqlite3.connect(service.data / READ_MODEL, isolation_level=None, timeout=10)) as connection:
        return connection.execute(statement).rowcount


def proved(service: Service) -> None:
    """Wait until every partition was compared with the log again."""
    now = time.time()
    until(
        "every partition checked again",
        lambda: metrics(service)["stakelog_read_model_check_age_seconds"] < time.time() - now,
    )


def test_a_row_changed_by_hand_is_found_within_a_minute_and_clears_once_it_is_mended(service: Service) -> None:
    play(service, range(20))
    proved(service)
    assert metrics(service)["stakelog_read_model_differences"] == 0
    assert by_hand(service, "UPDATE asset_g1 SET cash = cash + 7 WHERE user_id = 'u7'") == 1
    until("the changed row", lambda: metrics(service)["stakelog_read_model_differences"] == 1)
    until("reads of u7 say so", lambda: as_of(service, "u7").get("suspect") is True)
    assert "suspect" not in as_of(service, "u8")
    ready = get(service, "/readyz")
    assert ready["status"] == "ready"
    assert "rows of 1 users or accounts differ from the log" in ready["warnings"][0]
    done = program(service, "status")
    assert (done.returncode, "DIFFERS u7 (partition" in done.stdout) == (1, True)
    assert "run `stakelog project rebuild --accept`" in done.stdout
    assert "the read model is wrong: rows of 1 users" in service.log_text()
    assert '["u7","INR"] of u7, cash: the log says 995, the read model 1002' in service.log_text()
    assert by_hand(service, "DELETE FROM history_g1 WHERE user_id = 'u3' AND type = 'bet_placed'") == 1
    until("the deleted row", lambda: metrics(service)["stakelog_read_model_differences"] == 2)
    assert by_hand(service, "UPDATE asset_g1 SET cash = cash - 7 WHERE user_id = 'u7'") == 1
    until("one of two mended", lambda: metrics(service)["stakelog_read_model_differences"] == 1)
    assert service.log_text().count("of u7, cash: the log says 995") == 1, "logged once, however many rounds found it"
    until("reads of u7 are right again", lambda: "suspect" not in as_of(service, "u7"))
    done = program(service, "rebuild", "--accept")
    assert done.returncode == 0, done.stderr
    until("the rebuild repaired u3", lambda: "suspect" not in as_of(service, "u3"))
    assert get(service, "/readyz") == {"status": "ready"}
    assert "the read model agrees with the log again: no read is suspect any more" in service.log_text()
    assert program(service, "status").returncode == 0


def test_nothing_is_found_in_a_healthy_read_model_under_load(service: Service) -> None:
    failed: list[BaseException] = []
    enough = threading.Event()

    def load(first: int) -> None:
        try:
            for user in count(first):
                if enough.wait(PAUSE_S):
                    return
                play(service, range(user, user + 1))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    clients = [threading.Thread(target=load, args=(first,)) for first in (0, 1_000_000)]
    for client in clients:
        client.start()
    try:
        proved(service)
    finally:
        enough.set()
        for client in clients:
            client.join()
    assert not failed, failed
    proved(service)
    assert metrics(service)["stakelog_read_model_differences"] == 0
    assert "differs" not in service.log_text()
    assert "cannot be checked" not in service.log_text()


def test_a_killed_check_is_started_again_and_goes_on(service: Service) -> None:
    play(service, range(5))
    until("the check runs", lambda: len(checks(service)) == 1)
    (first,) = checks(service)
    os.kill(first.pid, signal.SIGKILL)
    until("another check runs", lambda: any(check.pid != first.pid for check in checks(service)))
    assert metrics(service)["stakelog_check_restarts_total"] == 1
    change = "UPDATE wallet_g1 SET status = 'closed' WHERE user_id = 'u2'"
    until("u2 is folded, and changed", lambda: by_hand(service, change) == 1)
    until("the changed row", lambda: metrics(service)["stakelog_read_model_differences"] == 1)


def test_the_check_ends_with_its_service_however_that_ends(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS="4")
    service.start()
    until("the check runs", lambda: len(checks(service)) == 1)
    (check,) = checks(service)
    service.stop()
    assert not check.is_running()
    service.start()
    until("the check runs", lambda: len(checks(service)) == 1)
    (check,) = checks(service)
    service.kill()
    until("it ends with the killed service", lambda: not check.is_running(), 10.0)


def test_one_check_by_hand_says_what_differs(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS="4")
    with service:
        play(service, range(5))
        proved(service)
    assert check_once(service) == (0, "well: every row agrees with the log\n")
    assert by_hand(service, "DELETE FROM bet_g1 WHERE user_id = 'u2'") == 1
    assert check_once(service) == (1, "1 differences\n")
    (service.data / READ_MODEL).write_bytes(b"no database at all")
    status, said = check_once(service)
    assert (status, said) == (1, "")


def check_once(service: Service) -> tuple[int, str]:
    ended = program(service, "check", "--once")
    return ended.returncode, ended.stdout


def program(service: Service, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``stakelog project`` with these arguments."""
    ended = subprocess.run(
        [sys.executable, "-m", "api", "project", *arguments],
        env={**os.environ, "STAKELOG_DATA": str(service.data), "STAKELOG_PARTITIONS": "4"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended


def get(service: Service, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("GET", path)
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def as_of(service: Service, user_id: str) -> dict[str, object]:
    found: dict[str, object] = get(service, f"/v1/wallets/{user_id}")["as_of"]
    return found
