"""``audit verify`` of games: each rule of a bet and of its settlement, broken by hand. See ``test_audit``."""

from hashlib import sha256
from typing import Any

import pytest
from msgspec import UNSET

from ledger.core.games.catalog import KINDS
from ledger.core.games.rules import BUILT_IN
from ledger.core.position import partition_of
from ledger.operations.audit import verify
from ledger.operations.verifying.pay_tables import PayTables, WrongTable, won_by
from ledger.operations.verifying.postings import Mismatch
from ledger.operations.verifying.records import Record
from ledger.operations.verifying.settlements import Settlements
from ledger.operations.verifying.shapes import Proof, ResultRecorded
from naive_games import RESULTS, legs
from unit.test_audit import (
    BUILT_IN_TABLES,
    CAI,
    NOON,
    PARTITIONS,
    WINGO,
    Change,
    Lists,
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


def relinked(day: list[list[bytes]], was: list[list[bytes]], forged: tuple[int, int]) -> list[list[bytes]]:
    """The day as a forger would leave it: what other partitions received names the new hashes of the records after
    the forged one. The forged record's own new hash is named nowhere."""
    found = day
    while True:
        renamed = {
            sha256(old).hexdigest().encode(): sha256(new).hexdigest().encode()
            for partition in range(PARTITIONS)
            for index, (old, new) in enumerate(zip(was[partition], found[partition], strict=True))
            if old != new and (partition, index + 1) != forged
        }
        before, found = found, [rechained([_renamed(record, renamed) for record in records]) for records in day]
        if found == before:
            return found


def _renamed(record: bytes, renamed: dict[bytes, bytes]) -> bytes:
    for old, new in renamed.items():
        record = record.replace(old, new)
    return record


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


def another_winner(event: dict[str, Any]) -> None:
    """The stake of the leg that won pays on the other leg, at the same sum."""
    legs = event["data"]["legs"]
    legs[0][2], legs[1][2] = legs[1][2], legs[0][2]


def other_table(event: dict[str, Any]) -> None:
    event["data"]["rules"] = BUILT_IN.games["k3_30s"].digest


def other_fee(event: dict[str, Any]) -> None:
    event["data"]["fee"] += 1
    event["postings"][2][2] -= 1
    event["postings"][3][2] += 1


def closing(event: dict[str, Any]) -> None:
    """The bet is placed within the last 5 s of its period."""
    event["time_us"] += 25_000_000


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
    "a leg that did not win": ("bet_settled", "legs", another_winner, "on the result 7, by its pay table 0"),
    "a table of other rules": ("bet_placed", "rules", other_table, "its pay table is one of k3"),
    "a fee that its table does not ask": ("bet_placed", "fee", other_fee, "its fee is 3, by its pay table 2"),
    "a bet after its period has closed": ("bet_placed", "rules", closing, "after its period had closed"),
    "a bet without rules": ("bet_placed", "rules", without("rules"), "no rules"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_false_bet_of_a_game_is_a_fault(day: list[list[bytes]], fault: str) -> None:
    kind, has, change, reason = FAULTS[fault]
    was = [list(records) for records in day]
    seq = forge_of(day, C, kind, has, change)
    found = fault_of(relinked(day, was, (C, seq)))
    assert place_of(found) == (C, seq)
    assert reason in found.reason


def test_a_result_that_was_changed_is_no_longer_the_cause_of_its_settlements(day: list[list[bytes]]) -> None:
    was = [list(records) for records in day]
    seq = forge_of(day, G, "result_recorded", "result", setting("data", "result", to="2"))
    assert "is not the outcome of the period" in fault_of(relinked(day, was, (G, seq))).reason


def test_a_result_before_the_end_of_its_period_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge_of(day, G, "result_recorded", "result", setting("data", "period", to="20261123T150030Z"))
    fault = fault_of(day)
    assert place_of(fault) == (G, seq)
    assert "before its end" in fault.reason


@pytest.mark.parametrize("result", ["77", "x", "", "٧"])
def test_a_result_that_no_period_of_the_game_has_is_a_fault(day: list[list[bytes]], result: str) -> None:
    seq = forge_of(day, G, "result_recorded", "result", setting("data", "result", to=result))
    fault = fault_of(day)
    assert place_of(fault) == (G, seq)
    assert "is not a result of wingo" in fault.reason


END_US = 1_795_438_830_000_000
"""The end of the period 20261123T130000Z of 30 s."""


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (None, "has no proof"),
        (Proof(hash="7" * 63, height=1, time_us=END_US), "has no proof"),
        (Proof(hash="7" * 63 + "8", height=1, time_us=END_US), "last decimal digit"),
        (Proof(hash="a" * 64, height=1, time_us=END_US), "last decimal digit"),
        (Proof(hash="8" * 63 + "7", height=1, time_us=END_US - 1), "before the end"),
        (Proof(hash="8" * 60 + "7abF", height=1, time_us=END_US), None),
    ],
)
def test_a_result_of_trx_wix_is_the_last_decimal_digit_of_a_later_block(proof: Any, reason: str | None) -> None:
    data = ResultRecorded(period="20261123T130000Z", result="7", proof=UNSET if proof is None else proof)
    event = Record(1, 0, 1, "", END_US + 2_000_000, "game:trx_wix_30s", "r", "", "a", "result_recorded", data, [], {})
    settlements = Settlements(PayTables({}))
    if reason is None:
        settlements.outcome(event, "0" * 64)
        return
    with pytest.raises(Mismatch, match=reason):
        settlements.outcome(event, "0" * 64)


