"""A period's outcome on one node settles the bets of another node once, although that node dies at any append."""

import asyncio
from collections import Counter

import pytest

from ledger.core.bet_events import BetSettled
from ledger.core.games.periods import name_of
from ledger.core.position import partition_of
from ledger.node import owned as owned_module
from ledger.writer import writer as writer_module
from unit.given import NOON, SECOND_US, deposit, open_wallet, place_bet, record_result
from unit.nodes_in_memory import Cluster
from unit.test_follow_ups_between_nodes import PARTITIONS, MortalLog

HOUSE, PLAYERS = "a", "b"
PERIOD = name_of(NOON)
STREAM = partition_of("game:wingo_30s", PARTITIONS)
USERS = [name for name in (f"u{number}" for number in range(60)) if partition_of(name, PARTITIONS) != STREAM][:6]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)


async def settle_and_die_at(append: int, *, lands: bool) -> bool:
    """The node of the players dies at this append after the result; the other node then owns everything. Returns
    whether it died."""
    cluster = Cluster(PARTITIONS, new_log=MortalLog)
    for name in (HOUSE, PLAYERS):
        await cluster.node(name)
    await cluster.give(a={STREAM}, b={1 - STREAM})
    await cluster.settled()
    house, players = cluster.worlds[HOUSE], cluster.worlds[PLAYERS]
    for user_id in USERS:
        await players.given(
            open_wallet(user_id),
            deposit(100, user_id=user_id),
            place_bet(100, game="wingo_30s", period=PERIOD, selection="big", user_id=user_id),
        )
    log = players.log
    assert isinstance(log, MortalLog)
    log.dies_at, log.lands = append, lands
    house.clock.now_us = NOON + 32 * SECOND_US
    await house.accepted(record_result("7", PERIOD))
    async with asyncio.timeout(60):
        while not log.dead.is_set() and "bet_settled" not in house.types():  # noqa: ASYNC110 - of two nodes
            await asyncio.sleep(0.002)
        if log.dead.is_set():
            await cluster.crash_one(PLAYERS)
            await cluster.give(a=set(range(PARTITIONS)))
            await cluster.settled()
        while house.types().count("bet_settled") < len(USERS):  # noqa: ASYNC110 - of two nodes
            await asyncio.sleep(0.002)
    await house.quiet()
    settled = Counter(event.user_id for event in house.events() if isinstance(event.data, BetSettled))
    assert settled == dict.fromkeys(USERS, 1)
    owner = cluster.owner_of(USERS[0])
    assert [await owner.cash(user_id) for user_id in USERS] == [196] * len(USERS)
    for name in (HOUSE, PLAYERS):
        if not cluster.members[name].left:
            await cluster.crash_one(name)
    return log.dead.is_set()


@pytest.mark.parametrize("lands", [True, False])
async def test_the_bets_of_another_node_are_settled_once_whenever_it_dies(lands: bool) -> None:
    append = 1
    while await settle_and_die_at(append, lands=lands):
        append += 1
    assert append > 1
