"""Bets of games with rules, in one partition: what they take, when, by which table, and how they end."""

import re

import pytest

from ledger.core.bet_events import (
    BetCancelled,
    BetPlaced,
    BetSettled,
    ResultRecorded,
    StakeSource,
)
from ledger.core.commands import PlaceBet
from ledger.core.events import Balance
from ledger.core.fields import Proof
from ledger.core.games.periods import issue_of, length_of, name_of, start_of
from ledger.core.games.rules import BUILT_IN, book_of, read_rules, span_of
from ledger.core.items import bet_key
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from ledger.core.rules_file import WrongRules
from ledger.core.wallet import DAY_US, PeriodCount
from unit.given import (
    ASSETS,
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    cancel_period,
    deposit,
    freeze_wallet,
    grant_bonus,
    place_bet,
    record_result,
)

WINGO = BUILT_IN.games["wingo_30s"]
PERIOD = name_of(NOON)
RESULT_AT = NOON + 32 * SECOND_US


def bet(stake: int, bet_id: str = "b1", selection: str = "red", *, period: str = PERIOD) -> PlaceBet:
    return place_bet(stake, bet_id, game="wingo_30s", period=period, selection=selection)


def with_rules(text: str, *, cash: int = 1_000) -> Scene:
    scene = Scene.with_cash(cash)
    scene.rules = book_of(read_rules(text, ASSETS).games, scene.rules.tables)
    return scene


# --- placing -------------------------------------------------------------------------------------------------------


def test_a_bet_names_its_rules_and_its_fee_which_the_house_gets() -> None:
    event = Scene.with_cash(1_000).when(bet(500, selection="red+number:7"))
    assert event.data == BetPlaced(
        asset="INR",
        bet_id="b1",
        fee=10,
        source=StakeSource(bonus=0, cash=500, grants=()),
        game="wingo_30s",
        period=PERIOD,
        rules=WINGO.digest,
        selection="red+number:7",
        stake=500,
    )
    assert event.postings == (
        ("wallet/u1/cash", "INR", -500),
        ("house/stakes", "INR", 490),
        ("house/fees", "INR", 10),
    )
    assert event.balances == {"INR": Balance(cash=500)}


def test_the_fee_is_rounded_down_for_each_leg_alone() -> None:
    scene = Scene.with_cash(1_000)
    assert scene.when(bet(98, "b1", "red")).data.fee == 1  # type: ignore[union-attr]
    assert scene.when(bet(98, "b2", "red+green")).data.fee == 0  # type: ignore[union-attr]


def test_a_table_may_take_the_whole_stake_as_its_fee_or_none() -> None:
    whole = with_rules('{"games": {"wingo_30s": {"fee_bp": 10000}}}')
    placed = whole.when(bet(100))
    assert placed.postings == (("wallet/u1/cash", "INR", -100), ("house/fees", "INR", 100))
    returned = whole.when(cancel_bet())
    assert returned.postings == (("house/fees", "INR", -100), ("wallet/u1/cash", "INR", 100))
    none = with_rules('{"games": {"wingo_30s": {"fee_bp": 0}}}')
    assert none.when(bet(100)).postings == (("wallet/u1/cash", "INR", -100), ("house/stakes", "INR", 100))


@pytest.mark.parametrize(
    ("at_s", "taken"), [(-0.000001, False), (0, True), (24.999999, True), (25, False), (29, False), (30, False)]
)
def test_a_period_takes_bets_from_its_start_until_its_close(at_s: float, taken: bool) -> None:
    scene = Scene.with_cash(1_000)
    scene.now_us = NOON + 60 * SECOND_US + round(at_s * SECOND_US)
    command = bet(10, period=name_of(NOON + 60 * SECOND_US))
    if taken:
        scene.when(command)
    else:
        assert scene.refused(command).code is Code.PERIOD_CLOSED


def test_the_last_period_of_a_day_ends_at_midnight() -> None:
    midnight = NOON + DAY_US // 2
    span = span_of(WINGO, name_of(midnight - 30 * SECOND_US))
    assert span is not None
    assert (span.ends_at_us, span.closes_at_us) == (midnight, midnight - 5 * SECOND_US)
    scene = Scene.with_cash(1_000)
    scene.now_us = midnight - 6 * SECOND_US
    scene.when(bet(10, period=name_of(midnight - 30 * SECOND_US)))
    scene.now_us = midnight
    scene.when(bet(10, "b2", period=name_of(midnight)))
    scene.now_us = midnight + 2 * SECOND_US
    result = scene.when(record_result("2", name_of(midnight - 30 * SECOND_US)))
    assert [event.data.bet_id for event in scene.settle(result)] == ["b1"]  # type: ignore[union-attr]


def test_a_clock_that_is_set_back_does_not_open_a_period_again() -> None:
    scene = Scene.with_cash(1_000)
    scene.now_us = NOON + 26 * SECOND_US
    scene.when(deposit(1, "o2"))
    scene.now_us = NOON
    assert scene.refused(bet(10)).code is Code.PERIOD_CLOSED


