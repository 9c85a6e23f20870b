"""``stakelog clients``, on a data folder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from api.cli.main import stakelog
from api.composition.clock import system_clock
from api.identity.clients import Clients
from api.identity.database import FILE, IdentityDatabase
from api.identity.hashing import SecretHasher
from api.identity.store import DatabaseIdentityStore
from api.identity.tables import METADATA


def run(data: Path, *arguments: str) -> Result:
    environment = {"STAKELOG_AUTH": None, "STAKELOG_DATA": None, "COLUMNS": "200"}
    return CliRunner().invoke(stakelog, ["clients", "--data", str(data), *arguments], env=environment)


def asked(data: Path, *arguments: str) -> Any:
    done = run(data, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def logs_in(data: Path, client_id: str, secret: str) -> bool:
    async def check() -> bool:
        store, hasher = DatabaseIdentityStore(IdentityDatabase(data / FILE, METADATA)), SecretHasher()
        try:
            clients = Clients(store, system_clock, hasher)
            return await clients.authenticate(client_id, secret) is not None
        finally:
            hasher.close()
            await store.close()

    return asyncio.run(check())


def test_clients_are_added_listed_rotated_and_disabled(tmp_path: Path) -> None:
    added = asked(tmp_path, "add", "games-1", "--role", "game_server", "--game", "wingo_1m", "--type", "place_bet")
    secret = added.pop("client_secret")
    assert added == {"client_id": "games-1", "role": "game_server", "games": ["wingo_1m"], "types": ["place_bet"]} | {
        "public_key": None
    }
    assert logs_in(tmp_path, "games-1", secret)
    rotated = asked(tmp_path, "rotate", "games-1")
    assert not logs_in(tmp_path, "games-1", secret)
    assert logs_in(tmp_path, "games-1", rotated["client_secret"])
    asked(tmp_path, "add", "meera", "--role", "operator")
    assert asked(tmp_path, "disable", "games-1") == {"client_id": "games-1", "disabled": True}
    assert not logs_in(tmp_path, "games-1", rotated["client_secret"])
    first, second = asked(tmp_path, "list")["items"]
    assert (first["client_id"], first["games"], first["disabled_at_us"] is None) == ("games-1", ["wingo_1m"], False)
    assert (second["client_id"], second["games"], second["disabled_at_us"]) == ("meera", None, None)
    assert "argon2" not in json.dumps([first, second])


def test_the_log_says_which_user_of_the_machine_did_what_and_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "höst")
    for user, arguments in (("asha", ("add", "ops", "--role", "operator")), ("ravi", ("rotate", "ops"))):
        monkeypatch.setenv("SUDO_USER", user)
        asked(tmp_path, *arguments)
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr("getpass.getuser", lambda: "meera")
    asked(tmp_path, "disable", "ops")
    items = asked(tmp_path, "log")["items"]
    assert [(one["by"], one["what"], one["client_id"], one["origin"]) for one in items] == [
        (r"asha@h\xf6st", "added", "ops", "machine"),
        (r"ravi@h\xf6st", "rotated", "ops", "machine"),
        (r"meera@h\xf6st", "disabled", "ops", "machine"),
    ]
    lines = run(tmp_path, "log").stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines][1] == r"machine  ravi@h\xf6st rotated ops"
    assert "argon2" not in str(items)


def test_for_people_there_is_a_table_and_the_secret_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "add", "meera", "--role", "operator")
    assert done.stdout.startswith("added meera, operator; its secret: ")
    assert logs_in(tmp_path, "meera", done.stdout.split()[-1])
    table = run(tmp_path, "list").stdout
    assert [word in table for word in ("client_id", "meera", "operator", "all")] == [True] * 4


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("list",), 2, "there are no clients in"),
        (("rotate", "x"), 2, "there are no clients in"),
        (("add", "x", "--role", "god"), 2, "role must be one of game_server, operator, auditor, admin"),
        (("add", "x y", "--role", "operator"), 2, "client_id must be spelled like a user_id"),
        (
            ("add", "x", "--role", "operator", "--game", "poker"),
            2,
            "games names poker, which is not known",
        ),
        (("add", "x", "--role", "auditor", "--type", "deposit"), 2, "types must name types that the role auditor"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.exit_code == status
    assert done.stderr.startswith(f"stakelog clients: {says}")
    assert len(done.stderr.splitlines()) == 1


def test_unknown_clients_and_a_broken_store_are_failures_in_one_line(tmp_path: Path) -> None:
    run(tmp_path, "add", "meera", "--role", "operator")
    for arguments in (("rotate", "ravi"), ("disable", "ravi")):
        done = run(tmp_path, *arguments)
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert "there is no client ravi" in done.stderr
    again = run(tmp_path, "add", "meera", "--role", "operator")
    assert (again.exit_code, again.stderr.startswith("stakelog clients: the client_id meera is taken")) == (2, True)
    (tmp_path / FILE).write_bytes(b"broken" * 1_000)
    broken = run(tmp_path, "list")
    assert (broken.exit_code, len(broken.stderr.splitlines())) == (1, 1)
    assert "the database of clients and tokens failed" in broken.stderr


def test_the_last_enabled_admin_is_not_disabled(tmp_path: Path) -> None:
    run(tmp_path, "add", "root", "--role", "admin")
    done = run(tmp_path, "disable", "root")
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "root is the last enabled admin: add another admin" in done.stderr


def test_the_list_is_plain_lines_that_cut_no_id_and_say_who_signs(tmp_path: Path) -> None:
    client_id = "c" * 60
    public_key = "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    run(tmp_path, "add", client_id, "--role", "operator", "--public-key", public_key)
    run(tmp_path, "add", "meera", "--role", "auditor")
    head, first, second = (line.split() for line in run(tmp_path, "list").stdout.splitlines())
    assert [row[head.index("client_id")] for row in (first, second)] == [client_id, "meera"]
    assert [row[head.index("public_key")] for row in (first, second)] == ["yes", "no"]
    assert len(head) == len(first) == len(second)
