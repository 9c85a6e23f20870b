"""The background check: what it finds in a read model that was changed by hand, and what is no difference."""

import asyncio
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest

from api.composition.scratch import PREFIX, scratch_store
from ledger.core.bet_events import BetSettled
from ledger.core.events import Event
from ledger.core.position import Position
from ledger.errors import LogDamaged
from ledger.sqlite.folder import EVENTS, READ_MODEL
from ledger.sqlite.readers import SqliteLogReader
from projections import models as folds
from projections.auditing.background_check import BackgroundCheck, CpuShare, PartitionCheck
from projections.auditing.refold import NAMED_MAX, STORED_MAX, OpenScratch
from projections.models import BY_USER, ROW_TYPES
from projections.models.bets import BetRow
from projections.storage.port import EVERY_USER, Difference, Switched, Users
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from properties.reads_scenario import make_scenario
from sqlite_log import damage
from unit.read_model import ReadModel, Tables, write_log
from unit.test_folding import chained, deposits

PARTITIONS: Final = 3


class Restless(CpuShare):
    """Never sleeps, and counts how often it could have."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.rests = 0

    async def rest(self) -> None:
        self.rests += 1


@dataclass(repr=False)  # pytest asks for it, and it would show all rows
class Desk:
    model: ReadModel
    log: SqliteLogReader
    cpu: Restless
    now_us: int = 1_000
    rows: Sequence[Tables] = ()
    """Of each partition, as they were folded."""

    @property
    def scratch(self) -> OpenScratch:
        return partial(scratch_store, self.model.path.parent)

    def partition_check(self, rows_max: int = 100_000) -> PartitionCheck:
        return PartitionCheck(self.model.store, self.log, self.cpu, self.scratch, rows_max=rows_max)

    async def quick(self, only: int | None = None) -> list[Difference]:
        """``only``: this partition."""
        check_one = self.partition_check()
        partitions = range(PARTITIONS) if only is None else [only]
        return [one for p in partitions for one in await check_one.quick(self.model.generation, p)]

    async def thorough(self, rows_max: int = 100_000, only: int | None = None) -> list[Difference]:
        """``only``: this partition."""
        check_one = self.partition_check(rows_max)
        partitions = range(PARTITIONS) if only is None else [only]
        return [one for p in partitions for one in (await check_one.thorough(self.model.generation, p))[1]]

    def check(self) -> BackgroundCheck:
        return BackgroundCheck(self.model.store, self.partition_check(), self.partition_check(), lambda: self.now_us)

    async def stored(self) -> list[Difference]:
        return await self.model.store.differences(self.model.generation, 100)


@pytest.fixture(scope="module")
def scenario() -> list[list[bytes]]:
    return make_scenario(21, partitions=PARTITIONS).partitions  # it has rows of every table


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory, scenario: list[list[bytes]]) -> Path:
    """A log, and a read model with all of its events."""
    path = tmp_path_factory.mktemp("folded")

    async def fold() -> None:
        await write_log(path, scenario)
        model = await ReadModel.folded(path, scenario)
        await model.store.close()

    asyncio.run(fold())
    return path


@pytest.fixture(scope="module")
def rows(folded: Path, scenario: list[list[bytes]]) -> list[Tables]:
    """Of each partition."""

    async def read() -> list[Tables]:
        model = ReadModel(folded, scenario)
        found = [await model.rows(partition) for partition in range(PARTITIONS)]
        await model.store.close()
        return found

    return asyncio.run(read())


@pytest.fixture
async def desk(folded: Path, tmp_path: Path, scenario: list[list[bytes]], rows: list[Tables]) -> AsyncIterator[Desk]:
    shutil.copytree(folded, tmp_path / "data")
    model = ReadModel(tmp_path / "data", scenario)
    log = SqliteLogReader(tmp_path / "data" / EVENTS)
    yield Desk(model, log, Restless(), rows=rows)
    await model.store.close()
    log.close()


def changes() -> Iterator[tuple[str, str, str]]:
    """For each table a field that is no key, and a value that the row does not have."""
    yield from [
        ("wallet", "status", "'closed '"),
        ("asset", "cash", "cash + 1"),
        ("history", "held_change", "held_change - 1"),
        ("orders", "amount", "amount + 1"),
        ("deposit", "order_id", "order_id || 'x'"),
        ("bet", "stake", "stake + 1"),
        ("hold", "expires_at_us", "7"),
        ("transfer", "to_user_id", "upper(to_user_id) || '.'"),
        ("statistics", "biggest_win", "biggest_win + 1"),
        ("standing", "week_net_low", "week_net_low + 1"),
        ("ended_standing", "net_low", "net_low + 1"),
        ("opened", "seq", "seq + 1"),
        ("bonus_grant", "remaining", "remaining + 1"),
        ("granted", "grant_id", "grant_id || 'x'"),
        ("grant_stake", "grants", "'[]'"),
        ("adjustment", "proposed_by", "'mallory'"),
        ("referral", "members", "members + 1"),
        ("account", "credited", "credited || '0'"),
        ("period", "open_bets", "open_bets + 1"),
        ("selection", "staked_low", "staked_low + 1"),
        ("house", "fees_low", "fees_low + 1"),
        ("gift", "claimed", "claimed + 1"),
        ("referral_code", "owner", "owner || '.'"),
    ]


def first_row(desk: Desk, table: str) -> tuple[int, Row, list[str]]:
    """A partition that has rows of the table, the first of them, and the names of its columns."""
    for partition in range(PARTITIONS):
        if rows := desk.rows[partition][table]:
            return partition, rows[0], list(type(rows[0]).__struct_fields__)
    raise AssertionError(f"the scenario has no row of {table}")


def where(row: Row, fields: list[str]) -> tuple[str, list[object]]:
    keys = fields[: row.key_length]
    return " AND ".join(["partition = ?", *(f"{name} = ?" for name in keys)]), [getattr(row, name) for name in keys]


async def test_a_read_model_that_agrees_with_the_log_has_no_difference(desk: Desk) -> None:
    assert await desk.quick() == []
    assert await desk.thorough() == []
    assert await desk.thorough(rows_max=20) == []


def test_every_table_is_changed_once() -> None:
    assert sorted(table for table, _, _ in changes()) == sorted(kind.table for kind in ROW_TYPES)


@pytest.mark.parametrize("rows_max", [100_000, 20], ids=["in memory", "with rows on disk"])
async def test_fields_changed_by_hand_are_named(desk: Desk, rows_max: int) -> None:
    wanted = {}
    for table, field, value in changes():
        partition, row, fields = first_row(desk, table)
        which, key = where(row, fields)
        assert desk.model.sql(f"UPDATE {{{table}}} SET {field} = {value} WHERE {which}", partition, *key) == 1
        owners = {"deposit": "", "period": f"period/{key[0]}", "selection": f"selection/{key[0]}"}
        if table == "house":
            owners["house"] = f"house/{getattr(row, 'asset')}"  # noqa: B009
        wanted[table] = (partition, field, owners.get(table, key[0]), encoded(getattr(row, field)))
    assert {one.table: (one.partition, one.field) for one in await desk.quick()} == {
        table: (partition, "digest") for table, (partition, *_) in wanted.items()
    }
    found = await desk.thorough(rows_max)
    assert {one.table: (one.partition, one.field, one.owner, one.expected) for one in found} == wanted
    assert len(found) == len(wanted)
    assert all(one.found != one.expected for one in found)


async def test_rows_deleted_by_hand_are_named(desk: Desk) -> None:
    wanted = {}
    for kind in ROW_TYPES:
        partition, row, fields = first_row(desk, kind.table)
        which, key = where(row, fields)
        assert desk.model.sql(f"DELETE FROM {{{kind.table}}} WHERE {which}", partition, *key) == 1
        wanted[kind.table] = (partition, "", encoded(row), "null")
    assert {one.table: one.partition for one in await desk.quick()} == {
        table: partition for table, (partition, *_) in wanted.items()
    }
    found = await desk.thorough()
    assert {one.table: (one.partition, one.field, one.expected, one.found) for one in found} == wanted
    assert len(found) == len(wanted)


async def test_rows_inserted_by_hand_are_named(desk: Desk) -> None:
    wanted = {}
    for kind in ROW_TYPES:
        table = kind.table
        partition, row, fields = first_row(desk, table)
        key = fields[row.key_length - 1]
        other = "999999" if isinstance(getattr(row, key), int) else "'zz'"
        columns = ", ".join(other if name == key else name for name in fields)
        which, values = where(row, fields)
        added = f"INSERT INTO {{{table}}} SELECT partition, {columns} FROM {{{table}}} WHERE {which}"
        assert desk.model.sql(added, partition, *values) == 1
        wanted[table] = (partition, "null")
    assert {one.table: one.partition for one in await desk.quick()} == {
        table: partition for table, (partition, _) in wanted.items()
    }
    found = await desk.thorough(20)
    assert {one.table: (one.partition, one.expected) for one in found} == wanted
    assert len(found) == len(wanted)
    assert all("999999" in one.found or "zz" in one.found for one in found)


async def test_emptied_tables_are_found(desk: Desk) -> None:
    tables = {kind.table for kind in ROW_TYPES}
    for table in sorted(tables):
        assert desk.model.sql(f"DELETE FROM {{{table}}}") > 0
    assert {one.table for one in await desk.quick()} == tables
    assert {one.table for one in await desk.thorough()} == tables


async def test_a_row_that_was_moved_to_another_user_differs_twice(desk: Desk) -> None:
    partition, row, fields = first_row(desk, "bet")
    which, key = where(row, fields)
    desk.model.sql(f"UPDATE {{bet}} SET user_id = 'thief' WHERE {which}", partition, *key)
    found = await desk.thorough()
    assert sorted((one.owner, one.found == "null") for one in found) == sorted([(key[0], True), ("thief", False)])


async def test_a_value_of_another_type_is_a_difference(desk: Desk) -> None:
    partition, row, fields = first_row(desk, "bet")
    which, key = where(row, fields)
    desk.model.sql(f"UPDATE {{bet}} SET period = CAST(period AS BLOB) WHERE {which}", partition, *key)
    assert [one.field for one in await desk.thorough()] == ["period"]


async def test_a_digest_changed_together_with_its_row_is_found_by_the_thorough_pass(desk: Desk) -> None:
    partition, row, fields = first_row(desk, "asset")
    which, key = where(row, fields)
    desk.model.sql(f"UPDATE {{asset}} SET cash = cash + 5 WHERE {which}", partition, *key)
    (digest,) = await desk.quick()
    desk.model.sql(
        "UPDATE checkpoint SET digests = replace(digests, ?, ?) WHERE partition = ?",
        digest.found.strip('"'),
        digest.expected.strip('"'),
        partition,
    )
    assert await desk.quick() == []
    assert [(one.table, one.field) for one in await desk.thorough()] == [("asset", "cash")]


async def test_a_digest_changed_alone_is_found(desk: Desk) -> None:
    digest = (await desk.model.checkpoint(1)).digests["bet"]
    desk.model.sql("UPDATE checkpoint SET digests = replace(digests, ?, ?)", f"{digest:032x}", f"{digest ^ 1:032x}")
    for found in (await desk.quick(), await desk.thorough(), await desk.thorough(rows_max=20)):
        assert [(one.partition, one.table, one.field) for one in found] == [(1, "bet", "digest")]
        assert (found[0].expected, found[0].found) == (f'"{digest:032x}"', f'"{digest ^ 1:032x}"')


async def test_a_checkpoint_that_is_not_on_the_log_is_the_only_difference(desk: Desk) -> None:
    desk.model.sql("UPDATE checkpoint SET head = replace(head, '0', '1') WHERE partition = 2")
    (found,) = await desk.thorough()
    assert (found.partition, found.owner, found.table, found.field) == (2, EVERY_USER, "checkpoint", "head")


async def test_a_defective_fold_is_found_although_the_digests_agree(
    folded: Path, tmp_path: Path, scenario: list[list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(event: Event, place: Position, book: RowBuffer) -> None:
        if isinstance(event.data, BetSettled):
            book[BetRow].edit((event.user_id, event.data.bet_id)).stake += 1

    shutil.copytree(folded, tmp_path / "data")
    (tmp_path / "data" / READ_MODEL).unlink()
    with monkeypatch.context() as broken:
        broken.setattr("projections.projecting.partition.FOLDS", (*folds.FOLDS, wrong))
        model = await ReadModel.folded(tmp_path / "data", scenario)
    desk = Desk(model, SqliteLogReader(tmp_path / "data" / EVENTS), Restless())
    assert await desk.quick() == []
    found = await desk.thorough()
    assert found
    assert {(one.table, one.field) for one in found} == {("bet", "stake")}
    await model.store.close()


async def test_after_the_first_hundred_differing_users_only_digests_are_reported(desk: Desk) -> None:
    many = NAMED_MAX + 20
    columns = "partition, user_id, level, asset, members, commissions"
    for number in range(many):
        desk.model.sql(f"INSERT INTO {{referral}} ({columns}) VALUES (0, ?, 1, '', 1, 0)", f"zz{number:03}")
    found = await desk.thorough()
    assert [one.field for one in found] == [""] * NAMED_MAX + ["digest"] * 20
    assert len({one.owner for one in found}) == many


# --- the check, round after round -----------------------------------------------------------------------------------


async def go_round(check: BackgroundCheck) -> None:
    await check.quick_round()
    await check.next_partition()


@pytest.mark.system
async def test_a_repaired_row_clears_the_stored_difference(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    check = desk.check()
    partition, row, fields = first_row(desk, "wallet")
    which, key = where(row, fields)
    desk.model.sql(f"UPDATE {{wallet}} SET status = 'gone' WHERE {which}", partition, *key)
    for _ in range(3):
        await go_round(check)
        assert [(one.owner, one.field, one.found) for one in await desk.stored()] == [(key[0], "status", '"gone"')]
    assert caplog.text.count("status: the log says") == 1, "logged once"
    assert caplog.text.count("run `stakelog project rebuild --accept` to repair the read model") == 1
    desk.model.sql(f"UPDATE {{wallet}} SET status = ? WHERE {which}", getattr(row, "status"), partition, *key)  # noqa: B009
    await go_round(check)
    assert await desk.stored() == []


async def test_a_changed_row_is_named_in_the_first_quick_round(desk: Desk) -> None:
    desk.model.sql("UPDATE {account} SET debited = '1' WHERE partition = 2 AND account = 'house/stakes'")
    await desk.check().quick_round()
    assert {(one.partition, one.owner, one.field) for one in await desk.stored()} == {(2, "house/stakes", "debited")}


async def test_a_quick_round_folds_nothing_if_the_digests_agree(desk: Desk) -> None:
    await desk.check().quick_round()
    assert await desk.model.store.checked(desk.model.generation) == []


async def test_a_partition_that_cannot_be_checked_does_not_stop_the_others(desk: Desk) -> None:
    """The log of partition 1 is damaged. That is raised, and the next turn checks partition 2."""
    damage(desk.model.path.with_name(EVENTS), "UPDATE event SET record = x'00' WHERE partition = 1 AND seq = 3")
    check = desk.check()
    await check.next_partition()
    with pytest.raises(LogDamaged):
        await check.next_partition()
    await check.next_partition()
    assert [one.partition for one in await desk.model.store.checked(1)] == [0, 2]


async def test_each_turn_checks_the_next_partition(desk: Desk) -> None:
    check = desk.check()
    for checked in ([0], [0, 1], [0, 1, 2], [0, 1, 2]):
        await go_round(check)
        there = await desk.model.store.checked(desk.model.generation)
        assert [one.partition for one in there] == checked
        desk.now_us += 1
    assert [one.checked_at_us for one in there] == [1_003, 1_001, 1_002]
    assert [one.seq for one in there] == [len(records) for records in desk.model.partitions]


async def test_for_rows_of_older_folds_only_the_digests_are_checked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "VERSION", folds.VERSION + 1)
    desk.model.sql("UPDATE {asset} SET held = held + 1")
    for _ in range(PARTITIONS):
        await go_round(desk.check())
    kept = await desk.stored()
    assert kept
    assert {(one.owner, one.table, one.field) for one in kept} == {(EVERY_USER, "asset", "digest")}


@pytest.mark.system
async def test_a_generation_that_is_dropped_during_the_check_is_no_error(desk: Desk) -> None:
    store, old = desk.model.store, desk.model.generation
    made = await store.make_generation(folds.VERSION, PARTITIONS, live=False)
    desk.model.generation = made.number
    for partition, records in enumerate(desk.model.partitions):
        folder = await desk.model.folder(partition)
        run = await folder.fold(records)
        if run is not None:
            await store.commit(made.number, [run], building=True)

    class Switching(Restless):
        async def rest(self) -> None:
            await super().rest()
            if self.rests == 5:
                await store.switch(old, made.number, accept=False)
                await store.drop_generation(old)

    check_one = PartitionCheck(store, desk.log, Switching(), desk.scratch)
    check = BackgroundCheck(store, check_one, check_one, lambda: 1, round_s=0.01)
    task = asyncio.create_task(check.run())
    async with asyncio.timeout(60):
        while len(await store.checked(made.number)) < PARTITIONS:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    assert await store.differences(made.number, 1) == []


async def test_a_thorough_pass_of_a_dropped_generation_reports_that_it_is_gone(desk: Desk) -> None:
    with pytest.raises(Switched):
        await desk.partition_check().thorough(desk.model.generation + 7, 0)


async def test_without_a_live_generation_nothing_is_checked(tmp_path: Path) -> None:
    model = ReadModel(tmp_path, [])
    await write_log(tmp_path, [[]])
    reader = SqliteLogReader(tmp_path / EVENTS)
    check_one = PartitionCheck(model.store, reader, Restless(), partial(scratch_store, tmp_path))
    await go_round(BackgroundCheck(model.store, check_one, check_one, lambda: 1))
    reader.close()
    await model.store.close()


async def test_the_number_of_stored_differences_is_bounded(desk: Desk) -> None:
    desk.model.sql(
        "INSERT INTO {referral} (partition, user_id, level, asset, members, commissions)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
        " SELECT 0, 'zz', i + 10, '', 1, 0 FROM n"
    )
    await go_round(desk.check())
    (checked, *_) = await desk.model.store.checked(desk.model.generation)
    assert checked.differences == STORED_MAX
    assert EVERY_USER in {one.owner for one in await desk.stored()}, "a user whose difference is not stored"


# --- while events arrive --------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_rows_that_change_during_the_check_are_no_difference(
    folded: Path, tmp_path: Path, scenario: list[list[bytes]]
) -> None:
    """The log is complete; the read model folds one event at each rest of the check."""
    shutil.copytree(folded, tmp_path / "data")
    (tmp_path / "data" / READ_MODEL).unlink()
    model = await ReadModel.empty(tmp_path / "data", scenario)
    folders = [await model.folder(partition) for partition in range(PARTITIONS)]
    busy = [partition for partition in range(PARTITIONS) for _ in scenario[partition]]

    class Busy(Restless):
        async def rest(self) -> None:
            await super().rest()
            if busy:
                folder = folders[busy.pop()]
                seq = folder.head.seq
                await model.fold(folder, scenario[folder.partition][seq : seq + 1])

    desk = Desk(model, SqliteLogReader(tmp_path / "data" / EVENTS), Busy())
    passes = 0
    while busy:
        assert await desk.quick() == []
        assert await desk.thorough(rows_max=(100_000, 20)[passes % 2]) == []
        passes += 1
    assert passes > 2
    await model.store.close()


async def test_a_scan_reads_one_moment_whatever_is_committed_during_it(
    tmp_path: Path, scenario: list[list[bytes]]
) -> None:
    records = max(scenario, key=len)
    model = await ReadModel.empty(tmp_path, [[], [], []])
    partition = scenario.index(records)
    folder = await model.folder(partition)
    await model.fold(folder, records[: len(records) // 2])
    before, rows = await model.rows(partition), dict[str, list[Row]]()
    head = folder.head
    async for checkpoint, kind, page in model.store.scan(1, partition):
        rows.setdefault(kind.table, []).extend(page)
        assert checkpoint.head == head
        await model.fold(folder, records[folder.head.seq : folder.head.seq + 10])
    assert {table: page for table, page in before.items() if page} == {
        table: page for table, page in rows.items() if page
    }
    assert folder.head.seq > head.seq
    await model.store.close()


# --- a long log ---------------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.auditing.refold._PAGE", 100)
    monkeypatch.setattr("projections.auditing.refold._CHUNK", 200)
    monkeypatch.setattr("projections.storage.sqlite._SCANNED_AT_ONCE", 50)
    folders = [made(tmp_path / name) for name in ("first", "short", "long")]
    peaks = [await peak_of_a_check(*one) for one in zip(folders, (400, 400, 2_000), strict=True)]
    assert peaks[2] < 1.5 * peaks[1], "the first one loads modules"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def peak_of_a_check(folder: Path, events: int) -> int:
    """The peak in bytes, for a log of this many deposits to many users, half of them to one."""
    records = chained(deposits(*(f"u{number // 2}" if number % 2 else "whale" for number in range(events))))
    await write_log(folder, [records])
    model = await ReadModel.empty(folder, [records])
    for start in range(0, events, 100):
        await model.fold(await model.folder(), records[start : start + 100])
    desk = Desk(model, SqliteLogReader(folder / EVENTS), Restless())
    check = desk.partition_check(rows_max=50)
    tracemalloc.start()
    try:
        assert await check.thorough(model.generation, 0) == (events, [])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        desk.log.close()
        await model.store.close()


async def test_a_scratch_folder_is_deleted_also_after_a_kill(tmp_path: Path) -> None:
    abandoned = tmp_path / f"{PREFIX}killed"
    abandoned.mkdir()
    (abandoned / "in-use").touch()
    async with scratch_store(tmp_path), scratch_store(tmp_path):
        there = names_in(tmp_path)
        assert abandoned.name not in there
        assert len(there) == 2, "the folder of a running process is left alone"
    assert names_in(tmp_path) == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# --- quarantine -----------------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_quarantined_events_are_no_difference(
    folded: Path, tmp_path: Path, scenario: list[list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while the fold fails on them, nor after the fix, before they are folded."""

    def picky(event: Event, place: Position, book: RowBuffer) -> None:
        if event.user_id == "anna" and event.data.type == "bet_settled":
            raise ValueError("no bets of anna")

    shutil.copytree(folded, tmp_path / "data")
    (tmp_path / "data" / READ_MODEL).unlink()
    with monkeypatch.context() as broken:
        broken.setattr("projections.projecting.partition.FOLDS", (*folds.FOLDS, picky))
        model = await ReadModel.folded(tmp_path / "data", scenario)
        desk = Desk(model, SqliteLogReader(tmp_path / "data" / EVENTS), Restless())
        assert [one.user_id for one in await model.store.quarantine(1)] == ["anna"]
        assert await desk.thorough() == []
        assert await desk.thorough(rows_max=20) == []
    assert await desk.quick() == []
    assert await desk.thorough() == []
    assert await desk.thorough(rows_max=20) == []
    desk.model.sql("UPDATE {asset} SET cash = cash + 1 WHERE user_id = 'anna'")
    assert {(one.owner, one.field) for one in await desk.thorough()} == {("anna", "cash")}, "folded rows are checked"
    await model.store.close()


