"""The running service against its own document: generated requests, right and wrong ones, for every operation.

Each answer must have a documented status, content type, headers and shape, and be no 5xx. What the document calls
right must not be called malformed, and what it calls wrong must not be taken.
"""

import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from schemathesis import BaseSchema, Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from api.identity.identity import PLAYER
from api.routes.table import ROUTES
from ledger.core.fields import USER_ID_PATTERN
from ledger.core.position import partition_of
from schemas.generate.document import document
from system.service import Service

pytestmark = pytest.mark.system

WALLETS: Final = [f"u{n}" for n in range(8)]
EXAMPLES: Final = {
    "postCommand": 150,
    "postCommands": 25,
    "getOrder": 60,
    "getHold": 60,
    "getTransfer": 60,
    "getBet": 60,
}
OTHERS: Final = 25
"""Chosen: over a thousand requests in well under a minute."""

ENDLESS: Final = {"getLive"}
"""Its response lasts; ``test_live.py`` reads it."""

OPERATIONS: Final = {
    operation["operationId"]: (path, method.upper())
    for path, operations in document()["paths"].items()
    for method, operation in operations.items()
    if operation["operationId"] not in ENDLESS
}
READS: Final = [
    operation["operationId"]
    for operations in document()["paths"].values()
    for method, operation in operations.items()
    if method == "get" and operation["tags"][0] in ("wallets", "orders", "adjustments")
]
OF_ALL_USERS: Final = {"getWallets", "getOrders", "getAdjustments"}
WITHOUT_PARAMETERS: Final = {
    *("getPartitions", "getHealth", "getReadiness", "getMetrics", "getSchema"),
    *("getKeys", "getOAuthMetadata", "getClients"),
}
ADMIN_SECRET: Final = "the-first-secret-of-the-test"  # noqa: S105
WITH_LOGIN: Final = {
    "AUTH": "on",
    "ADMIN_SECRET": ADMIN_SECRET,
    **{f"RATE_{name}": "0" for name in ("CLIENT", "USER", "ADDRESS", "LOGIN_PER_MIN")},
}
ROLES: Final = {route.operation: next((role for role in route.roles if role != PLAYER), None) for route in ROUTES}
"""Operation → the role that tries it; None: it is open to all."""

OF_STREAMS: Final = {"record_result", "cancel_period", "create_gift", "close_gift"}
"""The user_id of these is a game's or a gift's."""
MAY_BE_MALFORMED: Final = {
    "getEvents",
    "postClient",
    "postReplay",
    "postRotation",
    "postToken",
    "postWebhook",
    "postWebhookChange",
}
"""The document cannot know how many partitions this log has, nor which refresh tokens there are (400, by RFC 6749),
nor which types of commands a role may post, nor that a grace is given in the query or in the body, nor to which
addresses a webhook may go."""
MIDNIGHTS: Final = ("20261123T000000Z", "20261124T000000Z")
"""Periods of games of every length start then: no schema has the starts of one game."""
STREAMS: Final = {"/v1/gifts/{code}": "gift:", "/v1/referral-codes/{code}": "code:"}
PARTITIONS: Final = 16
REGISTRY: Final[Registry[Any]] = Registry().with_resource("urn:document", DRAFT202012.create_resource(document()))
COMMAND: Final = {"$ref": "urn:document#/components/schemas/Command"}
IDS: Final = ("a", "b", "c", "first")

tokens: dict[str, str] = {}
"""Role → its access token."""
asked: Counter[tuple[str, str, int]] = Counter()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    with Service(data, PARTITIONS=str(PARTITIONS), **WITH_LOGIN) as service:
        yield service
    assert "Traceback" not in service.log_text()


def log_in(service: Service, client_id: str, secret: str) -> str:
    pair = post(service, "/v1/auth/token", {"client_id": client_id, "client_secret": secret})
    return str(pair["access_token"])


