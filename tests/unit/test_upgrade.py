"""`stakelog upgrade`: a folder that commit 1c43826 wrote becomes one of the present format.

``tests/fixtures/folder-of-1c43826.tar.xz`` is what the program ``demo`` of that commit left: 797 events in 16
partitions, state and read model. Every later format has to read it.
"""

import asyncio
import os
import shutil
import signal
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from ledger.core.commands import Command
from ledger.core.events import Event
from ledger.core.games.periods import name_of
from ledger.core.games.tables import canonical
from ledger.core.record import EMPTY_SHA256, Head, decode, sha256_hex
from ledger.core.wallet import Wallet
from ledger.errors import LogOutdated
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.operations import upgrade as upgrading
from ledger.operations.audit import verify
from ledger.sqlite.folder import EVENTS, NEW_EVENTS, OLD_EVENTS, READ_MODEL, STATE, FolderLock
from ledger.sqlite.format_1 import Format1Log
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.log_file import connect
from ledger.sqlite.readers import SqliteLogReader, SqliteRecords
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted, Failed
from naive_games import fee_of, paid_legs
from sqlite_log import Stored, stored_records
from unit.given import (
    ASSETS,
    SECOND_US,
    cancel_bet,
    claim_gift,
    create_gift,
    deposit,
    open_wallet,
    place_bet,
    record_result,
    settle_bet,
)
from unit.node_in_memory import request_sha256
from unit.test_money_flows import book

FIXTURE: Final = Path(__file__).parents[1] / "fixtures" / "folder-of-1c43826.tar.xz"
PARTITIONS: Final = 16


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "data"
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture(scope="module")
def records(original: Path) -> list[Stored]:
    return old_records(original / EVENTS)


def old_records(path: Path) -> list[Stored]:
    with closing(sqlite3.connect(path)) as log:
        found = log.execute("SELECT partition, seq, record FROM event ORDER BY partition, seq").fetchall()
    return [Stored(*row) for row in found]


def heads_of(records: list[Stored]) -> list[Head]:
    heads = [Head(0, EMPTY_SHA256)] * PARTITIONS
    for partition, seq, record in records:
        heads[partition] = Head(seq, sha256_hex(record))
    return heads


def meta_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as log:
        return dict(log.execute("SELECT key, value FROM meta").fetchall())


def run(*arguments: str, data: Path) -> Result:
    return CliRunner().invoke(stakelog, [*arguments, "--data", str(data)])


def test_a_folder_of_1c43826_has_the_same_records_seqs_and_heads_and_is_proved(
    original: Path, data: Path, records: list[Stored]
) -> None:
    done = run("upgrade", data=data)
    assert done.exit_code == 0, done.output
    heads = heads_of(records)
    for partition, head in enumerate(heads):
        assert f"partition {partition}: seq {head.seq} {head.sha256}\n" in done.stdout
    assert "well: 797 events in 16 partitions" in done.stdout
    assert stored_records(data / EVENTS) == records
    with closing(SqliteRecords(data / EVENTS)) as log:
        verified = verify(log)
    assert list(verified.heads) == heads
    assert verified.events == len(records) == 797
    assert meta_of(data / EVENTS) == meta_of(original / EVENTS) | {"format": "2"}
    assert old_records(data / OLD_EVENTS) == records, "the old log is kept"
    assert not (data / NEW_EVENTS).exists()
    assert [(data / name).read_bytes() for name in (STATE, READ_MODEL)] == [
        (original / name).read_bytes() for name in (STATE, READ_MODEL)
    ]
    again = run("upgrade", data=data)
    assert again.exit_code == 0
    assert "has the format of this version already" in again.stdout


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        (STATE, "SELECT partition, seq, sha256 FROM checkpoint"),
        (READ_MODEL, "SELECT partition, seq, head FROM checkpoint"),
    ],
)
def test_the_checkpoints_of_state_and_read_model_are_on_the_upgraded_log(data: Path, name: str, sql: str) -> None:
    assert run("upgrade", data=data).exit_code == 0
    with closing(sqlite3.connect(data / name)) as cache:
        checkpoints = cache.execute(sql).fetchall()
    with closing(SqliteLogReader(data / EVENTS)) as log:
        assert sum(seq for _, seq, _ in checkpoints) == sum(log.ends())
        for partition, seq, sha256 in checkpoints:
            assert seq == 0 or log.contains(partition, Head(seq, sha256)), partition


async def test_an_upgraded_log_takes_appends_in_every_partition(data: Path, records: list[Stored]) -> None:
    from conformance.event_log import append

    assert run("upgrade", data=data).exit_code == 0
    log = SqliteEventLog(data / EVENTS, PARTITIONS)
    for partition, head in enumerate(heads_of(records)):
        assert await log.head(partition) == head
        await append(log, partition, head, "new", user_id=f"new-{partition}")
    await log.close()
    assert len(stored_records(data / EVENTS)) == 797 + PARTITIONS


