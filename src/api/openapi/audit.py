"""The document's part for auditors: where partitions end, records byte for byte, and seals."""

import json
from typing import Any, Final

from api.openapi import json_schemas
from api.openapi.examples import PARTITION, Example, first_of_each_type
from api.openapi.json_schemas import Schema, data_schemas, record_schema
from api.openapi.parts import (
    EVERYWHERE,
    LOGIN,
    example_ref,
    in_path,
    in_query,
    json_answer,
    object_of,
    or_null,
    parameter_ref,
    problems,
    ref,
)
from ledger.core.events import DATA_TYPES
from ledger.core.record import EMPTY_SHA256

_NDJSON: Final = "application/x-ndjson"


def paths(played: list[Example]) -> dict[str, Any]:
    records = [example.record for example in played]
    return {
        "/v1/partitions": {
            "get": {
                "tags": ["audit"],
                "operationId": "getPartitions",
                "summary": "Where every partition ends",
                "responses": {
                    "200": json_answer(
                        "all partitions", ref("Partitions"), {"partitions": example_ref("partitions")}
                    ),
                    **problems(*EVERYWHERE, *LOGIN, "log_unavailable"),
                },
            }
        },
        "/v1/events": {
            "get": {
                "tags": ["audit"],
                "operationId": "getEvents",
                "summary": "Records of a partition, byte for byte",
                "description": "One record a line; past the end nothing. SHA-256 of a line is the next one's prev.",
                "parameters": [parameter_ref("partition"), parameter_ref("from_seq"), parameter_ref("records_limit")],
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
                    **problems(*EVERYWHERE, *LOGIN, "log_unavailable"),
                },
            }
        },
        "/v1/events/{position}": {
            "get": {
                "tags": ["audit"],
                "operationId": "getEvent",
                "summary": "One record, byte for byte",
                "parameters": [parameter_ref("position")],
                "responses": {
                    "200": json_answer("the record", ref("Record"), {"record": example_ref("record")}),
                    **problems(*EVERYWHERE, *LOGIN, "event_not_found", "not_found", "log_unavailable"),
                },
            }
        },
        "/v1/seals": {
            "get": {
                "tags": ["audit"],
                "operationId": "getSeals",
                "summary": "Seals of the log, the newest first",
                "description": "A seal says where every partition ended at a time. prev is the SHA-256 of the seal "
                "before it, as compact JSON with the members in this order.",
                "parameters": [parameter_ref("limit"), parameter_ref("cursor")],
                "responses": {
                    "200": json_answer("a page of seals", ref("Seals"), {"seals": example_ref("seals")}),
                    **problems(*EVERYWHERE, *LOGIN, "log_unavailable"),
                },
            }
        },
    }


def schemas() -> dict[str, Schema]:
    return {
        "Partitions": object_of(
            {
                "items": {
                    "type": "array",
                    "items": object_of(
                        {
                            "partition": json_schemas.PARTITION,
                            "seq": {"type": "integer", "minimum": 0},
                            "head": json_schemas.SHA256,
                            "owner": or_null({"type": "string"}),
                        }
                    ),
                }
            }
        ),
        "Seal": object_of(
            {
                "sealed_at_us": {"type": "integer", "description": "Unix microseconds, UTC"},
                "partitions": {"type": "array", "items": ref("SealedHead")},
                "prev": json_schemas.SHA256,
                "kid": or_null({"type": "string"}),
                "signature": or_null({"type": "string"}),
            }
        ),
        "SealedHead": object_of(
            {
                "partition": json_schemas.PARTITION,
                "seq": {"type": "integer", "minimum": 0},
                "head": json_schemas.SHA256,
            }
        ),
        "Seals": object_of(
            {"items": {"type": "array", "items": ref("Seal")}, "next_cursor": or_null({"type": "string"})}
        ),
        **data_schemas(),
        "Record": {
            "oneOf": [ref(f"{data.__name__}Record") for data in DATA_TYPES],
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


def parameters() -> dict[str, Any]:
    return {
        "position": in_path("position", json_schemas.EVENT_POSITION_PATTERN, f"{PARTITION}:2"),
        "partition": {
            **in_query("partition", json_schemas.PARTITION, "less than the number of partitions"),
            "required": True,
            "example": PARTITION,
        },
        "from_seq": in_query("from_seq", {**json_schemas.SEQ, "default": 1}, "the first record"),
        "records_limit": in_query(
            "limit", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1_000}, "records at most"
        ),
    }


def examples(played: list[Example]) -> dict[str, Any]:
    deposit = first_of_each_type(played)["deposit"]
    partition = {
        "partition": PARTITION,
        "seq": deposit.answer["seq"],
        "head": deposit.answer["head"],
        "owner": "http://127.0.0.1:8080",
    }
    sealed = {name: partition[name] for name in ("partition", "seq", "head")}
    seal = {
        "sealed_at_us": json.loads(deposit.record)["time_us"],
        "partitions": [sealed],
        "prev": EMPTY_SHA256,
        "kid": None,
        "signature": None,
    }
    return {
        "record": {"value": json.loads(deposit.record)},
        "partitions": {"value": {"items": [partition]}},
        "seals": {"value": {"items": [seal], "next_cursor": None}},
    }
