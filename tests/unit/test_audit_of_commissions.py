"""``audit verify`` of commissions and valid referrals: each rule, broken by hand. See ``test_audit``."""

from typing import Any

import pytest

from ledger.core.money_rules import MoneyRules, digest_of
from ledger.core.money_rules import canonical as money_form
from ledger.core.position import partition_of
from ledger.operations.audit import Fault, verify
from unit.test_audit import (
    ADA,
    BOB,
    GUS,
    MONEY_FORMS,
    PARTITIONS,
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


def forge_of(day: list[list[bytes]], user_id: str, kind: str, change: Change) -> tuple[int, int]:
    """As ``forge``, of the user's first event of that type. Returns its partition and seq."""
    partition = partition_of(user_id, PARTITIONS)
    events = [parsed(record) for record in day[partition]]
    index = next(at for at, event in enumerate(events) if event["type"] == kind and event["user_id"] == user_id)
    event = events[index]
    change(event)
    event["data"] = dict(sorted(event["data"].items()))
    day[partition][index] = as_record(with_request(event))
    day[partition] = rechained(day[partition])
    return partition, index + 1


def pay_more(event: dict[str, Any]) -> None:
    """A commission, with its postings and balance, that is one unit more than its rate gives."""
    event["data"]["amount"] += 1
    event["postings"][0][2] -= 1
    event["postings"][1][2] += 1
    event["balances"]["INR"]["cash"] += 1


def pay(event: dict[str, Any], amount: int) -> None:
    """A first commission that pays so much, and carries the rest, with its postings and balance."""
    data = event["data"]
    less = data["amount"] - amount
    data.update(amount=amount, carried_e9=data["stake"] * data["rate_e9"] - amount * 10**9)
    if less:
        event["postings"] = [[event["postings"][0][0], "INR", -amount], [event["postings"][1][0], "INR", amount]]
        event["balances"]["INR"]["cash"] -= less


def at_rate(event: dict[str, Any], rate_e9: int) -> None:
    """A first commission at this rate, paid as the rate says."""
    event["data"]["rate_e9"] = rate_e9
    pay(event, event["data"]["stake"] * rate_e9 // 10**9)


def for_a_reason(event: dict[str, Any]) -> None:
    event["data"].update(reason="wallet_closed", amount=0)
    event.update(postings=[], balances={})


def due_later(event: dict[str, Any]) -> None:
    event["data"]["commission_at_us"] += 1


def due_before(event: dict[str, Any]) -> None:
    event["data"]["commission_at_us"] -= 1


def without(*names: str) -> Change:
    def change(event: dict[str, Any]) -> None:
        for name in names:
            del event["data"][name]

    return change


FAULTS: dict[str, tuple[str, str, Change, str]] = {
    "a unit too much": (BOB, "commission_paid", pay_more, "it pays 3 and carries"),
    "a fraction too much": (
        BOB,
        "commission_paid",
        setting("data", "carried_e9", to=994_000_001),
        "carries 994000001",
    ),
    "another rate": (BOB, "commission_paid", setting("data", "rate_e9", to=6_000_001), "billionths give"),
    "a rate above all": (BOB, "commission_paid", setting("data", "rate_e9", to=10**9 + 1), "is no commission"),
    "a reason that loses what was carried": (BOB, "commission_paid", for_a_reason, "carries 0 as before"),
    "a stake that was not settled": (GUS, "commission_due", setting("data", "stake", to=498), "it says 498"),
    "another day": (GUS, "commission_due", setting("data", "day", to="2026-11-22"), "no settled stake"),
    "other rules": (GUS, "commission_due", setting("data", "rules", to="0" * 64), "no settled stake"),
    "another cause": (GUS, "commission_due", setting("data", "cause", to="0:1"), "as its cause, the cause is"),
    "another id": (GUS, "commission_due", setting("command_id", to="~commission:1"), "its command_id is not"),
    "a walk beyond its end": (
        ADA,
        "commission_paid",
        setting("data", "referrer_id", to=BOB),
        "it goes on to bob, by its rules to no wallet",
    ),
    "another rate, and what it gives": (BOB, "commission_paid", lambda event: at_rate(event, 6_000_001), "6000000"),
    "the rate of wallets without an agent level": (
        ADA,
        "commission_paid",
        lambda event: at_rate(event, 1_800_000),
        "its rate is 1800000 billionths, by its rules 2000000",
    ),
    "less than the rate gives": (
        BOB,
        "commission_paid",
        lambda event: pay(event, event["data"]["amount"] - 1),
        "it pays 1 of 2, but the wallet has room for more",
    ),
    "a walk that ends too early": (
        BOB,
        "commission_paid",
        lambda event: event["data"].pop("referrer_id"),
        "it goes on to no wallet, by its rules to ada",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_false_commission_is_a_fault(day: list[list[bytes]], fault: str) -> None:
    user_id, kind, change, reason = FAULTS[fault]
    place = forge_of(day, user_id, kind, change)
    found = fault_of(day)
    assert reason in found.reason
    assert place_of(found) == place


SETTLED: dict[str, tuple[Change, str]] = {
    "a commission that is due later": (due_later, "by its rules at"),
    "a commission that is due before the bet was settled": (due_before, "before this event"),
    "a commission without rules": (without("commission_rules"), "has a time and rules"),
    "no commission": (without("commission_rules", "commission_at_us"), "no settled stake"),
}


@pytest.mark.parametrize("fault", SETTLED)
def test_a_settlement_that_earns_another_commission_is_a_fault(day: list[list[bytes]], fault: str) -> None:
    change, reason = SETTLED[fault]
    forge_of(day, GUS, "bet_settled", change)
    assert reason in fault_of(day).reason


MATCHES: dict[str, tuple[str, str, Change]] = {
    "of another member": (BOB, "commission_paid", setting("data", "member", to="mallory")),
    "of another day": (BOB, "commission_paid", setting("data", "day", to="2026-11-22")),
    "by other rules": (BOB, "commission_paid", setting("data", "rules", to="0" * 64)),
    "that counts another member": (BOB, "referral_valid", setting("data", "member", to=ADA)),
}


@pytest.mark.parametrize("fault", MATCHES)
def test_what_arrives_is_what_its_cause_sent(day: list[list[bytes]], fault: str) -> None:
    """Also the hashes of the later records are other ones then: the first record that shows it is named."""
    user_id, kind, change = MATCHES[fault]
    forge_of(day, user_id, kind, change)
    assert "its cause, sent the" in (reason := fault_of(day).reason) or "was sent by" in reason, reason


@pytest.mark.parametrize(
    ("name", "to", "says"),
    [("asset", "GOLD", "leads to no such bonus of INR"), ("reason", "wallet_closed", "directly")],
)
def test_a_referral_that_does_not_count_leads_to_no_bonus(
    day: list[list[bytes]], name: str, to: str, says: str
) -> None:
    partition, seq = forge_of(day, BOB, "referral_valid", setting("data", name, to=to))
    found = fault_of(day)
    assert (place_of(found), says in found.reason) == ((partition, seq + 1), True), found


def test_a_member_is_a_valid_referral_once_in_an_asset(day: list[list[bytes]]) -> None:
    def again(event: dict[str, Any]) -> None:
        event["data"]["referral_rules"] = "0" * 64

    forge_of(day, ADA, "deposited", again)
    assert "no referrer" in fault_of(day).reason


def test_a_commission_by_rules_that_have_none_is_a_fault(day: list[list[bytes]]) -> None:
    others = {"INR": MoneyRules(registration=1)}
    partition, seq = forge_of(day, GUS, "bet_settled", setting("data", "commission_rules", to=digest_of(others)))
    forms = MONEY_FORMS | {digest_of(others): money_form(others)}
    with pytest.raises(Fault, match="its rules have no commission of INR") as found:
        verify(Lists(day), money=forms)
    assert place_of(found.value) == (partition, seq)


def test_a_stake_of_a_wallet_without_a_referrer_earns_no_commission(day: list[list[bytes]]) -> None:
    def earning(event: dict[str, Any]) -> None:
        event["data"].update(commission_at_us=event["time_us"], commission_rules="0" * 64)

    place = forge_of(day, ADA, "bet_settled", earning)
    found = fault_of(day)
    assert (place_of(found), "the wallet has no referrer" in found.reason) == (place, True), found


def test_without_the_rules_a_walk_beyond_its_end_is_found_by_the_referrers(day: list[list[bytes]]) -> None:
    forge_of(day, ADA, "commission_paid", setting("data", "referrer_id", to=BOB))
    with pytest.raises(Fault, match="no commission of level 3 goes to bob"):
        verify(Lists(day))
