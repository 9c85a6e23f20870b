"""The ASGI application: finds the route of each request, calls its handler, and turns every failure into a problem.

Invariants:
(1) a request gets exactly one response: its handler's, the problem that was raised, or ``internal_error`` with a
    request id that the log has beside the trace;
(2) no text of an unforeseen exception reaches a client;
(3) a read gets its response within its ``timeout_ms`` + 0.5 s, whatever hangs behind it: one deadline, made
    here, goes with the request;
(4) each request is counted once in the request metrics, under the template of its route, and has one id: in its
    response, and in every log line that is written while it is served;
(5) the call of a node is refused without a proof that its sender knows the cluster's secret, where there is one,
    before its query or body is read.
"""

import asyncio
import logging
from collections import Counter
from time import perf_counter
from typing import Any, Final

from msgspec import Struct

from api.http.asgi import HTTPScope, Receive, Send
from api.http.bounds import ARRIVING_MAX, OF_CLIENT_MAX, UNSENT_MAX, ByteBudget
from api.http.browsers import SECURITY, Cors
from api.http.json_bodies import read_json
from api.http.problems import Problem, unavailable
from api.http.request_id import HEADER as REQUEST_ID_HEADER
from api.http.request_id import REQUEST_ID, TRACE_ID, request_id_of
from api.http.request_metrics import UNMATCHED
from api.http.requests import (
    CLOSES,
    GRACE_S,
    PIECE_BYTES,
    TIMEOUT_MS,
    ClientTooSlow,
    Headers,
    Request,
    Response,
    drain,
    headers_of,
    respond,
    response_of,
)
from api.http.routing import AnyRoute, PathRoutes, Router
from api.http.service import Service
from api.http.sockets import Sockets
from api.http.tracing import RequestSpan, Tracer, trace_id_of
from api.identity.ports import IdentityUnavailable
from api.identity.waiting import TooManyLogins
from api.limits.ports import SharedUnavailable
from api.nodes.messages import INTERNAL
from api.nodes.proof import PROOF_HEADER, NodeProofs, NotProven, ProvenBody
from ledger.pacing import RareWarnings

_NO_RESPONSE: Final = 499
"""Status in the metrics of requests that ended with half a response, or without one."""
BODY_WITHIN_S: Final = 25.0
"""Time limit for a whole body, from the end of the headers. Chosen: the largest body arrives in time at 340 kB/s."""

_PROOF_HEADER: Final = PROOF_HEADER.encode()

_log = logging.getLogger(__name__)
_access = logging.getLogger("stakelog.access")
_SLOW_EVERY_S: Final = 1.0


class RequestLog(Struct, frozen=True):
    """Which requests get a line in the log."""

    every: bool = False
    """All of them."""
    slow_s: float = float("inf")
    """Those whose response begins after this time or later; of these at most one a second."""


