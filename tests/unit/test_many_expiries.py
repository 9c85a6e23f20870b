"""One wallet has more due expiries than one append takes: they take several, and nothing comes before them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.errors import OutcomeUnknown
from ledger.memory.log import Failure
from ledger.writer import round as round_module
from unit.given import NOON, deposit, grant_bonus, hold, open_wallet, place_bet, transfer
from unit.node_in_memory import World, request_sha256

LIMIT = 10
HOLDS = 35
SOON = NOON + 1_000


@pytest.fixture(autouse=True)
def _few_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_module, "EXPIRIES_PER_ROUND", LIMIT)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The wallet u1 has ``HOLDS`` holds and two grants that fall due at the same time, later."""
    world = World(partitions=1)
    await world.start()
    await world.given(open_wallet(), deposit(1_000), open_wallet("u2"), deposit(1_000, user_id="u2"))
    await world.given(*(hold(10, f"h{number}", expires_at_us=SOON) for number in range(HOLDS)))
    await world.given(*(grant_bonus(7, f"g{number}", expires_at_us=SOON) for number in range(2)))
    world.log.sizes.clear()
    yield world
    await world.crash()


def expired(world: World) -> int:
    return sum(event.data.type in ("hold_expired", "bonus_expired") for event in world.events("u1"))


async def all_expired(world: World) -> None:
    async with asyncio.timeout(60):
        while expired(world) < HOLDS + 2:  # noqa: ASYNC110 - the writer's own doing
            await asyncio.sleep(0.001)


async def test_timers_fire_in_several_appends(world: World) -> None:
    world.clock.now_us = SOON + 1
    await all_expired(world)
    assert max(world.log.sizes) <= LIMIT
    assert await world.cash() == 1_000


async def test_a_command_waits_until_all_that_is_due_has_expired(world: World) -> None:
    world.clock.now_us = SOON + 1
    accepted = await world.accepted(place_bet(1_000, user_id="u1"))
    types = [event.data.type for event in world.events("u1")]
    assert types[-1] == "bet_placed", "the stake was held until the last hold expired"
    assert types.count("hold_expired") == HOLDS
    assert accepted.position.seq == len(world.events())
    assert max(world.log.sizes) <= LIMIT + 1


async def test_commands_of_a_batch_keep_their_order_between_the_appends(world: World) -> None:
    world.clock.now_us = SOON + 1
    bets = [
        place_bet(1_000, "b1", user_id="u1"),
        place_bet(1, "b2", user_id="u2"),
        place_bet(1, "b3", user_id="u1"),
    ]
    answers = await world.node.post_many([(bet, request_sha256(bet)) for bet in bets], "local")
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == ["Accepted", "Accepted", "Refused"], "the first bet took all the money"


async def test_a_follow_up_waits_too(world: World) -> None:
    world.clock.now_us = SOON + 1
    await world.accepted(transfer(5, "u1", user_id="u2"))
    async with asyncio.timeout(60):
        while not any(event.data.type == "transfer_delivered" for event in world.events("u2")):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    types = [event.data.type for event in world.events("u1")]
    assert types.index("transfer_received") > max(
        at for at, kind in enumerate(types) if kind in ("hold_expired", "bonus_expired")
    )
    assert types.count("transfer_received") == 1
    assert world.open_follow_ups() == []


@pytest.mark.parametrize("lands", [False, True])
async def test_an_append_that_fails_in_the_middle_loses_and_doubles_nothing(world: World, lands: bool) -> None:
    world.clock.now_us = SOON + 1
    world.log.fail_next.append(Failure(OutcomeUnknown("no response"), lands=lands))
    await all_expired(world)
    assert expired(world) == HOLDS + 2
    assert await world.cash() == 1_000


async def test_a_start_continues_where_the_last_run_ended(world: World) -> None:
    world.clock.now_us = SOON + 1
    world.log.gate.clear()
    await asyncio.sleep(0.01)
    await world.crash()
    await world.start()
    await all_expired(world)
    assert expired(world) == HOLDS + 2
