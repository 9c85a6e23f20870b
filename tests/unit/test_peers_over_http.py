"""``HttpPeers`` over real sockets: the other node responds, closes, hangs or sends half; and the routes of a node."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from api.composition.application import Listening, build_applications
from api.http.problems import Problem
from api.nodes.client import HttpPeers
from api.nodes.messages import (
    DECIDE,
    ENDS,
    FOLLOW_UPS,
    OPEN_FOLLOW_UPS,
    RECORDS,
    MalformedMessage,
    read_ends,
    read_open_follow_ups,
    read_requests,
    read_responses,
    write_requests,
    write_responses,
)
from api.nodes.proof import PROOF_HEADER, NodeProofs, NotProven
from ledger.core.follow_up_commands import ReceiveTransfer
from ledger.node.ports import End, PeerSilent, PeerUnreachable
from ledger.operations.seals import SealFile
from ledger.writer.requests import (
    Accepted,
    CommandRequest,
    LookupRequest,
    Refused,
    Request,
    RequestGroup,
    WalletRead,
    WalletRequest,
)
from properties.jumping_loop import in_skipped_time
from unit.cluster_in_memory import ClusterInMemory
from unit.given import NOON, deposit, open_wallet, place_bet
from unit.node_in_memory import request_sha256

Served = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""(the request's body, reader, writer): responds to one request, or does not."""


