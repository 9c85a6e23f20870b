"""``/healthz`` (no restart needed), ``/readyz`` (commands are accepted), ``/metrics``, ``/schema``, ``/``."""

from typing import Any, Final

from msgspec import UNSET

from api.http.bodies import Healthy, NotReady, Ready, encode
from api.http.compression import VARY, accepts_gzip, json_response, prefers_html
from api.http.requests import Request, Response, list_header
from api.http.service import Service
from api.openapi import page

NOT_READY_AFTER: Final = 1.5
"""Session time-outs without the group's confirmation. Chosen: a join waits up to one of them for a dead member."""

NOT_HEALTHY_AFTER: Final = 2.0
"""After this a node does not return to its group by itself: the orchestrator restarts it."""

_HTML: Final = b"text/html; charset=utf-8"
_JAVASCRIPT: Final = b"text/javascript; charset=utf-8"
_VARY_ACCEPT: Final = (b"vary", b"Accept")
_VARY_BOTH: Final = ((b"vary", b"Accept, Accept-Encoding"),)
_GZIP: Final = (b"content-encoding", b"gzip")
_KEEP_A_DAY: Final = (b"cache-control", b"max-age=86400")
_LINKS: Final = {
    "service": "stakelog",
    "documentation": "/schema",
    "health": "/healthz",
    "readiness": "/readyz",
}


async def get_health(service: Service, _request: Request[Any, Any]) -> Response:
    absent_for = service.node.absent_for
    if absent_for > NOT_HEALTHY_AFTER:
        return Response(encode(NotReady("not_ready", [_absent(absent_for)])), 503)
    return Response(encode(Healthy()))


async def get_readiness(service: Service, _request: Request[Any, Any]) -> Response:
    if reasons := reasons_of(service):
        return Response(encode(NotReady("not_ready", reasons)), 503)
    return Response(encode(Ready(warnings=warnings_of(service) or UNSET)))


def reasons_of(service: Service) -> list[str]:
    """Why the node does not accept commands now."""
    node, reasons = service.node, []
    if not node.ready:
        reasons.append("commands are not accepted: the service is starting, stopping, or its log is unavailable")
        if node.open < node.owned:
            reasons.append(f"{node.owned - node.open} of {node.owned} partitions are not open yet")
    if node.absent_for > NOT_READY_AFTER:
        reasons.append(_absent(node.absent_for))
    if node.clock_behind:
        reasons.append("the clock is more than 1 s behind the log's last event")
    if node.clock_off:
        reasons.append(f"the clock is {node.clock_off_us() / 1e6:+.1f} s off the log's: set it right")
    if service.login is not None and not service.login.revocations.known:
        reasons.append("the database of clients and tokens cannot be read, so no token is accepted")
    return reasons


def warnings_of(service: Service) -> list[str]:
    """What is wrong with one user, or one partition: no reason to take the whole service out of the balancer."""
    suspects, stopped = service.reads.suspects, service.node.stopped
    warnings = [suspects.warning] if suspects else []
    if stopped:
        partitions = ", ".join(map(str, stopped))
        warnings.append(f"partitions {partitions} accept no commands: the service log says why")
    return warnings


async def get_metrics(service: Service, _request: Request[Any, Any]) -> Response:
    return Response(await service.metrics.exposition(), media_type=b"text/plain; version=0.0.4")


async def get_schema(_service: Service, request: Request[Any, Any]) -> Response:
    if prefers_html(list_header(request.scope, b"accept")):
        policy = (b"content-security-policy", page.CONTENT_SECURITY_POLICY.encode())
        return Response(page.page(), headers=(_VARY_ACCEPT, policy), media_type=_HTML)
    return json_response(request, page.document(), vary=_VARY_BOTH)


async def get_script(_service: Service, request: Request[Any, Any]) -> Response:
    headers = (*VARY, _KEEP_A_DAY)
    if accepts_gzip(list_header(request.scope, b"accept-encoding")):
        return Response(page.packed_script(), headers=(*headers, _GZIP), media_type=_JAVASCRIPT)
    return Response(page.script(), headers=headers, media_type=_JAVASCRIPT)


async def get_root(_service: Service, request: Request[Any, Any]) -> Response:
    if prefers_html(list_header(request.scope, b"accept")):
        return Response(b"", 302, ((b"location", b"/schema"), _VARY_ACCEPT), None)
    return Response(encode(_LINKS), headers=(_VARY_ACCEPT,))


def _absent(session_timeouts: float) -> str:
    return (
        f"this node has been out of the group of the nodes for {session_timeouts:.1f} session time-outs: it cannot "
        "reach the log's brokers, or they do not accept it"
    )
