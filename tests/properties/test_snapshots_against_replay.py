"""A state that is loaded from a snapshot equals the state that is replayed from the log, in every key.

One run is one seed: a random day (``busy_days``) over two partitions. Snapshots are written between its steps. Some
writes are killed, so the store has broken snapshots, too. Then a new node loads the snapshots.
"""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from cases import first
from ledger.core.events import Event
from ledger.core.record import decode
from ledger.core.state_values import Value
from ledger.errors import LedgerError, LogUnavailable
from ledger.memory.snapshots import MemorySnapshotStore
from ledger.memory.state_store import MemoryStateStore
from ledger.ports import StateStore
from ledger.snapshots.snapshots import Snapshots
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted
from ledger.writer.writer import Writer
from properties.busy_days import Step, Wait, busy_day
from properties.scenarios import Post
from properties.witness import Asked
from unit.given import ASSETS
from unit.node_in_memory import World

PARTITIONS: Final = 2
"""The wallets of u1 and u3 are in one partition, that of u2 is in the other."""

Content = list[dict[str, Value]]


class Day:
    """A node in memory, and the accepted requests with their responses."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.accepted: list[tuple[Asked, Accepted]] = []
        self._posted = 0

    def _events(self) -> list[tuple[str, Event]]:
        found = []
        for partition, records in enumerate(self.world.appended.records):
            for seq, record in enumerate(records, start=1):
                found.append((f"{partition}:{seq}", decode(record).event))
        return sorted(found, key=lambda at: at[1].time_us)

    async def live(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Wait):
                self.world.clock.now_us += step.us
            elif isinstance(step, Post):
                self._posted += 1
                request = Asked(
                    step.command(f"c-{self._posted}", self.world.clock.now_us, self._events()), step.actor
                )
                response = await self.world.node.post(request.command, request.request_sha256, request.actor)
                if isinstance(response, Accepted):
                    self.accepted.append((request, response))
            if self.chance.random() < 0.1:
                await self.world.save()
        await asyncio.sleep(0.11)  # a writer reads the clock at least every 0.1 s
        await self.world.quiet()
        await self.world.save()

    async def snapshot(self, snapshot_store: MemorySnapshotStore, partition: int) -> bool:
        """Write a snapshot, or be killed. Returns whether the snapshot was finished."""
        snapshots = Snapshots(
            self.world.new_log(),
            self.world.store,
            snapshot_store,
            chunk_values=self.chance.choice((1, 3, 10, 100)),
            duty=1.0,
        )
        if self.chance.random() < 0.3:
            snapshot_store.fail_next.extend([None] * self.chance.randrange(12) + [LogUnavailable("killed")])
        try:
            return await snapshots.write(partition) is not None
        except LogUnavailable:
            return False
        finally:
            snapshot_store.fail_next.clear()


def content(store: StateStore) -> Content:
    return [dict(store.scan(partition, "", "\U0010ffff", 1_000_000)) for partition in range(PARTITIONS)]


def _nowhere(*_: object) -> None:
    raise AssertionError("nothing is delivered before the start")


def _halted(_: int, error: LedgerError) -> None:
    raise error


Arrived = Sequence[tuple[int, int]]
"""(partition, seq) of each event whose follow-up has arrived."""


async def recovered(world: World, store: StateStore, arrived: Arrived = ()) -> tuple[Content, int, Arrived]:
    """Recover every partition and save it. Returns the content of ``store``, how many records were replayed, and the
    arrivals among them. ``arrived``: before these records; the follow-ups would be delivered again, and be closed."""
    log = world.new_log()
    writers = [
        Writer(partition, log, store, world.clock, ASSETS, deliver=_nowhere, announce=lambda *_: None, halted=_halted)
        for partition in range(PARTITIONS)
    ]
    replayed = 0
    for writer in writers:
        replayed += await writer.recover(save_every=1_000)
    found = [arrival for writer in writers for arrival in writer.arrivals.take()]
    for partition, seq in (*arrived, *found):
        writers[partition].state.close_follow_up(seq)
    for writer in writers:
        await writer.store_writes.save()
        assert store.checkpoint(writer.partition) == writer.head
    return content(store), replayed, found


@pytest.mark.parametrize("seed", first(4, range(20)))
async def test_a_state_from_a_snapshot_equals_the_state_replayed_from_the_log(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    world = await World(PARTITIONS, shared=True, generation=1).start()
    day = Day(world, chance)
    snapshot_store = MemorySnapshotStore()
    steps = busy_day(seed)
    at = sorted(chance.randrange(len(steps) + 1) for _ in range(3))
    finished = [0] * PARTITIONS
    for begin, end in zip([0, *at], [*at, len(steps)], strict=True):
        await day.live(steps[begin:end])
        if end == len(steps):
            break
        for partition in range(PARTITIONS):
            before = world.store.checkpoint(partition)
            if await day.snapshot(snapshot_store, partition) and before is not None:
                finished[partition] = before.seq
            if chance.random() < 0.5:
                snapshot_store.compact(partition)

    store: StateStore = MemoryStateStore() if chance.random() < 0.5 else SqliteStateStore(tmp_path / "fresh.sqlite3")
    snapshots = Snapshots(world.new_log(), store, snapshot_store)
    for partition in range(PARTITIONS):
        await snapshots.prepare(partition)
        loaded = store.checkpoint(partition)
        # A snapshot whose writer was killed while it deleted older ones is complete, so a newer one may be loaded.
        assert (0 if loaded is None else loaded.seq) >= finished[partition]
    by_log, records, arrived = await recovered(world, MemoryStateStore())
    by_snapshot, replayed, _ = await recovered(world, store, arrived)
    assert by_snapshot == by_log
    assert replayed <= records - sum(finished)
    assert content(world.store) == by_log

    await world.crash()
    next_owner = World(PARTITIONS, store, shared=True, generation=2)
    next_owner.appended, next_owner.clock = world.appended, world.clock
    await next_owner.start()
    for request, response in day.accepted:
        again = await next_owner.node.post(request.command, request.request_sha256, request.actor)
        assert isinstance(again, Accepted)
        assert (again.position, again.head, again.event, again.hit) == (
            response.position,
            response.head,
            response.event,
            True,
        )
    await next_owner.assert_true_of_the_log()
    await next_owner.stop()
