"""Live feeds over WebSockets: the same messages as server-sent events, each as one JSON text.

A message is ``{"id": …, "event": …, "data": {…}}``. ``dropped`` has no ``id``. A heartbeat has no ``data``; it has an
``id`` if it is the first message of a feed. The service ignores what a client sends.

A browser's WebSocket cannot send headers. So the access token may come as a subprotocol, ``bearer.<token>``,
beside ``stakelog``, which the service chooses.

A web page of another origin is refused unless the settings allow it: browsers let any page connect, and while login
is off no token would stop it.
"""

import asyncio
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

from api.http.asgi import Receive, Send
from api.http.browsers import ANY_ORIGIN
from api.http.live import Opened
from api.http.problems import Problem, unavailable
from api.http.request_metrics import UNMATCHED
from api.http.requests import GRACE_S, SENT_WITHIN_S, TIMEOUT_MS, Headers, Request, headers_of, response_of
from api.http.routing import Router
from api.http.service import Service
from api.identity.ports import IdentityUnavailable
from api.limits.ports import SharedUnavailable
from projections.live.feed import HEARTBEAT, Feed, Message

SUBPROTOCOL: Final = "stakelog"
_BEARER: Final = "bearer."
_OPENED: Final = 101
_ENDED: Final = 1000
"""Status code of the close frame (RFC 6455): a normal end. The reason is in the last message, ``dropped``."""


class Sockets:
    """The ASGI application of WebSockets."""

    def __init__(self, router: Router, service: Service, headers: Headers, origins: frozenset[str]) -> None:
        """``headers``: added to every refusal. ``origins``: the origins that ``STAKELOG_CORS`` names."""
        self._router, self._service, self._headers, self._origins = router, service, headers, origins

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        began_s = perf_counter()
        template, status = UNMATCHED, _OPENED
        await receive()  # websocket.connect
        try:
            found = self._router.find(scope["raw_path"].decode("latin-1"))
            served = None if found is None else found[0].by_method.get("GET")
            if found is None or served is None or served.route.opens is None:
                self._service.gate.count_unidentified(scope)
                raise Problem("not_found", "there is no WebSocket here")
            template = found[0].template
            self._refuse_other_origin(scope)
            scope = _with_token(scope)
            identity = self._service.gate.identify(served.route.roles, scope)
            query = served.read_query(scope["query_string"])
            wait_until_s = asyncio.get_running_loop().time() + TIMEOUT_MS / 1_000
            request = Request(served.read_path(found[1]), query, scope, receive, wait_until_s, identity)
            self._service.gate.refuse_role(served.route.roles, request)
            feed = await self._open(served.route.opens, request)
        except (Problem, IdentityUnavailable, SharedUnavailable) as error:
            problem = error if isinstance(error, Problem) else unavailable(error)
            status = problem.status
            await self._refuse(send, problem)
            return
        finally:
            self._service.metrics.requests.count("GET", template, status, perf_counter() - began_s)
        opened = Opened(self._service.hub, feed, receive)
        try:
            protocol = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
            accept: Any = {"type": "websocket.accept", "subprotocol": protocol, "headers": []}
            await send(accept)
            while messages := await feed.waiting():
                for message in messages:
                    text: Any = {"type": "websocket.send", "text": _encoded(message)}
                    async with asyncio.timeout(SENT_WITHIN_S):
                        await send(text)
        except TimeoutError:
            return  # the client does not read: end without a close frame
        finally:
            await opened.close()
        end: Any = {"type": "websocket.close", "code": _ENDED, "reason": ""}
        await send(end)

    async def _open(self, opens: Any, request: Request[Any, Any]) -> Feed:
        try:
            async with asyncio.timeout_at(request.wait_until_s + GRACE_S):
                feed: Feed = await opens(self._service, request)
                return feed
        except TimeoutError:
            raise Problem("log_unavailable", "the read model did not respond in time") from None

    def _refuse_other_origin(self, scope: Any) -> None:
        headers = headers_of(scope)
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or ANY_ORIGIN in self._origins or origin in self._origins:
            return
        if urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1"):
            raise Problem("forbidden", f"STAKELOG_CORS does not name the origin {origin}", needs=[])

    async def _refuse(self, send: Send, problem: Problem) -> None:
        response = response_of(problem)
        media_type = response.media_type or b""
        start: Any = {
            "type": "websocket.http.response.start",
            "status": response.status,
            "headers": [(b"content-type", media_type), *response.headers, *self._headers],
        }
        await send(start)
        body: Any = {"type": "websocket.http.response.body", "body": response.body}
        await send(body)


def _with_token(scope: Any) -> Any:
    """A copy of the scope with the token from the subprotocol as the header ``Authorization``, as other clients send
    it."""
    tokens = [name.removeprefix(_BEARER) for name in scope["subprotocols"] if name.startswith(_BEARER)]
    added = [(b"authorization", b"Bearer " + token.encode("latin-1")) for token in tokens]
    return {**scope, "method": "GET", "headers": [*scope["headers"], *added]}


def _encoded(message: Message) -> str:
    name, last_id, data = message
    members = [f'"id":"{last_id}"'] if last_id else []
    members.append(f'"event":"{name or HEARTBEAT}"')
    if data:
        members.append(f'"data":{data.decode()}')
    return "{" + ",".join(members) + "}"
