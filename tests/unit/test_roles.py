"""Each cell of the tables: route × role, and role × type of command, in single posts and in batches."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from api.http.routing import AnyRoute
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER, ROLES
from api.identity.roles import MAY_POST
from api.openapi.schemas import command_name
from api.routes.table import ROUTES
from ledger.core.commands import COMMAND_TYPES
from ledger.core.games.periods import SECOND_US, name_of
from schemas.generate.document import document
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.given import ASSETS
from unit.login_in_memory import LoginInMemory, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_THE_CONTRACT: Final = {
    GAME_SERVER: (
        "open_wallet deposit request_withdrawal place_bet settle_bet cancel_bet hold capture_hold release_hold "
        "transfer grant_bonus record_result cancel_period claim_attendance claim_gift "
        "claim_referral_code"
    ),
    OPERATOR: (
        "approve_withdrawal reject_withdrawal adjust propose_adjustment approve_adjustment reject_adjustment reverse "
        "set_limits freeze_wallet unfreeze_wallet close_wallet grant_bonus cancel_period set_agent_level "
        "create_gift close_gift"
    ),
    AUDITOR: "",
    ADMIN: "",
    PLAYER: "",
}
"""The contract's table, copied: what each role may post."""

READS: Final = {
    GAME_SERVER: r"/v1/(wallets|leaderboards|games|gifts|commands|live).*",
    PLAYER: r"/v1/(wallets/|orders|leaderboards|games|live).*",
    OPERATOR: r"(?!/v1/events|/v1/clients|/metrics).*",
    AUDITOR: r"(?!/v1/clients).*",
    ADMIN: r".*",
}
"""The contract's table in patterns: what each role may read."""
OPEN: Final = {
    *("/", "/healthz", "/readyz", "/schema", "/schema/", "/schema/scalar.js"),
    *("/.well-known/jwks.json", "/.well-known/oauth-authorization-server"),
    *("/v1/auth/token", "/v1/auth/refresh", "/v1/auth/logout"),
    *("/admin", "/admin/assets/{name}"),
    *("/admin/session", "/admin/session/refresh", "/admin/session/logout"),
}
POSTED: Final = {path for path in OPEN if path.startswith(("/v1/auth/", "/admin/session"))}
PATHS: Final = {
    "user_id": "u1",
    "command_id": "c-1",
    "position": "0:1",
    "name": "staked_day",
    "client_id": "meera",
    "webhook_id": "wh_0123456789abcdef",
    "game": "external",
    "period": "1",
    "code": "hello",
}
QUERIES: Final = {
    "/v1/live": "?user_id=u1",
    "/v1/live/ws": "?user_id=u1",
    "/v1/wallets": "?prefix=u",
    "/v1/orders": "?user_id=u1",
    "/v1/leaderboards/{name}": "?asset=INR",
    "/v1/house": "?asset=INR",
    "/v1/house/movers": "?asset=INR",
    "/v1/house/cohorts": "?asset=INR",
    "/v1/events": "?partition=0",
}
GUARDED: Final = [route for route in ROUTES if route.roles]
DOCUMENT: Final = document()
COMMANDS: Final = {
    name: DOCUMENT["components"]["examples"][f"command.{name}"]["value"] for name in map(command_name, COMMAND_TYPES)
}
BOUND: Final = 1_000_000
JSON: Final = ("content-type", "application/json")


class World:
    """The application with login, and an access token of each role; the player is u1."""

    def __init__(self, api: InMemoryApi, login: LoginInMemory, tokens: dict[str, str]) -> None:
        self.api, self.login, self.tokens = api, login, tokens

    async def ask(self, role: str, method: str, target: str, body: Any = None) -> ApiResponse:
        return await self.ask_with(self.tokens[role], method, target, body)

    async def ask_with(self, token: str, method: str, target: str, body: Any = None) -> ApiResponse:
        headers = [bearer(token)] + ([JSON] if body is not None else [])
        encoded = b"" if body is None else msgspec.json.encode(body)
        return await self.api.ask(method, target, *headers, body=encoded)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("roles")
    bounds = {"INR": BOUND}
    async with (
        LoginInMemory(folder) as login,
        InMemoryApi(folder, login=login.parts, adjust_max=bounds) as api_client,
    ):
        yield World(api_client, login, {role: await login.token(role) for role in ROLES})


