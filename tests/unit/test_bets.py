"""Bets: which buckets a stake comes from, where a payout goes, and what a cancelled bet gives back."""

import pytest

from ledger.core.bet_events import (
    BetCancelled,
    BetPlaced,
    BetSettled,
    StakeSource,
)
from ledger.core.commands import CancelBet, SettleBet
from ledger.core.events import Balance
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    cancel_bet,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    set_limits,
    settle_bet,
)

# --- placing


def test_a_bet_moves_its_stake_to_the_house() -> None:
    scene = Scene.with_cash(1000)
    event = scene.when(place_bet(400, metadata={"table": "4"}))
    assert event.data == BetPlaced(
        asset="INR",
        bet_id="b1",
        source=StakeSource(bonus=0, cash=400, grants=()),
        game="external",
        metadata={"table": "4"},
        period="round 7",
        selection="red",
        stake=400,
    )
    assert event.postings == (("wallet/u1/cash", "INR", -400), ("house/stakes", "INR", 400))
    assert event.balances == {"INR": Balance(cash=600)}


@pytest.mark.parametrize(
    ("spend", "stake", "cash", "bonus"),
    [
        # cash 100, bonus 50, credit 30
        (None, 100, 100, 0),
        (None, 101, 100, 1),
        (None, 150, 100, 50),
        (None, 151, 101, 50),
        (None, 180, 130, 50),
        ("cash_first", 120, 100, 20),
        ("bonus_first", 50, 0, 50),
        ("bonus_first", 51, 1, 50),
        ("bonus_first", 150, 100, 50),
        ("bonus_first", 180, 130, 50),
    ],
)
def test_a_stake_takes_cash_bonus_and_credit_in_the_requested_order(
    spend: str | None, stake: int, cash: int, bonus: int
) -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50), set_limits(credit_limit=30))
    event = scene.when(place_bet(stake, spend=spend))
    assert scene.last(BetPlaced).spend == spend
    assert scene.last(BetPlaced).source == StakeSource(bonus, cash, (("g1", bonus),) if bonus else ())
    assert event.balances == {"INR": Balance(cash=100 - cash, bonus=50 - bonus)}


def test_a_stake_from_bonus_alone_posts_nothing_to_cash() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50))
    event = scene.when(place_bet(50, spend="bonus_first"))
    assert event.postings == (("wallet/u1/bonus", "INR", -50), ("house/stakes", "INR", 50))


def test_a_mixed_stake_posts_to_both_buckets() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50))
    event = scene.when(place_bet(120))
    assert event.postings == (
        ("wallet/u1/cash", "INR", -100),
        ("wallet/u1/bonus", "INR", -20),
        ("house/stakes", "INR", 120),
    )


def test_a_wallet_in_debt_spends_bonus_before_more_credit() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=30), place_bet(10, "b1"), grant_bonus(5))
    assert scene.balance() == Balance(cash=-10, bonus=5)
    scene.when(place_bet(12, "b2"))
    assert scene.last(BetPlaced).source == StakeSource(bonus=5, cash=7, grants=(("g1", 5),))
    assert scene.balance() == Balance(cash=-17)


def test_cash_goes_down_to_minus_the_credit_limit_and_no_further() -> None:
    scene = Scene.with_cash(100).given(set_limits(credit_limit=30))
    rejection = scene.refused(place_bet(131))
    assert (rejection.code, rejection.fields) == (Code.CREDIT_LIMIT_EXCEEDED, {"available": 130})
    scene.when(place_bet(130))
    assert scene.balance() == Balance(cash=-30)


def test_without_a_credit_limit_a_bet_lacks_funds() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50))
    rejection = scene.refused(place_bet(151))
    assert (rejection.code, rejection.fields) == (Code.INSUFFICIENT_FUNDS, {"available": 150})


def test_a_credit_limit_below_the_debt_leaves_the_bonus_to_be_spent() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=30), place_bet(30, "b1"), grant_bonus(5))
    scene.given(set_limits(credit_limit=10))
    assert scene.balance() == Balance(cash=-30, bonus=5)
    rejection = scene.refused(place_bet(6, "b2"))
    assert (rejection.code, rejection.fields) == (Code.CREDIT_LIMIT_EXCEEDED, {"available": 5})
    scene.when(place_bet(5, "b2"))


def test_grants_are_spent_by_soonest_expiry_then_the_oldest() -> None:
    scene = Scene().given(
        open_wallet(),
        grant_bonus(10, "never-1"),
        grant_bonus(10, "late", expires_at_us=NOON + 9 * SECOND_US),
        grant_bonus(10, "soon-1", expires_at_us=NOON + 5 * SECOND_US),
        grant_bonus(10, "soon-2", expires_at_us=NOON + 5 * SECOND_US),
        grant_bonus(10, "never-2"),
    )
    scene.when(place_bet(45))
    assert scene.last(BetPlaced).source.grants == (
        ("soon-1", 10),
        ("soon-2", 10),
        ("late", 10),
        ("never-1", 10),
        ("never-2", 5),
    )


