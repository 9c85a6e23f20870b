"""``/healthz`` (the process lives), ``/readyz`` (it takes commands), ``/metrics``, ``/schema``."""

from typing import Any

from litestar import Request, Response, get

from api.http.commands import encode
from api.http.compression import json_response
from api.http.metrics import Metrics
from api.http.query import Query
from api.openapi import document
from ledger.node.node import Node


def admin_routes(node: Node, metrics: Metrics) -> list[Any]:
    """The handlers, bound to the node they look at."""
    openapi = encode(document())

    @get("/healthz")
    async def get_health(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        return Response(encode({"status": "ok"}), media_type="application/json")

    @get("/readyz")
    async def get_readiness(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        reasons = []
        if not node.ready:
            reasons.append("commands are not taken: the service is starting, stopping, or its log is unavailable")
            if node.open < node.owned:
                reasons.append(f"{node.owned - node.open} of {node.owned} partitions are not open yet")
        if node.clock_behind:
            reasons.append("the clock is more than 1 s behind the log's last event")
        if node.clock_off:
            reasons.append(f"the clock is {node.clock_off_us() / 1e6:+.1f} s off the log's: set it right")
        body = {"status": "not_ready", "reasons": reasons} if reasons else {"status": "ready"}
        return Response(encode(body), media_type="application/json", status_code=503 if reasons else 200)

    @get("/metrics")
    async def get_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        return Response(await metrics.exposition(), media_type="text/plain; version=0.0.4")

    @get("/schema")
    async def get_schema(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        return json_response(request, openapi)

    return [get_health, get_readiness, get_metrics, get_schema]
