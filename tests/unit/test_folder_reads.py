"""A folder's read model, changed by hand, held against its log: each change is named, and no traceback."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from api.cli.audit.folder_reads import FolderReads
from api.cli.audit.sources import CannotAudit
from ledger.sqlite.folder import READ_MODEL
from projections.auditing.reconcile import as_of as reconcile_as_of
from projections.auditing.reconcile import wallets as reconcile_wallets
from projections.auditing.reconcile.run import Difference, Reconciled, reconcile
from projections.storage.port import ReadModelUnavailable
from unit.fake_reads import Records
from unit.folders import scenario_counts, scenario_records
from unit.read_model import ReadModel


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reconcile_wallets, reconcile_as_of):
        monkeypatch.setattr(module, "_PAUSE_S", 0.001)


COUNTS = scenario_counts()


@cache
def folded() -> bytes:
    """The file of the read model of the scenario, all of it folded."""

    async def fold(folder: Path) -> None:
        model = await ReadModel.folded(folder, scenario_records())
        await model.store.close()

    with TemporaryDirectory() as folder:
        asyncio.run(fold(Path(folder)))
        assert not list(Path(folder).glob("*-wal")), "the file has all"
        return (Path(folder) / READ_MODEL).read_bytes()


def changed(folder: Path, *statements: str) -> ReadModel:
    """A copy of the read model, and then this."""
    (folder / READ_MODEL).write_bytes(folded())
    model = ReadModel(folder, scenario_records())
    for statement in statements:
        assert model.sql(statement) > 0, statement
    return model


def held_against(
    folder: Path, records: Sequence[list[bytes]], only: Sequence[str] = ()
) -> tuple[Reconciled, list[Difference]]:
    differences: list[Difference] = []
    with closing(FolderReads(folder, len(records))) as reads:
        result = reconcile(Records(list(records)), reads, only=only, wait_s=0, on_difference=differences.append)
    return result, differences


def test_a_read_model_that_was_folded_from_the_log_has_no_differences(tmp_path: Path) -> None:
    changed(tmp_path)
    result, differences = held_against(tmp_path, scenario_records())
    assert differences == []
    assert result.ok
    assert result.cross_user is not None
    assert result.cross_user.leaderboards == 9 * 2, "of two assets"
    assert result.cross_user.orders == COUNTS.orders


OF = "WHERE user_id = 'alice'"
FRANKS = "WHERE user_id = 'frank' AND order_id = 'dep-1'"
ORDER = "kind, asset, amount, bonus, status, reason, seq, created_at_us, resolved_seq, resolved_at_us"


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        (f"UPDATE {{history}} SET data = '{{{{\"x\"' {OF}", "history"),
        (f"UPDATE {{history}} SET data = CAST(X'ff' AS TEXT) {OF}", "history"),
        (f"UPDATE {{history}} SET time_us = 'abc' || seq {OF}", "history"),
        (f"UPDATE {{history}} SET cash = 'abc' {OF}", "balance"),
        (f"UPDATE {{statistics}} SET staked = 'abc' {OF}", "stats"),
        (f"UPDATE {{statistics}} SET biggest_win = X'00' {OF}", "stats"),
        (f"UPDATE {{asset}} SET cash = 'abc' {OF}", "wallet"),
        (f"UPDATE {{asset}} SET credit_limit = X'ff' {OF}", "wallet"),
        (f"UPDATE {{wallet}} SET opened_at_us = X'ff' {OF}", "wallet"),
        (f"UPDATE {{bet}} SET placed_at_us = 'abc' {OF}", "bets"),
        (f"UPDATE {{bet}} SET settled_seq = X'ff' {OF}", "bets"),
        (f"UPDATE {{referral}} SET members = 'many' {OF}", "referrals"),
        (f"UPDATE {{orders}} SET created_at_us = 'abc' {OF}", "orders"),
        (f"UPDATE {{orders}} SET seq = X'ff' {OF}", "orders"),
        (f"UPDATE {{orders}} SET reason = CAST(X'ff' AS TEXT) {OF}", "orders"),
        (f"UPDATE {{standing}} SET day_staked_low = 'abc' {OF}", "leaderboards"),
        (f"UPDATE {{standing}} SET user_id = CAST(X'ff' AS TEXT) {OF}", "checkpoint"),
        ("UPDATE {account} SET debited = 'abc'", "accounts"),
        ("UPDATE checkpoint SET seq = 'abc' WHERE partition = 1", "checkpoint"),
    ],
)
def test_rows_that_cannot_be_read_are_differences_and_the_other_wallets_are_compared(
    tmp_path: Path, statement: str, read: str
) -> None:
    changed(tmp_path, statement)
    result, differences = held_against(tmp_path, scenario_records())
    assert not result.ok
    assert any(one.read.startswith(read) for one in differences), differences
    assert result.wallets == COUNTS.wallets
    named = {one.user_id for one in differences} - {"alice", "accounts", "all users", "partition:1", "\ufffd"}
    if "checkpoint" not in statement:
        assert not named, differences


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("INSERT INTO {wallet} (partition, user_id, status) VALUES (1, 'mallory', 'open')", "rows"),
        (
            f"INSERT INTO {{orders}} SELECT partition, 'mallory', order_id, {ORDER} FROM {{orders}} {OF}",
            "rows",
        ),
        ("INSERT INTO {referral} VALUES (3, 'mallory', 1, '', 1, 0)", "rows"),
        (f"INSERT INTO {{standing}} VALUES (2, 'mallory', 'INR', 20780, 20776, 20758{', 0, 9' * 9})", "rows"),
        ("UPDATE {bet} SET user_id = 'mallory' WHERE user_id = 'erin'", "rows"),
    ],
)
def test_rows_of_a_user_who_is_not_in_the_log_are_named(tmp_path: Path, statement: str, read: str) -> None:
    changed(tmp_path, statement)
    result, differences = held_against(tmp_path, scenario_records())
    assert ("mallory", read) in {(one.user_id, one.read) for one in differences}
    assert not result.ok
    assert held_against(tmp_path, scenario_records(), only=["mallory"])[0].unknown_users == 1
    assert held_against(tmp_path, scenario_records(), only=["bob"])[1] == []


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("DELETE FROM {orders} WHERE user_id = 'judy' AND kind = 'withdrawal'", "orders"),
        (
            f"INSERT INTO {{orders}} SELECT partition, user_id, 'more', {ORDER} FROM {{orders}} {FRANKS}",
            "orders",
        ),
        (
            "UPDATE {standing} SET day_staked_low = day_staked_low + 1 WHERE user_id = 'erin'",
            "leaderboards/staked_day",
        ),
        ("DELETE FROM {standing} WHERE user_id = 'alice'", "leaderboards/net_month"),
    ],
)
def test_a_row_changed_behind_queue_and_leaderboards_is_named(tmp_path: Path, statement: str, read: str) -> None:
    changed(tmp_path, statement)
    result, differences = held_against(tmp_path, scenario_records())
    assert any(one.read.startswith(read) for one in differences), differences
    assert not result.ok


@pytest.mark.parametrize("kept", [0, 2])
def test_a_log_that_has_fewer_events_than_the_read_model_differs_in_each_such_partition(
    tmp_path: Path, kept: int
) -> None:
    changed(tmp_path)
    shorter = [records[:kept] for records in scenario_records()]
    result, differences = held_against(tmp_path, shorter)
    beyond = [(one.user_id, one.found) for one in differences if one.read == "checkpoint"]
    assert beyond == [(f"partition:{number}", str(len(records))) for number, records in enumerate(scenario_records())]
    assert not result.ok


def test_a_read_model_of_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    changed(tmp_path)
    with pytest.raises(CannotAudit, match="has 4 partitions, its log 2"):
        FolderReads(tmp_path, 2)


def test_a_file_that_cannot_be_read_is_an_error_and_not_a_difference(tmp_path: Path) -> None:
    (tmp_path / READ_MODEL).write_bytes(b"no database" * 1_000)
    with pytest.raises(ReadModelUnavailable, match="not a database"):
        FolderReads(tmp_path, 4)
