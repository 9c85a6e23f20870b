"""The reference model against the contract: each test checks one sentence of the contract."""

from __future__ import annotations

from typing import Any

import pytest

from properties.naive_ledger import AMOUNT_MAX, DAY_US, Accepted, Duplicate, Fact, NaiveLedger, Refused

NOON = 20_000 * DAY_US + DAY_US // 2


class Table:
    """A ledger with wallet u1 open, at noon; command ids are counted up unless given."""

    def __init__(self) -> None:
        self.ledger = NaiveLedger(["INR", "GOLD"])
        self.now_us = NOON
        self.ok("open_wallet")

    def post(
        self, type_: str, *, user: str = "u1", actor: str = "local", **fields: Any
    ) -> Accepted | Duplicate | Refused:
        own = sum(len(facts) for facts in self.ledger.facts.values())
        command = {"type": type_, "command_id": f"c{own}", "user_id": user, **fields}
        return self.ledger.post(command, now_us=self.now_us, actor=actor)

    def ok(self, type_: str, **fields: Any) -> Fact:
        answer = self.post(type_, **fields)
        assert isinstance(answer, Accepted), answer
        return answer.fact

    def code(self, type_: str, **fields: Any) -> str:
        answer = self.post(type_, **fields)
        assert isinstance(answer, Refused), answer
        return answer.code

    def deposit(self, amount: int, bonus: int | None = None, order_id: str | None = None) -> Fact:
        order_id = order_id or f"o{len(self.ledger.facts['u1'])}"
        return self.ok("deposit", order_id=order_id, asset="INR", amount=amount, bonus=bonus)

    def bet(self, bet_id: str, stake: int, **fields: Any) -> Fact:
        return self.ok("place_bet", **bet(bet_id, stake, **fields))

    def buckets(self, user: str = "u1") -> tuple[int, int, int]:
        wallet = self.ledger.wallet(user)
        assert wallet is not None
        inr = wallet["balances"].get("INR", {"cash": 0, "bonus": 0, "held": 0})
        return inr["cash"], inr["bonus"], inr["held"]

    def types(self, user: str = "u1") -> list[str]:
        return [fact.type for fact in self.ledger.facts[user]]

    def deliver_all(self) -> list[str]:
        delivered = []
        while self.ledger.pending:
            fact = self.ledger.deliver(0, now_us=self.now_us)
            delivered.append(fact.type if fact else "nothing")
        return delivered


def bet(bet_id: str, stake: int, **fields: Any) -> dict[str, Any]:
    game = {"game": "external", "period": "p", "selection": "s"}
    return {**game, "bet_id": bet_id, "asset": "INR", "stake": stake, **fields}


@pytest.fixture
def table() -> Table:
    return Table()


# ---- facts, ids and time


def test_a_deposit_with_a_bonus_is_one_fact_of_four_postings(table: Table) -> None:
    fact = table.deposit(100, bonus=20, order_id="o")
    assert fact.data == {"order_id": "o", "asset": "INR", "amount": 100, "bonus": 20, "first_deposit": True}
    assert fact.postings == [
        ("house/deposits", "INR", -100),
        ("wallet/u1/cash", "INR", 100),
        ("house/bonuses", "INR", -20),
        ("wallet/u1/bonus", "INR", 20),
    ]
    assert fact.balances == {"INR": {"cash": 100, "bonus": 20, "held": 0}}
    assert table.deposit(1).data["first_deposit"] is False


def test_a_repeated_command_gets_its_first_response(table: Table) -> None:
    command = {"type": "deposit", "command_id": "x", "user_id": "u1", "order_id": "o", "asset": "INR"}
    first = table.ledger.post({**command, "amount": 5}, now_us=NOON)
    again = table.ledger.post({**command, "amount": 5, "bonus": None}, now_us=NOON + 9, actor="another")
    assert isinstance(first, Accepted)
    assert again == Duplicate(first.fact)
    reused = table.ledger.post({**command, "amount": 6, "metadata": {}}, now_us=NOON)
    assert reused == Refused("command_id_reused", differs=("amount", "metadata"))


