"""A log moves as it is: from a folder's file into another log, here one in memory that fails on demand."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ledger.core.record import EMPTY, Head
from ledger.errors import FolderMigrated, FolderUnusable, LogUnavailable, OutcomeUnknown
from ledger.memory.log import Appended, Failure, MemoryEventLog
from ledger.operations.audit import verify
from ledger.operations.migrate import Interleaved, NotThisLog, compare, copy
from ledger.ports import NewRecord
from ledger.sqlite.folder import EVENTS, MIGRATED, Migrated, mark_migrated, migrated_to, refuse_migrated
from ledger.sqlite.readers import SqliteRecords
from unit.folders import scenario_records, write_log

SCENARIO = scenario_records()
EVENTS_IN_ALL = sum(map(len, SCENARIO))


def ignore(_doing: str, _done: int, _total: int | None) -> None:
    """Ignore the progress."""


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteRecords]:
    with closing(SqliteRecords(write_log(tmp_path / "data", SCENARIO) / EVENTS)) as records:
        yield records


@pytest.fixture
def heads(source: SqliteRecords) -> Sequence[Head]:
    return verify(source).heads


@pytest.fixture
def target() -> MemoryEventLog:
    return MemoryEventLog(len(SCENARIO), shared=True)


async def holds(target: MemoryEventLog, records: Sequence[Sequence[bytes]]) -> None:
    """Have the target hold these already."""
    for partition, own in enumerate(records):
        head = EMPTY
        for record in own:
            new = NewRecord(head.seq + 1, "someone", f"c-{partition}-{head.seq}", record)
            await target.append(partition, head, [new])
            head = await target.head(partition)


async def test_every_record_arrives_with_its_bytes_its_seq_and_its_names(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog
) -> None:
    assert await copy(source, heads, target, ignore) == EVENTS_IN_ALL
    assert target.appended.records == SCENARIO
    assert tuple(target.appended.heads) == heads
    await compare(source, heads, target, ignore)


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
async def test_a_move_continues_after_the_records_that_the_target_has(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog, kept: int
) -> None:
    there = [records[:kept] for records in SCENARIO]
    await holds(target, there)
    assert await copy(source, heads, target, ignore) == EVENTS_IN_ALL - sum(map(len, there))
    assert target.appended.records == SCENARIO


@pytest.mark.parametrize("seq", [1, 3])
async def test_a_target_with_another_record_is_refused_named_and_left_as_it_is(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog, seq: int
) -> None:
    last = len(SCENARIO) - 1
    there: list[list[bytes]] = [[] for _ in SCENARIO[:-1]] + [[*SCENARIO[last][: seq - 1], b"{}", b"[]"]]
    await holds(target, there)
    with pytest.raises(NotThisLog, match=f"^partition {last}, seq {seq}: .*another record") as refused:
        await copy(source, heads, target, ignore)
    assert (refused.value.partition, refused.value.seq) == (last, seq)
    assert target.appended.records == there


async def test_a_target_that_goes_on_where_the_folder_ends_is_refused(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog
) -> None:
    await holds(target, [[*SCENARIO[0], b"{}"], *([] for _ in SCENARIO[1:])])
    with pytest.raises(NotThisLog, match=f"^partition 0, seq {len(SCENARIO[0]) + 1}: .*nodes have written"):
        await copy(source, heads, target, ignore)


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("error", [OutcomeUnknown("no response"), LogUnavailable("away")])
async def test_an_append_that_fails_is_tried_again_and_lands_once(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog, error: LogUnavailable, *, lands: bool
) -> None:
    lands = lands and isinstance(error, OutcomeUnknown)
    target.fail_next.extend([Failure(error, lands=lands), None, Failure(error, lands=lands)])
    await copy(source, heads, target, ignore)
    assert target.appended.records == SCENARIO


async def test_the_first_append_is_one_record_alone(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog
) -> None:
    sizes: list[int] = []
    append = target.append

    async def counted(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        sizes.append(len(records))
        await append(partition, after, records)

    target.append = counted  # type: ignore[method-assign]
    await copy(source, heads, target, ignore)
    assert sizes[0] == 1
    assert max(sizes) > 1


async def test_a_move_stops_when_another_process_appends(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog
) -> None:
    append = target.append
    calls = 0

    async def overtaken(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            await append(partition, after, [NewRecord(after.seq + 1, "partition:0", "~open", b"{}")])
        await append(partition, after, records)

    target.append = overtaken  # type: ignore[method-assign]
    with pytest.raises(Interleaved, match="another process appends"):
        await copy(source, heads, target, ignore)
    assert calls == 3, "nothing is appended after it"


@pytest.mark.parametrize("broken", ["changed", "missing", "one too many"])
async def test_reading_back_names_the_first_record_that_is_not_the_folders(
    source: SqliteRecords, heads: Sequence[Head], target: MemoryEventLog, broken: str
) -> None:
    await copy(source, heads, target, ignore)
    records: Appended = target.appended
    place = len(SCENARIO[1])
    match broken:
        case "changed":
            records.records[1][-1] = records.records[1][-1].replace(b"1", b"2", 1)
        case "missing":
            records.records[1].pop()
        case _:
            records.records[1].append(b"{}")
            records.heads[1] = Head(place + 1, "f" * 64)
            place += 1
    with pytest.raises(NotThisLog, match=f"^partition 1, seq {place}:"):
        await compare(source, heads, target, ignore)


def test_a_folder_says_where_its_log_went(tmp_path: Path) -> None:
    assert migrated_to(tmp_path) is None
    refuse_migrated(tmp_path)
    went = Migrated("kafka://somewhere:9092 (PLAINTEXT)", "stakelog.events", 1, (Head(3, "a" * 64),))
    mark_migrated(tmp_path, went)
    assert migrated_to(tmp_path) == went
    with pytest.raises(FolderMigrated, match="kafka://somewhere:9092"):
        refuse_migrated(tmp_path)
    (tmp_path / MIGRATED).unlink()
    refuse_migrated(tmp_path)


def test_a_mark_that_cannot_be_read_is_a_mark_all_the_same(tmp_path: Path) -> None:
    (tmp_path / MIGRATED).write_bytes(b"{")
    with pytest.raises(FolderUnusable, match="was moved, but not to where"):
        refuse_migrated(tmp_path)
