"""The ledger in memory that other people's tests use: the real core and reads, and time in the test's hand."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from ledger.memory.log import MemoryEventLog
from ledger.operations.audit import verify
from stakelog_client import Client, refusals
from stakelog_client.testing import START, Ledger
from unit.test_audit import Lists

USERS = [f"u{number}" for number in range(6)]
SECOND_US = 1_000_000


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as ledger:
        yield ledger


def with_cash(ledger: Ledger, *users: str, amount: int = 10_000) -> None:
    for user_id in users:
        ledger.open_wallet(user_id)
        ledger.deposit(user_id, order_id="first", asset="INR", amount=amount)


def cash(ledger: Client, user_id: str) -> int:
    return ledger.get_wallet(user_id).balances["INR"].cash


def test_what_is_due_happens_at_its_own_time_and_nothing_before(ledger: Ledger) -> None:
    with_cash(ledger, *USERS)
    for number, user_id in enumerate(USERS, 1):
        expires_at_us = ledger.now_us + number * 600 * SECOND_US
        ledger.hold(user_id, hold_id="h", asset="INR", amount=100, expires_at_us=expires_at_us)
    ledger.advance(minutes=29, seconds=59)
    assert [ledger.get_hold(user_id, "h").status for user_id in USERS] == ["expired"] * 2 + ["open"] * 4
    ledger.advance(hours=1)
    holds = [ledger.get_hold(user_id, "h") for user_id in USERS]
    assert [hold.status for hold in holds] == ["expired"] * 6
    assert all(hold.resolved_at_us == hold.expires_at_us for hold in holds)
    assert ledger.now == START + timedelta(hours=1, minutes=29, seconds=59)


def test_a_period_closes_by_the_clock_and_its_result_settles_its_bets(ledger: Ledger) -> None:
    with_cash(ledger, "meera")
    period = f"{START:%Y%m%dT%H%M%SZ}"

    async def bet(*bet_ids: str) -> None:
        async with ledger.async_client() as client:
            of_all = {"user_id": "meera", "game": "wingo_1m", "period": period, "asset": "INR", "stake": 10}
            commands = [{"type": "place_bet", **of_all, "selection": "number:7", "bet_id": one} for one in bet_ids]
            await asyncio.gather(*(client.post(command) for command in commands))

    asyncio.run(bet(*(f"b{number}" for number in range(20))))
    with pytest.raises(refusals.PeriodNotClosed):
        ledger.record_result("game:wingo_1m", period=period, result="7")
    ledger.advance(seconds=62)
    with pytest.raises(refusals.PeriodClosed):
        asyncio.run(bet("too-late"))
    ledger.record_result("game:wingo_1m", period=period, result="7")
    bets = list(ledger.list_bets("meera"))  # read at once: all are settled
    assert [bet.status for bet in bets] == ["won"] * 20
    assert cash(ledger, "meera") == 10_000 - 20 * 10 + sum(bet.payout or 0 for bet in bets)


def test_commissions_of_a_day_are_paid_when_it_has_ended() -> None:
    rates = [10_000_000, 1_000_000, 0, 0, 0, 0]
    money = {"INR": {"commission": {"mode": "daily", "delay_s": 600, "rates_e9": rates}}}
    with Ledger(rules={"money": money}) as ledger:
        for number, user_id in enumerate(USERS[:3]):
            ledger.open_wallet(user_id, referrer_id=USERS[number - 1] if number else None)
            ledger.deposit(user_id, order_id="d", asset="INR", amount=100_000)
            ledger.place_bet(
                user_id,
                bet_id="b",
                game="external",
                period="1",
                selection="red",
                asset="INR",
                stake=100_000,
            )
            ledger.settle_bet(user_id, bet_id="b", payout=0)
        ledger.advance(hours=12)  # midnight
        assert [cash(ledger, user_id) for user_id in USERS[:3]] == [0, 0, 0]
        ledger.advance(minutes=15)
        assert [cash(ledger, user_id) for user_id in USERS[:3]] == [1_000 + 100, 1_000, 0]


def test_a_read_shows_what_has_been_written_with_its_follow_ups_and_the_auditor_accepts_the_log(
    ledger: Ledger,
) -> None:
    with_cash(ledger, *USERS)

    async def pass_on() -> list[int]:
        async with ledger.async_client() as client:
            for sent, (one, other) in enumerate(pairwise(USERS * 5), 1):
                await client.transfer(one, transfer_id=f"t{sent}", to_user_id=other, asset="INR", amount=sent)
                assert (await client.get_transfer(one, f"t{sent}")).status == "delivered"
            await asyncio.gather(
                *(client.deposit(one, order_id=f"o{n}", asset="INR", amount=1) for one in USERS for n in range(30))
            )
            return [(await client.get_wallet(one)).balances["INR"].cash for one in USERS]

    assert sum(asyncio.run(pass_on())) == len(USERS) * 10_030
    partitions = [[event.record for event in ledger.events(partition)] for partition in range(4)]
    assert {event.time_us for partition in range(4) for event in ledger.events(partition)} == {ledger.now_us}
    verify(Lists(partitions))


def test_a_read_waits_for_follow_ups_however_long_the_log_takes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = MemoryEventLog.append

    async def slow_append(log: MemoryEventLog, *arguments: Any) -> None:
        await asyncio.sleep(0.02)
        await append(log, *arguments)

    monkeypatch.setattr(MemoryEventLog, "append", slow_append)
    with_cash(ledger, "meera", "bob")
    ledger.transfer("meera", transfer_id="t", to_user_id="bob", asset="INR", amount=1)
    assert (cash(ledger, "meera"), cash(ledger, "bob")) == (9_999, 10_001)
    assert ledger.get_transfer("meera", "t").status == "delivered"


def test_private_texts_receipts_and_actors_are_there_too(ledger: Ledger) -> None:
    opened = ledger.open_wallet("meera", private={"name": "Meera Nair"})
    assert ledger.get_receipt(opened.position).head == opened.head
    ledger.propose_adjustment("meera", adjustment_id="a", asset="INR", amount=5, reason="goodwill")
    with pytest.raises(refusals.SameActor):
        ledger.approve_adjustment("meera", adjustment_id="a")
    with Client("http://any", transport=ledger.transport(actor="the-boss")) as boss:
        boss.approve_adjustment("meera", adjustment_id="a")
        assert cash(boss, "meera") == 5


def test_ledgers_have_nothing_in_common_and_time_goes_forward_only() -> None:
    noon = datetime(2030, 5, 5, 12, tzinfo=UTC)
    with Ledger(now=noon) as one, Ledger(assets="COIN:0") as other:
        assert one.now == noon
        one.open_wallet("meera")
        with pytest.raises(refusals.WalletNotFound):
            other.get_wallet("meera")
        with pytest.raises(refusals.UnknownAsset):
            one.deposit("meera", order_id="d", asset="COIN", amount=1)
        with pytest.raises(ValueError, match="back"):
            one.advance(seconds=-1)
    with pytest.raises(ValueError, match="time zone"):
        Ledger(now=datetime(2030, 5, 5))
    with pytest.raises(ValueError, match="games"):
        Ledger(rules={"games": {"chess_1m": {}}})
