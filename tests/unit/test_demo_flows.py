"""The demo's books of money flows: each rule with amounts that were worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from demo.books import expected_flows, expected_reads, house
from demo.books.books import EVENT_OF, Books
from demo.books.rules import money_rules
from demo.books.wagering import NO_SEQ, Wagering, Window
from demo.books.wallets import DAY_US, Command, CommandResponse, Wallet

NOON_US = 1_795_435_200_000_000
RATES_E9 = [6_000_000, 1_800_000, 540_000]
"""0.6 %, 0.18 % and 0.054 %."""


def rules(**changed: Any) -> dict[str, Any]:
    """The rules of INR that the tests begin with, and changes of them."""
    commission = {"mode": "per_bet", "rates_e9": RATES_E9, "agents": {"2": [10_000_000, 5_000_000, 2_500_000]}}
    of_inr = {
        "registration": 2_500,
        "first_deposit": [[10_000, 2_000], [30_000, 6_000]],
        "attendance": [700, 2_000],
        "wagering": {"deposit": 1, "bonus": 2},
        "withdrawal": {"min": 11_000, "max": 50_000, "per_day": 2},
        "valid_referral": 30_000,
        "invitation": [[1, 5_500], [3, 15_500]],
        "commission": commission,
    }
    return {"money": {"INR": of_inr | changed}}


class Given:
    """Books by the rules, and a service that accepts what the test says, with its seqs in one partition."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        self.books = Books(money_rules(rules() if document is None else document))
        self.seq, self.time_us = 0, NOON_US

    def accept(self, kind: str, user_id: str = "ada", data: dict[str, Any] | None = None, **fields: Any) -> Command:
        self.time_us += 1
        command: Command = {"type": kind, "command_id": f"c{self.seq}", "user_id": user_id, **fields}
        self.books.sending(command)
        self.respond(command, data)
        return command

    def respond(self, command: Command, data: dict[str, Any] | None = None) -> None:
        self.seq += 1
        at = {"partition": 0, "seq": self.seq, "position": f"0:{self.seq}", "time_us": self.time_us, "balances": {}}
        body = {**at, "type": EVENT_OF[command["type"]], "data": data or {}}
        self.books.responded(command, CommandResponse(201, False, body))
        self.seq += 3  # the places of events that follow from it

    def open(self, user_id: str = "ada", **fields: Any) -> Wallet:
        self.accept("open_wallet", user_id, **fields)
        return self.books.wallet(user_id)

    def deposit(self, amount: int, user_id: str = "ada", asset: str = "INR", **fields: Any) -> Command:
        bonus = fields.get("bonus") or 0
        required = {"wagering": amount + 2 * bonus} if asset == "INR" else {}
        return self.accept(
            "deposit", user_id, required, order_id=f"o{self.seq}", asset=asset, amount=amount, **fields
        )

    def bet(self, stake: int, user_id: str = "ada", grants: list[list[Any]] | None = None) -> str:
        bet_id, bonus = f"b{self.seq}", sum(amount for _, amount in grants or [])
        bet = {"game": "external", "period": "p", "selection": "big", "asset": "INR", "stake": stake}
        taken = {"from": {"cash": stake - bonus, "bonus": bonus, "grants": grants or []}}
        self.accept("place_bet", user_id, taken, bet_id=bet_id, **bet)
        return bet_id

    def played(self, stake: int, user_id: str) -> None:
        self.accept("settle_bet", user_id, bet_id=self.bet(stake, user_id), payout=0)

    def well(self) -> bool:
        assert self.books.surprises == []
        return True

    def window(self, user_id: str = "ada") -> tuple[int, int]:
        window = self.books.wallet(user_id).wagering_of("INR").now()
        assert window is not None
        return window.required, window.done

    def may_withdraw(self, amount: int, user_id: str = "ada") -> set[str]:
        wallet = self.books.wallet(user_id)
        return set(self.books.money.may_withdraw(wallet, "INR", amount, self.time_us))


def granted(grant_id: str, kind: str, amount: int, seq: int, **other: Any) -> dict[str, Any]:
    """A grant as `GET …/grants` shows it."""
    return {
        "grant_id": grant_id,
        "kind": kind,
        "asset": "INR",
        "amount": amount,
        "remaining": amount,
        "expires_at_us": None,
        "position": f"0:{seq}",
    } | other


# -- bonuses of one wallet ------------------------------------------------------------------------------------------