def target_of(route: AnyRoute) -> str:
    path = re.sub(r"{(\w+)}", lambda found: PATHS.get(found[1], "x-1"), route.path)
    return path + QUERIES.get(route.path, "")


def body_of(route: AnyRoute) -> Any:
    if route.body is None:
        return None
    example = DOCUMENT["components"]["examples"][route.body.examples[0]]["value"]
    return {**example, "client_id": f"added-{len(route.path)}"} if "client_id" in example else example


# --- routes --------------------------------------------------------------------------------------------------------


async def test_the_routes_that_are_open_to_all_are_the_contracts() -> None:
    assert {route.path for route in ROUTES if not route.roles} == OPEN


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_reads_what_the_contract_says(role: str) -> None:
    reads = {route.path for route in GUARDED if route.method == "GET" and role in route.roles}
    expected = {
        route.path for route in GUARDED if route.method == "GET" and re.fullmatch(READS[role], route.path) is not None
    }
    assert reads == expected


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_serves_its_roles_only(world: World, route: AnyRoute, role: str) -> None:
    if route.checks_commands:
        return
    if role in route.roles and route.method == "DELETE":
        return  # test_auth_routes
    answer = await world.ask(role, route.method, target_of(route), body_of(route))
    if role in route.roles:
        assert answer.status not in (400, 401, 403), answer.body
    else:
        assert answer.status == 403, answer.body
        assert answer.json()["code"] == "forbidden"
        assert answer.json()["needs"] == list(route.roles)


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_without_a_token_a_route_is_401_whatever_else_is_wrong(world: World, route: AnyRoute) -> None:
    for target in (target_of(route), f"{target_of(route).partition('?')[0]}?unknown=1"):
        answer = await world.api.ask(route.method, target, JSON, body=b"{")
        assert answer.status == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    head = "HEAD" if route.method == "GET" else route.method
    assert (await world.api.ask(head, target_of(route))).status == 401


@pytest.mark.parametrize("path", sorted(OPEN - POSTED))
async def test_an_open_route_needs_no_token_and_ignores_a_wrong_one(world: World, path: str) -> None:
    for headers in ([], [bearer("nonsense")]):
        assert (await world.api.get(path, *headers)).status in (200, 302, 404), "404: there are no keys"


async def test_malformed_comes_before_forbidden(world: World) -> None:
    assert (await world.ask(PLAYER, "GET", "/v1/events?partition=x")).status == 400
    assert (await world.ask(PLAYER, "POST", "/v1/clients", {"client_id": "x"})).status == 400
    assert (await world.ask(PLAYER, "POST", "/v1/commands", {"type": "deposit"})).status == 400
    assert (await world.ask(OPERATOR, "POST", "/v1/commands", {**COMMANDS["deposit"], "amount": 1.5})).status == 400


# --- commands ------------------------------------------------------------------------------------------------------


async def test_every_type_of_command_has_its_roles() -> None:
    for role in ROLES:
        assert {kind for kind, roles in MAY_POST.items() if role in roles} == set(OF_THE_CONTRACT[role].split())
    assert set(map(command_name, COMMAND_TYPES)) == set(MAY_POST)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_is_posted_by_its_roles_only(world: World, kind: str, role: str) -> None:
    command = {**COMMANDS[kind], "command_id": f"single-{role}"}
    single = await world.ask(role, "POST", "/v1/commands", command)
    tried = await world.ask(role, "POST", "/v1/commands?dry_run=true", {**command, "command_id": "tried"})
    if role in MAY_POST[kind]:
        assert single.status not in (400, 401, 403), single.body
        assert tried.status not in (400, 401, 403), tried.body
        return
    for answer in (single, tried):
        assert answer.status == 403
        assert answer.json()["needs"] == list(MAY_POST[kind])


