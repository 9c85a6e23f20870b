"""A transfer is concluded once, by what it sent. Anything else stops the partition alone, and moves no money."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.core.follow_up_commands import ConcludeTransfer
from ledger.core.follow_ups import fits, item_needed_by
from ledger.core.items import SentTransfer
from ledger.core.position import partition_of
from ledger.core.rejections import Code
from ledger.core.wallet import Wallet
from ledger.node.node import Node
from ledger.node.owns_all import NoOtherNodes
from ledger.writer.requests import Accepted, Failed
from unit.api_in_memory import InMemoryApi
from unit.given import deposit, open_wallet, transfer
from unit.node_in_memory import World

RETURNED = ConcludeTransfer(
    command_id="~stray:0",
    user_id="u1",
    cause="0:1",
    cause_time_us=1,
    transfer_id="t1",
    to_user_id="u2",
    asset="INR",
    amount=400,
    refusal=Code.WALLET_CLOSED,
)
SENT = SentTransfer("sent", "u2", "INR", 400)


def test_a_conclusion_fits_what_was_sent() -> None:
    assert item_needed_by(RETURNED) == "t:t1"
    assert fits(RETURNED, Wallet("u1"), SENT)


@pytest.mark.parametrize(
    "item",
    [
        None,
        replace(SENT, status="delivered"),
        replace(SENT, status="returned"),
        replace(SENT, to_user_id="u3"),
        replace(SENT, asset="USDT"),
        replace(SENT, amount=399),
    ],
)
def test_a_conclusion_of_anything_else_does_not_fit(item: SentTransfer | None) -> None:
    assert not fits(RETURNED, Wallet("u1"), item)


@pytest.mark.parametrize(
    "stray",
    [replace(RETURNED, transfer_id="t2"), replace(RETURNED, amount=401), replace(RETURNED, to_user_id="u3")],
    ids=["of an unknown transfer", "of another amount", "of another receiver"],
)
async def test_a_stray_conclusion_credits_nothing_and_names_the_contradiction(
    stray: ConcludeTransfer, caplog: pytest.LogCaptureFixture
) -> None:
    world = await World(1).start()
    await world.given(open_wallet(), deposit(1_000), transfer(400, "u2"))
    await world.quiet()
    before = world.types("u1")
    world.node.receive_local(stray, lambda: None)
    await until(lambda: world.node.stopped == [0])
    assert "0:1 concludes a transfer that u1 did not send like this" in caplog.text
    assert world.types("u1") == before
    await world.crash()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a writer's state, which no event announces
            await asyncio.sleep(0.001)


async def stopped(node: Node, count: int) -> None:
    await until(lambda: len(node.stopped) == count)


async def arrived(world: World, sender: str, count: int) -> None:
    await until(lambda: world.types(sender).count("transfer_delivered") == count)


async def test_a_stray_conclusion_stops_its_partition_alone_also_after_a_restart() -> None:
    in_0, in_1 = (next(user for user in map("u{}".format, range(99)) if partition_of(user, 2) == n) for n in (0, 1))
    world = await World(2).start()
    await world.given(open_wallet(in_0), open_wallet(in_1))
    for attempt in range(2):
        assert world.node.receive_local(replace(RETURNED, user_id=in_0), lambda: None)
        await until(lambda: world.node.stopped == [0])
        assert not world.node.receive_local(replace(RETURNED, user_id=in_0), lambda: None)
        refused = await world.post(deposit(5, "o1", user_id=in_0))
        assert isinstance(refused, Failed)
        assert refused.reason == "outcome_unknown"
        assert isinstance(await world.post(deposit(5, f"o{attempt}", user_id=in_1)), Accepted)
        sent = await world.post(transfer(1, in_0, transfer_id=f"t{attempt}", user_id=in_1))
        assert isinstance(sent, Accepted)
        assert isinstance(world.others, NoOtherNodes)
        assert world.others.waiting == 0
        assert world.node.ready
        assert not world.node.halted.done()
        await world.stop()
        await world.start()
        assert world.node.stopped == []
        await arrived(world, in_1, attempt + 1)
    await world.crash()


async def test_a_second_conclusion_of_a_transfer_credits_nothing() -> None:
    world = await World(1).start()
    await world.given(open_wallet(), deposit(1_000), transfer(400, "u2"))
    await world.logged("transfer_returned")
    world.node.receive_local(RETURNED, lambda: None)
    await until(lambda: world.node.stopped == [0])
    assert world.types("u1").count("transfer_returned") == 1
    await world.crash()


async def test_readyz_warns_of_a_stopped_partition_and_is_not_ready_once_all_have_stopped(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 2) as api_client:
        node = api_client.world.node
        for partition in range(2):
            user_id = next(user for user in map("u{}".format, range(99)) if partition_of(user, 2) == partition)
            node.receive_local(replace(RETURNED, user_id=user_id), lambda: None)
            await stopped(node, partition + 1)
            response = await api_client.get("/readyz")
            assert response.status == (503 if partition else 200)
            assert partition or response.json()["warnings"] == [
                "partitions 0 accept no commands: the service log says why"
            ]
