"""Commissions: six levels above a member are paid for stakes of settled bets, by day or by bet, to the fraction."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.bonus_events import BonusGranted
from ledger.core.commands import Command
from ledger.core.commission_events import CommissionDue, CommissionPaid, ReferralValid
from ledger.core.commissions import share
from ledger.core.events import Event
from ledger.core.games.rules import BUILT_IN, RuleBook, book_of
from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import E9, Commission, Money, MoneyRules, digest_of
from ledger.core.rejections import Code
from ledger.core.wallet import DAY_US, next_due_us
from unit.given import (
    NOON,
    Scene,
    adjust,
    cancel_bet,
    close_wallet,
    deposit,
    freeze_wallet,
    open_wallet,
    place_bet,
    reverse,
    set_agent_level,
    set_limits,
    settle_bet,
)

RATES = (6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580)
"""Those of the domain: 0.6 % and three tenths of the level before."""
DELAY_S = 600
TODAY, TOMORROW = "2024-10-04", "2024-10-05"
MIDNIGHT = NOON + DAY_US // 2
DUE = MIDNIGHT + DELAY_S * 1_000_000


def money(*, mode: str = "daily", **changes: object) -> Money:
    commission = msgspec.convert(
        {"mode": mode, "delay_s": DELAY_S, "rates_e9": RATES, "agents": {}} | changes, Commission, strict=False
    )
    return {"INR": MoneyRules(commission=commission)}


def rules(of: Money) -> RuleBook:
    return book_of(BUILT_IN.games, money=of)


def chain(length: int, of: Money | None = None) -> Scene:
    """u1, u2 …, each referred by the one before, all counted. The last one, with 10,000 to bet, is the member."""
    scene = Scene()
    scene.rules = rules(money() if of is None else of)
    scene.given(open_wallet("u1"))
    for n in range(2, length + 1):
        scene.given(open_wallet(f"u{n}", f"u{n - 1}"))
        scene.deliver_all()
    return scene.given(deposit(10_000, user_id=f"u{length}"))


def bet(scene: Scene, user_id: str, stake: int, payout: int = 0, bet_id: str = "b1") -> Event:
    scene.given(place_bet(stake, bet_id, user_id=user_id))
    return scene.when(settle_bet(payout, bet_id, user_id=user_id))


def close_days(scene: Scene, user_id: str, at_us: int = DUE) -> list[Event]:
    """Go to that time and close what is due, and deliver what it sends."""
    scene.now_us = at_us
    closed = scene.tick(user_id)
    scene.deliver_all()
    return closed


def paid(scene: Scene) -> list[tuple[str, int, int, int]]:
    """(wallet, level, amount, carried_e9) of all commissions, in order."""
    return [
        (event.user_id, data.level, data.amount, data.carried_e9)
        for event in scene.events
        if isinstance(data := event.data, CommissionPaid)
    ]


# --- a day -----------------------------------------------------------------------------------------------------


def test_a_day_pays_six_levels_and_a_seventh_nothing() -> None:
    scene = chain(8)
    bet(scene, "u8", 10_000)
    close_days(scene, "u8")
    assert paid(scene) == [
        ("u7", 1, 60, 0),
        ("u6", 2, 18, 0),
        ("u5", 3, 5, 400_000_000),
        ("u4", 4, 1, 620_000_000),
        ("u3", 5, 0, 486_000_000),
        ("u2", 6, 0, 145_800_000),
    ]
    assert scene.total("house/commissions") == -84
    assert scene.balance("u7").cash == 60


def test_the_stakes_of_a_day_are_one_commission_and_name_the_last_bet_as_the_cause() -> None:
    scene = chain(2)
    bet(scene, "u2", 100, 500, "b1")
    bet(scene, "u2", 150, 0, "b2")
    last = scene.events[-1]
    (closed,) = close_days(scene, "u2")
    digest = digest_of(money())
    assert closed.data == CommissionDue(asset="INR", cause=scene.position(last), day=TODAY, rules=digest, stake=250)
    assert (closed.postings, closed.balances, closed.time_us) == ((), {}, DUE)
    assert scene.last(CommissionPaid) == CommissionPaid(
        amount=1,
        asset="INR",
        carried_e9=500_000_000,
        cause=scene.position(closed),
        day=TODAY,
        level=1,
        member="u2",
        rate_e9=RATES[0],
        rules=digest,
        stake=250,
    )


def test_a_cancelled_bet_and_an_open_one_earn_nothing() -> None:
    scene = chain(2).given(place_bet(100, "b1", user_id="u2"), place_bet(100, "b2", user_id="u2"))
    scene.given(cancel_bet("b1", user_id="u2"))
    assert close_days(scene, "u2") == []
    assert scene.wallet("u2").turnover == ()


def test_a_bet_counts_for_the_day_on_which_it_is_settled() -> None:
    scene = chain(2).given(place_bet(1_000, user_id="u2"))
    scene.now_us = MIDNIGHT
    scene.given(settle_bet(0, user_id="u2"))
    assert close_days(scene, "u2") == [], "the day before had no stake, and this one is not over"
    (closed,) = close_days(scene, "u2", DUE + DAY_US)
    assert isinstance(closed.data, CommissionDue)
    assert closed.data.day == TOMORROW


def test_the_last_microsecond_of_a_day_belongs_to_it() -> None:
    scene = chain(2).given(place_bet(1_000, user_id="u2"))
    scene.now_us = MIDNIGHT - 1
    scene.given(settle_bet(0, user_id="u2"))
    assert close_days(scene, "u2", DUE - 1) == []
    (closed,) = close_days(scene, "u2")
    assert isinstance(closed.data, CommissionDue)
    assert closed.data.day == TODAY


def test_between_midnight_and_the_delay_two_days_are_open() -> None:
    scene = chain(2)
    bet(scene, "u2", 1_000, bet_id="b1")
    scene.now_us = DUE - 1
    bet(scene, "u2", 2_000, bet_id="b2")
    assert [(turnover.day * DAY_US, turnover.stake) for turnover in scene.wallet("u2").turnover] == [
        (NOON - DAY_US // 2, 1_000),
        (MIDNIGHT, 2_000),
    ]
    assert next_due_us(scene.wallet("u2")) == DUE
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, 6, 0)]
    close_days(scene, "u2", DUE + DAY_US)
    assert paid(scene)[1:] == [("u1", 1, 12, 0)]


def test_a_node_that_was_down_for_days_closes_each_of_them() -> None:
    scene = chain(2)
    bet(scene, "u2", 1_000, bet_id="b1")
    scene.now_us = DUE - 1
    bet(scene, "u2", 2_000, bet_id="b2")
    closed = close_days(scene, "u2", DUE + 40 * DAY_US)
    assert [event.data.day for event in closed if isinstance(event.data, CommissionDue)] == [TODAY, TOMORROW]


def test_a_day_is_closed_before_a_later_bet_and_never_opens_again() -> None:
    scene = chain(2).given(place_bet(1_000, "b1", user_id="u2"), place_bet(1_000, "b2", user_id="u2"))
    scene.given(settle_bet(0, "b1", user_id="u2"))
    scene.now_us = DUE
    scene.given(settle_bet(0, "b2", user_id="u2"))
    assert scene.types_of("u2")[-2:] == ["commission_due", "bet_settled"]
    scene.now_us = NOON  # the clock is set back: the partition's time is not
    bet(scene, "u2", 1_000, bet_id="b3")
    assert [(turnover.day * DAY_US, turnover.stake) for turnover in scene.wallet("u2").turnover] == [
        (MIDNIGHT, 2_000)
    ]


def test_each_asset_has_its_own_days_rules_and_rest() -> None:
    scene = chain(2, {**money(), "GOLD": MoneyRules(commission=Commission(rates_e9=(E9,)))})
    scene.given(deposit(70, "o2", asset="GOLD", user_id="u2"), deposit(70, "o3", asset="USDT", user_id="u2"))
    for number, asset in enumerate(("INR", "GOLD", "USDT")):
        scene.given(place_bet(70, f"b{number}", asset=asset, user_id="u2"))
        scene.given(settle_bet(0, f"b{number}", user_id="u2"))
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, 70, 0), ("u1", 1, 0, 420_000_000)], "gold is due at midnight, USDT has no rules"
    assert scene.balance("u1", "GOLD").cash == 70


def test_a_wallet_without_a_referrer_counts_nothing() -> None:
    scene = chain(1)
    settled = bet(scene, "u1", 1_000)
    assert msgspec.to_builtins(settled.data) == {"bet_id": "b1", "payout": 0}
    assert scene.wallet("u1").turnover == ()


@pytest.mark.parametrize("of", [{}, {"INR": MoneyRules(registration=1)}, money(rates_e9=())])
def test_without_rates_nothing_is_counted(of: Money) -> None:
    scene = chain(2, of)
    bet(scene, "u2", 1_000)
    assert scene.wallet("u2").turnover == ()


# --- the rules -------------------------------------------------------------------------------------------------


def test_a_stake_is_paid_by_the_rules_of_its_settlement_whatever_they_are_at_midnight() -> None:
    scene = chain(2)
    bet(scene, "u2", 1_000, bet_id="b1")
    later = money(rates_e9=(E9,), delay_s=0)
    kept = scene.rules.money_kept
    scene.rules = book_of(BUILT_IN.games, money=later, money_kept=kept)
    bet(scene, "u2", 1_000, bet_id="b2")
    scene.rules = book_of(BUILT_IN.games, money_kept=scene.rules.money_kept)  # and then there are none
    bet(scene, "u2", 1_000, bet_id="b3")
    close_days(scene, "u2", MIDNIGHT)
    assert paid(scene) == [("u1", 1, 1_000, 0)]
    close_days(scene, "u2")
    assert paid(scene)[1:] == [("u1", 1, 6, 0)]


def test_the_level_of_an_agent_decides_its_rate_when_it_is_paid() -> None:
    scene = chain(3, money(agents={"2": [10_000_000]}))
    bet(scene, "u3", 1_000)
    scene.given(set_agent_level(2, user_id="u2"), set_agent_level(7, user_id="u1"))
    close_days(scene, "u3")
    assert paid(scene) == [("u2", 1, 10, 0), ("u1", 2, 1, 800_000_000)], "a level without rates has the common ones"


def test_the_walk_ends_at_the_last_rate_also_of_agents() -> None:
    scene = chain(5, money(rates_e9=(E9,), agents={"3": [0, 0, E9]}))
    scene.given(set_agent_level(3, user_id="u3"))
    bet(scene, "u5", 10)
    close_days(scene, "u5")
    assert paid(scene) == [("u4", 1, 10, 0), ("u3", 2, 0, 0), ("u2", 3, 0, 0)]


def test_per_bet_a_commission_leaves_with_each_bet() -> None:
    scene = chain(3, money(mode="per_bet"))
    settled = bet(scene, "u3", 1_000)
    due = scene.events[-1]
    assert isinstance(due.data, CommissionDue)
    assert (due.data.cause, due.data.day, due.time_us) == (scene.position(settled), TODAY, settled.time_us)
    assert scene.wallet("u3").turnover == ()
    scene.deliver_all()
    bet(scene, "u3", 100, bet_id="b2")
    scene.deliver_all()
    assert paid(scene) == [
        ("u2", 1, 6, 0),
        ("u1", 2, 1, 800_000_000),
        ("u2", 1, 0, 600_000_000),
        ("u1", 2, 0, 980_000_000),
    ]


# --- who is paid -----------------------------------------------------------------------------------------------


def test_a_referrer_that_was_never_opened_ends_the_walk() -> None:
    scene = Scene()
    scene.rules = rules(money())
    scene.given(open_wallet("u2", "u1"), deposit(1_000, user_id="u2"))
    scene.deliver_all()
    bet(scene, "u2", 1_000)
    close_days(scene, "u2")
    last = scene.last(CommissionPaid)
    assert (last.amount, last.carried_e9, last.reason, last.referrer_id) == (0, 0, Code.WALLET_NOT_OPEN, None)
    scene.given(open_wallet("u1"))
    assert scene.wallet("u1").status == "open"


def test_a_closed_referrer_gets_nothing_and_the_walk_goes_on() -> None:
    scene = chain(3).given(close_wallet(user_id="u2"))
    bet(scene, "u3", 1_000)
    close_days(scene, "u3")
    assert paid(scene) == [("u2", 1, 0, 0), ("u1", 2, 1, 800_000_000)]
    reasons = [event.data.reason for event in scene.events if isinstance(event.data, CommissionPaid)]
    assert reasons == [Code.WALLET_CLOSED, None]


def test_a_frozen_referrer_is_paid() -> None:
    scene = chain(2).given(freeze_wallet(user_id="u1"))
    bet(scene, "u2", 1_000)
    close_days(scene, "u2")
    assert scene.balance("u1").cash == 6


def test_a_closed_members_last_day_is_still_paid_to_the_referrer() -> None:
    scene = chain(2)
    bet(scene, "u2", 10_000)
    scene.given(close_wallet(user_id="u2"))
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, 60, 0)]


def test_in_a_ring_of_referrers_the_walk_ends_at_the_member() -> None:
    scene = Scene()
    scene.rules = rules(money())
    scene.given(open_wallet("u1", "u2"), open_wallet("u2", "u1"), deposit(1_000, user_id="u2"))
    scene.deliver_all()
    bet(scene, "u2", 1_000)
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, 6, 0)]


def test_what_does_not_fit_the_wallet_is_carried_until_it_fits() -> None:
    scene = chain(2, money(rates_e9=(E9,))).given(deposit(AMOUNT_MAX - 3, user_id="u1"))
    bet(scene, "u2", 10)
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, 3, 7 * E9)]
    assert scene.balance("u1").cash == AMOUNT_MAX
    scene.given(adjust(-100, user_id="u1"))
    bet(scene, "u2", 10, bet_id="b2")
    close_days(scene, "u2", DUE + DAY_US)
    assert paid(scene)[1:] == [("u1", 1, 17, 0)]


def test_a_commission_is_never_more_than_an_amount_also_where_the_wallet_is_below_zero() -> None:
    scene = chain(2, money(rates_e9=(E9,))).given(set_limits(credit_limit=5, user_id="u1"))
    bet(scene, "u1", 5)
    scene.given(adjust(AMOUNT_MAX - 10_000, user_id="u2"))
    bet(scene, "u2", AMOUNT_MAX, payout=AMOUNT_MAX)
    bet(scene, "u2", 10, bet_id="b2")
    close_days(scene, "u2")
    assert paid(scene) == [("u1", 1, AMOUNT_MAX, 10 * E9)]
    assert scene.balance("u1").cash == AMOUNT_MAX - 5


# --- exact fractions -------------------------------------------------------------------------------------------

stakes = st.integers(1, 10**30)
rates = st.integers(0, E9)


@given(st.lists(st.tuples(stakes, rates, st.integers(0, AMOUNT_MAX)), max_size=20))
def test_what_is_paid_and_carried_is_exactly_what_was_earned(commissions: list[tuple[int, int, int]]) -> None:
    earned = paid_out = carried_e9 = 0
    for stake, rate_e9, room in commissions:
        amount, carried_e9 = share(carried_e9, stake, rate_e9, room)
        earned += stake * rate_e9
        paid_out += amount
        assert 0 <= amount <= room
        assert carried_e9 < E9 or amount == room, "only what has no room waits in whole units"
        assert paid_out * E9 + carried_e9 == earned


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8), rates)
def test_many_small_commissions_pay_as_much_as_one_large_commission(parts: list[int], rate_e9: int) -> None:
    carried_e9 = paid_out = 0
    for stake in parts:
        amount, carried_e9 = share(carried_e9, stake, rate_e9, AMOUNT_MAX)
        paid_out += amount
    assert (paid_out, carried_e9) == share(0, sum(parts), rate_e9, AMOUNT_MAX)


# --- valid referrals ----------------------------------------------------------------------------------------------


def invited(*members: str) -> Scene:
    """u1 has referred the members, who are valid referrals once they have deposited 300 INR or 5 GOLD."""
    scene = Scene()
    scene.rules = rules({"INR": MoneyRules(valid_referral=300), "GOLD": MoneyRules(valid_referral=5)})
    scene.given(open_wallet("u1"), *(open_wallet(member, "u1") for member in members))
    scene.deliver_all()
    return scene


def valid(scene: Scene) -> list[tuple[str, str, str]]:
    return [
        (event.user_id, data.member, data.asset)
        for event in scene.events
        if isinstance(data := event.data, ReferralValid) and data.reason is None
    ]


def test_a_member_is_a_valid_referral_once_the_deposits_reach_the_sum() -> None:
    scene = invited("u2").given(deposit(299, "o1", user_id="u2"))
    assert scene.under_way == []
    reached = scene.when(deposit(1, "o2", user_id="u2"))
    event = scene.deliver()
    assert event.data == ReferralValid(
        asset="INR", cause=scene.position(reached), member="u2", rules=scene.rules.money_digest
    )
    assert (event.user_id, event.postings) == ("u1", ())
    assert scene.wallet("u1").valid_referrals == {"INR": 1}


def test_a_member_is_valid_once_in_each_asset() -> None:
    scene = invited("u2", "u3")
    for number in range(3):
        scene.given(deposit(300, f"o{number}", user_id="u2"), deposit(300, f"o{number}", user_id="u3"))
        scene.given(deposit(5, f"g{number}", asset="GOLD", user_id="u2"))
    scene.given(deposit(10**6, "usdt", asset="USDT", user_id="u2"))
    scene.deliver_all()
    assert valid(scene) == [("u1", "u2", "INR"), ("u1", "u3", "INR"), ("u1", "u2", "GOLD")]
    assert scene.wallet("u1").valid_referrals == {"INR": 2, "GOLD": 1}


def test_a_reversed_deposit_does_not_count_and_a_member_who_is_valid_stays_so() -> None:
    scene = invited("u2").given(deposit(299, "o1", user_id="u2"))
    scene.given(reverse(scene.position(scene.events[-1]), user_id="u2"), deposit(299, "o2", user_id="u2"))
    assert scene.under_way == []
    reached = scene.when(deposit(1, "o3", user_id="u2"))
    scene.given(reverse(scene.position(reached), user_id="u2"), deposit(1, "o4", user_id="u2"))
    scene.deliver_all()
    assert valid(scene) == [("u1", "u2", "INR")]


def test_a_wallet_without_a_referrer_is_no_referral() -> None:
    scene = invited().given(deposit(1_000, user_id="u1"))
    assert "referral_rules" not in msgspec.to_builtins(scene.events[-1].data)
    assert scene.under_way == []


@pytest.mark.parametrize(
    ("before", "reason"),
    [((), Code.WALLET_NOT_OPEN), ((open_wallet("u1"), close_wallet(user_id="u1")), Code.WALLET_CLOSED)],
)
def test_a_referrer_that_is_closed_or_was_never_opened_counts_nothing(
    before: tuple[Command, ...], reason: Code
) -> None:
    scene = Scene().given(*before)
    scene.rules = rules({"INR": MoneyRules(valid_referral=1)})
    scene.given(open_wallet("u2", "u1"), deposit(1, user_id="u2"))
    scene.deliver_all()
    assert scene.last(ReferralValid).reason == reason
    assert scene.wallet("u1").valid_referrals == {}


def test_the_valid_referrals_that_a_step_counts_give_the_referrer_its_bonus_at_once() -> None:
    scene = Scene()
    scene.rules = rules({"INR": MoneyRules(valid_referral=10, invitation=((1, 55), (3, 155)))})
    members = [f"m{number}" for number in range(4)]
    scene.given(open_wallet("u1"), *(open_wallet(member, "u1") for member in members))
    scene.deliver_all()
    for member in members:
        scene.given(deposit(10, user_id=member))
        valid_event = scene.deliver()
        assert valid_event.data.type == "referral_valid"
    bonuses = [event.data for event in scene.events_of("u1") if isinstance(event.data, BonusGranted)]
    assert [(data.kind, data.grant_id, data.amount) for data in bonuses] == [
        ("invitation", "~invitation:1", 55),
        ("invitation", "~invitation:2", 155),
    ]
    assert scene.balance("u1").bonus == 210
