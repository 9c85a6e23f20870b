"""The oracle: the documents that the reads must return, given events."""

import json
from typing import Any

import msgspec
import pytest

from api.http.bodies import wallet_document
from ledger.core.bet_events import BetSettled
from ledger.core.commands import AnyCommand, Command
from ledger.core.events import Event
from ledger.core.items import Bet, Hold, Order, SentTransfer
from ledger.core.position import Position
from ledger.core.record import EMPTY_SHA256, encode, sha256_hex
from ledger.writer.requests import WalletRead
from projections.auditing.oracle import Document, Supply, UnknownRecord, WalletOracle, is_wallet
from properties.busy_days import Deliver, Step, Wait, busy_day
from properties.scenarios import USERS, Post
from unit.folders import scenario_records
from unit.given import (
    NOON,
    PARTITION,
    SECOND_US,
    Scene,
    adjust,
    approve_adjustment,
    approve_withdrawal,
    cancel_bet,
    capture_hold,
    close_wallet,
    deposit,
    emptied,
    freeze_wallet,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    reject_adjustment,
    reject_withdrawal,
    release_hold,
    request_withdrawal,
    reverse,
    set_limits,
    settle_bet,
    transfer,
    unfreeze_wallet,
)


def records_of(scene: Scene) -> list[bytes]:
    prev, records = EMPTY_SHA256, []
    for seq, event in enumerate(scene.events, 1):
        records.append(encode(event, Position(PARTITION, seq), prev))
        prev = sha256_hex(records[-1])
    return records


def oracle_of(scene: Scene, user_id: str = "u1") -> WalletOracle:
    return oracle_of_records(records_of(scene), user_id)


def oracle_of_records(records: list[bytes], user_id: str) -> WalletOracle:
    oracle = WalletOracle(user_id)
    for record in records:
        if json.loads(record)["user_id"] == user_id:
            oracle.apply(record)
    return oracle


def inr(cash: int, bonus: int = 0, held: int = 0) -> dict[str, int]:
    return {"cash": cash, "bonus": bonus, "held": held}


def item(scene: Scene, event: Event, user_id: str = "u1") -> Document:
    return oracle_of(scene, user_id).history[f"{scene.position(event)} INR"]


# --- wallet ---------------------------------------------------------------------------------------------------------


def test_a_new_wallet() -> None:
    scene = Scene().given(open_wallet(referrer_id="u9"))
    assert oracle_of(scene).wallet() == {
        "user_id": "u1",
        "status": "open",
        "opened_at_us": NOON,
        "referrer_id": "u9",
        "balances": {},
        "limits": {},
        "first_deposit": None,
    }


def test_a_wallet_that_was_never_opened_has_no_documents() -> None:
    scene = Scene.with_cash(100)
    scene.given(transfer(40, "u2"))
    scene.deliver_all()
    assert scene.types_of("u2") == ["transfer_refused"]
    assert not oracle_of(scene, "u2").is_open


def test_the_first_deposit_stays_after_its_reversal() -> None:
    scene = Scene().given(open_wallet())
    first = scene.when(deposit(70, "o1"))
    scene.given(deposit(90, "o2"), reverse(scene.position(first)))
    assert oracle_of(scene).wallet()["first_deposit"] == {
        "order_id": "o1",
        "asset": "INR",
        "amount": 70,
        "position": scene.position(first),
        "time_us": NOON,
    }


def test_an_asset_appears_once_moved_or_limited_and_credit_is_available() -> None:
    scene = Scene.with_cash(100)
    scene.given(set_limits(asset="GOLD", credit_limit=50, balance_max=None), set_limits(stake_max_per_day=0))
    wallet = oracle_of(scene).wallet()
    assert wallet["balances"] == {
        "GOLD": {**inr(0), "available": 50, "withdrawable": 0},
        "INR": {**inr(100), "available": 100, "withdrawable": 100},
    }
    none: dict[str, Any] = {"balance_max": None, "stake_max_per_day": None, "withdrawal_max_per_day": None}
    assert wallet["limits"] == {
        "GOLD": {"credit_limit": 50, **none},
        "INR": {"credit_limit": 0, **none, "stake_max_per_day": 0},
    }


