"""The ids in SQLite's state store: runs that are merged show the same as a dictionary, also after a crash."""

import random
from pathlib import Path

import pytest

from ledger.core.record import Head
from ledger.core.state_values import Value
from ledger.sqlite import runs, state_store
from ledger.sqlite.state_store import SqliteStateStore

USERS = ("u", "u1", "u10", "v")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few dozen ids are merged several times, in several transactions."""
    monkeypatch.setattr(runs, "_CHUNK_BYTES", 30)
    monkeypatch.setattr(runs, "_MERGED_AT_ONCE", 3)
    monkeypatch.setattr(runs, "_SMALL", 4)
    monkeypatch.setattr(runs, "_PAIRS_PER_COMMIT", 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


def changes_of(chance: random.Random) -> dict[str, Value | None]:
    """Of ids that come again, of new ones, and of rows that are no ids; one in six is deleted."""
    keys = [f"{chance.choice(USERS)} b:{chance.randrange(200)}" for _ in range(chance.randrange(12))]
    keys += [chance.choice((*USERS, "!t0001 u", "!f7")) for _ in range(2)]
    return {key: None if chance.random() < 1 / 6 else chance.randrange(10**6) for key in keys}


def check_equal(store: SqliteStateStore, partition: int, expected: dict[str, Value]) -> None:
    everything = sorted(expected.items())
    assert store.scan(partition, "", "\U0010ffff", 10_000) == everything
    assert store.scan(partition, "u ", "u1 b:3", 10_000) == [
        pair for pair in everything if "u " <= pair[0] < "u1 b:3"
    ]
    assert store.keys(partition, "u1", 10_000) == [key for key, _ in everything if key > "u1"]
    wanted = [*expected, *(f"{user} b:{number}" for user in USERS for number in range(200))]
    assert store.get(partition, wanted) == expected
    copy = store.copy(partition)
    assert copy is not None
    after, lines = "", list[str]()
    while (found := copy.page(after, 5, 10_000)) is not None:
        after = found[2]
        lines += found[0].decode().split("\n")
    copy.close()
    assert lines == [text for key, value in everything for text in (key, str(value))]


@pytest.mark.system
def test_runs_that_are_merged_show_what_was_saved_last(path: Path) -> None:
    chance = random.Random(41)
    store = SqliteStateStore(path)
    states: list[dict[str, Value]] = [{}, {}]
    merged = 0
    for number in range(1, 150):
        partition = chance.randrange(2)
        changes = changes_of(chance)
        before = numbers_of_runs(store, partition)
        store.save(partition, changes, Head(number, "0" * 64))
        for _ in range(chance.randrange(12)):  # a merge may go on between the saves of both partitions
            store.merge(partition)
        merged += len(numbers_of_runs(store, partition)) < len(before)
        for key, value in changes.items():
            states[partition].pop(key, None)
            if value is not None:
                states[partition][key] = value
        if number % 10 == 0:
            store.close()
            store = SqliteStateStore(path)
        if number % 3 == 0 and number > 20:
            for of_partition, state in enumerate(states):
                check_equal(store, of_partition, state)
    assert merged > 20
    assert max(len(numbers_of_runs(store, partition)) for partition in range(2)) < 15
    store.close()


def store_with_a_due_merge(path: Path) -> tuple[SqliteStateStore, dict[str, Value]]:
    """And what the store has."""
    path.unlink(missing_ok=True)
    store = SqliteStateStore(path)
    state: dict[str, Value] = {}
    for number in range(3):
        changes: dict[str, Value] = {f"u b:{at}": number for at in range(number, 20 + number)}
        store.save(0, changes, Head(number, "0" * 64))
        state |= changes
    return store, state


def merge_wholly(store: SqliteStateStore) -> None:
    while store.merge(0):
        pass


def test_a_merge_that_is_killed_in_any_of_its_transactions_changes_nothing(path: Path) -> None:
    steps, more = 0, True
    while more:
        store, state = store_with_a_due_merge(path)
        more = all(store.merge(0) for _ in range(steps))
        steps += 1
        check_equal(store, 0, state)
        again = SqliteStateStore(path)  # as after a kill: the first one was not closed
        check_equal(again, 0, state)
        assert chunks_of_unlisted_runs(again) == 0
        again.save(0, {"u b:1": 98}, Head(10, "0" * 64))
        merge_wholly(again)
        check_equal(again, 0, {**state, "u b:1": 98})
        again.close()
        store.close()
    assert steps > 7


def test_a_save_does_not_merge_and_a_save_within_a_merge_counts_as_newer(path: Path) -> None:
    steps, more = 0, True
    while more:
        store, state = store_with_a_due_merge(path)
        more = all(store.merge(0) for _ in range(steps))
        steps += 1
        before = numbers_of_runs(store, 0)
        store.save(0, {"u b:1": 98, "u b:2": None}, Head(9, "0" * 64))
        assert numbers_of_runs(store, 0)[:-1] == before, "a save adds one run and merges none"
        expected = {**state, "u b:1": 98}
        del expected["u b:2"]
        check_equal(store, 0, expected)
        merge_wholly(store)
        check_equal(store, 0, expected)
        assert len(numbers_of_runs(store, 0)) == 2 - (steps == 1)
        assert chunks_of_unlisted_runs(store) == 0
        store.close()
    assert steps > 7


def test_a_replaced_state_gets_nothing_of_a_merge_that_was_given_up(path: Path) -> None:
    store, _ = store_with_a_due_merge(path)
    assert store.merge(0)
    store.replace(0, [b"u b:7\n7"], Head(9, "0" * 64), None)
    merge_wholly(store)
    check_equal(store, 0, {"u b:7": 7})
    store.close()


@pytest.mark.system
def test_a_merge_that_does_not_fit_leaves_the_space_to_the_saves(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStateStore(path)
    state: dict[str, Value] = {}
    for number in range(3):
        changes: dict[str, Value] = {f"u b:{at}": number for at in range(number * 500, (number + 1) * 500)}
        store.save(0, changes, Head(number, "0" * 64))
        state |= changes
    (pages,) = store._saver.execute("PRAGMA page_count").fetchone()
    store._saver.execute(f"PRAGMA max_page_count={pages + 10}")
    for number in range(3, 20):
        store.save(0, {"u b:1": number}, Head(number, "0" * 64))
        merge_wholly(store)
        check_equal(store, 0, {**state, "u b:1": number})
        assert chunks_of_unlisted_runs(store) == 0
    assert caplog.text.count("are not merged") == 1, "it is not tried again at once"
    assert "full" in caplog.text
    store._saver.execute(f"PRAGMA max_page_count={10 * pages}")
    monkeypatch.setattr(store, "_merge_after_s", {})  # after the pause
    merge_wholly(store)  # the short runs
    merge_wholly(store)
    assert len(numbers_of_runs(store, 0)) == 1
    check_equal(store, 0, {**state, "u b:1": 19})
    store.close()


def test_a_merge_is_given_up_once_others_fill_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = store_with_a_due_merge(path)
    assert store.merge(0)
    monkeypatch.setattr(state_store, "DISK_RESERVE_BYTES", 2**62)
    merge_wholly(store)
    assert len(numbers_of_runs(store, 0)) == 3
    assert chunks_of_unlisted_runs(store) == 0
    check_equal(store, 0, state)
    store.close()


def test_a_merge_leaves_the_log_its_reserve_of_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, state = store_with_a_due_merge(path)
    monkeypatch.setattr(state_store, "DISK_RESERVE_BYTES", 2**62)
    merge_wholly(store)
    assert len(numbers_of_runs(store, 0)) == 3
    assert "the disk needs" in caplog.text
    check_equal(store, 0, state)
    monkeypatch.setattr(state_store, "DISK_RESERVE_BYTES", 0)
    merge_wholly(store)
    assert len(numbers_of_runs(store, 0)) == 3, "it is not tried again at once"
    monkeypatch.setattr(store, "_merge_after_s", {})  # after the pause
    merge_wholly(store)
    assert len(numbers_of_runs(store, 0)) == 1
    check_equal(store, 0, state)
    store.close()


@pytest.mark.parametrize(
    ("counts", "number"),
    [
        ([], 0),
        ([1, 1], 0),
        ([1, 2, 3], 3),
        ([1, 2, 100], 0),
        ([1, 2, 3, 100, 100], 3),
        ([10, 10, 10, 1_000], 3),
        ([1, 10, 10, 10, 1_000], 4),
        ([10, 1, 10, 1_000], 0),
        ([10, 1, 1, 10, 10, 1_000], 5),
        ([1, 1_000, 1, 1, 10], 4),
    ],
)
def test_the_newest_runs_of_about_the_same_size_are_merged(counts: list[int], number: int) -> None:
    assert runs.merged_at_once(counts) == number


def numbers_of_runs(store: SqliteStateStore, partition: int) -> list[int]:
    return [row[0] for row in store._saver.execute("SELECT run FROM run WHERE partition = ?", (partition,))]


def chunks_of_unlisted_runs(store: SqliteStateStore) -> int:
    found: int = store._saver.execute(
        "SELECT count(*) FROM chunk WHERE (partition, run) NOT IN (SELECT partition, run FROM run)"
    ).fetchone()[0]
    return found
