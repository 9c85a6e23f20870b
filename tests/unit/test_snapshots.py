"""Snapshots in memory: which one is taken, which is refused, when one is due, and what is deleted when."""

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
    """A node whose state is snapshot, and what stands in the store of snapshots."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept = MemorySnapshotStore()
        self.made = 0
        self.contents: dict[Head, Content] = {}

    async def goes_on(self, bets: int = 5) -> Head:
        """Some more events, all of them in the local checkpoint; answers where that is."""
        for _ in range(bets):
            self.made += 1
            await self.world.given(deposit(10, f"o{self.made}"))
        await self.world.save()
        return self.world.writer.head

    def here(
        self, store: MemoryStateStore | None = None, *, events_min: int = 1, chunk_entries: int = 3
    ) -> Snapshots:
        """Snapshots of a node that has ``store``; of the node itself unless told."""
        states = self.world.store if store is None else store
        log = self.world.new_log()
        return Snapshots(log, states, self.kept, events_min=events_min, chunk_entries=chunk_entries, duty=1.0)

    def first_head(self) -> Head:
        return Head(1, sha256_hex(self.world.appended.records[0][0]))

    async def snapshot(self) -> Head:
        at = await self.goes_on()
        await self.here().write(0)
        return at

    async def loaded(self) -> Head | None:
        """Where a node without any state begins."""
        store = MemoryStateStore()
        await self.here(store).prepare(0)
        at = store.checkpoint(0)
        if at is not None:
            assert content(store) == self.contents[at]
        return at

    def remember(self) -> None:
        self.contents[self.world.writer.head] = content(self.world.store)

    def records(self, what: str = "") -> Records:
        """What is in the store and not deleted, of keys that end so."""
        last = {kept.key: kept for kept in self.kept.kept.get(0, [])}
        return [kept for kept in last.values() if kept.value and kept.key.endswith(what)]

    def snapshot_at(self, at: Head) -> Records:
        """Its chunks in order, and its marker."""
        return [kept for kept in self.records() if kept.key.split("/")[1].startswith(f"{at.seq:016d}")]

    def change(self, kept: SnapshotRecord, value: bytes) -> None:
        records = self.kept.kept[0]
        records[records.index(kept)] = kept._replace(value=value)


def content(store: object) -> Content:
    assert isinstance(store, MemoryStateStore)
    return {partition: store.scan(partition, "", "\U0010ffff", 100_000) for partition in range(2)}


@pytest.fixture
async def shelf() -> AsyncIterator[SnapshotsInMemory]:
    world = await World(shared=True, generation=1).start()
    await world.given(open_wallet())
    shelf = SnapshotsInMemory(world)
    yield shelf
    await world.crash()


@pytest.fixture
async def two(shelf: SnapshotsInMemory) -> tuple[SnapshotsInMemory, Head, Head]:
    """Two snapshots, the older of which has outlived the newer as if its deletion had not come yet."""
    return shelf, *(await two_of(shelf))


async def two_of(shelf: SnapshotsInMemory) -> tuple[Head, Head]:
    first = await shelf.snapshot()
    shelf.remember()
    before = list(shelf.kept.kept[0])
    second = await shelf.snapshot()
    shelf.remember()
    after = shelf.kept.kept[0][len(before) :]
    shelf.kept.kept[0] = before + [kept for kept in after if kept.value]
    assert await shelf.loaded() == second
    return first, second


# --- loading -------------------------------------------------------------------------------------------------------


async def test_without_a_snapshot_there_is_nothing_to_load(shelf: SnapshotsInMemory) -> None:
    store = MemoryStateStore()
    await shelf.here(store).prepare(0)
    assert store.checkpoint(0) is None


async def test_the_newest_snapshot_is_the_state_as_it_was_saved(shelf: SnapshotsInMemory) -> None:
    await two_of(shelf)


async def test_a_snapshot_has_the_highest_generation_and_every_id(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    shelf, _, _ = two
    store = MemoryStateStore()
    await shelf.here(store).prepare(0)
    assert store.get(0, ["!w"]) == {"!w": 1}
    assert len(store.scan(0, "u1 c:", "u1 c;", 1_000)) == shelf.made + 1


async def test_a_local_state_that_is_further_is_kept(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    shelf, _, _ = two
    further = await shelf.goes_on()
    store = shelf.world.store
    before = content(store)
    await shelf.here().prepare(0)
    assert (store.checkpoint(0), content(store)) == (further, before)


async def test_a_local_state_that_is_behind_is_replaced_as_a_whole(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    shelf, _, second = two
    store = MemoryStateStore()
    store.save(0, {"u9": 1, "u1": 2}, shelf.first_head())
    await shelf.here(store).prepare(0)
    assert store.checkpoint(0) == second
    assert content(store) == shelf.contents[second]


# --- what is refused, and the one before it used ----------------------------------------------------------------


Break = Callable[[SnapshotsInMemory, Records, SnapshotRecord], None]
"""(shelf, the newest one's chunks in order, its marker)"""


def _marker(kept: SnapshotRecord) -> Marker:
    name = name_of(kept.key, 0)
    assert name is not None
    return decode_marker(kept.value, name.snapshot)


def _with(**changes: object) -> Break:
    def change(shelf: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
        shelf.change(marker, encode_marker(msgspec.structs.replace(_marker(marker), **changes)))

    return change


def _a_byte_of_a_chunk(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    value = bytearray(chunks[1].value)
    value[len(value) // 2] ^= 1
    shelf.change(chunks[1], bytes(value))


def _a_chunk_for_another(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    shelf.change(chunks[1], chunks[0].value)


def _two_chunks_change_places(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    shelf.change(chunks[0], chunks[1].value)
    shelf.change(chunks[1], chunks[0].value)


def _a_chunk_never_came(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    shelf.kept.kept[0].remove(chunks[1])


def _the_last_chunk_never_came(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    shelf.kept.kept[0].remove(chunks[-1])


def _a_chunk_was_deleted(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    records = shelf.kept.kept[0]
    records.append(SnapshotRecord(records[-1].offset + 1, chunks[1].key, b""))


def _a_chunk_came_twice_the_second_time_another(shelf: SnapshotsInMemory, chunks: Records, _: SnapshotRecord) -> None:
    records = shelf.kept.kept[0]
    records.append(SnapshotRecord(records[-1].offset + 1, chunks[1].key, pack(b"a\n1")))


def _no_marker(shelf: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
    shelf.kept.kept[0].remove(marker)


def _no_json(shelf: SnapshotsInMemory, _: Records, marker: SnapshotRecord) -> None:
    shelf.change(marker, marker.value[:-1])


def _another_entry_count_rightly_digested(shelf: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    shelf.change(marker, encode_marker(msgspec.structs.replace(_marker(marker), entries=_marker(marker).entries + 1)))


def _chunks_that_cannot_be_inflated(shelf: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    _rightly_digested(shelf, chunks, marker, b"no deflated bytes")


def _chunks_that_are_no_pairs(shelf: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    _rightly_digested(shelf, chunks, marker, pack(b"a\n1\nb"))


def _rightly_digested(shelf: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord, last: bytes) -> None:
    shelf.change(chunks[-1], last)
    digest = Digest()
    for chunk in (*chunks[:-1], chunks[-1]._replace(value=last)):
        digest.add(chunk.value)
    was = _marker(marker)
    closed = digest.closed(0, was.head, was.place)
    shelf.change(marker, encode_marker(msgspec.structs.replace(was, digest=closed)))


def _a_foreign_head(shelf: SnapshotsInMemory, chunks: Records, marker: SnapshotRecord) -> None:
    was = _marker(marker)
    digest = Digest()
    for chunk in chunks:
        digest.add(chunk.value)
    head = Head(was.seq, "f" * 64)
    changed = msgspec.structs.replace(was, sha256=head.sha256, digest=digest.closed(0, head, was.place))
    shelf.change(marker, encode_marker(changed))


BROKEN: dict[str, Break] = {
    "a byte of a chunk is another": _a_byte_of_a_chunk,
    "a chunk stands for another": _a_chunk_for_another,
    "two chunks changed places": _two_chunks_change_places,
    "a chunk never came": _a_chunk_never_came,
    "the last chunk never came": _the_last_chunk_never_came,
    "a chunk was deleted": _a_chunk_was_deleted,
    "a chunk came twice": _a_chunk_came_twice_the_second_time_another,
    "half: no marker": _no_marker,
    "a marker that is cut": _no_json,
    "a digest": _with(digest="0" * 64),
    "a place that was changed": _with(place=b"elsewhere"),
    "a head that was changed": _with(sha256="e" * 64),
    "fewer chunks": _with(chunks=1),
    "more chunks": _with(chunks=99),
    "more entries": _another_entry_count_rightly_digested,
    "of another version": _with(v=2),
    "of another format of values": _with(values_format=99),
    "of another partition": _with(partition=1),
    "of another number of partitions": _with(partitions=2),
    "of another seq": _with(seq=1),
    "not deflated": _chunks_that_cannot_be_inflated,
    "no pairs": _chunks_that_are_no_pairs,
    "a foreign head": _a_foreign_head,
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_snapshot_that_is_broken_is_skipped_and_the_one_before_it_is_taken(
    two: tuple[SnapshotsInMemory, Head, Head], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf, first, second = two
    newest = shelf.snapshot_at(second)
    BROKEN[how](shelf, newest[:-1], newest[-1])
    with caplog.at_level(logging.WARNING):
        assert await shelf.loaded() == first
    if how != "half: no marker":
        assert "is skipped" in caplog.text


@pytest.mark.parametrize(
    "how", ["a byte of a chunk is another", "a chunk stands for another", "a chunk never came", "a chunk was deleted"]
)
async def test_a_chunk_that_breaks_after_its_snapshot_was_seen_is_noticed_too(
    two: tuple[SnapshotsInMemory, Head, Head], how: str
) -> None:
    shelf, first, second = two
    store = MemoryStateStore()
    late = shelf.here(store)
    await late._update_catalogue(0)
    newest = shelf.snapshot_at(second)
    BROKEN[how](shelf, newest[:-1], newest[-1])
    await late.prepare(0)
    assert (store.checkpoint(0), content(store)) == (first, shelf.contents[first])


async def test_where_every_snapshot_is_broken_the_log_tells_all(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    shelf, _, _ = two
    for marker in shelf.records("/end"):
        _with(digest="0" * 64)(shelf, [], marker)
    assert await shelf.loaded() is None


async def test_a_snapshot_that_breaks_only_while_it_is_stored_leaves_no_half_state(
    two: tuple[SnapshotsInMemory, Head, Head],
) -> None:
    shelf, first, second = two
    store = MemoryStateStore()
    store.save(0, {"u9": 1}, shelf.first_head())
    newest = shelf.snapshot_at(second)
    _chunks_that_cannot_be_inflated(shelf, newest[:-1], newest[-1])
    await shelf.here(store).prepare(0)
    assert store.checkpoint(0) == first
    assert content(store) == shelf.contents[first]


# --- disasters -----------------------------------------------------------------------------------------------------


async def test_a_local_state_that_is_not_on_the_log_is_not_replaced_but_named(
    two: tuple[SnapshotsInMemory, Head, Head],
) -> None:
    shelf, _, second = two
    for at, error in ((Head(2, "e" * 64), ForeignCheckpoint), (Head(second.seq + 1, "e" * 64), CheckpointAhead)):
        store = MemoryStateStore()
        store.save(0, {"u9": 1}, at)
        with pytest.raises(error):
            await shelf.here(store).prepare(0)
        assert (store.checkpoint(0), store.get(0, ["u9"])) == (at, {"u9": 1})


async def test_a_snapshot_that_is_ahead_of_the_log_is_a_disaster(two: tuple[SnapshotsInMemory, Head, Head]) -> None:
    shelf, first, _ = two
    shorter = Appended(1)
    shorter.records[0] = shelf.world.appended.records[0][: first.seq]
    shorter.heads[0] = first
    store = MemoryStateStore()
    late = Snapshots(MemoryEventLog(1, shorter, shared=True), store, shelf.kept)
    with pytest.raises(CheckpointAhead, match="the log got shorter"):
        await late.prepare(0)
    assert store.checkpoint(0) is None


# --- when one is due, and what is deleted --------------------------------------------------------------------------


async def test_a_snapshot_is_due_after_so_many_events_and_then_after_as_many_again(shelf: SnapshotsInMemory) -> None:
    here = shelf.here(events_min=10)
    await shelf.goes_on(7)  # and two to begin with
    assert not await here.snapshot_if_due(0)
    await shelf.goes_on(1)
    assert await here.snapshot_if_due(0)
    assert not await here.snapshot_if_due(0)
    entries = _marker(shelf.records("/end")[0]).entries
    assert entries > 20
    await shelf.goes_on(entries // 2 - 1)
    assert not await here.snapshot_if_due(0)
    await shelf.goes_on(1)
    assert await here.snapshot_if_due(0)


async def test_what_another_node_took_meanwhile_is_not_taken_again(shelf: SnapshotsInMemory) -> None:
    here, there = shelf.here(events_min=5), shelf.here(events_min=5)
    await shelf.goes_on(10)
    assert await here.snapshot_if_due(0)
    assert not await there.snapshot_if_due(0)


async def test_a_node_without_a_state_takes_no_snapshot(shelf: SnapshotsInMemory) -> None:
    here = shelf.here(MemoryStateStore())
    assert not await here.write(0)
    assert not await here.snapshot_if_due(0)
    assert shelf.records() == []


async def test_the_snapshot_before_is_deleted_only_after_the_marker(shelf: SnapshotsInMemory) -> None:
    await shelf.snapshot()
    first = {kept.key for kept in shelf.records()}
    await shelf.snapshot()
    appended = shelf.kept.kept[0]
    deleted = [number for number, kept in enumerate(appended) if not kept.value]
    markers = [number for number, kept in enumerate(appended) if kept.key.endswith("/end") and kept.value]
    assert min(deleted) > markers[1]
    assert {appended[number].key for number in deleted} == first
    assert appended[deleted[0]].key.endswith("/end"), "without its marker it does not count"
    assert first.isdisjoint(kept.key for kept in shelf.records())


async def test_what_is_being_written_by_another_node_is_left_alone(shelf: SnapshotsInMemory) -> None:
    """A half one goes once the snapshot before the newest is further than it."""
    at = await shelf.goes_on()
    half = new_snapshot(at.seq)
    await shelf.kept.append(0, [(f"0/{half}/0", pack(b"a\n1"))])
    halves = [kept.key for kept in shelf.records()]
    await shelf.snapshot()
    assert set(halves) <= {kept.key for kept in shelf.records()}
    await shelf.snapshot()
    assert set(halves).isdisjoint(kept.key for kept in shelf.records())
    assert len(shelf.records("/end")) == 1


async def test_two_nodes_may_write_at_once_and_the_newest_snapshot_is_loaded(
    shelf: SnapshotsInMemory,
) -> None:
    at = await shelf.goes_on()
    shelf.remember()
    stale = MemoryStateStore()
    copy = shelf.world.store.copy(0)
    assert copy is not None
    found = copy.page("", 1_000, 10**6)
    assert found is not None
    stale.replace(0, [found[0]], at, None)
    newest = await shelf.goes_on()
    shelf.remember()
    await asyncio.gather(shelf.here().write(0), shelf.here(stale).write(0), shelf.here().write(0))
    assert await shelf.loaded() == newest


async def test_keys_that_are_none_of_a_snapshot_are_nobodys_business(shelf: SnapshotsInMemory) -> None:
    strange = ["", "x", "0/1/2", "0/0000000000000007-/0", "0/0000000000000007-a/b", "1/0000000000000007-a/0", "0//"]
    await shelf.kept.append(0, [(key, b"x") for key in strange])
    at = await shelf.snapshot()
    shelf.remember()
    assert await shelf.loaded() == at
    assert set(strange) <= {kept.key for kept in shelf.records()}


# --- killed at any moment -----------------------------------------------------------------------------------------


async def test_a_writer_of_snapshots_killed_after_any_append_leaves_the_one_before_or_the_new_one(
    shelf: SnapshotsInMemory,
) -> None:
    latest = await shelf.snapshot()
    shelf.remember()
    for survives in range(60):
        at = await shelf.goes_on(1)
        shelf.remember()
        appended = len(shelf.kept.kept[0])
        shelf.kept.fail_next.extend([None] * survives + [LogUnavailable("killed")])
        try:
            await shelf.here(chunk_entries=20).write(0)
            ended = True
        except LogUnavailable:
            ended = False
        whole = any(kept.key.endswith("/end") and kept.value for kept in shelf.kept.kept[0][appended:])
        latest = at if whole else latest
        assert await shelf.loaded() == latest, survives
        if random.Random(survives).random() < 0.5:
            shelf.kept.compact(0)
            assert await shelf.loaded() == latest, survives
        shelf.kept.fail_next.clear()
        if ended:
            break
    assert ended, "it was never killed late enough"
    assert survives > 4


async def test_what_goes_wrong_is_a_warning_and_tried_again_later(
    shelf: SnapshotsInMemory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.goes_on()
    here = shelf.here()
    shelf.kept.fail_next.append(LogUnavailable("no broker"))
    assert not await here.snapshot_if_due(0)
    assert "no broker" in caplog.text
    assert not await here.snapshot_if_due(0), "not at once again"
    monkeypatch.setattr("time.monotonic", lambda: here._not_before_s + 1)
    assert await here.snapshot_if_due(0)


class SlowLoads(MemoryStateStore):
    """Tells when it has taken so many pages, and takes its time then."""

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
    shelf, _, second = two
    store = SlowLoads(pages)
    here = shelf.here(store)
    loading = asyncio.create_task(here.prepare(0))
    await asyncio.wait_for(store.reached.wait(), 10)
    loading.cancel()
    await asyncio.wait([loading])
    assert loading.cancelled()
    assert not store.at_work, "it goes on beside whoever comes next"
    assert (store.checkpoint(0), content(store)[0]) == (None, [])
    await here.prepare(0)
    assert store.checkpoint(0) == second
    assert content(store) == shelf.contents[second]


async def test_snapshots_are_looked_after_until_they_are_cancelled(shelf: SnapshotsInMemory) -> None:
    await shelf.goes_on()
    await shelf.world.given(place_bet(1))
    looking = asyncio.create_task(shelf.here().write_due(lambda: [0]))
    async with asyncio.timeout(10):
        while not shelf.records("/end"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
    looking.cancel()
    await asyncio.wait([looking])
    assert looking.cancelled()
