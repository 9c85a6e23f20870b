"""``stakelog keys``: lists and rotates keys, and replaces the master key wherever it was interrupted."""

import asyncio
import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from api.composition import keys as composition
from api.composition.clock import system_clock
from api.composition.keys import make_keys
from api.identity.keys import RECEIPT, TOKEN
from api.identity.master_key import MasterKeys, make_master_key, parse_master_keys, read_master_keys
from api.identity.private import Encrypted, PlainTexts
from ledger.files import IDENTITY, MASTER_KEY
from ledger.sqlite.folder import FolderLock
from unit.identity import MASTER, OTHER_MASTER, key_store


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


def keys(data: Path, *arguments: str, **settings: str) -> Result:
    environment = {"STAKELOG_DATA": str(data), **{f"STAKELOG_{name}": value for name, value in settings.items()}}
    return CliRunner().invoke(stakelog, ["keys", *arguments], env=environment)


def fill(data: Path, masters: MasterKeys) -> str:
    """Make all kinds of keys. Returns private texts of u1."""

    async def filled() -> str:
        async with key_store(data) as store:
            made = make_keys(store, masters, system_clock)
            await made.ring.reload()
            (text,) = await made.private.encrypt([PlainTexts("u1", "c1", {"k": "v"})], "games")
            return text

    return asyncio.run(filled())


def opened(data: Path, masters: MasterKeys, text: str) -> object:
    async def read() -> object:
        async with key_store(data) as store:
            made = make_keys(store, masters, system_clock)
            await made.ring.reload()
            return (await made.private.decrypt([Encrypted("u1", "c1", text)]))[0]

    return asyncio.run(read())


def test_the_keys_are_listed_and_a_new_one_is_made(data: Path) -> None:
    fill(data, make_master_key(data / MASTER_KEY))
    assert keys(data, "rotate", "token").exit_code == 0
    done = keys(data, "list", "--json")
    rows = json.loads(done.output)["keys"]
    assert [row["purpose"] for row in rows] == [RECEIPT, TOKEN, TOKEN]
    assert rows[2]["signs_from_us"] > rows[1]["signs_from_us"]
    assert keys(data, "list").output.count("\n") == 3
    made = json.loads(keys(data, "rotate", "receipt", "--json").output)["key"]
    assert made in json.loads(keys(data, "list", "--json").output)["keys"]
    assert keys(data, "rotate", "other").exit_code == 2


def test_a_stolen_key_of_tokens_is_replaced_at_once(data: Path) -> None:
    fill(data, make_master_key(data / MASTER_KEY))
    before = json.loads(keys(data, "list", "--json").output)["keys"]
    done = keys(data, "rotate", "token", "--retire-now")
    assert done.exit_code == 0, done.output
    receipt, token = json.loads(keys(data, "list", "--json").output)["keys"]
    assert receipt == before[0]
    assert done.output.startswith(f"{token['kid']} signs now")
    assert keys(data, "rotate", "receipt", "--retire-now").exit_code == 2


def test_a_new_master_key_in_the_folder_opens_all_keys_and_the_old_one_none(data: Path) -> None:
    path = data / MASTER_KEY
    old = make_master_key(path)
    text = fill(data, old)
    done = keys(data, "rotate-master")
    assert (done.exit_code, done.output[:25]) == (0, "3 keys were wrapped again"), done.output
    new = read_master_keys(path)
    assert len(new.ids) == 1
    assert new.ids != old.ids
    assert opened(data, new, text) == {"k": "v"}
    with pytest.raises(Exception, match="give the one that wrapped them"):
        opened(data, old, text)


def test_a_damaged_key_stops_no_other_one_and_keeps_the_old_master_key(data: Path) -> None:
    path = data / MASTER_KEY
    old = make_master_key(path)
    text = fill(data, old)
    with closing(sqlite3.connect(data / IDENTITY)) as database, database:
        database.execute(
            "INSERT INTO identity_user_key SELECT 'u0', key_id, sealed, master_id FROM identity_user_key"
        )
        (kept,) = database.execute("SELECT sealed FROM identity_signing_key WHERE purpose = 'token'").fetchone()
        database.execute("UPDATE identity_signing_key SET sealed = 'x' WHERE purpose = 'token'")
    for count in (2, 0):
        done = keys(data, "rotate-master")
        assert (done.exit_code, done.output[:2]) == (1, f"{count} "), done.output
        assert "the old master key is still needed" in done.output
        for name in ("token:1:", "user:u0:"):
            assert f"the key {name}" in done.output
        assert old.ids < read_master_keys(path).ids
        assert opened(data, read_master_keys(path), text) == {"k": "v"}
    with closing(sqlite3.connect(data / IDENTITY)) as database, database:
        database.execute("DELETE FROM identity_user_key WHERE user_id = 'u0'")
        database.execute("UPDATE identity_signing_key SET sealed = ? WHERE sealed = 'x'", [kept])
    done = keys(data, "rotate-master")
    assert (done.exit_code, done.output[:2]) == (0, "1 "), done.output
    assert old.ids.isdisjoint(read_master_keys(path).ids)
    assert opened(data, read_master_keys(path), text) == {"k": "v"}


@pytest.mark.parametrize("step", ["write_master_keys", "rewrap_all"])
@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_replacement_loses_no_key_and_is_continued(
    data: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    path = data / MASTER_KEY
    text = fill(data, make_master_key(path))
    real = getattr(composition, step)

    class Crash(BaseException):
        pass

    def crashes(*arguments: object, **options: object) -> object:
        if not before:
            result = real(*arguments, **options)
            if asyncio.iscoroutine(result):
                return _then_crash(result)
        raise Crash

    async def _then_crash(work: object) -> None:
        await work  # type: ignore[misc]
        raise Crash

    monkeypatch.setattr(composition, step, crashes)
    with pytest.raises(Crash):
        CliRunner().invoke(
            stakelog, ["keys", "rotate-master"], env={"STAKELOG_DATA": str(data)}, catch_exceptions=False
        )
    monkeypatch.undo()
    assert opened(data, read_master_keys(path), text) == {"k": "v"}
    assert keys(data, "rotate-master").exit_code == 0
    assert len(read_master_keys(path).ids) == 1
    assert opened(data, read_master_keys(path), text) == {"k": "v"}


def test_the_folder_must_not_be_in_use(data: Path) -> None:
    fill(data, make_master_key(data / MASTER_KEY))
    lock = FolderLock(data)
    try:
        done = keys(data, "rotate-master")
    finally:
        lock.release()
    assert done.exit_code == 2
    assert "in use by another process" in done.output


def test_master_keys_of_a_setting_are_replaced_while_services_run(data: Path) -> None:
    old, new = (b64encode(key).decode() for key in (MASTER, OTHER_MASTER))
    text = fill(data, parse_master_keys(old, "old"))
    wrong = keys(data, "rotate-master", MASTER_KEY=new)
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)
    done = keys(data, "rotate-master", MASTER_KEY=f"{new},{old}")
    assert done.output.startswith("3 keys were wrapped again"), done.output
    assert keys(data, "rotate-master", MASTER_KEY=new).output.startswith("0 keys")
    assert opened(data, parse_master_keys(new, "new"), text) == {"k": "v"}
    assert not (data / MASTER_KEY).exists()
