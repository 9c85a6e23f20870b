"""The reference model's gifts, codes, commissions and valid referrals against the contract, a sentence at a time.

The amounts are worked out by hand.
"""

from typing import Any

import pytest

from properties.naive_ledger import AMOUNT_MAX, DAY_US, Accepted, Fact, NaiveLedger, Refused

NOON = 20_000 * DAY_US + DAY_US // 2
MIDNIGHT = NOON + DAY_US // 2
SECOND_US = 1_000_000
RATES = [6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580]
COMMISSION = {"mode": "daily", "delay_s": 600, "rates_e9": RATES, "agents": {"1": [7_000_000, 2_450_000]}}
DUE = MIDNIGHT + 600 * SECOND_US


class Table:
    """A ledger at noon; command ids are counted up."""

    def __init__(self, **inr: Any) -> None:
        self.ledger = NaiveLedger(["INR", "GOLD"], {"INR": inr} if inr else {})
        self.now_us = NOON
        self.commands = 0

    def post(self, type_: str, user_id: str, **fields: Any) -> Accepted | Refused:
        self.commands += 1
        command = {"type": type_, "command_id": f"c{self.commands}", "user_id": user_id, **fields}
        answer = self.ledger.post(command, now_us=self.now_us)
        assert not isinstance(answer, Fact)
        return answer  # type: ignore[return-value]  # no command is repeated

    def ok(self, type_: str, user_id: str, **fields: Any) -> Fact:
        answer = self.post(type_, user_id, **fields)
        assert isinstance(answer, Accepted), answer
        if user_id.partition(":")[1] == "":
            self.know_positions(user_id)
        return answer.fact

    def code(self, type_: str, user_id: str, **fields: Any) -> str:
        answer = self.post(type_, user_id, **fields)
        assert isinstance(answer, Refused), answer
        return answer.code

    def know_positions(self, user_id: str) -> None:
        for index in range(len(self.ledger.facts[user_id])):
            self.ledger.position_of[f"{user_id}:{index}"] = (user_id, index)

    def row(self, *users: str) -> None:
        """Open wallets; each is referred by the one before."""
        for referrer_id, user_id in zip([None, *users], users, strict=False):
            self.ok("open_wallet", user_id, referrer_id=referrer_id)
        self.deliver_all()

    def deposit(self, user_id: str, amount: int) -> Fact:
        return self.ok("deposit", user_id, order_id=f"o{self.commands}", asset="INR", amount=amount)

    def play(self, user_id: str, stake: int) -> Fact:
        bet_id = f"b{self.commands}"
        game = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
        self.ok("place_bet", user_id, bet_id=bet_id, stake=stake, **game)
        return self.ok("settle_bet", user_id, bet_id=bet_id, payout=0)

    def gift(self, code: str, amount: int, claims: int, **fields: Any) -> Fact:
        return self.ok("create_gift", f"gift:{code}", asset="INR", amount=amount, claims=claims, **fields)

    def claim(self, user_id: str, code: str) -> tuple[str, Any]:
        """The type and the amount or the reason of what the claim ends with."""
        self.ok("claim_gift", user_id, code=code)
        self.deliver_all()
        last = self.ledger.facts[user_id][-1]
        return last.type, last.data.get("reason", last.data.get("amount"))

    def deliver_all(self) -> None:
        while self.ledger.pending:
            self.ledger.deliver(0, now_us=self.now_us)

    def close_days(self, at_us: int = DUE) -> list[Fact]:
        self.now_us = at_us
        due = self.ledger.fire_due(at_us)
        self.deliver_all()
        return due

    def paid(self) -> list[tuple[str, int, int, int]]:
        """(payee, level, amount, carried_e9), by level."""
        return sorted(
            (
                (fact.user_id, fact.data["level"], fact.data["amount"], fact.data["carried_e9"])
                for facts in self.ledger.facts.values()
                for fact in facts
                if fact.type == "commission_paid"
            ),
            key=lambda one: one[1],
        )

    def balance(self, user_id: str, bucket: str) -> int:
        wallet = self.ledger.wallet(user_id)
        assert wallet is not None
        amount: int = wallet["balances"].get("INR", {bucket: 0})[bucket]
        return amount

    def types(self, user_id: str) -> list[str]:
        return [fact.type for fact in self.ledger.facts[user_id]]