def test_a_grant_of_another_asset_is_not_spent() -> None:
    scene = Scene.with_cash(10).given(grant_bonus(10, "gold", asset="GOLD"))
    assert scene.refused(place_bet(11)).fields == {"available": 10}
    scene.given(grant_bonus(10, "rupees"), place_bet(11))
    assert scene.last(BetPlaced).source.grants == (("rupees", 1),)


def test_a_grant_that_is_past_its_expiry_is_not_spent() -> None:
    scene = Scene.with_cash(10).given(grant_bonus(10, expires_at_us=NOON + 5))
    scene.now_us = NOON + 5
    assert scene.refused(place_bet(11)).fields == {"available": 10}
    assert scene.types_of()[-1] == "bonus_expired"


def test_a_bet_id_is_used_once_even_after_the_bet_is_resolved() -> None:
    scene = Scene.with_cash(100).given(place_bet(1, "b1"), place_bet(1, "b2"), place_bet(1, "b3"))
    scene.given(settle_bet(0, "b2"), cancel_bet("b3"))
    for bet_id in ("b1", "b2", "b3"):
        assert scene.refused(place_bet(1, bet_id)).code is Code.BET_ID_REUSED


def test_a_game_without_rules_is_unknown() -> None:
    rejection = Scene.with_cash().refused(place_bet(1, game="chess"))
    assert (rejection.code, rejection.fields) == (Code.UNKNOWN_GAME, {"game": "chess"})


def test_an_asset_that_is_not_declared_is_refused() -> None:
    assert Scene.with_cash().refused(place_bet(5, asset="EUR")).code is Code.UNKNOWN_ASSET


@pytest.mark.parametrize("stake", [0, -5, AMOUNT_MAX + 1])
def test_a_stake_outside_of_the_range_is_refused(stake: int) -> None:
    rejection = Scene.with_cash().refused(place_bet(stake))
    assert (rejection.code, rejection.fields) == (Code.AMOUNT_OUT_OF_RANGE, {"field": "stake"})


# --- settling


def test_a_payout_of_a_cash_bet_goes_to_cash() -> None:
    scene = Scene.with_cash(100).given(place_bet(40))
    event = scene.when(settle_bet(90, metadata={"result": "red"}))
    assert event.data == BetSettled(bet_id="b1", metadata={"result": "red"}, payout=90)
    assert event.postings == (("house/payouts", "INR", -90), ("wallet/u1/cash", "INR", 90))
    assert event.balances == {"INR": Balance(cash=150)}


def test_a_lost_bet_posts_nothing() -> None:
    scene = Scene.with_cash(100).given(place_bet(40))
    event = scene.when(settle_bet(0))
    assert event.data == BetSettled(bet_id="b1", payout=0)
    assert (event.postings, event.balances) == ((), {})
    assert scene.balance() == Balance(cash=60)


@pytest.mark.parametrize(
    ("payout", "cash", "bonus"),
    [
        # of a stake of 30, 10 from bonus
        (30, 20, 10),
        (31, 21, 10),
        (32, 22, 10),
        (33, 22, 11),
        (2, 2, 0),
        (3, 2, 1),
        (1, 1, 0),
    ],
)
def test_a_payout_gives_bonus_its_share_rounded_down_and_cash_the_rest(payout: int, cash: int, bonus: int) -> None:
    scene = Scene.with_cash(20).given(grant_bonus(10), place_bet(30))
    assert scene.balance() == Balance()
    scene.when(settle_bet(payout))
    assert scene.balance() == Balance(cash=cash, bonus=bonus)


def test_a_payout_is_split_exactly_however_large() -> None:
    scene = Scene.with_cash(20).given(grant_bonus(10), place_bet(30))
    scene.when(settle_bet(AMOUNT_MAX))
    assert scene.balance() == Balance(cash=AMOUNT_MAX - AMOUNT_MAX // 3, bonus=AMOUNT_MAX // 3)


def test_a_payout_of_a_bonus_bet_posts_nothing_to_cash() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(10), place_bet(10))
    event = scene.when(settle_bet(25))
    assert event.postings == (("house/payouts", "INR", -25), ("wallet/u1/bonus", "INR", 25))


