"""`stakelog project status`, `rebuild` and `supply` where something is not as it should be: what they say, and how
they end."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from ledger.sqlite.folder import EVENTS
from sqlite_log import damage
from unit.folders import scenario_records, write_log
from unit.read_model import ReadModel


def run(data: Path, *arguments: str, partitions: str | None = None) -> Result:
    environment = {"STAKELOG_DATA": str(data), "STAKELOG_PARTITIONS": partitions}
    done = CliRunner().invoke(stakelog, ["project", *arguments], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The published scenario, and a read model of all of it."""
    folder = write_log(tmp_path / "data", scenario_records())
    fold(folder, scenario_records())
    return folder


def fold(folder: Path, partitions: list[list[bytes]]) -> None:
    async def folded() -> None:
        await (await ReadModel.folded(folder, partitions)).store.close()

    asyncio.run(folded())


@pytest.mark.parametrize("command", ["status", "rebuild", "supply"])
@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
def test_without_a_log_it_says_what_to_do_and_makes_nothing(tmp_path: Path, command: str, there: bool) -> None:
    data = tmp_path / "data"
    if there:
        data.mkdir()
    done = run(data, command)
    assert done.exit_code == 2
    assert done.stderr == (
        f"stakelog project {command}: there is no event log in {data}: "
        "name the folder of a log with --data or STAKELOG_DATA\n"
    )
    assert list(tmp_path.rglob("*")) == ([data] if there else [])


def test_the_status_of_a_read_model_that_knows_all_is_well(data: Path) -> None:
    for partitions in (None, "4"):
        done = run(data, "status", partitions=partitions)
        assert done.exit_code == 0, done.output
        assert "AHEAD" not in done.stdout


def test_the_status_of_a_log_that_got_shorter_names_every_partition_that_is_ahead(data: Path) -> None:
    ends = [len(records) for records in scenario_records()]
    damage(data / EVENTS, f"DELETE FROM event WHERE partition IN (1, 2) AND seq > {min(ends[1], ends[2]) - 2}")
    done = run(data, "status")
    assert done.exit_code == 1
    said = [line for line in done.stdout.splitlines() if line.startswith("AHEAD")]
    assert [line.split(": the log ends before it: it got shorter.")[0] for line in said] == [
        f"AHEAD partition {partition}, seq {ends[partition]}" for partition in (1, 2)
    ]
    assert f"partition 0: seq {ends[0]} " in done.stdout


def test_the_status_beside_another_log_says_so(data: Path) -> None:
    damage(data / EVENTS, "UPDATE event SET record = replace(CAST(record AS TEXT), 'a', 'b') WHERE partition = 3")
    done = run(data, "status")
    assert done.exit_code == 1
    assert f"AHEAD partition 3, seq {len(scenario_records()[3])}: the log has another record there" in done.stdout


def test_the_status_beside_a_log_of_other_partitions_says_so(data: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path / "other", [[], []])
    for suffix in ("", "-wal", "-shm"):
        (data / f"{EVENTS}{suffix}").unlink(missing_ok=True)
    (other / EVENTS).rename(data / EVENTS)
    done = run(data, "status")
    assert done.exit_code == 1
    assert "AHEAD partition 2, seq" in done.stdout
    assert "it was made of a log of 4 partitions, this one has 2" in done.stdout


def test_the_status_with_other_partitions_than_the_log_has_is_refused_as_serve_does(data: Path) -> None:
    done = run(data, "status", partitions="8")
    assert done.exit_code == 2
    assert done.stderr == (
        f"stakelog project status: the log in {data} was created with 4 partitions, not 8: "
        "set STAKELOG_PARTITIONS=4, or use another folder\n"
    )


def test_the_status_of_a_read_model_before_a_record_that_is_none_names_its_place(tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    fold(data, [partition[:2] for partition in scenario_records()])
    damage(data / EVENTS, "UPDATE event SET record = x'7b' WHERE partition = 1 AND seq = 3")
    done = run(data, "status")
    assert done.exit_code == 1
    assert "the log is damaged at partition 1, seq 3: the record cannot be read" in done.stderr


def test_without_a_command_it_is_the_worker_for_kafka_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path / "data")
    assert done.exit_code == 2
    assert done.stderr == (
        "stakelog project: this is the worker for a log on Kafka; with STAKELOG_LOG=sqlite `stakelog serve` fills "
        "the read model by itself. `stakelog project --help` lists the other commands\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [("status", "--data"), ("supply", "--data"), ("--data",)])
def test_the_folder_is_named_by_an_option_as_in_audit(data: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [*arguments, str(data)] if len(arguments) == 2 else [*arguments, str(data), "status"]
    done = run(tmp_path / "another", *command)
    assert done.exit_code == 0, done.output
    assert "there is no event log" not in done.output
