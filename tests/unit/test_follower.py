"""The follower on a real log and real tables: what it folds, when it ends, and with which error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, decode, encode, sha256_hex
from ledger.errors import LogDamaged
from ledger.sqlite.folder import EVENTS, READ_MODEL
from projections.models import FOLDS, VERSION
from projections.projecting import partition as folding
from projections.projecting.follower import Follower
from projections.projecting.log_reader import refuse_ahead
from projections.storage.port import Overtaken, ReadModelAhead, ReadModelUnavailable, Run
from projections.storage.sqlite import SqliteReadModelStore
from projections.tables.row_buffer import RowBuffer
from properties.reads_scenario import Scenario, make_scenario, play_scenario
from unit.folded import Folder, Tables, from_scratch, live_tables, tables


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(11, commands=250)


@pytest.fixture(scope="module")
def expected(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return asyncio.run(from_scratch(tmp_path_factory.mktemp("scratch"), scenario.partitions))


@pytest.fixture
async def folder(tmp_path: Path, scenario: Scenario) -> Folder:
    made = Folder(tmp_path / "data", scenario.partitions)
    await made.append(0.5)
    return made


@asynccontextmanager
async def following(
    folder: Folder, batch: int = 50, clock_s: Callable[[], float] = monotonic
) -> AsyncIterator[Follower]:
    log, store = folder.reader(), folder.store()
    try:
        yield Follower(log, store, batch=batch, clock_s=clock_s)
    finally:
        log.close()
        await store.close()


async def to_the_end(follower: Follower) -> None:
    """Step until two steps in a row do nothing."""
    idle = 0
    while idle < 2:
        idle = 0 if await follower.step() else idle + 1


async def test_it_folds_existing_and_new_records(folder: Folder, expected: Tables) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
        await folder.append(0.7)
        await to_the_end(follower)
        await folder.append()
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


async def test_a_restarted_follower_continues_from_the_tables(folder: Folder, expected: Tables) -> None:
    await folder.append()
    for _ in range(500):
        async with following(folder, batch=9) as follower:
            if not await follower.step():
                break
    assert await live_tables(folder.path, 3) == expected


async def test_a_follower_at_the_end_does_nothing(folder: Folder) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
        before = (folder.path / (READ_MODEL + "-wal")).stat().st_size
        for _ in range(5):
            assert not await follower.step()
        assert (folder.path / (READ_MODEL + "-wal")).stat().st_size == before


async def test_an_empty_log_is_followed(tmp_path: Path, scenario: Scenario, expected: Tables) -> None:
    folder = Folder(tmp_path / "data", scenario.partitions)
    await folder.append(0.0)
    async with following(folder) as follower:
        await to_the_end(follower)
        await folder.append()
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


async def test_two_followers_fold_nothing_twice(folder: Folder, expected: Tables) -> None:
    async with following(folder, batch=20) as one, following(folder, batch=31) as other:
        for share in (0.6, 0.8, 1.0):
            await folder.append(share)
            for _ in range(30):
                await one.step()
                await other.step()
        await to_the_end(one)
        await to_the_end(other)
    assert await live_tables(folder.path, 3) == expected


async def test_a_run_delivered_again_changes_nothing(folder: Folder) -> None:
    store = folder.store()
    stored: list[tuple[int, list[Run]]] = []
    commit = store.commit

    async def watched(generation: int, runs: Any, *, building: bool = False) -> None:
        await commit(generation, runs, building=building)
        stored.append((generation, list(runs)))

    store.commit = watched  # type: ignore[method-assign]
    log = folder.reader()
    await to_the_end(Follower(log, store, batch=40))
    before = await live_tables(folder.path, 3)
    assert len(stored) > 3
    assert max(len(runs) for _, runs in stored) == 3, "the runs of a round share a transaction"
    for generation, runs in stored:
        with pytest.raises(Overtaken):
            await commit(generation, runs)
    assert await live_tables(folder.path, 3) == before
    log.close()
    await store.close()


async def test_it_runs_until_it_is_stopped(folder: Folder, expected: Tables) -> None:
    stop = asyncio.Event()
    async with following(folder) as follower, asyncio.timeout(60):
        running = asyncio.create_task(follower.run(stop))
        await folder.append()
        while not await _at_the_end(folder, expected):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        stop.set()
        await running


async def test_it_gathers_larger_batches_while_many_events_arrive(folder: Folder, scenario: Scenario) -> None:
    now_s = 0.0
    async with following(folder, batch=10_000, clock_s=lambda: now_s) as follower:
        await to_the_end(follower)
        few = 0.5 + 1 / max(map(len, scenario.partitions))
        await folder.append(few)
        now_s += 1.0
        assert await follower.step()
        soon = follower.pause_s
        await folder.append()
        now_s += 0.001
        assert await follower.step()
        assert follower.pause_s > 3 * soon > 0


async def test_it_does_not_wait_while_there_is_more_to_fold(folder: Folder) -> None:
    async with following(folder, batch=20) as follower:
        assert await follower.step()
        assert follower.pause_s == 0


async def _at_the_end(folder: Folder, expected: Tables) -> bool:
    store = folder.store()
    generations = await store.generations()
    checkpoints = [await store.checkpoints(one.number) for one in generations]
    await store.close()
    return checkpoints == [[checkpoint for checkpoint, _ in expected]]


# --- a log that is not what it was ------------------------------------------------------------------------------


async def test_a_log_that_got_shorter_ends_the_follower(folder: Folder) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
        head = (await _heads(folder))[1]
        folder.damage("DELETE FROM event WHERE partition = 1 AND seq > ?", head.seq - 3)
        with pytest.raises(ReadModelAhead, match=rf"partition 1, seq {head.seq}: .*got shorter") as caught:
            await to_the_end(follower)
    assert (caught.value.partition, caught.value.seq) == (1, head.seq)
    async with following(folder) as again:
        with pytest.raises(ReadModelAhead, match=rf"partition 1, seq {head.seq}: .*got shorter"):
            await again.step()


async def test_heads_that_are_not_on_the_log_are_refused_before_anything_is_folded(
    folder: Folder, scenario: Scenario
) -> None:
    log = folder.reader()
    ends = log.ends()
    heads = [Head(seq, sha256_hex(scenario.partitions[partition][seq - 1])) for partition, seq in enumerate(ends)]
    refuse_ahead(log, heads)
    refuse_ahead(log, [EMPTY] * 3)
    for head, reason in (
        (Head(ends[2] + 1, heads[2].sha256), "the log ends before it"),
        (Head(ends[2], heads[1].sha256), "the log has another record there"),
        (Head(ends[2] - 1, heads[2].sha256), "the log has another record there"),
    ):
        with pytest.raises(ReadModelAhead, match=f"partition 2, seq {head.seq}: {reason}"):
            refuse_ahead(log, [*heads[:2], head])
    log.close()


async def test_another_log_ends_the_follower(folder: Folder, tmp_path: Path) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
    other = Folder(tmp_path / "other", (await play_scenario(12, commands=250)).partitions)
    await other.append()
    (other.path / EVENTS).replace(folder.path / EVENTS)
    async with following(folder) as follower:
        with pytest.raises(ReadModelAhead, match=r"partition 0, seq \d+: the log has another record"):
            await follower.step()


async def test_a_log_of_other_partitions_ends_the_follower(
    folder: Folder, tmp_path: Path, scenario: Scenario
) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
    other = Folder(tmp_path / "other", scenario.partitions[:2])
    await other.append()
    (other.path / EVENTS).replace(folder.path / EVENTS)
    async with following(folder) as follower:
        with pytest.raises(ReadModelAhead, match="a log of 3 partitions, this one has 2"):
            await follower.step()


async def test_a_missing_record_is_damage(folder: Folder) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
        seq = (await _heads(folder))[2].seq
        await folder.append()
        folder.damage("DELETE FROM event WHERE partition = 2 AND seq = ?", seq + 1)
        with pytest.raises(LogDamaged, match=f"partition 2, seq {seq + 1}: the record is missing"):
            await to_the_end(follower)


async def test_a_missing_record_in_the_middle_is_damage(folder: Folder) -> None:
    await folder.append()
    folder.damage("DELETE FROM event WHERE partition = 1 AND seq = 30")
    async with following(folder, batch=600) as follower:
        with pytest.raises(LogDamaged, match="partition 1, seq 30: the record is missing"):
            await to_the_end(follower)


async def test_a_fork_in_the_middle_is_damage_once_all_before_it_is_folded(
    folder: Folder, scenario: Scenario
) -> None:
    """The log has one record for each seq, so no record after a fork can be an event."""
    await folder.append()
    folder.damage("UPDATE event SET record = ? WHERE partition = 1 AND seq = 30", _forked(scenario.partitions[1][29]))
    async with following(folder, batch=600) as follower:
        with pytest.raises(LogDamaged, match="partition 1, seq 30: the record does not continue the chain"):
            await to_the_end(follower)
    assert (await _heads(folder))[1] == Head(29, sha256_hex(scenario.partitions[1][28]))


async def test_bytes_that_are_no_record_are_damage(folder: Folder) -> None:
    folder.damage("UPDATE event SET record = CAST('nothing' AS BLOB) WHERE partition = 1 AND seq = 30")
    async with following(folder, batch=600) as follower:
        with pytest.raises(LogDamaged, match="partition 1, seq 30: the record cannot be read"):
            await to_the_end(follower)


def _forked(record: bytes) -> bytes:
    place, _, event = decode(record)
    return encode(event, place, "f" * 64)


async def _heads(folder: Folder) -> list[Head]:
    store = folder.store()
    (live,) = [one for one in await store.generations() if one.status == "live"]
    heads = [checkpoint.head for checkpoint in await store.checkpoints(live.number)]
    await store.close()
    return heads


async def test_the_log_reader_sees_every_append_as_a_change(tmp_path: Path, scenario: Scenario) -> None:
    folder = Folder(tmp_path / "data", scenario.partitions)
    await folder.append(0.1)
    log = folder.reader()
    assert log.changed()
    assert not log.changed()
    await folder.append(0.2)
    assert log.changed()
    assert not log.changed()
    assert log.ends() == [round(len(records) * 0.2) for records in scenario.partitions]
    assert log.read(1, 3, 4) == scenario.partitions[1][2:6]
    assert log.read(1, log.ends()[1] + 1, 4) == []
    log.close()


# --- quarantine -----------------------------------------------------------------------------


@pytest.fixture
def failing_folds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Folds that fail on every event of the named users. Call it with other names, or with none, to change that."""
    broken: set[str] = set()

    def fail(event: Event, place: Position, book: RowBuffer) -> None:
        if event.user_id in broken:
            raise ValueError(f"cannot fold {event.data.type}")

    monkeypatch.setattr(folding, "FOLDS", (*FOLDS, fail))

    def set_broken(*user_ids: str) -> None:
        broken.clear()
        broken.update(user_ids)

    return set_broken


