"""A transfer is concluded once, by what it sent. Anything else stops the partition, and moves no money."""

import asyncio

import pytest
from msgspec.structs import replace

from ledger.core.commands import ConcludeTransfer
from ledger.core.follow_ups import fits, item_needed_by
from ledger.core.items import SentTransfer
from ledger.core.rejections import Code
from ledger.errors import LogDamaged
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
    assert fits(RETURNED, SENT)


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
    assert not fits(RETURNED, item)


@pytest.mark.parametrize(
    "stray",
    [replace(RETURNED, transfer_id="t2"), replace(RETURNED, amount=401), replace(RETURNED, to_user_id="u3")],
    ids=["of an unknown transfer", "of another amount", "of another receiver"],
)
async def test_a_stray_conclusion_credits_nothing_and_names_the_contradiction(stray: ConcludeTransfer) -> None:
    world = await World(1).start()
    await world.given(open_wallet(), deposit(1_000), transfer(400, "u2"))
    await world.quiet()
    before = world.types("u1")
    world.node.receive_local(stray, lambda: None)
    damaged = await asyncio.wait_for(world.node.halted, 60)
    assert isinstance(damaged, LogDamaged)
    assert "0:1 concludes a transfer that u1 did not send like this" in str(damaged)
    assert world.types("u1") == before
    await world.crash()


async def test_a_second_conclusion_of_a_transfer_credits_nothing() -> None:
    world = await World(1).start()
    await world.given(open_wallet(), deposit(1_000), transfer(400, "u2"))
    await world.logged("transfer_returned")
    world.node.receive_local(RETURNED, lambda: None)
    assert isinstance(await asyncio.wait_for(world.node.halted, 60), LogDamaged)
    assert world.types("u1").count("transfer_returned") == 1
    await world.crash()