def test_a_bet_can_take_bonus_and_credit_and_a_withdrawal_only_cash_above_zero() -> None:
    scene = Scene.with_cash(100)
    scene.given(grant_bonus(30, "g1"), set_limits(credit_limit=50))
    assert oracle_of(scene).wallet()["balances"]["INR"] == {
        "cash": 100, "bonus": 30, "held": 0, "available": 180, "withdrawable": 100,
    }  # fmt: skip
    scene.given(place_bet(170, "b1"), grant_bonus(7, "g2"))
    assert oracle_of(scene).wallet()["balances"]["INR"] == {
        "cash": -40, "bonus": 7, "held": 0, "available": 17, "withdrawable": 0,
    }  # fmt: skip
    scene.given(set_limits(credit_limit=10))
    assert oracle_of(scene).wallet()["balances"]["INR"] == {
        "cash": -40, "bonus": 7, "held": 0, "available": 7, "withdrawable": 0,
    }  # fmt: skip
    assert scene.refused(place_bet(8, "b2")).fields == {"available": 7}


def test_an_unnamed_limit_stays_and_null_resets_a_limit() -> None:
    scene = Scene.with_cash(100)
    scene.given(set_limits(credit_limit=5, balance_max=900), set_limits(withdrawal_max_per_day=7))
    scene.given(set_limits(credit_limit=None, balance_max=None))
    assert oracle_of(scene).wallet()["limits"]["INR"] == {
        "credit_limit": 0,
        "balance_max": None,
        "stake_max_per_day": None,
        "withdrawal_max_per_day": 7,
    }


def test_a_wallet_is_frozen_unfrozen_and_closed() -> None:
    scene = Scene.with_cash(100)
    scene.given(freeze_wallet())
    assert oracle_of(scene).wallet()["status"] == "frozen"
    scene.given(unfreeze_wallet(), *emptied(100))
    assert oracle_of(scene).wallet()["status"] == "open"
    scene.given(close_wallet())
    assert oracle_of(scene).wallet()["status"] == "closed"


# --- history --------------------------------------------------------------------------------------------------------


def test_each_event_that_moves_money_has_an_item_with_its_change_and_the_balances() -> None:
    scene = Scene.with_cash(1000)
    bet = scene.when(place_bet(300, command_id="bet-1"))
    assert item(scene, bet) == {
        "position": scene.position(bet),
        "time_us": NOON,
        "type": "bet_placed",
        "command_id": "bet-1",
        "asset": "INR",
        "game": "external",
        "change": inr(-300),
        "balances": inr(700),
        "data": {
            "asset": "INR",
            "bet_id": "b1",
            "from": {"bonus": 0, "cash": 300, "grants": []},
            "game": "external",
            "period": "round 7",
            "selection": "red",
            "stake": 300,
        },
    }
    assert list(oracle_of(scene).history) == [f"{PARTITION}:2 INR", f"{PARTITION}:3 INR"], "the opening moved nothing"


def test_the_history_names_the_game_of_a_bets_settlement_and_cancellation_only() -> None:
    scene = Scene.with_cash(1000)
    scene.given(place_bet(10, "b1"), place_bet(10, "b2"), place_bet(10, "b3"))
    won = scene.when(settle_bet(25, "b1"))
    lost = scene.when(settle_bet(0, "b2"))
    cancelled = scene.when(cancel_bet("b3"))
    assert item(scene, won)["game"] == item(scene, cancelled)["game"] == "external"
    assert f"{scene.position(lost)} INR" not in oracle_of(scene).history, "a payout of nothing moves nothing"
    assert oracle_of(scene).history[f"{PARTITION}:2 INR"]["game"] is None


def test_a_stake_from_bonus_and_its_payout_change_both_buckets() -> None:
    scene = Scene.with_cash(100)
    scene.given(grant_bonus(60))
    bet = scene.when(place_bet(120, spend="bonus_first"))
    won = scene.when(settle_bet(200))
    assert item(scene, bet)["change"] == inr(-60, -60)
    assert item(scene, won)["change"] == inr(100, 100)
    assert item(scene, won)["balances"] == inr(140, 100)