async def test_a_quarantined_user_delays_no_other_user_and_is_folded_after_the_fix(
    folder: Folder, expected: Tables, failing_folds: Callable[..., None]
) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
    failing_folds("partition")
    await folder.append(0.7)
    async with following(folder) as follower:
        await to_the_end(follower)
        await folder.append(0.85)
        await to_the_end(follower)
    store = folder.store()
    (stopped,) = await store.quarantine(1)
    assert stopped.user_id == "partition"
    assert stopped.reason.startswith("ValueError: cannot fold ")
    halted = await tables(store, 1, 3)
    await store.close()
    assert halted != expected
    async with following(folder) as follower:  # without a fix nothing changes
        await to_the_end(follower)
    store = folder.store()
    assert await store.quarantine(1) == [stopped]
    assert await tables(store, 1, 3) == halted
    await store.close()
    failing_folds()
    await folder.append()
    async with following(folder) as follower:
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


async def test_many_quarantined_events_are_folded_in_several_runs(
    folder: Folder,
    expected: Tables,
    failing_folds: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing_folds("whale")
    await folder.append()
    async with following(folder) as follower:
        await to_the_end(follower)
    failing_folds()
    monkeypatch.setattr(folding, "_RETRY_EVENTS_MAX", 5)
    async with following(folder) as follower:
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


async def test_two_followers_that_release_users_of_one_partition_at_once_lose_no_change(
    folder: Folder, expected: Tables, failing_folds: Callable[..., None]
) -> None:
    """Folding quarantined events changes rows that users share, the accounts, but not the head."""
    await folder.append()
    failing_folds("anna", "partition", "e_5.", "whale")
    async with following(folder) as follower:
        await to_the_end(follower)
    failing_folds()
    store = folder.store()
    log = folder.reader()
    (live,) = await store.generations()
    checkpoints = await store.checkpoints(live.number)
    stopped = await store.quarantine(live.number)
    by_partition = {one.partition: [two for two in stopped if two.partition == one.partition] for one in stopped}
    partition, (one, other, *_) = max(by_partition.items(), key=lambda item: len(item[1]))
    ours, theirs = (
        folding.PartitionProjector(store, live.number, partition, checkpoints[partition], by_partition[partition])
        for _ in range(2)
    )
    our_run, their_run = await ours.retry_quarantined(one), await theirs.retry_quarantined(other)
    assert our_run is not None
    assert their_run is not None
    await store.commit(live.number, [our_run])
    with pytest.raises(Overtaken):
        await store.commit(live.number, [their_run])
    log.close()
    await store.close()
    async with following(folder) as follower:
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


# --- the tables go wrong ----------------------------------------------------------------------------------------


async def test_a_generation_of_another_version_of_the_folds_is_not_changed(
    folder: Folder, caplog: pytest.LogCaptureFixture, expected: Tables
) -> None:
    store = folder.store()
    old = await store.make_generation(VERSION + 1, 3, live=True)
    async with following(folder) as follower:
        for _ in range(3):
            assert not await follower.step()
        (said,) = [record.message for record in caplog.records if "rebuild --accept" in record.message]
        assert said.startswith(f"the read model's generation {old.number} was filled by version {VERSION + 1} of")
        assert all(checkpoint.head.seq == 0 for checkpoint in await store.checkpoints(old.number))
        new = await store.make_generation(VERSION, 3, live=False)
        await store.switch(old.number, new.number, accept=True)
        await folder.append()
        await to_the_end(follower)
    await store.close()
    assert await live_tables(folder.path, 3) == expected


async def test_a_switch_is_noticed(folder: Folder, expected: Tables) -> None:
    async with following(folder) as follower:
        await to_the_end(follower)
        store = folder.store()
        log = folder.reader()
        new = await store.make_generation(VERSION, 3, live=False)
        for partition in range(3):
            builder = folding.PartitionProjector(
                store, new.number, partition, (await store.checkpoints(new.number))[partition], []
            )
            run = await builder.fold(log.read(partition, 1, 10_000))
            assert run is not None
            await store.commit(new.number, [run], building=True)
        await store.switch(1, new.number, accept=False)
        await store.drop_generation(1)
        log.close()
        await store.close()
        await folder.append()
        await to_the_end(follower)
    assert await live_tables(folder.path, 3) == expected


async def test_the_follower_waits_while_the_disk_is_full(folder: Folder, expected: Tables) -> None:
    """SQLite's limit of pages plays the full disk."""
    log, store = folder.reader(), folder.store()
    follower = Follower(log, store, batch=50)
    assert await follower.step()
    _fill_disk(store)
    await folder.append()
    with pytest.raises(ReadModelUnavailable, match="full"):
        await to_the_end(follower)
    before = await live_tables(folder.path, 3)
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    await asyncio.sleep(0.3)
    assert not running.done()
    assert await live_tables(folder.path, 3) == before
    store._connection.execute("PRAGMA max_page_count=1000000")
    async with asyncio.timeout(60):
        while not await _at_the_end(folder, expected):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
        stop.set()
        await running
    log.close()
    await store.close()
    assert await live_tables(folder.path, 3) == expected


def _fill_disk(store: SqliteReadModelStore) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages + 4}")


async def test_a_stop_ends_the_wait_for_a_full_disk(folder: Folder) -> None:
    log, store = folder.reader(), folder.store()
    follower = Follower(log, store, batch=50)
    assert await follower.step()
    _fill_disk(store)
    stop = asyncio.Event()
    await folder.append()
    running = asyncio.create_task(follower.run(stop))
    await asyncio.sleep(0.2)
    stop.set()
    async with asyncio.timeout(60):
        await running
    log.close()
    await store.close()