def test_issue_numbers_have_the_day_the_code_of_the_game_and_the_index_of_the_day() -> None:
    day = start_of("20261123T000000Z")
    assert day is not None
    assert issue_of(1, 30, day) == "20261123" + "10017" + "0001"
    assert issue_of(3, 60, day + 60 * SECOND_US) == "20261123" + "30025" + "0002"
    assert issue_of(1, 30, day + DAY_US - 30 * SECOND_US).endswith("2880")


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("30s", 30),
        ("1m", 60),
        ("90s", 90),
        ("1h", 3_600),
        ("24h", 86_400),
        ("7s", None),
        ("0s", None),
        ("030s", None),
    ],
)
def test_a_length_divides_a_day(text: str, length_s: int | None) -> None:
    assert length_of(text) == length_s


@pytest.mark.parametrize("period", ["", "20261123T000000", "20261123T000001Z", "20261331T000000Z", "2026-11-23"])
def test_only_the_start_of_a_period_on_the_grid_is_its_name(period: str) -> None:
    assert span_of(WINGO, period) is None


def test_stakes_outside_of_the_table_are_refused() -> None:
    scene = with_rules('{"games": {"wingo_30s": {"stake_min": {"INR": 100}, "stake_max": {"INR": 200}}}}')
    low, high = scene.refused(bet(99)), scene.refused(bet(201))
    assert (low.code, low.fields["stake_min"]) == (Code.AMOUNT_OUT_OF_RANGE, 100)
    assert (high.code, high.fields["stake_max"]) == (Code.STAKE_MAX_EXCEEDED, 200)
    scene.given(bet(100), bet(200, "b2"))


def test_a_wallet_has_at_most_so_many_bets_in_a_period() -> None:
    scene = with_rules('{"games": {"wingo_30s": {"bets_per_period": 2}}}')
    scene.given(bet(1, "b1"), bet(1, "b2"))
    refused = scene.refused(bet(1, "b3"))
    assert (refused.code, refused.fields) == (Code.STAKE_MAX_EXCEEDED, {"bets_per_period": 2})
    scene.given(cancel_bet("b2"), bet(1, "b4"))
    scene.now_us = NOON + 30 * SECOND_US
    scene.given(bet(1, "b5", period=name_of(scene.now_us)))
    assert scene.wallet().played == {"wingo_30s": PeriodCount(NOON + 60 * SECOND_US, 1)}


# --- ending --------------------------------------------------------------------------------------------------------


def test_a_command_neither_settles_a_bet_nor_cancels_it_after_the_close() -> None:
    scene = Scene.with_cash(1_000).given(bet(100), bet(100, "b2"))
    assert scene.when(cancel_bet("b2")).balances == {"INR": Balance(cash=900)}
    scene.now_us = NOON + 25 * SECOND_US
    assert scene.refused(cancel_bet()).code is Code.SETTLED_BY_RESULT


def test_a_result_comes_at_the_earliest_2_s_after_the_end() -> None:
    scene = Scene.with_cash(1_000)
    scene.now_us = RESULT_AT - 1
    assert scene.refused(record_result("7", PERIOD)).code is Code.PERIOD_NOT_CLOSED
    assert scene.refused(cancel_period(PERIOD)).code is Code.PERIOD_NOT_CLOSED
    scene.now_us = RESULT_AT
    event = scene.when(record_result("7", PERIOD))
    assert (event.user_id, event.postings, event.balances) == ("game:wingo_30s", (), {})


def test_each_leg_is_settled_alone_and_the_event_shows_it() -> None:
    scene = Scene.with_cash(1_000).given(bet(101, selection="green+violet+small"))
    scene.now_us = RESULT_AT
    result = scene.when(record_result("5", PERIOD))
    (event,) = scene.settle(result)
    assert event.data == BetSettled(
        asset="INR",
        bet_id="b1",
        cause=scene.position(result),
        legs=(("green", 34, 51), ("violet", 34, 153), ("small", 33, 0)),
        payout=204,
    )
    assert event.postings == (("house/payouts", "INR", -204), ("wallet/u1/cash", "INR", 204))


def test_a_lost_bet_posts_nothing() -> None:
    scene = Scene.with_cash(1_000).given(bet(100, selection="big"))
    scene.now_us = RESULT_AT
    (event,) = scene.settle(scene.when(record_result("4", PERIOD)))
    assert (event.postings, event.balances) == ((), {})
    assert scene.wallet().open_items == 0


def test_a_payout_is_divided_as_its_stake_was_and_expires_with_its_grant() -> None:
    scene = Scene.with_cash(50).given(
        grant_bonus(50, expires_at_us=NOON + 10 * SECOND_US),
        bet(100, selection="big"),
    )
    scene.now_us = RESULT_AT
    result = scene.when(record_result("7", PERIOD))
    (event,) = scene.settle(result)
    assert event.postings == (
        ("house/payouts", "INR", -196),
        ("wallet/u1/cash", "INR", 98),
        ("wallet/u1/bonus", "INR", 98),
    )
    assert scene.types_of()[-1] == "bonus_expired"
    assert scene.balance() == Balance(cash=98)


