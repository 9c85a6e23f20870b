"""The fold of history: one line per event and asset that moved in its wallet."""

import msgspec

from projections.models.history import HistoryRow
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    capture_hold,
    deposit,
    hold,
    open_wallet,
    place_bet,
    set_limits,
    settle_bet,
    transfer,
)
from unit.read_model import row_of, rows_of


def test_a_line_has_the_change_and_the_balances_after_it() -> None:
    scene = Scene().given(open_wallet())
    scene.now_us += SECOND_US
    event = scene.when(deposit(1000, "o1", bonus=50))
    (line,) = rows_of(scene, HistoryRow)
    assert line == HistoryRow(
        "u1", NOON + SECOND_US, 2, "INR", "deposited", "", event.command_id, 1000, 50, 0, 1000, 50, 0, line.data
    )
    assert msgspec.json.decode(line.data) == {
        "amount": 1000,
        "asset": "INR",
        "bonus": 50,
        "first_deposit": True,
        "order_id": "o1",
    }


def test_an_event_that_moves_no_money_makes_no_line() -> None:
    scene = Scene().given(open_wallet(), set_limits(balance_max=5))
    assert rows_of(scene, HistoryRow) == []


def test_a_move_between_buckets_changes_both() -> None:
    scene = Scene.with_cash(100).given(hold(30), capture_hold("h1", 10))
    placed, captured = rows_of(scene, HistoryRow)[1:]
    assert (placed.cash_change, placed.bonus_change, placed.held_change) == (-30, 0, 30)
    assert (captured.cash_change, captured.bonus_change, captured.held_change) == (20, 0, -30)
    assert (captured.cash, captured.bonus, captured.held) == (90, 0, 0)


def test_a_bet_its_settlement_and_its_cancelling_are_of_its_game() -> None:
    scene = Scene.with_cash(100).given(
        place_bet(10, "b1"), settle_bet(20, "b1"), place_bet(5, "b2"), cancel_bet("b2")
    )
    assert [(line.type, line.game) for line in rows_of(scene, HistoryRow)] == [
        ("deposited", ""),
        ("bet_placed", "external"),
        ("bet_settled", "external"),
        ("bet_placed", "external"),
        ("bet_cancelled", "external"),
    ]


def test_a_bet_that_lost_moved_nothing() -> None:
    scene = Scene.with_cash(100).given(place_bet(10), settle_bet(0))
    assert [line.type for line in rows_of(scene, HistoryRow)] == ["deposited", "bet_placed"]


def test_a_transfer_is_a_line_in_both_wallets() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(transfer(30))
    scene.deliver()
    lines = [line for line in rows_of(scene, HistoryRow) if line.type.startswith("transfer")]
    assert [(line.user_id, line.type, line.cash_change, line.cash) for line in lines] == [
        ("u1", "transfer_sent", -30, 70),
        ("u2", "transfer_received", 30, 130),
    ]


def test_events_of_one_time_stay_in_their_order() -> None:
    scene = Scene().given(open_wallet(), *(deposit(1, f"o{number}") for number in range(12)))
    assert [line.seq for line in rows_of(scene, HistoryRow)] == list(range(2, 14))


def test_the_data_keeps_members_in_the_order_of_the_record() -> None:
    scene = Scene().given(open_wallet(), deposit(3, "o", metadata={"b": "2", "a": "1"}))
    line = row_of(scene, HistoryRow, "u1", NOON, 2, "INR", "deposited", "")
    assert line.data == '{"amount":3,"asset":"INR","first_deposit":true,"metadata":{"a":"1","b":"2"},"order_id":"o"}'
