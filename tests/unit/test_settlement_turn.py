"""One partition of a node settles at a time, and each gets its turn."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ledger.core.follow_up_commands import ConcludeTransfer, ResolvePeriod
from ledger.core.position import partition_of
from ledger.core.record import Head
from ledger.ports import NewRecord
from ledger.writer.settlement_turn import SettlementTurn
from unit.given import record_result
from unit.test_settlement import NEXT, PARTITIONS, PERIOD, USERS, bets_placed, open_bets, settled


def test_one_partition_has_the_turn_and_the_others_are_woken_when_it_is_free() -> None:
    turn, woken = SettlementTurn(), list[int]()
    assert turn.take(0, lambda: woken.append(0))
    assert turn.take(0, lambda: woken.append(0)), "it has the turn already"
    assert not turn.take(1, lambda: woken.append(1))
    assert not turn.take(2, lambda: woken.append(2))
    assert woken == []
    turn.give_back(0)
    assert woken == [1, 2], "in the order in which they asked"
    assert turn.take(2, lambda: woken.append(2)), "the first one may be busy"
    turn.give_back(2)
    assert woken == [1, 2, 1]


def test_a_partition_that_ends_neither_keeps_the_turn_nor_waits_for_it() -> None:
    turn, woken = SettlementTurn(), list[int]()
    turn.take(0, lambda: woken.append(0))
    turn.take(1, lambda: woken.append(1))
    turn.give_back(1)
    turn.give_back(0)
    assert woken == []
    assert turn.take(2, lambda: None)


async def test_a_partition_whose_append_takes_long_does_not_delay_the_settlement_of_the_others() -> None:
    world = await bets_placed()
    slow = partition_of(USERS[0], PARTITIONS)
    assert slow != partition_of("game:wingo_30s", PARTITIONS)
    gate, append = asyncio.Event(), world.log.append

    async def gated(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        if partition == slow:
            await gate.wait()
        await append(partition, after, records)

    world.log.append = gated  # type: ignore[method-assign]
    await world.accepted(record_result("7", PERIOD))
    left = sum(partition_of(user_id, PARTITIONS) == slow for user_id in USERS)
    async with asyncio.timeout(60):
        while open_bets(world) > left:  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    gate.set()
    await settled(world)
    await world.stop()


async def test_a_writer_that_stops_leaves_the_turn_to_the_others() -> None:
    world = await bets_placed()
    stopped = partition_of(USERS[0], PARTITIONS)
    assert world.node._settlement_turn.take(stopped, lambda: None)
    await world.accepted(record_result("7", PERIOD))
    await world.node.writers[stopped].release(1.0)
    left = sum(partition_of(user_id, PARTITIONS) == stopped for user_id in USERS)
    async with asyncio.timeout(60):
        while open_bets(world) > left:  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    await world.restart()
    await settled(world)
    await world.stop()


async def test_a_partition_that_must_be_opened_again_leaves_the_turn_to_the_others() -> None:
    """A round has an outcome, which needs the turn, and a conclusion of something that is not in the state yet."""
    world = await bets_placed(shared=True)
    behind = partition_of(USERS[0], PARTITIONS)
    assert behind != partition_of("game:wingo_30s", PARTITIONS)
    opening, gate, append = asyncio.Event(), asyncio.Event(), world.log.append

    async def gated(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        if partition == behind:
            opening.set()
            await gate.wait()
        await append(partition, after, records)

    world.log.append = gated  # type: ignore[method-assign]
    about: dict[str, Any] = {"command_id": "~x:0", "cause": "0:1", "cause_time_us": 1}
    writer = world.node.writers[behind]
    writer.receive(ResolvePeriod(**about, user_id=f"partition:{behind}", game="wingo_30s", period=NEXT), lambda: None)
    writer.receive(
        ConcludeTransfer(**about, user_id=USERS[0], transfer_id="t", to_user_id="x", asset="INR", amount=1),
        lambda: None,
    )
    async with asyncio.timeout(60):
        await opening.wait()
        await world.accepted(record_result("7", PERIOD))
        left = sum(partition_of(user_id, PARTITIONS) == behind for user_id in USERS)
        while open_bets(world) > left:  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    await world.crash()
