"""``audit verify`` of games: each rule of a bet and of its settlement, broken by hand. See ``test_audit``."""

from typing import Any

import pytest

from ledger.core.position import partition_of
from ledger.operations.verifying.records import Record, ResultRecorded
from ledger.operations.verifying.settlements import Settlements
from unit.test_audit import (
    CAI,
    NOON,
    PARTITIONS,
    Change,
    as_record,
    day,
    fault_of,
    parsed,
    place_of,
    rechained,
    setting,
    whole_day,
    with_request,
)

__all__ = ["day", "whole_day"]  # fixtures

C = partition_of(CAI, PARTITIONS)
G = partition_of("game:wingo_30s", PARTITIONS)


def forge_of(day: list[list[bytes]], partition: int, kind: str, has: str, change: Change) -> int:
    """As ``forge``, of the first event of that type whose data has this member."""
    events = [parsed(record) for record in day[partition]]
    index = next(at for at, event in enumerate(events) if event["type"] == kind and has in event["data"])
    event = events[index]
    change(event)
    event["data"] = dict(sorted(event["data"].items()))
    day[partition][index] = as_record(with_request(event))
    day[partition] = rechained(day[partition])
    return index + 1


def pay_more(event: dict[str, Any]) -> None:
    """A payout, with its postings and balance, that is one unit more than its legs'."""
    event["data"]["payout"] += 1
    event["postings"][0][2] -= 1
    event["postings"][1][2] += 1
    event["balances"]["INR"]["cash"] += 1


def by_command(event: dict[str, Any]) -> None:
    """A settlement as if the game server had posted it."""
    event.update(command_id="own-1", actor="local")
    for name in ("asset", "cause", "legs"):
        del event["data"][name]


def other_cause(event: dict[str, Any]) -> None:
    event["data"]["cause"] = f"{G}:2"


def other_bet(event: dict[str, Any]) -> None:
    event["command_id"] += "1"


def other_hash(event: dict[str, Any]) -> None:
    event["command_id"] = "~" + "0" * 64 + event["command_id"][65:]


def without(name: str) -> Change:
    def change(event: dict[str, Any]) -> None:
        del event["data"][name]

    return change


_OVER, _OFF_GRID = "20261123T145930Z", "20261123T145931Z"
FAULTS: dict[str, tuple[str, str, Change, str]] = {
    "a payout that its legs do not give": ("bet_settled", "legs", pay_more, "its legs do not pay"),
    "legs of another selection": ("bet_settled", "legs", setting("data", "legs", 0, 0, to="green"), "not those of"),
    "an unequal split": ("bet_settled", "legs", setting("data", "legs", 0, 1, to=50), "equal parts"),
    "no legs": ("bet_settled", "legs", without("legs"), "has legs"),
    "a settlement by a command": ("bet_settled", "legs", by_command, "not ended by a command"),
    "another cause": ("bet_settled", "legs", other_cause, "as its cause, the cause is"),
    "another asset": ("bet_settled", "legs", setting("data", "asset", to="USDT"), "is of INR"),
    "the id of another bet": ("bet_settled", "legs", other_bet, "the seq of its bet"),
    "another hash": ("bet_settled", "legs", other_hash, "not the outcome"),
    "a stake that was not returned": ("bet_cancelled", "amount", setting("data", "amount", to=100), "the stake of"),
    "another reason": ("bet_cancelled", "cause", setting("data", "reason", to="x"), "in another way"),
    "a fee above the stake": ("bet_placed", "fee", setting("data", "fee", to=102), "its fee is 102"),
    "a fee that is not posted": ("bet_placed", "fee", setting("data", "fee", to=3), "its type and data give"),
    "a bet after its period": ("bet_placed", "rules", setting("data", "period", to=_OVER), "outside of its period"),
    "a period off the grid": ("bet_placed", "rules", setting("data", "period", to=_OFF_GRID), "has no period"),
    "a bet without rules": ("bet_placed", "rules", without("rules"), "no rules"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_false_bet_of_a_game_is_a_fault(day: list[list[bytes]], fault: str) -> None:
    kind, has, change, reason = FAULTS[fault]
    seq = forge_of(day, C, kind, has, change)
    found = fault_of(day)
    assert place_of(found) == (C, seq)
    assert reason in found.reason


def test_a_result_that_was_changed_is_no_longer_the_cause_of_its_settlements(day: list[list[bytes]]) -> None:
    forge_of(day, G, "result_recorded", "result", setting("data", "result", to="2"))
    assert "is not the outcome of the period" in fault_of(day).reason


def test_a_result_before_the_end_of_its_period_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge_of(day, G, "result_recorded", "result", setting("data", "period", to="20261123T150030Z"))
    fault = fault_of(day)
    assert place_of(fault) == (G, seq)
    assert "before its end" in fault.reason


def test_a_period_with_two_outcomes_is_a_fault(day: list[list[bytes]]) -> None:
    bets = [parsed(record) for record in day[C]]
    last = next(at for at, event in enumerate(bets) if event["data"].get("period") == "20261123T150030Z")
    del day[C][last:]  # the bets of the second period: its cancellation becomes another outcome of the first
    seq = forge_of(day, G, "period_cancelled", "period", setting("data", "period", to="20261123T150000Z"))
    fault = fault_of(day)
    assert place_of(fault) == (G, seq)
    assert "is used twice" in fault.reason


def test_outcomes_are_forgotten_once_no_bet_waits_for_them() -> None:
    settlements = Settlements()
    for number, period in enumerate(("20261123T130000Z", "20261123T130030Z", "20261123T130100Z")):
        data = ResultRecorded(period=period, result="7")
        time_us = NOON + (30 * number + 32) * 1_000_000
        event = Record(1, 0, 1, "", time_us, "game:wingo_30s", "r", "", "a", "result_recorded", data, [], {})
        settlements.outcome(event, f"{number:064x}")
    settlements.forget(NOON + 92 * 1_000_000)
    assert len(settlements._outcomes) == 1