def test_a_refused_command_leaves_its_id_free_and_writes_nothing(table: Table) -> None:
    command = {"type": "adjust", "command_id": "x", "user_id": "u1", "asset": "INR", "reason": "r"}
    assert table.ledger.post({**command, "amount": -1}, now_us=NOON) == Refused("insufficient_funds", 0)
    assert table.types() == ["wallet_opened"]
    assert isinstance(table.ledger.post({**command, "amount": 1}, now_us=NOON), Accepted)


def test_time_never_goes_back_in_a_wallet(table: Table) -> None:
    table.now_us = NOON - 1_000
    assert table.deposit(1).time_us == NOON


def test_orders_of_both_kinds_share_their_ids(table: Table) -> None:
    table.deposit(10, order_id="o")
    assert table.code("request_withdrawal", order_id="o", asset="INR", amount=1) == "order_id_reused"
    assert table.code("approve_withdrawal", order_id="o") == "order_not_found"


def test_a_deposits_bonus_is_a_grant_named_by_its_order(table: Table) -> None:
    table.deposit(10, bonus=5, order_id="g")
    assert table.code("grant_bonus", grant_id="g", asset="INR", amount=1) == "grant_id_reused"
    table.ok("grant_bonus", grant_id="h", asset="INR", amount=1)
    assert table.code("deposit", order_id="h", asset="INR", amount=1, bonus=1) == "grant_id_reused"
    table.deposit(1, order_id="h")


# ---- precedence and ranges


def test_the_wallets_state_is_the_first_thing_checked(table: Table) -> None:
    assert table.code("freeze_wallet", user="unopened", reason="r") == "wallet_not_open"
    assert table.code("open_wallet", referrer_id="u1") == "wallet_already_open"
    assert table.code("open_wallet", user="u2", referrer_id="u2") == "same_wallet"
    table.ok("close_wallet", reason="r")
    assert table.code("open_wallet") == "wallet_closed"
    assert table.code("deposit", order_id="o", asset="XXX", amount=0) == "wallet_closed"


def test_ids_come_before_assets_and_assets_before_amounts(table: Table) -> None:
    table.deposit(10, order_id="o")
    assert table.code("deposit", order_id="o", asset="XXX", amount=0) == "order_id_reused"
    assert table.code("deposit", order_id="p", asset="XXX", amount=0) == "unknown_asset"
    assert table.code("deposit", order_id="p", asset="INR", amount=0) == "amount_out_of_range"
    assert table.code("transfer", transfer_id="t", to_user_id="u1", asset="XXX", amount=0) == "same_wallet"
    assert table.code("place_bet", **bet("b", 0, asset="XXX", game="chess_1m")) == "unknown_game"


def test_ranges_come_before_limits_and_limits_before_funds(table: Table) -> None:
    table.ok("set_limits", asset="INR", balance_max=0, stake_max_per_day=5, withdrawal_max_per_day=5)
    assert table.code("deposit", order_id="o", asset="INR", amount=2**60) == "amount_out_of_range"
    assert table.code("deposit", order_id="o", asset="INR", amount=1) == "balance_max_exceeded"
    assert table.code("place_bet", **bet("b", 6)) == "stake_max_exceeded"
    assert table.code("place_bet", **bet("b", 5)) == "insufficient_funds"
    assert table.code("request_withdrawal", order_id="o", asset="INR", amount=6) == "withdrawal_max_exceeded"


def test_money_that_may_come_back_counts_towards_the_bound(table: Table) -> None:
    table.deposit(AMOUNT_MAX)
    table.ok("transfer", transfer_id="t", to_user_id="u2", asset="INR", amount=10)
    table.bet("b", 10)
    assert table.code("grant_bonus", grant_id="g", asset="INR", amount=1) == "amount_out_of_range"
    assert table.code("settle_bet", bet_id="b", payout=11) == "amount_out_of_range"
    table.ok("settle_bet", bet_id="b", payout=9)
    table.ok("grant_bonus", grant_id="g", asset="INR", amount=1)


