"""`stakelog audit export`: whole files, byte for byte, continued only by their own log."""

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from ledger.core.record import EMPTY_SHA256
from ledger.operations.audit import Fault
from ledger.operations.export import Format, Ndjson, export
from ledger.operations.parquet import Parquet
from ledger.ports import StoredRecord
from ledger.sqlite.folder import EVENTS
from sqlite_log import damage
from unit.folders import scenario_records, write_log

KINDS = ("ndjson", "parquet")
FORMS: dict[str, Format] = {"ndjson": Ndjson(), "parquet": Parquet()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("scenario") / "data", scenario_records())


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "dest"


def run(data: Path, dest: Path, kind: str = "ndjson", *arguments: str) -> Result:
    return CliRunner().invoke(
        stakelog,
        ["audit", "export", str(dest), "--data", str(data), "--format", kind, "--file-events", "7", *arguments],
    )


def exported(dest: Path, kind: str) -> list[list[bytes]]:
    """The records of every partition, in the order of the files' names."""
    return [
        [record for path in sorted(folder.iterdir()) for record in FORMS[kind].read(path)]
        for folder in sorted(dest.glob("partition-*"))
    ]


def names(dest: Path) -> list[str]:
    return sorted(str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file())


def chopped(records: list[list[bytes]], size: int) -> list[list[bytes]]:
    return [partition[:size] for partition in records]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_holds_every_record_byte_for_byte_in_files_named_by_seq(data: Path, dest: Path, kind: str) -> None:
    done = run(data, dest, kind)
    assert done.exit_code == 0, done.output
    records = scenario_records()
    assert exported(dest, kind) == records
    events = sum(map(len, records))
    assert f"exported {events} events into {dest}, which now has {events} events of 4 partitions" in done.output
    ends = [min(first + 6, len(records[2])) for first in range(1, len(records[2]) + 1, 7)]
    assert [name for name in names(dest) if name.startswith("partition-0002")] == [
        f"partition-0002/{first:012d}-{end:012d}.{kind}" for first, end in zip(range(1, 999, 7), ends, strict=False)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_run_again_it_adds_what_is_new_and_touches_nothing_else(tmp_path: Path, dest: Path, kind: str) -> None:
    data = write_log(tmp_path / "data", chopped(scenario_records(), 9))
    assert run(data, dest, kind).exit_code == 0
    before = {name: (dest / name).stat().st_mtime_ns for name in names(dest)}
    nothing = run(data, dest, kind)
    assert nothing.exit_code == 0
    assert "exported 0 events" in nothing.output
    write_log(data, scenario_records())
    done = run(data, dest, kind)
    assert done.exit_code == 0, done.output
    assert exported(dest, kind) == scenario_records()
    assert {name: (dest / name).stat().st_mtime_ns for name in before} == before


def test_unfinished_files_of_a_killed_run_are_written_again(data: Path, dest: Path) -> None:
    assert run(data, dest).exit_code == 0
    last = max((dest / "partition-0001").iterdir())
    half = last.with_name(last.name + ".tmp")
    last.rename(half)
    half.write_bytes(half.read_bytes()[:100])
    done = run(data, dest)
    assert done.exit_code == 0, done.output
    assert exported(dest, "ndjson") == scenario_records()
    assert not half.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_log_is_refused_before_anything_is_written(
    tmp_path: Path, dest: Path, data: Path, kind: str
) -> None:
    other = [[rechained(partition) for partition in chopped(scenario_records(), 5)][index] for index in range(4)]
    assert run(write_log(tmp_path / "other", other), dest, kind).exit_code == 0
    before = names(dest)
    done = run(data, dest, kind)
    assert done.exit_code == 1
    assert done.stdout.startswith("FAULT partition 0, seq 5: the log and the export have different records here")
    assert "the export is of another log; choose another folder" in done.stdout
    assert names(dest) == before


def rechained(records: list[bytes]) -> list[bytes]:
    """A log of the same scenario with other hashes."""
    prev, done = EMPTY_SHA256, []
    for record in records:
        event = {**json.loads(record), "prev": prev, "actor": "eve"}
        done.append(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
        prev = sha256(done[-1]).hexdigest()
    return done


def test_an_export_that_goes_further_than_the_log_is_refused(tmp_path: Path, data: Path, dest: Path) -> None:
    assert run(data, dest).exit_code == 0
    done = run(write_log(tmp_path / "shorter", chopped(scenario_records(), 3)), dest)
    assert done.exit_code == 1
    assert done.stdout.startswith("FAULT partition 0, seq 4: the log ends before it, the export continues to seq ")
    assert "or the log got shorter" in done.stdout


def test_a_log_with_another_number_of_partitions_is_refused(tmp_path: Path, data: Path, dest: Path) -> None:
    assert run(data, dest).exit_code == 0
    done = run(write_log(tmp_path / "two", [[], []]), dest)
    assert done.exit_code == 1
    assert done.stdout.startswith(
        "FAULT partition 2, seq 1: the export is of a log with 4 partitions, this one has 2"
    )


def test_a_folder_that_is_no_export_is_left_alone(data: Path, dest: Path) -> None:
    dest.mkdir()
    (dest / "mine.txt").write_text("keep")
    done = run(data, dest)
    assert done.exit_code == 2
    assert "is not empty and no export" in done.stderr
    assert names(dest) == ["mine.txt"]


def test_an_export_in_another_format_is_named(data: Path, dest: Path) -> None:
    assert run(data, dest, "parquet").exit_code == 0
    done = run(data, dest, "ndjson")
    assert done.exit_code == 2
    assert "continue it with --format parquet" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_named_and_ends_with_1(data: Path, dest: Path, kind: str) -> None:
    assert run(data, dest, kind).exit_code == 0
    path = sorted((dest / "partition-0002").iterdir())[1]
    records = list(FORMS[kind].read(path))
    records[2] = records[2].replace(b'"local"', b'"eve"').replace(b'"ledger"', b'"eve"')
    path.unlink()
    FORMS[kind].write(path, records)
    done = run(data, dest, kind)
    assert done.exit_code == 1
    assert path.name in done.stderr
    assert "seq 11: its prev is not the hash" in done.stderr


def test_a_file_that_is_cut_short_is_named(data: Path, dest: Path) -> None:
    assert run(data, dest).exit_code == 0
    path = min((dest / "partition-0002").iterdir())
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    done = run(data, dest)
    assert done.exit_code == 1
    assert "ends at seq 6, not at 7" in done.stderr


def test_a_parquet_file_that_is_none_is_named(data: Path, dest: Path) -> None:
    assert run(data, dest, "parquet").exit_code == 0
    path = min((dest / "partition-0002").iterdir())
    path.write_bytes(b"PAR1")
    done = run(data, dest, "parquet")
    assert done.exit_code == 1
    assert "cannot be read as Parquet" in done.stderr


def test_a_missing_file_is_named(data: Path, dest: Path) -> None:
    assert run(data, dest).exit_code == 0
    sorted((dest / "partition-0002").iterdir())[1].unlink()
    done = run(data, dest)
    assert done.exit_code == 1
    assert "begins at seq 15, but the files before it end at 7" in done.stderr


def test_a_log_that_breaks_its_own_chain_is_not_exported_further(tmp_path: Path, dest: Path) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    damage(
        data / EVENTS,
        """UPDATE event SET record = CAST(replace(CAST(record AS TEXT), '"local"', '"eve"') AS BLOB)
           WHERE partition = 2 AND seq = 10""",
    )
    done = run(data, dest)
    assert done.exit_code == 1
    assert "FAULT partition 2, seq 11" in done.stdout
    assert [name for name in names(dest) if name.startswith("partition-0002")] == [
        "partition-0002/000000000001-000000000007.ndjson"
    ], "the file with the fault is not there under its name"


class Shrinking:
    """A source that promises more than it gives."""

    def ends(self) -> Sequence[int]:
        return [len(scenario_records()[0]) + 1]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        yield [StoredRecord(record) for record in scenario_records()[0][from_seq - 1 : to_seq]]


def test_a_record_that_is_missing_at_the_end_is_a_fault(dest: Path) -> None:
    with pytest.raises(Fault, match="missing"):
        export(Shrinking(), dest, Ndjson(), file_events_max=1_000)
    assert names(dest) == ["export.json"]


class FullDisk(Ndjson):
    def write(self, path: Path, records: Iterable[bytes]) -> None:
        super().write(path, list(records)[:1])
        raise OSError(28, "No space left on device")


class Scenario:
    def ends(self) -> Sequence[int]:
        return [len(records) for records in scenario_records()]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        yield [StoredRecord(record) for record in scenario_records()[partition][from_seq - 1 : to_seq]]


def test_a_write_that_fails_leaves_nothing_half(dest: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        export(Scenario(), dest, FullDisk(), file_events_max=1_000)
    assert names(dest) == ["export.json"]
    export(Scenario(), dest, Ndjson(), file_events_max=1_000)
    assert exported(dest, "ndjson") == scenario_records()


def test_two_exports_into_one_folder_do_not_meet(data: Path, dest: Path) -> None:
    class Meanwhile(Scenario):
        def ends(self) -> Sequence[int]:
            return super().ends()

        def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
            done = run(data, dest)
            assert done.exit_code == 2
            assert "is running" in done.stderr
            return super().read(partition, to_seq, from_seq)

    export(Meanwhile(), dest, Ndjson(), file_events_max=1_000)
    assert exported(dest, "ndjson") == scenario_records()


def test_parquet_has_typed_columns_and_proves_its_own_chain(data: Path, dest: Path) -> None:
    assert run(data, dest, "parquet", "--file-events", "1000").exit_code == 0
    (path,) = (dest / "partition-0001").iterdir()
    rows = pq.read_table(path).to_pylist()
    prev = EMPTY_SHA256
    for row, record in zip(rows, scenario_records()[1], strict=True):
        event = json.loads(record)
        assert row["record"] == record
        assert row["prev"] == prev
        assert row["head"] == (prev := sha256(record).hexdigest())
        assert json.loads(row["data"]) == event["data"]
        for name in ("v", "partition", "seq", "time_us", "user_id", "command_id", "request_sha256", "actor", "type"):
            assert row[name] == event[name]
        assert round(row["time"].timestamp() * 1_000_000) == event["time_us"]
        assert [[posting["account"], posting["asset"], posting["amount"]] for posting in row["postings"]] == event[
            "postings"
        ]
        assert {balance.pop("asset"): balance for balance in row["balances"]} == event["balances"]
    assert any(row["postings"] for row in rows)


def test_without_pyarrow_it_says_how_to_install_it(data: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ledger.operations.parquet", None)
    done = run(data, dest, "parquet")
    assert done.exit_code == 2
    assert "pip install 'stakelog[parquet]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not dest.exists()
