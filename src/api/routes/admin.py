"""``/healthz`` (the process need not be restarted), ``/readyz`` (it takes commands), ``/metrics``, ``/schema``."""

from typing import Any, Final

from litestar import Request, Response, get

from api.http.commands import encode
from api.http.compression import json_response
from api.http.metrics import Metrics
from api.http.query import Query
from api.openapi import document
from ledger.node.node import Node

NOT_READY_AFTER: Final = 1.5
"""Session time-outs without the group's confirmation. Chosen: a join waits up to one of them for a dead member."""

NOT_HEALTHY_AFTER: Final = 2.0
"""After this a node does not return to its group by itself: the orchestrator restarts it."""


def admin_routes(node: Node, metrics: Metrics) -> list[Any]:
    """The handlers, bound to the node they look at."""
    openapi = encode(document())

    @get("/healthz")
    async def get_health(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        if node.absent_for > NOT_HEALTHY_AFTER:
            body = {"status": "not_ready", "reasons": [_absent(node.absent_for)]}
            return Response(encode(body), media_type="application/json", status_code=503)
        return Response(encode({"status": "ok"}), media_type="application/json")

    @get("/readyz")
    async def get_readiness(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        reasons = []
        if not node.ready:
            reasons.append("commands are not taken: the service is starting, stopping, or its log is unavailable")
            if node.open < node.owned:
                reasons.append(f"{node.owned - node.open} of {node.owned} partitions are not open yet")
        if node.absent_for > NOT_READY_AFTER:
            reasons.append(_absent(node.absent_for))
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


def _absent(session_timeouts: float) -> str:
    return (
        f"this node has been out of the group of the nodes for {session_timeouts:.1f} session time-outs: it cannot "
        "reach the log's brokers, or they do not accept it"
    )
