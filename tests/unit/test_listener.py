"""What one HTTP server bounds: the time for headers, idle connections, the length of headers, and all connections."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from api.cli import listener
from api.cli.listener import CannotListen, Listener, resolve_free
from api.cli.open_files import FOR_OTHERS
from api.composition.network import Address
from api.http import application
from deploy.local.server import free_port
from unit.api_in_memory import InMemoryApi

LONG = 1_000_000
REQUEST = b"GET / HTTP/1.1\r\nhost: stakelog\r\n\r\n"


async def ok(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": ()})
    await send({"type": "http.response.body", "body": b"ok"})


async def _http_only(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await ok(scope, receive, send)


class HttpOnly:
    """An application without WebSockets."""

    sockets = None

    def __init__(self, serve: Any) -> None:
        self._serve = serve

    async def __call__(self, *arguments: Any) -> None:
        await self._serve(*arguments)


@asynccontextmanager
async def listening(connections_max: int = 100, app: Any = _http_only) -> AsyncIterator[Listener]:
    served: Any = HttpOnly(app)
    one = Listener(served, resolve_free(Address("127.0.0.1", free_port()), "STAKELOG_PORT"), connections_max)
    await one.start()
    try:
        yield one
    finally:
        await one.end()


async def connected(one: Listener, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(one.address.host, one.address.port)
    writer.write(sent)
    return reader, writer


async def all_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(60):
        return await reader.read()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_HEADERS_WITHIN_MS", 300)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: stakelog\r\nx: "])
async def test_a_connection_whose_headers_do_not_come_is_closed(sent: bytes) -> None:
    async with listening() as one:
        reader, writer = await connected(one, sent)
        assert await all_of(reader) == b""
        writer.close()


@pytest.mark.usefixtures("hurried")
async def test_headers_that_come_byte_by_byte_have_one_time_limit_for_all() -> None:
    async with listening() as one:
        reader, writer = await connected(one, b"GET / HTTP/1.1\r\nhost: stakelog\r\nx: ")
        ended = asyncio.ensure_future(all_of(reader))
        while not ended.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        assert ended.exception() is not None or ended.result() == b""
        writer.close()


@pytest.mark.usefixtures("hurried")
async def test_a_connection_that_is_idle_after_a_response_is_closed() -> None:
    async with listening() as one:
        reader, writer = await connected(one, REQUEST)
        assert (await all_of(reader)).endswith(b"ok")
        writer.close()


@pytest.mark.parametrize("header", [b"x" * (LONG - 3) + b": 1", b"\r\n".join(b"x%d: 1" % n for n in range(200))])
async def test_headers_that_are_too_long_or_too_many_are_refused(header: bytes) -> None:
    async with listening() as one:
        reader, writer = await connected(one, b"GET / HTTP/1.1\r\nhost: stakelog\r\n" + header + b"\r\n\r\n")
        try:
            assert (await all_of(reader)).startswith(b"HTTP/1.1 431 ")
        except ConnectionError:
            assert len(header) == LONG, "closed while a long header was still being sent"
        writer.close()


@pytest.mark.parametrize("body", [b"", b'{"type":'], ids=["no body", "a part of the body"])
async def test_after_a_408_the_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(listener, "_HEADERS_WITHIN_MS", 3_600_000)  # so it is not closed because it is idle
    monkeypatch.setattr(application, "BODY_WITHIN_S", 0.1)
    async with InMemoryApi(tmp_path, 1) as http, listening(app=http.app) as one:
        head = b"POST /v1/commands HTTP/1.1\r\nhost: stakelog\r\ncontent-type: application/json\r\n"
        reader, writer = await connected(one, head + b"content-length: 99\r\n\r\n" + body)
        async with asyncio.timeout(60):
            response = await reader.readuntil(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 408 ")
        writer.write(b" " * (99 - len(body)) + b"GET /healthz HTTP/1.1\r\nhost: stakelog\r\n\r\n")
        with suppress(ConnectionError):
            assert b"HTTP/1.1 " not in await all_of(reader), "nothing else is served on this connection"
        writer.close()


async def test_beyond_the_bound_a_connection_waits_until_another_one_ends() -> None:
    async with listening(connections_max=2) as one:
        held = [await connected(one, REQUEST) for _ in range(2)]
        for reader, _ in held:
            assert b"200 OK" in await reader.readuntil(b"ok")
        reader, writer = await connected(one, REQUEST)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        held[0][1].close()
        async with asyncio.timeout(60):
            assert b"200 OK" in await reader.readuntil(b"ok")
        for other in (writer, held[1][1]):
            other.close()


async def test_a_name_is_resolved_and_a_taken_port_is_refused() -> None:
    async with listening() as one:
        assert resolve_free(Address("localhost", free_port()), "STAKELOG_PORT").host in ("127.0.0.1", "::1")
        with pytest.raises(
            CannotListen, match=r"cannot listen on .*: .*, set STAKELOG_INTERNAL to another one; otherwise"
        ):
            resolve_free(one.address, "STAKELOG_INTERNAL")


@pytest.mark.parametrize(
    ("soft", "hard", "fit"),
    [(256, 10_000, 1_000), (1_000 + FOR_OTHERS, 10_000, 1_000), (256, 256, 128), (1_024, 1_500, 750)],
)
def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be_and_bounds_connections(
    soft: int, hard: int, fit: int
) -> None:
    if hard > resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 0:
        pytest.skip("this machine allows fewer open files")
    script = (
        "import resource; from api.cli.open_files import allow_connections\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "print(allow_connections(1_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split()] == [fit, max(soft, min(hard, 1_000 + FOR_OTHERS))]
