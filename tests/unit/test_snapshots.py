"""Snapshots in memory: which one is loaded or skipped, when the next one is due, and when old ones are deleted."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import msgspec
import pytest

from ledger.core.record import Head, sha256_hex
from ledger.core.state_values import Value
from ledger.errors import CheckpointAhead, ForeignCheckpoint, LogUnavailable
from ledger.memory.log import Appended, MemoryEventLog
from ledger.memory.snapshots import MemorySnapshotStore
from ledger.memory.state_store import MemoryStateStore
from ledger.ports import Page, SnapshotRecord
from ledger.snapshots.format import Digest, Marker, decode_marker, encode_marker, name_of, new_snapshot, pack
from ledger.snapshots.snapshots import Snapshots
from unit.given import deposit, open_wallet, place_bet
from unit.node_in_memory import World

Content = dict[int, list[tuple[str, Value]]]


Records = list[SnapshotRecord]


class SnapshotsInMemory:
    """A node, and the store of its snapshots."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = MemorySnapshotStore()
        self.made = 0
        self.contents: dict[Head, Content] = {}

    async def append_events(self, bets: int = 5) -> Head:
        """Append some events and save them in the local checkpoint. Returns its head."""
        for _ in range(bets):
            self.made += 1
            await self.world.given(deposit(10, f"o{self.made}"))
        await self.world.save()
        return self.world.writer.head

    def snapshots_of(
        self, store: MemoryStateStore | None = None, *, events_min: int = 1, chunk_values: int = 3
    ) -> Snapshots:
        """The snapshots of a node with the state store ``store``; by default the node's own."""
        states = self.world.store if store is None else store
        log = self.world.new_log()
        return Snapshots(log, states, self.store, events_min=events_min, chunk_values=chunk_values, duty=1.0)

    def first_head(self) -> Head:
        return Head(1, sha256_hex(self.world.appended.records[0][0]))

    async def snapshot(self) -> Head:
        at = await self.append_events()
        await self.snapshots_of().write(0)
        return at

    async def loaded(self) -> Head | None:
        """Load a snapshot on a node without a state. Returns the head of the state, None without one."""
        store = MemoryStateStore()
        await self.snapshots_of(store).prepare(0)
        at = store.checkpoint(0)
        if at is not None:
            assert content(store) == self.contents[at]
        return at

    def remember(self) -> None:
        self.contents[self.world.writer.head] = content(self.world.store)

    def records(self, suffix: str = "") -> Records:
        """The records in the store that are not deleted and whose keys end with ``suffix``."""
        last = {record.key: record for record in self.store.records.get(0, [])}
        return [record for record in last.values() if record.value and record.key.endswith(suffix)]

    def snapshot_at(self, at: Head) -> Records:
        """Its chunks in order, and its marker."""
        return [record for record in self.records() if record.key.split("/")[1].startswith(f"{at.seq:016d}")]

    def change(self, record: SnapshotRecord, value: bytes) -> None:
        records = self.store.records[0]
        records[records.index(record)] = record._replace(value=value)


def content(store: object) -> Content:
    assert isinstance(store, MemoryStateStore)
    return {partition: store.scan(partition, "", "\U0010ffff", 100_000) for partition in range(2)}


@pytest.fixture
async def memory() -> AsyncIterator[SnapshotsInMemory]:
    world = await World(shared=True, generation=1).start()
    await world.given(open_wallet())
    memory = SnapshotsInMemory(world)
    yield memory
    await world.crash()


@pytest.fixture
async def two(memory: SnapshotsInMemory) -> tuple[SnapshotsInMemory, Head, Head]:
    """Two snapshots; the older one is not deleted yet."""
    return memory, *(await two_of(memory))


async def two_of(memory: SnapshotsInMemory) -> tuple[Head, Head]:
    first = await memory.snapshot()
    memory.remember()
    before = list(memory.store.records[0])
    second = await memory.snapshot()
    memory.remember()
    after = memory.store.records[0][len(before) :]
    memory.store.records[0] = before + [record for record in after if record.value]
    assert await memory.loaded() == second
    return first, second


