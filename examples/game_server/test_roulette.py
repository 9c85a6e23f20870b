"""The table against the real ledger in memory. `stakelog_ledger` is the fixture of stakelog_client[testing]."""

import asyncio

import pytest

from roulette import NotEnoughMoney, Table
from stakelog_client import refusals
from stakelog_client.testing import Ledger


def balances(ledger: Ledger, *players: str) -> list[int]:
    return [ledger.get_wallet(player).balances["INR"].available for player in players]


async def seated(table: Table, ledger: Ledger, *players: str) -> None:
    for player in players:
        await table.join(player)
        ledger.deposit(player, order_id="welcome", asset="INR", amount=1_000)


def test_the_number_that_comes_up_pays_36_times_the_stake(stakelog_ledger: Ledger) -> None:
    async def play() -> dict[str, int]:
        async with stakelog_ledger.async_client() as client:
            table = Table(client)
            await seated(table, stakelog_ledger, "grace", "alan")
            for player, number in (("grace", 17), ("alan", 5)):
                await table.reserve(player, f"{player}-1", 100, stakelog_ledger.now_us)
                await table.bet(player, f"{player}-1", "spin-1", number, 100)
            return await table.pay("spin-1", 17, ["grace", "alan"])

    assert asyncio.run(play()) == {"grace": 3_600, "alan": 0}
    assert balances(stakelog_ledger, "grace", "alan") == [4_500, 900]


def test_a_player_who_does_not_come_back_gets_the_stake_back(stakelog_ledger: Ledger) -> None:
    async def play() -> None:
        async with stakelog_ledger.async_client() as client:
            table = Table(client)
            await seated(table, stakelog_ledger, "grace")
            await table.reserve("grace", "t1", 400, stakelog_ledger.now_us)
            assert balances(stakelog_ledger, "grace") == [600]
            stakelog_ledger.advance(minutes=1)
            assert balances(stakelog_ledger, "grace") == [1_000]
            with pytest.raises(refusals.HoldExpired):
                await table.bet("grace", "t1", "spin-1", 17, 400)

    asyncio.run(play())


def test_a_player_without_money_is_told_what_is_left(stakelog_ledger: Ledger) -> None:
    async def play() -> None:
        async with stakelog_ledger.async_client() as client:
            table = Table(client)
            await seated(table, stakelog_ledger, "grace")
            with pytest.raises(NotEnoughMoney) as refused:
                await table.reserve("grace", "t1", 1_001, stakelog_ledger.now_us)
            assert refused.value.available == 1_000

    asyncio.run(play())


def test_after_a_crash_a_spin_is_paid_once(stakelog_ledger: Ledger) -> None:
    async def play() -> None:
        async with stakelog_ledger.async_client() as client:
            table = Table(client)
            await seated(table, stakelog_ledger, "grace")
            await table.reserve("grace", "t1", 100, stakelog_ledger.now_us)
            await table.bet("grace", "t1", "spin-1", 17, 100)
            await table.pay("spin-1", 17, ["grace"])
        async with stakelog_ledger.async_client() as client:  # the server starts again, and does the round again
            await Table(client).pay("spin-1", 17, ["grace"])

    asyncio.run(play())
    assert balances(stakelog_ledger, "grace") == [4_500]
