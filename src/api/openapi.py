"""The OpenAPI 3.1 document of every route that there is: what ``/schema`` serves and ``schemas/openapi.json`` holds.

Written by hand around the schemas of ``json_schemas``. The examples are played through the core, so each command can
be posted as it stands and each answer is the one that it gets. Every code of ``problems.KINDS`` stands, with an
example, under its status on every route where it can occur; a test holds that complete.
"""

import json
from typing import Any, Final

from api import json_schemas as schemas
from api.contract import BATCH_MAX, BODY_MAX
from api.examples import PARTITION, Example, examples, first_of_each_type
from api.json_schemas import Schema, command_name, command_schemas, data_schemas, record_schema
from api.problems import KINDS, MEDIA_TYPE, Kind, Problem
from ledger.commands import COMMAND_TYPES, POSITION_PATTERN, USER_ID_PATTERN
from ledger.events import COMMAND_OF, DATA_OF, DATA_TYPES
from ledger.rejections import Code

_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"

_EVERYWHERE: Final = ("malformed_request", "method_not_allowed", "internal_error", "shutting_down")
_LOGIN: Final = ("unauthenticated", "forbidden")
_BODY: Final = ("request_too_large", "unsupported_media_type")
_WRITER: Final = ("outcome_unknown", "not_owner", "overloaded", "log_unavailable")
_REJECTIONS: Final = ("command_id_reused", *(code.value for code in Code))

_PROBLEMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "malformed_request": ("Expected `int`, got `float` - at `$.amount`", {"field": "amount"}),
    "unauthenticated": ("the access token is missing or has expired", {}),
    "forbidden": ("the role player may not deposit", {}),
    "wallet_not_found": ("the wallet player-99 was never opened", {}),
    "event_not_found": ("there is no event at 3:999", {}),
    "not_found": ("the wallet player-15 has accepted no command c-99", {}),
    "method_not_allowed": ("PUT is not allowed at /v1/partitions", {"allow": ["GET"]}),
    "request_too_large": ("the body may have 8388608 bytes, it has more", {}),
    "unsupported_media_type": ("Content-Type must be application/json, it is text/plain", {}),
    "command_id_reused": (
        "the command_id was accepted at 3:2 with other fields: amount",
        {"fields": ["amount"], "position": "3:2"},
    ),
    "order_id_reused": (
        "order_id dep-1 is used already by another command of this wallet",
        {"order_id": "dep-1"},
    ),
    "bet_id_reused": ("bet_id bet-1 is used already by another command of this wallet", {"bet_id": "bet-1"}),
    "hold_id_reused": ("hold_id hold-1 is used already by another command of this wallet", {"hold_id": "hold-1"}),
    "transfer_id_reused": (
        "transfer_id tr-1 is used already by another command of this wallet",
        {"transfer_id": "tr-1"},
    ),
    "grant_id_reused": (
        "grant_id welcome-1 is used already by another command of this wallet",
        {"grant_id": "welcome-1"},
    ),
    "adjustment_id_reused": (
        "adjustment_id adj-1 is used already by another command of this wallet",
        {"adjustment_id": "adj-1"},
    ),
    "already_resolved": ("the bet bet-1 is settled", {"status_now": "settled"}),
    "wallet_not_open": ("the wallet player-99 was never opened", {}),
    "wallet_already_open": ("the wallet player-15 is open already", {}),
    "wallet_frozen": ("the wallet player-15 is frozen", {}),
    "wallet_closed": ("the wallet player-30 is closed", {}),
    "wallet_not_empty": ("the wallet still has INR", {}),
    "unknown_asset": ("the asset XYZ is not declared", {"asset": "XYZ"}),
    "amount_out_of_range": ("amount is 0, outside of its range", {"field": "amount"}),
    "insufficient_funds": ("900000 INR are asked for, 658500 can be taken", {"available": 658_500}),
    "credit_limit_exceeded": ("the stake is 900000 INR, 678500 can be taken", {"available": 678_500}),
    "balance_max_exceeded": (
        "the balance would be 1100000 INR, at most 1000000 is allowed",
        {"balance_max": 1_000_000, "balance_after": 1_100_000},
    ),
    "stake_max_exceeded": (
        "490000 of 500000 INR were staked today",
        {"stake_max_per_day": 500_000, "staked_today": 490_000},
    ),
    "withdrawal_max_exceeded": (
        "300000 of 300000 INR were requested for withdrawal today",
        {"withdrawal_max_per_day": 300_000, "requested_today": 300_000},
    ),
    "bet_not_found": ("this wallet has no bet_id bet-99", {"bet_id": "bet-99"}),
    "hold_not_found": ("this wallet has no hold_id hold-99", {"hold_id": "hold-99"}),
    "order_not_found": ("this wallet has no order_id wd-99", {"order_id": "wd-99"}),
    "adjustment_not_found": ("this wallet has no adjustment_id adj-99", {"adjustment_id": "adj-99"}),
    "hold_expired": ("the hold hold-1 has expired", {"hold_id": "hold-1"}),
    "capture_exceeds_hold": ("the hold hold-1 is of 40000 INR", {"held": 40_000}),
    "unknown_game": ("there is no game roulette", {"game": "roulette"}),
    "bet_cancelled_before": ("the bet bet-2 was cancelled before it came", {"bet_id": "bet-2"}),
    "same_wallet": ("a wallet cannot transfer to itself", {"field": "to_user_id"}),
    "same_actor": (
        "game-server-1 proposed the adjustment adj-1; another actor must approve it",
        {"proposer": "game-server-1"},
    ),
    "cannot_reverse": (
        "3:4 is no deposit, grant or adjustment of this wallet",
        {"position": "3:4"},
    ),
    "internal_error": (
        "quote the request id 0f8fad5bd9cb469fa16570867728950e when you report this",
        {"request_id": "0f8fad5bd9cb469fa16570867728950e"},
    ),
    "outcome_unknown": ("the commit failed in a way that does not tell whether it landed", {}),
    "not_owner": ("others keep writing to partition 3", {}),
    "overloaded": ("16384 commands wait for partition 3 already", {}),
    "log_unavailable": ("the log cannot be written: the disk is full", {}),
    "shutting_down": ("the service is shutting down", {}),
    "not_yet_visible": ("partition 3 is at seq 42, 99 was asked for", {"position": "3:42"}),
}
"""Code → an example's detail, and the fields that help."""


