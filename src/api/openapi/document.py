"""The OpenAPI 3.1 document: made from the rows of the route table and the Structs that they name."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from api.http.bodies import AsOf, AsOfSeveral
from api.http.routing import AnyRoute, Body, Named
from api.openapi.problems import (
    ProblemDocument,
    problem_codes,
    problem_content,
    problem_examples,
    problem_references,
    problem_responses,
)
from api.openapi.records import record_schemas, union_of_records
from api.openapi.schemas import (
    SCHEMAS,
    Schema,
    command_schemas,
    data_schemas,
    not_null,
    one_of,
    publish,
    ref,
    schemas_of,
    union_of_commands,
    union_of_data,
    with_as_of,
)
from ledger.core.events import DATA_TYPES
from ledger.core.fields import USER_ID_PATTERN, published

_DESCRIPTION: Final = """\
Every change of a balance is a command. The ledger accepts a command, and it becomes one durable event; or refuses \
it, and nothing is written.

- **Repeat any request.** A `command_id` is unique within its wallet. The same command again gets its first \
response, with the header `Idempotency-Hit: true`.
- **Amounts** are integers in the asset's minor unit: 500 is 5.00 INR.
- **Absent and null** mean the same, except in `set_limits`. Unknown or repeated fields and query \
parameters are refused.
- **Read your own writes.** Give the `position` of a result as `min_position` to a read.
- **Errors** are problems (RFC 9457). Their `code` is stable; their texts are for people.

A request needs an access token, from `POST /v1/auth/token`, unless the route is open to all. While login is off \
(`STAKELOG_AUTH=off`) no token is needed.
"""
_TAGS: Final = {
    "commands": "Change balances, and read the first response to a command",
    "wallets": "Read wallets and what they have",
    "orders": "Read deposits and withdrawals, and the queue of withdrawals that wait for approval",
    "adjustments": "Read proposed adjustments, and the queue of those that wait for approval",
    "games": "Read which games take bets",
    "live": "Follow what changes",
    "promotions": "Read gifts, and the owners of referral codes",
    "leaderboards": "Read who staked, won and netted the most",
    "login": "Get and renew access tokens",
    "clients": "Add, list, rotate and disable the clients that may log in",
    "webhooks": "Send events to HTTP endpoints, list what they did not take, and send it again",
    "audit": "Read the records, byte for byte",
    "operation": "Health, readiness, metrics, and this document",
}
_HEADERS: Final[dict[str, Any]] = {
    "ETag": {
        "description": "Of the whole body but `as_of`; it changes only when the wallet changes",
        "required": True,
        "schema": {"type": "string", "pattern": '^W/"[0-9a-f]+"$'},
        "example": 'W/"0123456789abcdef01"',
    },
    "Idempotency-Hit": {
        "description": "`true`: the command was accepted before; this is its first response",
        "required": False,
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "Retry-After": {
        "description": "Seconds after which the same request may succeed",
        "required": False,
        "schema": {"type": "integer", "format": "int64", "minimum": 1},
        "example": 1,
    },
    "RateLimit-Policy": {
        "description": "The limit that was exceeded: its name, what it allows, and in how many seconds",
        "required": False,
        "schema": {"type": "string"},
        "example": '"user";q=2000;w=10',
    },
    "RateLimit": {
        "description": "What remains of this limit: nothing, for `t` seconds",
        "required": False,
        "schema": {"type": "string"},
        "example": '"user";r=0;t=3',
    },
    "Allow": {
        "description": "The methods that are allowed at this path",
        "required": True,
        "schema": {"type": "string"},
        "example": "GET, HEAD",
    },
}
_REQUEST_HEADERS: Final[dict[str, Any]] = {
    "Stakelog-Actor": {
        "name": "Stakelog-Actor",
        "in": "header",
        "required": False,
        "description": "Who posts the command, while login is off; with login it is malformed",
        "schema": {"type": "string", "pattern": published(USER_ID_PATTERN), "default": "local"},
        "example": "back-office:meera",
    },
    "Last-Event-ID": {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The last `id` of a feed with the same users and games: continue after it",
        "schema": {"type": "string"},
        "example": "f12f3c4a~42.9c0b11d2",
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The ETags that the client has; if one is current the response is 304",
        "schema": {"type": "string"},
        "example": 'W/"0123456789abcdef01"',
    },
}
_PRIVATE: Final[Schema] = {
    "description": (
        "The command's private texts. In a record: encrypted, as base64. In a response: the texts, for operators, "
        "auditors and the client that wrote them, and absent for others; null once the user's key is destroyed"
    ),
    "anyOf": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "null"},
    ],
    "examples": [{"iban": "DE02120300000000202051"}],
}
_SECURITY_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token, from `POST /v1/auth/token`",
    },
    "oauth2": {
        "type": "oauth2",
        "description": "OAuth 2.0 client credentials (RFC 6749)",
        "flows": {
            "clientCredentials": {"tokenUrl": "/v1/auth/token", "refreshUrl": "/v1/auth/token", "scopes": {}},
        },
    },
}


_FORM: Final = "application/x-www-form-urlencoded"
_FORM_EXAMPLE: Final = {
    "grant_type": "client_credentials",
    "client_id": "game-server-1",
    "client_secret": "9mWq1cFz7r4e0xVbT2uK8sYdHnLgPjAo5iRtZ6vCwQE",
}


def make_document(routes: Iterable[AnyRoute], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The document of these routes; the ones without an ``operation`` are not in it. ``examples``: name → value, of
    the bodies. The same arguments give the same document."""
    documented = [route for route in routes if route.operation]
    paths: dict[str, Any] = {}
    for route in documented:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stakelog",
            "version": "1",
            "summary": "An event-sourced wallet ledger for betting backends",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(documented),
            "responses": problem_responses(),
            "headers": _HEADERS,
            "securitySchemes": _SECURITY_SCHEMES,
            "examples": {
                **{name: {"value": value} for name, value in examples.items()},
                **problem_examples(),
            },
        },
    }


