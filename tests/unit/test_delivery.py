"""Whatever a consumer group delivers, the tables equal those that are folded from the events alone."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from cases import first
from ledger.core.events import Event
from ledger.core.games.tables import PayTable
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, decode, encode, sha256_hex
from ledger.errors import LogDamaged, LogUnavailable
from ledger.sqlite.folder import READ_MODEL
from projections.models import FOLDS, VERSION
from projections.projecting import partition as folding
from projections.projecting.delivery import DeliveredRecord, DeliveryProjector
from projections.storage.port import ReadModelAhead
from projections.storage.sqlite import SqliteReadModelStore
from projections.tables.row_buffer import RowBuffer
from properties.reads_scenario import Scenario, make_scenario
from system.kafka_read_side import fork_of
from unit.folded import Tables, from_scratch, live_tables


class TopicInMemory:
    """``PlacedLogReader`` over lists of values: an offset is an index, and the chain rule says which values are
    events."""

    def __init__(self, values: Sequence[Sequence[bytes]]) -> None:
        self.values = values
        self.partitions = len(values)
        self.reads = 0
        self.failing_reads = 0
        """How many reads will fail."""

    def _events(self, partition: int) -> list[tuple[int, bytes]]:
        self.reads += 1
        if self.failing_reads:
            self.failing_reads -= 1
            raise LogUnavailable("the topic is unavailable")
        found: list[tuple[int, bytes]] = []
        head = EMPTY
        for offset, value in enumerate(self.values[partition]):
            if not value.startswith(b'{"v"'):
                continue
            place, prev, _ = decode(value)
            if (place.seq, prev) == (head.seq + 1, head.sha256):
                head = Head(place.seq, sha256_hex(value))
                found.append((offset, value))
        return found

    def changed(self) -> bool:
        return True

    def ends(self) -> list[int]:
        return [len(self._events(partition)) for partition in range(self.partitions)]

    def end_offsets(self) -> list[int]:
        return [len(values) for values in self.values]

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        return [value for _, value in self._events(partition)[from_seq - 1 : from_seq - 1 + limit]]

    def contains(self, partition: int, head: Head) -> bool:
        return self.offset_behind(partition, head) is not None

    def offset_behind(self, partition: int, head: Head) -> int | None:
        if head.seq == 0:
            return 0
        for offset, value in self._events(partition)[head.seq - 1 : head.seq]:
            if sha256_hex(value) == head.sha256:
                return offset + 1
        return None

    def tables(self) -> dict[str, PayTable]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(17, commands=220, partitions=3)


@pytest.fixture(scope="module")
def expected(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return asyncio.run(from_scratch(tmp_path_factory.mktemp("scratch"), scenario.partitions))


def as_topic(events: Sequence[bytes], chance: Random) -> list[bytes]:
    """The events mixed with forks, old records, and bytes that are no record."""
    values: list[bytes] = []
    for number, event in enumerate(events):
        while chance.random() < 0.1:
            values.append(chance.choice([b"", b"no record", b"{}", events[chance.randrange(number + 1)]]))
            if values[-1] == event:
                values.pop()
        values.append(event)
        if chance.random() < 0.1:
            values.append(fork_of(event))
    return values


class Table:
    """A topic, a read model in a file, and the projectors that fold into it."""

    def __init__(self, path: Path, values: Sequence[Sequence[bytes]]) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.topic = TopicInMemory(values)
        self.stop = asyncio.Event()
        self._stores: list[SqliteReadModelStore] = []

    def projector(self) -> DeliveryProjector:
        store = SqliteReadModelStore(self.path / READ_MODEL)
        self._stores.append(store)
        return DeliveryProjector(self.topic, store, self.stop)

    def delivered(self, partition: int, first: int, end: int) -> dict[int, list[DeliveredRecord]]:
        values = self.topic.values[partition][first:end]
        return {partition: [DeliveredRecord(offset, value) for offset, value in enumerate(values, first)]}

    def everything(self) -> dict[int, list[DeliveredRecord]]:
        ends = self.topic.end_offsets()
        return {one: self.delivered(one, 0, end)[one] for one, end in enumerate(ends) if end}

    async def tables(self) -> Tables:
        for store in self._stores:
            await store.close()
        return await live_tables(self.path, self.topic.partitions)


def plain(path: Path, scenario: Scenario) -> Table:
    return Table(path, scenario.partitions)


@pytest.mark.parametrize("seed", first(3, range(12)))
async def test_any_delivery_to_any_number_of_workers_makes_the_same_tables(
    tmp_path: Path, scenario: Scenario, expected: Tables, seed: int
) -> None:
    chance = Random(seed)
    table = Table(tmp_path / "data", [as_topic(events, chance) for events in scenario.partitions])
    projectors = [table.projector() for _ in range(1 + seed % 3)]
    ends = table.topic.end_offsets()
    for _ in range(60):
        delivered: dict[int, list[DeliveredRecord]] = {}
        for partition in chance.sample(range(len(ends)), chance.randint(1, len(ends))):
            first = chance.randrange(ends[partition])  # behind, beside or beyond what is folded
            some = table.delivered(partition, first, first + chance.randint(1, 40))[partition]
            if chance.random() < 0.2:
                del some[len(some) // 2]
            if some:
                delivered[partition] = some
        if chance.random() < 0.1:
            table.topic.failing_reads = chance.randint(1, 3)
        await chance.choice(projectors).take(delivered)
    await projectors[0].catch_up(dict(enumerate(ends)))
    assert await table.tables() == expected


async def test_reading_ends_at_forks_after_the_last_event(
    tmp_path: Path, scenario: Scenario, expected: Tables
) -> None:
    table = Table(tmp_path / "data", [[*events, *map(fork_of, events[-3:]), b"?"] for events in scenario.partitions])
    projector = table.projector()
    await projector.take(table.everything())
    ends = table.topic.end_offsets()
    for partition, end in enumerate(ends):
        await projector.take(table.delivered(partition, end - 1, end))
    reader = table.projector()
    await reader.catch_up(dict(enumerate(ends)))
    for one in (projector, reader):
        assert [one.progress_of[partition].next_offset for partition in range(3)] == ends
    assert await table.tables() == expected


async def test_a_gap_inside_a_batch_is_filled(tmp_path: Path, scenario: Scenario) -> None:
    table = plain(tmp_path / "data", scenario)
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    batch = table.delivered(partition, 0, 10)[partition]
    projector = table.projector()
    await projector.take({partition: [*batch[:4], *batch[6:]]})
    assert projector.progress_of[partition].seq >= 10
    assert projector.counts.gaps == 1


async def test_an_overtaken_projector_returns_once_its_batch_is_in_the_tables(
    tmp_path: Path, scenario: Scenario
) -> None:
    table = plain(tmp_path / "data", scenario)
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    one, other = table.projector(), table.projector()
    await one.take(table.delivered(partition, 0, 5))
    await other.take(table.delivered(partition, 5, 7))
    await one.take(table.delivered(partition, 5, 9))
    assert one.counts.overtaken == 1
    assert (await table.tables())[partition][0].head.seq == 9


async def test_records_delivered_again_are_counted_and_cost_no_read_of_the_topic(
    tmp_path: Path, scenario: Scenario
) -> None:
    table = plain(tmp_path / "data", scenario)
    projector = table.projector()
    await projector.take(table.everything())
    reads, events = table.topic.reads, projector.counts.events
    assert events == sum(map(len, scenario.partitions))
    await projector.take(table.everything())
    assert (table.topic.reads, projector.counts.events, projector.counts.skipped) == (reads, events, events)


async def test_a_checkpoint_that_is_not_in_the_topic_ends_the_projector(tmp_path: Path, scenario: Scenario) -> None:
    table = plain(tmp_path / "data", scenario)
    await table.projector().take(table.everything())
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    table.topic.values = [events[: len(events) // 2] for events in scenario.partitions]
    with pytest.raises(ReadModelAhead, match=f"partition {partition}.*got shorter"):
        await table.projector().take(table.delivered(partition, 0, 1))


async def test_a_record_that_does_not_continue_the_chain_is_never_skipped_in_a_gap(
    tmp_path: Path, scenario: Scenario
) -> None:
    """The log returns a record that does not continue the chain. No later record can repair that."""
    table = plain(tmp_path / "data", scenario)
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    table.topic.read = lambda *_: scenario.partitions[partition][2:3]  # type: ignore[method-assign]
    with pytest.raises(LogDamaged, match=f"partition {partition}, seq 1"):
        await table.projector().take(table.delivered(partition, 5, 6))


async def test_a_stop_ends_a_wait(tmp_path: Path, scenario: Scenario) -> None:
    table = plain(tmp_path / "data", scenario)
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    await table.projector().take(table.delivered(partition, 0, 5))
    table.topic.failing_reads = 1_000_000
    projector = table.projector()
    taking = asyncio.create_task(projector.take(table.delivered(partition, 0, 9)))
    await waiting(projector)
    table.stop.set()
    await asyncio.wait_for(taking, timeout=5)


async def waiting(projector: DeliveryProjector) -> None:
    async with asyncio.timeout(60):
        while not projector.waiting:  # noqa: ASYNC110 - the projector has no event for it
            await asyncio.sleep(0.01)


async def test_quarantined_users_are_folded_after_the_fix(
    tmp_path: Path, scenario: Scenario, expected: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = plain(tmp_path / "data", scenario)
    partition = max(range(3), key=lambda one: len(scenario.partitions[one]))
    user_id = decode(scenario.partitions[partition][len(scenario.partitions[partition]) // 2]).event.user_id

    def fail(event: Event, place: Position, book: RowBuffer) -> None:
        if event.user_id == user_id:
            raise ValueError("a defective fold")

    with monkeypatch.context() as before:
        before.setattr(folding, "FOLDS", (*FOLDS, fail))
        await table.projector().take(table.everything())
    after = table.projector()
    await after.take(table.delivered(partition, 0, 1))
    assert await table.tables() == expected


async def test_a_generation_of_another_version_of_the_folds_is_not_changed(
    tmp_path: Path, scenario: Scenario
) -> None:
    table = plain(tmp_path / "data", scenario)
    store = SqliteReadModelStore(table.path / READ_MODEL)
    made = await store.make_generation(VERSION + 1, 3, live=True)
    projector = table.projector()
    taking = asyncio.create_task(projector.take(table.everything()))
    await waiting(projector)
    assert [one.head.seq for one in await store.checkpoints(made.number)] == [0, 0, 0]
    table.stop.set()
    await asyncio.wait_for(taking, timeout=5)
    await store.close()


def test_a_fork_is_another_record_at_the_same_position(scenario: Scenario) -> None:
    event = scenario.partitions[0][0] if scenario.partitions[0] else scenario.partitions[1][0]
    (place, prev, _), (other, other_prev, _) = decode(event), decode(fork_of(event))
    assert (place, prev) == (other, other_prev)
    assert encode(decode(event).event, place, prev) == event != fork_of(event)
