"""The ASGI application: the routes under Litestar, and around them the rim that answers every failure.

Whatever goes wrong below ends here in exactly one problem: a ``Problem`` as itself, the framework's own refusals as
theirs, anything unforeseen as ``internal_error`` with a request id that stands in the log beside the trace.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Any, Final

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from api.http.metrics import Metrics, ReadModelGauges
from api.http.problems import Problem
from api.http.requests import drain, path_of, respond_problem
from api.routes.admin import admin_routes
from api.routes.audit import audit_routes
from api.routes.commands import command_routes
from api.routes.peers import peer_routes
from api.routes.wallets import wallet_routes
from ledger.node.node import Node
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from projections.reads.queries import Reads

_OF_STATUS: Final = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}

_WALLETS: Final = "/v1/wallets/"
_WALLET_SLASHES: Final = 3

_log = logging.getLogger(__name__)


class _Exchange:
    """How far a request has come: its body is ``whole``, its answer has begun."""

    __slots__ = ("answering", "whole")

    def __init__(self) -> None:
        self.answering = self.whole = False


class Rim:
    """The outermost ASGI application: knows what is in flight, and turns every failure into a problem."""

    def __init__(self, inner: ASGIApp, direct: Mapping[str, ASGIApp], wallet: ASGIApp) -> None:
        """``direct``: the applications of single paths, and ``wallet`` that of a single wallet's, which are called
        without ``inner``'s routing."""
        self._inner = inner
        self._direct = direct
        self._wallet = wallet
        self._exchanges: dict[asyncio.Task[Any], _Exchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        exchange = self._exchanges[task] = _Exchange()

        async def receiving() -> Any:
            message: Any = await receive()
            exchange.whole = not message.get("more_body")
            return message

        async def sending(message: Any) -> None:
            exchange.answering = True
            await send(message)

        problem: Problem | None = None
        try:
            try:
                scope["path"] = path_of(scope)
                await self._application(scope["path"])(scope, receiving, sending)
            except Problem as raised:
                problem = raised
            except HTTPException as error:
                problem = _framework_problem(error, scope)
            except asyncio.CancelledError:
                problem = _given_up(exchange.whole)
            except Exception:  # noqa: BLE001 - a trace must never reach a client
                problem = _internal_error(scope)
            if problem is not None:
                await _answer(send, problem, exchange.answering)
                if not exchange.whole and problem.code != "shutting_down":
                    await drain(receive)
        finally:
            del self._exchanges[task]

    def _application(self, path: str) -> ASGIApp:
        direct = self._direct.get(path)
        if direct is not None:
            return direct
        return self._wallet if path.startswith(_WALLETS) and path.count("/") == _WALLET_SLASHES else self._inner

    async def finish(self, within_s: float) -> int:
        """Wait for the answers to the requests that are whole now, and give up the others and the late ones.

        One that is given up is told what is known of it; else one half request would keep the server open. Answers
        how many were. The ledger takes nothing any more, so a request that comes now is answered at once.
        """
        whole = [task for task, exchange in self._exchanges.items() if exchange.whole]
        if whole:
            await asyncio.wait(whole, timeout=within_s)
        given_up = [task for task, exchange in self._exchanges.items() if not exchange.whole or task in whole]
        for task in given_up:
            task.cancel()
        return len(given_up)


async def _answer(send: Send, problem: Problem, started: bool) -> None:
    if started:
        return  # half an answer is out: the connection breaks off, and the client knows nothing, as it should
    allow = problem.fields.get("allow")
    await respond_problem(send, problem, ((b"allow", ", ".join(allow).encode()),) if allow else ())


def _given_up(whole: bool) -> Problem:
    if whole:
        return Problem("outcome_unknown", "the service stopped before it knew the outcome")
    return Problem("shutting_down", "the service stopped before the request was whole; nothing was written")


def _internal_error(scope: HTTPScope) -> Problem:
    """What is told of the exception being handled: a request id, which stands beside its trace in the log."""
    request_id = uuid.uuid4().hex
    _log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
    detail = f"quote the request id {request_id} when you report this"
    return Problem("internal_error", detail, request_id=request_id)


def _framework_problem(error: HTTPException, scope: HTTPScope) -> Problem:
    code = _OF_STATUS.get(error.status_code)
    if code is None:
        return _internal_error(scope)
    detail = {
        "not_found": f"there is nothing at {scope['path']}",
        "method_not_allowed": f"{scope['method']} is not allowed at {scope['path']}",
    }.get(code, error.detail)
    fields: dict[str, Any] = {}
    if code == "method_not_allowed":
        allowed = (error.headers or {}).get("allow", "GET")
        fields["allow"] = [method.strip() for method in allowed.split(",")]
    return Problem(code, detail, **fields)


def build_app(node: Node, reads: Reads, read_model: ReadModelGauges, owner: str, whole: LogView) -> Rim:
    """The application that serves ``node``, which others reach at the address ``owner``. ``whole``: the log, also
    where other nodes own its partitions."""
    metrics = Metrics(node, read_model)
    direct, routed = command_routes(node, metrics)
    wallet, lists = wallet_routes(node, reads)
    litestar = Litestar(
        route_handlers=[
            *routed,
            *lists,
            *audit_routes(node, whole, owner),
            *admin_routes(node, metrics),
        ],
        openapi_config=None,
        logging_config=None,
        # Without a handler of its own Litestar answers exceptions itself, in its own shape; the rim wants them.
        exception_handlers={Exception: _reraise, HTTPException: _reraise},
    )
    if whole.among_others:
        direct = {**direct, **peer_routes(PeerHandler(node), whole)}
    return Rim(litestar, direct, wallet)


def _reraise(_: Any, error: Exception) -> Any:
    raise error