def document() -> dict[str, Any]:
    """The whole document. It depends on nothing but the code: the same each time."""
    played = examples()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stakelog",
            "version": "1",
            "summary": "An event-sourced wallet ledger for betting backends",
            "description": (
                "Every balance change is a command that becomes one durable event, or is refused and leaves nothing. "
                "A command_id is unique within its wallet for ever: the same command again gets its first answer, so "
                "every request may be repeated. Amounts are integers in the asset's minor unit. Absent and null mean "
                "the same, except in set_limits. Unknown or repeated members and query parameters are refused."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "commands", "description": "what is asked for"},
            {"name": "wallets", "description": "what users have"},
            {"name": "audit", "description": "the records, byte for byte"},
            {"name": "operation", "description": "how the service is"},
        ],
        "paths": _paths(played),
        "components": {
            "schemas": _schemas(),
            "parameters": _parameters(),
            "headers": _headers(),
            "examples": _examples(played),
        },
    }


# --- paths -------------------------------------------------------------------------------------------------------


def _paths(played: list[Example]) -> dict[str, Any]:
    records = [example.record for example in played]
    return {
        "/v1/commands": {
            "post": {
                "tags": ["commands"],
                "operationId": "postCommand",
                "summary": "Post one command",
                "description": "Answers only after the event is durable. 200 and 201 mean the same to a caller.",
                "parameters": [_parameter("dry_run"), _parameter("Stakelog-Actor")],
                "requestBody": _command_body(),
                "responses": {
                    "201": _json("accepted: the event is durable", _ref("Result"), _answers()),
                    "200": {
                        **_json(
                            "the same command was accepted before, and this is its first answer; or a dry run",
                            {"oneOf": [_ref("Result"), _ref("DryRunResult")]},
                            {"hit": _example_ref("answer.deposit"), "dry_run": _example_ref("dry_run")},
                        ),
                        "headers": {"Idempotency-Hit": {"$ref": "#/components/headers/Idempotency-Hit"}},
                    },
                    **_problems(*_EVERYWHERE, *_LOGIN, *_BODY, *_REJECTIONS, *_WRITER),
                },
            }
        },
        "/v1/commands/batch": {
            "post": {
                "tags": ["commands"],
                "operationId": "postCommands",
                "summary": f"Post 1–{BATCH_MAX:,} commands of any wallets",
                "description": (
                    "Commands of one wallet are decided in the order given. A refusal, or a malformed element, does "
                    "not stop the others; after a 5xx the later commands of that wallet get it too."
                ),
                "parameters": [_parameter("dry_run"), _parameter("Stakelog-Actor")],
                "requestBody": {
                    "required": True,
                    "content": {
                        _JSON: {
                            "schema": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": BATCH_MAX,
                                "items": _ref("Command"),
                            },
                            "examples": {"batch": _example_ref("batch")},
                        }
                    },
                },
                "responses": {
                    "200": _json(
                        "one item for each command, in order",
                        {"type": "array", "minItems": 1, "maxItems": BATCH_MAX, "items": _ref("BatchItem")},
                        {"batch": _example_ref("answer.batch")},
                    ),
                    **_problems(*_EVERYWHERE, *_LOGIN, *_BODY, "outcome_unknown"),
                },
            }
        },
        "/v1/commands/{user_id}/{command_id}": {
            "get": {
                "tags": ["commands"],
                "operationId": "getCommand",
                "summary": "The first answer of a command",
                "description": "Settles an outcome_unknown without posting. Both ids percent-encoded.",
                "parameters": [_parameter("user_id"), _parameter("command_id")],
                "responses": {
                    "200": _json("it was accepted", _ref("Result"), _answers()),
                    **_problems(*_EVERYWHERE, *_LOGIN, "not_found", *_WRITER),
                },
            }
        },
        "/v1/wallets/{user_id}": {
            "get": {
                "tags": ["wallets"],
                "operationId": "getWallet",
                "summary": "A wallet: status, balances, limits",
                "parameters": [
                    _parameter("user_id"),
                    _parameter("consistency"),
                    _parameter("min_position"),
                    _parameter("timeout_ms"),
                ],
                "responses": {
                    "200": _json("the wallet", _ref("Wallet"), {"wallet": _example_ref("wallet")}),
                    **_problems(*_EVERYWHERE, *_LOGIN, "wallet_not_found", "not_found", *_WRITER, "not_yet_visible"),
                },
            }
        },
        "/v1/partitions": {
            "get": {
                "tags": ["audit"],
                "operationId": "getPartitions",
                "summary": "Where every partition ends",
                "responses": {
                    "200": _json("all partitions", _ref("Partitions"), {"partitions": _example_ref("partitions")}),
                    **_problems(*_EVERYWHERE, *_LOGIN, "log_unavailable"),
                },
            }
        },
        "/v1/events": {
            "get": {
                "tags": ["audit"],
                "operationId": "getEvents",
                "summary": "Records of a partition, byte for byte",
                "description": "One record a line; past the end nothing. SHA-256 of a line is the next one's prev.",
                "parameters": [_parameter("partition"), _parameter("from_seq"), _parameter("limit")],
                "responses": {
                    "200": {
                        "description": "the records, each followed by a line feed",
                        "content": {
                            _NDJSON: {
                                "schema": {"type": "string"},
                                "examples": {"two": {"value": "".join(f"{record}\n" for record in records[:2])}},
                            }
                        },
                    },
                    **_problems(*_EVERYWHERE, *_LOGIN, "log_unavailable"),
                },
            }
        },
        "/v1/events/{position}": {
            "get": {
                "tags": ["audit"],
                "operationId": "getEvent",
                "summary": "One record, byte for byte",
                "parameters": [_parameter("position")],
                "responses": {
                    "200": _json("the record", _ref("Record"), {"record": _example_ref("record")}),
                    **_problems(*_EVERYWHERE, *_LOGIN, "event_not_found", "not_found", "log_unavailable"),
                },
            }
        },
        "/healthz": _operational(
            "getHealth",
            "Whether the process lives",
            {"200": _json("it does", _object({"status": {"const": "ok"}}), {"ok": {"value": {"status": "ok"}}})},
        ),
        "/readyz": _operational(
            "getReadiness",
            "Whether commands are taken",
            {
                "200": _json(
                    "they are", _object({"status": {"const": "ready"}}), {"ready": {"value": {"status": "ready"}}}
                ),
                "503": _json("not now, and why", _ref("NotReady"), {"not_ready": _example_ref("not_ready")}),
            },
        ),
        "/metrics": _operational(
            "getMetrics",
            "Metrics in Prometheus' text format",
            {
                "200": {
                    "description": "counters of this process, and gauges of its partitions",
                    "content": {
                        "text/plain": {
                            "schema": {"type": "string"},
                            "examples": {"metrics": {"value": "stakelog_ready 1.0\n"}},
                        }
                    },
                }
            },
        ),
        "/schema": _operational(
            "getSchema",
            "This document",
            {
                "200": _json(
                    "OpenAPI 3.1",
                    {"type": "object", "required": ["openapi", "info", "paths"]},
                    {"schema": {"value": {"openapi": "3.1.0", "info": {"title": "stakelog"}, "paths": {}}}},
                )
            },
        ),
    }