def test_a_bet_under_a_table_that_is_not_known_is_named(day: list[list[bytes]]) -> None:
    assert verify(Lists(day)).missing_tables == (BUILT_IN.games[WINGO].digest,)
    assert verify(Lists(day), tables=BUILT_IN_TABLES).missing_tables == ()


def test_a_table_under_the_digest_of_another_one_is_refused(day: list[list[bytes]]) -> None:
    digest, form = BUILT_IN.games[WINGO].digest, BUILT_IN_TABLES[BUILT_IN.games[WINGO].digest]
    with pytest.raises(WrongTable, match="has another digest"):
        verify(Lists(day), tables={digest: form.replace(b"900", b"901")})
    with pytest.raises(WrongTable, match="cannot be read"):
        verify(Lists(day), tables={digest: b"{"})


@pytest.mark.parametrize("rules", ["wingo", "trx_wix", "k3", "5d"])
def test_the_auditor_and_the_writer_agree_on_every_leg_that_wins(rules: str) -> None:
    step = 41 if rules == "5d" else 1
    for leg in legs(rules):
        for result in RESULTS[rules][::step]:
            assert won_by(rules, leg, result) == KINDS[rules].wins(leg, result), (leg, result)


@pytest.mark.parametrize(("rules", "leg"), [("wingo", "purple"), ("k3", "quad"), ("5d", "F:7"), ("dice", "big")])
def test_a_leg_that_the_rules_do_not_have_is_a_mismatch(rules: str, leg: str) -> None:
    with pytest.raises(Mismatch, match="is not a leg of"):
        won_by(rules, leg, {"k3": "135", "5d": "01234"}.get(rules, "7"))


def test_a_period_with_two_outcomes_is_a_fault(day: list[list[bytes]]) -> None:
    bets = [parsed(record) for record in day[C]]
    last = next(at for at, event in enumerate(bets) if event["data"].get("period") == "20261123T150030Z")
    del day[C][last:]  # the bets of the second period: its cancellation becomes another outcome of the first
    seq = forge_of(day, G, "period_cancelled", "period", setting("data", "period", to="20261123T150000Z"))
    fault = fault_of(day)
    assert place_of(fault) == (G, seq)
    assert "is used twice" in fault.reason


def test_outcomes_are_forgotten_once_no_bet_waits_for_them() -> None:
    settlements = Settlements(PayTables({}))
    for number, period in enumerate(("20261123T130000Z", "20261123T130030Z", "20261123T130100Z")):
        data = ResultRecorded(period=period, result="7")
        time_us = NOON + (30 * number + 32) * 1_000_000
        event = Record(1, 0, 1, "", time_us, "game:wingo_30s", "r", "", "a", "result_recorded", data, [], {})
        settlements.outcome(event, f"{number:064x}")
    settlements.forget(NOON + 92 * 1_000_000)
    assert len(settlements._outcomes) == 1
