"""The HTTP server, over real sockets, with small applications in place of the ledger's."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from api.http import server as http_server
from api.http.server import HEAD_MAX, HttpServer
from ledger import background

Handler = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /%b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"


async def body_of(receive: Any) -> tuple[bytes, bool]:
    """The body, and whether it was whole."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts), True
    return b"".join(parts), False


async def respond(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, whole = await body_of(receive)
    await respond(send, b"%b?%b %b %d" % (scope["raw_path"], scope["query_string"], body, whole))


class World:
    """A server, the requests that it has begun, and its clients."""

    def __init__(self) -> None:
        self.handler: Handler = echo
        self.server = HttpServer(self._app)
        self.port = 0
        self.begun = 0
        self.stopped = False

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.begun += 1
        await self.handler(scope, receive, send)

    async def start(self) -> None:
        await self.server.start("127.0.0.1", 0, backlog=8)
        assert self.server._server is not None
        self.port = self.server._server.sockets[0].getsockname()[1]

    async def stop(self, within_s: float = 60.0) -> int:
        self.stopped = True
        return await self.server.stop(within_s)

    async def sent(self, *parts: bytes, end: bool = False) -> bytes:
        """All that comes until the server closes; ``end``: the client closes its sending side."""
        reader, writer = await self.open()
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.write_eof()
        async with asyncio.timeout(60):
            got = await reader.read()
        writer.close()
        return got

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    if not world.stopped:
        await world.stop(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a state of the server, without an event
        await asyncio.sleep(0.001)


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", got)]


def bodies(got: bytes) -> list[bytes]:
    return [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 ")[1:]]


# --- requests -------------------------------------------------------------------------------------


async def test_pipelined_requests_get_their_responses_in_order(world: World) -> None:
    got = await world.sent(GET % b"1" + POST % (b"2?q", b"Content-Length: 3") + b"abc\r\n" + GET % b"3", end=True)
    assert bodies(got) == [b"/1?  1", b"/2?q abc 1", b"/3?  1"]


async def test_a_request_in_single_bytes_is_a_request(world: World) -> None:
    whole = (
        POST % (b"x", b"Connection: close\r\nTransfer-Encoding: chunked")
        + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
    )
    assert bodies(await world.sent(*(whole[at : at + 1] for at in range(len(whole))))) == [b"/x? abcde 1"]


@pytest.mark.parametrize("rest", [b"", b"a", b"ab"])
async def test_a_client_that_closes_its_sending_side_gets_a_response(world: World, rest: bytes) -> None:
    got = await world.sent(POST % (b"x", b"Content-Length: 3") + rest, end=True)
    assert bodies(got) == [b"/x? %b 0" % rest], "the application knows that the body is not whole"


async def test_a_client_that_closes_its_sending_side_after_the_request_gets_its_response(world: World) -> None:
    assert bodies(await world.sent(GET % b"x", end=True)) == [b"/x?  1"]


async def test_a_client_that_expects_it_is_told_to_send_the_body(world: World) -> None:
    reader, writer = await world.open()
    writer.write(POST % (b"x", b"Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close"))
    async with asyncio.timeout(60):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert bodies(await reader.read()) == [b"/x? abc 1"]
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        POST % (b"x", b"Content-Length: 3\r\nContent-Length: 3"),
        POST % (b"x", b"Content-Length: 3\r\nTransfer-Encoding: chunked"),
        POST % (b"x", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        POST % (b"x", b"Transfer-Encoding: chunked, gzip"),
        POST % (b"x", b"Content-Length: +3"),
        POST % (b"x", b"Content-Length: 3, 3"),
        POST % (b"x", b"Content-Length : 3"),
        POST % (b"x", b"A: b\n c"),
        POST % (b"x", b"A: b\r\n c"),
        POST % (b"x", b"A: \x00"),
        POST % (b"x", b"A: b\rContent-Length: 3"),
        (POST % (b"x", b"Transfer-Encoding: chunked")).replace(b"1.1", b"1.0"),
        GET.replace(b" HTTP/1.1", b"") % b"x",
        b"CONNECT x:80 HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_in_doubt_is_refused(world: World, head: bytes) -> None:
    got = await world.sent(head + b"abc" + GET % b"next")
    assert (statuses(got), world.begun) == ([400], 0)


async def test_a_head_has_a_bound(world: World) -> None:
    assert statuses(await world.sent(b"GET /" + b"a" * HEAD_MAX)) == [431]


@pytest.mark.parametrize(
    "chunks", [b"x\r\nabc\r\n", b"3\r\nabcd\r\n", b"-3\r\nabc", b"3 3\r\nabc", b"1" * 300, b"0\r\n" + b"a" * 9_000]
)
async def test_a_malformed_chunk_ends_the_body_and_the_connection(world: World, chunks: bytes) -> None:
    got = await world.sent(POST % (b"x", b"Transfer-Encoding: chunked") + chunks + GET % b"next")
    assert [body[-2:] for body in bodies(got)] == [b" 0"]


async def test_what_the_application_did_not_read_is_no_request(world: World) -> None:
    async def refuses(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        await respond(send, b"no", 413)

    world.handler = refuses
    got = await world.sent(POST % (b"x", b"Content-Length: 1000"), GET % b"inside the body")
    assert (statuses(got), world.begun) == ([413], 1)


async def test_an_older_client_and_a_client_that_says_so_are_closed(world: World) -> None:
    for head in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"):
        got = await world.sent(head)
        assert b"connection: close\r\n" in got


async def test_a_target_may_name_the_host(world: World) -> None:
    got = await world.sent(b"GET http://x:80/a?b HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert bodies(got) == [b"/a?b  1"]


async def test_a_body_that_is_not_read_is_not_kept_in_memory(world: World) -> None:
    go = asyncio.Event()

    async def waits(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await go.wait()
        await respond(send, b"%d" % len((await body_of(receive))[0]))

    world.handler = waits
    size = 50_000_000
    reader, writer = await world.open()
    writer.write(POST % (b"x", b"Connection: close\r\nContent-Length: %d" % size) + bytes(size))
    async with asyncio.timeout(60):
        await until(lambda: any(not one._reading for one in world.server.connections))
        assert writer.transport.get_write_buffer_size() > size // 2
        go.set()
        assert bodies(await reader.read()) == [b"%d" % size]
    writer.close()


# --- responses ------------------------------------------------------------------------------------


async def test_a_response_in_parts_of_unknown_length_comes_in_chunks(world: World) -> None:
    async def parts(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": ()})
        for part in (b"ab", b"c"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    world.handler = parts
    got = await world.sent(GET % b"x", GET % b"y", end=True)
    assert bodies(got) == [b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"] * 2


@pytest.mark.parametrize("begun", [False, True])
async def test_a_response_that_is_not_finished_is_cut_off(world: World, begun: bool) -> None:
    async def fails(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": ((b"content-length", b"4"),)})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        raise RuntimeError("the application failed")

    world.handler = fails
    got = b""
    with suppress(ConnectionResetError):
        got = await world.sent(GET % b"x")
    assert not got.endswith(b"abcd")


async def test_no_request_begins_while_the_client_does_not_read(world: World) -> None:
    async def much(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        await respond(send, bytes(20_000_000))

    world.handler = much
    _reader, writer = await world.open()
    writer.write(GET % b"1" + GET % b"2" + GET % b"3")
    async with asyncio.timeout(60):
        await until(lambda: world.begun == 1)
    await asyncio.sleep(0.05)
    assert world.begun == 1
    writer.close()


async def test_the_kernel_ends_a_connection_whose_client_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def much(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        await respond(send, bytes(20_000_000))

    monkeypatch.setattr(http_server, "UNREAD_MAX_S", 0.2)
    world = World()
    world.handler = much
    await world.start()
    client = socket.socket()
    with client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", world.port))
        client.sendall(GET % b"x")
        async with asyncio.timeout(60):
            await until(lambda: world.begun == 1)
            await until(lambda: not world.server.connections)
    await world.stop()


# --- time limits and the end ----------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET / HT", GET % b"x" + b"GET"])
async def test_a_client_that_does_not_send_a_head_is_cut_off(
    world: World, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_WITHIN_S", 0.05)
    monkeypatch.setattr(http_server, "_SWEEP_S", 0.01)
    world.server._sweeping.cancel()  # type: ignore[union-attr]
    world.server._sweeping = background.keep(world.server._sweep, "http-heads")
    with suppress(ConnectionResetError):
        await world.sent(start)
    assert not world.server.connections


async def test_a_stop_waits_for_the_responses_under_way_and_closes_the_others(world: World) -> None:
    go = asyncio.Event()

    async def waits(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
        await go.wait()
        await respond(send, b"done")

    world.handler = waits
    idle, half, busy = [asyncio.create_task(world.sent(start)) for start in (b"", b"GET /", GET % b"x" + GET % b"y")]
    async with asyncio.timeout(60):
        await until(lambda: world.begun == 1 and len(world.server.connections) == 3)
        stopping = asyncio.create_task(world.stop())
        assert (await idle, await half) == (b"", b"")
        go.set()
        assert bodies(await busy) == [b"done"], "the next request is not begun"
        assert await stopping == 0


async def test_a_stop_cuts_off_what_is_not_finished_in_time(world: World) -> None:
    async def hangs(_scope: dict[str, Any], receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    world.handler = hangs
    sending = asyncio.create_task(world.sent(GET % b"x"))
    async with asyncio.timeout(60):
        await until(lambda: world.begun == 1)
        assert await world.stop(0.01) == 1
        with suppress(ConnectionResetError):
            assert await sending == b""
