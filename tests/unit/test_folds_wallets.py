"""The fold of wallets: status, referrer, first deposit; and per asset the balances and limits."""

from projections.models.wallets import AssetRow, WalletRow
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    close_wallet,
    deposit,
    emptied,
    freeze_wallet,
    hold,
    open_wallet,
    place_bet,
    set_limits,
    transfer,
    unfreeze_wallet,
)
from unit.read_model import row_of, rows_of


def test_a_wallet_is_open_since_it_was_opened() -> None:
    scene = Scene().given(open_wallet(referrer_id="r1"))
    assert rows_of(scene, WalletRow) == [WalletRow("u1", "open", NOON, "r1")]
    assert rows_of(scene, AssetRow) == []


def test_status_follows_freezing_unfreezing_and_closing() -> None:
    scene = Scene.with_cash(500)
    for command, status in (
        (freeze_wallet(), "frozen"),
        (unfreeze_wallet(), "open"),
        (freeze_wallet(), "frozen"),
        (unfreeze_wallet(), "open"),
    ):
        scene.given(command)
        assert row_of(scene, WalletRow, "u1").status == status
    scene.given(*emptied(500), close_wallet())
    wallet = row_of(scene, WalletRow, "u1")
    assert (wallet.status, wallet.opened_at_us) == ("closed", NOON)


def test_the_first_deposit_is_kept_and_no_later_one() -> None:
    scene = Scene().given(open_wallet(), deposit(700, "o1", asset="GOLD"))
    scene.now_us += SECOND_US
    scene.given(deposit(9, "o2"))
    assert row_of(scene, WalletRow, "u1") == WalletRow("u1", "open", NOON, None, "o1", "GOLD", 700, "3:2", NOON)


def test_an_asset_has_its_buckets_after_the_last_event_and_the_time_of_its_first() -> None:
    scene = Scene().given(open_wallet(), deposit(1000, bonus=50))
    scene.now_us += SECOND_US
    scene.given(hold(300), place_bet(200))
    assert rows_of(scene, AssetRow) == [AssetRow("u1", "INR", NOON, cash=500, bonus=50, held=300)]


def test_each_asset_has_a_row_of_its_own() -> None:
    scene = Scene().given(open_wallet(), deposit(5, "o1"), deposit(7, "o2", asset="GOLD"))
    assert [(row.asset, row.cash) for row in rows_of(scene, AssetRow)] == [("GOLD", 7), ("INR", 5)]


def test_limits_change_what_they_name_and_null_is_the_default_again() -> None:
    scene = Scene().given(
        open_wallet(), set_limits(credit_limit=40, balance_max=900, stake_max_per_day=0, withdrawal_max_per_day=8)
    )
    limited = AssetRow("u1", "INR", NOON, 0, 0, 0, 40, 900, 0, 8)
    assert rows_of(scene, AssetRow) == [limited]
    scene.given(set_limits(credit_limit=None, stake_max_per_day=None))
    assert rows_of(scene, AssetRow) == [AssetRow("u1", "INR", NOON, 0, 0, 0, 0, 900, None, 8)]


def test_a_limit_of_an_asset_leaves_its_balance_and_a_movement_its_limits() -> None:
    scene = Scene.with_cash(100).given(set_limits(balance_max=500), adjust(7))
    assert rows_of(scene, AssetRow) == [AssetRow("u1", "INR", NOON, cash=107, balance_max=500)]


def test_money_sent_to_a_wallet_that_was_never_opened_makes_no_rows() -> None:
    scene = Scene.with_cash(100).given(transfer(30, "nobody"))
    scene.deliver()
    scene.deliver()
    assert [row.user_id for row in rows_of(scene, WalletRow)] == ["u1"]
    assert row_of(scene, AssetRow, "u1", "INR").cash == 100
