"""``/v1/auth/…`` and ``/v1/clients`` in process: as JSON, and as an OAuth client uses them."""

import asyncio
import base64
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
import pytest_asyncio
from authlib.integrations.httpx_client import AsyncOAuth2Client

from api.identity import hashing
from api.identity.hashing import SecretHasher
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER
from api.identity.ports import ChangedBy
from api.identity.revocations import Revocations
from api.identity.tokens import ACCESS_S, LEEWAY_S
from api.identity.waiting import WAITING_MAX
from api.routes import auth
from ledger.pacing import RareWarnings
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.login_in_memory import LoginInMemory, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON: Final = ("content-type", "application/json")
FORM: Final = ("content-type", "application/x-www-form-urlencoded")
SECRET: Final = "a-secret+of%20the test".replace(" ", "_")


class World:
    def __init__(self, api: InMemoryApi, login: LoginInMemory) -> None:
        self.api, self.login = api, login

    async def post(self, path: str, body: Any, *headers: tuple[str, str]) -> ApiResponse:
        return await self.api.ask("POST", path, JSON, *headers, body=msgspec.json.encode(body))

    async def form(self, *headers: tuple[str, str], **members: str) -> ApiResponse:
        body = urlencode(members).encode()
        return await self.api.ask("POST", "/v1/auth/token", FORM, *headers, body=body)

    async def as_admin(self, method: str, path: str, body: Any = None) -> ApiResponse:
        token = bearer(await self.login.token(ADMIN, "root"))
        if body is None:
            return await self.api.ask(method, path, token)
        return await self.api.ask(method, path, token, JSON, body=msgspec.json.encode(body))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("auth")
    async with LoginInMemory(folder) as login, InMemoryApi(folder, login=login.parts) as api_client:
        await login.clients.add("meera", OPERATOR, secret=SECRET)
        yield World(api_client, login)


def basic(client_id: str, secret: str) -> tuple[str, str]:
    return "authorization", "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def assert_not_stored(answer: ApiResponse) -> None:
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")


# --- tokens, as JSON -----------------------------------------------------------------------------------------------


async def test_a_client_logs_in_and_uses_its_token(world: World) -> None:
    answer = await world.post("/v1/auth/token", {"client_id": "meera", "client_secret": SECRET})
    assert answer.status == 200
    found = answer.json()
    assert (found["token_type"], found["expires_in"]) == ("Bearer", ACCESS_S)
    assert set(found) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert_not_stored(answer)
    assert (await world.api.get("/v1/adjustments", bearer(found["access_token"]))).status == 200


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("meera", "not-it"),
        ("unknown", SECRET),
        ("MEERA", SECRET),
        ("", ""),
        ("game:x", SECRET),
        ("meera", SECRET * 99),
    ],
)
async def test_a_wrong_login_says_nothing_about_what_is_wrong(world: World, client_id: str, secret: str) -> None:
    answer = await world.post("/v1/auth/token", {"client_id": client_id, "client_secret": secret})
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.json()["detail"] == "the client is unknown or disabled, or its secret is wrong"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert secret == "" or secret.encode() not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b"\xff",
        b'{"client_id":"meera"}',
        b'{"client_id":"meera","client_secret":7}',
        b'{"client_id":"meera","client_secret":"x","more":1}',
        b'{"client_id":"meera","client_id":"meera","client_secret":"x"}',
    ],
)
async def test_a_malformed_login_is_400(world: World, body: bytes) -> None:
    answer = await world.api.ask("POST", "/v1/auth/token", JSON, body=body)
    assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


async def test_a_login_of_another_media_type_is_415(world: World) -> None:
    answer = await world.api.ask("POST", "/v1/auth/token", ("content-type", "text/plain"), body=b"{}")
    assert answer.status == 415