def test_expired_bonuses_and_holds_are_items_of_the_ledger_itself() -> None:
    scene = Scene.with_cash(100)
    scene.given(grant_bonus(60, expires_at_us=NOON + SECOND_US), hold(30, expires_at_us=NOON + SECOND_US))
    scene.now_us += SECOND_US
    freed, gone = scene.tick()
    assert item(scene, freed)["change"] == inr(30, 0, -30)
    assert item(scene, gone)["change"] == inr(0, -60)
    assert item(scene, gone)["command_id"].startswith("~")
    assert oracle_of(scene).holds["h1"]["status"] == "expired"
    assert oracle_of(scene).stats()["totals"][0]["bonuses"] == {"count": 1, "amount": 60}, (
        "it was given, though it expired"
    )


def test_adjustments_move_money_when_they_are_made_or_approved() -> None:
    scene = Scene.with_cash(100)
    scene.given(adjust(-10), propose_adjustment(30, "a1"), propose_adjustment(5, "a2"), reject_adjustment("a2"))
    approved = scene.when(approve_adjustment("a1"), "op-2")
    assert item(scene, approved)["change"] == inr(30)
    assert len(oracle_of(scene).history) == 3


def test_a_wallet_of_two_assets_has_an_item_for_the_moved_one() -> None:
    scene = Scene.with_cash(100)
    gold = scene.when(deposit(7, "o2", asset="GOLD"))
    assert oracle_of(scene).history[f"{scene.position(gold)} GOLD"]["balances"] == inr(7)
    assert oracle_of(scene).balances() == {"GOLD": inr(7), "INR": inr(100)}


# --- bets -----------------------------------------------------------------------------------------------------------


def test_a_bet_open_won_lost_and_cancelled() -> None:
    scene = Scene.with_cash(1000)
    placed = scene.when(place_bet(100, "b1"))
    opened: Document = {
        "bet_id": "b1",
        "game": "external",
        "period": "round 7",
        "selection": "red",
        "asset": "INR",
        "stake": 100,
        "status": "open",
        "payout": None,
        "position": scene.position(placed),
        "placed_at_us": NOON,
        "settled_position": None,
        "settled_at_us": None,
        "unpaid": 0,
    }
    assert oracle_of(scene).bets["b1"] == opened
    scene.given(place_bet(1, "b2"), place_bet(1, "b3"))
    scene.now_us += SECOND_US
    ends = [scene.when(settle_bet(1, "b1")), scene.when(settle_bet(0, "b2")), scene.when(cancel_bet("b3"))]
    bets = oracle_of(scene).bets
    assert [bet["status"] for bet in bets.values()] == ["won", "lost", "cancelled"]
    assert [bet["payout"] for bet in bets.values()] == [1, 0, None]
    assert [bet["settled_position"] for bet in bets.values()] == [scene.position(event) for event in ends]
    assert {bet["settled_at_us"] for bet in bets.values()} == {NOON + SECOND_US}


def test_a_bet_cancelled_before_it_was_placed_is_no_bet() -> None:
    scene = Scene.with_cash(1000)
    scene.given(cancel_bet("b1"))
    assert oracle_of(scene).bets == {}
    assert oracle_of(scene).stats()["games"] == []


# --- holds ----------------------------------------------------------------------------------------------------------


def test_a_hold_open_captured_in_part_or_whole_and_released() -> None:
    scene = Scene.with_cash(1000)
    placed = scene.when(hold(100, "h1", expires_at_us=NOON + 9 * SECOND_US))
    assert oracle_of(scene).holds["h1"] == {
        "hold_id": "h1",
        "asset": "INR",
        "amount": 100,
        "status": "open",
        "captured": None,
        "expires_at_us": NOON + 9 * SECOND_US,
        "position": scene.position(placed),
        "created_at_us": NOON,
        "resolved_at_us": None,
    }
    scene.given(hold(50, "h2"), hold(20, "h3"))
    scene.now_us += SECOND_US
    scene.given(capture_hold("h1", 30), capture_hold("h2"), release_hold("h3"))
    holds = oracle_of(scene).holds
    assert [(found["status"], found["captured"]) for found in holds.values()] == [
        ("captured", 30),
        ("captured", 50),
        ("released", None),
    ]
    assert {found["resolved_at_us"] for found in holds.values()} == {NOON + SECOND_US}


# --- transfers ------------------------------------------------------------------------------------------------------


