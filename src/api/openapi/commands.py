"""The document's part on commands: what is posted, and what it answers."""

from typing import Any

from api.http.commands import BATCH_MAX, BODY_MAX
from api.openapi import json_schemas
from api.openapi.examples import Example, first_of_each_type
from api.openapi.json_schemas import Schema, command_name, command_schemas
from api.openapi.parts import (
    BODY,
    EVERYWHERE,
    JSON,
    LOGIN,
    REJECTIONS,
    WRITER,
    example_ref,
    header_ref,
    in_path,
    in_query,
    json_answer,
    object_of,
    parameter_ref,
    problems,
    ref,
    typed_data,
)
from ledger.core.commands import COMMAND_TYPES, USER_ID_PATTERN
from ledger.core.events import COMMAND_OF, DATA_OF


def paths() -> dict[str, Any]:
    return {
        "/v1/commands": {
            "post": {
                "tags": ["commands"],
                "operationId": "postCommand",
                "summary": "Post one command",
                "description": "Answers only after the event is durable. 200 and 201 mean the same to a caller.",
                "parameters": [parameter_ref("dry_run"), parameter_ref("Stakelog-Actor")],
                "requestBody": _command_body(),
                "responses": {
                    "201": json_answer("accepted: the event is durable", ref("Result"), _answers()),
                    "200": {
                        **json_answer(
                            "the same command was accepted before, and this is its first answer; or a dry run",
                            {"oneOf": [ref("Result"), ref("DryRunResult")]},
                            {"hit": example_ref("answer.deposit"), "dry_run": example_ref("dry_run")},
                        ),
                        "headers": {"Idempotency-Hit": header_ref("Idempotency-Hit")},
                    },
                    **problems(*EVERYWHERE, *LOGIN, *BODY, *REJECTIONS, *WRITER),
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
                "parameters": [parameter_ref("dry_run"), parameter_ref("Stakelog-Actor")],
                "requestBody": {
                    "required": True,
                    "content": {
                        JSON: {
                            "schema": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": BATCH_MAX,
                                "items": ref("Command"),
                            },
                            "examples": {"batch": example_ref("batch")},
                        }
                    },
                },
                "responses": {
                    "200": json_answer(
                        "one item for each command, in order",
                        {"type": "array", "minItems": 1, "maxItems": BATCH_MAX, "items": ref("BatchItem")},
                        {"batch": example_ref("answer.batch")},
                    ),
                    **problems(*EVERYWHERE, *LOGIN, *BODY, "outcome_unknown"),
                },
            }
        },
        "/v1/commands/{user_id}/{command_id}": {
            "get": {
                "tags": ["commands"],
                "operationId": "getCommand",
                "summary": "The first answer of a command",
                "description": "Settles an outcome_unknown without posting. Both ids percent-encoded.",
                "parameters": [parameter_ref("user_id"), parameter_ref("command_id")],
                "responses": {
                    "200": json_answer("it was accepted", ref("Result"), _answers()),
                    **problems(*EVERYWHERE, *LOGIN, "not_found", *WRITER),
                },
            }
        },
    }


def _command_body() -> dict[str, Any]:
    return {
        "required": True,
        "description": f"one command of at most {BODY_MAX} bytes of UTF-8",
        "content": {
            JSON: {
                "schema": ref("Command"),
                "examples": {name: example_ref(f"command.{name}") for name in map(command_name, COMMAND_TYPES)},
            }
        },
    }


def _answers() -> dict[str, Any]:
    return {name: example_ref(f"answer.{name}") for name in map(command_name, COMMAND_TYPES)}


def schemas() -> dict[str, Schema]:
    commands = command_schemas()
    result = {
        "position": json_schemas.POSITION,
        "partition": json_schemas.PARTITION,
        "seq": json_schemas.SEQ,
        "time_us": json_schemas.TIME_US,
        "type": {"type": "string"},
        "data": {"type": "object"},
        "balances": json_schemas.BALANCES,
        "head": {**json_schemas.SHA256, "description": "SHA-256 of this event's record"},
    }
    would_be = {name: result[name] for name in ("partition", "seq", "time_us", "type", "data", "balances")}
    return {
        "Command": {
            "oneOf": [ref(command.__name__) for command in COMMAND_TYPES],
            "discriminator": {
                "propertyName": "type",
                "mapping": {
                    command_name(command): f"#/components/schemas/{command.__name__}" for command in COMMAND_TYPES
                },
            },
        },
        **commands,
        "Result": {**object_of(result), "oneOf": typed_data(list(DATA_OF))},
        "DryRunResult": {
            "description": "the event as it would be; nothing was written",
            **object_of(would_be | {"dry_run": {"const": True}}),
            "oneOf": typed_data(list(COMMAND_OF)),
        },
        "BatchItem": {
            "oneOf": [
                object_of({"status": {"const": 201}, "result": ref("Result")}),
                object_of({"status": {"const": 200}, "idempotency_hit": {"const": True}, "result": ref("Result")}),
                object_of({"status": {"const": 200}, "result": ref("DryRunResult")}),
                object_of({"status": {"type": "integer", "minimum": 400, "maximum": 599}, "problem": ref("Problem")}),
            ]
        },
    }


def parameters() -> dict[str, Any]:
    return {
        "dry_run": in_query("dry_run", {"type": "boolean", "default": False}, "decide, and write nothing"),
        "Stakelog-Actor": {
            "name": "Stakelog-Actor",
            "in": "header",
            "required": False,
            "description": "who posts, while login is off",
            "schema": {"type": "string", "pattern": USER_ID_PATTERN, "default": "local"},
            "example": "back-office:meera",
        },
        "command_id": in_path("command_id", json_schemas.ANY_COMMAND_ID_PATTERN, "c-2"),
    }


def headers() -> dict[str, Any]:
    return {
        "Idempotency-Hit": {
            "description": "the command was accepted before; this is its first answer",
            "required": False,
            "schema": {"const": "true"},
            "example": "true",
        },
    }


def examples(played: list[Example], refused: dict[str, Any]) -> dict[str, Any]:
    """``command.<type>`` with its ``answer.<type>``; a batch, in which the problem ``refused`` is the last item's."""
    first = first_of_each_type(played)
    found: dict[str, Any] = {}
    for name, example in first.items():
        found[f"command.{name}"] = {"value": example.command}
        found[f"answer.{name}"] = {"value": example.answer}
    deposit, bet = first["deposit"], first["place_bet"]
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
    return found
