"""The auditor and the bonuses of the ledger's own: what led to them, their ids, the days of attendance."""

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from ledger.core.commands import ClaimAttendance, Deposit, OpenWallet, canonical
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.owns_all import node_of_whole_log
from ledger.operations.audit import verify
from unit.test_audit import ADA, Clock, Lists, as_record, fault_of, parsed, rechained


async def a_day_of_money_flows() -> list[list[bytes]]:
    log, clock = MemoryEventLog(1), Clock()
    rules = '{"money": {"INR": {"registration": 25, "first_deposit": [[100, 20]], "attendance": [7, 8]}}}'
    book = book_of(BUILT_IN.games, money=read_rules(rules, {"INR": 2}).money)
    node = node_of_whole_log(log, MemoryStateStore(), clock, {"INR": 2}, rules=book)
    await node.start()
    a: dict[str, Any] = {"user_id": ADA}
    for command in (
        OpenWallet(command_id="c1", **a),
        Deposit(command_id="c2", order_id="o1", amount=100, asset="INR", **a),
        Deposit(command_id="c3", order_id="o2", amount=100, asset="INR", **a),
        ClaimAttendance(command_id="c4", asset="INR", **a),
    ):
        await node.post(command, sha256(canonical(command)).hexdigest(), "local")
    await node.stop()
    return log.appended.records


@pytest.mark.parametrize(
    ("seq", "change", "says"),
    [
        (2, {"cause": "0:3"}, "does not follow directly"),
        (2, {"kind": "first_deposit"}, "does not follow directly"),
        (2, {"kind": "gratitude"}, "known kind"),
        (2, {"grant_id": "~registration:2"}, "not ~registration:1"),
        (4, {"cause": "0:1"}, "does not follow directly"),
        (4, {"wagering": 0}, "adds 0 to the wagering"),
        (3, {"first_deposit": False}, "it is the first deposit"),
        (5, {"first_deposit": True}, "it is not the first deposit"),
        (6, {"day": "2026-11-24"}, "not the UTC day"),
        (6, {"streak": 2}, "streak is 2, after a streak of 0"),
        (6, {"grant_id": "~attendance:2"}, "not ~attendance:1"),
    ],
)
def test_a_bonus_of_the_ledgers_own_that_nothing_led_to_is_a_fault(
    seq: int, change: dict[str, Any], says: str
) -> None:
    day = asyncio.run(a_day_of_money_flows())
    verify(Lists(day))
    event = parsed(day[0][seq - 1])
    event["data"] = dict(sorted((event["data"] | change).items()))
    day[0][seq - 1] = as_record(event)
    fault = fault_of([rechained(day[0])])
    assert (fault.seq, says in fault.reason) == (seq, True), fault


@pytest.mark.parametrize(("seq", "kind"), [(2, "registration"), (4, "first_deposit")])
def test_a_cause_that_leads_to_the_same_bonus_twice_is_a_fault(seq: int, kind: str) -> None:
    records = asyncio.run(a_day_of_money_flows())[0][:seq]
    again = parsed(records[-1])
    again["command_id"] = f"~own:{seq + 1}"
    again["data"]["grant_id"] = f"~{kind}:2"
    again["balances"]["INR"]["bonus"] += again["data"]["amount"]
    verify(Lists([rechained(records)]))
    fault = fault_of([rechained([*records, as_record(again)])])
    assert (fault.seq, "the wallet has it already" in fault.reason) == (seq + 1, True), fault


def test_a_bonus_in_another_asset_than_its_deposit_is_a_fault() -> None:
    records = asyncio.run(a_day_of_money_flows())[0][:4]
    bonus = parsed(records[-1])
    amount = bonus["data"]["amount"]
    bonus["data"]["asset"] = "GOLD"
    bonus["postings"] = [[account, "GOLD", moved] for account, _, moved in bonus["postings"]]
    bonus["balances"] = {"GOLD": {"cash": 0, "bonus": amount, "held": 0}}
    fault = fault_of([rechained([*records[:-1], as_record(bonus)])])
    assert (fault.seq, "leads to no such bonus of GOLD" in fault.reason) == (4, True), fault