def test_a_transfer_is_listed_for_its_sender_only() -> None:
    scene = Scene.with_cash(100, "u1", "u2")
    sent = scene.when(transfer(40, "u2"))
    expected: Document = {
        "transfer_id": "t1",
        "to_user_id": "u2",
        "asset": "INR",
        "amount": 40,
        "status": "sent",
        "reason": None,
        "position": scene.position(sent),
        "created_at_us": NOON,
        "resolved_at_us": None,
    }
    assert oracle_of(scene).transfers["t1"] == expected
    scene.deliver_all()
    assert oracle_of(scene).transfers["t1"] == expected | {"status": "delivered", "resolved_at_us": NOON}
    assert oracle_of(scene, "u2").transfers == {}
    assert oracle_of(scene, "u2").balances() == {"INR": inr(140)}


def test_a_returned_transfer_has_a_reason_and_gives_the_money_back() -> None:
    scene = Scene.with_cash(100)
    scene.given(transfer(40, "nobody"))
    scene.now_us += SECOND_US
    scene.deliver_all()
    found = oracle_of(scene).transfers["t1"]
    assert (found["status"], found["reason"]) == ("returned", "wallet_not_open")
    assert found["resolved_at_us"] == NOON + SECOND_US
    assert oracle_of(scene).balances() == {"INR": inr(100)}
    assert [line["type"] for line in oracle_of(scene).history.values()] == [
        "deposited",
        "transfer_sent",
        "transfer_returned",
    ]


# --- orders ---------------------------------------------------------------------------------------------------------


def test_a_deposit_is_resolved_at_once_and_its_reversal_has_a_reason() -> None:
    scene = Scene().given(open_wallet())
    paid = scene.when(deposit(100, "o1", bonus=20))
    expected: Document = {
        "user_id": "u1",
        "order_id": "o1",
        "kind": "deposit",
        "asset": "INR",
        "amount": 100,
        "bonus": 20,
        "status": "completed",
        "reason": None,
        "position": scene.position(paid),
        "created_at_us": NOON,
        "resolved_at_us": NOON,
    }
    assert oracle_of(scene).orders["o1"] == expected
    scene.now_us += SECOND_US
    scene.given(reverse(scene.position(paid), reason="charged back"))
    assert oracle_of(scene).orders["o1"] == expected | {
        "status": "reversed",
        "reason": "charged back",
        "resolved_at_us": NOON + SECOND_US,
    }
    assert oracle_of(scene).balances() == {"INR": inr(0)}


def test_a_withdrawal_is_pending_then_approved_or_rejected() -> None:
    scene = Scene.with_cash(100)
    asked = scene.when(request_withdrawal(30, "w1"))
    expected: Document = {
        "user_id": "u1",
        "order_id": "w1",
        "kind": "withdrawal",
        "asset": "INR",
        "amount": 30,
        "bonus": 0,
        "status": "pending",
        "reason": None,
        "position": scene.position(asked),
        "created_at_us": NOON,
        "resolved_at_us": None,
    }
    assert oracle_of(scene).orders["w1"] == expected
    scene.given(request_withdrawal(10, "w2"))
    scene.now_us += SECOND_US
    scene.given(approve_withdrawal("w1"), reject_withdrawal("w2", reason="the name differs"))
    assert oracle_of(scene).orders["w1"] == expected | {"status": "approved", "resolved_at_us": NOON + SECOND_US}
    assert oracle_of(scene).orders["w2"]["status"] == "rejected"
    assert oracle_of(scene).orders["w2"]["reason"] == "the name differs"
    assert oracle_of(scene).balances() == {"INR": inr(70)}


# --- statistics -----------------------------------------------------------------------------------------------------


def test_statistics_count_bets_open_and_settled_and_not_cancelled() -> None:
    scene = Scene.with_cash(1000)
    scene.given(place_bet(100, "b1"), place_bet(50, "b2"), place_bet(30, "b3"), place_bet(20, "b4"))
    scene.given(settle_bet(250, "b1"), settle_bet(0, "b2"), cancel_bet("b3"))
    bets = {"bets": 3, "wins": 1, "staked": 170, "paid_out": 250, "net": 100, "biggest_win": 250}
    nothing = {"count": 0, "amount": 0}
    assert oracle_of(scene).stats() == {
        "user_id": "u1",
        "games": [{"asset": "INR", "game": "external", **bets}],
        "totals": [
            {
                "asset": "INR",
                **bets,
                "deposits": {"count": 1, "amount": 1000},
                "withdrawals": nothing,
                "bonuses": nothing,
                "commissions": nothing,
            }
        ],
    }


