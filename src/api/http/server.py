"""The HTTP/1.1 server: parses requests, runs the ASGI application for each, and writes its response.

Everything happens on the event loop: a request wakes no other thread. Measured with an application that does
nothing: a request takes 10 µs of processor time here. With granian, whose threads hand each request to the loop, it
takes 32 µs at 64 connections, and 110 at one.

Invariants:
(1) the requests of a connection are served one after the other, in their order;
(2) nothing is guessed: a head that is not exactly HTTP/1.0 or 1.1, or a body whose end is in doubt (two lengths, a
    length beside chunks), gets status 400, and the connection closes;
(3) a connection on which a part of a request is still to come closes after the response: the rest is no new request;
(4) memory is bounded for each connection: ``HEAD_MAX`` for a head, ``_UNREAD_MAX`` for what is not handled yet. No
    request begins while the client does not read the responses before it;
(5) a client that closes its sending side still gets its response;
(6) a response that the application does not finish is cut off: the client must not take it for a whole one.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

from ledger import background

Application = Callable[[Any, Any, Any], Awaitable[None]]

HEAD_MAX: Final = 64 * 1024
"""The longest head of a request. Chosen: eight times what browsers send at most."""
HEAD_WITHIN_S: Final = 10.0
"""How long a client may take to send a head. Chosen."""
UNREAD_MAX_S: Final = 30.0
"""How long a client may read nothing of what is sent to it: then the kernel ends the connection. Chosen: below the
time limit of a long response."""
_SWEEP_S: Final = 1.0
_UNREAD_MAX: Final = 256 * 1024
_TRAILERS_MAX: Final = 8 * 1024
_CHUNK_LINE_MAX: Final = 256

_REQUEST: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])")
_FIELDS: Final = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*)*")
_AUTHORITY: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}
_WITHOUT_BODY: Final = (204, 304)

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """The bytes are no HTTP request, for this reason."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class _Head(NamedTuple):
    scope: dict[str, Any]
    length: int | None
    """How long the body is; None: it comes in chunks."""
    keep: bool
    """Whether the connection stays open after the response."""
    expects_continue: bool


