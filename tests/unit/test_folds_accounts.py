"""The fold of accounts: house and transit totals, and all wallets' buckets of the partition together."""

from ledger.core.money import AMOUNT_MAX
from projections.models.accounts import AccountRow
from unit.given import Scene, capture_hold, deposit, grant_bonus, hold, open_wallet, place_bet, settle_bet, transfer
from unit.read_model import rows_of


def totals(scene: Scene) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row.account, row.asset): (row.credited, row.debited) for row in rows_of(scene, AccountRow)}


def test_an_account_has_separate_sums_for_credits_and_debits() -> None:
    scene = Scene.with_cash(100).given(place_bet(30, "b1"), settle_bet(50, "b1"))
    assert totals(scene) == {
        ("house/deposits", "INR"): ("0", "100"),
        ("house/payouts", "INR"): ("0", "50"),
        ("house/stakes", "INR"): ("30", "0"),
        ("wallet/cash", "INR"): ("150", "30"),
    }


def test_the_buckets_of_all_wallets_are_one_account_each() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(grant_bonus(5, user_id="u2"), hold(40, user_id="u2"))
    all_of_them = totals(scene)
    assert all_of_them["wallet/cash", "INR"] == ("200", "40")
    assert all_of_them["wallet/bonus", "INR"] == ("5", "0")
    assert all_of_them["wallet/held", "INR"] == ("40", "0")


def test_money_of_an_undelivered_transfer_is_in_transit() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(transfer(30))
    assert totals(scene)["transit/transfers", "INR"] == ("30", "0")
    scene.deliver()
    assert totals(scene)["transit/transfers", "INR"] == ("30", "30")


def test_all_accounts_of_an_asset_sum_to_zero() -> None:
    scene = Scene.with_cash(100, "u1", "u2").given(
        deposit(7, "g", asset="GOLD"), hold(40), capture_hold("h1", 15), place_bet(9), settle_bet(3), transfer(5)
    )
    sums: dict[str, int] = {}
    for (_, asset), (credited, debited) in totals(scene).items():
        sums[asset] = sums.get(asset, 0) + int(credited) - int(debited)
    assert sums == {"INR": 0, "GOLD": 0}


def test_a_house_account_has_no_bound() -> None:
    scene = Scene()
    for number in range(1100):
        scene.given(open_wallet(f"u{number}"), deposit(AMOUNT_MAX, user_id=f"u{number}"))
    assert totals(scene)["house/deposits", "INR"] == ("0", str(1100 * AMOUNT_MAX))
    assert 1100 * AMOUNT_MAX > 2**63
