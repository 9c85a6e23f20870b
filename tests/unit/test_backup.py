"""A backup's copy: one snapshot a file, caches before the log, nothing half under the name."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from api.composition.keys import make_keys
from api.identity.master_key import make_master_key, read_master_keys
from api.identity.private import Encrypted, PlainTexts
from ledger.errors import FolderInUse, FolderUnusable
from ledger.files import IDENTITY, MASTER_KEY
from ledger.operations.backup import back_up
from ledger.sqlite.folder import EVENTS, READ_MODEL, STATE
from sqlite_log import damage
from unit.folders import scenario_records, write_log
from unit.identity import key_store


def nothing(_folder: Path) -> None:
    """Accept any copy."""


def a_file(path: Path, rows: int) -> None:
    """An SQLite file in WAL mode whose one table counts to ``rows``, a page each."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE IF NOT EXISTS step(seq INTEGER PRIMARY KEY, filler BLOB)")
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO step VALUES (?, zeroblob(4000))", ((seq,) for seq in range(1, rows + 1)))
        writer.execute("COMMIT")


def last_step(path: Path) -> int:
    with closing(sqlite3.connect(path)) as reader:
        seq: int = reader.execute("SELECT count(*) FROM step").fetchone()[0]
        assert reader.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return seq


class Busy:
    """A service that commits an event and checkpoints its caches whenever the backup takes a step."""

    def __init__(self, data: Path) -> None:
        self.writers = [sqlite3.connect(data / name, isolation_level=None) for name in (EVENTS, STATE, READ_MODEL)]
        self.steps = 0

    def __call__(self, _done: int, _total: int) -> None:
        self.steps += 1
        assert self.steps < 200, "the copy starts again with every write"
        for writer in self.writers:  # first the log, then what is derived from it
            writer.execute("INSERT INTO step(filler) VALUES (zeroblob(4000))")

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def test_a_folder_in_use_is_copied_whole_with_no_cache_ahead_of_its_log(tmp_path: Path) -> None:
    data, dest = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    for name in (EVENTS, STATE, READ_MODEL):
        a_file(data / name, 3_000)
    with closing(Busy(data)) as busy:
        copied = back_up(data, dest, prove=nothing, progress=busy)
    assert busy.steps > 6, "the copy was not made step by step"
    assert set(copied.files) == {EVENTS, STATE, READ_MODEL}
    state, read_model, log = (last_step(dest / name) for name in (STATE, READ_MODEL, EVENTS))
    assert state <= log
    assert read_model <= log
    assert log < last_step(data / EVENTS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_log(tmp_path / "data", scenario_records())


def run(data: Path, dest: Path, *arguments: str) -> Result:
    return CliRunner().invoke(stakelog, ["backup", str(dest), "--data", str(data), *arguments])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_backup_is_proved_and_has_no_files_but_its_own(data: Path, tmp_path: Path) -> None:
    done = run(data, tmp_path / "copy")
    assert done.exit_code == 0, done.output
    assert "the log in it is verified" in done.output
    assert left_in(tmp_path / "copy") == [EVENTS]
    assert left_in(tmp_path) == ["copy", "data"]
    assert CliRunner().invoke(stakelog, ["audit", "verify", "--data", str(tmp_path / "copy")]).exit_code == 0


def test_only_this_user_can_read_a_copy_while_it_is_written(data: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".copy.partial"
    partial.mkdir(mode=0o755)
    seen: list[tuple[str, int]] = []

    def look(*_: object) -> None:
        seen.extend((path.name, path.stat().st_mode & 0o777) for path in (partial, *partial.iterdir()))

    before = os.umask(0o022)
    try:
        back_up(data, tmp_path / "copy", prove=look, progress=look)
    finally:
        os.umask(before)
    assert {mode for name, mode in seen if name != partial.name} == {0o600}
    assert {mode for name, mode in seen if name == partial.name} == {0o700}


async def test_a_backup_has_the_keys_for_this_user_only(data: Path, tmp_path: Path) -> None:
    async with key_store(data) as store:
        keys = make_keys(store, make_master_key(data / MASTER_KEY), lambda: 1)
        (text,) = await keys.private.encrypt([PlainTexts("u1", "c1", {"k": "v"})], "games")
    assert run(data, tmp_path / "copy").exit_code == 0
    assert left_in(tmp_path / "copy") == sorted([EVENTS, IDENTITY, MASTER_KEY])
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "copy").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    async with key_store(tmp_path / "copy") as store:
        restored = make_keys(store, read_master_keys(tmp_path / "copy" / MASTER_KEY), lambda: 1)
        assert await restored.private.decrypt([Encrypted("u1", "c1", text)]) == [{"k": "v"}]


def test_an_empty_folder_may_take_the_backup(data: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    assert run(data, tmp_path / "copy").exit_code == 0
    assert left_in(tmp_path / "copy") == [EVENTS]


def test_a_folder_that_holds_something_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "copy").exit_code == 0
    before = (tmp_path / "copy" / EVENTS).read_bytes()
    for dest in (tmp_path / "copy", data):
        done = run(data, dest)
        assert done.exit_code == 2
        assert "a backup never overwrites" in done.stderr
    assert (tmp_path / "copy" / EVENTS).read_bytes() == before


def test_a_log_that_is_not_well_gives_no_backup_unless_that_is_wanted(data: Path, tmp_path: Path) -> None:
    damage(
        data / EVENTS,
        """UPDATE event SET record = CAST(replace(CAST(record AS TEXT), '"local"', '"eve"') AS BLOB)
           WHERE partition = 2 AND seq = 10""",
    )
    done = run(data, tmp_path / "copy")
    assert done.exit_code == 1
    assert "FAULT partition 2, seq 10" in done.stdout
    assert left_in(tmp_path) == ["data"]
    done = run(data, tmp_path / "copy", "--no-verify")
    assert done.exit_code == 0
    assert "proved" not in done.stdout
    assert left_in(tmp_path) == ["copy", "data"]


def test_what_a_killed_backup_left_is_cleared_by_the_next(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".copy.partial").mkdir()
    (tmp_path / ".copy.partial" / EVENTS).write_bytes(b"half")
    assert run(data, tmp_path / "copy").exit_code == 0
    assert left_in(tmp_path) == ["copy", "data"]


def test_a_backup_that_is_under_way_is_left_alone(data: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".copy.partial"
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (partial / EVENTS).write_bytes(b"half")
    done = run(data, tmp_path / "copy")
    os.close(lock)
    assert done.exit_code == 2
    assert "another backup" in done.stderr
    assert (partial / EVENTS).read_bytes() == b"half"


def test_a_cache_that_cannot_be_read_is_left_out_and_said(data: Path, tmp_path: Path) -> None:
    (data / STATE).write_bytes(b"this is no SQLite file, and longer than its header" * 10)
    done = run(data, tmp_path / "copy")
    assert done.exit_code == 0, done.output
    assert f"{STATE} was left out" in done.output
    assert left_in(tmp_path / "copy") == [EVENTS]


def test_a_log_that_cannot_be_read_is_one_message(data: Path, tmp_path: Path) -> None:
    (data / EVENTS).write_bytes(b"this is no SQLite file, and longer than its header" * 10)
    done = run(data, tmp_path / "copy")
    assert done.exit_code == 1
    assert "cannot be copied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert left_in(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (lambda folder: (folder / "nowhere", folder / "copy"), "there is no event log in"),
        (lambda folder: (folder / "data", folder / "no" / "copy"), "there is no folder"),
        (lambda folder: (folder / "data", folder / "data" / EVENTS), "is not an empty folder"),
        (lambda folder: (folder / "data", folder / "data" / EVENTS / "x"), "there is no folder"),
    ],
)
def test_wrong_use_is_one_message_and_ends_with_2(
    data: Path, tmp_path: Path, arrange: Callable[[Path], tuple[Path, Path]], said: str
) -> None:
    done = run(*arrange(tmp_path))
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_proof_that_fails_or_a_name_that_is_taken_meanwhile_leaves_nothing(data: Path, tmp_path: Path) -> None:
    def fails(_folder: Path) -> None:
        raise FolderInUse("no")

    with pytest.raises(FolderInUse):
        back_up(data, tmp_path / "copy", prove=fails)
    assert left_in(tmp_path) == ["data"]
    with pytest.raises(FolderUnusable, match="cannot get the name"):
        back_up(data, tmp_path / "copy", prove=lambda folder: _take(folder.with_name("copy")))
    assert left_in(tmp_path) == ["copy", "data"]
    assert left_in(tmp_path / "copy") == ["mine"]
    shutil.rmtree(tmp_path / "copy")


def _take(dest: Path) -> None:
    dest.mkdir()
    (dest / "mine").touch()
