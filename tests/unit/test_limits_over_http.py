"""Rate limits and signatures as the routes apply them: which bucket counts, and what comes before what."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.http.bounds import OF_CLIENT_MAX
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, PLAYER
from api.identity.ports import Client
from api.limits.limits import LOGINS_OF_ADDRESS, Rates
from unit.api_in_memory import ApiResponse, InMemoryApi, limiter
from unit.login_in_memory import LoginInMemory, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON: Final = ("content-type", "application/json")
RATES: Final = Rates(client=2, user=1, address=3, login_per_min=4)
PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY: Final = "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="


class SteppedClock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    def __init__(self, api: InMemoryApi, login: LoginInMemory, clock_s: SteppedClock) -> None:
        self.api, self.login, self._clock_s = api, login, clock_s

    def refill(self) -> None:
        """All buckets are full."""
        self._clock_s.now_s += 1_000

    async def post(self, path: str, body: Any, *headers: tuple[str, str]) -> ApiResponse:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.api.ask("POST", path, JSON, *headers, body=data)

    async def until_limited(self, method: str, target: str, *headers: tuple[str, str]) -> tuple[int, ApiResponse]:
        """How many requests passed before the first 429, and that."""
        for passed in range(1_000):
            answer = await self.api.ask(method, target, *headers)
            if answer.status == 429:
                return passed, answer
        raise AssertionError("nothing is limited")


class LongBody:
    """A request whose body arrives when the test says so."""

    def __init__(self, api: InMemoryApi, path: str, *headers: tuple[str, str]) -> None:
        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in (JSON, *headers)],
            "client": ("192.0.2.1", 1),
        }
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: list[Any] = []
        self._task = asyncio.create_task(api.app(scope, self._parts.get, self._send))

    async def _send(self, message: Any) -> None:
        self._sent.append(message)

    def upload(self, part: bytes) -> None:
        self._parts.put_nowait({"type": "http.request", "body": part, "more_body": True})

    @property
    def problem(self) -> Any:
        return msgspec.json.decode(self._sent[1]["body"])

    async def refusal(self) -> tuple[int, str]:
        """The status and the code of a response that does not wait for the end of the body."""
        await until(lambda: len(self._sent) == 2)
        return self._sent[0]["status"], self.problem["code"]

    async def end(self) -> None:
        self._parts.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        async with asyncio.timeout(60):
            await self._task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the application has no event for a test
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("limits")
    clock_s = SteppedClock()
    async with (
        LoginInMemory(folder) as login,
        InMemoryApi(
            folder, login=login.parts, limiter=limiter(RATES, clock_s=clock_s), internal=True, partitions=1
        ) as api_client,
    ):
        yield World(api_client, login, clock_s)


@pytest.fixture
def world(running: World) -> World:
    running.refill()
    return running


def opening(user_id: str, command_id: str = "c") -> dict[str, Any]:
    return {"type": "open_wallet", "command_id": command_id, "user_id": user_id}


async def test_a_client_is_limited_and_the_response_says_when_to_come_back(world: World) -> None:
    token = bearer(await world.login.token(AUDITOR))
    passed, limited = await world.until_limited("GET", "/v1/partitions", token)
    assert passed == 20
    assert limited.headers["retry-after"] == "1"
    assert limited.headers["ratelimit-policy"] == '"client";q=20;w=10'
    assert limited.headers["ratelimit"] == '"client";r=0;t=1'
    assert limited.headers["content-type"] == "application/problem+json"
    problem = limited.json()
    assert (problem["code"], problem["limit"], problem["quota"]) == ("rate_limited", "client", 20)
    assert (await world.api.get("/v1/partitions", bearer(await world.login.token(ADMIN)))).status == 200


async def test_another_token_of_the_client_counts_in_the_same_bucket(world: World) -> None:
    await world.until_limited("GET", "/v1/partitions", bearer(await world.login.token(AUDITOR)))
    other = bearer(await world.login.token(AUDITOR))
    assert (await world.api.get("/v1/partitions", other)).status == 429


async def test_strangers_are_limited_by_address_and_tokens_there_are_not(world: World) -> None:
    known = bearer(await world.login.token(AUDITOR, "known"))
    assert (await world.api.get("/v1/partitions", known)).status == 200
    passed, limited = await world.until_limited("GET", "/v1/partitions", bearer("no.token.x"))
    assert (passed, limited.json()["limit"]) == (30, "address")
    for stranger in ((), (("authorization", "Basic x"),)):
        assert (await world.api.get("/v1/partitions", *stranger)).status == 429
    for path in ("/schema", "/.well-known/jwks.json"):
        assert (await world.api.get(path)).status == 429
    assert (await world.post("/v1/auth/refresh", {})).status == 429
    assert (await world.api.get("/v1/partitions", known)).status == 200
    for path in ("/healthz", "/readyz"):
        assert (await world.api.get(path)).status == 200
    assert (await world.api.ask("GET", "/metrics", app=world.api.inside)).status == 200, "the internal listener"


async def test_a_new_token_that_is_valid_does_not_count_for_its_address(world: World) -> None:
    for number in range(50):
        token = bearer(await world.login.token(AUDITOR, f"audits-{number}"))
        assert (await world.api.get("/v1/partitions", token)).status == 200


async def test_a_revoked_token_counts_for_its_address(world: World) -> None:
    pair = await world.login.pair(AUDITOR, "leaver")
    token = bearer(pair.access_token)
    assert (await world.api.get("/v1/partitions", token)).status == 200
    await world.login.tokens.revoke(pair.refresh_token)
    passed, limited = await world.until_limited("GET", "/v1/partitions", token)
    assert (passed, limited.json()["limit"]) == (30, "address")


async def test_401_comes_before_429_of_a_client_and_429_before_400(world: World) -> None:
    token = bearer(await world.login.token(AUDITOR))
    await world.until_limited("GET", "/v1/partitions", token)
    assert (await world.api.get("/v1/events?partition=x", token)).status == 429
    assert (await world.api.get("/v1/partitions", bearer("no.token.x"))).status == 401


async def test_a_players_requests_do_not_count_for_the_game_server(world: World) -> None:
    server, player = bearer(await world.login.token(GAME_SERVER)), bearer(await world.login.token(PLAYER, "u1"))
    assert (await world.post("/v1/commands", opening("u1"), server)).status == 201
    world.refill()
    strong = "/v1/wallets/u1?consistency=strong"
    passed, limited = await world.until_limited("GET", strong, player)
    assert (passed, limited.json()["limit"]) == (10, "player")
    passed, limited = await world.until_limited("GET", strong, server)
    assert (passed, limited.json()["limit"]) == (10, "user")
    assert (await world.api.get("/v1/wallets/u2?consistency=strong", server)).status == 404


async def test_what_another_client_reads_of_a_user_or_may_not_do_does_not_count_for_the_game_server(
    world: World,
) -> None:
    server, auditor = [bearer(await world.login.token(role, f"u8-{role}")) for role in (GAME_SERVER, AUDITOR)]
    refused = [(await world.api.ask("DELETE", "/v1/wallets/u8/private", auditor)).status for _ in range(15)]
    assert refused == [403] * 15, "they are not counted for the user"
    world.refill()
    passed, limited = await world.until_limited("GET", "/v1/wallets/u8?consistency=strong", auditor)
    assert (passed, limited.json()["limit"]) == (10, "user")
    assert (await world.post("/v1/commands", opening("u8"), server)).status == 201


async def test_requests_for_no_route_count_for_their_address(world: World) -> None:
    for number in range(15):
        assert (await world.api.get(f"/nothing-{number}")).status == 404
        assert (await world.api.ask("DELETE", "/v1/commands")).status == 405
    assert (await world.api.get("/nothing")).status == 429
    assert (await world.api.ask("DELETE", "/v1/commands")).status == 429
    assert (await world.api.ask("GET", "/nothing", app=world.api.inside)).status == 404, "the internal listener"


async def test_a_batch_counts_its_commands_for_the_client_and_for_each_user(world: World) -> None:
    server = bearer(await world.login.token(GAME_SERVER, "batches"))
    busy = [opening("busy", f"c-{number}") for number in range(9)]
    first = (await world.post("/v1/commands/batch", [*busy, opening("calm")], server)).json()
    assert [item["status"] for item in first] == [201] + [422] * 8 + [201]
    second = (await world.post("/v1/commands/batch", [*busy[:3], {"type": "x"}, opening("calm")], server)).json()
    assert [item["status"] for item in second] == [429, 429, 429, 400, 200]
    assert second[0]["problem"]["limit"] == "user"
    whole = await world.post("/v1/commands/batch", [opening(f"u-{number}") for number in range(8)], server)
    assert (whole.status, whole.json()["limit"]) == (429, "client"), "5 of 20 are left, 8 are asked for"
    assert (await world.post("/v1/commands", opening("busy"), server)).status == 422, "its tenth of ten"
    assert (await world.post("/v1/commands", opening("busy"), server)).status == 429


@pytest.mark.parametrize("role", [PLAYER, AUDITOR, ADMIN])
@pytest.mark.parametrize("path", ["/v1/commands", "/v1/commands/batch"])
async def test_a_role_that_posts_nothing_cannot_make_the_service_keep_a_long_body(
    world: World, role: str, path: str
) -> None:
    token = bearer(await world.login.token(role, "u1"))
    body = LongBody(world.api, path, token)
    body.upload(b" " * 100_000)
    assert await body.refusal() == (403, "forbidden")
    assert body.problem["needs"] == ["game_server", "operator"]
    await body.end()
    assert world.api.app.arriving.used == 0
    short = await world.post("/v1/commands", {"type": "x"}, token)
    assert short.status == 400, "in a body of usual size, 400 comes before 403"


async def test_one_client_cannot_use_up_the_room_for_the_long_bodies_of_others(world: World) -> None:
    greedy, other = [bearer(await world.login.token(GAME_SERVER, name)) for name in ("greedy", "other")]
    first = LongBody(world.api, "/v1/commands", greedy)
    first.upload(b" " * OF_CLIENT_MAX)
    await until(lambda: world.api.app.arriving.used == OF_CLIENT_MAX)
    second = LongBody(world.api, "/v1/commands", greedy)
    second.upload(b" " * 100_000)
    assert await second.refusal() == (503, "overloaded")
    long = msgspec.json.encode(opening("u3")) + b" " * 100_000
    assert (await world.post("/v1/commands", long, other)).status == 201
    await second.end()
    await first.end()
    assert (await world.post("/v1/commands", long, greedy)).status == 200
    assert world.api.app.arriving.used == 0


async def test_wrong_secrets_are_slowed_before_argon2_runs(world: World) -> None:
    await world.login.clients.add("guessed", AUDITOR, secret="the-right-secret")  # noqa: S106
    statuses = []
    for number in range(10):
        body = {"client_id": "guessed", "client_secret": f"wrong-secret-{number}"}
        statuses.append((await world.post("/v1/auth/token", body)).status)
    assert statuses == [401] * RATES.login_per_min + [429] * (10 - RATES.login_per_min)
    right = {"client_id": "guessed", "client_secret": "the-right-secret"}
    assert (await world.post("/v1/auth/token", right)).json()["limit"] == "login"
    world.refill()
    for _ in range(3 * RATES.login_per_min):
        assert (await world.post("/v1/auth/token", right)).status == 200, "logins that succeed are not slowed"


@pytest.mark.system
async def test_each_reading_of_a_secret_in_http_basic_counts_and_a_right_one_gives_all_back(world: World) -> None:
    """A secret with a per cent sign may be sent as it is, or encoded as the RFC says."""
    await world.login.clients.add("percent", AUDITOR, secret="a%2Fsecret")  # noqa: S106

    async def status(secret: str) -> int:
        given = base64.b64encode(f"percent:{secret}".encode()).decode()
        form = ("content-type", "application/x-www-form-urlencoded")
        headers = (("authorization", f"Basic {given}"), form)
        grant = b"grant_type=client_credentials"
        return (await world.api.ask("POST", "/v1/auth/token", *headers, body=grant)).status

    for _ in range(RATES.login_per_min):
        assert [await status("a%2Fsecret"), await status("a%252Fsecret")] == [200, 200]
    assert RATES.login_per_min == 4
    assert await status("a-wrong-secret") == 401
    assert [await status(secret) for secret in ("%40-wrong", "%41-wrong", "also-wrong")] == [401, 429, 429]
    world.refill()
    assert await status("a%252Fsecret") == 200


async def test_names_that_no_client_can_have_are_one_name(world: World) -> None:
    answers = [
        await world.post("/v1/auth/token", {"client_id": f"no name {number}", "client_secret": "x"})
        for number in range(RATES.login_per_min + 1)
    ]
    assert [answer.status for answer in answers] == [401] * RATES.login_per_min + [429]
    assert LOGINS_OF_ADDRESS > 1


def signed(method: str, path: str, body: bytes, nonce: str) -> tuple[tuple[str, str], ...]:
    digest = f"sha-256=:{base64.b64encode(sha256(body).digest()).decode()}:"
    covered = '("@method" "@path" "@query" "content-digest")'
    parameters = f'{covered};created={int(time.time())};nonce="{nonce}";keyid="signing"'
    base = f'"@method": {method}\n"@path": {path}\n"@query": ?\n"content-digest": {digest}\n'
    signature = PRIVATE_KEY.sign(f'{base}"@signature-params": {parameters}'.encode())
    return (
        ("content-digest", digest),
        ("signature-input", f"sig={parameters}"),
        ("signature", f"sig=:{base64.b64encode(signature).decode()}:"),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def token_of_signing(running: World) -> tuple[str, str]:
    """Of an admin, who posts, deletes and reads."""
    client = Client("signing", ADMIN, "no hash", 0, public_key=PUBLIC_KEY)
    return bearer((await running.login.begin(client)).access_token)


async def test_a_client_with_a_key_must_sign_what_it_posts_and_deletes(
    world: World, token_of_signing: tuple[str, str]
) -> None:
    body = b'{"client_id":"made","role":"auditor"}'
    for headers in ((), signed("POST", "/v1/clients", body + b" ", "a"), signed("POST", "/v1/commands", body, "b")):
        unsigned = await world.post("/v1/clients", body, token_of_signing, *headers)
        assert (unsigned.status, unsigned.json()["code"]) == (401, "unauthenticated")
        assert "www-authenticate" in unsigned.headers
    headers = signed("POST", "/v1/clients", body, "c")
    assert (await world.post("/v1/clients", body, token_of_signing, *headers)).status == 201
    assert (await world.post("/v1/clients", body, token_of_signing, *headers)).status == 401
    path = "/v1/clients/made"
    assert (await world.api.ask("DELETE", path, token_of_signing)).status == 401
    assert (await world.api.ask("DELETE", path, token_of_signing, *signed("DELETE", path, b"", "d"))).status == 204
    assert (await world.api.ask("GET", "/v1/clients", token_of_signing)).status == 200


async def test_refreshed_tokens_of_such_a_client_must_sign_too_and_those_of_its_players_need_not(
    world: World,
) -> None:
    client = Client("signing-games", GAME_SERVER, "no hash", 0, public_key=PUBLIC_KEY)
    pair = await world.login.begin(client)
    refreshed = await world.login.tokens.refresh(pair.refresh_token)
    assert refreshed is not None
    for token in (pair.access_token, refreshed.access_token):
        assert world.login.tokens.identity_of(token.encode()).public_key == PUBLIC_KEY
        assert (await world.post("/v1/commands", opening("u7"), bearer(token))).status == 401
    player = await world.login.player(pair, "u7")
    assert world.login.tokens.identity_of(player.access_token.encode()).public_key is None
