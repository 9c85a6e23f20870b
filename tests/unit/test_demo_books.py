"""The client's own books: what a wallet must contain, and the surprises when a service responds differently."""

from __future__ import annotations

from typing import Any

import pytest

from demo.books.books import EVENT_OF, Books
from demo.books.wallets import Command, CommandResponse, Limits, bonus_of_stake

START_US = 1_795_435_200_000_000


class Given:
    """Books, and a service that accepts or refuses as the test says."""

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
        self.books.responded(command, CommandResponse(201, False, self._body(command, data)))
        return command

    def refuse(self, code: str, kind: str, user_id: str = "u1", **fields: Any) -> None:
        command: Command = {"type": kind, "command_id": "refused", "user_id": user_id, **fields}
        self.books.sending(command)
        self.books.responded(command, CommandResponse(422, False, {"code": code}))

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
        "balances": {"INR": {"cash": 1000, "bonus": 0, "held": 0, "available": 1000, "withdrawable": 1000}},
        "limits": {},
        "first_deposit": {"order_id": "o1", "asset": "INR", "amount": 1000, "position": "0:2", "time_us": 1},
    } | changed


def test_a_deposit_gives_cash_and_its_bonus() -> None:
    given = Given()
    given.deposit(1000, bonus=50)
    assert given.buckets() == (1000, 50, 0)
    assert given.books.wallet("u1").first_deposit == ("o1", "INR", 1000)


def test_a_withdrawal_is_held_until_it_is_decided() -> None:
    given = Given()
    given.deposit(1000)
    given.accept("request_withdrawal", order_id="w1", asset="INR", amount=300)
    given.accept("request_withdrawal", order_id="w2", asset="INR", amount=200)
    assert given.buckets() == (500, 0, 500)
    given.accept("approve_withdrawal", order_id="w1")
    given.accept("reject_withdrawal", order_id="w2")
    assert given.buckets() == (700, 0, 0)


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
def test_a_stake_takes_the_buckets_in_the_requested_order(
    stake: int, cash: int, bonus: int, spend: str, expected: int
) -> None:
    assert bonus_of_stake(stake, cash, bonus, spend) == expected


def test_a_payout_goes_to_the_bonus_by_the_share_of_the_stake_rounded_down() -> None:
    given = Given()
    given.deposit(67)
    given.accept("grant_bonus", grant_id="g1", asset="INR", amount=33)
    given.bet("b1", 100, cash=67, bonus=33, grants=[["g1", 33]])
    given.accept("settle_bet", bet_id="b1", payout=199)
    assert given.buckets() == (199 - 65, 65, 0)
    assert given.books.surprises == []


def test_bonus_is_spent_by_soonest_expiry_then_oldest() -> None:
    given = Given()
    given.accept("grant_bonus", grant_id="always", asset="INR", amount=10)
    given.accept("grant_bonus", grant_id="late", asset="INR", amount=10, expires_at_us=START_US + 9_000)
    given.accept("grant_bonus", grant_id="soon", asset="INR", amount=10, expires_at_us=START_US + 8_000)
    given.bet("b1", 25, cash=0, bonus=25, grants=[["soon", 10], ["late", 10], ["always", 5]])
    assert given.books.surprises == []
    assert given.buckets() == (0, 5, 0)


def test_bonus_that_returns_after_its_expiry_expires_at_once() -> None:
    given = Given()
    given.accept("grant_bonus", grant_id="g1", asset="INR", amount=10, expires_at_us=START_US + 500)
    given.bet("b1", 10, cash=0, bonus=10, grants=[["g1", 10]])
    given.time_us += 1_000
    given.accept("cancel_bet", bet_id="b1")
    given.books.settle(given.time_us)
    assert given.buckets() == (0, 0, 0)


def test_a_read_at_the_position_of_a_hold_that_began_expired_may_show_it_open_or_expired() -> None:
    """Its expiry is the next event: a read between the two is right."""
    given = Given()
    given.deposit(1000)
    given.accept("hold", hold_id="h1", asset="INR", amount=40, expires_at_us=START_US - 1)
    held = {"INR": {"cash": 960, "bonus": 0, "held": 40, "available": 960, "withdrawable": 960}}
    for document in (seen(), seen(balances=held)):
        assert given.books.differences("u1", document, settled=False) == []
    given.deposit(1)
    assert given.buckets() == (1001, 0, 0)


