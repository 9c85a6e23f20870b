"""Requests and responses of all routes, directly on ASGI.

Litestar's request and response objects cost about 25 µs of a 50 µs request here, measured against a bare route; these
cost 1 µs.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from api.http.asgi import HTTPScope, Receive, Scope, Send
from api.http.bounds import ByteBudget
from api.http.commands import BODY_MAX
from api.http.problems import MEDIA_TYPE, Problem
from api.identity.identity import Identity
from ledger.tracing import Span

JSON: Final = b"application/json"
_PROBLEM: Final = MEDIA_TYPE.encode()
_CONTENT_TYPE: Final = b"content-type"
_CHARSET: Final = re.compile(rb';\s*charset\s*=\s*"?([^\s;"]*)', re.IGNORECASE)
_CONTENT_LENGTH: Final = b"content-length"
_CHALLENGE: Final = (b"www-authenticate", b'Bearer error="invalid_token"')

TIMEOUT_MS: Final = 2_000
"""How long a read may wait where its query has no ``timeout_ms``. The contract's number."""
GRACE_S: Final = 0.4
"""How long a read may run after ``wait_until_s``. Chosen: below the contract's 0.5 s, so that the response arrives in
time."""

# Chosen: the whole body of a fast client, and longer than a slow one needs to notice the response.
_DRAIN_MAX: Final = 8 * BODY_MAX
_DRAIN_S: Final = 5.0

PIECE_BYTES: Final = 64 * 1024
"""A longer response is sent in pieces of this size. The server takes the next piece when the client has read enough.
Chosen: the server keeps up to six pieces of each response."""
SENT_WITHIN_S: Final = 60.0
"""Time limit for sending a long response. A client that reads nothing for half of it is cut off by the kernel, see
``api.cli.sockets``; this limit is for one that reads slowly. Chosen: 4 MiB at 70 kB/s."""


CLOSES: Final = ("shutting_down", "request_timeout")
"""After these problems the connection is closed: the client must connect to another process (``shutting_down``), or
the rest of the body will not come (``request_timeout``)."""

P = TypeVar("P")
Q = TypeVar("Q")

Headers = tuple[tuple[bytes, bytes], ...]


class Request(Generic[P, Q]):
    """A request whose path and query are read: ``path`` and ``query`` are the Structs of its route.

    ``wait_until_s``, in the event loop's time: until then a read may wait for what it was asked for. The rim ends the
    read ``GRACE_S`` after it, whatever it waits for then. ``identity``: its sender. ``body``: the decoded body, where
    the route ``takes`` one. ``span``: None where the request is not traced.
    """

    __slots__ = ("body", "identity", "path", "query", "receive", "scope", "span", "wait_until_s")

    def __init__(
        self,
        path: P,
        query: Q,
        scope: HTTPScope,
        receive: Receive,
        wait_until_s: float,
        identity: Identity,
        span: Span | None = None,
    ) -> None:
        self.path, self.query, self.scope, self.receive = path, query, scope, receive
        self.wait_until_s, self.identity = wait_until_s, identity
        self.body: Any = None
        self.span = span


class Response(NamedTuple):
    """What a handler returns. ``media_type`` is None where there is no body."""

    body: bytes
    status: int = 200
    headers: Headers = ()
    media_type: bytes | None = JSON
    more: AsyncIterator[bytes] | None = None
    """The parts of the body, made while they are sent; ``body`` is empty. The length is not announced."""
    stream: "Stream | None" = None
    """The same without an end: it is sent for as long as the client reads."""

    @property
    def is_long(self) -> bool:
        """Whether it is sent in pieces."""
        return self.more is not None or len(self.body) > PIECE_BYTES


