"""The demo's rules file as its books read it, and its traffic of bonuses, gifts and referrals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo import house_rules
from demo.books.rules import money_rules
from demo.traffic.plan import Day, Player, Post, Role
from demo.traffic.server import GameServer
from ledger.core.games.rules import read_rules
from unit.given import ASSETS
from unit.test_demo_flows import Given, rules

# -- the rules file -------------------------------------------------------------------------------------------------


def test_the_books_read_the_rules_of_the_betting_house_as_the_service_does() -> None:
    text = house_rules.HOUSE.read_text("utf-8")
    theirs, ours = read_rules(text, ASSETS).money["INR"], money_rules(json.loads(text))["INR"]
    assert ours.registration == theirs.registration
    assert ours.first_deposit == theirs.first_deposit
    assert ours.attendance == theirs.attendance
    assert ours.invitation == theirs.invitation
    assert ours.valid_referral == theirs.valid_referral
    assert ours.wagered(deposit=10, bonus=100) == 10 * theirs.wagering_deposit + 100 * theirs.wagering_bonus
    bounds = (theirs.withdrawal_min, theirs.withdrawal_max, theirs.withdrawal_per_day)
    assert tuple(ours.withdrawal[name] for name in ("min", "max", "per_day")) == bounds
    assert ours.commission is not None
    assert theirs.commission is not None
    assert (ours.commission.mode, ours.commission.delay_s) == ("daily", 600)
    for agent_level in range(8):
        rates = [ours.commission.rate_e9(agent_level, level) for level in range(1, 7)]
        assert rates == list(theirs.commission.rates_of(agent_level))


def test_the_demos_own_service_plays_by_the_same_file_but_for_commissions_by_bet(tmp_path: Path) -> None:
    own = house_rules.per_bet(tmp_path)
    assert own.path is not None
    written = json.loads(own.path.read_text("utf-8"))
    assert written["money"]["INR"]["commission"].pop("mode") == "per_bet"
    file = json.loads(house_rules.HOUSE.read_text("utf-8"))
    assert file["money"]["INR"]["commission"].pop("mode") == "daily"
    assert written == file
    assert "for each bet" in own.name
    assert "by the day" in house_rules.of_file(house_rules.HOUSE).name


def test_rules_that_the_books_cannot_follow_are_named(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules(bonus_expires_after_s=60)), "utf-8")
    with pytest.raises(house_rules.BadRulesError, match=r"money\.INR\.bonus_expires_after_s"):
        house_rules.of_file(file)
    file.write_text("no JSON", "utf-8")
    with pytest.raises(house_rules.BadRulesError, match="cannot be read"):
        house_rules.of_file(file)


# -- the traffic ----------------------------------------------------------------------------------------------------


def test_the_claims_of_a_gift_are_one_wave_of_different_wallets_after_it_was_created() -> None:
    given = Given()
    server = GameServer(Day(users=20, commands=100, seed=3, servers=1), 0, given.books)
    for player in server.mine:
        given.open(player.user_id)
        server.opened.append(player)
    waves: list[list[Post]] = []
    for posts in server.gift():
        waves.append(posts)
        for post in posts:
            for planned in post.planned:
                if "accepted" in planned.may:
                    given.respond(planned.command)
    create, claims = waves
    stream = create[0].planned[0].command["user_id"]
    assert any(planned.command["type"] == "create_gift" for planned in create[0].planned)
    claimers = [user_id for post in claims for user_id in post.user_ids()]
    assert len(claimers) == len(set(claimers)) > 1
    assert {post.planned[0].command["code"] for post in claims} == {stream.removeprefix("gift:")}
    again = [player for player in server.opened if player.user_id in claimers]
    assert not any(server._may_claim(player) for player in again), "until their shares are read"


def test_no_user_is_referred_by_a_wallet_that_may_close_or_is_capped() -> None:
    given = Given()
    server = GameServer(Day(users=80, commands=100, seed=3, servers=1), 0, given.books)
    barred = [p.user_id for p in server.mine if p.role in (Role.VISITOR, Role.CAPPED)]
    for user_id in barred:
        given.open(user_id)
    given.books.welcome(barred)
    assert {server._referrer() for _ in range(50)} == {None}
    given.accept("close_wallet", barred[0], reason="leaves")
    assert {server._referrer() for _ in range(50)} == {None, barred[0]}


def test_a_deposit_is_reversed_only_after_its_bonus_by_the_rules() -> None:
    given = Given(rules(registration=0))
    server = GameServer(Day(users=20, commands=100, seed=3, servers=1), 0, given.books)
    player = Player("ada", Role.REGULAR, "INR")
    wallet = given.open()
    given.deposit(10_000)
    deposit, bonus = wallet.reversibles
    for _ in range(200):
        post = server.reverse(player)
        assert post is not None
        first = post.planned[0]
        expected = {"cannot_reverse"} if first.command["position"] == deposit else {"accepted"}
        assert first.may == expected
    given.accept("reverse", position=bonus, reason="wrong")
    assert wallet.bonus("INR") == 0
    post = server.reverse(player)
    assert post is not None
    assert post.planned[0].may == {"accepted"}
    assert post.planned[0].command["position"] == deposit


def test_a_deposit_whose_bonus_by_the_rules_is_spent_is_never_reversed() -> None:
    given = Given(rules(registration=0))
    server = GameServer(Day(users=20, commands=100, seed=3, servers=1), 0, given.books)
    wallet = given.open()
    given.deposit(10_000)
    deposit, _ = wallet.reversibles
    given.bet(12_000, grants=[["~first_deposit:1", 2_000]])
    assert wallet.bonus("INR") == 0
    given.accept("adjust", asset="INR", amount=10_000, reason="r")
    posts = [server.reverse(Player("ada", Role.REGULAR, "INR")) for _ in range(50)]
    may = [post.planned[0].may for post in posts if post and post.planned[0].command["position"] == deposit]
    assert may
    assert all(expected == {"cannot_reverse"} for expected in may)
    assert given.books.surprises == []
    given.accept("reverse", position=deposit, reason="wrong")
    assert "the deposit's bonus was not reversed" in given.books.surprises[0]