# ---- bets and their buckets


def test_a_bet_takes_cash_then_bonus_then_credit(table: Table) -> None:
    table.deposit(10, bonus=5, order_id="o")
    table.ok("set_limits", asset="INR", credit_limit=3)
    assert table.post("place_bet", **bet("b", 19)) == Refused("credit_limit_exceeded", available=18)
    fact = table.bet("b", 17)
    assert fact.data["from"] == {"cash": 12, "bonus": 5, "grants": [["o", 5]]}
    assert table.buckets() == (-2, 0, 0)
    assert table.post("place_bet", **bet("c", 2)) == Refused("credit_limit_exceeded", available=1)


def test_bonus_first_takes_bonus_then_cash(table: Table) -> None:
    table.deposit(10, bonus=5)
    assert table.bet("b", 7, spend="bonus_first").balances["INR"] == {"cash": 8, "bonus": 0, "held": 0}


def test_bonus_is_taken_by_soonest_expiry_then_oldest(table: Table) -> None:
    table.deposit(1, bonus=1, order_id="never")
    for grant_id, expires_at_us in (("late", NOON + 9), ("soon", NOON + 5), ("soon too", NOON + 5)):
        table.ok("grant_bonus", grant_id=grant_id, asset="INR", amount=2, expires_at_us=expires_at_us)
    source = table.bet("b", 7, spend="bonus_first").data["from"]
    assert source["grants"] == [["soon", 2], ["soon too", 2], ["late", 2], ["never", 1]]


def test_a_payout_is_split_as_the_stake_was_rounded_down_for_bonus(table: Table) -> None:
    table.deposit(2, bonus=1)
    table.bet("b", 3)
    fact = table.ok("settle_bet", bet_id="b", payout=5)
    assert fact.postings == [
        ("house/payouts", "INR", -5),
        ("wallet/u1/cash", "INR", 4),
        ("wallet/u1/bonus", "INR", 1),
    ]


def test_a_payout_of_0_posts_nothing(table: Table) -> None:
    table.deposit(2)
    table.bet("b", 2)
    fact = table.ok("settle_bet", bet_id="b", payout=0)
    assert (fact.postings, fact.balances) == ([], {})
    assert table.code("settle_bet", bet_id="b", payout=0) == "already_resolved"
    assert table.code("cancel_bet", bet_id="b") == "already_resolved"


def test_a_cancelled_bet_gives_back_to_the_buckets_it_came_from(table: Table) -> None:
    table.deposit(10, bonus=5)
    table.bet("b", 12)
    assert table.ok("cancel_bet", bet_id="b").data["before_bet"] is False
    assert table.buckets() == (10, 5, 0)
    assert table.code("place_bet", **bet("b", 1)) == "bet_id_reused"


def test_a_bet_cancelled_before_it_arrived_is_always_refused(table: Table) -> None:
    fact = table.ok("cancel_bet", bet_id="b")
    assert (fact.data, fact.postings) == ({"bet_id": "b", "before_bet": True}, [])
    assert table.code("place_bet", **bet("b", 1)) == "bet_cancelled_before"
    assert table.code("cancel_bet", bet_id="b") == "already_resolved"
    assert table.code("settle_bet", bet_id="b", payout=1) == "already_resolved"
    assert table.code("settle_bet", bet_id="other", payout=1) == "bet_not_found"


def test_only_bets_use_credit(table: Table) -> None:
    table.ok("set_limits", asset="INR", credit_limit=100)
    transfer: dict[str, Any] = {"transfer_id": "t", "to_user_id": "u2", "asset": "INR", "amount": 1}
    assert table.post("transfer", **transfer) == Refused("insufficient_funds", available=0)
    assert table.code("hold", hold_id="h", asset="INR", amount=1) == "insufficient_funds"
    assert table.code("request_withdrawal", order_id="o", asset="INR", amount=1) == "insufficient_funds"
    assert table.code("adjust", asset="INR", amount=-1, reason="r") == "insufficient_funds"


