"""The demo's games: its books' own payouts, what a period's outcome leaves in a wallet, and the house's edge."""

from __future__ import annotations

from typing import Any

import pytest

from demo.books.books import Books
from demo.books.edges import edges_of
from demo.books.payouts import fee_of, legs_of, odds_of, payout_of, results_of
from demo.books.wallets import Command, CommandResponse
from demo.traffic.games import Game, GameTraffic, Period
from naive_games import RESULTS, legs, paid_legs
from naive_games import fee_of as naive_fee
from naive_games import odds_of as naive_odds

PERIOD = "20261123T130000Z"


@pytest.mark.parametrize("rules", ["wingo", "trx_wix", "k3", "5d"])
def test_the_books_pay_every_leg_as_the_rules_do(rules: str) -> None:
    assert set(legs_of(rules)) == set(legs(rules))
    for leg in legs_of(rules):
        for result in RESULTS[rules][:: 97 if rules == "5d" else 1]:
            assert odds_of(rules, leg, result) == naive_odds(rules, leg, result), (leg, result)


@pytest.mark.parametrize("stake", [100, 101, 4_999])
def test_the_books_split_a_stake_and_its_fee(stake: int) -> None:
    selection = "big+number:7+green"
    assert fee_of(selection, stake) == naive_fee(stake, 3)
    for result in results_of("wingo"):
        paid = sum(payout for _, _, payout in paid_legs("wingo", selection, stake, result))
        assert payout_of("wingo", selection, stake, result) == paid


class Given:
    """Books of one player with a deposit and bets on a period."""

    def __init__(self, *selections: str) -> None:
        self.books, self.seq = Books(), 0
        self.accept("open_wallet", "ada")
        self.accept("deposit", "ada", order_id="o", asset="INR", amount=10_000)
        for number, selection in enumerate(selections):
            taken = {"from": {"cash": 1_000, "bonus": 0, "grants": []}, "fee": fee_of(selection, 1_000)}
            bet = {"game": "wingo_3s", "period": PERIOD, "selection": selection, "asset": "INR", "stake": 1_000}
            self.accept("place_bet", "ada", taken, bet_id=f"b{number}", **bet)

    def accept(self, kind: str, user_id: str, data: dict[str, Any] | None = None, **fields: Any) -> None:
        self.seq += 1
        command: Command = {"type": kind, "command_id": f"c{self.seq}", "user_id": user_id, **fields}
        events = {"open_wallet": "wallet_opened", "deposit": "deposited", "place_bet": "bet_placed"}
        event = events.get(kind) or {"record_result": "result_recorded", "cancel_period": "period_cancelled"}[kind]
        at = {"partition": 0, "seq": self.seq, "position": f"0:{self.seq}", "time_us": self.seq}
        self.books.sending(command)
        self.books.responded(command, CommandResponse(201, False, {**at, "type": event, "data": data or {}}))

    def cash(self) -> tuple[int, int]:
        wallet = self.books.wallet("ada")
        return wallet.cash["INR"], wallet.coming["INR"]


def test_a_result_pays_once_however_often_it_is_sent_and_the_money_is_coming_until_the_books_are_settled() -> None:
    given = Given("big", "small", "number:7")
    assert given.cash() == (7_000, 0)
    given.accept("record_result", "game:wingo_3s", period=PERIOD, result="7")
    given.accept("record_result", "game:wingo_3s", period=PERIOD, result="7")
    assert given.cash() == (7_000, 1_960 + 8_820)
    given.books.settle(0)
    assert given.cash() == (17_780, 0)
    assert [bet.shown() for bet in given.books.wallet("ada").bets.values()] == ["won", "lost", "won"]
    assert given.books.surprises == []


def test_a_cancelled_period_returns_the_whole_stake() -> None:
    given = Given("big", "small")
    given.accept("cancel_period", "game:wingo_3s", period=PERIOD, reason="void")
    given.books.settle(0)
    assert given.cash() == (10_000, 0)
    (edge,) = edges_of(given.books)
    assert (edge.periods, edge.cancelled, edge.staked) == (0, 1, 0)


def test_a_wrong_fee_is_reported() -> None:
    given = Given()
    taken = {"from": {"cash": 1_000, "bonus": 0, "grants": []}, "fee": 19}
    bet = {"game": "wingo_3s", "period": PERIOD, "selection": "big", "asset": "INR", "stake": 1_000}
    given.accept("place_bet", "ada", taken, bet_id="b", **bet)
    assert "took a fee of 19, by the rules 20" in given.books.surprises[0]


def test_the_edge_by_the_odds_and_its_spread_are_those_of_the_results() -> None:
    """A stake of 1,000 on number 7: 8,820 with a chance of 1 in 10, so 88.2 % come back, give or take."""
    given = Given("number:7")
    given.accept("record_result", "game:wingo_3s", period=PERIOD, result="1")
    (edge,) = edges_of(given.books)
    assert edge.realised == 1.0
    assert edge.by_the_odds == pytest.approx(0.118)
    assert edge.variance == pytest.approx(0.1 * 0.9 * 8_820**2)


@pytest.mark.parametrize("name", ["wingo_3s", "trx_wix_4s", "k3_4s", "5d_5s"])
def test_the_same_seed_gives_the_same_traffic_and_a_made_up_block_says_so(name: str) -> None:
    period = Period(PERIOD, 1_795_438_803.0)
    first, second = (GameTraffic(Game(name, 3), 10, 1, "") for _ in range(2))
    cash = dict.fromkeys(first.players, 5_000)
    assert first.openings() == second.openings()
    assert first.bets(period, 5, cash) == second.bets(period, 5, cash)
    outcome = first.outcome(period, cancelled=False).command
    assert outcome == second.outcome(period, cancelled=False).command
    if name == "trx_wix_4s":
        assert "made up" in outcome["metadata"]["block"]
        assert outcome["proof"]["time_us"] >= 1_795_438_803_000_000
        assert [symbol for symbol in outcome["proof"]["hash"] if symbol.isdigit()][-1] == outcome["result"]