def _operational(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    problems = _problems(*_EVERYWHERE)
    for status, response in responses.items():
        if status in problems:
            response["content"] |= problems[status]["content"]
    return {
        "get": {
            "tags": ["operation"],
            "operationId": operation_id,
            "summary": summary,
            "responses": problems | responses,
        }
    }


def _command_body() -> dict[str, Any]:
    return {
        "required": True,
        "description": f"one command of at most {BODY_MAX} bytes of UTF-8",
        "content": {
            _JSON: {
                "schema": _ref("Command"),
                "examples": {name: _example_ref(f"command.{name}") for name in map(command_name, COMMAND_TYPES)},
            }
        },
    }


def _answers() -> dict[str, Any]:
    return {name: _example_ref(f"answer.{name}") for name in map(command_name, COMMAND_TYPES)}


def _json(description: str, schema: Schema, found: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": schema, "examples": found}}}


def _problems(*codes: str) -> dict[str, Any]:
    """Status → the response with every one of the codes that has it."""
    responses: dict[str, Any] = {}
    for status in sorted({KINDS[code].status for code in codes}):
        mine = [code for code in KINDS if code in codes and KINDS[code].status == status]
        response: dict[str, Any] = {
            "description": "; ".join(f"{code}: {_lower(KINDS[code])}" for code in mine),
            "content": {
                MEDIA_TYPE: {
                    "schema": {
                        "allOf": [
                            _ref("Problem"),
                            {"properties": {"status": {"const": status}, "code": {"enum": mine}}},
                        ]
                    },
                    "examples": {code: _example_ref(f"problem.{code}") for code in mine},
                }
            },
        }
        if any(KINDS[code].retry_after_s is not None for code in mine):
            response["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
        if "method_not_allowed" in mine:
            response["headers"] = {"Allow": {"$ref": "#/components/headers/Allow"}}
        responses[str(status)] = response
    return responses


def _lower(kind: Kind) -> str:
    return kind.title[0].lower() + kind.title[1:]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _example_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/examples/{name}"}


def _parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


# --- components --------------------------------------------------------------------------------------------------


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _schemas() -> dict[str, Schema]:
    commands = command_schemas()
    result = {
        "position": schemas.POSITION,
        "partition": schemas.PARTITION,
        "seq": schemas.SEQ,
        "time_us": schemas.TIME_US,
        "type": {"type": "string"},
        "data": {"type": "object"},
        "balances": schemas.BALANCES,
        "head": {**schemas.SHA256, "description": "SHA-256 of this event's record"},
    }
    would_be = {name: result[name] for name in ("partition", "seq", "time_us", "type", "data", "balances")}
    limit = _or_null(schemas.AMOUNT_OR_ZERO)
    return {
        "Command": {
            "oneOf": [_ref(command.__name__) for command in COMMAND_TYPES],
            "discriminator": {
                "propertyName": "type",
                "mapping": {
                    command_name(command): f"#/components/schemas/{command.__name__}" for command in COMMAND_TYPES
                },
            },
        },
        **commands,
        "Result": {**_object(result), "oneOf": _typed_data(list(DATA_OF))},
        "DryRunResult": {
            "description": "the event as it would be; nothing was written",
            **_object(would_be | {"dry_run": {"const": True}}),
            "oneOf": _typed_data(list(COMMAND_OF)),
        },
        "BatchItem": {
            "oneOf": [
                _object({"status": {"const": 201}, "result": _ref("Result")}),
                _object({"status": {"const": 200}, "idempotency_hit": {"const": True}, "result": _ref("Result")}),
                _object({"status": {"const": 200}, "result": _ref("DryRunResult")}),
                _object({"status": {"type": "integer", "minimum": 400, "maximum": 599}, "problem": _ref("Problem")}),
            ]
        },
        "Problem": {
            "description": "RFC 9457, with a code, and fields that help",
            "type": "object",
            "properties": {
                "type": {"type": "string", "pattern": "^urn:stakelog:problem:[a-z_]+$"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"enum": list(KINDS)},
                "field": {"type": "string", "description": "the member or parameter that is wrong"},
                "fields": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "command_id_reused: the members that differ",
                },
                "position": {"type": "string", "description": "the event that stands in the way"},
                "available": {
                    "type": "integer",
                    "description": "what this command could have taken, in minor units",
                },
                "allow": {"type": "array", "items": {"type": "string"}},
                "request_id": {"type": "string", "description": "internal_error: to quote in a report"},
            },
            "required": ["type", "title", "status", "detail", "code"],
            "additionalProperties": True,
        },
        "Wallet": _object(
            {
                "user_id": schemas.USER_ID,
                "status": {"enum": ["open", "frozen", "closed"]},
                "opened_at_us": schemas.TIME_US,
                "referrer_id": _or_null(schemas.USER_ID),
                "balances": _by_asset(
                    _object(
                        {
                            "cash": schemas.TOTAL,
                            "bonus": schemas.AMOUNT_OR_ZERO,
                            "held": schemas.AMOUNT_OR_ZERO,
                            "available": {"type": "integer", "description": "cash + credit_limit"},
                        }
                    )
                ),
                "limits": _by_asset(
                    _object(
                        {
                            "credit_limit": schemas.AMOUNT_OR_ZERO,
                            "balance_max": limit,
                            "stake_max_per_day": limit,
                            "withdrawal_max_per_day": limit,
                        }
                    )
                ),
                "first_deposit": _or_null(
                    _object(
                        {
                            "order_id": {"type": "string"},
                            "asset": {"type": "string"},
                            "amount": schemas.AMOUNT,
                            "position": schemas.POSITION,
                            "time_us": schemas.TIME_US,
                        }
                    )
                ),
                "as_of": _object(
                    {
                        "position": {"type": "string", "pattern": POSITION_PATTERN},
                        "lag_ms": {"type": "integer", "minimum": 0},
                    }
                ),
            }
        ),
        "Partitions": _object(
            {
                "items": {
                    "type": "array",
                    "items": _object(
                        {
                            "partition": schemas.PARTITION,
                            "seq": {"type": "integer", "minimum": 0},
                            "head": schemas.SHA256,
                            "owner": _or_null({"type": "string"}),
                        }
                    ),
                }
            }
        ),
        "NotReady": _object(
            {"status": {"const": "not_ready"}, "reasons": {"type": "array", "items": {"type": "string"}}}
        ),
        **data_schemas(),
        "Record": {
            "oneOf": [_ref(f"{data.__name__}Record") for data in DATA_TYPES],
            "discriminator": {
                "propertyName": "type",
                "mapping": {data.type: f"#/components/schemas/{data.__name__}Record" for data in DATA_TYPES},
            },
        },
        **{
            f"{data.__name__}Record": record_schema(data, f"#/components/schemas/{data.__name__}")
            for data in DATA_TYPES
        },
    }


def _typed_data(types: list[str]) -> list[Schema]:
    return [{"properties": {"type": {"const": name}, "data": _ref(DATA_OF[name].__name__)}} for name in types]


def _by_asset(schema: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": schemas.ASSET_PATTERN},
        "additionalProperties": schema,
    }


def _parameters() -> dict[str, Any]:
    positions = POSITION_PATTERN.removeprefix("^").removesuffix(r"$(?!\n)")
    return {
        "dry_run": _query("dry_run", {"type": "boolean", "default": False}, "decide, and write nothing"),
        "Stakelog-Actor": {
            "name": "Stakelog-Actor",
            "in": "header",
            "required": False,
            "description": "who posts, while login is off",
            "schema": {"type": "string", "pattern": USER_ID_PATTERN, "default": "local"},
            "example": "back-office:meera",
        },
        "user_id": _in_path("user_id", USER_ID_PATTERN, "player-15"),
        "command_id": _in_path("command_id", schemas.ANY_COMMAND_ID_PATTERN, "c-2"),
        "position": _in_path("position", schemas.EVENT_POSITION_PATTERN, f"{PARTITION}:2"),
        "consistency": _query(
            "consistency", {"enum": ["strong"]}, "strong asks the writer itself; so does every read, for now"
        ),
        "min_position": {
            **_query(
                "min_position",
                {"type": "string", "pattern": f"^{positions}(,{positions})*$(?!\\n)"},
                "wait until the answer has reached it; of the wallet's own partition",
            ),
            "example": f"{PARTITION}:2",
        },
        "timeout_ms": _query(
            "timeout_ms",
            {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 2_000},
            "wait at most so long for min_position",
        ),
        "partition": {
            **_query("partition", schemas.PARTITION, "less than the number of partitions"),
            "required": True,
            "example": PARTITION,
        },
        "from_seq": _query("from_seq", {**schemas.SEQ, "default": 1}, "the first record"),
        "limit": _query(
            "limit", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1_000}, "records at most"
        ),
    }


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _in_path(name: str, pattern: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": pattern},
        "example": example,
    }


def _headers() -> dict[str, Any]:
    return {
        "Idempotency-Hit": {
            "description": "the command was accepted before; this is its first answer",
            "required": False,
            "schema": {"const": "true"},
            "example": "true",
        },
        "Retry-After": {
            "description": "seconds after which the same request may succeed",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
            "example": 1,
        },
        "Allow": {
            "description": "the methods that are allowed here",
            "required": True,
            "schema": {"type": "string"},
            "example": "GET",
        },
    }


def _examples(played: list[Example]) -> dict[str, Any]:
    first = first_of_each_type(played)
    found: dict[str, Any] = {}
    for name, example in first.items():
        found[f"command.{name}"] = {"value": example.command}
        found[f"answer.{name}"] = {"value": example.answer}
    for code, (detail, fields) in _PROBLEMS.items():
        found[f"problem.{code}"] = {"value": Problem(code, detail, **fields).body()}
    deposit, bet = first["deposit"], first["place_bet"]
    refused = found["problem.bet_not_found"]["value"]
    settle = {"type": "settle_bet", "command_id": "c-99", "user_id": "player-15", "bet_id": "bet-99", "payout": 0}
    found["batch"] = {"value": [deposit.command, bet.command, settle]}
    found["answer.batch"] = {
        "value": [
            {"status": 200, "idempotency_hit": True, "result": deposit.answer},
            {"status": 201, "result": bet.answer},
            {"status": refused["status"], "problem": refused},
        ]
    }
    written = ("partition", "seq", "time_us", "type", "data", "balances")
    found["dry_run"] = {"value": {name: bet.answer[name] for name in written} | {"dry_run": True}}
    found["record"] = {"value": json.loads(deposit.record)}
    found["wallet"] = {"value": first["set_limits"].wallet}
    found["partitions"] = {
        "value": {
            "items": [
                {
                    "partition": PARTITION,
                    "seq": deposit.answer["seq"],
                    "head": deposit.answer["head"],
                    "owner": "http://127.0.0.1:8080",
                }
            ]
        }
    }
    found["not_ready"] = {
        "value": {"status": "not_ready", "reasons": ["the clock is more than 1 s behind the log's last event"]}
    }
    return found
