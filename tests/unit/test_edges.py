"""What a game wins of a stake beside what commissions and bonuses cost of it. All figures are worked out by hand."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ledger.core.games.edges import EdgeExceeded, bonus_cost, commission_cost, exceeded_edges, log_lines, worst_leg
from ledger.core.games.rules import RulesFile, built_in_games, read_rules
from ledger.core.money_rules import NO_MONEY_RULES, MoneyRules
from unit.given import ASSETS

BETTING_HOUSE = Path(__file__).parents[2] / "deploy" / "rules" / "betting-house.json"
RATES = [6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580]  # 0.856518 % together


def rules_of(games: dict[str, Any] | None = None, **money: Any) -> RulesFile:
    return read_rules(json.dumps({"games": games or {}, "money": {"INR": money}}), ASSETS)


def inr(**money: Any) -> MoneyRules:
    return rules_of(**money).money.get("INR", NO_MONEY_RULES)


def exceeded(games: dict[str, Any] | None = None, **money: Any) -> dict[str, EdgeExceeded]:
    rules = rules_of(games, **money)
    return {one.game: one for one in exceeded_edges(rules.games, rules.money, ["INR"])}


@pytest.mark.parametrize(
    ("game", "leg", "edge"),
    [
        ("wingo_30s", "big", Fraction(2, 100)),  # pays 2 of 1 on 5 of 10 results: only the fee remains
        ("trx_wix_1m", "big", Fraction(2, 100)),
        ("5d_1m", "A:big", Fraction(2, 100)),
        # sum 9 or 12: 25 of 216 results at 8.30 return 20,750 ÷ 21,600; after the fee 20,335 ÷ 21,600
        ("k3_1m", "sum:12", Fraction(1_265, 21_600)),
    ],
)
def test_the_edge_of_a_game_is_that_of_its_worst_leg(game: str, leg: str, edge: Fraction) -> None:
    assert worst_leg(built_in_games()[game].table) == (leg, edge)


def test_odds_and_fee_of_the_rules_file_count() -> None:
    games = {"wingo_30s": {"fee_bp": 0, "odds": {"green": 240}}}  # (4 × 2.4 + 1.5) ÷ 10 = 1.11
    assert worst_leg(rules_of(games).games["wingo_30s"].table) == ("green", Fraction(-11, 100))
    whole = {"wingo_30s": {"fee_bp": 10_000}}
    assert worst_leg(rules_of(whole).games["wingo_30s"].table)[1] == 1


def test_commissions_cost_the_largest_rate_of_each_level() -> None:
    assert commission_cost(None) == 0
    assert commission_cost(inr(commission={"delay_s": 60}).commission) == 0
    assert commission_cost(inr(commission={"rates_e9": RATES}).commission) == Fraction(8_565_180, 10**9)
    mixed = {"rates_e9": [7, 1], "agents": {"1": [2, 5, 3], "2": [9]}}
    assert commission_cost(inr(commission=mixed).commission) == Fraction(9 + 5 + 3, 10**9)


def test_bonuses_cost_one_part_of_the_turnover_that_they_need() -> None:
    twenty = {"wagering": {"bonus": 20, "deposit": 1}}
    assert bonus_cost(NO_MONEY_RULES) == bonus_cost(inr(**twenty)) == 0
    for bonuses in ({"registration": 5}, {"attendance": [1, 2]}, {"invitation": [[1, 50]]}):
        assert bonus_cost(inr(**bonuses, **twenty)) == Fraction(1, 20)
        assert bonus_cost(inr(**bonuses)) is None
        assert bonus_cost(inr(**bonuses, wagering={"deposit": 5})) is None


def test_the_bonus_of_a_first_deposit_has_the_turnover_of_the_deposit_too() -> None:
    ladder = [[100, 20], [1_000, 60]]
    assert bonus_cost(inr(first_deposit=ladder, wagering={"deposit": 1, "bonus": 1})) == Fraction(20, 120)
    assert bonus_cost(inr(first_deposit=ladder, wagering={"deposit": 5})) == Fraction(20, 500)
    assert bonus_cost(inr(first_deposit=ladder, wagering={"bonus": 4})) == Fraction(1, 4)
    assert bonus_cost(inr(first_deposit=ladder)) is None
    both = inr(first_deposit=ladder, registration=1, wagering={"deposit": 1, "bonus": 4})
    assert bonus_cost(both) == Fraction(1, 4)


def test_a_cost_of_exactly_the_edge_does_not_exceed_it() -> None:
    assert exceeded(commission={"rates_e9": [15_000_000, 5_000_000]}) == {}
    found = exceeded(commission={"rates_e9": [15_000_000, 5_000_001]})
    assert set(found) == {name for name in built_in_games() if not name.startswith("k3")}
    assert found["wingo_30s"].commissions_ppm == 20_001


def test_commissions_and_bonuses_count_together() -> None:
    """The edge less the commissions is 2 % − 0.856518 % = 1.143482 %, which is 1 of 87.45."""
    commission = {"rates_e9": RATES}
    assert exceeded(registration=25, wagering={"bonus": 88}, commission=commission) == {}
    found = exceeded(registration=25, wagering={"bonus": 87}, commission=commission)["wingo_30s"]
    assert (found.edge_ppm, found.commissions_ppm, found.bonuses_ppm) == (20_000, 8_566, 11_495)
    assert found.message == (
        "wingo_30s, INR: the house can lose. Of a stake on big, its worst leg, it wins 2 % on average; commissions "
        "cost up to 0.8566 %, bonuses up to 1.1495 %. In the rules file lower the rates of money.INR.commission, "
        "raise money.INR.wagering.bonus to 88, raise games.wingo_30s.fee_bp or lower its odds"
    )


def test_without_wagering_bonuses_come_with_no_stakes() -> None:
    found = exceeded(attendance=[1])
    assert set(found) == set(built_in_games())
    assert (found["k3_1m"].edge_ppm, found["k3_1m"].bonuses_ppm) == (58_564, None)
    assert (
        "commissions cost up to 0 %, bonuses up to their full amounts, whatever is staked" in found["k3_1m"].message
    )
    assert "raise money.INR.wagering.bonus to 18," in found["k3_1m"].message, "1 ÷ 17.08 is the edge"


def test_a_game_that_loses_by_itself_is_named_and_only_its_table_can_help() -> None:
    found = exceeded({"5d_1m": {"odds": {"big": 210}}})
    assert [(one.game, one.leg, one.edge) for one in found.values()] == [("5d_1m", "A:big", Fraction(-29, 1_000))]
    assert "it wins −2.9 % on average" in found["5d_1m"].message
    assert found["5d_1m"].message.endswith("In the rules file raise games.5d_1m.fee_bp or lower its odds")


def test_an_asset_without_rules_costs_nothing() -> None:
    rules = rules_of(registration=1)
    assert {one.asset for one in exceeded_edges(rules.games, rules.money, ASSETS)} == {"INR"}
    assert exceeded_edges(built_in_games(), {}, ASSETS) == []


def test_the_rules_of_the_betting_house_exceed_the_edge_of_every_game() -> None:
    """Its best agents get 2.860032 % of a stake, and its bonuses must be staked once only."""
    rules = read_rules(BETTING_HOUSE.read_text(), ASSETS)
    found = exceeded_edges(rules.games, rules.money, ASSETS)
    assert [(one.game, one.asset) for one in found] == [(name, "INR") for name in sorted(rules.games)]
    assert {(one.commissions, one.bonuses) for one in found} == {(Fraction(28_600_320, 10**9), Fraction(1))}
    assert (
        "raise money.INR.wagering.bonus, raise games.wingo_1m.fee_bp"
        in {one.game: one for one in found}["wingo_1m"].message
    )


def test_the_log_has_one_line_for_all_games_with_the_same_figures() -> None:
    rules = read_rules(BETTING_HOUSE.read_text(), ASSETS)
    lines = log_lines(exceeded_edges(rules.games, rules.money, ASSETS))
    assert [line.partition(":")[0] for line in lines] == [
        "5d_10m, 5d_1m, 5d_30s and 3 more games, INR",
        "k3_10m, k3_1m, k3_30s and 3 more games, INR",
        "trx_wix_10m, trx_wix_1m, trx_wix_30s and 9 more games, INR",
    ]
    assert all(line.endswith("raise fee_bp of these games or lower their odds") for line in lines)


def test_a_game_with_other_figures_and_another_asset_have_lines_of_their_own() -> None:
    games = {
        "games": {"wingo_1m": {"fee_bp": 100}},
        "money": {"INR": {"registration": 1}, "USDT": {"registration": 1}},
    }
    rules = read_rules(json.dumps(games), ASSETS)
    found = [one for one in exceeded_edges(rules.games, rules.money, ASSETS) if one.game.startswith("wingo")]
    lines = log_lines(found)
    assert [line.partition(":")[0] for line in lines] == [
        "wingo_10m, wingo_30s, wingo_3m, wingo_5m, INR",
        "wingo_10m, wingo_30s, wingo_3m, wingo_5m, USDT",
        "wingo_1m, INR",
        "wingo_1m, USDT",
    ]
    assert lines[2] == {(one.game, one.asset): one.message for one in found}["wingo_1m", "INR"]