# --- loading -------------------------------------------------------------------------------------------------------


async def test_without_a_snapshot_there_is_nothing_to_load(memory: SnapshotsInMemory) -> None:
    store = MemoryStateStore()
    await memory.snapshots_of(store).prepare(0)
    assert store.checkpoint(0) is None


async def test_the_newest_snapshot_is_the_state_as_it_was_saved(memory: SnapshotsInMemory) -> None:
    await two_of(memory)


async def test_a_snapshot_has_the_highest_generation_and_every_id(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    memory, _, _ = two
    store = MemoryStateStore()
    await memory.snapshots_of(store).prepare(0)
    assert store.get(0, ["!w"]) == {"!w": 1}
    assert len(store.scan(0, "u1 c:", "u1 c;", 1_000)) == memory.made + 1


async def test_a_local_state_that_is_newer_stays(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    memory, _, _ = two
    further = await memory.append_events()
    store = memory.world.store
    before = content(store)
    await memory.snapshots_of().prepare(0)
    assert (store.checkpoint(0), content(store)) == (further, before)


async def test_a_local_state_that_is_behind_is_replaced_as_a_whole(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    memory, _, second = two
    store = MemoryStateStore()
    store.save(0, {"u9": 1, "u1": 2}, memory.first_head())
    await memory.snapshots_of(store).prepare(0)
    assert store.checkpoint(0) == second
    assert content(store) == memory.contents[second]


# --- broken snapshots -------------------------------------------------------------------------------------------


Break = Callable[[SnapshotsInMemory, Records, SnapshotRecord], None]
"""(snapshots, the chunks of the newest one in order, its marker)"""


def _marker(record: SnapshotRecord) -> Marker:
    name = name_of(record.key, 0)
    assert name is not None
    return decode_marker(record.value, name.snapshot)


def _with(**changes: object) -> Break:
    def change(memory: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
        memory.change(marker, encode_marker(msgspec.structs.replace(_marker(marker), **changes)))

    return change


def _a_byte_of_a_chunk(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    value = bytearray(chunks[1].value)
    value[len(value) // 2] ^= 1
    memory.change(chunks[1], bytes(value))


def _a_chunk_is_another_chunk(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    memory.change(chunks[1], chunks[0].value)


def _two_chunks_change_places(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    memory.change(chunks[0], chunks[1].value)
    memory.change(chunks[1], chunks[0].value)


def _a_chunk_never_came(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    memory.store.records[0].remove(chunks[1])


def _the_last_chunk_never_came(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    memory.store.records[0].remove(chunks[-1])


def _a_chunk_was_deleted(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    records = memory.store.records[0]
    records.append(SnapshotRecord(records[-1].offset + 1, chunks[1].key, b""))


def _a_chunk_came_twice_and_differs(memory: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    records = memory.store.records[0]
    records.append(SnapshotRecord(records[-1].offset + 1, chunks[1].key, pack(b"a\n1")))


def _no_marker(memory: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
    memory.store.records[0].remove(marker)


def _half_a_marker(memory: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
    memory.change(marker, marker.value[:-1])


def _another_number_of_values(memory: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    memory.change(marker, encode_marker(msgspec.structs.replace(_marker(marker), values=_marker(marker).values + 1)))


def _chunks_that_cannot_be_inflated(memory: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    _with_the_right_digest(memory, chunks, marker, b"no deflated bytes")


def _chunks_that_are_not_pairs(memory: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    _with_the_right_digest(memory, chunks, marker, pack(b"a\n1\nb"))


def _with_the_right_digest(memory: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord, last: bytes) -> None:
    memory.change(chunks[-1], last)
    digest = Digest()
    for chunk in (*chunks[:-1], chunks[-1]._replace(value=last)):
        digest.add(chunk.value)
    was = _marker(marker)
    closed = digest.closed(0, was.head, was.place)
    memory.change(marker, encode_marker(msgspec.structs.replace(was, digest=closed)))


def _a_foreign_head(memory: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    was = _marker(marker)
    digest = Digest()
    for chunk in chunks:
        digest.add(chunk.value)
    head = Head(was.seq, "f" * 64)
    changed = msgspec.structs.replace(was, sha256=head.sha256, digest=digest.closed(0, head, was.place))
    memory.change(marker, encode_marker(changed))


BROKEN: dict[str, Break] = {
    "a byte of a chunk is changed": _a_byte_of_a_chunk,
    "a chunk is another chunk": _a_chunk_is_another_chunk,
    "two chunks changed places": _two_chunks_change_places,
    "a chunk never came": _a_chunk_never_came,
    "the last chunk never came": _the_last_chunk_never_came,
    "a chunk was deleted": _a_chunk_was_deleted,
    "a chunk came twice": _a_chunk_came_twice_and_differs,
    "no marker": _no_marker,
    "half a marker": _half_a_marker,
    "a digest": _with(digest="0" * 64),
    "a place that was changed": _with(place=b"elsewhere"),
    "a head that was changed": _with(sha256="e" * 64),
    "fewer chunks": _with(chunks=1),
    "more chunks": _with(chunks=99),
    "more values": _another_number_of_values,
    "of another version": _with(v=2),
    "of another format of values": _with(values_format=99),
    "of another partition": _with(partition=1),
    "of another number of partitions": _with(partitions=2),
    "of another seq": _with(seq=1),
    "not deflated": _chunks_that_cannot_be_inflated,
    "not pairs": _chunks_that_are_not_pairs,
    "a foreign head": _a_foreign_head,
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_snapshot_is_skipped_and_the_one_before_it_is_loaded(
    two: tuple[SnapshotsInMemory, Head, Head], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory, first, second = two
    newest = memory.snapshot_at(second)
    BROKEN[how](memory, newest[:-1], newest[-1])
    with caplog.at_level(logging.WARNING):
        assert await memory.loaded() == first
    if how != "no marker":
        assert "is skipped" in caplog.text


@pytest.mark.parametrize(
    "how", ["a byte of a chunk is changed", "a chunk is another chunk", "a chunk never came", "a chunk was deleted"]
)
async def test_a_chunk_that_breaks_after_the_catalogue_was_read_is_found(
    two: tuple[SnapshotsInMemory, Head, Head], how: str
) -> None:
    memory, first, second = two
    store = MemoryStateStore()
    late = memory.snapshots_of(store)
    await late._update_catalogue(0)
    newest = memory.snapshot_at(second)
    BROKEN[how](memory, newest[:-1], newest[-1])
    await late.prepare(0)
    assert (store.checkpoint(0), content(store)) == (first, memory.contents[first])


async def test_with_broken_snapshots_only_the_log_is_replayed(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    memory, _, _ = two
    for marker in memory.records("/end"):
        _with(digest="0" * 64)(memory, [], marker)
    assert await memory.loaded() is None


async def test_a_snapshot_that_breaks_during_the_load_leaves_no_partial_state(
    two: tuple[SnapshotsInMemory, Head, Head],
) -> None:
    memory, first, second = two
    store = MemoryStateStore()
    store.save(0, {"u9": 1}, memory.first_head())
    newest = memory.snapshot_at(second)
    _chunks_that_cannot_be_inflated(memory, newest[:-1], newest[-1])
    await memory.snapshots_of(store).prepare(0)
    assert store.checkpoint(0) == first
    assert content(store) == memory.contents[first]


# --- disasters -----------------------------------------------------------------------------------------------------


async def test_a_local_state_that_is_not_on_the_log_is_reported_and_not_replaced(
    two: tuple[SnapshotsInMemory, Head, Head],
) -> None:
    memory, _, second = two
    for at, error in ((Head(2, "e" * 64), ForeignCheckpoint), (Head(second.seq + 1, "e" * 64), CheckpointAhead)):
        store = MemoryStateStore()
        store.save(0, {"u9": 1}, at)
        with pytest.raises(error):
            await memory.snapshots_of(store).prepare(0)
        assert (store.checkpoint(0), store.get(0, ["u9"])) == (at, {"u9": 1})


async def test_a_snapshot_that_is_ahead_of_the_log_is_a_disaster(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    memory, first, _ = two
    shorter = Appended(1)
    shorter.records[0] = memory.world.appended.records[0][: first.seq]
    shorter.heads[0] = first
    store = MemoryStateStore()
    late = Snapshots(MemoryEventLog(1, shorter, shared=True), store, memory.store)
    with pytest.raises(CheckpointAhead, match="the log got shorter"):
        await late.prepare(0)
    assert store.checkpoint(0) is None


# --- when one is due, and what is deleted --------------------------------------------------------------------------


async def test_a_snapshot_is_due_after_events_min_events_and_later_after_a_share_of_its_values(
    memory: SnapshotsInMemory,
) -> None:
    snapshots = memory.snapshots_of(events_min=10)
    await memory.append_events(7)  # the fixture has two more
    assert not await snapshots.snapshot_if_due(0)
    await memory.append_events(1)
    assert await snapshots.snapshot_if_due(0)
    assert not await snapshots.snapshot_if_due(0)
    values = _marker(memory.records("/end")[0]).values
    assert values > 20
    await memory.append_events(values // 2 - 1)
    assert not await snapshots.snapshot_if_due(0)
    await memory.append_events(1)
    assert await snapshots.snapshot_if_due(0)


async def test_a_snapshot_that_another_node_wrote_is_not_written_again(memory: SnapshotsInMemory) -> None:
    snapshots, others = memory.snapshots_of(events_min=5), memory.snapshots_of(events_min=5)
    await memory.append_events(10)
    assert await snapshots.snapshot_if_due(0)
    assert not await others.snapshot_if_due(0)


async def test_a_node_without_a_state_writes_no_snapshot(memory: SnapshotsInMemory) -> None:
    snapshots = memory.snapshots_of(MemoryStateStore())
    assert not await snapshots.write(0)
    assert not await snapshots.snapshot_if_due(0)
    assert memory.records() == []


async def test_the_snapshot_before_is_deleted_only_after_the_marker(memory: SnapshotsInMemory) -> None:
    await memory.snapshot()
    first = {record.key for record in memory.records()}
    await memory.snapshot()
    appended = memory.store.records[0]
    deleted = [number for number, record in enumerate(appended) if not record.value]
    markers = [number for number, record in enumerate(appended) if record.key.endswith("/end") and record.value]
    assert min(deleted) > markers[1]
    assert {appended[number].key for number in deleted} == first
    assert appended[deleted[0]].key.endswith("/end"), (
        "the marker is deleted first: without it the chunks do not count"
    )
    assert first.isdisjoint(record.key for record in memory.records())


async def test_an_incomplete_snapshot_of_another_node_is_not_deleted(memory: SnapshotsInMemory) -> None:
    """An incomplete snapshot is deleted once the one before the newest is newer than it."""
    at = await memory.append_events()
    half = new_snapshot(at.seq)
    await memory.store.append(0, [(f"0/{half}/0", pack(b"a\n1"))])
    halves = [record.key for record in memory.records()]
    await memory.snapshot()
    assert set(halves) <= {record.key for record in memory.records()}
    await memory.snapshot()
    assert set(halves).isdisjoint(record.key for record in memory.records())
    assert len(memory.records("/end")) == 1


async def test_two_nodes_may_write_at_once_and_the_newest_snapshot_is_loaded(
    memory: SnapshotsInMemory,
) -> None:
    at = await memory.append_events()
    memory.remember()
    stale = MemoryStateStore()
    copy = memory.world.store.copy(0)
    assert copy is not None
    found = copy.page("", 1_000, 10**6)
    assert found is not None
    stale.replace(0, [found[0]], at, None)
    newest = await memory.append_events()
    memory.remember()
    await asyncio.gather(
        memory.snapshots_of().write(0), memory.snapshots_of(stale).write(0), memory.snapshots_of().write(0)
    )
    assert await memory.loaded() == newest


async def test_keys_that_belong_to_no_snapshot_are_ignored(memory: SnapshotsInMemory) -> None:
    strange = ["", "x", "0/1/2", "0/0000000000000007-/0", "0/0000000000000007-a/b", "1/0000000000000007-a/0", "0//"]
    await memory.store.append(0, [(key, b"x") for key in strange])
    at = await memory.snapshot()
    memory.remember()
    assert await memory.loaded() == at
    assert set(strange) <= {record.key for record in memory.records()}


# --- killed at any moment -----------------------------------------------------------------------------------------


async def test_a_kill_after_any_append_leaves_the_old_or_the_new_snapshot(
    memory: SnapshotsInMemory,
) -> None:
    latest = await memory.snapshot()
    memory.remember()
    for survives in range(60):
        at = await memory.append_events(1)
        memory.remember()
        appended = len(memory.store.records[0])
        memory.store.fail_next.extend([None] * survives + [LogUnavailable("killed")])
        try:
            await memory.snapshots_of(chunk_values=20).write(0)
            ended = True
        except LogUnavailable:
            ended = False
        whole = any(record.key.endswith("/end") and record.value for record in memory.store.records[0][appended:])
        latest = at if whole else latest
        assert await memory.loaded() == latest, survives
        if random.Random(survives).random() < 0.5:
            memory.store.compact(0)
            assert await memory.loaded() == latest, survives
        memory.store.fail_next.clear()
        if ended:
            break
    assert ended, "every write was killed before its end"
    assert survives > 4


async def test_an_error_is_a_warning_and_the_snapshot_is_tried_again_later(
    memory: SnapshotsInMemory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory.append_events()
    snapshots = memory.snapshots_of()
    memory.store.fail_next.append(LogUnavailable("no broker"))
    assert not await snapshots.snapshot_if_due(0)
    assert "no broker" in caplog.text
    assert not await snapshots.snapshot_if_due(0), "it is not tried again at once"
    monkeypatch.setattr("time.monotonic", lambda: snapshots._not_before_s + 1)
    assert await snapshots.snapshot_if_due(0)


class SlowLoads(MemoryStateStore):
    """Sets ``reached`` at page number ``pages``, and stores that page slowly."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.at_work = False
        self._pages, self._loop = pages, asyncio.get_running_loop()

    def replace(self, partition: int, pages: Iterable[Page], at: Head, place: bytes | None) -> None:
        def slowly() -> Iterator[Page]:
            for number, page in enumerate(pages):
                if number == self._pages:
                    self._loop.call_soon_threadsafe(self.reached.set)
                    time.sleep(0.02)  # so that the cancellation arrives before the end
                yield page

        self.at_work = True
        try:
            super().replace(partition, slowly(), at, place)
        finally:
            self.at_work = False


@pytest.mark.parametrize("pages", [0, 1, 3])
async def test_a_load_that_is_cancelled_leaves_no_state_and_the_next_one_loads(
    two: tuple[SnapshotsInMemory, Head, Head], pages: int
) -> None:
    memory, _, second = two
    store = SlowLoads(pages)
    snapshots = memory.snapshots_of(store)
    loading = asyncio.create_task(snapshots.prepare(0))
    await asyncio.wait_for(store.reached.wait(), 10)
    loading.cancel()
    await asyncio.wait([loading])
    assert loading.cancelled()
    assert not store.at_work, "otherwise its thread would work during the next load"
    assert (store.checkpoint(0), content(store)[0]) == (None, [])
    await snapshots.prepare(0)
    assert store.checkpoint(0) == second
    assert content(store) == memory.contents[second]


async def test_due_snapshots_are_written_until_the_task_is_cancelled(memory: SnapshotsInMemory) -> None:
    await memory.append_events()
    await memory.world.given(place_bet(1))
    writing = asyncio.create_task(memory.snapshots_of().write_due(lambda: [0]))
    async with asyncio.timeout(60):
        while not memory.records("/end"):  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0.005)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()


def test_a_marker_has_the_members_that_stored_snapshots_have() -> None:
    stored = (
        b'{"v":1,"values_format":1,"partition":0,"partitions":4,"seq":7,"sha256":"a","place":null,'
        b'"chunks":1,"entries":9,"digest":"d"}'
    )
    marker = Marker(
        v=1, values_format=1, partition=0, partitions=4, seq=7, sha256="a", place=None, chunks=1, values=9, digest="d"
    )
    assert encode_marker(marker) == stored
