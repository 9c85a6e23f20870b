"""The member ``money`` of the rules file: what it may say, and the digest that names it."""

import json
import re
from typing import Any

import pytest

from ledger.core.games.rules import book_of, read_rules
from ledger.core.money_rules import (
    Commission,
    Money,
    MoneyRules,
    canonical,
    digest_of,
    read_all,
    read_kept,
    write_all,
)
from ledger.core.rules_file import WrongRules

ASSETS = {"INR": 2, "GOLD": 0}

# The example of the contract.
CONTRACT: dict[str, Any] = {
    "registration": 2500,
    "first_deposit": [[10000, 2000], [30000, 6000]],
    "attendance": [700, 2000, 10000],
    "attendance_needs_deposit": 0,
    "bonus_expires_after_s": None,
    "wagering": {"deposit": 1, "bonus": 1},
    "withdrawal": {"min": 11000, "max": 5000000, "per_day": 3},
    "valid_referral": 30000,
    "invitation": [[1, 5500], [3, 15500]],
    "commission": {
        "mode": "daily",
        "delay_s": 600,
        "rates_e9": [6000000, 1800000, 540000, 162000, 48600, 14580],
        "agents": {"1": [7000000, 2450000, 857500, 300125, 105044, 36765]},
    },
}


def money_of(inr: Any) -> Money:
    return read_rules(json.dumps({"money": {"INR": inr}}), ASSETS).money


def test_the_example_of_the_contract_is_read() -> None:
    assert money_of(CONTRACT) == {
        "INR": MoneyRules(
            registration=2500,
            first_deposit=((10000, 2000), (30000, 6000)),
            attendance=(700, 2000, 10000),
            wagering_deposit=1,
            wagering_bonus=1,
            withdrawal_min=11000,
            withdrawal_max=5000000,
            withdrawal_per_day=3,
            valid_referral=30000,
            invitation=((1, 5500), (3, 15500)),
            commission=Commission(
                delay_s=600,
                rates_e9=(6000000, 1800000, 540000, 162000, 48600, 14580),
                agents={"1": (7000000, 2450000, 857500, 300125, 105044, 36765)},
            ),
        )
    }


def test_an_agent_level_without_rates_of_its_own_gets_the_common_rates() -> None:
    commission = Commission(rates_e9=(6, 1), agents={"1": (7,)})
    assert [commission.rates_of(level) for level in (0, 1, 2)] == [(6, 1), (7,), (6, 1)]


def test_an_asset_with_default_values_only_has_no_rules() -> None:
    nulls = {**dict.fromkeys(CONTRACT), "wagering": {"deposit": None}, "withdrawal": {}, "registration": 0}
    assert money_of({}) == money_of(None) == money_of(nulls) == {}
    book = book_of({}, money=money_of({}))
    assert (book.money, book.money_digest, book.money_kept) == ({}, "", {})


def test_the_digest_names_the_rules_and_not_their_spelling() -> None:
    spelled = dict(reversed(CONTRACT.items()))
    digest = digest_of(money_of(CONTRACT))
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest == digest_of(money_of(spelled))
    assert digest != digest_of(money_of({**CONTRACT, "registration": 2501}))
    assert digest != digest_of(read_rules(json.dumps({"money": {"GOLD": CONTRACT}}), ASSETS).money)


def test_a_book_keeps_the_rules_of_the_log_beside_its_own() -> None:
    old, new = money_of({"registration": 1}), money_of(CONTRACT)
    book = book_of({}, None, new, {digest_of(old): old})
    assert (book.money, book.money_digest) == (new, digest_of(new))
    assert book.money_kept == {digest_of(old): old, digest_of(new): new}


def test_what_a_log_keeps_is_read_back_and_refused_under_another_digest() -> None:
    money = money_of(CONTRACT)
    digest = digest_of(money)
    assert read_kept(digest, canonical(money)) == money
    assert read_all(write_all({digest: money})) == {digest: money}
    other = digest_of(money_of({"registration": 1}))
    for refused in (
        lambda: read_kept(other, canonical(money)),
        lambda: read_all(write_all({other: money})),
        lambda: read_kept(digest, b"{}"),
        lambda: read_kept(digest, b"\xff"),
        lambda: read_all("[]"),
    ):
        with pytest.raises(ValueError, match=r"digest|UTF-8|utf-8|Expected|malformed"):
            refused()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"referral": 1}, "money.INR.referral is not a key"),
        ({"registration": -1}, "money.INR.registration: "),
        ({"registration": 2**53}, "money.INR.registration: "),
        ({"registration": 25.0}, "money.INR.registration: "),
        ({"registration": True}, "money.INR.registration: "),
        ({"first_deposit": {"100": 20}}, "money.INR.first_deposit: it must be a JSON array"),
        ({"first_deposit": [[100]]}, "money.INR.first_deposit[0]: "),
        ({"first_deposit": [[100, 20], [100, 30]]}, "money.INR.first_deposit[1]: steps must ascend"),
        ({"first_deposit": [[100, 0]]}, "money.INR.first_deposit[0][1]: "),
        ({"first_deposit": [[n + 1, 1] for n in range(367)]}, "money.INR.first_deposit: "),
        ({"attendance": [700, 0]}, "money.INR.attendance[1]: "),
        ({"attendance_needs_deposit": "1"}, "money.INR.attendance_needs_deposit: "),
        ({"bonus_expires_after_s": 0}, "money.INR.bonus_expires_after_s: "),
        ({"wagering": 1}, "money.INR.wagering: it must be a JSON object"),
        ({"wagering": {"stake": 1}}, "money.INR.wagering.stake is not a key"),
        ({"wagering": {"bonus": 1001}}, "money.INR.wagering.bonus: "),
        ({"withdrawal": {"a_day": 1}}, "money.INR.withdrawal.a_day is not a key"),
        ({"withdrawal": {"min": 2, "max": 1}}, "money.INR.withdrawal.min: it is above max"),
        ({"withdrawal": {"per_day": -1}}, "money.INR.withdrawal.per_day: "),
        ({"valid_referral": 0}, "money.INR.valid_referral: "),
        ({"invitation": [[3, 1], [1, 1]]}, "money.INR.invitation[1]: steps must ascend"),
        ({"commission": []}, "money.INR.commission: it must be a JSON object"),
        ({"commission": {"mode": "weekly"}}, "money.INR.commission.mode: "),
        ({"commission": {"delay_s": 86400}}, "money.INR.commission.delay_s: "),
        ({"commission": {"rates_e9": [1] * 7}}, "money.INR.commission.rates_e9: "),
        ({"commission": {"rates_e9": [10**9 + 1]}}, "money.INR.commission.rates_e9[0]: "),
        ({"commission": {"agents": {"11": [1]}}}, "money.INR.commission.agents.11: "),
        ({"commission": {"agents": {"01": [1]}}}, "money.INR.commission.agents.01: "),
        ({"commission": {"agents": {"1": [-1]}}}, "money.INR.commission.agents.1[0]: "),
    ],
)
def test_an_unknown_key_or_a_value_out_of_range_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongRules, match=re.escape(named)):
        money_of({**CONTRACT, **changes})


def test_an_asset_that_is_not_declared_is_refused_by_name() -> None:
    with pytest.raises(WrongRules, match=r"money\.EUR: the asset is not declared"):
        read_rules('{"money": {"EUR": {}}}', ASSETS)
