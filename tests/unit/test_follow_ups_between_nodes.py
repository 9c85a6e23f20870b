"""Follow-ups between wallets of two nodes take effect once, although one of the nodes dies at any append."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from ledger.core.position import partition_of
from ledger.core.record import Head
from ledger.memory.log import Appended
from ledger.node import owned as owned_module
from ledger.ports import NewRecord
from ledger.writer import writer as writer_module
from ledger.writer.requests import Accepted
from unit.given import claim_code, claim_gift, create_gift, deposit, open_wallet, transfer
from unit.node_in_memory import WatchedLog
from unit.nodes_in_memory import Cluster

PARTITIONS = 2
ALICES, BOBS = "a", "b"
ALICE, BOB, CAROL = "alice", "bob", "carol"
SCENARIO = (
    open_wallet(ALICE),
    open_wallet(BOB, ALICE),
    open_wallet(CAROL, BOB),
    deposit(1_000, user_id=ALICE),
    transfer(100, BOB, "t1", user_id=ALICE),
    transfer(30, "never-opened", "t2", user_id=ALICE),
    transfer(20, CAROL, "t3", user_id=BOB),
    create_gift(7, 2),
    claim_gift(user_id=ALICE),
    claim_gift(user_id=BOB),
    claim_gift(user_id=CAROL),
    claim_code(user_id=BOB),
    claim_code(user_id=ALICE),
    open_wallet("dan", referral_code="k1"),
    open_wallet("eve", referral_code="unknown"),
)


class MortalLog(WatchedLog):
    """The process dies at append number ``dies_at``, before the append lands or after it."""

    def __init__(self, appended: Appended) -> None:
        super().__init__(PARTITIONS, appended, shared=True)
        self.dies_at, self.lands = -1, False
        self.dead = asyncio.Event()

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        self.dies_at -= 1
        if self.dies_at == 0:
            if self.lands:
                await super().append(partition, after, records)
            self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()
        await super().append(partition, after, records)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)


class Scenario:
    """One node owns the partition of Alice and Carol, the other that of Bob. When one dies the other owns both, until
    the dead one is started again."""

    def __init__(self, dies: str, dies_at: int, *, lands: bool) -> None:
        assert partition_of(ALICE, PARTITIONS) != partition_of(BOB, PARTITIONS)
        self.cluster = Cluster(PARTITIONS, new_log=MortalLog)
        self.shares = {ALICES: {partition_of(ALICE, PARTITIONS)}, BOBS: {partition_of(BOB, PARTITIONS)}}
        self.dies, self.dies_at, self.lands = dies, dies_at, lands
        self.died = False

    async def play(self) -> bool:
        """Post all commands. Returns whether the node died before the last one was decided."""
        for name in (ALICES, BOBS):
            await self.cluster.node(name)
        log = self.cluster.worlds[self.dies].log
        assert isinstance(log, MortalLog)
        log.dies_at, log.lands = self.dies_at, self.lands
        restarting = asyncio.create_task(self._restart(log))
        await self.cluster.give(a=self.shares[ALICES], b=self.shares[BOBS])
        for command in SCENARIO:
            while True:
                world = self.cluster.owner_of(command.user_id)
                node, posting = world.node, asyncio.create_task(world.post(command))
                while not posting.done():
                    await asyncio.wait({posting}, timeout=0.01)
                    if log.dead.is_set():
                        await restarting
                    if world.node is not node:  # the node of this request is dead
                        posting.cancel()
                        break
                response = posting.result() if posting.done() else None
                if isinstance(response, Accepted):
                    break
                await asyncio.sleep(0.002)
            await self._rest()
        restarting.cancel()
        return self.died

    async def _restart(self, log: MortalLog) -> None:
        await log.dead.wait()
        await self.cluster.crash_one(self.dies)
        survivor = BOBS if self.dies == ALICES else ALICES
        both: set[int] = set(range(PARTITIONS))
        await (self.cluster.give(a=both) if survivor == ALICES else self.cluster.give(b=both))
        await self.cluster.settled()
        await self.cluster.node(self.dies)
        await self.cluster.give(a=self.shares[ALICES], b=self.shares[BOBS])
        self.died = True

    async def _rest(self) -> None:
        async with asyncio.timeout(60):
            while True:
                worlds = self.cluster.worlds.values()
                under_way = any(world.open_follow_ups() for world in worlds)
                ready = all(world.node.ready for world in worlds)
                log = self.cluster.worlds[self.dies].log
                assert isinstance(log, MortalLog)
                if ready and not under_way and not log.dead.is_set():
                    return
                await asyncio.sleep(0.002)

    async def assert_played(self) -> None:
        world = self.cluster.worlds[ALICES]
        commands = Counter((event.user_id, event.command_id) for event in world.events())
        assert max(commands.values()) == 1
        types = Counter(world.types())
        del types["writer_opened"]
        assert types == {
            "wallet_opened": 5,
            "referral_counted": 5,
            "deposited": 1,
            "transfer_sent": 3,
            "transfer_received": 2,
            "transfer_refused": 1,
            "transfer_delivered": 2,
            "transfer_returned": 1,
            "gift_created": 1,
            "gift_claimed": 3,
            "gift_share_granted": 2,
            "gift_share_refused": 1,
            "gift_received": 2,
            "gift_refused": 1,
            "referral_code_claimed": 2,
            "referral_code_granted": 2,
            "referral_code_refused": 2,
            "referral_resolved": 1,
            "referral_unknown": 1,
            "referrer_set": 1,
        }
        cash = [await self.cluster.owner_of(user_id).cash(user_id) for user_id in (ALICE, BOB, CAROL)]
        assert cash == [900, 80, 20]
        assert world.total("transit/") == 0
        assert world.total("house/gifts") == -7
        assert {partition_of(name, PARTITIONS) for name in ("gift:g1", "code:k1")} == {0, 1}


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("dies", [ALICES, BOBS])
@pytest.mark.system
async def test_follow_ups_take_effect_once_although_a_node_dies_at_any_append(dies: str, lands: bool) -> None:
    deaths = 0
    for dies_at in range(1, 20):
        scenario = Scenario(dies, dies_at, lands=lands)
        deaths += await scenario.play()
        await scenario.assert_played()
        await scenario.cluster.crash()
    assert deaths >= 7, "the scenario has more appends than that"