def test_statistics_leave_out_empty_rows_and_are_sorted_by_asset() -> None:
    scene = Scene().given(open_wallet())
    assert oracle_of(scene).stats() == {"user_id": "u1", "games": [], "totals": []}
    scene.given(set_limits(credit_limit=50), place_bet(10, "b1"), cancel_bet("b1"))
    assert oracle_of(scene).stats() == {"user_id": "u1", "games": [], "totals": []}, "a cancelled bet counts nowhere"
    scene.given(deposit(5, "o1", asset="USDT"), deposit(5, "o2", asset="GOLD"))
    assert [row["asset"] for row in oracle_of(scene).stats()["totals"]] == ["GOLD", "USDT"]


def test_statistics_count_deposits_approved_withdrawals_and_bonuses() -> None:
    scene = Scene().given(open_wallet(), deposit(100, "o1", bonus=10), deposit(100, "o2", bonus=0), grant_bonus(5))
    scene.given(request_withdrawal(30, "w1"), request_withdrawal(20, "w2"), request_withdrawal(10, "w3"))
    scene.given(approve_withdrawal("w1"), reject_withdrawal("w2"))
    (total,) = oracle_of(scene).stats()["totals"]
    assert total["deposits"] == {"count": 2, "amount": 200}
    assert total["withdrawals"] == {"count": 1, "amount": 30}
    assert total["bonuses"] == {"count": 2, "amount": 15}
    assert total["commissions"] == {"count": 0, "amount": 0}


def test_reversed_orders_and_grants_are_not_counted() -> None:
    scene = Scene().given(open_wallet())
    events = [
        scene.when(deposit(100, "o1", bonus=10)),
        scene.when(grant_bonus(5)),
        scene.when(adjust(7)),
    ]
    for event in events:
        scene.given(reverse(scene.position(event)))
    assert oracle_of(scene).stats()["totals"] == []
    assert oracle_of(scene).balances() == {"INR": inr(0)}


# --- referrals ------------------------------------------------------------------------------------------------------


def test_referrals_count_six_levels() -> None:
    scene = Scene()
    for number in range(9):
        scene.given(open_wallet(user_id=f"u{number}", referrer_id=f"u{number - 1}" if number else None))
        scene.deliver_all()
    scene.given(open_wallet(user_id="late", referrer_id="u0"))
    scene.deliver_all()
    assert oracle_of(scene, "u0").referrals() == {
        "user_id": "u0",
        "referrer_id": None,
        "direct_count": 2,
        "levels": [
            {"level": 1, "members": 2},
            *({"level": level, "members": 1} for level in range(2, 7)),
        ],
        "commissions": {},
    }
    assert oracle_of(scene, "u7").referrals()["referrer_id"] == "u6"
    assert [level["members"] for level in oracle_of(scene, "u7").referrals()["levels"]] == [1, 0, 0, 0, 0, 0]


def test_a_void_referral_is_not_counted() -> None:
    scene = Scene().given(open_wallet(user_id="u2", referrer_id="u1"))
    scene.deliver_all()
    assert scene.types_of("u1") == ["referral_void"]
    scene.given(open_wallet())
    assert oracle_of(scene).referrals()["direct_count"] == 0


# --- balance at a time ----------------------------------------------------------------------------------------------


def test_balances_are_as_of_the_last_applied_record() -> None:
    scene = Scene().given(open_wallet(), set_limits(asset="GOLD", credit_limit=1), deposit(100))
    oracle = WalletOracle("u1")
    seen = []
    for record in records_of(scene):
        oracle.apply(record)
        seen.append(oracle.balances())
    assert seen == [{}, {"GOLD": inr(0)}, {"GOLD": inr(0), "INR": inr(100)}]


# --- supply ---------------------------------------------------------------------------------------------------------


