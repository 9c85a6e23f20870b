"""``private`` over HTTP: who sees it, what is stored, and what is left when the key is destroyed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.http.requests import Request
from api.identity.database_keys import DatabaseKeyStore
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER, Identity
from api.identity.keys import KeyRing, Keys
from api.identity.ports import IdentityUnavailable
from api.identity.private import PrivateTexts
from api.routes.commands import get_command
from api.routes.parameters import HistoryQuery, OfCommand, OfWallet
from api.routes.wallets import get_history
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.identity import MASTERS, key_store

SECRET = {"iban": "MARKER-1", "MARKER-2": 'é "MARKER-3'}
READERS = {
    "the client": (Identity("games", GAME_SERVER), True),
    "an operator": (Identity("meera", OPERATOR), True),
    "an auditor": (Identity("arun", AUDITOR), True),
    "login is off": (Identity("local", None), True),
    "another client": (Identity("other-games", GAME_SERVER), False),
    "an admin": (Identity("admin", ADMIN), False),
    "the player": (Identity("games", PLAYER, user_id="u1"), False),
}


class Private(InMemoryApi):
    keys: DatabaseKeyStore

    async def post(
        self, body: Any, query: str = "", actor: str = "games", *, at: str = "/v1/commands"
    ) -> ApiResponse:
        headers = (("content-type", "application/json"), ("stakelog-actor", actor))
        return await self.ask("POST", f"{at}{query}", *headers, body=json.dumps(body).encode())

    async def looked_up(self, reader: Identity, user_id: str, command_id: str) -> Any:
        request = self._request(reader, OfCommand(user_id, command_id), None)
        return json.loads((await get_command(self.app.service, request)).body)["data"]

    async def history(self, reader: Identity, user_id: str) -> Any:
        request = self._request(reader, OfWallet(user_id), HistoryQuery())
        return [item["data"] for item in json.loads((await get_history(self.app.service, request)).body)["items"]]

    def _request(self, reader: Identity, path: Any, query: Any) -> Any:
        scope: Any = {"type": "http", "headers": []}

        async def receive() -> Any:
            raise AssertionError

        return Request(path, query, scope, receive, asyncio.get_running_loop().time() + 60, reader)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Private]:
    async with key_store(tmp_path) as store:
        keys = Keys(KeyRing(store, MASTERS, lambda: 1), PrivateTexts(store, MASTERS))
        async with Private(tmp_path, keys=keys) as started:
            started.keys = store
            await started.post({"type": "open_wallet", "command_id": "c0", "user_id": "u1"})
            yield started


def deposit(command_id: str = "c1", **fields: Any) -> dict[str, Any]:
    money = {"type": "deposit", "asset": "INR", "amount": 500, "order_id": f"o-{command_id}"}
    return {**money, "user_id": "u1", "command_id": command_id, **fields}


async def test_the_client_gets_its_texts_back_and_the_ledger_has_none(
    api: Private, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first = await api.post(deposit(private=SECRET, metadata={"private": "public"}))
    assert first.status == 201
    assert first.json()["data"]["private"] == SECRET
    assert first.json()["data"]["metadata"] == {"private": "public"}
    again = await api.post(deposit(private={"other": "MARKER-4"}, metadata={"private": "public"}))
    assert (again.status, again.headers["idempotency-hit"]) == (200, "true")
    assert again.body == first.body
    assert (await api.get("/v1/commands/u1/c1")).body == first.body
    await api.fold()
    records = [record for partition in api.world.appended.records for record in partition]
    assert [b'"private":"A' in record for record in records] == [False, True]
    everything = b"".join([*records, *(path.read_bytes() for path in tmp_path.iterdir())])  # noqa: ASYNC240
    assert b"MARKER" not in everything
    assert "MARKER" not in caplog.text


@pytest.mark.parametrize("who", READERS)
async def test_operator_auditor_and_the_client_that_wrote_them_read_private_texts(api: Private, who: str) -> None:
    reader, may_read = READERS[who]
    await api.post(deposit(private=SECRET, metadata={"private": "public"}))
    await api.post(deposit("c2", metadata={"private": "public"}))
    await api.fold()
    plain = {"amount": 500, "asset": "INR", "metadata": {"private": "public"}}
    without = {**plain, "first_deposit": True, "order_id": "o-c1"}
    expected = {**without, "private": SECRET} if may_read else without
    second = {**plain, "first_deposit": False, "order_id": "o-c2"}
    assert await api.looked_up(reader, "u1", "c1") == expected
    assert await api.looked_up(reader, "u1", "c2") == second
    assert await api.history(reader, "u1") == [second, expected]
    await api.ask("DELETE", "/v1/wallets/u1/private")
    expected = {**without, "private": None} if may_read else without
    assert await api.looked_up(reader, "u1", "c1") == expected
    assert await api.history(reader, "u1") == [second, expected]


async def test_no_cache_keeps_private_texts(api: Private) -> None:
    await api.post(deposit(private=SECRET))
    await api.fold()
    for target in ("/v1/commands/u1/c1", "/v1/wallets/u1/history"):
        answer = await api.get(target)
        assert (b"MARKER-1" in answer.body, answer.headers["cache-control"]) == (True, "no-store"), target


async def test_another_client_that_repeats_the_command_does_not_get_the_texts(api: Private) -> None:
    await api.post(deposit(private=SECRET))
    commands = [deposit(private={"mine": "x"}), deposit("c9", private={"mine": "y"})]
    found = await api.looked_up(Identity("other", GAME_SERVER), "u1", "c1")
    assert "private" not in found
    batch = (await api.post(commands, at="/v1/commands/batch")).json()
    assert [one["result"]["data"]["private"] for one in batch] == [SECRET, {"mine": "y"}]


async def test_after_the_key_is_destroyed_the_texts_are_null_and_the_next_ones_have_a_new_key(api: Private) -> None:
    before = (await api.post(deposit(private=SECRET))).json()
    records = [list(records) for records in api.world.appended.records]
    for _ in range(2):
        gone = await api.ask("DELETE", "/v1/wallets/u1/private")
        assert (gone.status, gone.body) == (204, b"")
    assert api.world.appended.records == records
    again = await api.post(deposit(private=SECRET))
    assert again.json() == {**before, "data": {**before["data"], "private": None}}
    assert (await api.get("/v1/commands/u1/c1")).json()["data"]["private"] is None
    assert (await api.post(deposit("c2", private={"k": "new"}))).json()["data"]["private"] == {"k": "new"}
    await api.fold()
    items = (await api.get("/v1/wallets/u1/history")).json()["items"]
    assert [item["data"]["private"] for item in items] == [{"k": "new"}, None]


async def test_a_dry_run_shows_the_texts_and_makes_no_key(api: Private) -> None:
    found = await api.post(deposit(private=SECRET), "?dry_run=true")
    assert (found.status, found.json()["data"]["private"]) == (200, SECRET)
    batch = await api.post([deposit(private=SECRET), deposit("c2")], "?dry_run=true", at="/v1/commands/batch")
    assert batch.json()[0]["result"]["data"]["private"] == SECRET
    assert "private" not in batch.json()[1]["result"]["data"]
    assert await api.keys.user_keys(["u1"]) == {}


async def test_a_batch_of_a_thousand_users_needs_few_statements(
    api: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("user_keys", "add_user_keys"):
        method = getattr(api.keys, name)

        async def counted(argument: Any, name: str = name, method: Any = method) -> Any:
            calls.append(name)
            return await method(argument)

        monkeypatch.setattr(api.keys, name, counted)
    opening = [
        {"type": "open_wallet", "command_id": "c", "user_id": f"p{n}", "private": {"n": str(n)}} for n in range(1_000)
    ]
    for number, status in enumerate((201, 200)):
        answers = (await api.post(opening, at="/v1/commands/batch")).json()
        assert {one["status"] for one in answers} == {status}
        assert [one["result"]["data"]["private"] for one in answers] == [{"n": str(n)} for n in range(1_000)]
        assert len(calls) <= 3 + 2 * number


async def test_without_its_store_nothing_is_written_and_what_was_written_is_not_denied(
    api: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.post(deposit(private=SECRET))
    await api.fold()

    async def fails(_: Any) -> Any:
        raise IdentityUnavailable("gone")

    monkeypatch.setattr(api.keys, "user_keys", fails)
    written = list(api.world.appended.heads)
    new = await api.post(deposit("c2", private=SECRET))
    assert (new.status, new.json()["code"]) == (503, "outcome_unknown"), "it may be a repetition"
    again = await api.post(deposit(private=SECRET))
    assert (again.status, again.json()["code"]) == (503, "outcome_unknown"), "it was accepted before"
    assert (await api.post(deposit("c3"))).status == 201
    repeated = await api.post(deposit())
    assert (repeated.status, repeated.json()["code"]) == (503, "outcome_unknown")
    assert (await api.get("/v1/commands/u1/c1")).json()["code"] == "outcome_unknown"
    batch = (await api.post([deposit(), deposit("c3")], at="/v1/commands/batch")).json()
    assert [one["status"] for one in batch] == [503, 200]
    assert (await api.get("/v1/wallets/u1/history")).json()["code"] == "log_unavailable"
    assert sum(head.seq for head in api.world.appended.heads) == sum(head.seq for head in written) + 1


async def test_without_its_store_a_batch_goes_on_but_for_private_texts_and_what_follows_them_in_the_wallet(
    api: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = {"type": "open_wallet", "command_id": "c0", "user_id": "u2"}

    async def fails(_: Any) -> Any:
        raise IdentityUnavailable("gone")

    monkeypatch.setattr(api.keys, "user_keys", fails)
    commands = [deposit("c1"), deposit("c2", private=SECRET), opening, deposit("c3"), {"type": "x"}]
    batch = (await api.post(commands, at="/v1/commands/batch")).json()
    assert [one["status"] for one in batch] == [201, 503, 201, 503, 400]
    assert [batch[index]["problem"]["code"] for index in (1, 3)] == ["outcome_unknown"] * 2


async def test_without_a_master_key_private_is_refused_element_by_element(tmp_path: Path) -> None:
    async with Private(tmp_path) as api:
        opening = {"type": "open_wallet", "command_id": "c0", "user_id": "u1"}
        refused = await api.post({**opening, "private": SECRET})
        assert (refused.status, refused.json()["field"]) == (400, "private")
        assert b"MARKER" not in refused.body
        batch = (await api.post([{**opening, "private": SECRET}, opening], at="/v1/commands/batch")).json()
        assert [one["status"] for one in batch] == [400, 201]
        assert (await api.ask("DELETE", "/v1/wallets/u1/private")).status == 503
