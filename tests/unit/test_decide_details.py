"""What a refusal tells a person: amounts in the asset's own unit, and the games that exist. Its fields are for
programs: they have the minor unit."""

import pytest

from ledger.core.case import LISTED_MAX
from ledger.core.commands import Command
from ledger.core.games.periods import name_of
from ledger.core.games.rules import built_in_games
from ledger.core.money import AMOUNT_MAX, format_amount
from ledger.core.rejections import Code
from unit.given import (
    ASSETS,
    NOON,
    Scene,
    adjust,
    cancel_period,
    capture_hold,
    deposit,
    hold,
    place_bet,
    record_result,
    request_withdrawal,
    set_limits,
    settle_bet,
    transfer,
)

LIMITED = set_limits(balance_max=100_000, stake_max_per_day=5_000, withdrawal_max_per_day=5_000)
PERIOD = name_of(NOON)


@pytest.mark.parametrize(
    ("amount", "asset", "text"),
    [
        (5_000, "INR", "50.00 INR"),
        (5, "INR", "0.05 INR"),
        (0, "INR", "0.00 INR"),
        (-123, "INR", "-1.23 INR"),
        (7, "GOLD", "7 GOLD"),
        (1, "USDT", "0.000001 USDT"),
        (AMOUNT_MAX, "INR", "90071992547409.91 INR"),
    ],
)
def test_an_amount_for_people_has_the_decimals_of_its_asset(amount: int, asset: str, text: str) -> None:
    assert format_amount(amount, asset, ASSETS) == text


@pytest.mark.parametrize(
    ("command", "detail", "fields"),
    [
        (hold(9_000, hold_id="h2"), "90.00 INR is more than the 60.00 INR that can be taken", {"available": 6_000}),
        (transfer(9_000, "u2"), "90.00 INR is more than the 60.00 INR that can be taken", {"available": 6_000}),
        (adjust(-9_000), "90.00 INR is more than the 60.00 INR that can be taken", {"available": 6_000}),
        (
            deposit(99_000, order_id="o2"),
            "the balance would be 1080.00 INR, at most 1000.00 INR is allowed",
            {"balance_max": 100_000, "balance_after": 108_000},
        ),
        (
            place_bet(4_500, bet_id="b2"),
            "10.00 INR of 50.00 INR were staked today",
            {"stake_max_per_day": 5_000, "staked_today": 1_000},
        ),
        (
            request_withdrawal(6_000, order_id="w1"),
            "0.00 INR of 50.00 INR were requested for withdrawal today",
            {"withdrawal_max_per_day": 5_000, "requested_today": 0},
        ),
        (capture_hold(amount=4_000), "the hold h1 has 30.00 INR", {"held": 3_000}),
        (deposit(0, order_id="o2"), "amount is 0.00 INR, outside of its range", {"field": "amount"}),
        (
            settle_bet(AMOUNT_MAX, bet_id="b1"),
            "what the wallet has and may get back would exceed ±90071992547409.91 INR",
            {},
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_details_have_the_assets_own_unit_and_fields_the_minor_unit(
    command: Command, detail: str, fields: dict[str, int]
) -> None:
    scene = Scene.with_cash(10_000).given(LIMITED, place_bet(1_000), hold(3_000))
    refusal = scene.refused(command)
    assert (refusal.detail, refusal.fields) == (detail, fields)


def test_a_refused_stake_says_what_can_be_taken() -> None:
    refusal = Scene.with_cash(10_000).refused(place_bet(12_345))
    assert refusal.detail == "the stake is 123.45 INR, 100.00 INR can be taken"
    assert refusal.fields == {"available": 10_000}


def test_an_unknown_asset_names_the_assets_that_exist() -> None:
    refusal = Scene.with_cash().refused(deposit(10, order_id="o2", asset="XYZ"))
    assert refusal.detail == "the asset XYZ is not declared; the assets are GOLD, INR, USDT"
    assert refusal.fields == {"asset": "XYZ"}


def test_an_unknown_game_names_the_games_that_exist() -> None:
    refusal = Scene.with_cash().refused(place_bet(10, game="roulette"))
    assert (refusal.code, refusal.fields) == (Code.UNKNOWN_GAME, {"game": "roulette"})
    assert refusal.detail.startswith("there is no game roulette; known games: external, 5d_10m, ")
    listed = refusal.detail.partition("known games: ")[2].split(", ")
    assert len(listed) == LISTED_MAX + 1
    assert listed[-1] == "… (GET /v1/games lists them all)"


@pytest.mark.parametrize(
    "command", [record_result("7", PERIOD, game="external"), cancel_period(PERIOD, game="external")]
)
def test_a_result_of_external_games_is_refused_with_what_ends_their_bets(command: Command) -> None:
    refusal = Scene().refused(command)
    assert (refusal.code, refusal.fields) == (Code.UNKNOWN_GAME, {"game": "external"})
    assert refusal.detail == (
        "games outside of the ledger have no results here: settle_bet or cancel_bet ends each of their bets"
    )


def test_a_result_of_an_unknown_game_does_not_name_external_which_has_none() -> None:
    refusal = Scene().refused(record_result("7", PERIOD, game="roulette"))
    assert refusal.detail == f"there is no game roulette; known games: {', '.join(sorted(built_in_games()))}"
