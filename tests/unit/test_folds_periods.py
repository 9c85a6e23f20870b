"""The fold of periods: sums of the bets of each period, by asset and by selection, and the outcome."""

import pytest

from ledger.core.fields import Proof
from ledger.core.games.periods import name_of
from ledger.core.money import AMOUNT_MAX
from projections.models.periods import PeriodRow, SelectionRow
from projections.tables.wide import total_of
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    cancel_period,
    deposit,
    place_bet,
    record_result,
    settle_bet,
)
from unit.read_model import row_of, rows_of

PERIOD = name_of(NOON)
WINGO = {"game": "wingo_30s", "period": PERIOD}
BLOCK = Proof("a" * 63 + "7", 66, NOON + 31 * SECOND_US)


def sums(scene: Scene, asset: str = "INR") -> tuple[int, int, int, int]:
    """Open and settled bets, staked, paid out."""
    row = row_of(scene, PeriodRow, "wingo_30s", PERIOD, asset)
    staked, paid_out = total_of(row.staked_high, row.staked_low), total_of(row.paid_out_high, row.paid_out_low)
    return row.open_bets, row.settled_bets, staked, paid_out


def distribution(scene: Scene) -> dict[tuple[str, str], tuple[int, int]]:
    rows = rows_of(scene, SelectionRow)
    return {(row.selection, row.asset): (row.bets, total_of(row.staked_high, row.staked_low)) for row in rows}


def three_bets() -> Scene:
    return Scene.with_cash(1_000).given(
        place_bet(100, "b1", selection="red", **WINGO),
        place_bet(50, "b2", selection="red", **WINGO),
        place_bet(200, "b3", selection="red+number:7", **WINGO),
    )


def settled(scene: Scene, outcome_of: str) -> Scene:
    scene.now_us = NOON + 32 * SECOND_US
    outcome = record_result("7", PERIOD) if outcome_of == "result" else cancel_period(PERIOD)
    scene.settle(scene.when(outcome))
    return scene


def test_placed_bets_are_open_and_counted_by_their_whole_selection() -> None:
    scene = three_bets()
    assert sums(scene) == (3, 0, 350, 0)
    assert distribution(scene) == {("red", "INR"): (2, 150), ("red+number:7", "INR"): (1, 200)}


def test_each_asset_is_counted_separately() -> None:
    scene = three_bets().given(deposit(9, "g", asset="GOLD"), place_bet(9, "b4", asset="GOLD", **WINGO))
    assert (sums(scene), sums(scene, "GOLD")) == ((3, 0, 350, 0), (1, 0, 9, 0))
    assert distribution(scene)["red", "GOLD"] == (1, 9)


def test_a_cancelled_bet_counts_nowhere() -> None:
    scene = three_bets().given(cancel_bet("b3"), cancel_bet("never"))
    assert sums(scene) == (2, 0, 150, 0)
    assert distribution(scene)["red+number:7", "INR"] == (0, 0)


def test_a_result_is_the_outcome_and_each_settlement_makes_an_open_bet_a_settled_one() -> None:
    scene = settled(three_bets(), "result")
    assert sums(scene) == (0, 3, 350, 98 * 9)
    outcome = row_of(scene, PeriodRow, "wingo_30s", PERIOD, "")
    assert (outcome.outcome, outcome.result, outcome.proof) == ("result", "7", None)
    assert distribution(scene)["red", "INR"] == (2, 150)


def test_a_cancelled_period_has_no_bets_left() -> None:
    scene = settled(three_bets(), "cancelled")
    assert sums(scene) == (0, 0, 0, 0)
    outcome = row_of(scene, PeriodRow, "wingo_30s", PERIOD, "")
    assert (outcome.outcome, outcome.result) == ("cancelled", None)


def test_a_result_without_bets_is_an_outcome_too_with_its_block() -> None:
    scene = Scene()
    scene.now_us = NOON + 32 * SECOND_US
    scene.given(record_result("7", PERIOD, game="trx_wix_30s", proof=BLOCK))
    (row,) = rows_of(scene, PeriodRow)
    assert (row.game, row.asset, row.result) == ("trx_wix_30s", "", "7")
    assert row.proof == f'{{"hash":"{BLOCK.hash}","height":66,"time_us":{BLOCK.time_us}}}'


def test_a_game_without_rules_has_no_periods() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1", period=PERIOD), place_bet(30, "b2"), cancel_bet("b2"))
    scene.given(settle_bet(50, "b1"))
    assert rows_of(scene, PeriodRow) == []
    assert rows_of(scene, SelectionRow) == []


@pytest.mark.system
def test_sums_beyond_64_bits_are_exact() -> None:
    scene = Scene.with_cash(AMOUNT_MAX, *(f"u{number}" for number in range(1_100)))
    for number in range(1_100):
        scene.given(place_bet(AMOUNT_MAX, "b1", selection="number:7", user_id=f"u{number}", **WINGO))
    assert sums(scene) == (1_100, 0, 1_100 * AMOUNT_MAX, 0)
    assert distribution(scene) == {("number:7", "INR"): (1_100, 1_100 * AMOUNT_MAX)}
    assert 1_100 * AMOUNT_MAX > 2**63