def test_a_new_wallet_gets_the_registration_bonus_which_a_read_at_its_own_position_may_lack() -> None:
    given = Given()
    wallet = given.open()
    assert wallet.bonus("INR") == 2_500
    assert wallet.possible_bonus("INR") == {0, 2_500}
    given.accept("set_limits", asset="INR", credit_limit=0)
    assert wallet.possible_bonus("INR") == {2_500}
    assert given.well()


@pytest.mark.parametrize(
    ("amount", "fields", "bonus"),
    [(9_999, {}, 0), (10_000, {}, 2_000), (29_999, {}, 2_000), (30_000, {}, 6_000), (30_000, {"bonus": 0}, 0)],
)
def test_a_first_deposit_gets_the_bonus_of_its_step_unless_the_command_names_one(
    amount: int, fields: dict[str, Any], bonus: int
) -> None:
    given = Given(rules(registration=0))
    wallet = given.open()
    given.deposit(amount, **fields)
    given.deposit(30_000)
    assert wallet.bonus("INR") == bonus
    assert given.well()


def test_a_first_deposit_in_another_asset_is_the_first() -> None:
    given = Given(rules(registration=0))
    wallet = given.open()
    given.deposit(30_000, asset="USDT")
    given.deposit(30_000)
    assert wallet.bonus("INR") == 0


def test_attendance_grows_from_day_to_day_and_begins_again_after_the_last() -> None:
    given = Given()
    wallet = given.open()
    for number, amount in enumerate((700, 2_000, 700), start=1):
        assert given.books.money.may_attend(wallet, "INR", given.time_us) == {"accepted"}
        data = {"amount": amount, "streak": number if number < 3 else 1, "grant_id": f"~attendance:{number}"}
        given.accept("claim_attendance", data=data | {"wagering": 2 * amount}, asset="INR")
        assert given.books.money.may_attend(wallet, "INR", given.time_us) == {"already_claimed"}
        given.time_us += DAY_US
    assert wallet.bonus("INR") == 2_500 + 3_400
    given.time_us += DAY_US
    data = {"amount": 700, "streak": 1, "grant_id": "~attendance:4", "wagering": 1_400}
    given.accept("claim_attendance", data=data, asset="INR")  # a day was missed
    assert given.books.money.may_attend(wallet, "GOLD", given.time_us) == {"not_eligible"}
    assert given.well()


def test_a_wrong_attendance_bonus_and_one_that_is_not_due_are_surprises() -> None:
    given = Given()
    given.open()
    given.accept(
        "claim_attendance",
        data={"amount": 701, "streak": 1, "grant_id": "~attendance:1", "wagering": 1_400},
        asset="INR",
    )
    given.accept("claim_attendance", asset="INR")
    wrong, too_early = given.books.surprises
    assert "'amount': 701" in wrong
    assert "'amount': 700" in wrong
    assert "not due" in too_early