def test_a_cancelled_bet_returns_its_stake_to_the_buckets_that_paid_it() -> None:
    given = Given()
    given.deposit(60)
    given.accept("grant_bonus", grant_id="g1", asset="INR", amount=50)
    given.bet("b1", 100, cash=60, bonus=40, grants=[["g1", 40]])
    given.accept("cancel_bet", bet_id="b1")
    assert given.buckets() == (60, 50, 0)


def test_an_expired_hold_returns_its_money() -> None:
    given = Given()
    given.deposit(100)
    given.accept("hold", hold_id="h1", asset="INR", amount=40, expires_at_us=START_US + 500)
    assert given.buckets() == (60, 0, 40)
    given.books.settle(START_US + 500)
    assert given.buckets() == (100, 0, 0)


def test_a_partial_capture_returns_the_rest() -> None:
    given = Given()
    given.deposit(100)
    given.accept("hold", hold_id="h1", asset="INR", amount=40)
    given.accept("capture_hold", hold_id="h1", amount=15)
    assert given.buckets() == (85, 0, 0)


def test_a_transfer_is_coming_until_the_books_settle() -> None:
    given = Given("u1", "u2")
    given.deposit(100)
    given.accept("transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    assert given.buckets("u2") == (0, 0, 0)
    assert given.books.wallet("u2").coming["INR"] == 30
    given.books.settle(given.time_us)
    assert (given.buckets("u1"), given.buckets("u2")) == ((70, 0, 0), (30, 0, 0))


def test_a_transfer_to_an_unknown_user_returns() -> None:
    given = Given()
    given.deposit(100)
    given.accept("transfer", transfer_id="t1", to_user_id="stranger", asset="INR", amount=30)
    given.books.settle(given.time_us)
    assert given.buckets() == (100, 0, 0)


def test_a_transfer_above_the_receivers_balance_max_returns() -> None:
    given = Given("u1", "u2")
    given.accept("set_limits", "u2", asset="INR", balance_max=0)
    given.deposit(100)
    given.accept("transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    given.books.settle(given.time_us)
    assert (given.buckets("u1"), given.buckets("u2")) == ((100, 0, 0), (0, 0, 0))


def test_a_refused_transfer_never_arrives() -> None:
    given = Given("u1", "u2")
    given.refuse("insufficient_funds", "transfer", transfer_id="t1", to_user_id="u2", asset="INR", amount=30)
    given.books.settle(given.time_us)
    assert given.buckets("u2") == (0, 0, 0)


def test_a_bet_may_use_money_that_was_coming() -> None:
    given = Given("u1", "u2")
    given.deposit(100, user_id="u2")
    given.accept("grant_bonus", grant_id="g1", asset="INR", amount=50)
    given.accept("transfer", "u2", transfer_id="t1", to_user_id="u1", asset="INR", amount=30)
    given.bet("b1", 50, cash=30, bonus=20, grants=[["g1", 20]])
    given.books.settle(given.time_us)
    assert given.books.surprises == []
    assert given.buckets() == (0, 30, 0)


def test_a_proposal_moves_money_only_when_approved() -> None:
    given = Given()
    given.accept("propose_adjustment", adjustment_id="a1", asset="INR", amount=70, reason="r")
    assert given.buckets() == (0, 0, 0)
    given.accept("approve_adjustment", adjustment_id="a1")
    assert given.buckets() == (70, 0, 0)


def test_a_reversed_deposit_reverses_its_bonus() -> None:
    given = Given()
    given.deposit(100, bonus=20)
    given.accept("reverse", position=f"0:{given.seq}", reason="r")
    assert given.buckets() == (0, 0, 0)
    assert given.books.surprises == []


def test_null_resets_a_limit_and_an_absent_limit_stays() -> None:
    given = Given()
    given.accept("set_limits", asset="INR", credit_limit=500, balance_max=900)
    given.accept("set_limits", asset="INR", credit_limit=None)
    limit = given.books.wallet("u1").limit("INR")
    assert (limit.credit_limit, limit.balance_max) == (0, 900)


def test_two_responses_to_one_command_count_once() -> None:
    given = Given()
    given.deposit(100)
    body = dict(next(body for _, command_id, body in given.books.acknowledged() if command_id == "c2"))
    command = {
        "type": "deposit",
        "command_id": "c2",
        "user_id": "u1",
        "order_id": "o1",
        "asset": "INR",
        "amount": 100,
    }
    given.books.responded(command, CommandResponse(200, True, body))
    assert given.buckets() == (100, 0, 0)
    assert given.books.surprises == []


def test_a_second_response_that_differs_is_a_surprise() -> None:
    given = Given()
    given.deposit(100)
    command = {
        "type": "deposit",
        "command_id": "c2",
        "user_id": "u1",
        "order_id": "o1",
        "asset": "INR",
        "amount": 100,
    }
    given.books.responded(command, CommandResponse(200, True, {"position": "0:99"}))
    assert "two responses that differ" in given.books.surprises[0]


def test_an_outcome_that_does_not_fit_is_a_surprise() -> None:
    given = Given()
    command = {"type": "deposit", "command_id": "x", "user_id": "u1", "order_id": "o", "asset": "INR", "amount": 1}
    given.books.responded(command, CommandResponse(422, False, {"code": "wallet_frozen"}), frozenset({"accepted"}))
    assert given.books.surprises == ["u1: deposit x got the outcome wallet_frozen, not accepted"]


def test_a_bet_that_took_the_wrong_bucket_is_a_surprise() -> None:
    given = Given()
    given.deposit(100, bonus=50)
    given.bet("b1", 60, cash=10, bonus=50, grants=[["o1", 50]])
    assert "by the rules bonus 0 to 0 of 60" in given.books.surprises[0]


def test_an_overdrawn_wallet_is_a_surprise() -> None:
    given = Given()
    given.accept("hold", hold_id="h1", asset="INR", amount=40)
    assert "though cash was 0" in given.books.surprises[0]


def test_a_refusal_for_lack_of_money_is_a_surprise_if_the_money_is_sure() -> None:
    given = Given()
    given.deposit(100)
    given.refuse("insufficient_funds", "hold", hold_id="h1", asset="INR", amount=100)
    assert "though cash is 100" in given.books.surprises[0]


def test_an_accepted_command_on_a_frozen_or_closed_wallet_is_a_surprise() -> None:
    given = Given("u1", "u2")
    given.accept("freeze_wallet", reason="r")
    given.accept("hold", hold_id="h1", asset="INR", amount=1)
    given.accept("close_wallet", "u2", reason="r")
    given.deposit(1, user_id="u2")
    assert any("the wallet is frozen" in line for line in given.books.surprises)
    assert any("the wallet is closed" in line for line in given.books.surprises)


def test_a_response_about_an_unknown_item_is_a_surprise_and_no_crash() -> None:
    given = Given()
    given.accept("settle_bet", bet_id="b1", payout=10)
    assert "'b1' is not in the books" in given.books.surprises[0]


def test_a_wallet_that_agrees_has_no_differences() -> None:
    given = Given()
    given.deposit(1000)
    assert given.books.differences("u1", seen()) == []


def test_each_difference_is_named() -> None:
    given = Given()
    given.deposit(1000)
    wrong = seen(
        status="frozen",
        balances={"INR": {"cash": 999, "bonus": 0, "held": 1, "available": 1000, "withdrawable": 999}},
    )
    assert given.books.differences("u1", wrong) == [
        "u1: status is frozen, in the books open",
        "u1: INR cash is 999, in the books 1000",
        "u1: INR held is 1, in the books 0",
        "u1: INR withdrawable is 999, in the books 1000",
    ]


@pytest.mark.parametrize(
    ("cash", "credit_limit", "available", "withdrawable"), [(1000, 0, 1050, 1000), (-20, 30, 60, 0), (-20, 5, 50, 0)]
)
def test_bets_can_take_bonus_and_credit_and_withdrawals_only_cash_above_zero(
    cash: int, credit_limit: int, available: int, withdrawable: int
) -> None:
    given = Given()
    given.deposit(1000, bonus=50)
    given.books.wallet("u1").cash["INR"] = cash
    given.books.wallet("u1").limits["INR"] = Limits(credit_limit)
    limits = {"INR": {"credit_limit": credit_limit}}
    balance = {"cash": cash, "bonus": 50, "held": 0, "available": available, "withdrawable": withdrawable}
    assert given.books.differences("u1", seen(balances={"INR": balance}, limits=limits)) == []
    assert given.books.differences("u1", seen(balances={"INR": balance | {"available": 1}}, limits=limits)) == [
        f"u1: INR available is 1, in the books {available}"
    ]


def test_a_wallet_that_is_missing_or_should_be_missing_is_named() -> None:
    given = Given()
    assert given.books.differences("u1", None) == ["u1: not found, in the books open"]
    assert given.books.differences("u2", seen()) == ["u2: found, in the books never opened"]
    assert given.books.differences("u2", None) == []