@pytest.mark.system
async def test_strangers_who_wait_for_the_database_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await world.post("/v1/auth/token", {"client_id": "meera", "client_secret": SECRET})).json()
    pair = {"refresh_token": first["refresh_token"]}
    served, waiting = asyncio.Event(), 0

    async def waits(*_: Any) -> None:
        nonlocal waiting
        waiting += 1
        await served.wait()

    with monkeypatch.context() as patched:
        patched.setattr(world.login.store, "spend", waits)
        patched.setattr(world.login.store, "client", waits)
        refreshes = [asyncio.create_task(world.post("/v1/auth/refresh", pair)) for _ in range(WAITING_MAX)]
        wrong = {"client_id": "unknown", "client_secret": SECRET}
        logins = [asyncio.create_task(world.post("/v1/auth/token", wrong)) for _ in range(WAITING_MAX)]
        async with asyncio.timeout(60):
            while waiting < 2 * WAITING_MAX:  # noqa: ASYNC110 - the store has no event for a test
                await asyncio.sleep(0.001)
        for path, body in (("refresh", pair), ("logout", pair), ("token", wrong)):
            async with asyncio.timeout(60):
                limited = await world.post(f"/v1/auth/{path}", body)
            assert (limited.status, limited.json()["code"]) == (429, "rate_limited")
        assert (await world.as_admin("GET", "/v1/clients")).status == 200, "a client with a token is served"
        served.set()
        assert {(await answer).status for answer in refreshes} == {401}
        assert {(await answer).status for answer in logins} <= {401, 429}
    assert (await world.post("/v1/auth/refresh", pair)).status == 200


async def test_a_refresh_token_is_exchanged_once(world: World) -> None:
    first = (await world.post("/v1/auth/token", {"client_id": "meera", "client_secret": SECRET})).json()
    answer = await world.post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert answer.status == 200
    assert_not_stored(answer)
    second = answer.json()
    assert (await world.api.get("/v1/adjustments", bearer(second["access_token"]))).status == 200
    again = await world.post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (again.status, again.json()["code"]) == (401, "unauthenticated")
    for pair in (first, second):
        assert (await world.api.get("/v1/adjustments", bearer(pair["access_token"]))).status == 401
    assert (await world.post("/v1/auth/refresh", {"refresh_token": second["refresh_token"]})).status == 401


async def test_a_logout_ends_the_tokens_and_says_the_same_of_unknown_ones(world: World) -> None:
    pair = await world.login.pair(OPERATOR)
    for token in (pair.refresh_token, pair.refresh_token, "unknown"):
        answer = await world.post("/v1/auth/logout", {"refresh_token": token})
        assert (answer.status, answer.body) == (204, b"")
    assert (await world.api.get("/v1/adjustments", bearer(pair.access_token))).status == 401


async def test_a_game_server_gets_a_players_tokens(world: World) -> None:
    answer = await world.post("/v1/auth/players", {"user_id": "u7"}, bearer(await world.login.token(GAME_SERVER)))
    assert answer.status == 200
    assert_not_stored(answer)
    token = bearer(answer.json()["access_token"])
    assert (await world.api.get("/v1/wallets/u7", token)).status == 404
    assert (await world.api.get("/v1/wallets/u8", token)).status == 403
    renewed = await world.post("/v1/auth/refresh", {"refresh_token": answer.json()["refresh_token"]})
    assert (await world.api.get("/v1/wallets/u8", bearer(renewed.json()["access_token"]))).status == 403


@pytest.mark.parametrize("user_id", ["game:x", "", "a/b", "x" * 65, 7, None])
async def test_no_tokens_for_what_is_no_user(world: World, user_id: Any) -> None:
    token = bearer(await world.login.token(GAME_SERVER))
    assert (await world.post("/v1/auth/players", {"user_id": user_id}, token)).status == 400


async def test_a_token_that_has_expired_is_401(world: World) -> None:
    token = bearer(await world.login.token(OPERATOR))
    world.login.clock.now_us += (ACCESS_S + LEEWAY_S) * 1_000_000
    answer = await world.api.get("/v1/adjustments", token)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
async def test_the_scheme_is_spelled_in_any_case(world: World, scheme: str) -> None:
    token = await world.login.token(OPERATOR)
    assert (await world.api.get("/v1/adjustments", ("authorization", f"{scheme} {token}"))).status == 200


