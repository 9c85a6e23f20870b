"""What an operator meets on a bad day: one clear message, the right exit status, and a log that is as it was."""

import http.client
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.core.record import Head, decode, sha256_hex
from ledger.sqlite.folder import EVENTS
from sqlite_log import Stored, damage, stored_records
from system.service import Service, free_port

pytestmark = pytest.mark.system

PARTITIONS: Final = 2
ENDED_WITHIN_S: Final = 120


def service_of(data: Path) -> Service:
    return Service(data, PARTITIONS=str(PARTITIONS))


def post(service: Service, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """The batch's answers, one for each command."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    with closing(connection):
        body = json.dumps(commands)
        connection.request("POST", "/v1/commands/batch", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answers: list[dict[str, Any]] = json.loads(response.read())
        assert response.status == 200, answers
        return answers


def deposits(name: str, how_many: int, size: int = 0) -> list[dict[str, Any]]:
    filler = {"metadata": {f"k{number}": "x" * 512 for number in range(size)}} if size else {}
    return [
        {
            "type": "deposit",
            "command_id": f"{name}-{number}",
            "user_id": f"u{number % 8}",
            "order_id": f"{name}-{number}",
            "asset": "INR",
            "amount": 100,
            **filler,
        }
        for number in range(how_many)
    ]


OPENINGS: Final = [{"type": "open_wallet", "command_id": "open", "user_id": f"u{number}"} for number in range(8)]


def statuses(answers: list[dict[str, Any]]) -> set[int]:
    return {answer["status"] for answer in answers}


def codes(answers: list[dict[str, Any]]) -> set[str]:
    return {answer["problem"]["code"] for answer in answers if "problem" in answer}


def run(data: Path, *python: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`stakelog serve`, which is expected to end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    ours = {"AUTH": "off", "DATA": str(data), "PORT": str(free_port()), "PARTITIONS": str(PARTITIONS)} | settings
    return subprocess.run(
        [sys.executable, *python, "-m", "api", "serve"],
        env=inherited | {f"STAKELOG_{name}": value for name, value in ours.items()},
        capture_output=True,
        text=True,
        timeout=ENDED_WITHIN_S,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], status: int, *says: str) -> None:
    """One message, no trace, this status."""
    assert_one_message(done.stderr, *says)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""


def assert_one_message(stderr: str, *says: str) -> None:
    assert "Traceback" not in stderr, stderr
    messages = [line for line in stderr.splitlines() if line.startswith("stakelog")]
    assert len(messages) == 1, stderr
    assert stderr.rstrip().splitlines()[-1] == messages[0], stderr
    for part in says:
        assert part in messages[0], stderr


def ended(service: Service) -> int:
    assert service.process is not None
    status = service.process.wait(ENDED_WITHIN_S)
    service.process = None
    return status


def records(data: Path) -> list[Stored]:
    """All that the log holds, read without changing its files."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("events.sqlite3", "events.sqlite3-wal"):
            if (data / name).exists():
                shutil.copy(data / name, copy)
        return stored_records(Path(copy, "events.sqlite3"))


def assert_chained(rows: list[Stored]) -> None:
    heads = {partition: Head(0, "0" * 64) for partition in range(PARTITIONS)}
    for partition, seq, record in rows:
        decoded = decode(record)
        assert decoded.position == (partition, seq) == (partition, heads[partition].seq + 1)
        assert decoded.prev == heads[partition].sha256
        heads[partition] = Head(seq, sha256_hex(record))


def files_of(data: Path) -> dict[str, bytes]:
    """The log's own files."""
    return {
        path.name: path.read_bytes() for path in sorted(data.glob("events.sqlite3*")) if path.suffix != ".sqlite3-shm"
    }


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a service left behind in good order, with some hundred events."""
    data = tmp_path_factory.mktemp("yesterday") / "data"
    with service_of(data) as service:
        assert statuses(post(service, *OPENINGS)) == {201}
        assert statuses(post(service, *deposits("y", 400))) == {201}
    return data


@pytest.fixture
def data(yesterday: Path, tmp_path: Path) -> Path:
    """A copy of that folder, for this test to ruin."""
    return Path(shutil.copytree(yesterday, tmp_path / "data"))


# --- a disk that is full, or broken ------------------------------------------------------------------------------


def test_a_full_disk_refuses_writes_definitely_and_goes_on_when_there_is_space(service_disk: Path) -> None:
    ballast = service_disk / "ballast"
    ballast.write_bytes(bytes(30_200_000))
    with service_of(service_disk / "data") as service:
        assert statuses(post(service, *OPENINGS)) == {201}
        written = 8
        for number in range(200):
            answers = post(service, *deposits(f"fill-{number}", 40, size=2))
            written += sum(answer["status"] == 201 for answer in answers)
            if statuses(answers) != {201}:
                break
        assert codes(answers) == {"log_unavailable"}
        refused = [answer for answer in answers if answer["status"] == 503]
        assert refused
        for number in range(3):  # still full: still definite, still alive, and reads go on
            answers = post(service, *deposits(f"full-{number}", 40, size=2))
            assert statuses(answers) <= {201, 503}
            written += sum(answer["status"] == 201 for answer in answers)
        assert post(service, *OPENINGS)[0]["idempotency_hit"] is True
        assert len(records(service_disk / "data")) == written
        assert_chained(records(service_disk / "data"))
        ballast.unlink()
        again = post(service, *deposits(f"full-{number}", 40, size=2))
        assert statuses(again) <= {200, 201}, "there is space again"
        written += sum(answer["status"] == 201 for answer in again)
        assert len(records(service_disk / "data")) == written
    assert_chained(records(service_disk / "data"))
    with service_of(service_disk / "data") as service:
        assert statuses(post(service, *OPENINGS)) == {200}


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4_096)):
            pass


@pytest.mark.parametrize("ended", ["stopped", "never began"])
def test_a_start_on_a_full_disk_is_one_message_and_harms_nothing(service_disk: Path, ended: str) -> None:
    data = service_disk / "data"
    service = service_of(data)
    if ended != "never began":
        service.start()
        post(service, *OPENINGS)
        service.stop()
    before = records(data) if ended != "never began" else []
    fill(service_disk)
    assert_refused(run(data), 1, str(data))
    (service_disk / "ballast").unlink()
    with service:
        assert statuses(post(service, *OPENINGS)) == ({201} if ended == "never began" else {200})
        assert records(data)[: len(before)] == before


def test_after_a_kill_the_service_starts_on_a_full_disk_too(service_disk: Path) -> None:
    """The files that a start needs are still there: it recovers, answers what it knows, and refuses to write."""
    service = service_of(service_disk / "data")
    service.start()
    post(service, *OPENINGS)
    service.kill()
    fill(service_disk)
    service.start()
    assert statuses(post(service, *OPENINGS)) == {200}
    assert codes(post(service, *deposits("full", 400, size=4))) == {"log_unavailable"}
    (service_disk / "ballast").unlink()
    assert statuses(post(service, *deposits("full", 400, size=4))) <= {200, 201}
    service.stop()


def test_a_service_on_a_full_disk_stops_with_one_message(service_disk: Path) -> None:
    service = service_of(service_disk / "data")
    service.start()
    post(service, *OPENINGS)
    fill(service_disk)
    answers = post(service, *deposits("full", 400, size=4))
    assert codes(answers) == {"log_unavailable"}
    assert service.process is not None
    service.process.terminate()
    assert ended(service) == 1
    assert_one_message(service.log_text(), "the state was not saved, the log has everything")
    (service_disk / "ballast").unlink()
    with service:
        assert statuses(post(service, *OPENINGS)) == {200}


def test_a_disk_that_fails_in_mid_commit_ends_the_service_and_the_next_start_knows_the_outcome(data: Path) -> None:
    """The kernel refuses to make files longer than this, as a broken disk might."""
    service = service_of(data)
    service.start()
    before = records(data)
    answers = post(service, *deposits("small", 8))
    assert statuses(answers) == {201}
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (150_000, 150_000))
    answers = []
    with suppress(http.client.HTTPException, OSError):  # it ends: a connection may break
        for number in range(50):
            answers = post(service, *deposits(f"big-{number}", 40, size=4))
            if statuses(answers) != {201}:
                break
    assert codes(answers) <= {"outcome_unknown", "log_unavailable", "shutting_down"}
    assert "outcome_unknown" in codes(answers)
    assert ended(service) == 1
    assert_one_message(service.log_text(), "outcome unknown", "restart")
    service.start()
    again = post(service, *deposits(f"big-{number}", 40, size=4))
    assert statuses(again) <= {200, 201}
    service.stop()
    rows = records(data)
    assert_chained(rows)
    assert rows[: len(before)] != []
    events = [decode(row.record).event for row in rows]
    assert len({(event.user_id, event.command_id) for event in events}) == len(rows)


# --- a folder that cannot be used --------------------------------------------------------------------------------


def read_only_by_mount(data: Path) -> Callable[[], None]:
    subprocess.run(["mount", "--bind", str(data), str(data)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], check=True, capture_output=True)

    def undo() -> None:
        subprocess.run(["umount", "--lazy", str(data)], check=True)

    return undo


def read_only_by_mode(data: Path) -> Callable[[], None]:
    for path in data.iterdir():
        path.chmod(0o444)
    data.chmod(0o555)
    return lambda: data.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_named(data: Path) -> None:
    before = files_of(data)
    again = (read_only_by_mount if os.geteuid() == 0 else read_only_by_mode)(data)
    try:
        done = run(data)
    finally:
        again()
    assert_refused(done, 1, str(data))
    assert files_of(data) == before


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    assert_refused(run(tmp_path / "data"), 1, str(tmp_path / "data"), "STAKELOG_DATA")


def test_a_second_service_on_a_folder_is_refused_and_the_first_goes_on(data: Path) -> None:
    with service_of(data) as first:
        done = run(data)
        assert_refused(done, 1, "in use by another process", f"pid {first.pid}", str(data))
        assert statuses(post(first, *deposits("after", 8))) == {201}
    assert_chained(records(data))


@pytest.mark.parametrize(("setting", "address"), [("PORT", "{}"), ("INTERNAL", "127.0.0.1:{}")])
def test_a_taken_port_ends_it_named_with_its_setting_and_nothing_is_made(
    tmp_path: Path, setting: str, address: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path / "data", **{"HOST": "127.0.0.1", setting: address.format(port)})
    assert_refused(done, 1, f"cannot listen on 127.0.0.1:{port}", f"set STAKELOG_{setting} to another one")
    assert not (tmp_path / "data").exists()


def test_a_lock_file_that_is_left_behind_means_nothing(data: Path) -> None:
    service = service_of(data)
    service.start()
    service.kill()
    assert (data / "stakelog.lock").exists()
    with service:
        assert statuses(post(service, *OPENINGS)) == {200}


# --- a log that is not what it was -------------------------------------------------------------------------------


def damaged(statement: str) -> Callable[[Path], object]:
    return lambda data: damage(data / "events.sqlite3", statement)


@pytest.mark.parametrize(
    ("make_damage", "seq"),
    [
        (
            damaged(  # not any 100: a hash may hold one
                """UPDATE event SET record = replace(record, '"amount":100', '"amount":900')
                   WHERE partition = 1 AND seq = 50"""
            ),
            51,
        ),
        (damaged("UPDATE event SET record = x'00' WHERE partition = 1 AND seq = 50"), 50),
        (damaged("UPDATE event SET record = substr(record, 1, 60) WHERE partition = 1 AND seq = 50"), 50),
        (damaged("DELETE FROM event WHERE partition = 1 AND seq = 50"), 50),
        (damaged("UPDATE event SET seq = 5000 WHERE partition = 1 AND seq = 50"), 50),
        (
            damaged(
                "UPDATE event SET record = (SELECT record FROM event WHERE partition = 0 AND seq = 50) "
                "WHERE partition = 1 AND seq = 50"
            ),
            50,
        ),
    ],
    ids=["another amount", "no JSON", "cut", "gone", "moved", "another partition's"],
)
@pytest.mark.parametrize("state", ["with its state", "without"])
def test_a_record_that_was_changed_is_named(
    data: Path, make_damage: Callable[[Path], object], seq: int, state: str
) -> None:
    make_damage(data)
    if state == "without":
        forget_state(data)
    before = records(data)
    assert_refused(run(data), 1, f"the log is damaged at partition 1, seq {seq}:")
    assert records(data) == before


def forget_state(data: Path) -> None:
    for path in data.glob("state.sqlite3*"):
        path.unlink()


@pytest.mark.parametrize("seed", range(4))
def test_pages_that_are_damaged_are_named(data: Path, seed: int) -> None:
    """Random bytes in a quarter of the file's pages."""
    chance = random.Random(seed)
    log = data / "events.sqlite3"
    with log.open("r+b") as file:
        pages = log.stat().st_size // 4_096
        for page in chance.sample(range(1, pages), pages // 4):
            file.seek(page * 4_096)
            file.write(chance.randbytes(4_096))
    before = log.read_bytes()
    done = run(data)
    assert_one_message(
        done.stderr, str(log) if "cannot" in done.stderr or "malformed" in done.stderr else "partition"
    )
    assert done.returncode == 1
    assert log.read_bytes() == before


@pytest.mark.parametrize("left", [0.5, 0.01])
def test_a_file_that_was_cut_short_is_named(data: Path, left: float) -> None:
    log = data / "events.sqlite3"
    os.truncate(log, int(log.stat().st_size * left))
    before = log.read_bytes()
    assert_refused(run(data), 1, str(log), "truncated", "backup")
    assert log.read_bytes() == before


def test_a_file_that_is_no_log_is_named(data: Path) -> None:
    log = data / "events.sqlite3"
    log.write_bytes(b"no database at all" * 1_000)
    before = log.read_bytes()
    assert_refused(run(data), 1, str(log))
    assert log.read_bytes() == before


def test_a_log_that_was_exchanged_by_an_older_copy_is_named(yesterday: Path, data: Path) -> None:
    with service_of(data) as service:
        assert statuses(post(service, *deposits("today", 40))) == {201}
    shutil.copy(yesterday / "events.sqlite3", data / "events.sqlite3")
    before = files_of(data)
    assert_refused(run(data), 1, "the log got shorter", "Nothing was changed", "state.sqlite3")
    assert files_of(data) == before
    forget_state(data)  # what the message says may be done if the log is known to be right
    with service_of(data) as service:
        assert statuses(post(service, *deposits("y", 400))) == {200}


def test_a_log_of_another_history_is_named(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with service_of(other) as service:
        post(service, *OPENINGS, *deposits("other", 900))
    shutil.copy(other / "events.sqlite3", data / "events.sqlite3")
    before = files_of(data)
    assert_refused(run(data), 1, "of another log", "Nothing was changed")
    assert files_of(data) == before


def test_a_log_that_is_gone_while_its_state_is_there_is_named(data: Path) -> None:
    (data / "events.sqlite3").unlink()
    before = sorted(data.iterdir())
    for _ in range(2):
        assert_refused(run(data), 1, "the log is gone")
        assert sorted(data.iterdir()) == before, (
            "an empty log beside the state would pass for a ledger without events"
        )


def test_another_exponent_of_an_asset_is_wrong_use(data: Path) -> None:
    before = files_of(data)
    assert_refused(run(data, ASSETS="INR:3,GOLD:0"), 2, "was written with INR:2, not with INR:3")
    assert files_of(data) == before


def test_an_asset_may_be_added_but_neither_changed_nor_left_out(data: Path) -> None:
    every_asset = "INR:2,USDT:6,GOLD:0,CHIP:0"
    with Service(data, PARTITIONS=str(PARTITIONS), ASSETS=every_asset):
        pass
    assert_refused(run(data, ASSETS="INR:2,USDT:6,GOLD:0,CHIP:1"), 2, "was written with CHIP:0")
    assert_refused(run(data, ASSETS="INR:2,USDT:5,GOLD:0,CHIP:0"), 2, "was written with USDT:6")
    assert_refused(run(data, ASSETS="INR:2,USDT:6,GOLD:0"), 2, "CHIP:0")
    with Service(data, PARTITIONS=str(PARTITIONS), ASSETS=every_asset):
        pass


def test_another_number_of_partitions_is_wrong_use(data: Path) -> None:
    before = files_of(data)
    assert_refused(run(data, PARTITIONS="3"), 2, f"created with {PARTITIONS} partitions", "STAKELOG_PARTITIONS=2")
    assert files_of(data) == before


# --- a state that is not what it was -----------------------------------------------------------------------------


def test_a_missing_state_is_rebuilt(data: Path) -> None:
    forget_state(data)
    with service_of(data) as service:
        assert statuses(post(service, *OPENINGS, *deposits("y", 400))) == {200}
        assert statuses(post(service, *deposits("new", 8))) == {201}
    assert_chained(records(data))


@pytest.mark.parametrize("garbage", [b"garbage" * 2_000, b"SQLite format 3\0" + b"\xee" * 10_000])
def test_a_state_that_is_garbage_is_named_with_what_to_do(data: Path, garbage: bytes) -> None:
    forget_state(data)
    (data / "state.sqlite3").write_bytes(garbage)
    before = files_of(data)
    assert_refused(run(data), 1, "state.sqlite3", "delete it")
    assert files_of(data) == before


def test_a_state_whose_pages_are_damaged_is_named_with_what_to_do(data: Path) -> None:
    state = data / "state.sqlite3"
    content = bytearray(state.read_bytes())
    content[4_096:] = random.Random(3).randbytes(len(content) - 4_096)
    state.write_bytes(content)
    assert_refused(run(data), 1, "state.sqlite3", "delete it")
    forget_state(data)
    with service_of(data) as service:
        assert statuses(post(service, *OPENINGS)) == {200}


# --- another program -----------------------------------------------------------------------------------------------


def test_a_program_that_reads_and_closes_the_log_takes_no_record_away(tmp_path: Path) -> None:
    """SQLite deletes the WAL when the last connection closes it; the service must not look like a closed one."""
    data = tmp_path / "data"
    read_and_close = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT 1 FROM append').fetchone()"
    service = service_of(data)
    with service:
        post(service, *OPENINGS)
        before = (data / f"{EVENTS}-wal").stat().st_ino
        subprocess.run([sys.executable, "-c", read_and_close, str(data / EVENTS)], check=True)
        assert (data / f"{EVENTS}-wal").stat().st_ino == before
        assert statuses(post(service, *deposits("after", 8))) == {201}
        service.kill()
    assert len(records(data)) == len(OPENINGS) + 8


# --- wrong use ---------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named(data: Path) -> None:
    before = files_of(data)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(run(data, PORT=str(port)), 1, f"127.0.0.1:{port}", "STAKELOG_PORT")
    assert files_of(data) == before


def test_a_port_of_another_service_is_named(data: Path, tmp_path: Path) -> None:
    """Services share a port where the kernel lets them (SO_REUSEPORT): this must not go unseen."""
    with service_of(tmp_path / "first") as first:
        assert_refused(run(data, PORT=str(first.port)), 1, f"127.0.0.1:{first.port}", "STAKELOG_PORT")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"AUTH": "off", "HOST": "0.0.0.0"}, ("STAKELOG_AUTH=off", "loopback", "0.0.0.0")),  # noqa: S104
        ({"LOG": "kafka://nowhere:1"}, ("STAKELOG_LOG",)),
        ({"HOST": "no such host"}, ("no such host",)),
    ],
)
def test_wrong_settings_are_wrong_use_and_open_nothing(
    tmp_path: Path, settings: dict[str, str], says: tuple[str, ...]
) -> None:
    done = run(tmp_path / "data", **settings)
    assert_refused(done, 2, *says)
    assert not (tmp_path / "data").exists()


def test_python_without_assertions_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "-O")
    assert_refused(done, 2, "python -O")
    assert not (tmp_path / "data").exists()
