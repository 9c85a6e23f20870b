"""The ids in SQLite's state store: runs that are merged show the same as a dictionary, also after a crash."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.core.record import Head
from ledger.core.state_values import Value
from ledger.errors import LedgerError
from ledger.sqlite import runs
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


def test_a_merge_that_ends_in_any_of_its_transactions_changes_nothing(path: Path) -> None:
    transactions = 0
    while True:
        path.unlink(missing_ok=True)
        store = SqliteStateStore(path)
        state: dict[str, Value] = {}
        for number in range(3):  # the next save merges these three runs
            changes = {f"u b:{at}": number for at in range(number, 20 + number)}
            store.save(0, changes, Head(number, "0" * 64))
            state |= changes
        saved = saves_in(store, transactions)
        if saved:
            break
        transactions += 1
        check_equal(store, 0, state)
        again = SqliteStateStore(path)  # as after a kill: the first one was not closed
        check_equal(again, 0, state)
        assert chunks_of_unlisted_runs(again) == 0
        again.save(0, {"u b:1": 98}, Head(10, "0" * 64))
        check_equal(again, 0, {**state, "u b:1": 98})
        again.close()
        store.close()
    assert transactions > 5
    check_equal(store, 0, {**state, "u b:0": 99})
    store.close()


@pytest.mark.parametrize("transactions", [0, 2])
def test_a_merge_is_given_up_once_the_process_ends(path: Path, transactions: int) -> None:
    store = SqliteStateStore(path)
    for number in range(3):
        store.save(0, {f"u b:{at}": number for at in range(20)}, Head(number, "0" * 64))
    left = iter(range(transactions))
    whole = store._transaction

    @contextmanager
    def counted(connection: sqlite3.Connection) -> Iterator[None]:
        with whole(connection):
            yield
        if next(left, None) is None:
            store.hurry()

    if transactions == 0:
        store.hurry()
    store._transaction = counted  # type: ignore[method-assign]
    store.save(0, {"u b:1": 99}, Head(9, "0" * 64))
    assert len(numbers_of_runs(store, 0)) == 4
    expected: dict[str, Value] = {**{f"u b:{at}": 2 for at in range(20)}, "u b:1": 99}
    check_equal(store, 0, expected)
    store.close()
    again = SqliteStateStore(path)
    assert chunks_of_unlisted_runs(again) == 0
    again.save(0, {}, Head(10, "0" * 64))
    assert len(numbers_of_runs(again, 0)) == 1
    check_equal(again, 0, expected)
    again.close()


def saves_in(store: SqliteStateStore, transactions: int) -> bool:
    """Whether one more save needs no more than so many transactions; the next one fails."""
    left = iter(range(transactions))
    whole = store._transaction

    @contextmanager
    def failing(connection: sqlite3.Connection) -> Iterator[None]:
        with whole(connection):
            yield
            if next(left, None) is None:
                raise sqlite3.OperationalError("the disk is broken")

    with pytest.MonkeyPatch.context() as breaking:
        breaking.setattr(store, "_transaction", failing)
        try:
            store.save(0, {"u b:0": 99}, Head(9, "0" * 64))
        except LedgerError:
            assert store.checkpoint(0) == Head(2, "0" * 64)
            return False
    return True


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