def test_a_frozen_wallets_bets_are_settled_too() -> None:
    scene = Scene.with_cash(1_000).given(bet(100, selection="big"), freeze_wallet())
    scene.now_us = RESULT_AT
    scene.settle(scene.when(record_result("7", PERIOD)))
    assert scene.balance() == Balance(cash=1_096)


def test_a_payout_that_the_wallet_has_no_room_for_is_paid_up_to_it_and_the_rest_is_named() -> None:
    scene = Scene.with_cash(1_000).given(bet(1_000, selection="number:7"))
    scene.given(deposit(AMOUNT_MAX - 1_000, "o2"))
    scene.now_us = RESULT_AT
    (event,) = scene.settle(scene.when(record_result("7", PERIOD)))
    assert isinstance(event.data, BetSettled)
    assert (event.data.payout, event.data.unpaid) == (1_000, 8_820 - 1_000)
    assert event.data.legs == (("number:7", 1_000, 8_820),)
    assert scene.balance() == Balance(cash=AMOUNT_MAX)


def test_a_cancelled_period_returns_bonus_to_its_grant_and_the_fee_to_the_player() -> None:
    scene = Scene.with_cash(50).given(grant_bonus(50), bet(100, selection="big"))
    scene.now_us = RESULT_AT
    (event,) = scene.settle(scene.when(cancel_period(PERIOD)))
    assert isinstance(event.data, BetCancelled)
    assert (event.data.amount, event.data.reason, event.data.before_bet) == (100, "void", False)
    assert event.postings == (
        ("house/stakes", "INR", -98),
        ("house/fees", "INR", -2),
        ("wallet/u1/cash", "INR", 50),
        ("wallet/u1/bonus", "INR", 50),
    )
    assert scene.balance() == Balance(cash=50, bonus=50)
    assert scene.items["u1"][bet_key("b1")].status == "cancelled"  # type: ignore[union-attr]


def test_the_result_of_trx_wix_keeps_its_block() -> None:
    scene = Scene.with_cash()
    scene.now_us = NOON + 62 * SECOND_US
    proof = Proof(hash="a" * 62 + "7f", height=77, time_us=NOON + 60 * SECOND_US)
    event = scene.when(record_result("7", PERIOD, game="trx_wix_1m", proof=proof))
    assert event.data == ResultRecorded(period=PERIOD, proof=proof, result="7")
    for wrong in (None, Proof(hash="a" * 64, height=77, time_us=NOON), Proof(hash="a7", height=77, time_us=NOON)):
        next_period = name_of(NOON - 60 * SECOND_US)
        refusal = scene.refused(record_result("7", next_period, game="trx_wix_1m", proof=wrong))
        assert refusal.code is Code.INVALID_RESULT


# --- the rules file ------------------------------------------------------------------------------------------------


def test_a_rules_file_adds_a_game_and_changes_a_table_and_its_digest() -> None:
    games = read_rules(
        '{"games": {"wingo_2s": {"close_ms": 500, "odds": {"number": 950}, "stake_min": {"INR": 100}}}}', ASSETS
    ).games
    assert (games["wingo_2s"].length_s, games["wingo_2s"].table.odds["number"]) == (2, 950)
    assert games["wingo_2s"].table.odds["green_5"] == 150
    assert games["wingo_2s"].digest != WINGO.digest
    assert games["wingo_30s"].digest == games["wingo_1m"].digest == WINGO.digest, "the table names no length"
    assert read_rules("{}", ASSETS).games == BUILT_IN.games


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "the file"),
        ("{", "not JSON"),
        ('{"games": {}, "games": {}}', "games occurs twice"),
        ('{"odds": 1}', "odds is not a key"),
        ('{"games": {"poker_1m": {}}}', "games.poker_1m"),
        ('{"games": {"wingo_7s": {}}}', "games.wingo_7s: 7s is not a length"),
        ('{"games": {"wingo_2s": {}}}', "games.wingo_2s.close_ms"),
        ('{"games": {"wingo_1m": {"closes": 1}}}', "games.wingo_1m.closes"),
        ('{"games": {"wingo_1m": {"odds": {"two": 1}}}}', "games.wingo_1m.odds.two"),
        ('{"games": {"wingo_1m": {"odds": {"red": 1.5}}}}', "games.wingo_1m.odds.red"),
        ('{"games": {"wingo_1m": {"odds": {"red": true}}}}', "games.wingo_1m.odds.red"),
        ('{"games": {"wingo_1m": {"fee_bp": 10001}}}', "games.wingo_1m.fee_bp"),
        ('{"games": {"wingo_1m": {"stake_min": {"EUR": 1}}}}', "games.wingo_1m.stake_min.EUR"),
        ('{"games": {"wingo_1m": {"stake_min": {"INR": 9}, "stake_max": {"INR": 8}}}}', "games.wingo_1m.stake_min"),
        ('{"games": {"wingo_1m": {"bets_per_period": 0}}}', "games.wingo_1m.bets_per_period"),
    ],
)
def test_an_unknown_key_or_a_value_out_of_range_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(WrongRules, match=re.escape(named)):
        read_rules(text, ASSETS)