# ---- gifts


def test_the_remainder_of_a_gift_is_one_unit_each_to_the_first_shares() -> None:
    table = Table()
    for user_id in ("u1", "u2", "u3", "u4"):
        table.ok("open_wallet", user_id)
    table.gift("g", 101, 3)
    got = [table.claim(user_id, "g") for user_id in ("u1", "u2", "u3", "u4")]
    received = "gift_received"
    assert got == [(received, 34), (received, 34), (received, 33), ("gift_refused", "used_up")]
    assert table.ledger.totals()["house/gifts", "INR"] == -101
    assert [fact.data.get("share") for fact in table.ledger.facts["gift:g"]] == [None, 1, 2, 3, None]


def test_a_second_claim_is_already_claimed_also_while_the_first_is_under_way() -> None:
    table = Table()
    table.ok("open_wallet", "u1")
    table.gift("g", 10, 2)
    table.ok("claim_gift", "u1", code="g")
    assert table.code("claim_gift", "u1", code="g") == "already_claimed"
    assert table.code("close_wallet", "u1", reason="r") == "wallet_not_empty"
    table.deliver_all()
    assert table.code("claim_gift", "u1", code="g") == "already_claimed"


def test_a_refused_claim_may_be_repeated_but_a_share_without_room_counts_as_claimed() -> None:
    table = Table()
    table.ok("open_wallet", "u1")
    assert table.claim("u1", "g") == ("gift_refused", "not_found")
    table.gift("g", 10, 2)
    table.ok("set_limits", "u1", asset="INR", balance_max=4)
    assert table.claim("u1", "g") == ("gift_refused", "balance_max_exceeded")
    assert table.code("claim_gift", "u1", code="g") == "already_claimed"
    assert table.types("gift:g") == ["gift_share_refused", "gift_created", "gift_share_granted"]


def test_a_closed_and_an_expired_gift_refuse_and_say_why() -> None:
    table = Table()
    table.ok("open_wallet", "u1")
    assert table.code("close_gift", "gift:g", reason="r") == "not_eligible"
    table.gift("g", 10, 2, expires_at_us=NOON)
    assert table.claim("u1", "g") == ("gift_refused", "expired")
    table.ok("close_gift", "gift:g", reason="r")
    assert table.claim("u1", "g") == ("gift_refused", "closed")
    assert table.code("close_gift", "gift:g", reason="r") == "already_resolved"
    new = {"asset": "INR", "amount": 1, "claims": 1}
    assert table.code("create_gift", "gift:g", **new) == "already_resolved"
    assert table.code("create_gift", "gift:h", **{**new, "asset": "XXX"}) == "unknown_asset"
    assert table.code("create_gift", "gift:h", **{**new, "claims": 2}) == "amount_out_of_range"


def test_a_share_is_bonus_with_the_expiry_and_the_wagering_of_bonuses() -> None:
    table = Table(bonus_expires_after_s=60, wagering={"bonus": 3})
    table.ok("open_wallet", "u1")
    table.gift("g", 10, 1)
    table.claim("u1", "g")
    received = table.ledger.facts["u1"][-1]
    assert received.data == {
        "code": "g",
        "asset": "INR",
        "amount": 10,
        "grant_id": "~gift:1",
        "expires_at_us": NOON + 60 * SECOND_US,
        "wagering": 30,
    }
    assert received.postings == [("house/gifts", "INR", -10), ("wallet/u1/bonus", "INR", 10)]
    assert [fact.type for fact in table.ledger.fire_due(NOON + 60 * SECOND_US)] == ["bonus_expired"]


# ---- referral codes


def test_a_code_belongs_to_the_first_claim_and_a_wallet_has_one_code() -> None:
    table = Table()
    table.ok("open_wallet", "u1")
    table.ok("open_wallet", "u2")
    table.ok("claim_referral_code", "u1", code="k")
    assert table.code("claim_referral_code", "u1", code="l") == "already_claimed"
    table.ok("claim_referral_code", "u2", code="k")
    table.deliver_all()
    assert table.types("code:k") == ["referral_code_granted", "referral_code_refused"]
    assert table.types("u1")[-1] == "referral_code_granted"
    assert table.types("u2")[-1] == "referral_code_refused"
    table.ok("claim_referral_code", "u2", code="l")