class Listener:
    """A server that handles each request with ``serve``. ``heads``: the first lines of the requests."""

    def __init__(self) -> None:
        self.address = ""
        self.heads: list[str] = []
        self.headers: list[str] = []
        """All headers of the last request."""
        self.connections = 0
        self.serve: Served = respond(200, write_responses([None]))
        self.writers: list[asyncio.StreamWriter] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.split(b"\r\n")[0].decode())
                self.headers = head.decode().split("\r\n")[1:]
                length = next(
                    (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0
                )
                await self.serve(await reader.readexactly(length), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener._connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    listener.address = f"http://127.0.0.1:{port}"
    try:
        yield listener
    finally:
        server.close()
        for writer in listener.writers:
            writer.close()
        await server.wait_closed()


def respond(status: int, body: bytes) -> Served:
    async def serve(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()

    return serve


def problem(code: str) -> bytes:
    return Problem(code, "for a reason").encoded()


async def close_at_once(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionError


async def reset(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    raise ConnectionError


async def half_a_head(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    writer.close()
    raise ConnectionError


async def half_a_body(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[["noth')
    writer.close()
    raise ConnectionError


async def not_http(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n")


def lookup() -> list[Request]:
    return [LookupRequest("u1", "c1", RequestGroup(1))]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[HttpPeers, Listener]]:
    async with listening() as listener:
        peers = HttpPeers()
        try:
            yield peers, listener
        finally:
            await peers.close()


async def test_connections_are_kept() -> None:
    async with connected() as (peers, listener):
        for _ in range(5):
            assert await peers.decide(listener.address, lookup(), NOON) == [None]
        assert listener.connections == 1
        assert listener.heads == [f"POST {DECIDE} HTTP/1.1"] * 5


async def test_each_call_proves_that_the_sender_knows_the_cluster_secret_without_sending_it() -> None:
    async with listening() as listener:
        for secret in ("5ec2e7", None):
            peers = HttpPeers(secret)
            await peers.decide(listener.address, lookup(), NOON)
            await peers.close()
            carried = [line for line in listener.headers if line.lower().startswith(f"{PROOF_HEADER}:")]
            assert len(carried) == (0 if secret is None else 1)
            assert "5ec2e7" not in str(listener.headers)
            if secret is not None:
                proofs, proof = NodeProofs(secret, listener.address), carried[0].partition(": ")[2].encode()
                body, _ = write_requests(lookup(), NOON)
                proofs.check(proof, "POST", DECIDE).add({"body": body})
                for receiver in (NodeProofs(secret, "http://another:1"), NodeProofs("another", listener.address)):
                    with pytest.raises(NotProven):
                        receiver.check(proof, "POST", DECIDE)


async def test_a_refused_connection_is_unreachable() -> None:
    async with listening() as listener:
        gone = listener.address
    peers = HttpPeers()
    for address in (gone, "http://no-such-host.invalid:1", "no address"):
        with pytest.raises(PeerUnreachable):
            await peers.decide(address, lookup(), NOON)
    await peers.close()


@pytest.mark.parametrize("serve", [close_at_once, reset, half_a_head, half_a_body, not_http])
async def test_a_broken_connection_is_silent_and_the_call_is_sent_once(serve: Served) -> None:
    """Also on a kept connection: after a hidden second attempt a refusal would look final."""
    async with connected() as (peers, listener):
        listener.serve = serve
        with pytest.raises(PeerSilent):
            await peers.decide(listener.address, lookup(), NOON)
        listener.serve = respond(200, write_responses([None]))
        await peers.decide(listener.address, lookup(), NOON)
        listener.serve, calls = serve, len(listener.heads)
        with pytest.raises(PeerSilent):
            await peers.decide(listener.address, lookup(), NOON)
        assert len(listener.heads) == calls + 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"[]"),
        (200, b'[["accepted",{},"h",false]]'),
        (200, b'[["of_a_later_release"]]'),
        (200, b"<html>"),
        (200, b"\xff"),
        (302, b""),
        (500, problem("internal_error")),
        (502, b"<html>a gateway</html>"),
        (503, problem("outcome_unknown")),
    ],
)
async def test_an_unreadable_response_counts_as_silent(status: int, body: bytes) -> None:
    async with connected() as (peers, listener):
        listener.serve = respond(status, body)
        with pytest.raises(PeerSilent):
            await peers.decide(listener.address, lookup(), NOON)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, problem("unauthenticated")),
        (404, problem("not_found")),
        (400, problem("malformed_request")),
        (503, problem("shutting_down")),
        (413, b""),
    ],
)
async def test_a_response_that_says_nothing_was_decided_is_unreachable(status: int, body: bytes) -> None:
    async with connected() as (peers, listener):
        listener.serve = respond(status, body)
        with pytest.raises(PeerUnreachable):
            await peers.decide(listener.address, lookup(), NOON)


async def test_an_idle_connection_that_was_closed_is_not_used_again() -> None:
    async with connected() as (peers, listener):
        for _ in range(20):
            await peers.decide(listener.address, lookup(), NOON)
            listener.writers[-1].close()
            await listener.writers[-1].wait_closed()
            await asyncio.sleep(0.001)  # so that the client's event loop sees the close
        assert listener.connections == 20


async def test_a_hanging_node_is_given_up_after_the_time_limit() -> None:
    async with connected() as (peers, listener):

        async def hang(_: bytes, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3_600)

        listener.serve = hang
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await peers.decide(listener.address, lookup(), NOON)
        listener.serve = respond(200, write_responses([None]))
        assert await peers.decide(listener.address, lookup(), NOON) == [None]
        assert listener.connections == 2, "the late response is not used for the next request"


async def test_responses_match_their_requests_in_any_grouping() -> None:
    one, other = RequestGroup(2), RequestGroup(1)
    requests: list[Request] = [
        LookupRequest("u1", "c1", one),
        WalletRequest("u2", other),
        LookupRequest("u3", "c3", one),
    ]
    body, places = write_requests(requests, NOON)
    arrived, deadline_us = read_requests(body)
    assert deadline_us == NOON
    assert [arrived[place].user_id for place in places] == ["u1", "u2", "u3"]
    assert arrived[0].group is arrived[1].group
    assert arrived[0].group.open == 2


# --- the routes of a node ------------------------------------------------------------------------------------------


class Nothing(Collector):
    """Gauges without a read model."""

    def collect(self) -> list[Metric]:
        return []

    pids: ClassVar[dict[str, int]] = {}


async def called(cluster: ClusterInMemory, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """The response of node ``a``, through the application that its server calls."""
    site = cluster["a"]

    no_reads: Any = None
    nothing: Any = Nothing()
    no_feeds: Any = None
    seals = SealFile(Path("seals.ndjson"))
    listening = Listening(internal=True)
    _, app = build_applications(site.node, no_reads, nothing, "http://a", site.log_view, seals, listening, no_feeds)
    assert app is not None
    path, _, query = target.partition("?")
    scope: Any = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@in_skipped_time
async def test_a_node_decides_for_its_own_partitions_and_forwards_nothing() -> None:
    async with ClusterInMemory() as cluster:
        mine, theirs = cluster.user(0), cluster.user(1)
        group = RequestGroup(4)
        commands = [open_wallet(user_id=mine), deposit(5, user_id=mine), place_bet(6, user_id=mine)]
        commands.append(open_wallet(user_id=theirs))
        requests: list[Request] = [CommandRequest(c, request_sha256(c), "shop", group) for c in commands]
        requests.append(WalletRequest(mine, RequestGroup(1)))
        body, _ = write_requests(requests, cluster.clock() + 1_000_000)
        status, content = await called(cluster, "POST", DECIDE, body)
        assert status == 200
        opened, deposited, refused, foreign, read = read_responses(content)
        assert isinstance(opened, Accepted)
        assert isinstance(deposited, Accepted)
        assert deposited.event.actor == "shop"
        assert isinstance(refused, Refused)
        assert getattr(foreign, "reason", None) == "not_owner"
        assert isinstance(read, WalletRead)
        assert cluster["a"].peers.calls == []
        late, _ = write_requests(late_deposit(mine), cluster.clock() - 1)
        _, content = await called(cluster, "POST", DECIDE, late)
        assert getattr(read_responses(content)[0], "reason", None) == "not_owner"


def late_deposit(user_id: str) -> list[Request]:
    command = deposit(7, "o-late", user_id=user_id)
    return [CommandRequest(command, request_sha256(command), "shop", RequestGroup(1))]


@in_skipped_time
async def test_a_node_serves_the_ends_and_records_of_its_partitions() -> None:
    async with ClusterInMemory() as cluster:
        head = cluster.appended.heads[0]
        status, body = await called(cluster, "GET", ENDS)
        assert (status, read_ends(body)) == (200, {0: End(*head, cluster.events()[0].time_us)})
        status, body = await called(cluster, "GET", f"{OPEN_FOLLOW_UPS}?after=0:0,1:0,7:12")
        assert (status, read_open_follow_ups(body)) == (200, {0: (head.seq, [])})
        status, body = await called(cluster, "GET", f"{RECORDS}?partition=0&from_seq=1&limit=10")
        assert (status, body.splitlines()) == (200, cluster.appended.records[0])
        status, body = await called(cluster, "GET", f"{RECORDS}?partition=1&from_seq=1&limit=10")
        assert (status, msgspec.json.decode(body)["code"]) == (503, "not_owner")


@in_skipped_time
async def test_a_follow_up_counts_as_arrived_only_once_it_is_durable() -> None:
    async with ClusterInMemory() as cluster:
        names = {"command_id": "~x:0", "cause": "1:1", "cause_time_us": NOON, "transfer_id": "t", "asset": "INR"}
        follow_ups = [
            ReceiveTransfer(user_id=cluster.user(partition), from_user_id="u", amount=1, **names)  # type: ignore[arg-type]
            for partition in (0, 1)
        ]
        status, body = await called(cluster, "POST", FOLLOW_UPS, msgspec.json.encode(follow_ups))
        assert (status, msgspec.json.decode(body)) == (200, [True, False])
        assert cluster.types(cluster.user(0)) == ["transfer_refused"]


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("GET", DECIDE, b"", "method_not_allowed"),
        ("POST", ENDS, b"", "method_not_allowed"),
        ("POST", OPEN_FOLLOW_UPS, b"", "method_not_allowed"),
        ("GET", OPEN_FOLLOW_UPS, b"", "malformed_request"),
        ("GET", f"{OPEN_FOLLOW_UPS}?partitions=0,a", b"", "malformed_request"),
        ("POST", DECIDE, b"{", "malformed_request"),
        (
            "POST",
            DECIDE,
            b'{"deadline_us":1,"requests":[[["command",{"type":"no"},"","",false]]]}',
            "malformed_request",
        ),
        ("POST", FOLLOW_UPS, b"[1]", "malformed_request"),
        ("GET", f"{RECORDS}?partition=7&from_seq=1&limit=1", b"", "malformed_request"),
    ],
)
async def test_a_malformed_call_is_refused_as_a_whole(method: str, target: str, body: bytes, code: str) -> None:
    async with ClusterInMemory() as cluster:
        status, content = await called(cluster, method, target, body)
        assert msgspec.json.decode(content)["code"] == code
        assert 400 <= status < 500


@pytest.mark.parametrize("body", [b"", b"[", b"[[1]]", b"{}"])
def test_bytes_that_are_not_a_message_raise_malformed_message(body: bytes) -> None:
    for read in (read_responses, read_requests, read_ends, read_open_follow_ups):
        with pytest.raises(MalformedMessage):
            read(body)