def test_the_bonus_part_of_a_payout_goes_to_the_last_grant_of_the_stake() -> None:
    scene = Scene().given(
        open_wallet(),
        grant_bonus(10, "soon", expires_at_us=NOON + 5 * SECOND_US),
        grant_bonus(10, "late", expires_at_us=NOON + 9 * SECOND_US),
        grant_bonus(10, "never"),
        place_bet(15),
        settle_bet(40),
    )
    assert [(grant.grant_id, grant.remaining) for grant in scene.wallet().grants] == [("late", 45), ("never", 10)]


def test_a_payout_repays_a_debt_in_cash() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=30), place_bet(30), settle_bet(50))
    assert scene.balance() == Balance(cash=20)


@pytest.mark.parametrize("second", [settle_bet(5), cancel_bet()], ids=["settle", "cancel"])
@pytest.mark.parametrize("first", [settle_bet(5), cancel_bet()], ids=["settled", "cancelled"])
def test_a_bet_is_resolved_once(first: SettleBet | CancelBet, second: SettleBet | CancelBet) -> None:
    scene = Scene.with_cash().given(place_bet(5), first)
    assert scene.refused(second).code is Code.ALREADY_RESOLVED


def test_a_bet_that_was_never_placed_is_not_found() -> None:
    rejection = Scene.with_cash().refused(settle_bet(5, "b9"))
    assert (rejection.code, rejection.fields) == (Code.BET_NOT_FOUND, {"bet_id": "b9"})


@pytest.mark.parametrize("payout", [-1, AMOUNT_MAX + 1, 10**30])
def test_a_payout_outside_of_the_range_is_refused(payout: int) -> None:
    rejection = Scene.with_cash().given(place_bet(5)).refused(settle_bet(payout))
    assert (rejection.code, rejection.fields) == (Code.AMOUNT_OUT_OF_RANGE, {"field": "payout"})


def test_a_payout_may_fill_the_wallet_to_the_largest_amount_and_no_further() -> None:
    scene = Scene.with_cash(AMOUNT_MAX).given(place_bet(10))
    assert scene.refused(settle_bet(11)).code is Code.AMOUNT_OUT_OF_RANGE
    scene.when(settle_bet(10))


def test_a_payout_leaves_room_for_the_other_stakes_that_may_come_back() -> None:
    scene = Scene.with_cash(AMOUNT_MAX).given(place_bet(10, "b1"), place_bet(5, "b2"))
    assert scene.refused(settle_bet(11, "b1")).code is Code.AMOUNT_OUT_OF_RANGE
    scene.given(settle_bet(0, "b2"), settle_bet(15, "b1"))


# --- cancelling


def test_a_cancelled_bet_gives_the_stake_back_to_the_buckets_it_came_from() -> None:
    scene = Scene.with_cash(100).given(grant_bonus(50), place_bet(120))
    event = scene.when(cancel_bet(reason="void round"))
    assert event.data == BetCancelled(before_bet=False, bet_id="b1", reason="void round")
    assert event.postings == (
        ("house/stakes", "INR", -120),
        ("wallet/u1/cash", "INR", 100),
        ("wallet/u1/bonus", "INR", 20),
    )
    assert event.balances == {"INR": Balance(cash=100, bonus=50)}


def test_a_cancelled_bet_gives_each_grant_its_part_back() -> None:
    expires_at_us = NOON + SECOND_US
    scene = Scene().given(open_wallet(), grant_bonus(10, "old"), grant_bonus(10, "soon", expires_at_us=expires_at_us))
    before = scene.wallet().grants
    scene.given(place_bet(15), cancel_bet())
    assert [(g.grant_id, g.remaining, g.expires_at_us) for g in scene.wallet().grants] == [
        (g.grant_id, g.remaining, g.expires_at_us) for g in before
    ]


def test_bonus_that_came_back_is_as_old_as_its_grant() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(10, "older"), grant_bonus(10, "younger"))
    scene.given(place_bet(10, "b1"), cancel_bet("b1"), place_bet(10, "b2"))
    assert scene.last(BetPlaced).source.grants == (("older", 10),)


def test_a_cancelled_bet_gives_credit_back() -> None:
    scene = Scene().given(open_wallet(), set_limits(credit_limit=30), place_bet(30), cancel_bet())
    assert scene.balance() == Balance()


# --- money that is elsewhere


def test_held_cash_cannot_be_staked() -> None:
    scene = Scene.with_cash(100).given(hold(60))
    assert scene.refused(place_bet(41)).fields == {"available": 40}
    scene.when(place_bet(40))


def test_cash_of_another_asset_cannot_be_staked() -> None:
    scene = Scene().given(open_wallet(), deposit(10, asset="GOLD"))
    assert scene.refused(place_bet(5)).fields == {"available": 0}
