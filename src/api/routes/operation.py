"""``/healthz`` (the process need not be restarted), ``/readyz`` (it takes commands), ``/metrics``, ``/schema``."""

from typing import Any, Final

from api.http.commands import encode
from api.http.compression import json_response
from api.http.requests import Request, Response
from api.http.service import Service
from api.openapi import document

NOT_READY_AFTER: Final = 1.5
"""Session time-outs without the group's confirmation. Chosen: a join waits up to one of them for a dead member."""

NOT_HEALTHY_AFTER: Final = 2.0
"""After this a node does not return to its group by itself: the orchestrator restarts it."""


async def get_health(service: Service, _request: Request[Any, Any]) -> Response:
    absent_for = service.node.absent_for
    if absent_for > NOT_HEALTHY_AFTER:
        return Response(encode({"status": "not_ready", "reasons": [_absent(absent_for)]}), 503)
    return Response(encode({"status": "ok"}))


async def get_readiness(service: Service, _request: Request[Any, Any]) -> Response:
    node, reasons = service.node, []
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
    if reasons:
        return Response(encode({"status": "not_ready", "reasons": reasons}), 503)
    return Response(encode({"status": "ready"}))


async def get_metrics(service: Service, _request: Request[Any, Any]) -> Response:
    return Response(await service.metrics.exposition(), media_type=b"text/plain; version=0.0.4")


async def get_schema(_service: Service, request: Request[Any, Any]) -> Response:
    return json_response(request, encode(document()))


def _absent(session_timeouts: float) -> str:
    return (
        f"this node has been out of the group of the nodes for {session_timeouts:.1f} session time-outs: it cannot "
        "reach the log's brokers, or they do not accept it"
    )
