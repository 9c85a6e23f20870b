"""The rules file of a betting house: what the betting domain says of games and money is in it, in minor units."""

import json
from fractions import Fraction
from pathlib import Path

from ledger.core.games.rules import RulesFile, built_in_games, read_rules
from unit.given import ASSETS

FILE = Path(__file__).parents[2] / "deploy" / "rules" / "betting-house.json"
SHORT = {"wingo_3s", "trx_wix_4s", "k3_4s", "5d_5s"}


def rules() -> RulesFile:
    return read_rules(FILE.read_text(), ASSETS)


def test_it_has_the_four_games_in_their_lengths_and_in_short_ones() -> None:
    games, built_in = rules().games, built_in_games()
    assert set(games) == set(built_in) | SHORT
    for name, game in games.items():
        like = built_in[f"{name.rpartition('_')[0]}_1m"].table
        assert (game.table.odds, game.table.fee_bp) == (like.odds, 200), name
        assert game.table.close_ms == (500 if name in SHORT else 5_000)


def test_its_bonuses_are_those_of_the_betting_house() -> None:
    inr = rules().money["INR"]
    assert inr.registration == 25_00
    ladder = "100→20, 300→60, 1000→150, 3000→300, 10000→600, 30000→2000, 100000→7000, 200000→15000"
    steps = [step.split("→") for step in ladder.split(", ")]
    assert inr.first_deposit == tuple((int(reached) * 100, int(bonus) * 100) for reached, bonus in steps)
    assert inr.attendance == tuple(day * 100 for day in (7, 20, 100, 200, 450, 2400, 6400))
    assert (inr.wagering_deposit, inr.wagering_bonus) == (1, 1)
    assert (inr.withdrawal_min, inr.withdrawal_max, inr.withdrawal_per_day) == (110_00, 50_000_00, 3)
    assert inr.valid_referral == 300_00
    assert inr.invitation == ((1, 55_00), (3, 155_00))


def test_its_commissions_have_six_levels_and_the_rates_of_agents() -> None:
    commission = rules().money["INR"].commission
    assert commission is not None
    assert (commission.mode, commission.delay_s) == ("daily", 600)
    shares = ("0.6", "0.18", "0.054", "0.0162", "0.00486", "0.001458")
    assert [Fraction(rate, 10**7) for rate in commission.rates_e9] == [Fraction(share) for share in shares]
    assert round(sum(commission.rates_e9) / 10**7, 3) == 0.857, "together, in percent"
    first = [commission.rates_of(level)[0] for level in range(7)]
    assert first == [6_000_000 + level * 1_000_000 for level in range(7)]
    assert round(sum(commission.rates_of(6)) / 10**7, 2) == 2.86, "the highest level, in percent"


def test_every_key_of_the_rules_is_in_it() -> None:
    given = json.loads(FILE.read_text())["money"]["INR"]
    assert {"registration", "first_deposit", "attendance", "wagering", "withdrawal", "invitation"} <= given.keys()
    assert given["commission"].keys() == {"mode", "delay_s", "rates_e9", "agents"}
