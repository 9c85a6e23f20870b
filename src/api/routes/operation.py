"""``/healthz`` (the process lives), ``/readyz`` (it takes commands), ``/metrics``, ``/schema``."""

from typing import Any

from api.http.commands import encode
from api.http.compression import json_response
from api.http.requests import Request, Response
from api.http.service import Service
from api.openapi import document


async def get_health(_service: Service, _request: Request[Any, Any]) -> Response:
    return Response(encode({"status": "ok"}))


async def get_readiness(service: Service, _request: Request[Any, Any]) -> Response:
    node, reasons = service.node, []
    if not node.ready:
        reasons.append("commands are not taken: the service is starting, stopping, or its log is unavailable")
        if node.open < node.owned:
            reasons.append(f"{node.owned - node.open} of {node.owned} partitions are not open yet")
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