def test_a_wallet_opened_with_a_code_gets_its_owner_as_referrer_and_is_counted() -> None:
    table = Table()
    table.row("top", "u1")
    table.ok("claim_referral_code", "u1", code="k")
    table.deliver_all()
    table.ok("open_wallet", "new", referral_code="k")
    table.deliver_all()
    assert table.types("new") == ["wallet_opened", "referrer_set"]
    wallet = table.ledger.wallet("new")
    assert wallet is not None
    assert wallet["referrer_id"] == "u1"
    assert [table.types(user_id).count("referral_counted") for user_id in ("top", "u1")] == [2, 1]


def test_a_code_without_another_owner_gives_no_referrer() -> None:
    table = Table()
    table.ok("open_wallet", "u1", referral_code="k")
    table.ok("claim_referral_code", "u1", code="k")
    table.ledger.deliver(1, now_us=NOON)  # the claim is first
    table.deliver_all()
    assert table.types("code:k") == ["referral_code_granted", "referral_unknown"]
    assert table.types("u1") == ["wallet_opened", "referral_code_claimed", "referral_code_granted"]


# ---- commissions


def test_a_day_pays_six_levels_and_carries_the_rest() -> None:
    table = Table(commission=COMMISSION)
    table.row(*(f"u{n}" for n in range(1, 9)))
    table.deposit("u8", 10_000)
    table.play("u8", 4_000)
    table.play("u8", 6_000)
    assert table.close_days(DUE - 1) == []
    (closed,) = table.close_days()
    assert (closed.type, closed.data) == ("commission_due", {"asset": "INR", "day": "2024-10-04", "stake": 10_000})
    assert table.paid() == [
        ("u7", 1, 60, 0),
        ("u6", 2, 18, 0),
        ("u5", 3, 5, 400_000_000),
        ("u4", 4, 1, 620_000_000),
        ("u3", 5, 0, 486_000_000),
        ("u2", 6, 0, 145_800_000),
    ]
    assert table.ledger.totals()["house/commissions", "INR"] == -84
    assert table.close_days(DUE + DAY_US) == [], "once a day"


def test_the_rest_is_added_to_the_next_commission() -> None:
    table = Table(commission={**COMMISSION, "mode": "per_bet", "rates_e9": [300_000_000]})
    table.row("u1", "u2")
    table.deposit("u2", 10)
    table.play("u2", 2)
    table.play("u2", 2)
    table.deliver_all()
    assert table.paid() == [("u1", 1, 0, 600_000_000), ("u1", 1, 1, 200_000_000)]
    assert table.types("u2")[-2:] == ["bet_settled", "commission_due"]


def test_a_closed_ancestor_gets_nothing_and_is_passed() -> None:
    table = Table(commission=COMMISSION)
    table.row("u1", "u2", "u3")
    table.ok("close_wallet", "u2", reason="r")
    table.deposit("u3", 10_000)
    table.play("u3", 10_000)
    table.close_days()
    assert table.paid() == [("u2", 1, 0, 0), ("u1", 2, 18, 0)]


def test_a_ring_ends_at_the_member_and_the_bets_of_a_wallet_without_referrer_earn_no_commission() -> None:
    table = Table(commission=COMMISSION)
    table.ok("open_wallet", "u1", referrer_id="u2")
    table.ok("open_wallet", "u2", referrer_id="u1")
    table.ok("open_wallet", "u3")
    table.deliver_all()
    for user_id in ("u1", "u3"):
        table.deposit(user_id, 10_000)
        table.play(user_id, 10_000)
    table.close_days()
    assert table.paid() == [("u2", 1, 60, 0)]


