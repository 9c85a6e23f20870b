"""The pay tables: every result of every leg of every game, against the returns of the betting domain.

A kind of game that is not in ``RETURNS`` has a test of its own, ``test_game_<rules>.py``.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

from ledger.core.fields import Proof
from ledger.core.games.catalog import KINDS
from ledger.core.games.payout import legs_of, pay_legs
from ledger.core.games.rules import built_in_games
from ledger.core.games.trx_wix import digit_of
from ledger.core.rejections import Code
from naive_games import RESULTS, legs, odds_of

# The legs by what they pay on average of the contract amount (the stake less the fee), exactly.
_WINGO = {
    **{leg: Fraction(100, 100) for leg in ("big", "small", "odd", "even")},
    **{leg: Fraction(95, 100) for leg in ("green", "red")},
    **{leg: Fraction(90, 100) for leg in ("violet", *(f"number:{digit}" for digit in range(10)))},
}
_K3_SUMS = {3: (1, 20_736), 4: (3, 6_912), 5: (6, 3_456), 6: (10, 2_074)} | {
    7: (15, 1_383),
    8: (21, 988),
    9: (25, 830),
    10: (27, 768),
}
_K3 = {
    **{f"sum:{total}": wins for total, wins in _K3_SUMS.items()},
    **{f"sum:{21 - total}": wins for total, wins in _K3_SUMS.items()},
    **dict.fromkeys(("big", "small", "odd", "even"), (108, 192)),
    **{leg: (15, 1_383) for leg in legs("k3") if leg.startswith("pair:") and "," not in leg},
    **{leg: (3, 6_912) for leg in legs("k3") if "," in leg},
    **{leg: (1, 20_736) for leg in legs("k3") if leg.startswith("triple:")},
    "triple": (6, 3_456),
    **{leg: (6, 3_456) for leg in legs("k3") if leg.startswith("set:")},
    "consecutive": (24, 864),
    **{leg: (30, 691) for leg in legs("k3") if leg.startswith("two:")},
}
RETURNS: dict[str, dict[str, Fraction]] = {
    "wingo": _WINGO,
    "trx_wix": _WINGO,
    "k3": {leg: Fraction(wins * odds, 216 * 100) for leg, (wins, odds) in _K3.items()},
    "5d": {leg: Fraction(90 if leg[-1].isdigit() else 100, 100) for leg in legs("5d")},
}


def _returned(rules: str, leg: str) -> Fraction:
    """What the leg pays on average of the contract amount: all results are equally likely."""
    return _enumerated(rules, leg)[0]


@cache
def _enumerated(rules: str, leg: str) -> tuple[Fraction, frozenset[str]]:
    """Every result: what the leg returns, and the leg kinds that it wins at. Each is compared with the independent
    table."""
    return _compared(rules, leg, RESULTS[rules])


def _compared(rules: str, leg: str, results: Sequence[str]) -> tuple[Fraction, frozenset[str]]:
    kind = KINDS[rules]
    odds: dict[str | None, int] = dict(kind.odds.items())
    odds[None] = 0
    wins = kind.wins
    won = [(wins(leg, result), result) for result in results]
    assert all(odds[name] == odds_of(rules, leg, result) for name, result in won), leg
    returned = Fraction(sum(kind.odds[name] for name, _ in won if name is not None), 100 * len(results))
    return returned, frozenset(name for name, _ in won if name is not None)


def test_every_kind_of_game_has_its_returns() -> None:
    for rules in KINDS.keys() - RETURNS.keys():
        assert (Path(__file__).parent / f"test_game_{rules}.py").exists(), f"no test enumerates the legs of {rules}"
    for rules, returns in RETURNS.items():
        assert sorted(returns) == sorted(legs(rules)) == sorted(KINDS[rules].legs), rules


def test_every_leg_of_5d_pays_on_one_result_of_37_what_the_independent_table_says() -> None:
    """Before each commit; `make test` enumerates all 100,000 results, which takes seconds."""
    for leg in legs("5d"):
        returned, _ = _compared("5d", leg, RESULTS["5d"][::37])
        assert abs(returned - RETURNS["5d"][leg]) < Fraction(1, 10), leg


@pytest.mark.parametrize(
    "rules", [rules if rules != "5d" else pytest.param(rules, marks=pytest.mark.system) for rules in RETURNS]
)
def test_every_leg_pays_on_every_result_what_the_table_says(rules: str) -> None:
    for leg in legs(rules):
        assert leg in KINDS[rules].legs, leg
        assert _returned(rules, leg) == RETURNS[rules][leg], leg
    assert {name for leg in legs(rules) for name in _enumerated(rules, leg)[1]} == KINDS[rules].odds.keys()


def test_wingo_returns_on_the_stake_are_those_of_the_table() -> None:
    table = built_in_games()["wingo_30s"].table
    for leg, percent in {"number:7": "88.2", "green": "93.1", "violet": "88.2", "big": "98.0", "odd": "98.0"}.items():
        paid = sum(pay_legs(table, leg, 10_000, result)[0].payout for result in RESULTS["wingo"])
        assert Fraction(paid, 1_000) == Fraction(percent), leg


@pytest.mark.parametrize("rules", RETURNS)
def test_only_the_spelled_results_are_results(rules: str) -> None:
    is_result = KINDS[rules].is_result
    assert all(is_result(result) for result in RESULTS[rules])
    for text in ("", " 7", "7 ", "07", "-1", "٣", "１", "0", "135", "01234", "177", "012345", "1.5"):
        assert is_result(text) == (text in RESULTS[rules]), text


@pytest.mark.parametrize(
    ("rules", "selection"),
    [
        *(("wingo", text) for text in ("", "+", "red+", "red+red", "Red", "number:10", "number:", "number", "red ")),
        *(("k3", text) for text in ("sum:2", "sum:19", "sum:03", "pair", "pair:12", "pair:11,1", "triple:112")),
        *(("k3", text) for text in ("set:321", "set:112", "two:21", "two:11", "consecutive:123", "sum")),
        *(("5d", text) for text in ("F:1", "A", "A:", "A:10", "sum:5", "big", "a:big", "A:٣")),
    ],
)
def test_what_is_no_selection_is_refused(rules: str, selection: str) -> None:
    assert legs_of(rules, selection) is None


def test_a_selection_is_at_most_128_characters_long() -> None:
    selection = "+".join(leg for leg in legs("k3") if leg.startswith("set:"))
    assert len(selection) > 128
    assert legs_of("k3", selection) is None
    assert legs_of("k3", selection[:127]) is not None  # sixteen sets


# --- the known defects of public code -----------------------------------------------------------------------------


def test_defect_k3_small_is_3_to_10_not_to_11() -> None:
    assert KINDS["k3"].wins("small", "245") is None
    assert KINDS["k3"].wins("big", "245") == "big"
    assert _returned("k3", "small") + _returned("k3", "big") == Fraction(192, 100)


def test_defect_k3_the_sum_4_is_paid() -> None:
    assert [KINDS["k3"].wins("sum:4", roll) for roll in ("112", "121", "211")] == ["sum_4"] * 3


def test_defect_k3_a_pair_is_not_paid_on_a_triple() -> None:
    assert KINDS["k3"].wins("pair:11", "111") is None
    assert _returned("k3", "pair:11") == Fraction(15 * 1_383, 21_600)
    assert Fraction(16 * 1_383, 21_600) > 1, "with the triple the player would have the edge"


def test_defect_k3_sets_are_compared_without_order() -> None:
    for roll in ("125", "152", "215", "251", "512", "521"):
        assert KINDS["k3"].wins("set:125", roll) == "set"
    assert _returned("k3", "set:125") == Fraction(96, 100), "in one order alone it would be 16 %"
    assert KINDS["k3"].wins("consecutive", "321") == "consecutive"
    assert KINDS["k3"].wins("pair:11,6", "161") == "pair_single"


def test_defect_k3_no_pair_without_its_number_can_be_bet() -> None:
    """Any pair at the odds of a given one would return 576 %."""
    assert legs_of("k3", "pair") is None
    assert legs_of("k3", "two") is None


@pytest.mark.system
def test_defect_5d_a_big_sum_begins_at_23() -> None:
    assert KINDS["5d"].wins("sum:big", "99400") is None  # 22
    assert KINDS["5d"].wins("sum:small", "99400") == "sum_small"
    assert KINDS["5d"].wins("sum:big", "99500") == "sum_big"
    assert _returned("5d", "sum:big") == _returned("5d", "sum:small") == 1


def test_defect_trx_wix_the_digit_is_the_last_decimal_one_not_the_last_character() -> None:
    assert digit_of("0" * 60 + "7abf") == "7"
    assert digit_of("f" * 64) is None


def test_defect_trx_wix_a_block_from_before_the_end_proves_nothing() -> None:
    unproven = KINDS["trx_wix"].unproven
    block_hash = "0" * 63 + "7"
    assert unproven("7", Proof(hash=block_hash, height=1, time_us=1_000), 1_000) is None
    assert unproven("7", Proof(hash=block_hash, height=1, time_us=999), 1_000) is not None
    assert unproven("8", Proof(hash=block_hash, height=1, time_us=1_000), 1_000) is not None
    assert unproven("7", None, 1_000) is not None
    for malformed in (block_hash[1:], "g" + block_hash[1:], block_hash + "7", "٧" * 64):
        assert unproven("7", Proof(hash=malformed, height=1, time_us=1_000), 1_000) is not None


def test_defect_money_is_never_rounded_by_floats() -> None:
    """0.29 × 100 is 28.999… as a float: a payout of 29 would lose a unit."""
    table = built_in_games()["k3_1m"].table
    (leg,) = pay_legs(table, "sum:9", 2**53 - 1, "135")
    stake = 2**53 - 1
    assert leg.payout == (stake - stake * 200 // 10_000) * 830 // 100


def test_every_refusal_of_a_game_is_a_problem_of_the_contract() -> None:
    codes = {"unknown_game", "period_closed", "period_not_closed", "invalid_selection", "invalid_result"}
    assert codes | {"result_already_recorded", "settled_by_result"} <= set(Code)