def test_the_supply_names_sources_and_sinks_and_sums_to_zero() -> None:
    scene = Scene.with_cash(100, "u1", "u2")
    scene.given(grant_bonus(10), hold(20), request_withdrawal(30), approve_withdrawal(), place_bet(5))
    scene.given(transfer(15, "u2"))
    supply = Supply()
    for record in records_of(scene):
        supply.add(json.loads(record)["postings"])
    assert supply.accounts == {
        "INR": {
            "house/bonuses": -10,
            "house/deposits": -200,
            "house/stakes": 5,
            "house/withdrawals": 30,
            "transit/transfers": 15,
            "wallets/bonus": 10,
            "wallets/cash": 130,
            "wallets/held": 20,
        }
    }
    assert supply.remainders() == {}
    supply.add([("house/stakes", "INR", 1)])
    assert supply.remainders() == {"INR": 1}


# --- against the writer's own word ----------------------------------------------------------------------------------


def live(day: list[Step]) -> Scene:
    scene = Scene()
    for number, step in enumerate(day):
        match step:
            case Wait():
                scene.now_us += step.us
            case Deliver() if scene.under_way:
                scene.deliver(step.which % len(scene.under_way))
            case Post():
                positioned = [(scene.position(event), event) for event in scene.events]
                command: Command = msgspec.convert(step.command(f"c-{number}", scene.now_us, positioned), AnyCommand)
                scene.decided(command, step.actor)
            case _:
                pass
    return scene


@pytest.mark.parametrize("first", range(0, 150, 50))
@pytest.mark.system
def test_on_random_days_its_wallets_equal_the_writers(first: int) -> None:
    for seed in range(first, first + 50):
        scene = live(busy_day(seed))
        for user_id in USERS:
            oracle, wallet = oracle_of(scene, user_id), scene.wallet(user_id)
            assert oracle.is_open == (wallet.status != "none"), seed
            if not oracle.is_open:
                continue
            document = wallet_document(WalletRead(wallet, Position(PARTITION, len(scene.events))))
            assert oracle.wallet() == msgspec.to_builtins(document), seed
            assert statuses(oracle) == entries_of(scene, user_id), seed


def statuses(oracle: WalletOracle) -> dict[str, set[tuple[str, str]]]:
    kinds = {"order": oracle.orders, "bet": oracle.bets, "hold": oracle.holds, "transfer": oracle.transfers}
    return {kind: {(name, str(found["status"])) for name, found in named.items()} for kind, named in kinds.items()}


def entries_of(scene: Scene, user_id: str) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {"order": set(), "bet": set(), "hold": set(), "transfer": set()}
    paid = {
        event.data.bet_id: "won" if event.data.payout else "lost"
        for event in scene.events_of(user_id)
        if isinstance(event.data, BetSettled)
    }
    for key, item in scene.items.get(user_id, {}).items():
        name = key.partition("/")[2] or key.partition(":")[2]
        match item:
            case Order() | Hold() | SentTransfer():
                kind = {Order: "order", Hold: "hold", SentTransfer: "transfer"}[type(item)]
                found[kind].add((name, item.status))
            case Bet() if item.status != "cancelled_before":
                found["bet"].add((name, paid.get(name, item.status)))
    return found


def test_it_applies_the_whole_published_scenario() -> None:
    users = {json.loads(record)["user_id"] for records in scenario_records() for record in records}
    for user_id in users:
        oracle = WalletOracle(user_id)
        last: dict[str, Any] = {}
        for record in (record for records in scenario_records() for record in records):
            event = json.loads(record)
            if event["user_id"] == user_id:
                oracle.apply(record)
                last |= event["balances"]
        assert {asset: oracle.balances()[asset] for asset in last} == last


# --- what it does not know ------------------------------------------------------------------------------------------


def test_an_unknown_record_is_named_with_its_position() -> None:
    event = json.loads(records_of(Scene().given(open_wallet()))[0])
    for changed, said in (
        ({"type": "of_tomorrow"}, "the record 3:1 is of type of_tomorrow"),
        ({"v": 2}, "the record 3:1 is of version 2"),
        (
            {"type": "bet_settled", "data": {"bet_id": "b", "payout": 1}},
            "3:1 refers to something that does not exist",
        ),
    ):
        with pytest.raises(UnknownRecord, match=said):
            WalletOracle("u1").apply(json.dumps(event | changed).encode())
    with pytest.raises(UnknownRecord, match="a record of u1 cannot be read"):
        WalletOracle("u1").apply(b"{")


def test_streams_of_games_and_partitions_are_no_wallets() -> None:
    assert [is_wallet(name) for name in ("u1", "game:external", "partition:3")] == [True, False, False]
