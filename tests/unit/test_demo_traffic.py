"""The day's traffic and the client's books, played in memory against the naive reading of the contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from demo.books.books import Books
from demo.books.rules import money_rules
from demo.books.wallets import ACCEPTED, Command, CommandResponse
from demo.traffic.plan import Day, Fault, Planned, Post, Role, Wave, players, share_of_period
from demo.traffic.server import GameServer
from properties.naive_ledger import Accepted, Duplicate, Fact, NaiveLedger, Refused

SMALL = Day(users=80, commands=2_500, seed=1, servers=3, periods=8, campaigns=False)
NOON_US = 1_795_435_200_000_000
HOUSE = json.loads((Path(__file__).parents[2] / "deploy" / "rules" / "betting-house.json").read_text("utf-8"))
NO_FLOWS: Mapping[str, Any] = {"money": {}}
FLOWS: Mapping[str, Any] = {
    "money": {
        "INR": {
            name: rule
            for name, rule in HOUSE["money"]["INR"].items()
            if name not in ("commission", "valid_referral", "invitation")  # the naive ledger has none of these
        },
        "GOLD": {"registration": 7, "attendance": [3], "attendance_needs_deposit": 200, "wagering": {"deposit": 2}},
    }
}
"""The rules of the betting house, and other rules for another asset."""


class LedgerInMemory:
    """Responds as the service does: the naive ledger, a clock that jumps, follow-ups at random moments."""

    def __init__(self, seed: int, rules: Mapping[str, Any] = NO_FLOWS) -> None:
        self.ledger = NaiveLedger(("INR", "USDT", "GOLD"), dict(rules["money"]))
        self.rng = Random(seed)
        self.now_us = NOON_US
        self.first: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.seqs: dict[tuple[str, int], int] = {}
        self.numbered: Counter[str] = Counter()

    def post(self, planned: Planned, actor: str | None) -> CommandResponse:
        self.now_us += self.rng.choice((1, 900, 40_000))
        if self.ledger.pending and self.rng.random() < 0.4:
            self.ledger.deliver(self.rng.randrange(len(self.ledger.pending)), now_us=self.now_us)
        if planned.may == {"malformed_request"}:  # the naive ledger takes commands of valid shape only
            return CommandResponse(400, False, {"code": "malformed_request"})
        result = self.ledger.post(dict(planned.command), now_us=self.now_us, actor=actor or "local")
        self._number()
        if isinstance(result, Refused):
            return CommandResponse(422, False, {"code": result.code})
        key = (result.fact.user_id, result.fact.command_id)
        if isinstance(result, Accepted):
            self.first[key] = self._body(result.fact)
        return CommandResponse(
            200 if isinstance(result, Duplicate) else 201, isinstance(result, Duplicate), self.first[key]
        )

    def quiet(self, now_us: int) -> None:
        while self.ledger.pending:
            self.ledger.deliver(0, now_us=now_us)
        self.ledger.fire_due(now_us)
        self._number()

    def _number(self) -> None:
        """Append the new facts to one log, in partition 0."""
        for user_id, facts in self.ledger.facts.items():
            for index in range(self.numbered[user_id], len(facts)):
                fact, seq = facts[index], len(self.events) + 1
                cause = {"cause": f"0:{seq - 1}"} if fact.command_id.startswith("~") else {}
                self.ledger.position_of[f"0:{seq}"] = (user_id, index)
                self.seqs[user_id, index] = seq
                self.events.append(
                    {
                        "partition": 0,
                        "seq": seq,
                        "time_us": fact.time_us,
                        "user_id": user_id,
                        "command_id": fact.command_id,
                        "type": fact.type,
                        "data": fact.data | cause,
                        "postings": [list(posting) for posting in fact.postings],
                        "balances": fact.balances,
                    }
                )
            self.numbered[user_id] = len(facts)

    def _body(self, fact: Fact) -> dict[str, Any]:
        facts = self.ledger.facts[fact.user_id]
        index = next(at for at, known in enumerate(facts) if known is fact)
        seq = self.seqs[fact.user_id, index]
        return {
            "position": f"0:{seq}",
            "partition": 0,
            "seq": seq,
            "time_us": fact.time_us,
            "type": fact.type,
            "data": fact.data,
            "balances": fact.balances,
            "head": "",
        }


class Played:
    """A whole day: the servers take turns at random, and each wave's posts are answered in any order."""

    def __init__(self, day: Day, rules: Mapping[str, Any] = NO_FLOWS) -> None:
        self.books = Books(money_rules(rules))
        self.table = LedgerInMemory(day.seed, rules)
        self.waves: list[Wave] = []
        self.sent: list[tuple[Post, Planned, CommandResponse]] = []
        rng = Random(day.seed)
        running = [GameServer(day, number, self.books).waves() for number in range(day.servers)]
        while running:
            server = rng.choice(running)
            wave = next(server, None)
            if wave is None:
                running.remove(server)
                continue
            self.waves.append(wave)
            posts = list(wave.posts)
            rng.shuffle(posts)
            for post in posts:
                self._play(post)

    def _play(self, post: Post) -> None:
        answers = []
        for planned in post.planned:
            if ACCEPTED in planned.may:
                self.books.sending(planned.command)
            answers.append((planned, self.table.post(planned, post.actor)))
        if post.fault is Fault.RESPONSE_LOST:
            answers = []
        if post.fault is not Fault.NONE:
            answers += [(planned, self.table.post(planned, post.actor)) for planned in post.planned]
        for planned, answer in answers:
            self.books.responded(planned.command, answer, planned.may)
            self.sent.append((post, planned, answer))

    def differences(self) -> list[str]:
        due_us = self.books.latest_due_us()
        self.books.settle(due_us)
        self.table.quiet(max(due_us, self.table.now_us))
        return [
            line
            for user_id in self.books.wallets
            for line in self.books.differences(user_id, self.table.ledger.wallet(user_id))
        ]