def test_an_agent_level_has_its_own_rates_and_a_level_without_rates_the_common_ones() -> None:
    table = Table(commission=COMMISSION)
    table.row("u1", "u2", "u3", "u4")
    table.ok("set_agent_level", "u3", level=1)
    table.ok("set_agent_level", "u2", level=2)
    table.ok("set_agent_level", "u1", level=1)
    table.deposit("u4", 10_000)
    table.play("u4", 10_000)
    table.close_days()
    assert table.paid() == [("u3", 1, 70, 0), ("u2", 2, 18, 0), ("u1", 3, 0, 0)]


def test_cancelled_and_open_bets_earn_nothing() -> None:
    table = Table(commission=COMMISSION)
    table.row("u1", "u2")
    table.deposit("u2", 10_000)
    game = {"game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": 10}
    table.ok("place_bet", "u2", bet_id="a", **game)
    table.ok("place_bet", "u2", bet_id="b", **game)
    table.ok("cancel_bet", "u2", bet_id="a")
    assert table.close_days() == []


def test_what_a_full_wallet_has_no_room_for_is_carried() -> None:
    table = Table(commission={"rates_e9": [10**9]})
    table.row("u1", "u2")
    table.ok("adjust", "u1", asset="INR", amount=AMOUNT_MAX - 3, reason="r")
    table.deposit("u2", 10)
    table.play("u2", 10)
    table.close_days(MIDNIGHT)
    assert table.paid() == [("u1", 1, 3, 7 * 10**9)]


# ---- reversals


def test_a_first_deposit_is_reversed_only_after_the_bonus_that_it_led_to() -> None:
    table = Table(first_deposit=[[10, 4]])
    table.row("u1")
    table.deposit("u1", 10)
    assert table.code("reverse", "u1", position="u1:1", reason="r") == "cannot_reverse"
    game = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
    table.ok("place_bet", "u1", bet_id="b", stake=4, spend="bonus_first", **game)
    assert table.code("reverse", "u1", position="u1:1", reason="r") == "cannot_reverse"
    table.ok("cancel_bet", "u1", bet_id="b")
    table.ok("reverse", "u1", position="u1:2", reason="r")
    table.ok("reverse", "u1", position="u1:1", reason="r")


# ---- valid referrals


def test_the_deposit_that_reaches_the_sum_makes_a_member_valid_once() -> None:
    table = Table(valid_referral=300, invitation=[[1, 55], [3, 155]])
    table.row("u1", "u2")
    first = table.deposit("u2", 299)
    table.ok("reverse", "u2", position=f"u2:{len(table.ledger.facts['u2']) - 1}", reason="r")
    again = table.deposit("u2", 299)
    assert "referral_rules" not in first.data | again.data
    assert table.deposit("u2", 1).data["referral_rules"] is True
    assert "referral_rules" not in table.deposit("u2", 300).data
    table.deliver_all()
    assert table.types("u1")[-2:] == ["referral_valid", "bonus_granted"]
    assert table.ledger.facts["u1"][-1].data == {
        "grant_id": "~invitation:1",
        "kind": "invitation",
        "asset": "INR",
        "amount": 55,
    }


def test_the_steps_of_invitations_pay_the_referrer() -> None:
    table = Table(valid_referral=10, invitation=[[1, 55], [3, 155]])
    table.ok("open_wallet", "u1")
    for number in range(4):
        table.ok("open_wallet", f"m{number}", referrer_id="u1")
        table.deposit(f"m{number}", 10)
        table.deliver_all()
    assert [fact.data["amount"] for fact in table.ledger.facts["u1"] if fact.type == "bonus_granted"] == [55, 155]
    assert table.balance("u1", "bonus") == 210


@pytest.mark.parametrize(("state", "reason"), [("never opened", "wallet_not_open"), ("closed", "wallet_closed")])
def test_a_referrer_that_cannot_have_referrals_counts_nothing(state: str, reason: str) -> None:
    table = Table(valid_referral=10, invitation=[[1, 55]])
    if state == "closed":
        table.ok("open_wallet", "u1")
        table.ok("close_wallet", "u1", reason="r")
    table.ok("open_wallet", "u2", referrer_id="u1")
    table.deposit("u2", 10)
    table.deliver_all()
    last = table.ledger.facts["u1"][-1]
    assert (last.type, last.data) == ("referral_valid", {"member": "u2", "asset": "INR", "reason": reason})
