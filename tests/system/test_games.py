"""Games with rules on a real service: a period of two seconds, killed and started again under other rules before its
result; its bets are paid by the table that they were taken under."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from naive_games import paid_legs
from system.service import Service

pytestmark = pytest.mark.system

USERS: Final = [f"player-{number}" for number in range(12)]
SELECTION: Final = "big+number:7"
STAKE: Final = 1_001
WITHIN_S: Final = 60.0
PAYOUT: Final = sum(paid for _, _, paid in paid_legs("wingo", SELECTION, STAKE, "7"))
GAME: Final = {"close_ms": 500}


def rules(path: Path, **game: Any) -> str:
    path.write_text(json.dumps({"games": {"wingo_2s": {**GAME, **game}}}))
    return str(path)


def call(service: Service, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WITHIN_S)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def period_of(time_s: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(time_s) // 2 * 2))


def open_with_cash(service: Service, user_id: str) -> None:
    deposit = {"type": "deposit", "command_id": "pay", "order_id": "o", "asset": "INR", "amount": 100_000}
    for command in ({"type": "open_wallet", "command_id": "open"}, deposit):
        status, answer = call(service, "POST", "/v1/commands", {**command, "user_id": user_id})
        assert status == 201, answer


def strong_total(service: Service, user_id: str) -> int:
    """Cash and bonus, as the writer knows them."""
    status, wallet = call(service, "GET", f"/v1/wallets/{user_id}?consistency=strong")
    assert status == 200, wallet
    balance = wallet["balances"]["INR"]
    return int(balance["cash"]) + int(balance["bonus"])


def placed_bets(service: Service) -> str:
    """Every user bets on one period. Returns the period. A slow machine may need several tries."""
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        time.sleep(2 - time.time() % 2)
        period = period_of(time.time())
        about = {"type": "place_bet", "game": "wingo_2s", "period": period, "asset": "INR", "selection": SELECTION}
        bets = [
            {**about, "user_id": user_id, "command_id": f"bet-{period}", "bet_id": f"bet-{period}", "stake": STAKE}
            for user_id in USERS
        ]
        _, results = call(service, "POST", "/v1/commands/batch", bets)
        if all(result["status"] == 201 for result in results):
            return period
        assert {result.get("problem", {}).get("code", "period_closed") for result in results} == {"period_closed"}
        if any(result["status"] == 201 for result in results):  # those bets end with their period
            recorded(service, period)
    raise AssertionError("no period took the bets in time")


def recorded(service: Service, period: str) -> None:
    """The result 7, as soon as it may come."""
    of_game = {"type": "record_result", "user_id": "game:wingo_2s", "command_id": f"r-{period}"}
    result = {**of_game, "period": period, "result": "7"}
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        status, answer = call(service, "POST", "/v1/commands", result)
        if status == 201:
            return
        assert answer["code"] == "period_not_closed", answer
        time.sleep(0.1)
    raise AssertionError("the result was not accepted in time")


def settled_bets(service: Service, period: str) -> list[Any]:
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        answers = [call(service, "GET", f"/v1/wallets/{user_id}/bets?period={period}") for user_id in USERS]
        # A read may end with 503 or 504 while the read model catches up after the kill.
        bets = [bet for status, page in answers if status == 200 for bet in page["items"]]
        if len(bets) == len(USERS) and all(bet["status"] != "open" for bet in bets):
            return bets
        time.sleep(0.1)
    raise AssertionError("the bets were not settled in time")


def test_a_period_is_paid_by_its_own_rules_after_a_kill_and_a_change(tmp_path: Path) -> None:
    data = tmp_path / "data"
    service = Service(data, PARTITIONS="4", RULES=rules(tmp_path / "old.json"))
    service.start()
    for user_id in USERS:
        open_with_cash(service, user_id)
    off_grid: dict[str, Any] = {
        "type": "place_bet",
        "command_id": "x",
        "user_id": USERS[0],
        "bet_id": "x",
        "game": "wingo_2s",
    }
    off_grid |= {"period": "20261123T000001Z", "selection": "red", "asset": "INR", "stake": 1}
    status, problem = call(service, "POST", "/v1/commands", off_grid)
    assert (status, problem["code"], problem["field"]) == (400, "malformed_request", "period")
    status, found = call(service, "GET", "/v1/games")
    assert (status, found["items"][0]) == (200, {"game": "external", "rules": None, "length_s": None})
    digests = {game["game"]: game["rules"] for game in found["items"]}
    assert len(digests) == 22
    assert call(service, "GET", "/v1/games?game=wingo_2s")[0] == 400
    period = placed_bets(service)
    _, placed = call(service, "GET", f"/v1/commands/{USERS[0]}/bet-{period}")
    assert placed["data"]["rules"] == digests["wingo_2s"]
    service.kill()

    with Service(data, PARTITIONS="4", RULES=rules(tmp_path / "new.json", fee_bp=0, odds={"big": 100})) as again:
        recorded(again, period)
        bets = settled_bets(again, period)
        assert {(bet["status"], bet["payout"], bet["stake"]) for bet in bets if bet["bet_id"] == f"bet-{period}"} == {
            ("won", PAYOUT, STAKE)
        }
    verified = subprocess.run(
        [sys.executable, "-m", "api", "audit", "verify", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_kill_during_a_settlement_under_load_settles_every_bet_once(tmp_path: Path) -> None:
    """The service dies right after it has acknowledged the result, while deposits arrive and bets are settled."""
    data, rules_file = tmp_path / "data", rules(tmp_path / "rules.json", close_ms=100)
    service = Service(data, PARTITIONS="4", RULES=rules_file)
    service.start()
    opened = [{"type": "open_wallet", "command_id": "open", "user_id": user_id} for user_id in USERS]
    paid = [
        {"type": "deposit", "command_id": "pay", "order_id": "o", "asset": "INR", "amount": 10**6, "user_id": u}
        for u in USERS
    ]
    for commands in (opened, paid):
        call(service, "POST", "/v1/commands/batch", commands)
    period, bets = many_placed_bets(service)
    killing = threading.Thread(target=load_until_killed, args=(service,))
    killing.start()
    recorded(service, period)
    service.kill()
    killing.join()
    with Service(data, PARTITIONS="4", RULES=rules_file) as again:
        ends_s = time.monotonic() + WITHIN_S
        open_left = 1
        while open_left and time.monotonic() < ends_s:
            pages = [call(again, "GET", f"/v1/wallets/{user_id}/bets?status=open&limit=1") for user_id in USERS]
            open_left = sum(len(page["items"]) if status == 200 else 1 for status, page in pages)
        for user_id in USERS:
            _, wallet = call(again, "GET", f"/v1/wallets/{user_id}?consistency=strong")
            loaded = wallet["balances"]["INR"]["cash"] - 10**6 - bets[user_id] * (PAYOUT - STAKE)
            assert loaded >= 0, f"{user_id}: not every bet was paid"
            assert loaded < PAYOUT, f"{user_id}: a bet was paid twice"
    verified = subprocess.run(
        [sys.executable, "-m", "api", "audit", "verify", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def many_placed_bets(service: Service) -> tuple[str, Counter[str]]:
    """Every user has 50 bets on one period. Returns the period, and how many bets each user has on all periods."""
    placed: Counter[str] = Counter()
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        time.sleep(2 - time.time() % 2)
        period = period_of(time.time())
        about = {"type": "place_bet", "game": "wingo_2s", "period": period, "asset": "INR", "selection": SELECTION}
        bets = [
            {**about, "user_id": user_id, "command_id": f"{period}-{n}", "bet_id": f"{period}-{n}", "stake": STAKE}
            for user_id in USERS
            for n in range(50)
        ]
        _, results = call(service, "POST", "/v1/commands/batch", bets)
        accepted = [str(bet["user_id"]) for bet, result in zip(bets, results, strict=True) if result["status"] == 201]
        placed.update(accepted)
        if len(accepted) == len(bets):
            return period, placed
        # Some of them came too late: they end with their period, and the next period is tried.
        if accepted:
            recorded(service, period)
    raise AssertionError("no period took the bets in time")


def load_until_killed(service: Service) -> None:
    """Deposits of one unit, until the service is killed."""
    number = 0
    while True:
        number += 1
        deposit = {
            "type": "deposit",
            "command_id": f"l{number}",
            "order_id": f"l{number}",
            "asset": "INR",
            "amount": 1,
        }
        try:
            call(service, "POST", "/v1/commands", {**deposit, "user_id": USERS[number % len(USERS)]})
        except (OSError, http.client.HTTPException):
            return


def test_a_rules_file_that_cannot_be_used_is_exit_2_and_names_the_key(tmp_path: Path) -> None:
    wrong = rules(tmp_path / "wrong.json", odds={"numbr": 900})
    environment = {"STAKELOG_DATA": str(tmp_path / "data"), "STAKELOG_AUTH": "off", "STAKELOG_RULES": wrong}
    refused = subprocess.run(
        [sys.executable, "-m", "api", "serve"], env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "games.wingo_2s.odds.numbr" in refused.stderr
    assert not (tmp_path / "data").exists()
