"""Private texts, receipts and keys of a running service with login: who reads what, and what is on the disk."""

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from databases import EmptyDatabases
from system.logins import ADMIN_SECRET, LoggedIn, LoggedInClient, send

pytestmark = pytest.mark.system

SECRET = {"iban": "MARKER-DE02120300000000202051", "MARKER-KEY": "é"}


def program(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{f"STAKELOG_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "api", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def looked_up(client: LoggedInClient) -> Any:
    answer = client.get("/v1/commands/u1/c1")
    assert answer.status == 200, answer
    return answer.json()["data"].get("private", "no member")


def in_history(client: LoggedInClient, position: str) -> Any:
    answer = client.get(f"/v1/wallets/u1/history?min_position={position}&timeout_ms=10000")
    assert answer.status == 200, answer
    return [item["data"].get("private", "no member") for item in answer.json()["items"]]


def test_private_texts_are_for_few_and_on_no_disk(tmp_path: Path) -> None:
    data, jwks, receipt = tmp_path / "data", tmp_path / "jwks.json", tmp_path / "receipt.json"
    deposit = {"type": "deposit", "command_id": "c1", "user_id": "u1", "order_id": "o", "asset": "INR", "amount": 9}
    with LoggedIn(data, PARTITIONS="2", SEAL_S="1") as service:
        game, other = service.add("game-1", "game_server"), service.add("game-2", "game_server")
        operator, auditor = service.add("meera", "operator"), service.add("arun", "auditor")
        assert game.post("/v1/commands", {"type": "open_wallet", "command_id": "c0", "user_id": "u1"}).status == 201
        posted = game.post("/v1/commands", {**deposit, "private": SECRET})
        assert posted.status == 201, posted
        position = posted.json()["position"]
        pair = game.post("/v1/auth/players", {"user_id": "u1"}).json()
        player = LoggedInClient(service.url, "u1", "", pair["access_token"])
        for reader in (game, operator, auditor):
            assert looked_up(reader) == SECRET
            assert in_history(reader, position) == [SECRET]
        for reader in (other, service.admin()):
            assert looked_up(reader) == "no member"
        for reader in (other, service.admin(), player):
            assert in_history(reader, position) == ["no member"]
        repeated = other.post("/v1/commands", {**deposit, "private": {"other": "texts"}})
        assert (repeated.status, repeated.json()["data"].get("private")) == (200, None)

        # After a crash and a start the service has the same keys.
        service.kill()
        service.start()
        game = service.login("game-1", game.secret)
        operator, auditor = (service.login(one.client_id, one.secret) for one in (operator, auditor))
        assert looked_up(game) == SECRET
        assert game.get(f"/v1/events/{position}/receipt").status == 403
        receipt.write_bytes(auditor.get(f"/v1/events/{position}/receipt").body)
        jwks.write_bytes(send(service.url, "GET", "/.well-known/jwks.json").body)
        record = auditor.get(f"/v1/events/{position}").body
        assert json.loads(receipt.read_text())["record"].encode() == record
        assert b'"private":"A' in record

        login = tmp_path / "login.json"
        login.write_text(json.dumps({"client_id": "arun", "client_secret": auditor.secret}))
        login.chmod(0o600)
        for command in ("verify", "reconcile"):
            done = program("audit", command, "--url", service.url, "--login", str(login))
            assert done.returncode == 0, done

        path = "/v1/wallets/u1/private"
        assert send(service.url, "DELETE", path, token=game.token).status == 403
        assert send(service.url, "DELETE", path, token=operator.token).status == 204
        assert looked_up(game) is None
        assert in_history(auditor, position) == [None]
        again = game.post(
            "/v1/commands", {**deposit, "command_id": "c2", "order_id": "p", "private": {"k": "MARKER"}}
        )
        assert again.json()["data"]["private"] == {"k": "MARKER"}
        assert auditor.get(f"/v1/events/{position}").body == record
        until_s = time.monotonic() + 60
        while len((data / "seals.ndjson").read_bytes().splitlines()) < 2:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        log = service.log_text()

    assert "MARKER" not in log
    assert ADMIN_SECRET not in log
    export = program("audit", "export", "--data", str(data), str(tmp_path / "export"))
    assert export.returncode == 0, export
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {data / "read-model.sqlite3", data / "events.sqlite3"} <= set(files)
    for file in files:
        assert b"MARKER" not in file.read_bytes(), file
    assert (data / "master.key").stat().st_mode & 0o777 == 0o600
    done = program("audit", "verify", "--data", str(data), "--keys", str(jwks))
    assert done.returncode == 0, done
    assert f"signed, {len((data / 'seals.ndjson').read_bytes().splitlines())} by the keys in {jwks}" in done.stdout
    assert "WARNING" not in done.stdout.split("seals: ")[1]
    done = program("audit", "reconcile", "--data", str(data))
    assert done.returncode == 0, done
    wrong = b64encode(b"W" * 32).decode()
    done = program("serve", DATA=str(data), AUTH="on", PARTITIONS="2", PORT="1", MASTER_KEY=wrong)
    assert (done.returncode, done.stderr.count("stakelog serve:")) == (2, 1), done
    assert "give the one that wrapped them" in done.stderr
    assert wrong not in done.stderr


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_key_that_one_process_destroys_is_gone_for_the_others(tmp_path: Path, databases: EmptyDatabases) -> None:
    command = {"type": "open_wallet", "command_id": "c1", "user_id": "u1", "private": SECRET}
    with databases.one() as url, ExitStack() as services:
        shared = {"IDENTITY": url, "MASTER_KEY": b64encode(b"M" * 32).decode(), "PARTITIONS": "1"}
        one, other = (services.enter_context(LoggedIn(tmp_path / name, **shared)) for name in ("one", "other"))
        game = one.add("game", "game_server")
        elsewhere = other.login("game", game.secret)
        for client in (game, elsewhere):
            assert client.post("/v1/commands", command).json()["data"]["private"] == SECRET
        rows = databases.ask("SELECT count(*) FROM identity_user_key", url.rpartition("/")[2])
        assert rows[0][0] == "1"
        path = "/v1/wallets/u1/private"
        assert send(other.url, "DELETE", path, token=other.admin().token).status == 204
        for client in (game, elsewhere):
            assert looked_up(client) is None
        again = {"type": "deposit", "command_id": "c2", "user_id": "u1", "order_id": "o", "asset": "INR", "amount": 1}
        for client in (game, elsewhere):
            assert client.post("/v1/commands", {**again, "private": {"k": "v"}}).json()["data"]["private"] == {
                "k": "v"
            }
            assert looked_up(client) is None
        assert databases.ask("SELECT count(*) FROM identity_user_key", url.rpartition("/")[2])[0][0] == "1"
    for name in ("one", "other"):
        assert not (tmp_path / name / "master.key").exists()
