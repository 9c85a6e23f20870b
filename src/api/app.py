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

from api.http import drain, respond_problem
from api.metrics import Metrics
from api.problems import Problem
from api.routes.admin import admin_routes
from api.routes.audit import audit_routes
from api.routes.commands import command_routes
from api.routes.wallets import wallet_routes
from ledger.node import Node

_OF_STATUS: Final = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}

_log = logging.getLogger(__name__)


class Rim:
    """The outermost ASGI application: counts what is in flight, and turns every failure into a problem."""

    def __init__(self, inner: ASGIApp, direct: Mapping[str, ASGIApp]) -> None:
        """``direct``: the applications of single paths, which are called without ``inner``'s routing."""
        self._inner = inner
        self._direct = direct
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """How many requests have no whole answer yet."""
        return len(self._tasks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        started = whole = False

        async def receiving() -> Any:
            nonlocal whole
            message: Any = await receive()
            whole = not message.get("more_body")
            return message

        async def sending(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        problem: Problem | None = None
        try:
            try:
                await self._direct.get(scope["path"], self._inner)(scope, receiving, sending)
            except Problem as raised:
                problem = raised
            except HTTPException as error:
                problem = _framework_problem(error, scope)
            except asyncio.CancelledError:
                problem = _abandoned(whole)
            except Exception:  # noqa: BLE001 - a trace must never reach a client
                request_id = uuid.uuid4().hex
                _log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
                detail = f"quote the request id {request_id} when you report this"
                problem = Problem("internal_error", detail, request_id=request_id)
            if problem is not None:
                await _answer(send, problem, started)
                if not whole and problem.code != "shutting_down":
                    await drain(receive)
        finally:
            self._tasks.discard(task)

    async def quiet(self, within_s: float) -> bool:
        """Wait until no request is in flight; whether that came in time."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self.in_flight and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.002)
        return self.in_flight == 0

    def abandon(self) -> None:
        """Answer what is still in flight with what is known of it: else one half request keeps the server open."""
        for task in self._tasks:
            task.cancel()


async def _answer(send: Send, problem: Problem, started: bool) -> None:
    if started:
        return  # half an answer is out: the connection breaks off, and the client knows nothing, as it should
    allow = problem.fields.get("allow")
    await respond_problem(send, problem, ((b"allow", ", ".join(allow).encode()),) if allow else ())


def _abandoned(whole: bool) -> Problem:
    if whole:
        return Problem("outcome_unknown", "the service stopped before it knew the outcome")
    return Problem("shutting_down", "the service stopped before the request was whole; nothing was written")


def _framework_problem(error: HTTPException, scope: HTTPScope) -> Problem:
    code = _OF_STATUS.get(error.status_code)
    if code is None:
        raise error
    detail = {
        "not_found": f"there is nothing at {scope['path']}",
        "method_not_allowed": f"{scope['method']} is not allowed at {scope['path']}",
    }.get(code, error.detail)
    fields: dict[str, Any] = {}
    if code == "method_not_allowed":
        allowed = (error.headers or {}).get("Allow", "GET")
        fields["allow"] = [method.strip() for method in allowed.split(",")]
    return Problem(code, detail, **fields)


def build_app(node: Node, owner: str) -> Rim:
    """The application that serves ``node``, which others reach at the address ``owner``."""
    metrics = Metrics(node)
    direct, routed = command_routes(node, metrics)
    litestar = Litestar(
        route_handlers=[
            *routed,
            *wallet_routes(node),
            *audit_routes(node, owner),
            *admin_routes(node, metrics),
        ],
        openapi_config=None,
        logging_config=None,
        # Without a handler of its own Litestar answers exceptions itself, in its own shape; the rim wants them.
        exception_handlers={Exception: _reraise, HTTPException: _reraise},
    )
    return Rim(litestar, direct)


def _reraise(_: Any, error: Exception) -> Any:
    raise error
