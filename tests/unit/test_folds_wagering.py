"""The fold of a wallet's wagering makes what the writer's state has."""

import pytest

from ledger.core.wallet import Wallet
from projections.models.wallets import AssetRow
from unit.given import Scene, cancel_bet, deposit, grant_bonus, open_wallet, place_bet, reverse, settle_bet
from unit.read_model import rows_of
from unit.test_money_flows import book


def _required_and_done(scene: Scene) -> tuple[int, int]:
    (row,) = [row for row in rows_of(scene, AssetRow) if row.asset == "INR"]
    return row.wagering_required, int(row.wagering_done)


def _as_the_writer(wallet: Wallet) -> tuple[int, int]:
    return wallet.wagering["INR"].required, wallet.wagering["INR"].done


@pytest.mark.parametrize(("cancelled", "left"), [("b0", (300, 150)), ("b1", (380, 150)), ("b2", (300, 0))])
def test_a_cancelled_bet_counts_no_more(cancelled: str, left: tuple[int, int]) -> None:
    """b0 never counted, b1 is of the first window, in which 20 more were staked than required, b2 of the second."""
    scene = Scene().given(open_wallet(), deposit(1_000, "o0"), place_bet(40, "b0"))
    scene.rules = book(INR={"wagering": {"deposit": 1}})
    scene.given(deposit(100, "o1"), place_bet(100), place_bet(20, "b3"), deposit(300, "o2"), place_bet(150, "b2"))
    scene.given(cancel_bet(cancelled))
    assert _required_and_done(scene) == _as_the_writer(scene.wallet()) == left


@pytest.mark.parametrize("reversed_", [0, 1, 2])
def test_a_reversal_takes_back_what_was_added_to_the_window(reversed_: int) -> None:
    scene = Scene()
    scene.rules = book(INR={"wagering": {"deposit": 1, "bonus": 2}})
    scene.given(open_wallet())
    added = [scene.when(deposit(100))]
    scene.given(place_bet(100), settle_bet(200))
    added += [scene.when(deposit(30, "o2", bonus=5)), scene.when(grant_bonus(7))]
    scene.given(reverse(scene.position(added[reversed_])))
    left = (54, 14, 40)[reversed_]
    assert _required_and_done(scene) == _as_the_writer(scene.wallet()) == (left, 0)
