"""The follow-ups of a node without other nodes: each is offered until a writer takes it."""

import asyncio
from collections.abc import Callable

import pytest

from ledger import background
from ledger.core.follow_up_commands import AnyFollowUp, ReceiveTransfer
from ledger.node import owns_all
from ledger.node.owns_all import NoOtherNodes
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

    def receive(offer: AnyFollowUp, _: Callable[[], None]) -> bool:
        offered.append(offer)
        if len(offered) == 2:
            raise RuntimeError("a defect")
        taken.put_nowait(offer)
        return True

    monkeypatch.setattr(world.node, "receive_local", receive)
    others = NoOtherNodes()
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
    others = NoOtherNodes()
    await others.close()
    others.deliver(0, 1, follow_up(1), lambda: None)
    assert others.waiting == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "follow-ups"]
