"""The reference model of the reads, compared with documents that were worked out by hand."""

import json
from hashlib import sha256
from typing import Any, Final

import pytest

from properties.naive_reads import (
    LIMITS,
    Doc,
    NaiveReads,
    NotFound,
    Page,
    assert_walked,
    every_queue,
    every_read,
    target_of,
)

NOTHING: Final = {"cash": 0, "bonus": 0, "held": 0}
NEVER: Final = NotFound("wallet_not_found")
NO_BETS: Final = {"bets": 0, "wins": 0, "staked": 0, "paid_out": 0, "net": 0, "biggest_win": 0}
NONE: Final = {"count": 0, "amount": 0}


class Told:
    """A list of events: the n-th has the time n × 10 µs, and is in partition 0 by default."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(
        self, user_id: str, type_: str, change: dict[str, int] | None = None, *, partition: int = 0, **data: Any
    ) -> str:
        """Its position. ``change`` is what it moves in the buckets, of the asset of its data or else INR; the house
        has the other side."""
        seq = 1 + sum(event["partition"] == partition for event in self.events)
        asset = data.get("asset", "INR")
        moved = [[f"wallet/{user_id}/{bucket}", asset, amount] for bucket, amount in (change or {}).items()]
        rest = -sum(posting[2] for posting in moved)
        self.events.append(
            {
                "partition": partition,
                "seq": seq,
                "time_us": 10 * (len(self.events) + 1),
                "user_id": user_id,
                "command_id": f"c{len(self.events) + 1}",
                "type": type_,
                "data": {"from" if name == "from_" else name: value for name, value in data.items()},
                "postings": moved + ([["house/any", asset, rest]] if rest else []),
            }
        )
        return f"{partition}:{seq}"

    def open(self, user_id: str = "u1", **data: Any) -> "Told":
        self.add(user_id, "wallet_opened", **data)
        return self

    def deposit(self, amount: int, order_id: str = "o1", user_id: str = "u1", **data: Any) -> str:
        change = {"cash": amount} | ({"bonus": data["bonus"]} if data.get("bonus") else {})
        order: Doc = {"order_id": order_id, "asset": "INR", "amount": amount, **data}
        return self.add(user_id, "deposited", change, **order)

    def bet(self, stake: int, bet_id: str = "b1", user_id: str = "u1", **data: Any) -> str:
        told = {"game": "external", "period": "p1", "selection": "red", "asset": "INR"} | data
        return self.add(user_id, "bet_placed", {"cash": -stake}, bet_id=bet_id, stake=stake, **told)

    def settle(self, payout: int, bet_id: str = "b1", user_id: str = "u1", **data: Any) -> str:
        change = {"cash": payout} if payout else {}
        return self.add(user_id, "bet_settled", change, bet_id=bet_id, payout=payout, **data)

    def cancel(self, stake: int, bet_id: str = "b1", *, before_bet: bool = False) -> str:
        change = {} if before_bet else {"cash": stake}
        return self.add("u1", "bet_cancelled", change, bet_id=bet_id, before_bet=before_bet)

    def hold(self, amount: int, hold_id: str = "h1", **data: Any) -> str:
        change = {"cash": -amount, "held": amount}
        return self.add("u1", "hold_placed", change, hold_id=hold_id, asset="INR", amount=amount, **data)

    @property
    def reads(self) -> NaiveReads:
        return NaiveReads(self.events)


@pytest.fixture
def told() -> Told:
    return Told().open()


def items(answer: Doc | NotFound) -> list[Doc]:
    assert not isinstance(answer, NotFound)
    found: list[Doc] = answer["items"]
    return found


def each(answer: Doc | NotFound, name: str) -> list[Any]:
    return [item[name] for item in items(answer)]


def document(answer: Doc | NotFound) -> Doc:
    assert not isinstance(answer, NotFound)
    return answer


# --- which records are events --------------------------------------------------------------------------------------


def record(seq: int, prev: bytes | None, command_id: str, partition: int = 0) -> bytes:
    head = "0" * 64 if prev is None else sha256(prev).hexdigest()
    told = {"partition": partition, "seq": seq, "prev": head, "time_us": 5, "user_id": "u1", "command_id": command_id}
    return json.dumps({**told, "type": "wallet_opened", "data": {}, "postings": []}).encode()


def test_a_record_that_does_not_continue_the_last_event_is_a_fork() -> None:
    six, other_six = record(1, None, "6"), record(1, None, "6'")
    other_seven, seven = record(2, other_six, "7'"), record(2, six, "7")
    events = NaiveReads([six, other_six, other_seven, record(1, None, "a", 1), seven]).events
    assert [event["command_id"] for event in events] == ["6", "a", "7"]


def test_a_cut_leaves_out_what_came_later_in_its_partition_and_keeps_the_others_whole() -> None:
    told = Told().open("u1").open("u2")
    told.add("u3", "wallet_opened", partition=1)
    told.add("u3", "wallet_frozen", partition=1, reason="r")
    reads = told.reads.at({0: 1})
    assert reads.wallet("u2") == NEVER
    assert document(reads.wallet("u3"))["status"] == "frozen"
    assert document(told.reads.at({0: 2, 1: 1}).wallet("u3"))["status"] == "open"
    assert told.reads.at({0: 0, 1: 0}).users() == []


# --- the wallet ----------------------------------------------------------------------------------------------------


def test_a_wallet_that_was_only_opened(told: Told) -> None:
    assert told.reads.wallet("u1") == {
        "user_id": "u1",
        "status": "open",
        "opened_at_us": 10,
        "referrer_id": None,
        "balances": {},
        "limits": {},
        "first_deposit": None,
    }


def test_a_wallet_has_its_balances_what_it_may_spend_and_its_first_deposit() -> None:
    told = Told().open(referrer_id="u9")
    told.deposit(100, "o1", bonus=7)
    told.deposit(50, "o2", asset="GOLD")
    told.hold(30)
    told.add("u1", "limits_set", asset="INR", credit_limit=40, balance_max=500)
    assert told.reads.wallet("u1") == {
        "user_id": "u1",
        "status": "open",
        "opened_at_us": 10,
        "referrer_id": "u9",
        "balances": {
            "GOLD": {"cash": 50, "bonus": 0, "held": 0, "available": 50, "withdrawable": 50},
            "INR": {"cash": 70, "bonus": 7, "held": 30, "available": 117, "withdrawable": 70},
        },
        "limits": {"GOLD": LIMITS, "INR": {**LIMITS, "credit_limit": 40, "balance_max": 500}},
        "first_deposit": {"order_id": "o1", "asset": "INR", "amount": 100, "position": "0:2", "time_us": 20},
    }


def test_a_debt_beyond_a_lowered_credit_limit_leaves_the_bonus_to_bets_and_nothing_to_withdrawals() -> None:
    told = Told().open()
    told.deposit(10, "o1", bonus=7)
    told.add("u1", "limits_set", asset="INR", credit_limit=40)
    told.add("u1", "adjusted", change={"cash": -30}, asset="INR", amount=-30, reason="r")
    assert document(told.reads.wallet("u1"))["balances"]["INR"] | {"held": 0} == {
        "cash": -20, "bonus": 7, "held": 0, "available": 27, "withdrawable": 0,
    }  # fmt: skip
    told.add("u1", "limits_set", asset="INR", credit_limit=5)
    balance = document(told.reads.wallet("u1"))["balances"]["INR"]
    assert (balance["available"], balance["withdrawable"]) == (7, 0)


def test_a_limit_of_null_is_the_default_again_and_one_that_is_not_named_stays(told: Told) -> None:
    told.add("u1", "limits_set", asset="INR", credit_limit=40, stake_max_per_day=0)
    told.add("u1", "limits_set", asset="INR", credit_limit=None, withdrawal_max_per_day=9)
    limits = {"credit_limit": 0, "balance_max": None, "stake_max_per_day": 0, "withdrawal_max_per_day": 9}
    wallet = document(told.reads.wallet("u1"))
    assert wallet["limits"] == {"INR": limits}
    assert wallet["balances"] == {"INR": {**NOTHING, "available": 0, "withdrawable": 0}}


def test_limits_that_set_nothing_make_their_asset_appear(told: Told) -> None:
    told.add("u1", "limits_set", asset="GOLD")
    assert document(told.reads.wallet("u1"))["limits"] == {"GOLD": LIMITS}


@pytest.mark.parametrize(
    ("types", "status"),
    [
        ([], "open"),
        (["wallet_frozen"], "frozen"),
        (["wallet_frozen", "wallet_unfrozen"], "open"),
        (["wallet_frozen", "wallet_unfrozen", "wallet_frozen"], "frozen"),
        (["wallet_frozen", "wallet_closed"], "closed"),
    ],
)
def test_the_last_status_event_sets_the_status(told: Told, types: list[str], status: str) -> None:
    for type_ in types:
        told.add("u1", type_, reason="r")
    assert document(told.reads.wallet("u1"))["status"] == status


def test_a_wallet_without_its_opening_is_not_found_whatever_else_it_has() -> None:
    told = Told()
    told.add("u1", "transfer_refused", asset="INR", amount=5, reason="wallet_not_open", transfer_id="t", cause="0:9")
    told.add("u1", "referral_void", member="u2", level=1, cause="0:9")
    reads = told.reads
    for name, params, expected in [*every_read(reads, "u1"), *every_read(reads, "nobody")]:
        assert expected == NEVER, (name, params)
    told.open()
    assert document(told.reads.wallet("u1"))["opened_at_us"] == 30
    assert document(told.reads.referrals("u1"))["direct_count"] == 0


def test_the_first_deposit_stays_the_first_when_it_is_reversed(told: Told) -> None:
    position = told.deposit(100)
    told.add("u1", "reversed", {"cash": -100}, position=position, reason="charged back")
    told.deposit(50, "o2")
    assert document(told.reads.wallet("u1"))["first_deposit"]["order_id"] == "o1"


# --- the balance at a time -----------------------------------------------------------------------------------------


def test_the_balance_at_a_time_counts_what_happened_until_then(told: Told) -> None:
    told.deposit(100, bonus=5)
    told.hold(30)
    told.deposit(1, "o2", asset="GOLD")

    def at(at_us: int | None) -> Any:
        balance = document(told.reads.balance("u1", at_us=at_us))
        assert (balance["user_id"], balance["at_us"]) == ("u1", at_us)
        return balance["balances"]

    assert at(9) == at(10) == at(19) == {}
    assert at(20) == at(29) == {"INR": {"cash": 100, "bonus": 5, "held": 0}}
    assert at(30) == {"INR": {"cash": 70, "bonus": 5, "held": 30}}
    assert at(None) == at(40) == {"INR": {"cash": 70, "bonus": 5, "held": 30}, "GOLD": {**NOTHING, "cash": 1}}


def test_an_asset_appears_once_it_has_limits(told: Told) -> None:
    told.add("u1", "limits_set", asset="INR", balance_max=5)
    assert document(told.reads.balance("u1", at_us=19))["balances"] == {}
    assert document(told.reads.balance("u1", at_us=20))["balances"] == {"INR": NOTHING}


# --- the history ---------------------------------------------------------------------------------------------------


def test_the_history_has_an_item_for_each_event_that_moved_something(told: Told) -> None:
    told.deposit(100, bonus=5)
    told.add("u1", "limits_set", asset="INR", balance_max=500)
    told.hold(30)
    assert told.reads.history("u1") == {
        "items": [
            {
                "position": "0:4",
                "time_us": 40,
                "type": "hold_placed",
                "command_id": "c4",
                "asset": "INR",
                "game": None,
                "change": {"cash": -30, "bonus": 0, "held": 30},
                "balances": {"cash": 70, "bonus": 5, "held": 30},
                "data": {"hold_id": "h1", "asset": "INR", "amount": 30},
            },
            {
                "position": "0:2",
                "time_us": 20,
                "type": "deposited",
                "command_id": "c2",
                "asset": "INR",
                "game": None,
                "change": {"cash": 100, "bonus": 5, "held": 0},
                "balances": {"cash": 100, "bonus": 5, "held": 0},
                "data": {"order_id": "o1", "asset": "INR", "amount": 100, "bonus": 5},
            },
        ]
    }


def test_an_event_that_moves_two_assets_has_two_items_by_asset(told: Told) -> None:
    told.deposit(1)
    told.events[-1]["postings"] += [["wallet/u1/cash", "GOLD", 2], ["house/any", "GOLD", -2]]
    history = told.reads.history("u1")
    assert [(item["asset"], item["change"]["cash"], item["balances"]["cash"]) for item in items(history)] == [
        ("GOLD", 2, 2),
        ("INR", 1, 1),
    ]


def test_a_posting_to_another_wallet_or_house_is_not_in_the_history(told: Told) -> None:
    told.add("u1", "transfer_delivered", transfer_id="t", asset="INR", amount=5, cause="0:9")
    told.events[-1]["postings"] = [["wallet/u11/cash", "INR", 2], ["house/any", "INR", -2]]
    assert told.reads.history("u1") == {"items": []}


def test_the_game_is_that_of_the_bet_also_when_it_is_settled_and_cancelled(told: Told) -> None:
    told.deposit(100)
    told.bet(5, "b1", game="external")
    told.bet(6, "b2", game="chess")
    told.settle(9, "b1")
    told.cancel(6, "b2")
    told.open("u2")
    told.bet(1, "b1", "u2", game="another")
    assert each(told.reads.history("u1"), "game") == ["chess", "external", "chess", "external", None]
    assert each(told.reads.history("u1", game="external"), "type") == ["bet_settled", "bet_placed"]
    assert each(told.reads.history("u1", game="chess"), "type") == ["bet_cancelled", "bet_placed"]
    assert each(told.reads.history("u1", game="another"), "type") == []


def test_the_history_is_filtered_by_type_asset_and_time(told: Told) -> None:
    told.deposit(100, "o1")
    told.deposit(100, "o2", asset="GOLD")
    told.bet(5)
    told.deposit(100, "o3")

    def positions(**filters: Any) -> list[str]:
        return each(told.reads.history("u1", **filters), "position")

    assert positions() == ["0:5", "0:4", "0:3", "0:2"]
    assert positions(type="deposited") == ["0:5", "0:3", "0:2"]
    assert positions(asset="GOLD") == ["0:3"]
    assert positions(type="bet_placed", asset="GOLD") == []
    assert positions(type="wallet_opened") == []
    assert positions(from_us=30) == ["0:5", "0:4", "0:3"]
    assert positions(to_us=30) == ["0:2"]
    assert positions(from_us=30, to_us=50, asset="INR") == ["0:4"]
    assert positions(from_us=30, to_us=30) == []


# --- bets ----------------------------------------------------------------------------------------------------------


def test_an_open_bet(told: Told) -> None:
    told.bet(5)
    bet = {
        "bet_id": "b1",
        "game": "external",
        "period": "p1",
        "selection": "red",
        "asset": "INR",
        "stake": 5,
        "status": "open",
        "payout": None,
        "position": "0:2",
        "placed_at_us": 20,
        "settled_position": None,
        "settled_at_us": None,
        "unpaid": 0,
    }
    assert told.reads.bet("u1", "b1") == bet
    assert told.reads.bets("u1") == {"items": [bet]}


@pytest.mark.parametrize(("payout", "status"), [(8, "won"), (1, "won"), (0, "lost")])
def test_a_bet_is_won_with_a_payout_above_0_and_lost_without(told: Told, payout: int, status: str) -> None:
    told.bet(5)
    told.settle(payout)
    bet = document(told.reads.bet("u1", "b1"))
    assert (bet["status"], bet["payout"]) == (status, payout)
    assert (bet["settled_position"], bet["settled_at_us"]) == ("0:3", 30)


def test_what_the_legs_of_a_bet_pay_beyond_its_payout_is_unpaid(told: Told) -> None:
    told.bet(5)
    told.settle(7, legs=[["red", 3, 6], ["number:7", 2, 18]], unpaid=17)
    bet = document(told.reads.bet("u1", "b1"))
    assert (bet["status"], bet["payout"], bet["unpaid"]) == ("won", 7, 17)


def test_a_cancelled_bet_has_no_payout_and_was_settled_by_its_cancelling(told: Told) -> None:
    told.bet(5)
    told.cancel(5)
    bet = document(told.reads.bet("u1", "b1"))
    assert (bet["status"], bet["payout"]) == ("cancelled", None)
    assert (bet["settled_position"], bet["settled_at_us"]) == ("0:3", 30)


def test_a_bet_cancelled_before_it_came_is_not_a_bet(told: Told) -> None:
    told.cancel(5, "b1", before_bet=True)
    assert told.reads.bet("u1", "b1") == NotFound("bet_not_found")
    assert told.reads.bets("u1") == told.reads.history("u1") == {"items": []}


def test_bets_are_filtered_by_game_period_and_status_newest_first(told: Told) -> None:
    told.bet(1, "b1", period="p1")
    told.bet(2, "b2", period="p2")
    told.bet(3, "b3", period="p1", game="chess")
    told.bet(4, "b4", period="p1")
    told.settle(0, "b4")
    told.settle(9, "b1")

    def ids(**filters: Any) -> list[str]:
        return each(told.reads.bets("u1", **filters), "bet_id")

    assert ids() == ["b4", "b3", "b2", "b1"]
    assert ids(status="open") == ["b3", "b2"]
    assert ids(status="won") == ["b1"]
    assert ids(status="lost") == ["b4"]
    assert ids(status="cancelled") == []
    assert ids(game="external", period="p1") == ["b4", "b1"]
    assert ids(game="chess", period="p2") == []


def test_a_bet_of_another_wallet_is_not_found(told: Told) -> None:
    told.open("u2")
    told.bet(1, "b1", "u2")
    assert told.reads.bet("u1", "b1") == NotFound("bet_not_found")
    assert told.reads.bets("u1") == {"items": []}


# --- holds and transfers -------------------------------------------------------------------------------------------


def test_an_open_hold(told: Told) -> None:
    told.hold(30, expires_at_us=99)
    hold = {
        "hold_id": "h1",
        "asset": "INR",
        "amount": 30,
        "status": "open",
        "captured": None,
        "expires_at_us": 99,
        "position": "0:2",
        "created_at_us": 20,
        "resolved_at_us": None,
    }
    assert told.reads.hold("u1", "h1") == hold
    assert told.reads.holds("u1") == {"items": [hold]}


@pytest.mark.parametrize(
    ("type_", "data", "status", "captured"),
    [
        ("hold_captured", {"amount": 12}, "captured", 12),
        ("hold_captured", {}, "captured", 30),
        ("hold_released", {}, "released", None),
        ("hold_expired", {"asset": "INR", "amount": 30, "cause": "0:2"}, "expired", None),
    ],
)
def test_a_resolved_hold_has_its_status_and_the_captured_amount(
    told: Told, type_: str, data: Doc, status: str, captured: int | None
) -> None:
    told.hold(30)
    told.hold(40, "h2")
    told.add("u1", type_, hold_id="h1", **data)
    hold = document(told.reads.hold("u1", "h1"))
    assert (hold["status"], hold["captured"], hold["resolved_at_us"]) == (status, captured, 40)
    assert each(told.reads.holds("u1"), "status") == ["open", status]
    assert told.reads.hold("u1", "h3") == NotFound("hold_not_found")


def test_a_transfer_is_in_the_wallet_of_its_sender_only(told: Told) -> None:
    told.open("u2")
    told.add("u1", "transfer_sent", {"cash": -5}, transfer_id="t1", to_user_id="u2", asset="INR", amount=5)
    told.add("u2", "transfer_received", {"cash": 5}, transfer_id="t1", from_user_id="u1", asset="INR", amount=5)
    transfer = {
        "transfer_id": "t1",
        "to_user_id": "u2",
        "asset": "INR",
        "amount": 5,
        "status": "sent",
        "reason": None,
        "position": "0:3",
        "created_at_us": 30,
        "resolved_at_us": None,
    }
    assert told.reads.transfer("u1", "t1") == transfer
    assert told.reads.transfer("u2", "t1") == NotFound("transfer_not_found")
    told.add("u1", "transfer_delivered", transfer_id="t1", to_user_id="u2", asset="INR", amount=5)
    assert told.reads.transfer("u1", "t1") == {**transfer, "status": "delivered", "resolved_at_us": 50}


def test_a_returned_transfer_has_its_reason(told: Told) -> None:
    told.add("u1", "transfer_sent", {"cash": -5}, transfer_id="t1", to_user_id="u2", asset="INR", amount=5)
    told.add("u2", "transfer_refused", transfer_id="t1", asset="INR", amount=5, reason="wallet_closed")
    assert document(told.reads.transfer("u1", "t1"))["reason"] is None
    told.add("u1", "transfer_returned", {"cash": 5}, transfer_id="t1", asset="INR", amount=5, reason="wallet_closed")
    transfer = document(told.reads.transfer("u1", "t1"))
    assert (transfer["status"], transfer["reason"], transfer["resolved_at_us"]) == ("returned", "wallet_closed", 40)


# --- orders --------------------------------------------------------------------------------------------------------


def test_a_deposit_is_resolved_when_it_is_made(told: Told) -> None:
    told.deposit(100, bonus=7)
    order = {
        "user_id": "u1",
        "order_id": "o1",
        "kind": "deposit",
        "asset": "INR",
        "amount": 100,
        "bonus": 7,
        "status": "completed",
        "reason": None,
        "position": "0:2",
        "created_at_us": 20,
        "resolved_at_us": 20,
    }
    assert told.reads.order("u1", "o1") == order
    assert told.reads.orders() == {"items": [order]}


def test_a_reversed_deposit_has_the_time_and_the_reason_of_the_reversal(told: Told) -> None:
    position = told.deposit(100)
    told.add("u1", "reversed", {"cash": -100}, position=position, reason="charged back")
    order = document(told.reads.order("u1", "o1"))
    assert (order["status"], order["reason"], order["resolved_at_us"]) == ("reversed", "charged back", 30)
    assert order["bonus"] == 0


@pytest.mark.parametrize(
    ("type_", "data", "status", "reason"),
    [
        ("withdrawal_approved", {}, "approved", None),
        ("withdrawal_approved", {"reason": "fine"}, "approved", "fine"),
        ("withdrawal_rejected", {"reason": "the name differs"}, "rejected", "the name differs"),
    ],
)
def test_a_withdrawal_is_pending_until_it_is_approved_or_rejected(
    told: Told, type_: str, data: Doc, status: str, reason: str | None
) -> None:
    told.add("u1", "withdrawal_requested", {"cash": -5, "held": 5}, order_id="w1", asset="INR", amount=5)
    order = document(told.reads.order("u1", "w1"))
    assert order["kind"] == "withdrawal"
    assert (order["status"], order["reason"], order["resolved_at_us"], order["bonus"]) == ("pending", None, None, 0)
    told.add("u1", type_, order_id="w1", **data)
    order = document(told.reads.order("u1", "w1"))
    assert (order["status"], order["reason"], order["resolved_at_us"]) == (status, reason, 30)
    assert told.reads.order("u1", "w2") == NotFound("order_not_found")


def test_the_queue_has_the_orders_of_all_wallets_newest_first() -> None:
    told = Told().open("u1").open("u2")
    told.deposit(1, "a", "u1")
    told.deposit(2, "a", "u2", partition=1)
    told.add("u2", "withdrawal_requested", partition=1, order_id="w", asset="INR", amount=5)
    told.add("u1", "withdrawal_requested", order_id="w", asset="INR", amount=6)
    told.add("u1", "withdrawal_rejected", order_id="w")

    def of(**filters: Any) -> list[tuple[str, str]]:
        return [(order["user_id"], order["order_id"]) for order in items(told.reads.orders(**filters))]

    assert of() == [("u1", "w"), ("u2", "w"), ("u2", "a"), ("u1", "a")]
    assert of(kind="deposit") == [("u2", "a"), ("u1", "a")]
    assert of(kind="withdrawal", status="pending") == [("u2", "w")]
    assert of(status="rejected") == [("u1", "w")]
    assert of(kind="deposit", status="pending") == []


def test_orders_of_one_time_are_sorted_by_partition_then_by_seq() -> None:
    told = Told().open("u1").open("u2")
    told.deposit(1, "a", "u1", partition=10)
    told.deposit(1, "b", "u1", partition=10)
    told.deposit(1, "c", "u2", partition=9)
    for event in told.events:
        event["time_us"] = 7
    assert each(told.reads.orders(), "order_id") == ["b", "a", "c"]


# --- statistics ----------------------------------------------------------------------------------------------------


def test_a_wallet_that_did_nothing_has_no_statistics(told: Told) -> None:
    told.add("u1", "adjusted", {"cash": 5}, asset="INR", amount=5, reason="r")
    told.add("u1", "limits_set", asset="GOLD", balance_max=5)
    assert told.reads.stats("u1") == {"user_id": "u1", "games": [], "totals": []}


def test_open_bets_are_staked_and_only_settled_ones_are_in_the_net(told: Told) -> None:
    told.bet(10, "b1")
    told.settle(25, "b1")
    told.bet(7, "b2")
    told.settle(0, "b2")
    told.bet(4, "b3")
    told.bet(3, "b4", game="chess")
    told.bet(100, "b5", game="poker")
    told.cancel(100, "b5")
    external = {"bets": 3, "wins": 1, "staked": 21, "paid_out": 25, "net": 8, "biggest_win": 25}
    chess = {**NO_BETS, "bets": 1, "staked": 3}
    both = {"bets": 4, "wins": 1, "staked": 24, "paid_out": 25, "net": 8, "biggest_win": 25}
    assert told.reads.stats("u1") == {
        "user_id": "u1",
        "games": [
            {"asset": "INR", "game": "chess", **chess},
            {"asset": "INR", "game": "external", **external},
        ],
        "totals": [
            {"asset": "INR", **both, "deposits": NONE, "withdrawals": NONE, "bonuses": NONE, "commissions": NONE}
        ],
    }


def test_games_are_sorted_by_asset_and_game_and_totals_by_asset(told: Told) -> None:
    told.bet(1, "b1", game="a")
    told.bet(1, "b2", game="b", asset="GOLD")
    told.bet(1, "b3", game="a", asset="GOLD")
    told.settle(2, "b3")
    told.settle(3, "b2")
    stats = document(told.reads.stats("u1"))
    assert [(row["asset"], row["game"]) for row in stats["games"]] == [("GOLD", "a"), ("GOLD", "b"), ("INR", "a")]
    assert [(row["asset"], row["bets"], row["biggest_win"]) for row in stats["totals"]] == [
        ("GOLD", 2, 3),
        ("INR", 1, 0),
    ]


def test_deposits_count_without_their_bonus_and_bonuses_with_the_grants_that_expired(told: Told) -> None:
    told.deposit(100, "o1", bonus=7)
    told.deposit(50, "o2", bonus=0)
    told.add("u1", "bonus_granted", {"bonus": 20}, grant_id="g1", asset="INR", amount=20)
    told.add("u1", "bonus_expired", {"bonus": -20}, grant_id="g1", asset="INR", amount=20, cause="0:4")
    (row,) = document(told.reads.stats("u1"))["totals"]
    assert (row["deposits"], row["bonuses"]) == ({"count": 2, "amount": 150}, {"count": 2, "amount": 27})


def test_a_reversed_amount_counts_nowhere(told: Told) -> None:
    deposit = told.deposit(100, "o1", bonus=7)
    grant = told.add("u1", "bonus_granted", {"bonus": 20}, grant_id="g1", asset="INR", amount=20)
    told.deposit(3, "o2", bonus=1)
    told.add("u1", "reversed", {"cash": -100, "bonus": -7}, position=deposit, reason="r")
    told.add("u1", "reversed", {"bonus": -20}, position=grant, reason="r")
    (row,) = document(told.reads.stats("u1"))["totals"]
    assert (row["deposits"], row["bonuses"]) == ({"count": 1, "amount": 3}, {"count": 1, "amount": 1})
    assert document(told.reads.at({0: 5}).stats("u1"))["totals"][0]["bonuses"] == {"count": 2, "amount": 21}


def test_withdrawals_count_once_they_are_approved(told: Told) -> None:
    for number, end in enumerate(("approved", "rejected", None, "approved"), start=1):
        order: Doc = {"order_id": f"w{number}", "asset": "INR", "amount": number}
        told.add("u1", "withdrawal_requested", {"cash": -number, "held": number}, **order)
        if end is not None:
            told.add("u1", f"withdrawal_{end}", order_id=f"w{number}")
    (row,) = document(told.reads.stats("u1"))["totals"]
    assert row["withdrawals"] == {"count": 2, "amount": 5}


def test_a_row_with_only_zeros_is_left_out(told: Told) -> None:
    told.bet(5, "b1", asset="GOLD")
    told.cancel(5, "b1")
    reversed_deposit = told.deposit(5, "o1", asset="USDT")
    told.add("u1", "reversed", position=reversed_deposit, reason="r")
    told.deposit(5, "o2")
    stats = document(told.reads.stats("u1"))
    assert stats["games"] == []
    assert [row["asset"] for row in stats["totals"]] == ["INR"]


# --- referrals -----------------------------------------------------------------------------------------------------


def test_a_wallet_counts_its_members_by_level() -> None:
    told = Told().open(referrer_id="u9")
    for member, level in (("a", 1), ("b", 1), ("c", 2), ("d", 6)):
        told.add("u1", "referral_counted", member=member, level=level, cause="0:9")
    told.add("u1", "referral_void", member="e", level=1, cause="0:9")
    told.add("u2", "referral_counted", member="f", level=1, cause="0:9")
    assert told.reads.referrals("u1") == {
        "user_id": "u1",
        "referrer_id": "u9",
        "direct_count": 2,
        "levels": [{"level": level, "members": members} for level, members in enumerate((2, 1, 0, 0, 0, 1), start=1)],
        "commissions": {},
    }


def test_a_wallet_without_a_referrer_and_members_has_six_levels_of_0(told: Told) -> None:
    referrals = document(told.reads.referrals("u1"))
    assert (referrals["referrer_id"], referrals["direct_count"]) == (None, 0)
    assert referrals["levels"] == [{"level": level, "members": 0} for level in range(1, 7)]


# --- every read, and pages -----------------------------------------------------------------------------------------


def test_every_read_is_sent_with_each_filter_id_and_time(told: Told) -> None:
    told.deposit(100)
    told.bet(5)
    told.cancel(1, "b2", before_bet=True)
    asked = list(every_read(told.reads, "u1"))
    assert {name for name, _, _ in asked} == {
        "wallet", "stats", "referrals", "balance", "history", "bets", "bet", "holds", "hold", "transfer",
        "transfers", "grants", "order",
    }  # fmt: skip
    names = {key for name, params, _ in asked for key in params if name in ("history", "bets")}
    assert names == {"type", "asset", "game", "from_us", "to_us", "period", "status"}
    assert ("bet", {"bet_id": "b2"}, NotFound("bet_not_found")) in asked
    assert ("bet", {"bet_id": "b1"}, told.reads.bet("u1", "b1")) in asked
    assert {params["at_us"] for name, params, _ in asked if name == "balance" and params} == {
        at + step for at in (10, 20, 30, 40) for step in (-1, 0, 1)
    }
    assert [params for _, params, _ in every_queue(told.reads)][:2] == [{}, {"status": "completed"}]
    queues = [name for name, _, _ in every_queue(told.reads)]
    assert (queues.count("orders"), queues.count("adjustments")) == (6 + 3 + 4, 4)
    assert queues.count("wallets") > 5


@pytest.mark.parametrize(
    ("name", "params", "target"),
    [
        ("wallet", {}, "/v1/wallets/a%40b"),
        ("balance", {"at_us": 5}, "/v1/wallets/a%40b/balance?at_us=5"),
        ("history", {"type": "adjusted", "from_us": 1}, "/v1/wallets/a%40b/history?type=adjusted&from_us=1"),
        ("bets", {"period": "ä /&"}, "/v1/wallets/a%40b/bets?period=%C3%A4+%2F%26"),
        ("bet", {"bet_id": "x/%2F?"}, "/v1/wallets/a%40b/bets/x%2F%252F%3F"),
        ("hold", {"hold_id": "."}, "/v1/wallets/a%40b/holds/."),
        ("transfer", {"transfer_id": "t"}, "/v1/wallets/a%40b/transfers/t"),
        ("order", {"order_id": "o#1"}, "/v1/orders/a%40b/o%231"),
        ("orders", {"kind": "deposit"}, "/v1/orders?kind=deposit"),
        ("wallets", {"user_id": ["a", "b"]}, "/v1/wallets?user_id=a&user_id=b"),
    ],
)
def test_a_read_has_the_path_of_the_contract_with_its_ids_encoded(name: str, params: Doc, target: str) -> None:
    assert target_of(name, "a@b", params) == target


class TestAWalk:
    """Two open bets of three when it began; b2 was settled and b4 placed while it went on."""

    @pytest.fixture(autouse=True)
    def _bets(self, told: Told) -> None:
        told.bet(1, "b1")
        told.bet(2, "b2")
        told.bet(3, "b3")
        told.settle(0, "b1")
        self.before = told.reads
        told.settle(5, "b2")
        told.bet(4, "b4")
        self.reads = told.reads
        self.b2 = document(self.reads.bet("u1", "b2"))
        self.b3 = document(self.reads.bet("u1", "b3"))

    def walked(self, *pages: list[Doc]) -> None:
        cuts = ({0: 5}, {0: 7}, {0: 7})
        read = [Page(shown, as_of) for shown, as_of in zip(pages, cuts, strict=False)]
        assert_walked(read, self.reads, lambda at, **more: at.bets("u1", **more), status="open")

    def test_delivers_what_matched_at_first_as_it_is_by_then(self) -> None:
        assert self.b2["status"] == "won"
        self.walked([self.b3], [self.b2])
        self.walked([self.b3], [self.b2], [])

    def test_may_not_skip(self) -> None:
        with pytest.raises(AssertionError):
            self.walked([self.b3], [])

    def test_may_not_repeat(self) -> None:
        with pytest.raises(AssertionError):
            self.walked([self.b3], [self.b3, self.b2])

    def test_may_not_deliver_what_came_later_or_did_not_match(self) -> None:
        for more in ("b4", "b1"):
            with pytest.raises(AssertionError):
                self.walked([self.b3], [self.b2, document(self.reads.bet("u1", more))])

    def test_may_not_show_an_item_as_it_was_before(self) -> None:
        with pytest.raises(AssertionError):
            self.walked([self.b3], [document(self.before.bet("u1", "b2"))])

    def test_may_not_change_the_order(self) -> None:
        with pytest.raises(AssertionError):
            self.walked([document(self.before.bet("u1", "b2"))], [self.b3])
