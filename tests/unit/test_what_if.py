"""`stakelog what-if`: a small case computed by hand, what is shown and written, and what is refused."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from ledger.core.games.periods import name_of
from ledger.core.games.rules import RuleBook, book_of, read_rules
from ledger.core.wallet import DAY_US
from ledger.memory.log import MemoryEventLog
from ledger.operations.what_if.replay import what_if
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.log import SqliteEventLog
from properties.scenarios import Post, book_of_money
from properties.test_ledger_machine import MemoryMachine
from sqlite_log import damage
from unit.folders import write_log
from unit.given import ASSETS, NOON, SECOND_US, deposit, open_wallet, place_bet, record_result
from unit.node_in_memory import World
from unit.test_audit import Lists

PAGE: Final = Path(__file__).parents[2] / "docs" / "what-if.md"
MONEY: Final[dict[str, Any]] = {
    "INR": {"first_deposit": [[1_000, 100]], "commission": {"mode": "per_bet", "rates_e9": [10_000_000]}}
}
"""Of the log, with the built-in games: fee 2 %, number 9, big and small 2."""
OTHER: Final = {
    "games": {"wingo_30s": {"fee_bp": 1_000, "odds": {"number": 450}, "stake_max": {"INR": 2_000}}},
    "money": {"INR": {"first_deposit": [[1_000, 50]], "commission": {"mode": "per_bet", "rates_e9": [20_000_000]}}},
}
SAME: Final = {"money": MONEY}


class Machine(MemoryMachine):
    money = MONEY

    def does(self, type_: str, user_id: str, **fields: Any) -> None:
        self.the_clock_advances(SECOND_US)
        self.posts_a_command(Post("local", {"type": type_, "user_id": user_id, **fields}))

    def bets(self, user_id: str, bet_id: str, selection: str, stake: int) -> None:
        bet = {"bet_id": bet_id, "selection": selection, "asset": "INR", "stake": stake}
        self.does("place_bet", user_id, game="wingo_30s", period=0, **bet)

    def results_in(self, result: str) -> None:
        self.the_clock_advances(33 * SECOND_US - self.clock.now_us % (30 * SECOND_US))
        self.does("record_result", "game:wingo_30s", period_of=0, result=result)


class Case:
    def __init__(self, folder: Path) -> None:
        machine = Machine()
        try:
            machine.does("open_wallet", "ada")
            machine.does("open_wallet", "bob", referrer_id="ada")
            machine.does("deposit", "ada", order_id="d", asset="INR", amount=1_000)
            machine.does("deposit", "bob", order_id="d", asset="INR", amount=1_000)
            machine.bets("bob", "b1", "number:7", 400)
            self.after_b1_us = machine.clock.now_us + 1
            machine.bets("ada", "a1", "big", 300)
            machine.results_in("7")
            machine.bets("bob", "b2", "red", 2_500)
            machine.bets("bob", "b3", "small", 1_700)
            machine.results_in("1")
            machine.does("request_withdrawal", "ada", order_id="w", asset="INR", amount=1_300)
            self.end_us = machine.clock.now_us + 1
            assert isinstance(machine.log, MemoryEventLog)
            self.data = write_log(folder / "data", machine.log.appended.records)
        finally:
            machine.teardown()
        asyncio.run(declared(self.data, 3, book_of_money(MONEY)))
        self.folder = folder

    def run(self, rules: Any, *more: str, from_us: int = 0, to_us: int = 0, data: Path | None = None) -> Result:
        file = self.folder / "rules.json"
        file.write_text(json.dumps(rules))
        window = ("--from", str(from_us), "--to", str(to_us or self.end_us), "--data", str(data or self.data))
        return CliRunner().invoke(stakelog, ["what-if", "--rules", str(file), *window, *more])

    def compared(self, rules: Any, from_us: int = 0) -> Any:
        done = self.run(rules, "--json", from_us=from_us)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("what-if"))


def test_another_table_fee_limit_and_bonus_change_what_was_computed_by_hand(case: Case) -> None:
    found = case.compared(OTHER)
    ada, bob = found["users"]
    assert (bob["user_id"], bob["refused"], ada["user_id"], ada["refused"]) == ("bob", 1, "ada", 1)
    # b1: fee 8, 392 × 9 = 3528; now fee 40, 360 × 4.5 = 1620. b2 lost 2500; now it is above the largest stake.
    # b3: fee 34, 1666 × 2 = 3332; now fee 170, 1530 × 2 = 3060.
    assert bob["actual"] | {"change": 0} == {
        "bets": 3,
        "staked": 400 + 2_500 + 1_700,
        "fees": 8 + 50 + 34,
        "paid_out": 3_528 + 3_332,
        "bonuses": 100,
        "commissions": 0,
        "deposits": 1_000,
        "withdrawals": 0,
        "other": 0,
        "change": 0,
        "balance": 1_000 + 100 - 4_600 + 6_860,
        "house": 4_600 - 6_860 - 100,
    }
    assert bob["what_if"] | {"change": 0} == {
        "bets": 2,
        "staked": 400 + 1_700,
        "fees": 40 + 170,
        "paid_out": 1_620 + 3_060,
        "bonuses": 50,
        "commissions": 0,
        "deposits": 1_000,
        "withdrawals": 0,
        "other": 0,
        "change": 0,
        "balance": 1_000 + 50 - 2_100 + 4_680,
        "house": 2_100 - 4_680 - 50,
    }
    # a1: fee 6, 294 × 2 = 588; now fee 30, 270 × 2 = 540. Commissions on b1, b2, b3: 4 + 25 + 17; now 8 + 34.
    assert ada["actual"]["balance"] == 1_000 + 100 - 300 + 588 + 46
    assert ada["what_if"]["balance"] == 1_000 + 50 - 300 + 540 + 42
    assert ada["difference"]["commissions"] == -4
    assert found["refused"] == [
        {"command": "place_bet", "code": "stake_max_exceeded", "count": 1},
        {"command": "request_withdrawal", "code": "insufficient_funds", "count": 1},  # 1282 of 1300
    ]
    (total,), (game,) = found["totals"], found["games"]
    assert total["difference"]["house"] == (2_400 - 5_220 - 100 - 42) - (4_900 - 7_448 - 200 - 46)
    assert game["what_if"] == {"bets": 3, "staked": 2_400, "fees": 240, "paid_out": 5_220, "house": 2_400 - 5_220}
    assert (game["game"], game["difference"]["paid_out"]) == ("wingo_30s", 5_220 - 7_448)


def test_a_bet_from_before_the_window_is_paid_by_the_table_that_it_was_taken_under(case: Case) -> None:
    ada, bob = case.compared(OTHER, case.after_b1_us)["users"]
    assert bob["what_if"]["paid_out"] == 3_528 + 3_060
    assert (bob["what_if"]["staked"], bob["what_if"]["bonuses"]) == (1_700, 0)
    assert ada["what_if"]["paid_out"] == 540


def test_the_unchanged_rules_make_no_difference(case: Case) -> None:
    found = case.compared(SAME)
    assert found["refused"] == []
    for row in (*found["totals"], *found["games"], *found["users"]):
        assert set(row["difference"].values()) == {0}, row
    assert "No user's figures differ." in case.run(SAME).stdout


async def result_of_a_game_of_the_rules() -> World:
    world = await World(rules=book_of(read_rules('{"games": {"wingo_90s": {}}}', ASSETS).games)).start()
    period = name_of(NOON)
    await world.given(open_wallet("u1"), deposit(500))
    await world.given(place_bet(500, "b", game="wingo_90s", period=period, selection="big"))
    world.clock.now_us = NOON + 92 * SECOND_US
    await world.accepted(record_result("7", period, game="wingo_90s"))
    await world.quiet()
    await world.stop()
    return world


async def declared(data: Path, partitions: int, rules: RuleBook) -> None:
    log = SqliteEventLog(data / EVENTS, partitions)
    await log.declare(ASSETS, rules.tables, rules.money_kept, rules.names)
    await log.close()


def test_the_outcome_of_a_game_that_the_rules_no_longer_have_makes_no_difference(tmp_path: Path) -> None:
    """The log keeps the game's name, so the service accepted the result; so must the replay."""
    world = asyncio.run(result_of_a_game_of_the_rules())
    data = write_log(tmp_path / "data", world.appended.records)
    asyncio.run(declared(data, 1, world.options["rules"]))
    (tmp_path / "rules.json").write_text("{}")
    window = ("--from", str(NOON + 91 * SECOND_US), "--to", str(NOON + 100 * SECOND_US))
    arguments = ["what-if", "--rules", str(tmp_path / "rules.json"), *window, "--data", str(data), "--json"]
    done = CliRunner().invoke(stakelog, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["refused"] == []
    assert [user["actual"]["paid_out"] for user in found["users"]] == [980]
    for row in (*found["totals"], *found["games"], *found["users"]):
        assert set(row["difference"].values()) == {0}, row


def test_the_table_shows_the_differences_and_parquet_has_them_all(case: Case, tmp_path: Path) -> None:
    dest = tmp_path / "new"
    before = sorted((path.name, path.stat().st_size) for path in case.data.iterdir())
    done = case.run(OTHER, "--parquet", str(dest), "--users", "1")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "In all, INR" in lines
    assert "paid out 74.48 INR 52.20 INR -22.28 INR" in lines
    assert "bob -1 -25.00 INR -21.80 INR -0.50 INR 0.00 INR +2.70 INR 1" in lines
    assert "… and 1 more rows of users: --parquet or --json has all" in lines
    assert "place_bet stake_max_exceeded 1" in lines
    found = case.compared(OTHER)
    users = pq.read_table(dest / "users.parquet").to_pylist()
    assert [(row["user_id"], row["refused"]) for row in users] == [("ada", 1), ("bob", 1)]
    for row, told in zip(users, found["users"], strict=True):
        for column in ("actual", "what_if", "difference"):
            assert {name: row[f"{name}_{column}"] for name in told[column]} == told[column]
    assert pq.read_table(dest / "games.parquet").to_pylist()[0]["house_difference"] == 2_400 - 5_220 - 4_900 + 7_448
    assert pq.read_table(dest / "refused.parquet").to_pylist() == found["refused"]
    assert pq.read_table(dest / "totals.parquet").num_rows == 1
    assert sorted((path.name, path.stat().st_size) for path in case.data.iterdir()) == before
    again = case.run(OTHER, "--parquet", str(dest))
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


def test_the_examples_of_the_page_run(case: Case, tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    script = script.replace("2026-11-01", "2024-10-01").replace(
        "2026-12-01", "2024-11-01"
    )  # where the log has events
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "STAKELOG_DATA": str(case.data)}
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.count("In all, INR") == 2
    assert json.loads((tmp_path / "november.json").read_text())["totals"][0]["asset"] == "INR"
    assert pq.read_table(tmp_path / "november" / "users.parquet").num_rows == 2


def test_wrong_use_is_one_message(case: Case) -> None:
    wrong = case.run({"games": {"wingo_30s": {"fee": 1}}})
    assert (wrong.exit_code, "games.wingo_30s.fee is not a key" in wrong.stderr) == (2, True), wrong.output
    empty = case.run(SAME, from_us=case.end_us, to_us=case.end_us + 1)
    assert (empty.exit_code, "no event of the log is in this window" in empty.stderr) == (2, True)
    assert case.run(SAME, from_us=case.end_us).exit_code == 2
    assert (
        "begins with kafka://"
        in CliRunner()
        .invoke(
            stakelog,
            [
                "what-if",
                "--rules",
                str(case.folder / "rules.json"),
                "--from",
                "0",
                "--to",
                "9",
                "--log",
                "nats://a:1",
            ],
        )
        .stderr
    )


def test_a_damaged_record_is_named(case: Case, tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", [[], [], []])
    (data / EVENTS).write_bytes((case.data / EVENTS).read_bytes())
    assert damage(data / EVENTS, "UPDATE event SET record = replace(record, '\"cash\":1000', '\"cash\":1001')")
    done = case.run(OTHER, data=data)
    assert (done.exit_code, "the log is damaged at partition" in done.stderr) == (1, True), done.output


def test_a_commission_that_only_the_other_rules_have_is_paid_when_it_is_due_and_can_be_staked() -> None:
    """Bob's stake of 1000 on one day gives ada 100 at midnight, without which she could not place her bet at noon."""
    machine = Machine()
    try:
        machine.does("open_wallet", "ada")
        machine.does("open_wallet", "bob", referrer_id="ada")
        machine.does("deposit", "ada", order_id="d", asset="INR", amount=1_000)  # with a bonus of 100
        machine.does("deposit", "bob", order_id="d", asset="INR", amount=1_000, bonus=0)
        bet = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
        machine.does("place_bet", "bob", bet_id="b", stake=1_000, **bet)
        machine.does("settle_bet", "bob", bet_id="b", payout=0)
        machine.the_clock_advances(DAY_US)
        machine.does("place_bet", "ada", bet_id="a", stake=1_050, **bet)
        assert isinstance(machine.log, MemoryEventLog)
        log = Lists([list(records) for records in machine.log.appended.records])
    finally:
        machine.teardown()
    for rate_e9, refused in ((100_000_000, ()), (40_000_000, (("place_bet", "insufficient_funds", 1),))):
        other = book_of_money({"INR": {"commission": {"mode": "daily", "rates_e9": [rate_e9]}}})
        found = what_if(log, other, ASSETS, 0, 2**60)
        assert found.refused == refused
        ada = next(pair for pair in found.users if pair.name == "ada")
        assert (ada.what_if.commissions, ada.what_if.bonuses) == (1_000 * rate_e9 // 10**9, 0)


def test_ctrl_c_ends_it_with_one_line(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("ledger.operations.what_if.replay.what_if", interrupted)
    done = case.run(OTHER)
    assert done.exit_code == 1
    assert done.stderr == "stakelog what-if: interrupted; the log is unchanged, and no result was made\n"