def test_a_credit_limit_below_the_debt_leaves_no_credit(table: Table) -> None:
    table.ok("set_limits", asset="INR", credit_limit=10)
    table.bet("b", 10)
    table.ok("set_limits", asset="INR", credit_limit=1)
    table.ok("grant_bonus", grant_id="g", asset="INR", amount=5)
    assert table.post("place_bet", **bet("c", 6)) == Refused("credit_limit_exceeded", available=5)
    assert table.bet("c", 5).balances["INR"] == {"cash": -10, "bonus": 0, "held": 0}


# ---- limits


def test_stakes_count_by_the_utc_day_and_a_cancel_gives_back_to_that_day(table: Table) -> None:
    table.deposit(100)
    table.bet("b", 6)
    table.ok("set_limits", asset="INR", stake_max_per_day=10)
    assert table.code("place_bet", **bet("c", 5)) == "stake_max_exceeded"
    table.now_us = NOON + DAY_US // 2
    table.bet("c", 10)
    table.ok("cancel_bet", bet_id="b")
    assert table.code("place_bet", **bet("d", 1)) == "stake_max_exceeded"
    table.ok("cancel_bet", bet_id="c")
    table.bet("d", 10)


def test_a_rejected_withdrawal_gives_back_to_its_day_an_approved_one_does_not(table: Table) -> None:
    table.deposit(100)
    table.ok("set_limits", asset="INR", withdrawal_max_per_day=10)
    table.ok("request_withdrawal", order_id="a", asset="INR", amount=6)
    assert table.buckets() == (94, 0, 6)
    table.ok("approve_withdrawal", order_id="a")
    again = {"order_id": "b", "asset": "INR"}
    assert table.code("request_withdrawal", **again, amount=5) == "withdrawal_max_exceeded"
    table.ok("request_withdrawal", **again, amount=4)
    table.ok("reject_withdrawal", order_id="b")
    assert table.code("approve_withdrawal", order_id="b") == "already_resolved"
    table.ok("request_withdrawal", order_id="c", asset="INR", amount=4)


def test_balance_max_never_refuses_a_payout_or_a_return(table: Table) -> None:
    table.deposit(10)
    table.bet("a", 5)
    table.bet("b", 5)
    table.ok("set_limits", asset="INR", balance_max=1)
    table.ok("settle_bet", bet_id="a", payout=50)
    table.ok("cancel_bet", bet_id="b")
    assert table.code("adjust", asset="INR", amount=1, reason="r") == "balance_max_exceeded"
    table.ok("adjust", asset="INR", amount=-1, reason="r")


def test_an_absent_limit_is_unchanged_and_a_null_one_is_the_default(table: Table) -> None:
    table.ok("set_limits", asset="GOLD", credit_limit=7, balance_max=9)
    fact = table.ok("set_limits", asset="GOLD", credit_limit=None, metadata=None)
    assert fact.data == {"asset": "GOLD", "credit_limit": None}
    wallet = table.ledger.wallet("u1")
    assert wallet is not None
    assert wallet["limits"]["GOLD"] == {
        "credit_limit": 0,
        "balance_max": 9,
        "stake_max_per_day": None,
        "withdrawal_max_per_day": None,
    }
    assert wallet["balances"]["GOLD"] == {"cash": 0, "bonus": 0, "held": 0, "available": 0, "withdrawable": 0}
    assert table.code("set_limits", asset="GOLD", balance_max=-1) == "amount_out_of_range"


# ---- holds and grants


def test_a_part_captured_hold_gives_back_the_rest(table: Table) -> None:
    table.deposit(10)
    table.ok("hold", hold_id="h", asset="INR", amount=8)
    assert table.code("capture_hold", hold_id="h", amount=9) == "capture_exceeds_hold"
    assert table.code("capture_hold", hold_id="h", amount=0) == "amount_out_of_range"
    table.ok("capture_hold", hold_id="h", amount=3)
    assert table.buckets() == (7, 0, 0)
    assert table.code("release_hold", hold_id="h") == "already_resolved"
    assert table.code("hold", hold_id="h", asset="INR", amount=1) == "hold_id_reused"
    assert table.code("release_hold", hold_id="i") == "hold_not_found"


