"""`stakelog audit replay`: a wallet's or a partition's events, exact, in order, up to any time."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from api.cli.audit.replay import UNTIL_TIME
from api.cli.main import stakelog
from ledger.core.position import partition_of
from ledger.operations.replay import Unreadable, line_of, parse_time, utc
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.readers import SqliteRecords
from sqlite_log import damage
from unit.folders import scenario_records, write_log


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("scenario") / "data", scenario_records())


def replay(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(stakelog, ["audit", "replay", "--data", str(data), *arguments])


def ndjson(done: Result) -> list[bytes]:
    assert done.exit_code == 0, done.output
    return done.stdout_bytes.splitlines()


def of(user_id: str) -> list[bytes]:
    return [
        record for partition in scenario_records() for record in partition if json.loads(record)["user_id"] == user_id
    ]


def test_a_wallets_events_is_its_records_byte_for_byte_in_order(data: Path) -> None:
    assert ndjson(replay(data, "--user", "alice", "--format", "ndjson")) == of("alice")


def test_a_partitions_events_is_all_its_records(data: Path) -> None:
    assert ndjson(replay(data, "--partition", "2", "--format", "ndjson")) == scenario_records()[2]


def test_the_events_may_end_at_a_time_which_is_still_part_of_it(data: Path) -> None:
    records = of("bob")
    until_us = json.loads(records[5])["time_us"]
    expected = [record for record in records if json.loads(record)["time_us"] <= until_us]
    assert 5 < len(expected) < len(records)
    for text in (str(until_us), utc(until_us)):
        assert ndjson(replay(data, "--user", "bob", "--format", "ndjson", "--until", text)) == expected
    just_before = ndjson(replay(data, "--user", "bob", "--format", "ndjson", "--until", str(until_us - 1)))
    assert len(just_before) < len(expected)


def test_the_events_of_a_known_wallet_before_its_beginning_is_empty(data: Path) -> None:
    done = replay(data, "--user", "bob", "--until", "2020-01-01T00:00:00Z")
    assert done.exit_code == 0
    assert done.output == "0 events\n"


def test_the_table_has_place_time_type_ids_change_and_balances(data: Path) -> None:
    done = replay(data, "--user", "alice")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert "position" in lines[0]
    assert "balances after" in lines[0]
    (bet,) = [number for number, line in enumerate(lines) if "bet_placed" in line and "T13:00:11" in line]
    assert "1:" in lines[bet]
    assert "2026-11-23T13:00:11.000000Z" in lines[bet]
    assert "INR cash" in lines[bet]
    cells = " ".join(lines[bet : bet + 3])
    assert "game external" in cells
    assert "INR bonus -2200" in cells
    assert done.output.endswith(f"{len(of('alice'))} events\n")


def test_the_table_of_a_partition_names_the_wallets(data: Path) -> None:
    assert "heidi" in replay(data, "--partition", str(partition_with("heidi"))).output


def partition_with(user_id: str) -> int:
    partition: int = json.loads(of(user_id)[0])["partition"]
    return partition


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--user", "no-such-user"), "no event of no-such-user is in the log"),
        (("--partition", "4"), "there is no partition 4: the log has 4"),
        ((), "give either --user or --partition"),
        (("--user", "u", "--partition", "1"), "give either --user or --partition"),
        (("--user", "u", "--until", "yesterday"), "is no time: write 2026"),
        (("--user", "u", "--until", "2026-11-23T18:00:00"), "is no time: write 2026"),
    ],
)
def test_wrong_use_is_one_message_and_ends_with_2(data: Path, arguments: tuple[str, ...], said: str) -> None:
    done = replay(data, *arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""


def test_a_record_that_cannot_be_read_ends_the_table_in_words_and_with_1(tmp_path: Path) -> None:
    records = scenario_records()
    data = write_log(tmp_path / "data", records)
    damage(data / EVENTS, "UPDATE event SET record = x'7b' WHERE partition = 2 AND seq = 3")
    done = replay(data, "--partition", "2")
    assert done.exit_code == 1
    assert "record number 3 of this output cannot be read" in done.stderr
    assert ndjson(replay(data, "--partition", "2", "--format", "ndjson"))[2] == b"{"
    until = replay(data, "--partition", "2", "--format", "ndjson", "--until", "2030-01-01T00:00:00Z")
    assert until.exit_code == 1
    assert "record number 3 of this output cannot be read" in until.stderr


def test_a_wallets_events_has_its_own_records_only_whatever_other_records_name(tmp_path: Path) -> None:
    records = scenario_records()
    p = partition_of("carol", len(records))
    expected = [record for record in records[p] if json.loads(record)["user_id"] == "carol"]
    assert expected
    named = records[p][-1].replace(b'"data":{', b'"data":{"metadata":{"user_id":"carol"},')
    assert b'"user_id":"carol"' in named
    assert json.loads(named)["user_id"] != "carol"
    records[p][-1] = named
    data = write_log(tmp_path / "data", records)
    with closing(SqliteRecords(data / EVENTS)) as log:
        assert [record for page in log.of_user("carol") for record in page] == expected


def test_a_record_of_a_wallet_that_cannot_be_read_is_not_hidden(tmp_path: Path) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    p = partition_of("alice", len(scenario_records()))
    damage(data / EVENTS, "UPDATE event SET record = substr(record, 1, length(record) - 1) WHERE partition = ?", p)
    done = replay(data, "--user", "alice")
    assert done.exit_code == 1
    assert "record number 1 of this output cannot be read" in done.stderr


def test_records_can_be_read_from_the_middle_on(data: Path) -> None:
    with closing(SqliteRecords(data / EVENTS)) as records:
        found = [row[0] for page in records.read(2, 6, 3) for row in page]
    assert found == scenario_records()[2][2:6]


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("0", 0),
        ("-5", -5),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01t05:30:00.000001+05:30", 1),
        ("1969-12-31 23:59:59.999999+00:00", -1),
    ],
)
def test_times_are_rfc_3339_or_microseconds(text: str, time_us: int) -> None:
    assert parse_time(text) == time_us


def test_a_time_is_shown_with_all_its_digits() -> None:
    assert utc(1_795_438_800_000_001) == "2026-11-23T13:00:00.000001Z"
    assert utc(10**20) == f"{10**20} µs"


def a_record(**changed: Any) -> bytes:
    event = json.loads(scenario_records()[0][0]) | changed
    return json.dumps(event).encode()


def test_an_unknown_event_type_has_its_line_too() -> None:
    postings = [["wallet/erin/cash", "INR", 5], ["wallet/erin/cash", "INR", 2], ["house/x", "INR", -7]]
    line = line_of(a_record(user_id="erin", type="of_tomorrow", data={"reason": "r", "new": 1}, postings=postings))
    assert (line.type, line.about, line.change) == ("of_tomorrow", "reason r", {"INR": {"cash": 7}})


def test_what_is_no_record_is_said() -> None:
    with pytest.raises(Unreadable):
        line_of(b'{"partition":1}')


def test_until_a_day_includes_all_of_that_day() -> None:
    time = UNTIL_TIME.convert("2026-11-30", None, None)
    assert time == parse_time("2026-12-01T00:00:00Z") - 1
    assert UNTIL_TIME.convert("2026-11-30T10:00:00Z", None, None) == parse_time("2026-11-30T10:00:00Z")
