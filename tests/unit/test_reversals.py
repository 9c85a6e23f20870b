"""A deposit, a grant or an adjustment can be reversed once, while its money is still in the wallet."""

import pytest

from ledger.core.commands import Command
from ledger.core.events import Balance, Event, Reversed
from ledger.core.items import Order, order_key
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_adjustment,
    cancel_bet,
    deposit,
    emptied,
    freeze_wallet,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    reverse,
    set_limits,
    settle_bet,
)


def opposite(event: Event) -> list[tuple[str, str, int]]:
    return sorted((account, asset, -amount) for account, asset, amount in event.postings)


@pytest.mark.parametrize(
    ("command", "after"),
    [
        (deposit(30, "o2"), Balance(cash=100)),
        (deposit(30, "o2", bonus=10), Balance(cash=100)),
        (deposit(30, "o2", bonus=0), Balance(cash=100)),
        (grant_bonus(30), Balance(cash=100)),
        (grant_bonus(30, expires_at_us=NOON + SECOND_US), Balance(cash=100)),
        (adjust(30), Balance(cash=100)),
        (adjust(-30), Balance(cash=100)),
    ],
)
def test_a_reversal_posts_the_opposite(command: Command, after: Balance) -> None:
    scene = Scene.with_cash(100)
    original = scene.when(command)
    position = scene.position(original)
    event = scene.when(reverse(position, metadata={"ticket": "1"}))
    assert event.data == Reversed(metadata={"ticket": "1"}, position=position, reason="a mistake")
    assert sorted(event.postings) == opposite(original)
    assert event.balances == {"INR": after}


def test_a_reversed_grant_is_gone() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(30, expires_at_us=NOON + SECOND_US), grant_bonus(5, "g2"))
    scene.given(reverse("3:3"))
    assert [grant.grant_id for grant in scene.wallet().grants] == ["g2"]
    scene.now_us = NOON + SECOND_US
    assert scene.tick() == []
    assert scene.refused(grant_bonus(1, "g1")).code is Code.GRANT_ID_REUSED


def test_a_reversed_deposits_order_says_so() -> None:
    scene = Scene.with_cash(100).given(reverse("3:2"))
    order = scene.items["u1"][order_key("o1")]
    assert isinstance(order, Order)
    assert (order.kind, order.status, order.asset, order.amount) == ("deposit", "reversed", "INR", 100)


@pytest.mark.parametrize("command", [deposit(30, "o2", bonus=10), grant_bonus(30), adjust(30), adjust(-30)])
def test_an_event_is_reversed_once(command: Command) -> None:
    scene = Scene.with_cash(100)
    position = scene.position(scene.when(command))
    scene.given(reverse(position))
    rejection = scene.refused(reverse(position))
    assert rejection.code is Code.ALREADY_RESOLVED


@pytest.mark.parametrize("position", ["3:0", "3:99", "4:2", "1023:2"])
def test_an_event_that_this_wallet_does_not_have_cannot_be_reversed(position: str) -> None:
    rejection = Scene.with_cash(100).refused(reverse(position))
    assert (rejection.code, rejection.fields) == (Code.CANNOT_REVERSE, {"position": position})


def test_an_event_of_another_wallet_cannot_be_reversed() -> None:
    scene = Scene.with_cash(100, "u1", "u2")
    assert scene.refused(reverse("3:4", user_id="u1")).code is Code.CANNOT_REVERSE
    scene.when(reverse("3:4", user_id="u2"))


def test_an_event_of_another_type_cannot_be_reversed() -> None:
    scene = Scene.with_cash(100).given(
        hold(1),
        place_bet(1),
        settle_bet(2),
        set_limits(balance_max=1000),
        adjust(1),
        reverse("3:7"),
        propose_adjustment(5),
    )
    scene.when(approve_adjustment(), actor="op-2")
    reversible = {"3:2", "3:7"}
    for seq in range(1, len(scene.events) + 1):
        if f"3:{seq}" not in reversible:
            assert scene.refused(reverse(f"3:{seq}")).code is Code.CANNOT_REVERSE


# --- bonus that is no longer whole


