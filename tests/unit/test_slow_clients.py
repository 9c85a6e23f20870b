"""What a client that sends or reads slowly can make the service keep, and for how long."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli import sockets
from api.http import application, requests
from api.http.application import Rim
from api.http.bounds import UNSENT_MAX, ByteBudget
from api.routes import audit
from ledger.errors import LogUnavailable
from ledger.peers.log_view import LogView
from unit.api_in_memory import InMemoryApi
from unit.given import deposit, open_wallet
from unit.nodes_in_memory import Cluster

LONG = b" " * 100_000
COMMAND = b'{"type":"open_wallet","command_id":"c1","user_id":"u1"}'


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path, 1) as http:
        yield http


class Client:
    """One request whose body is sent, and whose response is read, when the test says so."""

    def __init__(self, http: InMemoryApi, method: str, target: str, app: Rim | None = None) -> None:
        path, _, query = target.partition("?")
        self._scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"stakelog"), (b"content-type", b"application/json")],
        }
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.reads = asyncio.Event()
        app = app or http.app
        self.task = asyncio.create_task(app(self._scope, self._parts.get, self._send))  # type: ignore[arg-type]

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if message.get("more_body"):
            await self.reads.wait()

    def upload(self, body: bytes, *, more: bool) -> None:
        self._parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def pieces(self) -> list[bytes]:
        return [part["body"] for part in self.sent[1:]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the application has no event for a test
            await asyncio.sleep(0.001)


async def ended(client: Client) -> None:
    async with asyncio.timeout(60):
        await client.task


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, b"", COMMAND[:20]])
async def test_a_body_that_stops_is_a_408_and_the_connection_is_closed(
    http: InMemoryApi, monkeypatch: pytest.MonkeyPatch, first: bytes | None
) -> None:
    monkeypatch.setattr(application, "BODY_WITHIN_S", 0.01)
    client = Client(http, "POST", "/v1/commands")
    if first is not None:
        client.upload(first, more=True)
    await ended(client)
    assert client.status == 408
    assert b'"code":"request_timeout"' in client.pieces[0]
    assert client.headers[b"connection"] == b"close"


async def test_a_body_that_comes_in_small_parts_has_one_time_limit_for_all(
    http: InMemoryApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "BODY_WITHIN_S", 0.2)
    client = Client(http, "POST", "/v1/commands")
    async with asyncio.timeout(60):
        while not client.task.done():
            client.upload(b" ", more=True)
            await asyncio.sleep(0.01)
    assert client.status == 408


async def test_all_bodies_that_arrive_are_bounded_together_and_usual_commands_are_never_refused(
    http: InMemoryApi,
) -> None:
    http.app.arriving = ByteBudget(150_000)
    first = Client(http, "POST", "/v1/commands")
    first.upload(LONG, more=True)
    await until(lambda: http.app.arriving.used == len(LONG))
    second = Client(http, "POST", "/v1/commands")
    second.upload(LONG, more=True)
    await until(lambda: len(second.sent) == 2)
    assert (second.status, second.headers[b"retry-after"]) == (503, b"1")
    assert b'"code":"overloaded"' in second.pieces[0]
    second.upload(b"", more=False)
    await ended(second)
    usual = Client(http, "POST", "/v1/commands")
    usual.upload(COMMAND, more=False)
    await ended(usual)
    assert usual.status == 201
    first.upload(COMMAND, more=False)
    await ended(first)
    assert first.status == 200
    assert http.app.arriving.used == 0


async def test_what_another_node_forwards_is_not_refused_for_the_bodies_of_clients(tmp_path: Path) -> None:
    cluster = Cluster(1)
    world = await cluster.node("a")
    whole = LogView(world.node, cluster.members["a"], world.others)
    async with InMemoryApi(tmp_path, 1, started=world, whole=whole, internal=True) as http:
        http.app.arriving = http.inside.arriving = ByteBudget(0)
        for app, path, status in ((http.app, "/v1/commands", 503), (http.inside, "/internal/v1/decide", 400)):
            client = Client(http, "POST", path, app)
            client.upload(LONG, more=False)
            await ended(client)
            assert client.status == status
    await cluster.crash()


# --- responses -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def log(http: InMemoryApi) -> list[bytes]:
    """More than a megabyte of records."""
    texts = {f"k{number}": "x" * 512 for number in range(8)}
    await http.world.given(open_wallet(), *(deposit(1, f"d{number}", metadata=texts) for number in range(300)))
    return http.world.appended.records[0]


async def test_a_long_page_is_sent_in_pieces_that_are_read_while_it_is_sent(
    http: InMemoryApi, log: list[bytes]
) -> None:
    client = Client(http, "GET", "/v1/events?partition=0&limit=10000")
    await until(lambda: len(client.sent) > 1)
    assert b"content-length" not in client.headers
    assert http.app.unsent.used == sum(len(record) + 1 for record in log[:50])
    client.reads.set()
    await ended(client)
    assert max(map(len, client.pieces)) == requests.PIECE_BYTES
    assert b"".join(client.pieces) == b"".join(record + b"\n" for record in log)
    assert http.app.unsent.used == 0


@pytest.mark.parametrize("most", [1, 6_000, 50_000, 1_000_000])
async def test_pages_are_bounded_in_bytes_and_continue_where_they_ended(
    http: InMemoryApi, log: list[bytes], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(audit, "PAGE_BYTES", most)
    monkeypatch.setattr(audit, "_FIRST_RECORDS", 7)
    monkeypatch.setattr(audit, "_PART_BYTES", 20_000)
    read: list[bytes] = []
    while page := (await http.get(f"/v1/events?partition=0&limit=150&from_seq={len(read) + 1}")).body.splitlines():
        assert len(page) <= 150
        assert len(page) == 1 or sum(len(record) + 1 for record in page) <= most
        read += page
    assert read == log


async def test_a_page_ends_early_where_the_log_cannot_be_read_further(
    http: InMemoryApi, log: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_asked: int) -> list[bytes]:
        raise LogUnavailable("the disk is gone")

    client = Client(http, "GET", "/v1/events?partition=0&limit=10000")
    await until(lambda: len(client.sent) > 1)
    monkeypatch.setattr(http.world.log, "read", unreadable)
    client.reads.set()
    await ended(client)
    assert b"".join(client.pieces) == b"".join(record + b"\n" for record in log[:50])
    assert (await http.get("/v1/events?partition=0&from_seq=51")).json()["code"] == "log_unavailable"


async def test_a_client_that_reads_too_slowly_gets_no_more(
    http: InMemoryApi, log: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(log) == 301
    monkeypatch.setattr(requests, "SENT_WITHIN_S", 0.05)
    client = Client(http, "GET", "/v1/events?partition=0&limit=10000")
    await ended(client)
    assert client.sent[-1]["more_body"]
    assert http.app.unsent.used == 0


async def test_beyond_the_bound_of_unsent_bytes_long_reads_are_refused_and_others_are_not(
    http: InMemoryApi, log: list[bytes]
) -> None:
    assert len(log) == 301
    http.app.unsent.used += UNSENT_MAX + 1
    refused = await http.get("/v1/events?partition=0&limit=10000")
    assert (refused.status, refused.json()["code"], refused.headers["retry-after"]) == (503, "overloaded", "1")
    assert (await http.get("/v1/events?partition=0&limit=2")).status == 200
    batch = Client(http, "POST", "/v1/commands/batch")
    batch.reads.set()
    batch.upload(b"[" + b",".join([b'{"type":"x"}'] * 1_000) + b"]", more=False)
    await ended(batch)
    assert batch.status == 200
    assert len(batch.pieces) > 2


async def test_what_another_node_reads_is_not_refused_for_clients_that_read_slowly(tmp_path: Path) -> None:
    cluster = Cluster(1)
    world = await cluster.node("a")
    await cluster.give(a={0})
    await cluster.settled()
    texts = {f"k{number}": "x" * 512 for number in range(8)}
    await world.given(open_wallet(), *(deposit(1, f"d{number}", metadata=texts) for number in range(50)))
    whole = LogView(world.node, cluster.members["a"], world.others)
    async with InMemoryApi(tmp_path, 1, started=world, whole=whole, internal=True) as http:
        http.app.unsent.used = http.inside.unsent.used = UNSENT_MAX + 1
        assert (await http.get("/v1/events?partition=0&limit=100")).status == 503
        records = "/internal/v1/records?partition=0&from_seq=1&limit=100"
        of_a_node = await http.ask("GET", records, app=http.inside)
        assert of_a_node.body == b"\n".join(world.appended.records[0])
    await cluster.crash()


# --- sockets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connected(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection; the client's end has a small buffer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(listener.getsockname())
    return client, listener.accept()[0]


def test_the_kernel_ends_a_connection_whose_client_reads_nothing(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNREAD_MAX_S", 0.5)
    assert sockets.limit_unread(listener.getsockname()[1]) == 1
    client, served = connected(listener)
    with client, served, pytest.raises(TimeoutError) as caught:
        served.sendall(bytes(100_000_000))
    assert caught.value.errno == errno.ETIMEDOUT


def test_all_connections_are_cut_and_the_listening_socket_is_not(listener: socket.socket) -> None:
    (client, served), (other, served_too) = connected(listener), connected(listener)
    with client, served, other, served_too:
        assert sockets.cut_connections(listener.getsockname()[1]) == 2
        assert client.recv(1) == other.recv(1) == b""
    client, served = connected(listener)
    client.close()
    served.close()