@pytest.mark.parametrize("role", ROLES)
async def test_each_element_of_a_batch_is_checked_by_its_own_type(world: World, role: str) -> None:
    commands = [{**command, "command_id": f"batch-{role}"} for command in COMMANDS.values()]
    malformed = {"type": "deposit"}
    answer = await world.ask(role, "POST", "/v1/commands/batch", [malformed, *commands, malformed])
    assert answer.status == 200
    first, *items, last = answer.json()
    assert first["status"] == last["status"] == 400
    for kind, item in zip(COMMANDS, items, strict=True):
        if role in MAY_POST[kind]:
            assert item["status"] not in (400, 401, 403), (kind, item)
        else:
            assert item["status"] == item["problem"]["status"] == 403, (kind, item)
            assert item["problem"]["code"] == "forbidden"
            assert item["problem"]["needs"] == list(MAY_POST[kind])


async def test_the_client_is_the_actor_of_its_events(world: World) -> None:
    command = {"type": "open_wallet", "command_id": "c-1", "user_id": "of-a-client"}
    answer = await world.ask(GAME_SERVER, "POST", "/v1/commands", command)
    assert answer.status == 201
    event = await world.ask(AUDITOR, "GET", f"/v1/events/{answer.json()['position']}")
    assert event.json()["actor"] == GAME_SERVER


async def test_with_login_the_header_of_the_actor_is_malformed(world: World) -> None:
    command = msgspec.json.encode(COMMANDS["open_wallet"])
    token = bearer(world.tokens[GAME_SERVER])
    for path, body in (("/v1/commands", command), ("/v1/commands/batch", b"[%b]" % command)):
        answer = await world.api.ask("POST", path, JSON, token, ("stakelog-actor", "meera"), body=body)
        assert (answer.status, answer.json()["field"]) == (400, "Stakelog-Actor")


async def test_two_operators_are_two_pairs_of_eyes_and_one_is_not(world: World) -> None:
    meera, ravi = await world.login.token(OPERATOR, "meera"), await world.login.token(OPERATOR, "ravi")
    await world.ask(GAME_SERVER, "POST", "/v1/commands", {**COMMANDS["open_wallet"], "user_id": "eyes"})
    of = {"user_id": "eyes", "adjustment_id": "adj-1"}
    propose = {**of, "type": "propose_adjustment", "command_id": "p", "asset": "INR", "amount": 99, "reason": "lost"}
    approve = {**of, "type": "approve_adjustment", "command_id": "a"}
    assert (await world.ask_with(meera, "POST", "/v1/commands", propose)).status == 201
    same = await world.ask_with(meera, "POST", "/v1/commands", approve)
    assert (same.status, same.json()["code"]) == (422, "same_actor")
    assert (await world.ask_with(ravi, "POST", "/v1/commands", approve)).status == 201


@pytest.mark.parametrize(
    ("amount", "status"), [(BOUND, 422), (-BOUND, 422), (BOUND + 1, 403), (-BOUND - 1, 403), (2**60, 403)]
)
async def test_an_operator_adjusts_alone_up_to_the_set_amount(world: World, amount: int, status: int) -> None:
    command = {"type": "adjust", "command_id": "c", "user_id": "never-opened", "asset": "INR", "reason": "x"}
    answer = await world.ask(OPERATOR, "POST", "/v1/commands", {**command, "amount": amount})
    assert answer.status == status, answer.body
    if status == 403:
        assert answer.json()["amount_max"] == BOUND
    unbounded = next(asset for asset in ASSETS if asset != "INR")
    other = await world.ask(OPERATOR, "POST", "/v1/commands", {**command, "asset": unbounded, "amount": 10**12})
    assert other.status == 422, "without a bound the ledger decides"