@pytest.fixture(scope="module")
def played() -> Played:
    return Played(SMALL)


@pytest.mark.parametrize("rules", [NO_FLOWS, FLOWS], ids=["no money flows", "money flows"])
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.system
def test_the_books_agree_with_a_naive_ledger_after_any_day(seed: int, rules: Mapping[str, Any]) -> None:
    played = Played(Day(users=60, commands=700, seed=seed, servers=3, periods=6, tag="t-", campaigns=False), rules)
    assert played.books.surprises == []
    assert played.differences() == []


@pytest.mark.system
def test_a_day_by_the_rules_of_a_house_has_its_bonuses_and_its_refusals() -> None:
    played = Played(SMALL, FLOWS)
    assert played.books.surprises == []
    kinds = {grant.kind for wallet in played.books.wallets.values() for grant in wallet.grants.values()}
    assert kinds >= {"registration", "first_deposit", "attendance", "grant"}
    refused = Counter(answer.outcome for _, _, answer in played.sent if not answer.accepted)
    assert refused.keys() >= {
        "wagering_incomplete",
        "withdrawal_out_of_bounds",
        "not_eligible",
        "already_claimed",
        "cannot_reverse",
    }
    withdrawals = [p for _, p, a in played.sent if a.accepted and p.command["type"] == "request_withdrawal"]
    assert any(planned.command["asset"] == "INR" for planned in withdrawals)


@pytest.mark.system
def test_each_response_of_a_day_is_one_that_the_traffic_expects(played: Played) -> None:
    assert played.books.surprises == []


@pytest.mark.system
def test_a_day_has_about_the_requested_number_of_commands(played: Played) -> None:
    assert sum(wave.size() for wave in played.waves) == pytest.approx(SMALL.commands, rel=0.15)


def test_the_same_seed_and_the_same_responses_give_the_same_day() -> None:
    day = Day(users=30, commands=200, seed=9, servers=2, periods=3, campaigns=False)
    assert Played(day).waves == Played(day).waves


def test_another_seed_gives_another_day() -> None:
    days = [Day(users=30, commands=200, seed=seed, servers=2, periods=3, campaigns=False) for seed in (1, 2)]
    assert Played(days[0]).waves != Played(days[1]).waves


def test_posts_of_one_wave_name_different_wallets(played: Played) -> None:
    for wave in played.waves:
        named = Counter(user_id for post in wave.posts for user_id in post.user_ids())
        assert max(named.values()) == 1


def test_a_wallet_belongs_to_one_game_server() -> None:
    day = Day(users=45, commands=200, seed=4, servers=4)
    shares = [set(GameServer(day, number, Books()).mine) for number in range(day.servers)]
    assert sum(len(share) for share in shares) == len(set().union(*shares)) == day.users


def test_faults_are_planned_only_for_commands_that_must_be_accepted(played: Played) -> None:
    faulty = [post for wave in played.waves for post in wave.posts if post.fault is not Fault.NONE]
    assert {post.fault for post in faulty} == {Fault.TWICE, Fault.RESPONSE_LOST}
    assert all(planned.may == {ACCEPTED} for post in faulty for planned in post.planned)


def test_a_copy_of_an_accepted_command_is_a_hit(played: Played) -> None:
    copies = [answer for _, planned, answer in played.sent if planned.again]
    assert copies
    assert all(answer.hit for answer in copies)


def test_a_day_has_every_kind_of_command_accepted(played: Played) -> None:
    taken = {planned.command["type"] for _, planned, answer in played.sent if answer.accepted}
    assert taken >= {
        "open_wallet",
        "deposit",
        "request_withdrawal",
        "approve_withdrawal",
        "reject_withdrawal",
        "place_bet",
        "settle_bet",
        "cancel_bet",
        "hold",
        "capture_hold",
        "release_hold",
        "transfer",
        "grant_bonus",
        "adjust",
        "propose_adjustment",
        "approve_adjustment",
        "reverse",
        "set_limits",
        "freeze_wallet",
        "unfreeze_wallet",
    }


def test_a_day_has_most_refusals_that_a_client_can_meet(played: Played) -> None:
    refused = {answer.outcome for _, _, answer in played.sent if not answer.accepted}
    assert refused >= {"insufficient_funds", "already_resolved", "malformed_request", "wallet_frozen"}
    assert len(refused) >= 20


def test_approvals_come_from_another_operator_than_the_proposal(played: Played) -> None:
    proposed: dict[str, str | None] = {}
    for post, planned, answer in played.sent:
        command: Command = planned.command
        if answer.accepted and command["type"] == "propose_adjustment":
            proposed[command["adjustment_id"]] = post.actor
        if answer.accepted and command["type"] == "approve_adjustment":
            assert post.actor != proposed[command["adjustment_id"]]


def test_a_few_users_do_most_of_the_betting(played: Played) -> None:
    bets = Counter(p.command["user_id"] for _, p, a in played.sent if a.accepted and p.command["type"] == "place_bet")
    busiest = sum(count for _, count in bets.most_common(SMALL.users // 10))
    assert busiest > 0.3 * bets.total()


def test_a_day_is_busiest_in_the_evening() -> None:
    shares = [share_of_period(Day(1, 1, 1), period) for period in range(48)]
    assert sum(shares) == pytest.approx(1)
    assert shares.index(max(shares)) == 42


def test_every_role_is_played() -> None:
    assert {player.role for player in players(Day(users=80, commands=1, seed=1))} == set(Role)
