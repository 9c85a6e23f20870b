"""What every part of the document is built of: references, answers, parameters, and the problems of a route."""

from typing import Any, Final

from api.http.problems import KINDS, MEDIA_TYPE, Kind
from api.openapi import json_schemas
from api.openapi.json_schemas import Schema
from ledger.core.events import DATA_OF
from ledger.core.rejections import Code

JSON: Final = "application/json"

EVERYWHERE: Final = ("malformed_request", "method_not_allowed", "internal_error", "shutting_down")
LOGIN: Final = ("unauthenticated", "forbidden")
BODY: Final = ("request_too_large", "unsupported_media_type")
WRITER: Final = ("outcome_unknown", "not_owner", "overloaded", "log_unavailable")
REJECTIONS: Final = ("command_id_reused", *(code.value for code in Code))


# --- references ----------------------------------------------------------------------------------------------------


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def example_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/examples/{name}"}


def parameter_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


def header_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


# --- answers -------------------------------------------------------------------------------------------------------


def json_answer(description: str, schema: Schema, found: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema, "examples": found}}}


def problems(*codes: str, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    """Status → the response with every one of the codes that has it; ``missing`` are those of a read's 404."""
    found: dict[int, dict[str, tuple[Kind, str]]] = {}
    for code, kind in KINDS.items():
        if code in codes:
            found.setdefault(kind.status, {})[code] = (kind, f"problem.{code}")
    for code in missing:
        found.setdefault(404, {})[code] = (KINDS[code]._replace(status=404), f"missing.{code}")
    return {str(status): _problem(status, found[status]) for status in sorted(found)}


def _problem(status: int, mine: dict[str, tuple[Kind, str]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "; ".join(f"{code}: {_lower(kind)}" for code, (kind, _) in mine.items()),
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [
                        ref("Problem"),
                        {"properties": {"status": {"const": status}, "code": {"enum": list(mine)}}},
                    ]
                },
                "examples": {code: example_ref(example) for code, (_, example) in mine.items()},
            }
        },
    }
    if any(kind.retry_after_s is not None for kind, _ in mine.values()):
        response["headers"] = {"Retry-After": header_ref("Retry-After")}
    if "method_not_allowed" in mine:
        response["headers"] = {"Allow": header_ref("Allow")}
    return response


def _lower(kind: Kind) -> str:
    return kind.title[0].lower() + kind.title[1:]


# --- schemas -------------------------------------------------------------------------------------------------------


def object_of(properties: Schema) -> Schema:
    """An object of these members, all of them there, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def by_asset(schema: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": json_schemas.ASSET_PATTERN},
        "additionalProperties": schema,
    }


def typed_data(types: list[str]) -> list[Schema]:
    """For each event type: what its ``data`` is."""
    return [{"properties": {"type": {"const": name}, "data": ref(DATA_OF[name].__name__)}} for name in types]


# --- parameters ----------------------------------------------------------------------------------------------------


def in_query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def in_path(name: str, pattern: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": pattern},
        "example": example,
    }