def test_a_due_hold_expires_before_the_command_even_if_that_is_refused(table: Table) -> None:
    table.deposit(10)
    table.ok("hold", hold_id="h", asset="INR", amount=8, expires_at_us=NOON + 5)
    table.now_us = NOON + 5
    assert table.code("capture_hold", hold_id="h") == "hold_expired"
    expired = table.ledger.facts["u1"][-1]
    assert (expired.type, expired.actor, expired.time_us) == ("hold_expired", "ledger", NOON + 5)
    assert expired.data == {"hold_id": "h", "asset": "INR", "amount": 8}
    assert expired.command_id.startswith("~")
    assert table.buckets() == (10, 0, 0)


def test_a_hold_that_expires_in_the_past_expires_at_once(table: Table) -> None:
    table.deposit(10)
    fact = table.ok("hold", hold_id="h", asset="INR", amount=8, expires_at_us=1)
    assert fact.balances["INR"]["held"] == 8
    assert table.types()[-2:] == ["hold_placed", "hold_expired"]


def test_due_expiries_fire_by_time_then_age(table: Table) -> None:
    table.deposit(10)
    table.ok("grant_bonus", grant_id="late", asset="INR", amount=2, expires_at_us=NOON + 9)
    table.ok("hold", hold_id="h", asset="INR", amount=8, expires_at_us=NOON + 5)
    table.ok("grant_bonus", grant_id="soon", asset="INR", amount=2, expires_at_us=NOON + 5)
    assert table.ledger.fire_due(NOON + 4) == []
    fired = table.ledger.fire_due(NOON + 10)
    assert [fact.data.get("grant_id", "a hold") for fact in fired] == ["a hold", "soon", "late"]


def test_bonus_that_comes_back_to_an_expired_grant_expires_at_once(table: Table) -> None:
    table.ok("grant_bonus", grant_id="g", asset="INR", amount=8, expires_at_us=NOON + 5)
    table.bet("b", 3)
    table.bet("c", 3)
    table.now_us = NOON + 6
    table.ok("cancel_bet", bet_id="b")
    table.ok("settle_bet", bet_id="c", payout=30)
    assert table.types()[-5:] == [
        "bonus_expired",
        "bet_cancelled",
        "bonus_expired",
        "bet_settled",
        "bonus_expired",
    ]
    expired = [fact.data["amount"] for fact in table.ledger.facts["u1"] if fact.type == "bonus_expired"]
    assert expired == [2, 3, 30]
    assert table.buckets() == (0, 0, 0)


# ---- adjustments and reversals


def test_an_adjustment_is_approved_by_another_actor(table: Table) -> None:
    table.ok("propose_adjustment", adjustment_id="a", asset="INR", amount=-5, reason="r", actor="ann")
    assert table.code("approve_adjustment", adjustment_id="a", actor="ann") == "same_actor"
    assert table.code("approve_adjustment", adjustment_id="a", actor="bob") == "insufficient_funds"
    table.deposit(5)
    table.ok("approve_adjustment", adjustment_id="a", actor="bob")
    assert table.buckets() == (0, 0, 0)
    assert table.code("reject_adjustment", adjustment_id="a", actor="bob") == "already_resolved"
    assert table.code("reject_adjustment", adjustment_id="b") == "adjustment_not_found"


def test_a_deposit_is_reversed_once_with_its_bonus(table: Table) -> None:
    table.deposit(10, bonus=5)
    table.ledger.position_of["3:2"] = ("u1", 1)
    fact = table.ok("reverse", position="3:2", reason="r")
    assert [amount for _, _, amount in fact.postings] == [10, -10, 5, -5]
    assert table.buckets() == (0, 0, 0)
    assert table.code("reverse", position="3:2", reason="r") == "already_resolved"