def post(service: Service, path: str, body: Any, token: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    request = urllib.request.Request(service.url + path, msgspec.json.encode(body), headers)  # noqa: S310 - its own
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return msgspec.json.decode(answer.read())


@pytest.fixture(scope="module")
def schema(service: Service) -> BaseSchema:
    commands: list[dict[str, Any]] = []
    for user_id in WALLETS:
        commands.append({"type": "open_wallet", "command_id": "open", "user_id": user_id})
        money = {"order_id": "first", "asset": "INR", "amount": 1_000_000, "bonus": 1_000}
        commands.append({"type": "deposit", "command_id": "deposit", "user_id": user_id, **money})
        mine = {"user_id": user_id, "asset": "INR"}
        bet = {"bet_id": "a", "game": "external", "period": "p", "selection": "red", "stake": 5}
        commands.append({"type": "place_bet", "command_id": "bet", **mine, **bet})
        commands.append({"type": "hold", "command_id": "hold", "hold_id": "a", "amount": 5, **mine})
        sent = {"transfer_id": "a", "to_user_id": "u0" if user_id != "u0" else "u1", "amount": 5}
        commands.append({"type": "transfer", "command_id": "transfer", **mine, **sent})
    tokens["admin"] = log_in(service, "admin", ADMIN_SECRET)
    for role in ("game_server", "operator", "auditor"):
        added = post(service, "/v1/clients", {"client_id": role, "role": role}, tokens["admin"])
        tokens[role] = log_in(service, role, added["client_secret"])
    items = post(service, "/v1/commands/batch", commands, tokens["game_server"])
    assert all(item["status"] == 201 for item in items)
    return schemathesis.openapi.from_url(service.url + "/schema")


def some_on_open_wallets(case: Case[Any], draw: Any) -> None:
    """Generated ids never meet: give some commands a wallet that is open, an asset that there is, sums it has."""
    for command in case.body if isinstance(case.body, list) else [case.body]:
        if not isinstance(command, dict) or not isinstance(command.get("user_id"), str):
            continue
        if command.get("referrer_id") is not None and "referral_code" in command:
            del command["referral_code"]  # either the one or the other
        if draw(st.integers(0, 3)) == 0 or command.get("type") in OF_STREAMS:
            continue
        command["user_id"] = draw(st.sampled_from(WALLETS))
        for member in command:
            if member.endswith("_id") and member not in ("user_id", "command_id", "to_user_id", "referrer_id"):
                command[member] = draw(st.sampled_from(["a", "b", "c"]))
            elif member in ("amount", "stake", "payout", "bonus") and type(command[member]) is int:
                command[member] = draw(st.integers(1, 500))
            elif member == "asset":
                command[member] = "INR"
            elif member == "game":
                command[member] = "external"


def of_what_there_is(case: Case[Any], draw: Any) -> None:
    """What no document can say of a read: who is there and what he has, his partition, a cursor that was given out.

    Waits are kept short: an event that was never posted never comes.
    """
    path, query = case.path_parameters or {}, case.query or {}
    if "user_id" in path and draw(st.integers(0, 3)):
        path["user_id"] = draw(st.sampled_from(WALLETS))
        for name in path.keys() - {"user_id", "command_id"}:
            path[name] = draw(st.sampled_from(IDS))
    query.pop("cursor", None)
    if case.path == "/v1/wallets":  # either the one or the other
        if "user_id" in query:
            query.pop("prefix", None)
            query.pop("min_position", None)
        else:
            case.query = query
            query["prefix"] = draw(st.sampled_from(["", "u", "u1"]))
    if "status" in query:
        query.pop("kind", None)
    if "period" in path:
        path["period"] = draw(st.sampled_from(MIDNIGHTS))
    if case.path in ("/v1/house", "/v1/house/cohorts"):
        query.pop("from_us", None)  # no schema says how far it may be from to_us
    if "timeout_ms" in query:
        query["timeout_ms"] = draw(st.integers(0, 100))
    if "min_position" in query:
        user_id = path.get("user_id", query.get("user_id"))
        if case.path in STREAMS:
            user_id = STREAMS[case.path] + str(path["code"])
        partition = draw(st.integers(0, 15)) if user_id is None else partition_of(unquote(str(user_id)), PARTITIONS)
        query["min_position"] = f"{partition}:0"


def with_whole_integers(value: Any) -> Any:
    """JSON Schema calls 5.0 an integer; the ledger does not, and no schema can say so."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [with_whole_integers(item) for item in value]
    if isinstance(value, dict):
        return {name: with_whole_integers(item) for name, item in value.items()}
    return value


def is_malformed(answer: Response) -> bool:
    """Whether the request was refused as malformed, or an item of its batch was."""
    body = msgspec.json.decode(answer.content) if answer.headers.get("content-type") == ["application/json"] else None
    return answer.status_code in (400, 415) or (
        isinstance(body, list) and any(item["status"] == 400 for item in body)
    )


def is_right(case: Case[Any]) -> bool:
    """Whether a batch that was made wrong came out right: the generator writes the text "false" for false, too, and
    nothing at all for a parameter of no values."""
    body = Draft202012Validator({"type": "array", "minItems": 1, "items": COMMAND}, registry=REGISTRY)
    headers: dict[str, str] = dict(case.headers or {})
    actor = headers.get("Stakelog-Actor", "local")
    query = {name: value for name, value in (case.query or {}).items() if value not in ([], [[]])}
    dry_run = str(query.get("dry_run", "false")).lower()
    known = set(query) <= {"dry_run"} and dry_run in ("false", "true")
    return known and re.search(USER_ID_PATTERN, actor) is not None and body.is_valid(case.body)


def run(schema: BaseSchema, operation_id: str, mode: GenerationMode, number: int) -> None:
    path, method = OPERATIONS[operation_id]
    operation = schema[path][method]

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def each(case: Case[Any], data: st.DataObject) -> None:
        if mode is GenerationMode.POSITIVE and method == "POST":
            case.body = with_whole_integers(case.body)
            some_on_open_wallets(case, data.draw)
        if mode is GenerationMode.POSITIVE and method == "GET":
            of_what_there_is(case, data.draw)
        if case.headers is not None:
            case.headers.pop("Stakelog-Actor", None)  # with login it is malformed, which no schema can say
        role = ROLES[operation_id]
        answer = case.call(headers={} if role is None else {"Authorization": f"Bearer {tokens[role]}"})
        asked[operation_id, mode.value, answer.status_code] += 1
        left_out: list[Any] = [positive_data_acceptance]  # a right command may be refused: that is what rules are for
        if b'"code":"not_yet_visible"' in answer.content:  # an event that was never posted never comes
            left_out.append(not_a_server_error)
        malformed = is_malformed(answer)
        if mode is GenerationMode.POSITIVE and operation_id not in MAY_BE_MALFORMED:
            assert not malformed, f"the document calls this right: {case.as_curl_command()}\n{answer.text}"
        if mode is GenerationMode.NEGATIVE and operation_id == "postCommands":
            assert malformed or is_right(case), (
                f"the document calls this wrong: {case.as_curl_command()}\n{answer.text}"
            )
            left_out.append(negative_data_rejection)  # its malformed elements are answered within a 200
        case.validate_response(answer, excluded_checks=left_out)

    each()


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_valid_request_gets_a_response_that_the_document_describes(schema: BaseSchema, operation_id: str) -> None:
    run(schema, operation_id, GenerationMode.POSITIVE, EXAMPLES.get(operation_id, OTHERS))


@pytest.mark.parametrize("operation_id", [name for name in OPERATIONS if name not in WITHOUT_PARAMETERS])
def test_what_the_document_calls_wrong_is_refused_as_it_says(schema: BaseSchema, operation_id: str) -> None:
    run(schema, operation_id, GenerationMode.NEGATIVE, EXAMPLES.get(operation_id, OTHERS))


def test_that_was_a_real_number_of_requests_of_every_outcome(schema: BaseSchema) -> None:
    assert asked.total() >= 1_000, asked
    statuses: dict[str, set[int]] = {}
    for name, _, status in asked:
        statuses.setdefault(name, set()).add(status)
    assert statuses["postCommand"] >= {201, 400, 422}, asked
    for name in READS:
        assert statuses[name] >= {200, 400} | ({404} if name not in OF_ALL_USERS else set()), (name, statuses[name])
