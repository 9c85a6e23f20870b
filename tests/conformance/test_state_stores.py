"""The state stores in memory and on SQLite pass the one contract; the one on disk is never wrong after a crash."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.state_store import FIRST, SECOND, OpenStore, StateStoreContract
from ledger.core.record import Head
from ledger.errors import LedgerError
from ledger.memory.state_store import MemoryStateStore
from ledger.ports import StateStore
from ledger.sqlite.state_store import FORMAT, SqliteStateStore


class TestMemoryStateStore(StateStoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        store = MemoryStateStore()
        return lambda: store


class TestSqliteStateStore(StateStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def opened() -> StateStore:
            return SqliteStateStore(tmp_path / "state.sqlite3")

        return opened


# --- a crash in mid-save -----------------------------------------------------------------------------------------

SIZE = 700
"""Values of one save in these tests: all of them, and the checkpoint's seq, are the number of the save."""


def save_all_as(store: StateStore, number: int) -> None:
    store.save(0, {f"k{index}": number for index in range(SIZE)}, Head(number, f"{number:064d}"))


def saved_number(path: Path) -> int:
    """The number of the one save that the store shows; fails if it shows two, or a part of one."""
    store = SqliteStateStore(path)
    checkpoint = store.checkpoint(0)
    values = store.get(0, [f"k{index}" for index in range(SIZE)])
    store.close()
    if checkpoint is None:
        assert values == {}
        return 0
    assert checkpoint == Head(checkpoint.seq, f"{checkpoint.seq:064d}")
    assert set(values.values()) == {checkpoint.seq}
    assert len(values) == SIZE
    return checkpoint.seq


def test_a_wal_cut_at_any_byte_leaves_whole_saves(tmp_path: Path) -> None:
    living = tmp_path / "living"
    living.mkdir()
    store = SqliteStateStore(living / "state.sqlite3")
    wal = living / "state.sqlite3-wal"
    sizes = [wal.stat().st_size]
    for number in range(1, 5):
        save_all_as(store, number)
        sizes.append(wal.stat().st_size)
    whole_wal = wal.read_bytes()
    main_file = (living / "state.sqlite3").read_bytes()
    store.close()
    around = [size + step for size in sizes for step in (-24, -1, 0, 1, 24)]
    anywhere = random.Random(5).choices(range(sizes[0], sizes[-1]), k=20)
    for cut in sorted(cut for cut in {*around, *anywhere} if sizes[0] <= cut <= sizes[-1]):
        torn = tmp_path / f"torn-{cut}"
        torn.mkdir()
        (torn / "state.sqlite3").write_bytes(main_file)
        (torn / "state.sqlite3-wal").write_bytes(whole_wal[:cut])
        whole_saves = max(number for number, size in enumerate(sizes) if size <= cut)
        assert saved_number(torn / "state.sqlite3") == whole_saves
        shutil.rmtree(torn)


_SAVER = """
import sys
from pathlib import Path
from conformance.test_state_stores import save_all_as
from ledger.sqlite.state_store import SqliteStateStore

store = SqliteStateStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    save_all_as(store, number)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.system
def test_a_process_killed_in_mid_save_leaves_whole_saves(tmp_path: Path) -> None:
    tests, src = Path(__file__).parents[1], Path(__file__).parents[2] / "src"
    path = tmp_path / "state.sqlite3"
    chance = random.Random(13)
    number = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(path), str(number)],
            env={"PYTHONPATH": f"{src}:{tests}"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            confirmed = int(process.stdout.readline())
            time.sleep(chance.uniform(0.005, 0.06))
            process.send_signal(signal.SIGKILL)
            confirmed = max([confirmed, *map(int, process.stdout.read().split("\n")[:-1])])
        number = saved_number(path)
        assert number >= confirmed, "a save that had returned is gone, though the machine did not lose power"


_REPLACER = """
import sys
from pathlib import Path
from ledger.core.record import Head
from ledger.sqlite.state_store import SqliteStateStore

store = SqliteStateStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    pages = [b"\\n".join(b"k%05d\\n%d" % (index, number) for index in range(begin, begin + 500))
             for begin in range(0, 40_000, 500)]
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    store.replace(0, pages, Head(number, f"{number:064d}"), b"%d" % number)
"""


@pytest.mark.system
def test_a_process_killed_in_mid_replacement_leaves_a_whole_state_or_none(tmp_path: Path) -> None:
    src = Path(__file__).parents[2] / "src"
    path = tmp_path / "state.sqlite3"
    chance = random.Random(17)
    number, seen = 0, set()
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", _REPLACER, str(path), str(number)],
            env={"PYTHONPATH": str(src)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            number = int(process.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.12))
            process.send_signal(signal.SIGKILL)
            number = max([number, *map(int, process.stdout.read().split("\n")[:-1])])
        store = SqliteStateStore(path)
        at, values = store.checkpoint(0), {value for _, value in store.scan(0, "", "z", 100_000)}
        assert (values, store.place(0)) == ((set(), None) if at is None else ({at.seq}, b"%d" % at.seq))
        assert len(store.keys(0, "", 100_000)) == (0 if at is None else 40_000)
        seen.add(at is None)
        store.close()
    assert True in seen, "it was never killed in the middle"


# --- a cache that cannot be used ---------------------------------------------------------------------------------


def test_a_save_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {"a": 1, "b": 2}, FIRST)
    with sqlite3.connect(path) as other:
        other.execute(
            "CREATE TRIGGER no_more BEFORE INSERT ON checkpoint BEGIN SELECT RAISE(ABORT, 'the disk is broken'); END"
        )
    with pytest.raises(LedgerError, match="the disk is broken"):
        store.save(0, {"a": 10, "b": None, "c": 3}, SECOND)
    assert (store.get(0, ["a", "b", "c"]), store.checkpoint(0)) == ({"a": 1, "b": 2}, FIRST)
    with sqlite3.connect(path) as other:
        other.execute("DROP TRIGGER no_more")
    other.close()
    store.save(0, {"a": 10, "b": None, "c": 3}, SECOND)
    assert (store.get(0, ["a", "b", "c"]), store.checkpoint(0)) == ({"a": 10, "c": 3}, SECOND)
    store.close()


def test_a_store_of_another_format_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {"a": 1}, FIRST)
    store.close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version={FORMAT + 1}")
    other.close()
    store = SqliteStateStore(path)
    assert (store.checkpoint(0), store.get(0, ["a"])) == (None, {})
    store.close()


@pytest.mark.parametrize("garbage", [b"this is no database" * 400, b"SQLite format 3\0" + b"\xff" * 8_000])
def test_a_file_that_is_no_store_is_named_with_what_to_do(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_bytes(garbage)
    with pytest.raises(LedgerError, match=r"state\.sqlite3 cannot be used.*delete it"):
        SqliteStateStore(path)


@pytest.mark.parametrize("bad", [b"", b"\xc1", b"\x93\xa1w", b"\x81\xa1a\x01", b"\x91\xa1z"])
def test_a_value_that_is_damaged_is_named_with_what_to_do(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {"a": 1}, FIRST)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE value SET value = ?", (bad,))
    other.close()
    with pytest.raises(LedgerError, match="delete it"):
        store.get(0, ["a"])
    with pytest.raises(LedgerError, match="delete it"):
        store.scan(0, "", "z", 1)
    store.close()


@pytest.mark.parametrize("bad", [b"\nu b:1\n", b"\nu b:1\n[\n", b"\nu b:1\n1\nu b:2\n"])
def test_ids_that_are_damaged_are_named_with_what_to_do(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {"u b:1": 1, "u b:2": 2}, FIRST)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE chunk SET lines = ?", (bad,))
    other.close()
    with pytest.raises(LedgerError, match="delete it"):
        store.get(0, ["u b:1", "u b:2"])
    with pytest.raises(LedgerError, match="delete it"):
        store.scan(0, "", "z", 2)
    store.close()


def test_pages_that_are_damaged_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStateStore(path)
    store.save(0, {f"k{number}": number for number in range(5_000)}, FIRST)
    store.close()
    content = bytearray(path.read_bytes())
    content[4_096:] = b"\xee" * (len(content) - 4_096)
    path.write_bytes(content)

    def use() -> None:
        SqliteStateStore(path).checkpoint(0)

    with pytest.raises(LedgerError, match="delete it"):
        use()