# --- an old folder is refused by everything else -------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "verify"),
        ("audit", "replay", "--user", "u1"),
        ("audit", "export", "exported"),
        ("audit", "reconcile"),
        ("migrate", "--to", "kafka://localhost:1"),
        ("project", "status"),
        ("project", "supply"),
        ("project", "rebuild"),
        ("project", "check", "--once"),
        ("project", "follow"),
        ("backup", "copied"),
        ("backup", "copied", "--no-verify"),
    ],
    ids=" ".join,
)
def test_an_old_folder_is_refused_with_what_to_do(
    data: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    before = (data / EVENTS).read_bytes()
    done = run(*command, data=data)
    assert done.exit_code == 2, done.output
    assert f"the log in {data} has the format of an earlier version" in done.stderr
    assert f"`stakelog upgrade --data {data}`" in done.stderr
    assert (data / EVENTS).read_bytes() == before
    assert not (data.parent / "copied").exists()


def test_a_writer_refuses_an_old_log_and_leaves_it_unchanged(data: Path) -> None:
    before = (data / EVENTS).read_bytes()
    with pytest.raises(LogOutdated, match="stakelog upgrade"):
        SqliteEventLog(data / EVENTS, PARTITIONS)
    assert (data / EVENTS).read_bytes() == before


# --- killed at any moment ------------------------------------------------------------------------------------------


class KilledAtStep:
    """Counts the steps of an upgrade: each statement on the new log, and each call that changes names or the old log.
    Kills the process before step ``number``."""

    def __init__(self, number: int | None) -> None:
        self.number, self.steps = number, 0

    def step(self, *_: object) -> None:
        if self.steps == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    def upgrade(self, folder: Path) -> int:
        """Returns the number of steps. This process ends with the upgrade, so what is replaced stays replaced."""

        def before(owner: object, name: str) -> None:
            real = getattr(owner, name)

            def called(*arguments: Any, **named: Any) -> Any:
                self.step()
                return real(*arguments, **named)

            setattr(owner, name, called)

        def traced(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            connection.set_trace_callback(self.step)
            return connection

        setattr(upgrading, "connect", traced)  # noqa: B010 - to mypy it is no name of that module
        for owner, name in ((upgrading, "sync"), (Format1Log, "fold_wal"), (os, "link"), (Path, "replace")):
            before(owner, name)
        upgrading.upgrade(folder, lambda *_: None)
        return self.steps


def in_a_child(work: Callable[[], int]) -> int:
    """Do ``work`` in a forked process. Returns its result, or minus the number of the signal that killed it."""
    child = os.fork()
    if child == 0:
        result = 255
        try:
            result = work()
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.system
def test_an_upgrade_that_is_killed_at_any_step_leaves_a_log_and_is_continued(
    original: Path, tmp_path: Path, records: list[Stored]
) -> None:
    """Killed while the tables are made, now and then while records are copied, and at each step of the switch."""
    whole = Path(shutil.copytree(original, tmp_path / "whole"))
    steps = in_a_child(lambda: KilledAtStep(None).upgrade(whole))
    assert 50 < steps < 255
    for number in sorted({*range(0, 12, 2), *range(12, steps - 8, 8), *range(steps - 8, steps)}):
        folder = Path(shutil.copytree(original, tmp_path / f"killed-{number}"))
        killer = KilledAtStep(number)
        assert in_a_child(lambda: killer.upgrade(folder)) == -signal.SIGKILL  # noqa: B023 - done within the turn
        if outdated(folder / EVENTS):
            assert old_records(folder / EVENTS) == records
            upgrading.upgrade(folder, lambda *_: None)
        assert stored_records(folder / EVENTS) == records
        assert old_records(folder / OLD_EVENTS) == records
        assert sorted(path.name for path in folder.glob(f"{EVENTS}*")) == [EVENTS, OLD_EVENTS]
        shutil.rmtree(folder)


def outdated(path: Path) -> bool:
    return meta_of(path)["format"] != "2"


def test_one_folder_killed_again_and_again_is_upgraded(data: Path, records: list[Stored]) -> None:
    while in_a_child(lambda: KilledAtStep(45).upgrade(data)) < 0:
        assert outdated(data / EVENTS)
    assert stored_records(data / EVENTS) == records


@pytest.mark.parametrize("leftover", [b"", b"no database" * 999, "another log", "a damaged copy"], ids=str)
def test_a_leftover_that_is_not_the_beginning_of_this_log_is_made_again(
    data: Path, records: list[Stored], leftover: bytes | str, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    upgrading.upgrade(other, lambda *_: None)
    if isinstance(leftover, bytes):
        (data / NEW_EVENTS).write_bytes(leftover)
    else:
        shutil.copy(other / EVENTS, data / NEW_EVENTS)
        with closing(sqlite3.connect(data / NEW_EVENTS, isolation_level=None)) as new:
            new.execute("DROP TRIGGER append_is_unchanged")
            if leftover == "another log":
                new.execute("UPDATE append SET records = CAST(replace(records, 'INR', 'EUR') AS BLOB)")
            else:
                new.execute("UPDATE append SET last_seq = last_seq + 1 WHERE partition = 3")
    assert run("upgrade", data=data).exit_code == 0
    assert stored_records(data / EVENTS) == records


# --- what stops it -------------------------------------------------------------------------------------------------


def assert_still_old(data: Path, done: Result, status: int, *parts: str) -> None:
    assert done.exit_code == status, done.output
    for part in parts:
        assert part in done.output
    assert "Traceback" not in done.output
    assert outdated(data / EVENTS)


def test_a_folder_in_use_is_refused(data: Path) -> None:
    lock = FolderLock(data)
    assert_still_old(data, run("upgrade", data=data), 2, "is in use by another process")
    lock.release()
    assert not (data / NEW_EVENTS).exists()


def test_a_folder_that_another_program_reads_is_not_switched(data: Path, records: list[Stored]) -> None:
    with closing(sqlite3.connect(data / EVENTS, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        assert_still_old(data, run("upgrade", data=data), 1, "is in use by another program")
        reader.execute("ROLLBACK")
    assert run("upgrade", data=data).exit_code == 0
    assert stored_records(data / EVENTS) == records


def test_what_is_only_in_the_wal_is_upgraded_too(data: Path, records: list[Stored]) -> None:
    """The old service was killed: its last commits are in the WAL."""
    last = records[-1]

    def written_and_killed() -> int:
        log = sqlite3.connect(data / EVENTS, isolation_level=None)
        log.execute("PRAGMA journal_mode=WAL")
        log.execute("DROP TRIGGER event_is_kept")
        log.execute("DELETE FROM event WHERE partition = ? AND seq = ?", last[:2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert in_a_child(written_and_killed) == -signal.SIGKILL
    assert (data / f"{EVENTS}-wal").stat().st_size > 0
    assert run("upgrade", data=data).exit_code == 0
    assert stored_records(data / EVENTS) == records[:-1]
    assert old_records(data / OLD_EVENTS) == records[:-1]
    assert not (data / f"{EVENTS}-wal").exists(), "a WAL of the old file would be applied to the new one"


@pytest.mark.parametrize(
    ("change", "seq", "reason"),
    [
        ("UPDATE event SET record = replace(record, 'local', 'lucal') WHERE partition = 3 AND seq = 5", 6, "chain"),
        ("UPDATE event SET record = x'7b' WHERE partition = 3 AND seq = 5", 5, "chain"),
        ("UPDATE event SET record = record || char(10) WHERE partition = 3 AND seq = 5", 5, "line feed"),
        ("DELETE FROM event WHERE partition = 3 AND seq = 5", 5, "is missing"),
        ("DELETE FROM event WHERE partition = 3 AND seq = 1", 1, "begins with seq 2"),
    ],
)
def test_a_damaged_log_is_named_and_not_switched(data: Path, change: str, seq: int, reason: str) -> None:
    with closing(sqlite3.connect(data / EVENTS, isolation_level=None)) as forger:
        for trigger in ("event_is_kept", "event_is_unchanged"):
            forger.execute(f"DROP TRIGGER {trigger}")
        forger.execute(change)
    for _ in range(2):
        assert_still_old(data, run("upgrade", data=data), 1, f"FAULT partition 3, seq {seq}: ", reason)


def test_a_copy_that_differs_is_not_switched(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = upgrading._records

    def with_a_change(log: Any, partition: int, end: int) -> Iterator[bytes]:
        for number, record in enumerate(real(log, partition, end)):
            yield record[:-1] if isinstance(log, SqliteRecords) and (partition, number) == (3, 6) else record

    monkeypatch.setattr(upgrading, "_records", with_a_change)
    assert_still_old(
        data,
        run("upgrade", data=data),
        1,
        "it has another record at partition 3, seq 7",
        f"Delete {data / NEW_EVENTS}, and run this again",
    )


def test_a_full_disk_keeps_what_is_written_and_the_next_run_continues(
    data: Path, records: list[Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count=120")
        return connection

    with monkeypatch.context() as full:
        full.setattr(upgrading, "connect", small)
        assert_still_old(data, run("upgrade", data=data), 1, "database or disk is full", "run this again to continue")
    kept = stored_records(data / NEW_EVENTS)
    assert 0 < len(kept) < len(records)
    assert run("upgrade", data=data).exit_code == 0
    assert stored_records(data / EVENTS) == records


def test_the_log_of_an_earlier_upgrade_is_not_overwritten(data: Path) -> None:
    (data / OLD_EVENTS).write_bytes(b"precious")
    assert_still_old(data, run("upgrade", data=data), 2, "is the log of an earlier upgrade: move it away")
    assert (data / OLD_EVENTS).read_bytes() == b"precious"


def test_a_folder_without_a_log_is_wrong_use_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    done = run("upgrade", data=tmp_path)
    assert done.exit_code == 2
    assert "there is no event log in" in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- games and money flows on an upgraded folder ------------------------------------------------------------------

RULES: Final = book(
    INR={
        "registration": 25,
        "first_deposit": [[100, 20]],
        "commission": {"mode": "per_bet", "rates_e9": [10_000_000]},
    }
)
OLD, OTHER, NEW = "u00007", "u00000", "new"
OPEN_BETS: Final = {OLD: "b-3-426", OTHER: "b-0-200/?%41+#"}
"""Of the folder: user → the bet that is not settled."""
STAKE: Final = 1_001


class Played:
    """A node on the folder, an hour after its last event."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_us = (
            max(event.time_us for event in self.events()) // (30 * SECOND_US) * 30 * SECOND_US + 3_600 * SECOND_US
        )
        self.node: Node

    async def start(self) -> None:
        log = SqliteEventLog(self.folder / EVENTS, PARTITIONS)
        await log.declare(ASSETS, RULES.tables, RULES.money_kept)
        store = SqliteStateStore(self.folder / STATE)
        self.node = node_of_whole_log(log, store, lambda: self.now_us, ASSETS, rules=RULES)
        await self.node.start()

    async def given(self, *commands: Command) -> None:
        for command in commands:
            response = await self.node.post(command, request_sha256(command), "local")
            assert isinstance(response, Accepted), response

    async def wallet(self, user_id: str) -> Wallet:
        read = await self.node.wallet(user_id)
        assert not isinstance(read, Failed), read
        return read.wallet

    def events(self) -> list[Event]:
        return [decode(stored.record).event for stored in stored_records(self.folder / EVENTS)]

    def of_type(self, type_: str, user_id: str) -> list[Event]:
        return [event for event in self.events() if (event.data.type, event.user_id) == (type_, user_id)]

    async def until(self, type_: str, user_id: str, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.of_type(type_, user_id)) < number:  # noqa: ASYNC110 - of several writers
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_wallets_and_open_bets_of_an_old_log_play_games_and_money_flows(data: Path, state: str) -> None:
    assert run("upgrade", data=data).exit_code == 0
    if state == "lost":
        (data / STATE).unlink()
    played = Played(data)
    await played.start()
    settled, deposits = (len(played.of_type(type_, OLD)) for type_ in ("bet_settled", "deposited"))
    assert deposits, "its next deposit is not its first"
    cash = (await played.wallet(OLD)).balances["INR"].cash

    await played.given(settle_bet(500, OPEN_BETS[OLD], user_id=OLD), cancel_bet(OPEN_BETS[OTHER], user_id=OTHER))
    await played.given(deposit(5_000, "new", user_id=OLD))
    await played.given(open_wallet(NEW, referrer_id=OLD), deposit(10_000, "first", user_id=NEW))
    period = name_of(played.now_us)
    for user_id in (OLD, NEW):
        await played.given(
            place_bet(STAKE, "wingo", game="wingo_30s", period=period, selection="big+number:7", user_id=user_id)
        )
    await played.given(create_gift(90, 3, "g"), claim_gift("g", OLD))
    played.now_us += 32 * SECOND_US
    await played.given(record_result("7", period))
    await played.until("bet_settled", OLD, settled + 2)
    await played.until("commission_paid", OLD, 1)
    await played.until("gift_claimed", OLD, 1)

    payout = sum(paid for _, _, paid in paid_legs("wingo", "big+number:7", STAKE, "7"))
    wallet = await played.wallet(OLD)
    commission_e9 = STAKE * 10_000_000
    assert wallet.balances["INR"].cash == cash + 500 + 5_000 - STAKE + payout + commission_e9 // 10**9
    assert [event.data.kind for event in played.of_type("bonus_granted", NEW)] == ["registration", "first_deposit"]  # type: ignore[union-attr]
    assert not [event for event in played.of_type("bonus_granted", OLD) if getattr(event.data, "kind", None)]
    assert fee_of(STAKE, 2) == played.of_type("bet_placed", NEW)[0].data.fee  # type: ignore[union-attr]

    await played.node.stop()
    with closing(SqliteRecords(data / EVENTS)) as log:
        verify(log, tables={digest: canonical(table) for digest, table in log.tables().items()})
    (data / STATE).unlink()
    again = Played(data)
    again.now_us = played.now_us
    await again.start()
    assert await again.wallet(OLD) == wallet
    await again.node.stop()
