"""Settings of the data folder and the assets, and what a start does with a folder without a ledger."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from api.composition.settings import KNOWN, SettingsError, read_settings, refuse_unsafe
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.money_rules import Money
from ledger.errors import LogUnreadable, WrongAssets
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteRecords
from projections.storage.port import address_of


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"STAKELOG_AUTH": "maybe"}, r"STAKELOG_AUTH=maybe.*on or off"),
        ({"STAKELOG_AUTH": "off", "STAKELOG_HOST": "::"}, r"STAKELOG_AUTH=off.*loopback"),
        ({"STAKELOG_PORT": "0"}, r"STAKELOG_PORT=0"),
        ({"STAKELOG_PORT": "http"}, r"STAKELOG_PORT=http"),
        ({"STAKELOG_PARTITIONS": "0"}, r"STAKELOG_PARTITIONS=0"),
        ({"STAKELOG_PARTITIONS": "1025"}, r"STAKELOG_PARTITIONS=1025.*1024"),
        ({"STAKELOG_PARTITIONS": "²"}, r"STAKELOG_PARTITIONS=²"),
        ({"STAKELOG_ASSETS": "INR"}, r"STAKELOG_ASSETS"),
        ({"STAKELOG_ASSETS": ""}, r"STAKELOG_ASSETS"),
        ({"STAKELOG_DATTA": "typo"}, r"STAKELOG_DATTA.*STAKELOG_DATA"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(settings: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        refuse_unsafe(read_settings(settings))


@pytest.mark.parametrize("assets", ["INR:99", "INR:19", "INR:-1"])
def test_an_exponent_out_of_range_is_refused_with_the_range(assets: str) -> None:
    with pytest.raises(SettingsError, match="exponent from 0 to 18"):
        read_settings({"STAKELOG_ASSETS": assets})


def test_two_assets_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(SettingsError, match="INR and inr differ in upper and lower case only"):
        read_settings({"STAKELOG_ASSETS": "INR:2,GOLD:0,inr:2"})


def test_a_ledger_is_created_unless_the_setting_is_never() -> None:
    assert read_settings({}).create
    assert not read_settings({"STAKELOG_CREATE": "never"}).create
    with pytest.raises(SettingsError, match="if-missing or never"):
        read_settings({"STAKELOG_CREATE": "no"})


def test_a_database_is_named_by_host_and_port_without_its_password() -> None:
    assert address_of("postgresql://u:secret@db/stakelog") == "postgresql at db:5432, database stakelog"
    assert address_of("mysql://u:secret@db:3307/s") == "mysql at db:3307, database s"


async def test_a_log_with_an_asset_that_the_setting_lacks_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite3"
    log = SqliteEventLog(path, 2)
    await log.declare({"INR": 2, "GOLD": 0})
    with pytest.raises(WrongAssets, match=r"has the asset GOLD.*set STAKELOG_ASSETS=GOLD:0,INR:2,USDT:6"):
        await log.declare({"INR": 2, "USDT": 6})
    await log.declare({"INR": 2, "GOLD": 0})
    await log.close()


async def test_a_log_keeps_every_pay_table_that_was_declared(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite3"
    old, new = BUILT_IN.tables, book_of(read_rules('{"games": {"k3_1m": {"fee_bp": 0}}}', {"INR": 2}).games).tables
    for tables in (old, new, old):
        log = SqliteEventLog(path, 2)
        await log.declare({"INR": 2}, tables)
        await log.close()
    log = SqliteEventLog(path, 2)
    assert await log.tables() == {**old, **new}
    await log.close()
    with closing(SqliteRecords(path)) as records:
        assert records.tables() == {**old, **new}


COMMISSIONS = '{"money": {"INR": {"commission": {"rates_e9": [6000000], "agents": {"10": [1], "2": [3, 4]}}}}}'


def money_kept(text: str) -> dict[str, Money]:
    return book_of({}, money=read_rules(text, {"INR": 2}).money).money_kept


async def test_a_log_keeps_all_rules_of_money_flows_that_were_declared(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite3"
    old, new = money_kept('{"money": {"INR": {"registration": 1}}}'), money_kept(COMMISSIONS)
    for money in (old, {}, new, old):
        log = SqliteEventLog(path, 2)
        await log.declare({"INR": 2}, None, money)
        await log.close()
    log = SqliteEventLog(path, 2)
    assert len({**old, **new}) == 2
    assert await log.money_rules() == {**old, **new}
    await log.close()
    with closing(SqliteRecords(path)) as records:
        assert records.money_rules() == {**old, **new}


async def test_a_log_keeps_the_names_of_all_games_that_were_declared(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite3"
    for games in ({"wingo_2s", "k3_90s"}, {"wingo_7200s"}, {"k3_90s"}):
        log = SqliteEventLog(path, 2)
        await log.declare({"INR": 2}, games=games)
        await log.close()
    log = SqliteEventLog(path, 2)
    await log.keep_games({"5d_2s"})
    assert await log.games() == {"wingo_2s", "k3_90s", "wingo_7200s", "5d_2s"}
    await log.close()
    with closing(SqliteRecords(path)) as records:
        assert records.games() == {"wingo_2s", "k3_90s", "wingo_7200s", "5d_2s"}


async def test_rules_of_money_flows_that_were_changed_in_the_file_are_refused(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite3", 2)
    await log.declare({"INR": 2}, None, money_kept('{"money": {"INR": {"registration": 2500}}}'))
    log._writer.execute("UPDATE meta SET value = replace(value, '2500', '2501') WHERE key = 'money_rules'")
    with pytest.raises(LogUnreadable, match="another digest"):
        await log.money_rules()
    await log.close()


async def test_a_pay_table_that_was_changed_in_the_file_is_refused(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite3", 2)
    await log.declare({"INR": 2}, BUILT_IN.tables)
    log._writer.execute(
        "UPDATE meta SET value = replace(value, '\"fee_bp\":200', '\"fee_bp\":201') WHERE key = 'tables'"
    )
    with pytest.raises(LogUnreadable, match="another digest"):
        await log.tables()
    await log.close()


def stakelog(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    return subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        env=inherited | {f"STAKELOG_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.system
def test_never_create_refuses_a_folder_without_a_ledger_and_makes_nothing(tmp_path: Path) -> None:
    done = stakelog("serve", AUTH="off", CREATE="never", DATA=str(tmp_path / "mistyped"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"stakelog serve: there is no ledger in {tmp_path / 'mistyped'}")
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_serve_lists_every_setting() -> None:
    text = stakelog("serve", "--help").stdout
    assert {name for name in KNOWN if name not in text} == set()


def test_every_message_that_advises_to_delete_the_state_gives_the_same_advice() -> None:
    source = Path(__file__).parents[2] / "src"
    texts = {path: " ".join(path.read_text().split()).replace('" "', "") for path in source.rglob("*.py")}
    own_words = [str(path) for path, text in texts.items() if "delete the state" in text or "delete state" in text]
    assert own_words == [str(source / "ledger" / "errors.py")]


def test_seals_are_copied_to_a_folder_that_exists_or_to_a_url(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(SettingsError, match=f"STAKELOG_SEALS={missing} is not a folder: make or mount it"):
        refuse_unsafe(read_settings({"STAKELOG_SEALS": missing}))
    for found in (str(tmp_path), "https://seals.example/x"):
        refuse_unsafe(read_settings({"STAKELOG_SEALS": found}))


@pytest.mark.parametrize("more", [{"MASTER_KEY": "wrong"}, {"IDENTITY": "mysql://u:p@127.0.0.1:1/d"}])
@pytest.mark.system
def test_a_first_start_that_fails_by_the_keys_leaves_no_ledger(tmp_path: Path, more: dict[str, str]) -> None:
    data = str(tmp_path / "data")
    assert stakelog("serve", DATA=data, **more).returncode in (1, 2)
    assert "there is no ledger in" in stakelog("serve", DATA=data, CREATE="never", **more).stderr
