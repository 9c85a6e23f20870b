"""The client's own books: what a wallet must hold, and what they say when a service answers otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from demo.books.books import EVENT_OF, Books
from demo.books.wallets import Answer, Command, bonus_of_stake

START_US = 1_795_435_200_000_000


class Told:
    """Books, and a service that accepts whatever it is told to accept."""

    def __init__(self, *user_ids: str) -> None:
        self.books = Books()
        self.seq = 0
        self.time_us = START_US
        for user_id in user_ids or ("u1",):
            self.accept("open_wallet", user_id)

    def accept(self, kind: str, user_id: str = "u1", taken: dict[str, Any] | None = None, **fields: Any) -> Command:
        self.seq += 1
        self.time_us += 1
        command: Command = {"type": kind, "command_id": f"c{self.seq}", "user_id": user_id, **fields}
        data = {} if taken is None else {"from": taken}
        self.books.sending(command)
        self.books.heard(command, Answer(201, False, self._body(command, data)))
        return command

    def refuse(self, code: str, kind: str, user_id: str = "u1", **fields: Any) -> None:
        command: Command = {"type": kind, "command_id": "refused", "user_id": user_id, **fields}
        self.books.sending(command)
        self.books.heard(command, Answer(422, False, {"code": code}))

    def deposit(self, amount: int, bonus: int | None = None, user_id: str = "u1") -> None:
        order_id = f"o{self.seq}"
        self.accept("deposit", user_id, order_id=order_id, asset="INR", amount=amount, bonus=bonus)

    def bet(self, bet_id: str, stake: int, **taken: Any) -> None:
        self.accept(
            "place_bet",
            taken=taken,
            bet_id=bet_id,
            game="external",
            period="p",
            selection="big",
            asset="INR",
            stake=stake,
        )

    def buckets(self, user_id: str = "u1") -> tuple[int, int, int]:
        wallet = self.books.wallet(user_id)
        return wallet.cash["INR"], wallet.bonus("INR"), wallet.held("INR")

    def _body(self, command: Command, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "position": f"0:{self.seq}",
            "partition": 0,
            "seq": self.seq,
            "time_us": self.time_us,
            "type": EVENT_OF[command["type"]],
            "data": data,
            "balances": {},
            "head": "",
        }


def seen(**changed: Any) -> dict[str, Any]:
    """A wallet as the service shows it, with 1000 of cash."""
    return {
        "user_id": "u1",
        "status": "open",
        "referrer_id": None,
        "balances": {"INR": {"cash": 1000, "bonus": 0, "held": 0, "available": 1000}},
        "limits": {},
        "first_deposit": {"order_id": "o1", "asset": "INR", "amount": 1000, "position": "0:2", "time_us": 1},
    } | changed


def test_a_deposit_gives_cash_and_its_bonus() -> None:
    told = Told()
    told.deposit(1000, bonus=50)
    assert told.buckets() == (1000, 50, 0)
    assert told.books.wallet("u1").first_deposit == ("o1", "INR", 1000)


def test_a_withdrawal_is_held_until_it_is_decided() -> None:
    told = Told()
    told.deposit(1000)
    told.accept("request_withdrawal", order_id="w1", asset="INR", amount=300)
    told.accept("request_withdrawal", order_id="w2", asset="INR", amount=200)
    assert told.buckets() == (500, 0, 500)
    told.accept("approve_withdrawal", order_id="w1")
    told.accept("reject_withdrawal", order_id="w2")
    assert told.buckets() == (700, 0, 0)


@pytest.mark.parametrize(
    ("stake", "cash", "bonus", "spend", "expected"),
    [
        (100, 100, 50, "cash_first", 0),
        (100, 70, 50, "cash_first", 30),
        (100, 20, 50, "cash_first", 50),
        (100, -20, 50, "cash_first", 50),
        (100, 100, 50, "bonus_first", 50),
        (30, 100, 50, "bonus_first", 30),
    ],
)
def test_a_stake_takes_the_buckets_in_the_order_asked_for(
    stake: int, cash: int, bonus: int, spend: str, expected: int
) -> None:
    assert bonus_of_stake(stake, cash, bonus, spend) == expected


def test_a_payout_goes_to_the_bonus_by_the_share_of_the_stake_rounded_down() -> None:
    told = Told()
    told.deposit(67)
    told.accept("grant_bonus", grant_id="g1", asset="INR", amount=33)
    told.bet("b1", 100, cash=67, bonus=33, grants=[["g1", 33]])
    told.accept("settle_bet", bet_id="b1", payout=199)
    assert told.buckets() == (199 - 65, 65, 0)
    assert told.books.surprises == []


def test_bonus_is_spent_by_soonest_expiry_then_oldest() -> None:
    told = Told()
    told.accept("grant_bonus", grant_id="for ever", asset="INR", amount=10)
    told.accept("grant_bonus", grant_id="late", asset="INR", amount=10, expires_at_us=START_US + 9_000)
    told.accept("grant_bonus", grant_id="soon", asset="INR", amount=10, expires_at_us=START_US + 8_000)
    told.bet("b1", 25, cash=0, bonus=25, grants=[["soon", 10], ["late", 10], ["for ever", 5]])
    assert told.books.surprises == []
    assert told.buckets() == (0, 5, 0)


def test_bonus_that_comes_back_after_its_end_is_lost_at_once() -> None:
    told = Told()
    told.accept("grant_bonus", grant_id="g1", asset="INR", amount=10, expires_at_us=START_US + 500)
    told.bet("b1", 10, cash=0, bonus=10, grants=[["g1", 10]])
    told.time_us += 1_000
    told.accept("cancel_bet", bet_id="b1")
    assert told.buckets() == (0, 0, 0)


def test_a_cancelled_bet_gives_back_to_the_buckets_it_took_from() -> None:
    told = Told()
    told.deposit(60)
    told.accept("grant_bonus", grant_id="g1", asset="INR", amount=50)
    told.bet("b1", 100, cash=60, bonus=40, grants=[["g1", 40]])
    told.accept("cancel_bet", bet_id="b1")
    assert told.buckets() == (60, 50, 0)


def test_a_hold_gives_its_money_back_when_its_time_comes() -> None:
    told = Told()
    told.deposit(100)
    told.accept("hold", hold_id="h1", asset="INR", amount=40, expires_at_us=START_US + 500)
    assert told.buckets() == (60, 0, 40)
    told.books.settle(START_US + 500)
    assert told.buckets() == (100, 0, 0)


def test_a_partial_capture_gives_the_rest_back() -> None:
    told = Told()
    told.deposit(100)
    told.accept("hold", hold_id="h1", asset="INR", amount=40)
    told.accept("capture_hold", hold_id="h1", amount=15)
    assert told.buckets() == (85, 0, 0)


def test_a_transfer_is_coming_until_the_books_settle() -> None:
    told = Told("u1", "u2")
    told.deposit(100)
    told.accept("transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    assert told.buckets("u2") == (0, 0, 0)
    assert told.books.wallet("u2").coming["INR"] == 30
    told.books.settle(told.time_us)
    assert (told.buckets("u1"), told.buckets("u2")) == ((70, 0, 0), (30, 0, 0))


def test_a_transfer_to_nobody_comes_back() -> None:
    told = Told()
    told.deposit(100)
    told.accept("transfer", transfer_id="t1", to_user_id="nobody", asset="INR", amount=30)
    told.books.settle(told.time_us)
    assert told.buckets() == (100, 0, 0)


def test_a_transfer_above_the_receivers_balance_max_comes_back() -> None:
    told = Told("u1", "u2")
    told.accept("set_limits", "u2", asset="INR", balance_max=0)
    told.deposit(100)
    told.accept("transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    told.books.settle(told.time_us)
    assert (told.buckets("u1"), told.buckets("u2")) == ((100, 0, 0), (0, 0, 0))


def test_a_refused_transfer_never_arrives() -> None:
    told = Told("u1", "u2")
    told.refuse("insufficient_funds", "transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    told.books.settle(told.time_us)
    assert told.buckets("u2") == (0, 0, 0)


def test_a_bet_may_use_money_that_was_coming() -> None:
    told = Told("u1", "u2")
    told.deposit(100, user_id="u2")
    told.accept("grant_bonus", grant_id="g1", asset="INR", amount=50)
    told.accept("transfer", "u2", transfer_id="t1", to_user_id="u1", asset="INR", amount=30)
    told.bet("b1", 50, cash=30, bonus=20, grants=[["g1", 20]])
    told.books.settle(told.time_us)
    assert told.books.surprises == []
    assert told.buckets() == (0, 30, 0)


def test_a_proposal_moves_money_only_when_approved() -> None:
    told = Told()
    told.accept("propose_adjustment", adjustment_id="a1", asset="INR", amount=70, reason="r")
    assert told.buckets() == (0, 0, 0)
    told.accept("approve_adjustment", adjustment_id="a1")
    assert told.buckets() == (70, 0, 0)


def test_a_reversed_deposit_takes_its_bonus_along() -> None:
    told = Told()
    told.deposit(100, bonus=20)
    told.accept("reverse", position=f"0:{told.seq}", reason="r")
    assert told.buckets() == (0, 0, 0)
    assert told.books.surprises == []


def test_null_puts_a_limit_back_to_its_default_and_absent_leaves_it() -> None:
    told = Told()
    told.accept("set_limits", asset="INR", credit_limit=500, balance_max=900)
    told.accept("set_limits", asset="INR", credit_limit=None)
    limit = told.books.wallet("u1").limit("INR")
    assert (limit.credit_limit, limit.balance_max) == (0, 900)


def test_two_answers_to_one_command_count_once() -> None:
    told = Told()
    told.deposit(100)
    body = dict(next(body for _, command_id, body in told.books.acknowledged() if command_id == "c2"))
    command = {
        "type": "deposit",
        "command_id": "c2",
        "user_id": "u1",
        "order_id": "o1",
        "asset": "INR",
        "amount": 100,
    }
    told.books.heard(command, Answer(200, True, body))
    assert told.buckets() == (100, 0, 0)
    assert told.books.surprises == []


def test_a_second_answer_that_differs_is_a_surprise() -> None:
    told = Told()
    told.deposit(100)
    command = {
        "type": "deposit",
        "command_id": "c2",
        "user_id": "u1",
        "order_id": "o1",
        "asset": "INR",
        "amount": 100,
    }
    told.books.heard(command, Answer(200, True, {"position": "0:99"}))
    assert "answered twice" in told.books.surprises[0]


def test_an_outcome_that_was_not_foreseen_is_a_surprise() -> None:
    told = Told()
    command = {"type": "deposit", "command_id": "x", "user_id": "u1", "order_id": "o", "asset": "INR", "amount": 1}
    told.books.heard(command, Answer(422, False, {"code": "wallet_frozen"}), frozenset({"accepted"}))
    assert told.books.surprises == ["u1: deposit x was answered wallet_frozen, not accepted"]


def test_a_bet_that_took_the_wrong_bucket_is_a_surprise() -> None:
    told = Told()
    told.deposit(100, bonus=50)
    told.bet("b1", 60, cash=10, bonus=50, grants=[["o1", 50]])
    assert "by the rules bonus 0 to 0 of 60" in told.books.surprises[0]


def test_an_overdrawn_wallet_is_a_surprise() -> None:
    told = Told()
    told.accept("hold", hold_id="h1", asset="INR", amount=40)
    assert "though cash was 0" in told.books.surprises[0]


def test_a_refusal_for_want_of_money_that_is_there_is_a_surprise() -> None:
    told = Told()
    told.deposit(100)
    told.refuse("insufficient_funds", "hold", hold_id="h1", asset="INR", amount=100)
    assert "though cash is 100" in told.books.surprises[0]


def test_something_taken_on_a_frozen_or_closed_wallet_is_a_surprise() -> None:
    told = Told("u1", "u2")
    told.accept("freeze_wallet", reason="r")
    told.accept("hold", hold_id="h1", asset="INR", amount=1)
    told.accept("close_wallet", "u2", reason="r")
    told.deposit(1, user_id="u2")
    assert any("the wallet is frozen" in line for line in told.books.surprises)
    assert any("the wallet is closed" in line for line in told.books.surprises)


def test_an_answer_about_something_unknown_is_a_surprise_and_no_crash() -> None:
    told = Told()
    told.accept("settle_bet", bet_id="b1", payout=10)
    assert "know no 'b1'" in told.books.surprises[0]


def test_a_wallet_that_agrees_has_no_differences() -> None:
    told = Told()
    told.deposit(1000)
    assert told.books.differences("u1", seen()) == []


def test_each_point_that_differs_is_named() -> None:
    told = Told()
    told.deposit(1000)
    wrong = seen(status="frozen", balances={"INR": {"cash": 999, "bonus": 0, "held": 1, "available": 1000}})
    assert told.books.differences("u1", wrong) == [
        "u1: status is frozen, in the books open",
        "u1: INR cash is 999, in the books 1000",
        "u1: INR held is 1, in the books 0",
    ]


def test_a_wallet_that_is_missing_or_should_be_is_named() -> None:
    told = Told()
    assert told.books.differences("u1", None) == ["u1: not found, in the books open"]
    assert told.books.differences("u2", seen()) == ["u2: found, in the books never opened"]
    assert told.books.differences("u2", None) == []