def test_shortly_before_midnight_a_claim_may_count_for_the_next_day() -> None:
    given = Given()
    wallet = given.open()
    given.time_us = (NOON_US // DAY_US + 1) * DAY_US - 1_000_000
    wallet.attendance["INR"] = (NOON_US // DAY_US, 1)
    assert given.books.money.may_attend(wallet, "INR", given.time_us) == {"accepted", "already_claimed"}


# -- wagering and withdrawals ---------------------------------------------------------------------------------------


def test_once_enough_is_staked_the_next_addition_begins_a_new_window() -> None:
    wagering = Wagering()
    wagering.stake(1, "early", 50)
    assert wagering.now() is None
    wagering.add(2, 100)
    wagering.stake(3, "b1", 60)
    wagering.stake(4, "b2", 60)
    assert wagering.now() == Window(100, 120)
    wagering.add(5, 30)
    assert wagering.now() == Window(30, 0)
    wagering.cancel(6, "b2")
    assert wagering.now() == Window(70, 0), "20 of the 60 were not needed"
    wagering.cancel(7, "early")
    assert wagering.now() == Window(70, 0), "it never counted"


def test_a_cancelled_bet_and_a_reversed_addition_count_no_more() -> None:
    wagering = Wagering()
    wagering.add(1, 100)
    wagering.add(2, 40)
    wagering.stake(3, "b", 60)
    wagering.cancel(NO_SEQ, "b")
    wagering.reverse(5, 2)
    assert wagering.now() == Window(100, 0)


def test_an_addition_that_is_noted_late_counts_at_its_place() -> None:
    in_time, late = Wagering(), Wagering()
    in_time.add(1, 100)
    in_time.add(2, 50)
    in_time.stake(3, "b", 100)
    late.add(1, 100)
    late.stake(3, "b", 100)
    assert late.now() == Window(100, 100)
    late.add(2, 50)
    assert late.now() == in_time.now() == Window(150, 100)


def test_a_withdrawal_is_refused_by_bounds_then_by_the_number_of_the_day_then_by_wagering() -> None:
    given = Given(rules(registration=0, first_deposit=[]))
    given.open()
    given.deposit(30_000)
    assert given.may_withdraw(10_999) == given.may_withdraw(50_001) == {"withdrawal_out_of_bounds"}
    assert given.may_withdraw(11_000) == {"wagering_incomplete"}
    given.accept("settle_bet", bet_id=given.bet(30_000), payout=60_000)
    assert given.window() == (30_000, 30_000)
    given.accept("request_withdrawal", order_id="w1", asset="INR", amount=11_000)
    given.accept("request_withdrawal", order_id="w2", asset="INR", amount=11_000)
    assert given.may_withdraw(11_000) == {"withdrawals_per_day_exceeded"}
    given.accept("reject_withdrawal", order_id="w2")
    assert given.may_withdraw(11_000) == {"accepted"}
    assert given.well()
    given.accept("request_withdrawal", order_id="w3", asset="INR", amount=1)
    assert "against the rules" in given.books.surprises[0]


def test_a_response_that_requires_another_sum_to_be_staked_is_a_surprise() -> None:
    given = Given()
    given.open()
    given.accept("deposit", data={"wagering": 999}, order_id="o", asset="INR", amount=1_000)
    assert "requires 999 to be staked, by the rules 1000" in given.books.surprises[0]


def test_the_wagering_that_a_wallet_shows_is_compared() -> None:
    given = Given()
    wallet = given.open()
    given.accept("set_limits", asset="INR", credit_limit=0)
    balances = {"INR": {"cash": 0, "bonus": 2_500, "held": 0, "available": 2_500, "withdrawable": 0}}
    right = {"required": 5_000, "done": 0, "remaining": 5_000}
    seen = {"status": "open", "balances": balances, "wagering": {"INR": right}}
    assert given.books.differences(wallet.user_id, seen) == []
    (found,) = given.books.differences(wallet.user_id, {**seen, "wagering": {"INR": {**right, "done": 1}}})
    assert "INR wagering" in found


# -- referrals and commissions --------------------------------------------------------------------------------------


def test_members_are_counted_at_each_level_above_up_to_a_closed_wallet() -> None:
    given = Given(rules(registration=0))
    given.open("top")
    given.open("mid", referrer_id="top")
    given.open("low", referrer_id="mid")
    assert given.books.wallet("top").members == {1: 1, 2: 1}
    given.accept("close_wallet", "mid", reason="leaves")
    given.open("late", referrer_id="low")
    assert given.books.wallet("low").members == {1: 1}
    assert given.books.wallet("mid").members == {1: 1}
    assert given.books.wallet("top").members == {1: 1, 2: 1}


def test_valid_referrals_bring_the_bonuses_of_their_steps_once_each() -> None:
    given = Given(rules(registration=0))
    top = given.open("top")
    for name in ("m1", "m2", "m3"):
        given.open(name, referrer_id="top")
        given.deposit(29_999, name)
        given.deposit(1, name)
        given.deposit(30_000, name)
    assert [(item.grant_id, item.amount) for item in top.awaited] == [
        ("~invitation:1", 5_500),
        ("~invitation:2", 15_500),
    ]
    assert top.possible_bonus("INR") == {0, 5_500, 15_500, 21_000}
    assert top.valid_members == {"INR": 3}
    assert given.well()


def test_reversed_deposits_and_closed_referrers_bring_no_bonus() -> None:
    given = Given(rules(registration=0, first_deposit=[]))
    top = given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(29_999, "m")
    (position,) = given.books.wallet("m").reversibles
    given.accept("reverse", "m", position=position, reason="wrong")
    given.deposit(29_999, "m")
    assert top.awaited == []
    given.accept("close_wallet", "top", reason="leaves")
    given.deposit(1, "m")
    assert top.awaited == []


def test_while_a_bonus_is_awaited_a_withdrawal_may_be_refused_or_not_until_its_place_is_read() -> None:
    given = Given(rules(registration=0))
    top = given.open("top")
    given.deposit(20_000, "top", bonus=0)
    stake_seq = given.seq + 1
    given.accept("settle_bet", "top", bet_id=given.bet(20_000, "top"), payout=40_000)
    assert given.may_withdraw(11_000, "top") == {"accepted"}
    given.open("m", referrer_id="top")
    given.deposit(30_000, "m")
    assert given.may_withdraw(11_000, "top") == {"accepted", "wagering_incomplete"}
    assert given.books.money.grants_read(top, [granted("~invitation:1", "invitation", 5_500, stake_seq + 1)]) == []
    assert given.window("top") == (11_000, 0)
    assert given.may_withdraw(11_000, "top") == {"wagering_incomplete"}
    assert top.bonus("INR") == 5_500
    assert given.well()


def test_a_bet_may_use_a_bonus_that_is_awaited_and_it_counts_once() -> None:
    given = Given(rules(registration=0, commission=None))
    top = given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(30_000, "m")
    bet_id = given.bet(500, "top", grants=[["~invitation:1", 500]])
    assert top.bonus("INR") == 5_000
    assert top.possible_bonus("INR") == {5_000}
    given.accept("settle_bet", "top", bet_id=bet_id, payout=900)
    assert given.books.money.grants_read(top, [granted("~invitation:1", "invitation", 5_500, 12)]) == []
    assert (top.bonus("INR"), top.awaited) == (5_900, [])
    assert given.well()


def test_commissions_add_up_their_fractions_and_skip_a_closed_wallet() -> None:
    given = Given(rules(registration=0, first_deposit=[], valid_referral=None))
    top, agent = given.open("top"), given.open("agent", referrer_id="top")
    given.accept("set_agent_level", "agent", level=2)
    given.open("gone", referrer_id="agent")
    given.open("m", referrer_id="gone")
    given.deposit(1_000, "m")
    given.accept("close_wallet", "gone", reason="leaves")
    for _ in range(3):
        given.played(150, "m")
    # The agent is at level 2 with 0.5 %: three times 0.75. The top is at level 3 with 0.054 %: three times 0.081.
    assert (agent.cash["INR"], agent.coming["INR"], agent.commission_parts["INR"]) == (0, 2, 3)
    assert agent.commission_e9["INR"] == 2_250_000_000
    assert (top.coming["INR"], top.commission_e9["INR"]) == (0, 243_000_000)
    given.books.settle(given.time_us)
    assert (agent.cash["INR"], agent.coming["INR"], top.cash["INR"]) == (2, 0, 0)
    assert given.books.flows["commission", "INR"] == 2
    assert given.well()


def test_a_cancelled_bet_earns_no_commission_and_a_ring_ends_at_the_member() -> None:
    given = Given(rules(registration=0, first_deposit=[], valid_referral=None))
    given.open("top", referrer_id="m")
    given.open("m", referrer_id="top")
    given.deposit(1_000_000, "m")
    given.accept("cancel_bet", "m", bet_id=given.bet(500_000, "m"), reason="void")
    assert given.books.wallet("top").coming["INR"] == 0
    given.played(500_000, "m")
    assert given.books.wallet("top").coming["INR"] == 3_000
    assert given.books.wallet("m").coming["INR"] == 0


def test_a_commission_is_expected_before_the_settlement_is_posted_and_once() -> None:
    given = Given(rules(registration=0, first_deposit=[], valid_referral=None))
    top = given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(1_000, "m")
    command = {"type": "settle_bet", "command_id": "s", "user_id": "m", "bet_id": given.bet(1_000, "m"), "payout": 0}
    for _ in range(2):
        given.books.sending(command)
        assert top.coming["INR"] == 6
    given.respond(command)
    given.books.sending(command)
    assert top.coming["INR"] == 6


def test_commissions_by_the_day_come_after_midnight_and_not_before() -> None:
    daily = {"mode": "daily", "delay_s": 600, "rates_e9": RATES_E9}
    given = Given(rules(registration=0, first_deposit=[], valid_referral=None, commission=daily))
    top = given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(2_000, "m")
    given.played(1_000, "m")
    assert (top.coming["INR"], given.books.latest_due_us()) == (0, 0)
    due_us = (NOON_US // DAY_US + 1) * DAY_US + 600_000_000
    given.time_us = due_us - 240_000_000
    given.accept("set_limits", "m", asset="INR", credit_limit=0)
    assert top.coming["INR"] == 6, "it may come at any moment now"
    given.played(1_000, "m")
    assert top.coming["INR"] == 6, "this stake counts for the new day"
    given.books.settle(due_us)
    assert top.cash["INR"] == 6


def test_what_is_due_within_minutes_is_waited_for_at_the_end() -> None:
    daily = {"mode": "daily", "delay_s": 60, "rates_e9": RATES_E9}
    given = Given(rules(registration=0, first_deposit=[], valid_referral=None, commission=daily))
    given.time_us = (NOON_US // DAY_US + 1) * DAY_US - 120_000_000
    given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(1_000, "m")
    given.played(1_000, "m")
    due_us = (NOON_US // DAY_US + 1) * DAY_US + 60_000_000
    assert given.books.latest_due_us() == due_us
    given.books.settle(due_us)
    assert given.books.wallet("top").cash["INR"] == 6


def test_the_referrer_by_a_code_may_show_or_not_until_it_was_read() -> None:
    given = Given(rules(registration=0))
    given.open("top")
    given.books.money.codes["TOP"] = "top"
    wallet = given.open("m", referral_code="TOP")
    shown = {"status": "open", "referrer_id": "top"}
    assert given.books.differences("m", shown, settled=False) == []
    assert given.books.differences("m", {"status": "open"}, settled=False) == []
    assert given.books.differences("m", {"status": "open", "referrer_id": "bob"}, settled=False)
    assert given.books.wallet("top").members == {}
    given.books.money.referrer_read(wallet, None)
    given.books.money.referrer_read(wallet, "top")
    assert (wallet.referrer_id, given.books.wallet("top").members) == ("top", {1: 1})
    assert given.books.differences("m", {"status": "open"}, settled=False)


# -- gifts ----------------------------------------------------------------------------------------------------------


def gift_of_11_in_3_shares(*claimers: str) -> Given:
    given = Given(rules(registration=0))
    given.accept("create_gift", "gift:diwali", asset="INR", amount=11, claims=3)
    for name in claimers:
        given.open(name)
        given.accept("claim_gift", name, code="diwali")
    return given


def test_the_shares_of_a_gift_are_those_that_were_read_if_they_add_up() -> None:
    given = gift_of_11_in_3_shares("a", "b", "c", "d")
    money, gift = given.books.money, given.books.money.gifts["diwali"]
    for name, amount in (("d", 4), ("a", 3)):
        assert money.grants_read(given.books.wallet(name), [granted("~gift:1", "gift", amount, 90)]) == []
        assert money.shares_read("diwali") == []
    assert gift.under_way() == ["b", "c"]
    assert money.grants_read(given.books.wallet("c"), [granted("~gift:1", "gift", 4, 91)]) == []
    assert money.shares_read("diwali") == []
    assert gift.shares == {"a": 3, "b": 0, "c": 4, "d": 4}
    assert given.books.wallet("b").gifts == {"diwali": "refused"}
    assert given.window("d") == (8, 0)
    assert house.accounts(given.books)["house/gifts", "INR"] == -11
    assert given.well()


def test_shares_that_do_not_add_up_and_shares_of_no_size_are_found() -> None:
    given = gift_of_11_in_3_shares("a", "b", "c")
    money = given.books.money
    assert (
        "which no claim explains"
        in money.grants_read(given.books.wallet("a"), [granted("~gift:1", "gift", 5, 90)])[0]
    )
    for name, amount in (("a", 4), ("b", 3), ("c", 3)):
        assert money.grants_read(given.books.wallet(name), [granted("~gift:1", "gift", amount, 90)]) == []
    (found,) = money.shares_read("diwali")
    assert "[3, 3, 4], in the books [3, 4, 4]" in found


def test_a_claim_of_a_closed_gift_or_of_none_brings_nothing() -> None:
    given = gift_of_11_in_3_shares()
    given.accept("close_gift", "gift:diwali", reason="over")
    wallet = given.open("late")
    given.accept("claim_gift", "late", code="diwali")
    given.accept("claim_gift", "late", code="holi")
    assert wallet.gifts == {"diwali": "refused", "holi": "refused"}
    assert given.books.money.gifts["diwali"].under_way() == []


# -- reads and the accounts of the house ----------------------------------------------------------------------------


def test_each_difference_of_grants_referrals_and_gifts_is_named() -> None:
    given = gift_of_11_in_3_shares("a")
    given.open("m", referrer_id="a")
    wallet, gift = given.books.wallet("a"), given.books.money.gifts["diwali"]
    given.books.money.grants_read(wallet, [granted("~gift:1", "gift", 4, 90)])
    right = granted("~gift:1", "gift", 4, 90)
    assert expected_flows.grants(wallet, [right]) == []
    assert expected_flows.grants(wallet, []) == ["a: grants: ~gift:1 is missing"]
    assert expected_flows.grants(wallet, [granted("g", "grant", 1, 91), right]) == [
        "a: grants: g is not in the books"
    ]
    assert "remaining 3, in the books 4" in expected_flows.grants(wallet, [right | {"remaining": 3}])[0]
    levels = [{"level": level, "members": int(level == 1)} for level in range(1, 7)]
    tree: dict[str, Any] = {
        "user_id": "a",
        "referrer_id": None,
        "direct_count": 1,
        "levels": levels,
        "commissions": {},
    }
    assert expected_flows.referrals(wallet, tree) == []
    assert "direct_count 2" in expected_flows.referrals(wallet, tree | {"direct_count": 2})[0]
    assert "commissions" in expected_flows.referrals(wallet, tree | {"commissions": {"INR": 1}})[0]
    shown = {"code": "diwali", "asset": "INR", "amount": 11, "claims": 3, "claimed": 1, "status": "open"}
    assert expected_flows.gift(gift, shown | {"expires_at_us": None}) == []
    assert "claimed 2" in expected_flows.gift(gift, shown | {"expires_at_us": None, "claimed": 2})[0]


def test_statistics_may_lack_what_the_ledger_gives_by_itself_only_while_it_is_on_its_way() -> None:
    given = Given(rules(first_deposit=[]))
    top = given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(30_000, "m")
    given.played(1_000, "m")

    def found(bonuses: tuple[int, int], commissions: tuple[int, int], *, settled: bool) -> list[str]:
        nothing = {"count": 0, "amount": 0}
        row = {"asset": "INR", **dict.fromkeys(("bets", "wins", "staked", "paid_out", "net", "biggest_win"), 0)}
        row |= {"deposits": nothing, "withdrawals": nothing}
        row |= {"bonuses": {"count": bonuses[0], "amount": bonuses[1]}}
        row |= {"commissions": {"count": commissions[0], "amount": commissions[1]}}
        return expected_reads.statistics(top, {"games": [], "totals": [row]}, settled=settled)

    for bonuses in ((0, 0), (1, 2_500), (1, 5_500), (2, 8_000)):
        assert found(bonuses, (0, 0), settled=False) == []
    assert found((1, 2_500), (1, 6), settled=False) == []
    assert found((1, 2_501), (0, 0), settled=False)
    assert found((1, 2_500), (1, 7), settled=False)
    assert found((1, 2_500), (2, 6), settled=False), "one stake is at most one commission"
    given.books.settle(given.time_us)
    assert found((2, 8_000), (1, 6), settled=True) == []
    assert found((1, 2_500), (1, 6), settled=True)
    assert found((2, 8_000), (0, 0), settled=True)


def test_the_accounts_of_the_house_are_the_other_side_of_every_flow() -> None:
    given = Given(rules(valid_referral=None))
    given.open("top")
    given.open("m", referrer_id="top")
    given.deposit(100_000, "m")
    given.accept("settle_bet", "m", bet_id=given.bet(1_000, "m"), payout=400)
    given.books.settle(given.time_us)
    accounts = house.accounts(given.books)
    seen = {
        ("house/deposits", "INR"): -100_000,
        ("house/bonuses", "INR"): -2_500 * 2 - 6_000,
        ("house/stakes", "INR"): 1_000,
        ("house/payouts", "INR"): -400,
        ("house/commissions", "INR"): -6,
    }
    assert {account: amount for account, amount in accounts.items() if amount} == seen
    in_wallets = sum(wallet.total("INR") for wallet in given.books.wallets.values())
    assert sum(seen.values()) == -in_wallets
    assert house.differences(given.books, seen) == []
    assert house.differences(given.books, {**seen, ("house/payouts", "INR"): -401})
    assert house.differences(given.books, {**seen, ("house/gifts", "INR"): -1})
    assert house.result(given.books, "INR") == 1_000 - 400 - 11_000 - 6