class Stream(Protocol):
    """A body without an end. ``close`` is called once, however it ends."""

    def parts(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class ClientTooSlow(Exception):
    """The client did not read the whole response in time. Its connection is closed."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def list_header(scope: Scope, name: bytes) -> str | None:
    """A header whose value is a list, which may arrive in several lines: all of them, joined; None: it is absent."""
    lines = [value.decode("latin-1") for known, value in scope["headers"] if known.lower() == name]
    return ", ".join(lines) if lines else None


def _says_json(media_type: bytes) -> bool:
    """Whether it is JSON. Only a parameter with another charset than UTF-8 matters: JSON is UTF-8."""
    if media_type.split(b";")[0].strip().lower() != JSON:
        return False
    charset = _CHARSET.search(media_type)
    return charset is None or charset[1].lower() in (b"utf-8", b"utf8")


def require_json(headers: dict[bytes, bytes], other: str = "") -> None:
    """Raise Problem unless the headers announce plain JSON within the size limit. ``other``: what else the route
    takes, for the message."""
    media_type = headers.get(_CONTENT_TYPE, b"")
    if media_type != JSON and not _says_json(media_type):
        takes = f"application/json or {other}" if other else "application/json"
        shown = media_type.decode("latin-1") or "nothing"
        raise Problem("unsupported_media_type", f"Content-Type must be {takes}, it is {shown}")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem("unsupported_media_type", "the body must not be compressed")
    if headers.get(b"transfer-encoding", b"chunked") != b"chunked":
        raise Problem("unsupported_media_type", "the body must not be compressed")
    length = headers.get(_CONTENT_LENGTH)
    if length is not None and len(length) < 20 and length.isdigit() and int(length) > BODY_MAX:
        raise Problem("request_too_large", f"the body may have {BODY_MAX} bytes, it has {int(length)}")


async def read_body(receive: Receive, most: int = BODY_MAX) -> bytes:
    """The whole body. Raises Problem: ``request_too_large``, or ``malformed_request`` where it ends early."""
    message: Any = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _bounded(message.get("body", b""), most)
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            # A client that only closed its sending side still gets the problem.
            raise Problem("malformed_request", "the body ended early")
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise Problem("request_too_large", f"the body may have {most} bytes, it has more")
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


async def drain(receive: Receive) -> None:
    """Discard the rest of the body, within bounds; the response is sent already.

    If the server closed at once, the connection would be reset, and a client that is still sending would never read
    the response.
    """
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while size < _DRAIN_MAX:
                message: Any = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _bounded(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise Problem("request_too_large", f"the body may have {most} bytes, it has {len(body)}")
    return body


async def respond(
    send: Send, response: Response, unsent: ByteBudget, always: Headers = (), *, with_body: bool = True
) -> None:
    """Send it; a long one counts as ``unsent`` meanwhile. ``always``: further headers. ``with_body=False``: only what
    ``HEAD`` gets, the headers of the same response. Raises ClientTooSlow."""
    body, status, headers, media_type, more, stream = response
    if media_type is not None:
        endless = more is not None or stream is not None
        length: Headers = () if endless else ((_CONTENT_LENGTH, b"%d" % len(body)),)
        headers = ((_CONTENT_TYPE, media_type), *length, *headers, *always)
    else:
        headers += always
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    if stream is not None:
        await _send_stream(send, start, stream)
        return
    await send(start)
    if with_body and response.is_long:
        try:
            async with asyncio.timeout(SENT_WITHIN_S):
                if more is None:
                    await _send_pieces(send, body, unsent)
                else:
                    async for part in more:
                        await _send_pieces(send, part, unsent)
        except TimeoutError:
            raise ClientTooSlow from None
        body = b""
    end: Any = {"type": "http.response.body", "body": body if with_body else b""}
    await send(end)


async def _send_stream(send: Send, start: Any, stream: Stream) -> None:
    """Raises ClientTooSlow if the client does not read a part in time."""
    try:
        await send(start)
        async for part in stream.parts():
            piece: Any = {"type": "http.response.body", "body": part, "more_body": True}
            async with asyncio.timeout(SENT_WITHIN_S):
                await send(piece)
    except TimeoutError:
        raise ClientTooSlow from None
    finally:
        await stream.close()
    end: Any = {"type": "http.response.body", "body": b""}
    await send(end)


async def _send_pieces(send: Send, body: bytes, unsent: ByteBudget) -> None:
    with unsent.counting(len(body)):
        for begin in range(0, len(body), PIECE_BYTES):
            piece: Any = {
                "type": "http.response.body",
                "body": body[begin : begin + PIECE_BYTES],
                "more_body": True,
            }
            await send(piece)


def response_of(problem: Problem) -> Response:
    """The response that a problem is."""
    headers: Headers = ()
    allow = problem.fields.get("allow")
    if allow:
        headers += ((b"allow", ", ".join(allow).encode()),)
    if problem.code in CLOSES:
        headers += ((b"connection", b"close"),)
    if problem.code == "unauthenticated":
        headers += (_CHALLENGE,)
    retry_after_s = problem.fields.get("retry_after_s", problem.kind.retry_after_s)
    if retry_after_s is not None:
        headers += ((b"retry-after", b"%d" % retry_after_s),)
    if "quota" in problem.fields:
        headers += _rate_limit_headers(problem.fields)
    return Response(problem.encoded(), problem.status, headers, _PROBLEM)


def _rate_limit_headers(fields: Mapping[str, Any]) -> Headers:
    """As in draft-ietf-httpapi-ratelimit-headers-10: the policy, and that nothing remains of it for so long."""
    policy = f'"{fields["limit"]}";q={fields["quota"]};w={fields["window_s"]}'
    remaining = f'"{fields["limit"]}";r=0;t={fields["retry_after_s"]}'
    return (b"ratelimit-policy", policy.encode()), (b"ratelimit", remaining.encode())


NO_STORE: Final[Headers] = ((b"cache-control", b"no-store"),)
"""Headers of a response with a secret or private texts: no cache may keep it, not even a browser's."""


def not_modified(etag: str, headers: Headers = ()) -> Response:
    """304: the client has the current version."""
    return Response(b"", 304, ((b"etag", etag.encode()), *headers), None)
