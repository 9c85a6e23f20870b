"""What `stakelog bench` measures of games and money flows."""

from collections import Counter
from pathlib import Path

import msgspec

from bench.lab.one_node import HOUSE_RULES
from bench.load import bodies
from bench.measures.commissions import pay_a_day
from bench.measures.games import counted_s
from bench.measures.leaders import read_leaders
from bench.measures.settlement import settle_a_period
from bench.yardsticks.sqlite import verification
from ledger.core.games.rules import read_rules
from ledger.core.money_rules import NO_MONEY_RULES
from ledger.operations.verifying.records import read
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.readers import SqliteRecords
from projections.models.leaderboards import StandingRow


def types_in(folder: Path) -> Counter[str]:
    """How many events of each type the log has. The log is verified."""
    verification(folder)
    records = SqliteRecords(folder / EVENTS)
    try:
        return Counter(
            read(record).type
            for partition, end in enumerate(records.ends())
            for page in records.read(partition, end)
            for record, _ in page
        )
    finally:
        records.close()


async def test_the_settlement_ends_when_every_open_bet_of_the_period_is_settled(tmp_path: Path) -> None:
    settled = await settle_a_period(tmp_path, 25)
    found = types_in(tmp_path)
    assert (found["bet_placed"], found["bet_settled"], found["result_recorded"]) == (25, 25, 1)
    assert settled.events == 26
    assert settled.waits_ms == sorted(settled.waits_ms)
    assert found["deposited"] == 3 + len(settled.waits_ms)


async def test_the_day_ends_when_every_commission_is_paid(tmp_path: Path) -> None:
    """Members 1 to 3 are referred by member 0, 4 to 9 by them."""
    day = await pay_a_day(tmp_path, 10)
    found = types_in(tmp_path)
    assert (found["commission_due"], found["commission_paid"]) == (9, 3 * 1 + 6 * 2)
    assert day.events == 9 + 15
    assert found["deposited"] == 10 + len(day.waits_ms)


def test_the_house_has_every_money_flow_and_takes_all_bets_of_a_run() -> None:
    rules = read_rules(msgspec.json.encode(HOUSE_RULES).decode(), {"INR": 2})
    money = rules.money["INR"]
    unchanged = [name for name in money.__struct_fields__ if getattr(money, name) == getattr(NO_MONEY_RULES, name)]
    assert unchanged == ["attendance_needs_deposit", "bonus_expires_after_s", "withdrawal_max"]
    assert rules.games[bodies.GAME].table.bets_per_period == 1_000_000


def test_the_background_check_is_not_part_of_what_games_cost() -> None:
    assert counted_s({"serve": 1.5, "project follow": 0.5, "project check": 9.0}) == 2.0


def test_the_leaderboards_of_the_month_are_read_in_turns() -> None:
    paths = [request.split(b" ", 2)[1].decode() for request in bodies.leaderboard_reads(6)]
    boards = [f"/v1/leaderboards/{measure}_month?asset=INR" for measure in ("staked", "won", "net")]
    assert paths == boards * 2


async def test_every_user_of_the_loaded_month_is_on_its_leaderboards(tmp_path: Path) -> None:
    """The largest sums are computed here, by the loader's formula."""
    found = await read_leaders(tmp_path, 300)
    assert found.reads.done == 30
    for measure, (user_id, value) in found.first.items():
        at = 1 + StandingRow.__struct_fields__.index(f"month_{measure}_low")  # the first column is the partition
        sums = [1 + user * (7_919 + at) % 1_000_003 for user in range(300)]
        assert (user_id, value) == (f"w-{sums.index(max(sums)):07d}", max(sums)), measure