async def test_another_scheme_or_two_headers_are_401(world: World) -> None:
    token = await world.login.token(OPERATOR)
    for headers in (
        [("authorization", token)],
        [("authorization", f"Basic {token}")],
        [("authorization", "Bearer")],
        [bearer(token), bearer(token)],
    ):
        assert (await world.api.get("/v1/adjustments", *headers)).status == 401


async def test_while_revocations_are_unknown_no_token_is_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bearer(await world.login.token(OPERATOR))
    monkeypatch.setattr(world.login.revocations, "_stale_s", -1.0)
    answer = await world.api.get("/v1/adjustments", token)
    assert (answer.status, answer.json()["code"], "retry-after" in answer.headers) == (503, "log_unavailable", True)
    assert (await world.api.get("/v1/adjustments")).status == 401
    ready = await world.api.get("/readyz")
    assert ready.status == 503
    assert "clients and tokens" in ready.json()["reasons"][-1]


async def test_logins_beyond_the_queue_of_argon2_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.identity.hashing.WAITING_MAX", 0)
    answer = await world.post("/v1/auth/token", {"client_id": "meera", "client_secret": SECRET})
    assert (answer.status, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "1"


# --- OAuth 2.0 -----------------------------------------------------------------------------------------------------


async def test_a_client_logs_in_by_http_basic_or_in_the_form(world: World) -> None:
    grant = {"grant_type": "client_credentials"}
    for answer in (
        await world.form(basic("meera", SECRET), **grant),
        await world.form(basic("meera", "a-secret%2Bof%2520the_test"), **grant),
        await world.form(basic("meera", SECRET), **grant, client_id="meera", scope="unknown members are ignored"),
        await world.form(**grant, client_id="meera", client_secret=SECRET),
    ):
        assert answer.status == 200, answer.body
        assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert_not_stored(answer)


@pytest.mark.parametrize(
    ("header", "members", "status", "error"),
    [
        (None, {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (None, {"grant_type": "client_credentials", "client_id": "meera"}, 401, "invalid_client"),
        (
            None,
            {"grant_type": "client_credentials", "client_id": "meera", "client_secret": "x"},
            401,
            "invalid_client",
        ),
        (basic("meera", "x"), {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (basic("unknown", SECRET), {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (("authorization", "Basic !"), {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (("authorization", "Basic bWVlcmE="), {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (("authorization", "Bearer x"), {"grant_type": "client_credentials"}, 401, "invalid_client"),
        (basic("meera", SECRET), {}, 400, "invalid_request"),
        (basic("meera", SECRET), {"grant_type": "password"}, 400, "unsupported_grant_type"),
        (basic("meera", SECRET), {"grant_type": "client_credentials", "client_id": "x"}, 400, "invalid_request"),
        (
            basic("meera", SECRET),
            {"grant_type": "client_credentials", "client_id": "meera", "client_secret": SECRET},
            400,
            "invalid_request",
        ),
        (basic("meera", SECRET), {"grant_type": "refresh_token"}, 400, "invalid_request"),
        (None, {"grant_type": "refresh_token", "refresh_token": "unknown"}, 400, "invalid_grant"),
        (basic("meera", "x"), {"grant_type": "refresh_token", "refresh_token": "unknown"}, 401, "invalid_client"),
    ],
)
async def test_a_form_gets_its_errors_in_the_shape_of_the_rfc(
    world: World, header: tuple[str, str] | None, members: dict[str, str], status: int, error: str
) -> None:
    answer = await world.form(*([header] if header else []), **members)
    assert (answer.status, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.headers["content-type"] == "application/json"
    assert_not_stored(answer)
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("body", [b"grant_type=a&grant_type=b", b"\xff=1", b"grant_type=%ff"])
async def test_a_malformed_form_is_an_invalid_request(world: World, body: bytes) -> None:
    answer = await world.api.ask("POST", "/v1/auth/token", FORM, body=body)
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")


class Transport(httpx.AsyncBaseTransport):
    """Sends the requests of an HTTP client to the application."""

    def __init__(self, api: InMemoryApi) -> None:
        self._api = api

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(name, text) for name, text in request.headers.items() if name != "host"]
        target = request.url.raw_path.decode()
        answer = await self._api.ask(request.method, target, *headers, body=await request.aread())
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body)


async def test_metadata_name_the_address_of_the_settings_and_never_the_one_in_the_request(world: World) -> None:
    found = await world.api.ask("GET", "/.well-known/oauth-authorization-server", ("host", "evil.example"))
    assert "evil" not in found.body.decode()
    assert found.json()["issuer"] == "http://stakelog"
    assert found.json()["token_endpoint_auth_methods_supported"][-1] == "none"


async def test_a_refresh_token_of_a_form_needs_no_secret_but_none_may_be_wrong(world: World) -> None:
    missing = await world.form(grant_type="refresh_token")
    assert (missing.status, missing.json()["error"]) == (400, "invalid_request")
    token = (await world.login.pair(OPERATOR, "meera")).refresh_token
    wrong = await world.form(basic("meera", "wrong-secret"), grant_type="refresh_token", refresh_token=token)
    assert (wrong.status, wrong.json()["error"]) == (401, "invalid_client")
    renewed = await world.form(grant_type="refresh_token", refresh_token=token, client_id="meera")
    assert renewed.status == 200, "the wrong secret did not spend it"
    other = renewed.json()["refresh_token"]
    refused = await world.form(grant_type="refresh_token", refresh_token=other, client_id="another")
    assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_an_ordinary_oauth_client_gets_and_renews_its_tokens(world: World, method: str) -> None:
    """authlib knows the service by its metadata only."""
    transport = Transport(world.api)
    async with httpx.AsyncClient(transport=transport, base_url="http://stakelog") as plain:
        metadata = (await plain.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == "http://stakelog"
    assert method in metadata["token_endpoint_auth_methods_supported"]
    client = AsyncOAuth2Client(
        "meera",
        SECRET,
        token_endpoint_auth_method=method,
        token_endpoint=metadata["token_endpoint"],
        transport=transport,
    )
    async with client:
        first = await client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
        assert (await client.get("http://stakelog/v1/adjustments")).status_code == 200
        client.token["expires_at"] = 1  # it believes that the token has expired, and renews it by itself
        assert (await client.get("http://stakelog/v1/adjustments")).status_code == 200
        assert client.token["access_token"] != first["access_token"]
        assert client.token["refresh_token"] != first["refresh_token"]


# --- clients -------------------------------------------------------------------------------------------------------


async def test_a_client_is_added_listed_rotated_and_disabled(world: World) -> None:
    narrowed = {"client_id": "games-9", "role": GAME_SERVER, "games": ["wingo_1m"], "types": ["place_bet"]}
    added = await world.as_admin("POST", "/v1/clients", narrowed)
    assert added.status == 201
    assert added.headers["cache-control"] == "no-store"
    secret = added.json().pop("client_secret")
    assert added.json() == {**narrowed, "public_key": None, "client_secret": secret}
    (listed,) = [
        one for one in (await world.as_admin("GET", "/v1/clients")).json()["items"] if one["client_id"] == "games-9"
    ]
    assert (listed["games"], listed["types"], listed["disabled_at_us"]) == (["wingo_1m"], ["place_bet"], None)
    assert "hash" not in str(listed)

    async def logs_in(secret: str) -> bool:
        body = {"client_id": "games-9", "client_secret": secret}
        return (await world.post("/v1/auth/token", body)).status == 200

    assert await logs_in(secret)
    rotated = await world.as_admin("POST", "/v1/clients/games-9/rotate", {"grace_s": 60})
    second = rotated.json()["client_secret"]
    assert await logs_in(secret), "the secret before it holds for a while"
    assert await logs_in(second)
    world.login.clock.now_us += 60 * 1_000_000
    assert not await logs_in(secret)
    third = (await world.as_admin("POST", "/v1/clients/games-9/rotate")).json()["client_secret"]
    assert not await logs_in(second), "without a grace it ends at once"
    pair = (await world.post("/v1/auth/token", {"client_id": "games-9", "client_secret": third})).json()
    assert (await world.api.get("/v1/wallets/u1", bearer(pair["access_token"]))).status == 404
    assert (await world.as_admin("DELETE", "/v1/clients/games-9")).status == 204
    assert (await world.as_admin("DELETE", "/v1/clients/games-9")).status == 204
    assert not await logs_in(third)
    assert (await world.api.get("/v1/wallets/u1", bearer(pair["access_token"]))).status == 401
    assert (await world.post("/v1/auth/refresh", {"refresh_token": pair["refresh_token"]})).status == 401
    assert (await world.as_admin("POST", "/v1/clients/games-9/rotate")).status == 404
    again = await world.as_admin("POST", "/v1/clients", narrowed)
    assert (again.status, again.json()["code"]) == (409, "client_exists")


async def test_a_refresh_token_ends_with_the_secret_that_it_was_got_by(world: World) -> None:
    first = await world.login.pair(OPERATOR, "ravi")
    kept = await world.login.pair(OPERATOR, "ravi")
    world.login.clock.now_us += 1_000_000
    await world.as_admin("POST", "/v1/clients/ravi/rotate", {"grace_s": 60})
    assert (await world.post("/v1/auth/refresh", {"refresh_token": first.refresh_token})).status == 200
    world.login.clock.now_us += 60 * 1_000_000
    assert (await world.post("/v1/auth/refresh", {"refresh_token": kept.refresh_token})).status == 401
    new = await world.login.pair(OPERATOR, "ravi")
    assert (await world.post("/v1/auth/refresh", {"refresh_token": new.refresh_token})).status == 200


async def test_a_login_with_the_old_secret_ends_with_the_grace(world: World) -> None:
    added = await world.as_admin("POST", "/v1/clients", {"client_id": "anna", "role": OPERATOR})
    secrets = [added.json()["client_secret"]]
    pairs = []
    for number in range(3):
        login = {"client_id": "anna", "client_secret": secrets[0 if number < 2 else 1]}
        pairs.append((await world.post("/v1/auth/token", login)).json())
        if number != 1:
            rotated = await world.as_admin("POST", "/v1/clients/anna/rotate", {"grace_s": 60})
            secrets.append(rotated.json()["client_secret"])
    first, in_the_grace, second = pairs
    for old in (first, in_the_grace):  # the secret of both is two secrets old
        assert (await world.post("/v1/auth/refresh", {"refresh_token": old["refresh_token"]})).status == 401
    renewed = await world.post("/v1/auth/refresh", {"refresh_token": second["refresh_token"]})
    assert renewed.status == 200, "the grace of this one lasts"
    world.login.clock.now_us += 60 * 1_000_000
    kept = {"refresh_token": renewed.json()["refresh_token"]}
    assert (await world.post("/v1/auth/refresh", kept)).status == 401


async def test_a_rotation_without_grace_ends_all_tokens_of_the_client_and_its_players_at_once(world: World) -> None:
    server = await world.login.pair(GAME_SERVER, "stolen")
    player = await world.login.player(server, "u1")
    other = await world.login.token(GAME_SERVER, "not-stolen")
    rotated = (await world.as_admin("POST", "/v1/clients/stolen/rotate")).json()
    for pair in (server, player):
        assert (await world.api.get("/v1/wallets/u1", bearer(pair.access_token))).status == 401
        assert (await world.post("/v1/auth/refresh", {"refresh_token": pair.refresh_token})).status == 401
    assert (await world.api.get("/v1/wallets/u1", bearer(other))).status == 404
    new = await world.post("/v1/auth/token", rotated)
    token = bearer(new.json()["access_token"])
    assert (await world.post("/v1/auth/players", {"user_id": "u1"}, token)).status == 200


async def test_a_rotation_takes_its_grace_in_the_query_too(world: World) -> None:
    secret = (await world.as_admin("POST", "/v1/clients", {"client_id": "slow", "role": AUDITOR})).json()[
        "client_secret"
    ]
    assert (await world.as_admin("POST", "/v1/clients/slow/rotate?grace_s=60")).status == 200
    assert (await world.post("/v1/auth/token", {"client_id": "slow", "client_secret": secret})).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": OPERATOR}, "client_id"),
        ({"client_id": "x"}, "role"),
        ({"client_id": "x", "role": PLAYER}, "role"),
        ({"client_id": "x", "role": "god"}, "role"),
        ({"client_id": "ledger", "role": OPERATOR}, "client_id"),
        ({"client_id": "game:x", "role": OPERATOR}, "client_id"),
        ({"client_id": "a b", "role": OPERATOR}, "client_id"),
        ({"client_id": "x", "role": GAME_SERVER, "games": []}, "games"),
        ({"client_id": "x", "role": GAME_SERVER, "games": ["g"] * 65}, "games"),
        ({"client_id": "x", "role": GAME_SERVER, "types": ["unknown"]}, "types[0]"),
        ({"client_id": "x", "role": GAME_SERVER, "types": ["adjust"]}, "types"),
        ({"client_id": "x", "role": AUDITOR, "types": ["place_bet"]}, "types"),
        ({"client_id": "x", "role": OPERATOR, "client_secret": "chosen-by-hand"}, "client_secret"),
    ],
)
async def test_a_client_that_cannot_be_added_is_400(world: World, body: dict[str, Any], field: str) -> None:
    answer = await world.as_admin("POST", "/v1/clients", body)
    assert (answer.status, answer.json()["field"]) == (400, field), answer.body


async def test_unknown_clients_are_404(world: World) -> None:
    assert (await world.as_admin("DELETE", "/v1/clients/unknown")).status == 404
    assert (await world.as_admin("POST", "/v1/clients/unknown/rotate")).status == 404
    assert (await world.as_admin("POST", "/v1/clients/meera/rotate", {"grace_s": -1})).status == 400


async def test_the_last_enabled_admin_cannot_be_disabled(tmp_path: Path) -> None:
    async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, login=login.parts) as api_client:
        world = World(api_client, login)
        refused = await world.as_admin("DELETE", "/v1/clients/root")
        assert (refused.status, refused.json()["code"]) == (409, "last_admin")
        await login.clients.add("second", ADMIN)
        assert (await world.as_admin("DELETE", "/v1/clients/second")).status == 204
        assert (await world.as_admin("DELETE", "/v1/clients/root")).status == 409


async def test_changes_by_the_clients_command_are_in_the_log_of_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asha = ChangedBy("asha@host", "machine")
    async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, login=login.parts) as api_client:
        with caplog.at_level(logging.INFO, "api"):
            await login.clients.add("new", OPERATOR, by=asha)
            await World(api_client, login).as_admin("POST", "/v1/clients/new/rotate", {})
            await login.clients.disable("new", asha)
            await login.revocations.read()
            await Revocations(login.store, login.clock).read()  # to a process that starts now it is no news
        assert sorted(record.getMessage() for record in caplog.records) == [
            "asha@host, on the machine, added the client new",
            "asha@host, on the machine, disabled the client new",
            "root gave the client new a new secret",
        ]
        changes = await login.clients.changes()
        assert [(one.what, one.by) for one in changes if one.client_id == "new"] == [
            ("added", "asha@host"),
            ("rotated", "root"),
            ("disabled", "asha@host"),
        ]


async def test_changes_of_clients_and_failures_are_logged_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_failures", RareWarnings(logging.getLogger(auth.__name__)))
    async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, login=login.parts) as api_client:
        world = World(api_client, login)
        with caplog.at_level(logging.INFO, "api"):
            added = await world.as_admin("POST", "/v1/clients", {"client_id": "new", "role": OPERATOR})
            rotated = await world.as_admin("POST", "/v1/clients/new/rotate", {})
            refresh_token = (await login.pair(OPERATOR)).refresh_token
            for _ in range(2):
                await world.post("/v1/auth/refresh", {"refresh_token": refresh_token})
                await world.post("/v1/auth/token", {"client_id": "new", "client_secret": "a-wrong-secret"})
            await world.as_admin("DELETE", "/v1/clients/new")
        assert [record.getMessage() for record in caplog.records] == [
            "root added the client new, operator",
            "root gave the client new a new secret",
            "a login of new failed; others within 10 s are only counted",
            "a spent refresh token of a login of operator came again, so it may be stolen: this login is revoked",
            "root disabled the client new",
        ]
        secrets = (added.json()["client_secret"], rotated.json()["client_secret"], refresh_token, "a-wrong-secret")
        assert not [secret for secret in secrets if secret in caplog.text]
        counts = (await api_client.ask("GET", "/metrics", bearer(await login.token(ADMIN, "root")))).body.decode()
        assert "stakelog_failed_logins_total 2.0" in counts
        assert "stakelog_reused_refresh_tokens_total 1.0" in counts


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("", {"client_id": "x", "role": "god"}, "role must be game_server, operator, auditor or admin"),
        ("", {"client_id": "x", "role": AUDITOR, "games": ["wingo_1m"]}, "games must be left out: the role auditor"),
        ("", {"client_id": "x", "role": OPERATOR, "public_key": "k"}, "public_key must be the base64 line between"),
        ("/meera/rotate?grace_s=5", {"grace_s": 6}, "grace_s is given twice"),
        ("/a%20b/rotate", {}, "client_id must be 1"),
    ],
)
async def test_a_refused_change_of_a_client_says_what_is_allowed(
    world: World, path: str, body: dict[str, Any], says: str
) -> None:
    refused = await world.as_admin("POST", f"/v1/clients{path}", body)
    assert refused.status == 400
    assert refused.json()["detail"].startswith(says)


async def test_lists_of_clients_are_not_stored_and_a_login_names_both_media_types(world: World) -> None:
    assert (await world.as_admin("GET", "/v1/clients")).headers["cache-control"] == "no-store"
    refused = await world.api.ask("POST", "/v1/auth/token", ("content-type", "text/plain"), body=b"x")
    assert refused.status == 415
    assert "application/json or application/x-www-form-urlencoded" in refused.json()["detail"]


# --- the first start -----------------------------------------------------------------------------------------------


async def test_the_first_client_is_made_once(tmp_path: Path) -> None:
    async with LoginInMemory(tmp_path) as login:
        made = await login.clients.create_first(None)
        assert made is not None
        found = await login.clients.authenticate("admin", made)
        assert found is not None
        assert found.client.role == ADMIN
        assert await login.clients.create_first(None) is None
        assert await login.clients.create_first("another-secret") is None
        assert await login.clients.authenticate("admin", "another-secret") is None
        await login.clients.add("root", ADMIN)
        await login.clients.disable("admin")
        assert await login.clients.create_first(None) is None, "a disabled one is not made again"


async def test_the_first_secret_can_be_given(tmp_path: Path) -> None:
    async with LoginInMemory(tmp_path) as login:
        await login.clients.create_first("given-by-the-operator")
        assert await login.clients.authenticate("admin", "given-by-the-operator") is not None


async def test_secrets_are_hashed_on_few_threads_and_an_unknown_client_takes_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, worked, running = hashing._work, list[str | None](), Counter[str]()

    def counting(secret: str, secret_hash: str | None) -> str:
        worked.append(secret_hash)
        running[threading.current_thread().name] += 1
        return real(secret, secret_hash)

    monkeypatch.setattr(hashing, "_work", counting)
    hasher = SecretHasher()
    known = await hasher.hash("the-secret")
    found = await asyncio.gather(*(hasher.verify(secret, known) for secret in ("the-secret", *["another"] * 5)))
    assert found == [True, *[False] * 5]
    assert not await hasher.verify("another", None)
    hasher.close()
    assert len(worked) == 8, "an unknown client is checked against another hash"
    assert all(one is None or one.startswith("$argon2id$") for one in worked)
    assert len(running) <= hashing.THREADS
    assert all(name.startswith("stakelog-argon2") for name in running), "never the event loop's"