@pytest.mark.parametrize(
    ("role", "amount", "may"), [(OPERATOR, 0, True), (OPERATOR, 1, False), (GAME_SERVER, 1, True)]
)
async def test_an_operator_grants_alone_up_to_the_set_amount(world: World, role: str, amount: int, may: bool) -> None:
    command = {"type": "grant_bonus", "command_id": "c", "user_id": "never-opened", "asset": "INR", "grant_id": "g"}
    answer = await world.ask(role, "POST", "/v1/commands", {**command, "amount": BOUND + amount})
    assert answer.status == (422 if may else 403), answer.body
    assert may or answer.json()["amount_max"] == BOUND


# --- narrowed clients ----------------------------------------------------------------------------------------------


async def test_a_client_of_some_games_posts_bets_of_these_only(world: World) -> None:
    token = await world.login.token(GAME_SERVER, "roulette-only", games=("roulette",))
    bet = COMMANDS["place_bet"]
    other = await world.ask_with(token, "POST", "/v1/commands", bet)
    assert (other.status, other.json()["game"]) == (403, "external")
    assert other.json()["detail"] == "this client is narrowed to the games roulette"
    assert (await world.ask_with(token, "POST", "/v1/commands", {**bet, "game": "roulette"})).status == 422
    items = (await world.ask_with(token, "POST", "/v1/commands/batch", [bet, {**bet, "game": "roulette"}])).json()
    assert [item["status"] for item in items] == [403, 422]


NAMES_NO_GAME: Final = [
    kind
    for kind in OF_THE_CONTRACT[GAME_SERVER].split()
    if kind not in ("place_bet", "record_result", "cancel_period")
]


@pytest.mark.parametrize("kind", NAMES_NO_GAME)
async def test_a_client_of_some_games_posts_commands_that_name_no_game_and_no_known_bet(
    world: World, kind: str
) -> None:
    token = await world.login.token(GAME_SERVER, "roulette-only", games=("roulette",))
    answer = await world.ask_with(token, "POST", "/v1/commands", {**COMMANDS[kind], "command_id": f"no-{kind}"})
    assert answer.status != 403, answer.body