# --- schemas -------------------------------------------------------------------------------------------------------


def _schemas(routes: Iterable[AnyRoute]) -> dict[str, Schema]:
    bodies = [body for route in routes for body in (*route.returns, route.body) if body is not None]
    bodies += [Body(body.form, "") for body in bodies if body.form is not None]
    structs: list[type[Struct]] = []
    for body in bodies:
        if isinstance(body.kind, Named):
            structs += body.kind.kinds
        elif body.kind is not None:
            structs.append(body.kind)
    found = {
        **schemas_of([*structs, AsOf, AsOfSeveral, ProblemDocument]),
        **command_schemas(),
        **data_schemas(),
        **record_schemas(),
        "Command": union_of_commands(),
        "EventData": union_of_data(),
        "Record": union_of_records(),
    }
    found["Balance"]["required"] = list(found["Balance"]["properties"])
    found["Problem"] = {**found.pop(ProblemDocument.__name__), "additionalProperties": True}
    for body in bodies:
        if isinstance(body.kind, Named) and body.kind.kinds:
            found[body.kind.name] = one_of(body.kind.kinds, body.kind.about)
    for data in DATA_TYPES:
        if "private" in found[data.__name__]["properties"]:
            found[data.__name__]["properties"]["private"] = _PRIVATE
    if "HistoryItem" in found:
        found["HistoryItem"]["properties"]["data"] = ref("EventData")
    _add_as_of(
        found, {body.kind.__name__: body.as_of for body in bodies if isinstance(body.kind, type) and body.as_of}
    )
    return dict(sorted(found.items()))


def _add_as_of(found: dict[str, Schema], as_of: Mapping[str, type[Struct]]) -> None:
    """Give each document that is a response its ``as_of``. An item of a page has none, and is named ``Listed…``."""
    for other in list(found.values()):
        items = other.get("properties", {}).get("items", {})
        name = items.get("items", {}).get("$ref", "").removeprefix(SCHEMAS)
        if name in as_of:
            found[f"Listed{name}"] = found[name]
            items["items"] = ref(f"Listed{name}")
    for name, kind in as_of.items():
        found[name] = with_as_of(found[name], kind.__name__)


# --- operations ----------------------------------------------------------------------------------------------------


def _operation(route: AnyRoute) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tags": [route.tag],
        "operationId": route.operation,
        "summary": route.summary,
        "description": _described(route),
        "security": [{"bearer": []}, {"oauth2": []}] if route.roles else [],
        "parameters": [
            *_parameters(route.parameters, "path"),
            *_parameters(route.query, "query"),
            *(_REQUEST_HEADERS[name] for name in route.headers),
        ],
    }
    if route.body is not None:
        found["requestBody"] = {
            "required": True,
            "description": route.body.description,
            "content": _content(route.body),
        }
    responses = {str(status): ref_to for status, ref_to in problem_references(route).items()}
    for body in route.returns:
        response: dict[str, Any] = {"description": body.description}
        if body.headers:
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in body.headers}
        if body.media_type is not None:
            response["content"] = _content(body)
        if str(body.status) in responses:  # a status of the route's own beside the problem's
            response["content"] |= problem_content(body.status)
        responses[str(body.status)] = response
    found["responses"] = dict(sorted(responses.items()))
    return found


def _described(route: AnyRoute) -> str:
    lines = [route.description] if route.description else []
    lines.append(f"Roles: {', '.join(f'`{role}`' for role in route.roles) if route.roles else 'open to all'}.")
    codes = problem_codes(route)
    lines.append(f"Problems: {', '.join(f'`{code}`' for code in codes)}.")
    return "\n\n".join(lines)


def _parameters(kind: type[Struct], where: str) -> list[dict[str, Any]]:
    """The parameters that a Struct reads."""
    _, found = msgspec.json.schema_components([kind])
    schema = found[kind.__name__]
    parameters = []
    for name, made in schema["properties"].items():
        member = publish(made)
        default = member.pop("default", None)
        member = not_null(member)
        description, given = member.pop("description", None), member.pop("examples", None)
        assert description, (kind, name)
        parameter = {"name": name, "in": where, "required": name in schema["required"], "description": description}
        parameter["schema"] = member if default is None else {**member, "default": default}
        if given:
            parameter["example"] = given[0]
        parameters.append(parameter)
    return parameters


def _content(body: Body) -> dict[str, Any]:
    assert body.media_type is not None
    content: dict[str, Any] = {"schema": _schema_of(body)}
    if body.examples:
        content["examples"] = {name: {"$ref": f"#/components/examples/{name}"} for name in body.examples}
    found = {body.media_type: content}
    if body.form is not None:
        found[_FORM] = {"schema": ref(body.form.__name__), "examples": {"form": {"value": _FORM_EXAMPLE}}}
    return found


def _schema_of(body: Body) -> Schema:
    if body.kind is None:
        return {"type": "object"} if body.media_type == "application/json" else {"type": "string"}
    if not isinstance(body.kind, Named):
        return ref(body.kind.__name__)
    named = ref(body.kind.name)
    if body.kind.items_max is None:
        return named
    return {"type": "array", "minItems": 1, "maxItems": body.kind.items_max, "items": named}