def test_a_bonus_partly_spent_or_expired_cannot_be_reversed(table: Table) -> None:
    table.ok("grant_bonus", grant_id="g", asset="INR", amount=5, expires_at_us=NOON + 9)
    table.ledger.position_of["0:2"] = ("u1", 1)
    table.bet("b", 1)
    assert table.code("reverse", position="0:2", reason="r") == "cannot_reverse"
    table.ok("cancel_bet", bet_id="b")
    table.now_us = NOON + 9
    assert table.code("reverse", position="0:2", reason="r") == "cannot_reverse"


def test_only_known_events_of_this_wallet_and_of_three_types_can_be_reversed(table: Table) -> None:
    table.ok("open_wallet", user="u2")
    table.ok("deposit", user="u2", order_id="o", asset="INR", amount=5)
    table.ledger.position_of.update({"0:1": ("u1", 0), "0:2": ("u2", 1)})
    for position in ("0:1", "0:2", "0:99"):
        assert table.code("reverse", position=position, reason="r") == "cannot_reverse"


def test_a_reversal_takes_cash_above_0_only_and_ignores_balance_max(table: Table) -> None:
    table.deposit(10)
    table.ok("adjust", asset="INR", amount=-4, reason="r")
    table.ledger.position_of.update({"0:2": ("u1", 1), "0:3": ("u1", 2)})
    table.ok("set_limits", asset="INR", balance_max=0)
    assert table.post("reverse", position="0:2", reason="r") == Refused("insufficient_funds", available=6)
    table.ok("reverse", position="0:3", reason="r")
    table.ok("reverse", position="0:2", reason="r")


# ---- frozen and closed


def test_a_frozen_wallet_refuses_new_risk_and_accepts_the_rest(table: Table) -> None:
    table.deposit(10)
    table.bet("b", 1)
    table.ok("request_withdrawal", order_id="w", asset="INR", amount=1)
    table.ok("hold", hold_id="h", asset="INR", amount=1)
    assert table.code("unfreeze_wallet", reason="r") == "already_resolved"
    table.ok("freeze_wallet", reason="r")
    for type_ in (
        "place_bet",
        "hold",
        "capture_hold",
        "request_withdrawal",
        "approve_withdrawal",
        "transfer",
    ):
        assert table.code(type_, order_id="w") == "wallet_frozen"
    assert table.code("freeze_wallet", reason="r") == "wallet_frozen"
    table.ok("settle_bet", bet_id="b", payout=2)
    table.ok("reject_withdrawal", order_id="w")
    table.ok("release_hold", hold_id="h")
    table.deposit(1)
    table.ok("unfreeze_wallet", reason="r")


def test_closing_needs_empty_buckets_and_nothing_open(table: Table) -> None:
    table.deposit(10)
    assert table.code("close_wallet", reason="r") == "wallet_not_empty"
    table.bet("b", 4)
    table.ok("transfer", transfer_id="t", to_user_id="u2", asset="INR", amount=6)
    table.ok("propose_adjustment", adjustment_id="a", asset="INR", amount=1, reason="r")
    assert table.code("close_wallet", reason="r") == "wallet_not_empty"
    table.ok("settle_bet", bet_id="b", payout=0)
    assert table.code("close_wallet", reason="r") == "wallet_not_empty"
    table.ok("reject_adjustment", adjustment_id="a")
    assert table.code("close_wallet", reason="r") == "wallet_not_empty"
    table.ok("open_wallet", user="u2")
    table.deliver_all()
    table.ok("close_wallet", reason="r")


# ---- follow-ups