@pytest.mark.parametrize("game", ["external", "wingo_1m"])
@pytest.mark.parametrize("kind", ["settle_bet", "cancel_bet"])
async def test_a_client_of_some_games_ends_bets_of_these_only(world: World, kind: str, game: str) -> None:
    """403 comes before what the ledger says of a bet that a result settles."""
    user_id, other = f"narrowed-{kind}-{game}", {"external": "wingo_1m", "wingo_1m": "external"}[game]
    own, foreign = [await world.login.token(GAME_SERVER, f"only-{name}", games=(name,)) for name in (game, other)]
    starts = name_of(world.api.world.clock() // (60 * SECOND_US) * 60 * SECOND_US)
    period, selection = ("1", "red") if game == "external" else (starts, "red")
    bet = {"game": game, "period": period, "selection": selection, "bet_id": "b", "asset": "INR", "stake": 200}
    order = {"order_id": "o", "asset": "INR", "amount": 1_000}
    for fields in (
        {"type": "open_wallet", "command_id": "c1"},
        {"type": "deposit", "command_id": "c2", **order},
        {"type": "place_bet", "command_id": "c3", **bet},
    ):
        assert (await world.ask_with(own, "POST", "/v1/commands", {**fields, "user_id": user_id})).status == 201
    end: dict[str, Any] = {"type": kind, "command_id": "c4", "user_id": user_id, "bet_id": "b"}
    end |= {"payout": 1} if kind == "settle_bet" else {}
    for target in ("/v1/commands", "/v1/commands?dry_run=true"):
        refused = await world.ask_with(foreign, "POST", target, end)
        assert (refused.status, refused.json()["code"]) == (403, "forbidden"), refused.body
        assert (refused.json()["needs"], refused.json()["game"]) == ([GAME_SERVER], game)
    items = (await world.ask_with(foreign, "POST", "/v1/commands/batch", [end, end])).json()
    assert [(item["status"], item["problem"]["code"]) for item in items] == [(403, "forbidden")] * 2
    answer = await world.ask_with(own, "POST", "/v1/commands", end)
    if (kind, game) == ("settle_bet", "wingo_1m"):
        assert (answer.status, answer.json()["code"]) == (422, "settled_by_result")
        return
    assert answer.status == 201
    # Nothing can change a bet that has ended: its game is forgotten, and a repeat is a repeat.
    for token in (own, foreign):
        assert (await world.ask_with(token, "POST", "/v1/commands", end)).status == 200
    again = await world.ask_with(own, "POST", "/v1/commands", {**end, "command_id": "c5"})
    assert (again.status, again.json()["code"]) == (409, "already_resolved")


async def test_a_client_of_some_types_posts_these_only(world: World) -> None:
    token = await world.login.token(GAME_SERVER, "bets-only", types=("place_bet", "settle_bet"))
    assert (await world.ask_with(token, "POST", "/v1/commands", COMMANDS["place_bet"])).status != 403
    refused = await world.ask_with(token, "POST", "/v1/commands", COMMANDS["deposit"])
    assert refused.status == 403
    assert (await world.ask_with(token, "GET", "/v1/wallets/u9")).status == 404, "it reads as before"


# --- players -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/v1/wallets/u2",
        "/v1/wallets/u%32",
        "/v1/wallets/U1",
        "/v1/wallets/%551",
        "/v1/wallets/u2/bets/u1",
        "/v1/wallets/u2/history?limit=1",
        "/v1/orders/u2/x-1",
        "/v1/orders/%75%32/u1",
        "/v1/orders?user_id=u2",
        "/v1/orders?user_id=%75%32",
        "/v1/orders",
        "/v1/wallets?user_id=u1",
        "/v1/wallets?user_id=u1&user_id=u2",
        "/v1/wallets?prefix=",
    ],
)
async def test_a_player_reads_nothing_of_another_user(world: World, target: str) -> None:
    for method in ("GET", "HEAD"):
        assert (await world.ask(PLAYER, method, target)).status == 403, target


@pytest.mark.parametrize(
    "target",
    [
        "/v1/wallets/u1/../u2",
        "/v1/wallets//u2",
        "//v1/wallets/u2",
        "/v1/wallets/u1%2F..%2Fu2",
        "/v1/wallets/./u2",
        "/v1/wallets/u1/..%2Fu2",
        "/v1/wallets/u2/",
        "/v1/wallets/u1\\..\\u2",
    ],
)
async def test_no_spelling_of_a_path_leads_a_player_to_another_wallet(world: World, target: str) -> None:
    await world.ask(GAME_SERVER, "POST", "/v1/commands", {**COMMANDS["open_wallet"], "user_id": "u2"})
    answer = await world.ask(PLAYER, "GET", target)
    assert answer.status in (400, 403, 404), answer.body
    assert b'"balances"' not in answer.body


@pytest.mark.parametrize(
    "target",
    [
        "/v1/wallets/u1",
        "/v1/wallets/%75%31",
        "/v1/wallets/u1/bets",
        "/v1/wallets/u1/bets/..%2F..%2Fu2",
        "/v1/wallets/u1/bets/../../u2",
        "/v1/orders/u1/x-1",
        "/v1/orders?user_id=u1",
        "/v1/orders?user_id=%75%31",
        "/v1/leaderboards/staked_day?asset=INR",
    ],
)
async def test_a_player_reads_what_is_theirs_however_it_is_spelled(world: World, target: str) -> None:
    assert (await world.ask(PLAYER, "GET", target)).status in (200, 404), target