class _Exchange:
    """How far a request has come: ``whole`` once its body has arrived, ``late`` once the time limit for the body is
    over, ``responded_s`` once its response has begun."""

    __slots__ = (
        "arrived",
        "client_id",
        "counted",
        "from_node",
        "late",
        "limit",
        "proven_body",
        "refusal",
        "responded_s",
        "task",
        "whole",
    )

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.responded_s: float | None = None
        """When its response began, on the clock of ``perf_counter``."""
        self.whole = self.late = self.from_node = False
        self.arrived = self.counted = 0
        """Bytes of its body, and how many of them count as ``arriving``."""
        self.client_id: str | None = None
        """Its sender, where login is on."""
        self.refusal: Problem | None = None
        """What a long body gets, whatever is in it."""
        self.limit: asyncio.TimerHandle | None = None
        self.proven_body: ProvenBody | None = None
        """What checks the body of a node's call."""

    def start_limit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the time limit for the body. A timer, because ``asyncio.timeout`` was a tenth of the samples in a
        profile of the main thread."""
        self.limit = loop.call_later(BODY_WITHIN_S, self._stop)

    def _stop(self) -> None:
        self.late = True
        self.task.cancel()


class Rim:
    """The outermost ASGI application of one listener. It knows which requests are in flight, and bounds what they
    keep in memory."""

    def __init__(
        self,
        router: Router,
        service: Service,
        *,
        headers: Headers = SECURITY,
        cors: Cors | None = None,
        proofs: NodeProofs | None = None,
        sockets: Sockets | None = None,
        tracer: Tracer | None = None,
        request_log: RequestLog = RequestLog(),  # noqa: B008 - it is frozen
    ) -> None:
        """``headers``: of every response; ``proofs``: what checks the calls of other nodes; ``sockets``: what serves
        WebSockets, where there are some; ``tracer``: None where requests are not traced."""
        self._router, self._gate = router, service.gate
        self._headers, self._cors = headers, cors
        self._proofs = proofs
        self.sockets = sockets
        self._tracer = tracer
        self._request_log = request_log
        self._slow = RareWarnings(_log, every_s=_SLOW_EVERY_S)
        self.service = service
        self._requests = service.metrics.requests
        self._exchanges: dict[asyncio.Task[Any], _Exchange] = {}
        self.arriving, self.unsent = ByteBudget(ARRIVING_MAX), ByteBudget(UNSENT_MAX)
        self._arriving_of: Counter[str] = Counter()

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(scope["headers"])
        REQUEST_ID.set(request_id)
        if str(scope["type"]) != "http":
            assert self.sockets is not None, "the server accepts HTTP requests only"
            await self.sockets(scope, receive, send)
            return
        span = None if self._tracer is None else _begin_span(self._tracer, scope, request_id)
        began = perf_counter()
        task = asyncio.current_task()
        assert task is not None
        exchange = self._exchanges[task] = _Exchange(task)
        loop = asyncio.get_running_loop()

        async def receiving() -> Any:
            if exchange.limit is None:
                exchange.start_limit(loop)
            message: Any = await receive()
            if exchange.proven_body is not None:
                exchange.proven_body.add(message)
            if not message.get("more_body"):
                exchange.whole = True
                exchange.limit.cancel()  # type: ignore[union-attr]  # it is started above
            self._count(exchange, len(message.get("body", b"")))
            return message

        async def sending(message: Any) -> None:
            if exchange.responded_s is None:
                exchange.responded_s = perf_counter()
            await send(message)

        always = (*self._headers, (REQUEST_ID_HEADER, request_id.encode()))
        if self._cors is not None:
            always += self._cors.headers(scope)
        method, template, status = scope["method"], UNMATCHED, _NO_RESPONSE
        problem: Problem | None = None
        took_s: float | None = None
        try:
            try:
                path = scope["raw_path"].decode("latin-1")
                found = self._router.find(path)
                if found is None:
                    self._gate.count_unidentified(scope)
                    raise Problem("not_found", f"there is nothing at {path}")
                routes, values = found
                template = routes.template
                exchange.from_node = template.startswith(INTERNAL)
                if exchange.from_node and self._proofs is not None:
                    exchange.proven_body = _check_proof(scope, self._proofs)
                served = routes.by_method.get(method)
                if served is None:
                    preflight = None if self._cors is None else self._cors.preflight(scope, routes.allowed)
                    if preflight is None:
                        self._gate.count_unidentified(scope)
                        raise _not_allowed(method, routes)
                    status = preflight.status
                    await respond(sending, preflight, self.unsent, always)
                    return
                route = served.route
                identity = self._gate.identify(route.roles, scope)
                if identity.role is not None:
                    exchange.client_id = identity.client_id
                    if route.checks_commands:
                        exchange.refusal = self._gate.refusal_of_role(route.roles, identity)
                query = served.read_query(scope["query_string"])
                wait_s = getattr(query, "timeout_ms", TIMEOUT_MS) / 1_000
                wait_until_s = loop.time() + wait_s
                request = Request(served.read_path(values), query, scope, receiving, wait_until_s, identity, span)
                if identity.public_key is not None:
                    await self._gate.check_signature(request)
                if route.takes is not None:
                    request.body = await read_json(request, route.takes)
                if not route.checks_commands:
                    self._gate.refuse_role(route.roles, request)
                self._gate.count_user(request)
                response = await self._handle(route, request)
                if method == "GET" and not exchange.from_node:
                    self._refuse_unsent(response)
                status = response.status
                if response.stream is not None:
                    took_s = perf_counter() - began  # how long the client stays says nothing about the service
                await respond(sending, response, self.unsent, always, with_body=method != "HEAD")
            except Problem as raised:
                problem = raised
            except NotProven as error:
                problem = Problem("unauthenticated", str(error))
            except (IdentityUnavailable, SharedUnavailable) as error:
                problem = unavailable(error)
            except TooManyLogins:
                problem = Problem("rate_limited", "too many clients are logging in")
            except ClientTooSlow:
                status = _NO_RESPONSE
            except asyncio.CancelledError:
                problem = _why_cancelled(exchange)
            except Exception:  # noqa: BLE001 - a trace must never reach a client
                problem = _internal_error(scope, request_id)
            if problem is not None and exchange.responded_s is None:
                # Once half a response is out, the connection breaks off: the client must not take it for a whole one.
                status = problem.status
                await respond(send, response_of(problem), self.unsent, always, with_body=method != "HEAD")
                if not exchange.whole and problem.code not in CLOSES:
                    await drain(receive)
        finally:
            del self._exchanges[task]
            if exchange.limit is not None:
                exchange.limit.cancel()
            self._release(exchange)
            took_s = took_s or perf_counter() - began
            self._requests.count(_label_of(method), template, status, took_s)
            if span is not None:
                span.respond(_label_of(method), template, status, took_s)
            waited_s = took_s if exchange.responded_s is None else exchange.responded_s - began
            if waited_s >= self._request_log.slow_s:
                self._slow.warn(
                    "slow request: %s %s, status %d, took %.0f ms", method, template, status, waited_s * 1e3
                )
            if self._request_log.every:
                _write_access(scope, exchange, status, took_s)

    def _count(self, exchange: _Exchange, size: int) -> None:
        """Count ``size`` more bytes of the body. Raises Problem ``overloaded``, but never for a body of usual size,
        nor for a call of another node: that node bounds its calls, and a refusal would leave outcomes unknown. Raises
        Problem ``forbidden`` for commands of a role that posts none: its long bodies are not read to the end."""
        exchange.arrived += size
        if exchange.arrived <= PIECE_BYTES or exchange.from_node:
            return
        if exchange.refusal is not None:
            raise exchange.refusal
        if not self.arriving.fits(size):
            raise Problem("overloaded", "too many long bodies are arriving at once")
        client_id = exchange.client_id
        if client_id is not None:
            if self._arriving_of[client_id] + size > OF_CLIENT_MAX:
                raise Problem("overloaded", "too many long bodies of this client are arriving at once")
            self._arriving_of[client_id] += size
        self.arriving.used += size
        exchange.counted += size

    def _release(self, exchange: _Exchange) -> None:
        """The body of this exchange is not in memory any more."""
        self.arriving.used -= exchange.counted
        if exchange.counted and exchange.client_id is not None:
            self._arriving_of[exchange.client_id] -= exchange.counted
            if not self._arriving_of[exchange.client_id]:
                del self._arriving_of[exchange.client_id]

    def _refuse_unsent(self, response: Response) -> None:
        """Raise Problem ``overloaded`` where clients read too slowly. Not for the response to a command, which may be
        accepted, nor for that to another node, whose clients' reads would fail because of the clients of this one."""
        if response.is_long and not self.unsent.fits(len(response.body)):
            raise Problem("overloaded", "too many long responses wait for clients that read slowly")

    async def _handle(self, route: AnyRoute, request: Request[Any, Any]) -> Response:
        """The response of the route's handler. Raises Problem ``log_unavailable`` for a read that does not end in
        time: commands have time limits of their own, after which more is known of their outcome."""
        if route.method != "GET":
            return await route.handler(self.service, request)
        try:
            async with asyncio.timeout_at(request.wait_until_s + GRACE_S) as limit:
                return await route.handler(self.service, request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise Problem("log_unavailable", "the log or the read model did not respond in time") from None

    async def finish(self, within_s: float) -> int:
        """Wait for the responses to the requests that have arrived whole, then cancel the others and the late ones.

        A cancelled request gets a problem that says what is known of its outcome; without this, one half-sent request
        would keep the server open. Returns how many were cancelled. The ledger accepts no commands by now, so a
        request that arrives later gets its response at once.
        """
        whole = [task for task, exchange in self._exchanges.items() if exchange.whole]
        if whole:
            await asyncio.wait(whole, timeout=within_s)
        given_up = [task for task, exchange in self._exchanges.items() if not exchange.whole or task in whole]
        for task in given_up:
            task.cancel()
        return len(given_up)


def _begin_span(tracer: Tracer, scope: HTTPScope, request_id: str) -> RequestSpan | None:
    span = tracer.begin(scope["headers"], request_id)
    TRACE_ID.set(None if span is None else trace_id_of(span))
    return span


def _check_proof(scope: HTTPScope, proofs: NodeProofs) -> ProvenBody:
    """Raises NotProven."""
    query: bytes = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    header = headers_of(scope).get(_PROOF_HEADER, b"")
    return proofs.check(header, scope["method"], target.decode("latin-1"))


def _not_allowed(method: str, routes: PathRoutes) -> Problem:
    allowed = routes.allowed
    detail = f"{method} is not allowed at {routes.template}; allowed: {', '.join(allowed)}"
    return Problem("method_not_allowed", detail, allow=allowed)


def _why_cancelled(exchange: _Exchange) -> Problem:
    if exchange.late and not exchange.whole:
        exchange.task.uncancel()
        return Problem("request_timeout", f"the body was not complete after {BODY_WITHIN_S:.0f} s")
    if exchange.whole:
        return Problem("outcome_unknown", "the service stopped before it knew the outcome")
    return Problem("shutting_down", "the service stopped before the request was whole; nothing was written")


def _write_access(scope: HTTPScope, exchange: _Exchange, status: int, took_s: float) -> None:
    """One line. Without the query: it may have a cursor as long as the rest together."""
    method, path = scope["method"], scope["raw_path"].decode("latin-1")
    client = scope["client"]
    fields = {
        "method": method,
        "path": path,
        "status": status,
        "duration_ms": round(took_s * 1e3, 3),
        "client_id": exchange.client_id,
        "address": None if client is None else client[0],
    }
    _access.info("%s %s %d", method, path, status, extra=fields)


def _internal_error(scope: HTTPScope, request_id: str) -> Problem:
    """The problem for the exception being handled. The log has its trace under the request's id."""
    _log.exception("request %s failed: %s %s", request_id, scope["method"], scope["raw_path"].decode("latin-1"))
    detail = f"quote the request id {request_id} when you report this"
    return Problem("internal_error", detail, request_id=request_id)


def _label_of(method: str) -> str:
    """The method as a label: a client may send any word, and each would be a series of its own."""
    return method if method in ("GET", "HEAD", "POST", "DELETE") else "other"
