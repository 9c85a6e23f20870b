"""The document's part for operators: health, readiness, metrics, the document itself."""

from typing import Any

from api.openapi.json_schemas import Schema
from api.openapi.parts import EVERYWHERE, example_ref, json_answer, object_of, problems, ref


def paths() -> dict[str, Any]:
    return {
        "/healthz": _operational(
            "getHealth",
            "Whether the process need not be restarted",
            {
                "200": json_answer(
                    "it need not", object_of({"status": {"const": "ok"}}), {"ok": {"value": {"status": "ok"}}}
                ),
                "503": json_answer("restart it", ref("NotReady"), {"not_ready": example_ref("not_ready")}),
            },
        ),
        "/readyz": _operational(
            "getReadiness",
            "Whether commands are taken",
            {
                "200": json_answer(
                    "they are", object_of({"status": {"const": "ready"}}), {"ready": {"value": {"status": "ready"}}}
                ),
                "503": json_answer("not now, and why", ref("NotReady"), {"not_ready": example_ref("not_ready")}),
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
                "200": json_answer(
                    "OpenAPI 3.1",
                    {"type": "object", "required": ["openapi", "info", "paths"]},
                    {"schema": {"value": {"openapi": "3.1.0", "info": {"title": "stakelog"}, "paths": {}}}},
                )
            },
        ),
    }


def _operational(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    refusals = problems(*EVERYWHERE)
    for status, response in responses.items():
        if status in refusals:
            response["content"] |= refusals[status]["content"]
    return {
        "get": {
            "tags": ["operation"],
            "operationId": operation_id,
            "summary": summary,
            "responses": refusals | responses,
        }
    }


def schemas() -> dict[str, Schema]:
    return {
        "NotReady": object_of(
            {"status": {"const": "not_ready"}, "reasons": {"type": "array", "items": {"type": "string"}}}
        ),
    }


def examples() -> dict[str, Any]:
    reasons = ["the clock is more than 1 s behind the log's last event"]
    return {"not_ready": {"value": {"status": "not_ready", "reasons": reasons}}}