def test_a_transfer_is_received_and_then_known_as_delivered(table: Table) -> None:
    table.deposit(10)
    table.ok("open_wallet", user="u2")
    table.ok("freeze_wallet", user="u2", reason="r")
    table.ok("transfer", transfer_id="t", to_user_id="u2", asset="INR", amount=6)
    assert table.ledger.totals()["transit/transfers", "INR"] == 6
    assert table.deliver_all() == ["transfer_received", "transfer_delivered"]
    assert (table.buckets("u1"), table.buckets("u2")) == ((4, 0, 0), (6, 0, 0))
    assert table.ledger.totals()["transit/transfers", "INR"] == 0
    assert table.ledger.facts["u2"][-1].data == {"transfer_id": "t", "asset": "INR", "amount": 6}


@pytest.mark.parametrize("reason", ["wallet_not_open", "wallet_closed", "balance_max_exceeded"])
def test_a_refused_transfer_is_returned_even_to_a_frozen_wallet(table: Table, reason: str) -> None:
    table.deposit(10)
    if reason != "wallet_not_open":
        table.ok("open_wallet", user="u2")
        table.ok("set_limits", user="u2", asset="INR", balance_max=0)
    if reason == "wallet_closed":
        table.ok("close_wallet", user="u2", reason="r")
    table.ok("transfer", transfer_id="t", to_user_id="u2", asset="INR", amount=6)
    table.ok("freeze_wallet", reason="r")
    assert table.deliver_all() == ["transfer_refused", "transfer_returned"]
    refused, returned = table.ledger.facts["u2"][-1], table.ledger.facts["u1"][-1]
    assert refused.data == returned.data == {"transfer_id": "t", "asset": "INR", "amount": 6, "reason": reason}
    assert (refused.postings, table.buckets()) == ([], (10, 0, 0))


def test_a_follow_up_delivered_twice_takes_effect_once(table: Table) -> None:
    table.deposit(10)
    table.ok("open_wallet", user="u2")
    table.ok("transfer", transfer_id="t", to_user_id="u2", asset="INR", amount=6)
    arrival = table.ledger.pending[0]
    table.deliver_all()
    table.ledger.pending.append(arrival)
    assert table.deliver_all() == ["nothing"]
    assert table.buckets("u2") == (6, 0, 0)


def test_a_referral_walk_counts_six_levels(table: Table) -> None:
    for n in range(2, 9):
        table.ok("open_wallet", user=f"u{n}", referrer_id=f"u{n - 1}")
        delivered = table.deliver_all()
    assert delivered == ["referral_counted"] * 6
    assert table.ledger.facts["u2"][-1].data == {"member": "u8", "level": 6}
    assert table.ledger.facts["u1"][-1].data == {"member": "u7", "level": 6}


def test_a_referral_walk_ends_at_the_member_or_at_a_void_one(table: Table) -> None:
    table.ok("open_wallet", user="a", referrer_id="b")
    assert table.deliver_all() == ["referral_void"]
    assert table.ledger.wallet("b") is None
    table.ok("open_wallet", user="b", referrer_id="a")
    assert table.deliver_all() == ["referral_counted"]
    table.ok("close_wallet", user="a", reason="r")
    table.ok("open_wallet", user="c", referrer_id="a")
    assert table.deliver_all() == ["referral_void"]
    assert table.types("b") == ["referral_void", "wallet_opened"]


# ---- reads


def test_a_wallet_reads_as_the_contract_says(table: Table) -> None:
    table.deposit(10, bonus=2, order_id="o")
    table.ledger.position_of["3:2"] = ("u1", 1)
    table.ok("set_limits", asset="INR", credit_limit=5)
    assert table.ledger.wallet("u2") is None
    assert table.ledger.wallet("u1") == {
        "user_id": "u1",
        "status": "open",
        "opened_at_us": NOON,
        "referrer_id": None,
        "balances": {"INR": {"cash": 10, "bonus": 2, "held": 0, "available": 17, "withdrawable": 10}},
        "limits": {
            "INR": {
                "credit_limit": 5,
                "balance_max": None,
                "stake_max_per_day": None,
                "withdrawal_max_per_day": None,
            }
        },
        "first_deposit": {
            "order_id": "o",
            "asset": "INR",
            "amount": 10,
            "position": "3:2",
            "time_us": NOON,
        },
    }
