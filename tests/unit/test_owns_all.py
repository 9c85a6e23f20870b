"""The follow-ups of a node without other nodes: each is offered until a writer takes it."""

import asyncio
from collections.abc import Sequence

import pytest

from ledger import background
from ledger.core.follow_up_commands import AnyFollowUp, ReceiveTransfer
from ledger.core.position import partition_of
from ledger.core.record import Head
from ledger.node import follow_up_queue as queue_module
from ledger.node import node as node_module
from ledger.node import owns_all
from ledger.node.owns_all import NoOtherNodes
from ledger.ports import NewRecord
from unit.given import deposit, open_wallet, transfer
from unit.node_in_memory import World


def follow_up(number: int) -> ReceiveTransfer:
    return ReceiveTransfer(
        command_id=f"~{number}:0",
        user_id="u2",
        cause=f"0:{number}",
        cause_time_us=1,
        transfer_id=f"t{number}",
        from_user_id="u1",
        asset="INR",
        amount=400,
    )


async def test_an_error_loses_no_follow_up_and_they_are_offered_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(owns_all, "_OFFER_EVERY_S", 0.001)
    offered: list[AnyFollowUp] = []
    taken: asyncio.Queue[AnyFollowUp] = asyncio.Queue()
    world = await World(1).start()

    def receive(offer: AnyFollowUp, *_: object) -> bool:
        offered.append(offer)
        if len(offered) == 2:
            raise RuntimeError("a defect")
        taken.put_nowait(offer)
        return True

    monkeypatch.setattr(world.node, "receive_local", receive)
    others = NoOtherNodes(1)
    others.bind(world.node)
    for number in (1, 2):
        others.deliver(0, number, follow_up(number), lambda: None)
    async with asyncio.timeout(60):
        assert [await taken.get(), await taken.get()] == [follow_up(1), follow_up(2)]
    assert offered == [follow_up(1), follow_up(2), follow_up(2)], "what was taken is not offered again"
    assert "the task follow-ups has failed" in caplog.text
    await others.close()
    await world.crash()


async def test_after_the_close_nothing_is_offered() -> None:
    others = NoOtherNodes(1)
    await others.close()
    others.deliver(0, 1, follow_up(1), lambda: None)
    assert others.waiting == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "follow-ups"]


async def test_follow_ups_that_no_writer_takes_wait_in_the_state_and_all_arrive_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The receivers' writer cannot append, and 60 transfers are sent to it; those to another partition go on."""
    monkeypatch.setattr(owns_all, "_OFFER_EVERY_S", 0.001)
    monkeypatch.setattr(node_module, "FOLLOW_UPS_MAX", 4)
    monkeypatch.setattr(queue_module, "QUEUE_MAX", 8)
    monkeypatch.setattr(queue_module, "PAGE", 3)
    world = await World(3).start()
    sender, slow, quick = (first_user_of(partition, 3) for partition in range(3))
    await world.given(open_wallet(sender), open_wallet(slow), open_wallet(quick), deposit(1_000, user_id=sender))
    gate, append = asyncio.Event(), world.log.append

    async def gated(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        if partition == 1:
            await gate.wait()
        await append(partition, after, records)

    world.log.append = gated  # type: ignore[method-assign]
    others = world.others
    assert isinstance(others, NoOtherNodes)
    for number in range(60):
        await world.accepted(transfer(1, slow, f"s{number}", user_id=sender))
        await world.accepted(transfer(1, quick, f"q{number}", user_id=sender))
        assert others.waiting <= 2 * 8, "8 for each partition"
    async with asyncio.timeout(60):
        while await world.cash(quick) < 60:  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
        gate.set()
        while world.open_follow_ups() or others.waiting:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
    assert [world.types(user).count("transfer_received") for user in (slow, quick)] == [60, 60]
    assert world.types(sender).count("transfer_delivered") == 120
    await world.stop()


def first_user_of(partition: int, partitions: int) -> str:
    return next(
        name for name in (f"u{number}" for number in range(100)) if partition_of(name, partitions) == partition
    )