@pytest.mark.parametrize("bonus", [deposit(30, "o2", bonus=10), grant_bonus(10)], ids=["a deposit's", "a grant"])
@pytest.mark.parametrize(
    "spending",
    [
        [place_bet(1, spend="bonus_first")],
        [place_bet(10, spend="bonus_first")],
        [place_bet(1, spend="bonus_first"), settle_bet(0)],
        [place_bet(1, spend="bonus_first"), settle_bet(1)],
        [place_bet(1, spend="bonus_first"), settle_bet(5)],
        [place_bet(10, spend="bonus_first"), settle_bet(10)],
    ],
    ids=["staked in part", "staked", "lost", "won back", "won more", "all won back"],
)
def test_with_a_bonus_partly_spent_there_is_no_reversal(bonus: Command, spending: list[Command]) -> None:
    scene = Scene.with_cash(100)
    position = scene.position(scene.when(bonus))
    scene.given(*spending)
    assert scene.refused(reverse(position)).code is Code.CANNOT_REVERSE


def test_a_bonus_that_came_back_whole_can_be_reversed() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(10), place_bet(10, spend="bonus_first"), cancel_bet())
    scene.when(reverse("3:3"))
    assert scene.balance() == Balance(cash=100)


def test_winnings_do_not_make_a_spent_bonus_whole_again() -> None:
    scene = Scene.with_cash(100).given(
        *(grant_bonus(10), place_bet(5, "b1", spend="bonus_first"), place_bet(5, "b2", spend="bonus_first")),
        *(settle_bet(5, "b1"), cancel_bet("b2")),
    )
    assert scene.balance() == Balance(cash=100, bonus=10)
    assert scene.refused(reverse("3:3")).code is Code.CANNOT_REVERSE


def test_winnings_stay_known_while_all_of_the_grant_is_staked() -> None:
    scene = Scene.with_cash(100).given(
        *(grant_bonus(10), place_bet(10, "b1", spend="bonus_first"), settle_bet(10, "b1")),
        *(place_bet(10, "b2", spend="bonus_first"), cancel_bet("b2")),
    )
    assert scene.balance() == Balance(cash=100, bonus=10)
    assert scene.refused(reverse("3:3")).code is Code.CANNOT_REVERSE


def test_an_expired_bonus_cannot_be_reversed() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(10, expires_at_us=NOON + SECOND_US))
    scene.now_us = NOON + SECOND_US
    assert scene.refused(reverse("3:3")).code is Code.CANNOT_REVERSE


def test_a_spent_bonus_of_another_grant_does_not_matter() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(10, "g1"), grant_bonus(10, "g2"), place_bet(110))
    assert scene.refused(reverse("3:3")).code is Code.CANNOT_REVERSE
    scene.when(reverse("3:4"))


# --- funds, limits and status


@pytest.mark.parametrize(
    "spending",
    [place_bet(80), hold(80), adjust(-80), *emptied(80)[:1]],
    ids=["staked", "held", "adjusted away", "withdrawn"],
)
def test_a_reversal_takes_cash_above_zero_only(spending: Command) -> None:
    scene = Scene.with_cash(100).given(set_limits(credit_limit=1000), spending)
    rejection = scene.refused(reverse("3:2"))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 20})
    scene.given(deposit(80, "o2"), reverse("3:2"))


def test_reversing_a_grant_needs_no_cash() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(10), reverse("3:2"))
    assert scene.balance() == Balance()


def test_a_reversal_ignores_balance_max() -> None:
    scene = Scene.with_cash(100).given(adjust(-60), set_limits(balance_max=10), reverse("3:3"))
    assert scene.balance() == Balance(cash=100)


def test_a_reversal_may_not_pass_the_bound() -> None:
    scene = Scene.with_cash(100).given(adjust(-60), deposit(AMOUNT_MAX - 40, "o2"))
    assert scene.refused(reverse("3:3")).code is Code.AMOUNT_OUT_OF_RANGE


def test_in_a_wallet_that_is_full_to_the_bound_a_grant_and_a_deposit_can_be_reversed() -> None:
    scene = Scene.with_cash(AMOUNT_MAX - 40).given(grant_bonus(40), reverse("3:3"), reverse("3:2"))
    assert scene.balance() == Balance()


def test_a_frozen_wallet_accepts_a_reversal() -> None:
    Scene.with_cash(100).given(freeze_wallet(), reverse("3:2"))