async def test_an_event_in_the_rows_on_which_a_fold_fails_is_a_difference(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(event: Event, place: Position, book: RowBuffer) -> None:
        if event.user_id == "anna" and event.data.type == "bet_settled":
            raise ValueError("no bets of anna")

    monkeypatch.setattr("projections.projecting.partition.FOLDS", (*folds.FOLDS, picky))
    found = await desk.thorough()
    (stop,) = (one for one in found if one.table == "quarantine")
    assert (stop.owner, stop.expected, stop.found) == ("anna", '"ValueError: no bets of anna"', "null")


async def test_quarantined_events_that_were_deleted_or_changed_by_hand_are_named(
    folded: Path, tmp_path: Path, scenario: list[list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(event: Event, place: Position, book: RowBuffer) -> None:
        if event.user_id == "anna" and event.data.type == "bet_settled":
            raise ValueError("no bets of anna")

    shutil.copytree(folded, tmp_path / "data")
    (tmp_path / "data" / READ_MODEL).unlink()
    with monkeypatch.context() as broken:
        broken.setattr("projections.projecting.partition.FOLDS", (*folds.FOLDS, picky))
        model = await ReadModel.folded(tmp_path / "data", scenario)
    desk = Desk(model, SqliteLogReader(tmp_path / "data" / EVENTS), Restless())
    (anna,) = await model.store.quarantine(1)
    waiting = await model.store.quarantined_events(1, anna.partition, "anna", 1_000)
    assert len(waiting) > 2
    model.sql("DELETE FROM quarantined_event WHERE seq = ?", waiting[1].seq)
    model.sql("UPDATE quarantined_event SET record = x'7b7d' WHERE seq = ?", waiting[2].seq)
    for rows_max in (100_000, 20):
        found = await desk.thorough(rows_max)
        assert [(one.owner, one.table, one.key) for one in found] == [
            ("anna", "quarantined_event", f"[{waiting[1].seq}]"),
            ("anna", "quarantined_event", f"[{waiting[2].seq}]"),
        ]
    await model.store.close()


# --- share of a core ------------------------------------------------------------------------------------------------


async def test_the_check_rests_nine_times_as_long_as_it_worked() -> None:
    clock_s, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    busy = False
    pace = CpuShare(0.1, cpu_s=lambda: clock_s[0], sleep=sleep, is_busy=lambda: busy, busy_share=0.5)
    clock_s[0] += 2.0
    await pace.rest()
    await pace.rest()
    pace.urgent = True
    clock_s[0] += 2.0
    await pace.rest()
    assert slept == pytest.approx([18.0, 0.0, 2.0])
    pace.urgent, busy = False, True
    clock_s[0] += 2.0
    await pace.rest()
    assert slept[3:] == pytest.approx([38.0])


async def test_the_quick_passes_keep_their_share_on_a_busy_machine() -> None:
    clock_s, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = CpuShare(0.1, cpu_s=lambda: clock_s[0], sleep=sleep, is_busy=lambda: True)
    clock_s[0] += 2.0
    await pace.rest()
    assert slept == pytest.approx([18.0])


def test_ranges_of_users_cover_each_user_once() -> None:
    one, two = Users(last="bob"), Users(first="bob")
    for user_id in ("0", "Bob", "anna", "bob", "bob1", "~", "ü"):
        assert (user_id in one) != (user_id in two)


def test_all_tables_but_five_belong_to_users() -> None:
    assert [kind.table for kind in ROW_TYPES if kind not in BY_USER] == [
        *("deposit", "account", "period", "selection", "house")
    ]


def encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()