def _parse_head(head: bytes) -> _Head:
    """Raises _Refused."""
    line, _, _ = head.partition(b"\r\n")
    request = _REQUEST.fullmatch(line)
    if request is None:
        raise _Refused("the first line is no request line of HTTP/1.0 or 1.1")
    if _FIELDS.fullmatch(head, len(line)) is None:
        raise _Refused("a header is malformed")
    method, target, minor = request.groups()
    keep = minor == b"1"
    length: int | None = 0
    lengths = codings = 0
    expects_continue = False
    headers = []
    for field in head[len(line) + 2 :].split(b"\r\n") if len(head) > len(line) else ():
        name, _, value = field.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        headers.append((name, value))
        if name == b"content-length":
            if _LENGTH.fullmatch(value) is None:
                raise _Refused("the content-length is no number")
            lengths, length = lengths + 1, int(value)
        elif name == b"transfer-encoding":
            if value.lower().rpartition(b",")[2].strip() != b"chunked":
                raise _Refused("the transfer-encoding does not end in chunked")
            codings, length = codings + 1, None
        elif name == b"connection":
            options = value.lower()
            keep = (keep or b"keep-alive" in options) and b"close" not in options
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
    if lengths + codings > 1 or (codings and minor == b"0"):
        raise _Refused("the end of the body is in doubt")
    path, _, query = _path_of(target).partition(b"?")
    scope = {
        "type": "http",
        "method": method.decode("ascii"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
    }
    return _Head(scope, length, keep, expects_continue)


def _path_of(target: bytes) -> bytes:
    if target[:1] == b"/" or target == b"*":
        return target
    authority = _AUTHORITY.match(target)
    if authority is None:
        raise _Refused("the target is no path")
    rest = target[authority.end() :]
    return rest if rest[:1] == b"/" else b"/" + rest


class HttpServer:
    """Serves ``app`` on one address."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.stopping = False
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._second = 0
        self._date = b""

    async def start(self, host: str, port: int, *, backlog: int) -> None:
        """Accept connections from now on. Raises OSError."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=backlog)
        # Connections have the option from the socket that accepts them (tcp(7), since Linux 2.6.37).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_MAX_S * 1_000))
        self._server = await loop.create_server(lambda: _Connection(self), sock=listener, backlog=backlog)
        self._sweeping = background.keep(self._sweep, "http-heads")

    async def stop(self, within_s: float) -> int:
        """Accept no connection and no request any more, and wait until the responses under way are read, at most
        ``within_s``. Returns how many connections were cut off after it."""
        self.stopping = True
        assert self._server is not None
        assert self._sweeping is not None
        self._server.close()
        self._sweeping.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline_s = time.monotonic() + within_s
        while self.connections and time.monotonic() < deadline_s:  # noqa: ASYNC110 - a state of all connections
            await asyncio.sleep(0.005)
        late = list(self.connections)
        for connection in late:
            connection.abort()
        return len(late)

    async def _sweep(self) -> None:
        """Close the connections whose clients take too long for a head. One task, because a timer for each request
        costs more than parsing it."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            before_s = asyncio.get_running_loop().time() - HEAD_WITHIN_S
            for connection in [one for one in self.connections if one.head_since_s < before_s]:
                connection.abort()

    def date(self) -> bytes:
        """The header ``date`` of this second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = b"date: " + formatdate(second, usegmt=True).encode("ascii") + b"\r\n"
        return self._date


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.head_since_s = self._loop.time()
        """Since when a head is awaited that must come in time; infinity: none is."""
        self._unparsed = b""
        self._exchange: _Exchange | None = None
        self._reading = True
        self._paused: asyncio.Future[None] | None = None  # until the client has read more
        self._ended = False  # the client sends no more

    # --- called by the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._advance()

    def eof_received(self) -> bool:
        self._ended = True
        if self._exchange is None:
            return False  # the transport closes itself
        self._exchange.end_early()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        self.server.connections.discard(self)
        self._ended = True
        if self._exchange is not None:
            self._exchange.end_early()
            self._exchange.lose()
        self._unpause()

    def pause_writing(self) -> None:
        self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        self._unpause()
        self._advance()

    def _unpause(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    async def writable(self) -> None:
        """Return once the client has read enough of what was sent."""
        if self._paused is not None:
            await asyncio.shield(self._paused)

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    # --- requests, one after the other ----------------------------------------------------------------------------

    def _advance(self) -> None:
        """Handle what has come, as far as it can be handled now."""
        if self.transport.is_closing():
            return
        try:
            if self._exchange is None and self._unparsed and self._paused is None:
                self._begin()
            exchange = self._exchange
            if exchange is not None and not exchange.whole and not exchange.ended_early:
                self._take_body(exchange)
        except _Refused as refused:
            self._refuse(refused)
            return
        self.flow()

    def flow(self) -> None:
        """Read on only if there is room for what comes."""
        unread = len(self._unparsed) + (0 if self._exchange is None else self._exchange.unread)
        reading = unread <= _UNREAD_MAX
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _begin(self) -> None:
        """Begin the next request, if its head is whole. Raises _Refused."""
        while self._unparsed.startswith(b"\r\n"):  # some clients send an empty line after a body
            self._unparsed = self._unparsed[2:]
        end = self._unparsed.find(b"\r\n\r\n", 0, HEAD_MAX)
        if end < 0:
            if len(self._unparsed) >= HEAD_MAX:
                raise _Refused(f"the head of the request is longer than {HEAD_MAX} bytes", 431)
            if self._unparsed and self.head_since_s == _NEVER:
                self.head_since_s = self._loop.time()
            return
        head = _parse_head(self._unparsed[:end])
        self._unparsed = self._unparsed[end + 4 :]
        self.head_since_s = _NEVER
        exchange = self._exchange = _Exchange(self, head)
        exchange.task = self._loop.create_task(exchange.run())

    def _take_body(self, exchange: "_Exchange") -> None:
        """Move what has come of the body to the exchange."""
        if exchange.missing is None:
            self._take_chunks(exchange)
            return
        taken = self._unparsed[: exchange.missing]
        self._unparsed = self._unparsed[len(taken) :]
        exchange.missing -= len(taken)
        exchange.add(taken, whole=not exchange.missing)

    def _take_chunks(self, exchange: "_Exchange") -> None:
        """A chunk that is malformed ends the body early: the application's response says so."""
        data, at = self._unparsed, 0
        found: list[bytes] = []
        whole = False
        while not whole:
            if exchange.in_chunk:
                taken = data[at : at + exchange.in_chunk]
                found.append(taken)
                at += len(taken)
                exchange.in_chunk -= len(taken)
                if exchange.in_chunk:
                    break
                exchange.after_chunk = True
            if exchange.after_chunk:
                if len(data) < at + 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    exchange.end_early()
                    break
                at += 2
                exchange.after_chunk = False
            end = data.find(b"\r\n", at)
            if exchange.in_trailers:
                if end < 0 or end - at > _TRAILERS_MAX:
                    if len(data) - at > _TRAILERS_MAX:
                        exchange.end_early()
                    break
                whole = end == at
                at = end + 2
                continue
            if end < 0 and len(data) - at <= _CHUNK_LINE_MAX:
                break
            line = _CHUNK.fullmatch(data, at, end) if 0 <= end - at <= _CHUNK_LINE_MAX else None
            if line is None:
                exchange.end_early()
                break
            at = end + 2
            exchange.in_chunk = int(line[1], 16)
            exchange.in_trailers = not exchange.in_chunk
        self._unparsed = data[at:]
        exchange.add(b"".join(found), whole=whole)

    def finished(self, exchange: "_Exchange") -> None:
        """The exchange is over: go on with the next request, or close."""
        self._exchange = None
        if self.transport.is_closing():
            return
        if not exchange.responded:
            self.transport.abort()
            return
        if not exchange.keep or not exchange.whole or self.server.stopping or (self._ended and not self._unparsed):
            self.transport.close()
            return
        self._advance()
        if self._ended and self._exchange is None:
            self.transport.close()

    def _refuse(self, refused: _Refused) -> None:
        body = str(refused).encode()
        head = _STATUS_LINES[
            refused.status
        ] + b"connection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(head + self.server.date() + b"\r\n" + body)
        self.transport.close()

    # --- the end ----------------------------------------------------------------------------

    def close_if_idle(self) -> None:
        if self._exchange is None:
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()


_NEVER: Final = float("inf")


class _Exchange:
    """One request and its response: ``receive`` and ``send`` of the application."""

    __slots__ = (
        *(
            "_body",
            "_chunked",
            "_connection",
            "_delivered",
            "_expects_continue",
            "_lost",
            "_scope",
            "_start",
            "_waiter",
        ),
        *("after_chunk", "ended_early", "in_chunk", "in_trailers", "keep", "missing", "responded", "task", "unread"),
        "whole",
    )

    def __init__(self, connection: _Connection, head: _Head) -> None:
        self._connection = connection
        self._scope = head.scope
        self.keep = head.keep
        self._expects_continue = head.expects_continue
        self.missing = head.length
        """How much of the body is to come; None: it comes in chunks, and the next three say where it is."""
        self.in_chunk = 0
        self.after_chunk = self.in_trailers = False
        self.whole = self.missing == 0
        self.ended_early = False
        self.unread = 0
        self._body: list[bytes] = []
        self._delivered = False
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._start: Any = None
        self._chunked = False
        self.responded = False
        """Whether the whole response was given to the transport."""
        self.task: asyncio.Task[None]

    # --- called by the connection ----------------------------------------------------------------------------

    def add(self, data: bytes, *, whole: bool) -> None:
        """More of the body has come."""
        if data:
            self._body.append(data)
            self.unread += len(data)
        self.whole = whole
        if data or whole:
            self._wake()

    def end_early(self) -> None:
        """No more of the body comes, though it is not whole."""
        if not self.whole:
            self.ended_early = True
            self._wake()

    def lose(self) -> None:
        """The connection is gone."""
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the application ----------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._connection.server.app(self._scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 - a request must not end the server
            _log.exception("a request failed: %s %s", self._scope["method"], self._scope["raw_path"])
        finally:
            self._connection.finished(self)

    async def receive(self) -> dict[str, Any]:
        while True:
            if self._body or (self.whole and not self._delivered):
                body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._delivered = self.whole
                if self.unread:
                    self.unread = 0
                    self._connection.flow()
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self._lost or self.ended_early:
                return {"type": "http.disconnect"}
            if self._expects_continue and not self.whole:
                self._expects_continue = False
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message["body"], message.get("more_body", False)
        data = b"" if self._start is None else self._head(len(body), more=more)
        if self._chunked:
            data += b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data += b"" if more else b"0\r\n\r\n"
        else:
            data += body
        self._connection.write(data)
        self.responded = not more
        if more:
            await self._connection.writable()

    def _head(self, length: int, *, more: bool) -> bytes:
        """The head of the response. ``length`` is that of the body, or of its first part if there is ``more``."""
        start, self._start = self._start, None
        status = start["status"]
        lines = [_STATUS_LINES[status], self._connection.server.date()]
        measured = status in _WITHOUT_BODY
        for name, value in start["headers"]:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                measured = True
            elif name == b"connection":
                self.keep = False  # the application only closes
        if not measured and more:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not measured:
            lines.append(b"content-length: %d\r\n" % length)
        if not self.keep:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)
