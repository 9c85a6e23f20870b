"""The fold of the house: sums of each hour and game, and what the pay tables expect."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import pytest

from cases import first
from ledger.core.games.periods import name_of
from ledger.core.games.rules import BUILT_IN, RuleBook, book_of, read_rules
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import Position
from naive_games import RESULTS, legs, paid_legs
from projections import models as folds
from projections.models.house import DAY_HOURS, HOUR_US, HouseItem, HouseRow, document, hours_of
from projections.projecting.pay_tables import PayTables
from projections.tables.row_buffer import RowBuffer
from projections.tables.wide import total_of
from unit.given import (
    ASSETS,
    NOON,
    PARTITION,
    SECOND_US,
    Scene,
    cancel_bet,
    cancel_period,
    deposit,
    grant_bonus,
    place_bet,
    record_result,
    reverse,
    settle_bet,
)
from unit.read_model import row_of, rows_of

HOUR = NOON // HOUR_US
WINGO = {"game": "wingo_30s", "period": name_of(NOON)}
NAMES = ("staked", "paid_out", "fees", "expected", "commissions", "bonuses")


def sums(row: HouseRow) -> dict[str, int]:
    """What is not 0."""
    found = {name: total_of(getattr(row, f"{name}_high"), getattr(row, f"{name}_low")) for name in NAMES}
    return {name: value for name, value in {"bets": row.bets, **found}.items() if value}


def wingo(scene: Scene) -> dict[str, int]:
    return sums(row_of(scene, HouseRow, "INR", HOUR, "wingo_30s"))


def of_no_game(scene: Scene) -> dict[int, dict[str, int]]:
    return {row.hour: found for row in rows_of(scene, HouseRow) if row.game == "" and (found := sums(row))}


def average_payouts(rules: str, selection: str, stake: int) -> int:
    """Of all results together, by the independent calculator."""
    return sum(paid for result in RESULTS[rules] for _, _, paid in paid_legs(rules, selection, stake, result))


def test_a_bet_of_a_game_has_its_stake_its_fee_and_what_it_pays_on_average() -> None:
    scene = Scene.with_cash(5_000).given(place_bet(1_001, "b1", selection="green+number:7", **WINGO))
    assert wingo(scene) == {
        "bets": 1,
        "staked": 1_001,
        "fees": 20,
        "expected": average_payouts("wingo", "green+number:7", 1_001),
    }


def test_a_payout_counts_in_the_hour_of_its_bet() -> None:
    scene = Scene.with_cash(1_000).given(place_bet(100, "b1"), place_bet(50, "b2", selection="big", **WINGO))
    scene.now_us += HOUR_US
    scene.given(settle_bet(70, "b1"))
    scene.settle(scene.when(record_result("7", name_of(NOON))))
    assert sums(row_of(scene, HouseRow, "INR", HOUR, "external")) == {"bets": 1, "staked": 100, "paid_out": 70}
    assert wingo(scene)["paid_out"] == 98
    assert {row.hour for row in rows_of(scene, HouseRow)} == {HOUR}


@pytest.mark.parametrize("by", ["the player", "the period"])
def test_a_cancelled_bet_counts_nowhere(by: str) -> None:
    scene = Scene.with_cash(1_000).given(place_bet(500, "b1", selection="red+violet", **WINGO))
    if by == "the player":
        scene.given(cancel_bet("b1"))
    else:
        scene.now_us += HOUR_US
        scene.settle(scene.when(cancel_period(name_of(NOON))))
    assert wingo(scene) == {}
    assert row_of(scene, HouseRow, "INR", HOUR, "wingo_30s").unpriced == 0
    assert document([(HOUR, "wingo_30s", *[0] * 14)], "hour").items == []


def test_bonuses_count_in_the_hour_of_their_event_and_a_reversal_in_its_own() -> None:
    scene = Scene.with_cash(100).given(deposit(1_000, "o2", bonus=70))
    granted = scene.position(scene.when(grant_bonus(30)))
    assert of_no_game(scene) == {HOUR: {"bonuses": 100}}
    scene.now_us += HOUR_US
    scene.given(reverse(granted))
    assert of_no_game(scene) == {HOUR: {"bonuses": 100}, HOUR + 1: {"bonuses": -30}}


def test_a_bonus_that_expires_is_taken_back() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(30, expires_at_us=NOON + SECOND_US))
    scene.now_us += 2 * HOUR_US
    scene.tick()
    assert of_no_game(scene) == {HOUR: {"bonuses": 30}, HOUR + 2: {"bonuses": -30}}


@pytest.mark.system
def test_sums_beyond_64_bits_are_exact() -> None:
    scene = Scene.with_cash(AMOUNT_MAX, *(f"u{number}" for number in range(1_100)))
    for number in range(1_100):
        scene.given(place_bet(AMOUNT_MAX, selection="big", user_id=f"u{number}", **WINGO))
    assert wingo(scene)["staked"] == 1_100 * AMOUNT_MAX
    assert wingo(scene)["expected"] == 1_100 * average_payouts("wingo", "big", AMOUNT_MAX)


NOT_5D: Final = sum(len(legs(rules)) for rules in ("wingo", "trx_wix", "k3"))
"""5D has 100,000 results."""


def some_legs() -> Iterator[tuple[str, str]]:
    for rules in ("wingo", "trx_wix", "k3"):
        yield from ((rules, leg) for leg in legs(rules))
    for leg in ("A:7", "C:big", "E:odd", "sum:big", "sum:small", "sum:odd"):
        yield "5d", leg


@pytest.mark.parametrize(("rules", "leg"), first(NOT_5D, some_legs()))
def test_the_expectation_of_every_leg_is_the_sum_over_every_result(rules: str, leg: str) -> None:
    stake = 9_999
    period = name_of(NOON)
    scene = Scene.with_cash(stake).given(place_bet(stake, game=f"{rules}_30s", period=period, selection=leg))
    row = row_of(scene, HouseRow, "INR", HOUR, f"{rules}_30s")
    assert sums(row)["expected"] == average_payouts(rules, leg, stake)


def item_of(scene: Scene) -> HouseItem:
    row = row_of(scene, HouseRow, "INR", HOUR, "wingo_30s")
    (item,) = document(
        [
            (
                HOUR,
                row.game,
                row.bets,
                row.unpriced,
                *[getattr(row, f"{name}_{half}") for name in NAMES for half in ("high", "low")],
            )
        ],
        "hour",
    ).items
    return item


def test_the_edges_are_parts_per_million_of_the_stake_rounded_down() -> None:
    scene = Scene.with_cash(30_000).given(
        place_bet(10_000, "b1", selection="big", **WINGO), place_bet(5_000, "b2", selection="number:3", **WINGO)
    )
    scene.now_us += 32 * SECOND_US
    scene.settle(scene.when(record_result("7", name_of(NOON))))
    item = item_of(scene)
    assert item.edge_ppm == (15_000 - 19_600) * 1_000_000 // 15_000 == -306_667
    expected = 1 - Fraction(10_000 * 98 * 5 * 2, 1_000) / 15_000 - Fraction(5_000 * 98 * 9, 1_000) / 15_000
    assert item.expected_edge_ppm == expected * 1_000_000 // 1 == 52_666


def changed_rules() -> RuleBook:
    return book_of(read_rules('{"games": {"wingo_30s": {"odds": {"big": 300}, "fee_bp": 0}}}', ASSETS).games)


def priced(scene: Scene, tables: PayTables) -> HouseRow:
    buffer = RowBuffer(folds.ROW_TYPES, {}, complete=True, pay_tables=tables.known)
    for seq, event in enumerate(scene.events, start=1):
        for fold in folds.FOLDS:
            fold(event, Position(PARTITION, seq), buffer)
    (row,) = (row for row in buffer[HouseRow].changed if row.game == "wingo_30s")
    return row


def test_a_bet_is_priced_by_the_table_that_it_was_taken_under() -> None:
    scene = Scene.with_cash(1_000)
    scene.given(place_bet(100, "b1", selection="big", **WINGO))
    scene.rules = changed_rules()
    scene.given(place_bet(100, "b2", selection="big", **WINGO))
    digest = scene.rules.games["wingo_30s"].digest
    tables = PayTables(lambda: changed_rules().tables)
    tables.learn([digest])
    row = priced(scene, tables)
    assert (sums(row)["expected"], row.unpriced) == (5 * 196 + 5 * 300, 0)


def test_a_pay_table_that_the_log_has_lost_is_read_once_and_its_bets_have_no_price() -> None:
    scene = Scene.with_cash(1_000)
    scene.rules = changed_rules()
    scene.given(place_bet(100, "b1", selection="big", **WINGO))
    digest = scene.rules.games["wingo_30s"].digest
    reads: list[int] = []

    def nothing() -> dict[str, object]:
        reads.append(1)
        return {}

    tables = PayTables(nothing)  # type: ignore[arg-type]
    for _ in range(3):
        tables.learn([digest, BUILT_IN.games["wingo_30s"].digest])
    assert len(reads) == 1
    row = priced(scene, tables)
    assert (row.bets, row.unpriced) == (1, 1)
    assert document([(HOUR, "wingo_30s", 1, 1, 0, 100, *[0] * 10)], "hour").items[0].expected_edge_ppm is None


def test_hours_and_days_are_those_that_the_times_overlap() -> None:
    assert hours_of("hour", NOON + 1, NOON + 2, 0) == (HOUR, HOUR + 1)
    assert hours_of("hour", NOON, NOON + HOUR_US, 0) == (HOUR, HOUR + 1)
    midnight = HOUR // DAY_HOURS * DAY_HOURS
    assert hours_of("day", NOON, NOON + 1, 0) == (midnight, midnight + DAY_HOURS)
    assert hours_of("hour", None, None, NOON) == (HOUR - 31 * DAY_HOURS, 2**31 - 1)
    assert hours_of("hour", NOON - 32 * DAY_HOURS * HOUR_US, None, NOON) is None
    assert hours_of("day", NOON - 366 * DAY_HOURS * HOUR_US, NOON, NOON) is not None
    assert hours_of("day", NOON - 368 * DAY_HOURS * HOUR_US, NOON, NOON) is None
