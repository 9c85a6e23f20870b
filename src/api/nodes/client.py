"""``Peers`` over HTTP: the client of another node's ``routes/peers.py``.

Invariants:
(1) PeerUnreachable means that the other node did not receive the whole call: there was no connection, or a response
    says so. Every other failure is PeerSilent: once a byte is sent, this node cannot know whether the call was
    decided;
(2) this client sends no POST twice, because its caller must know of each attempt. (aiohttp repeats a GET or PUT by
    itself when a kept connection breaks, but no POST);
(3) an idle connection is kept for a shorter time than the other node keeps it, so that a call seldom uses a
    connection that is being closed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from api.nodes.messages import (
    DECIDE,
    ENDS,
    FOLLOW_UPS,
    NOW,
    OPEN_FOLLOW_UPS,
    RECORDS,
    MalformedMessage,
    read_arrived,
    read_ends,
    read_open_follow_ups,
    read_responses,
    write_follow_ups,
    write_requests,
)
from api.nodes.proof import PROOF_HEADER, NodeProofs
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.node.ports import End, OpenFollowUps, PeerSilent, PeerUnreachable
from ledger.tracing import Span
from ledger.writer.requests import AnyResponse, Request

KEPT_S: Final = 5.0
"""How long an idle connection is kept. Chosen: half as long as a node waits for the next request on one."""

_CONNECT_S: Final = 1.0
_READ_S: Final = 2.0
_NOT_DECIDED: Final = frozenset({"shutting_down", "not_owner"})
_BAD_REQUESTS: Final = range(400, 500)
_JSON: Final = {"content-type": "application/json"}


class HttpPeers:
    """One session for all addresses. It opens at the first call, in the event loop of that call."""

    def __init__(self, secret: str | None = None) -> None:
        """``secret``: the cluster's, of which each call carries a proof."""
        self._proofs = None if secret is None else NodeProofs(secret)
        self._session: aiohttp.ClientSession | None = None

    async def decide(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[AnyResponse]:
        body, indexes = write_requests(requests, deadline_us)
        content = await self._exchange("POST", address, DECIDE, body)
        responses: list[AnyResponse] = self._read(read_responses, address, content)
        if len(responses) != len(requests):
            raise PeerSilent(f"the node at {address} sent {len(responses)} responses to {len(requests)} requests")
        return [responses[index] for index in indexes]

    async def deliver(
        self, address: str, follow_ups: Sequence[AnyFollowUp], spans: Sequence[Span | None]
    ) -> Sequence[bool]:
        content = await self._exchange("POST", address, FOLLOW_UPS, write_follow_ups(follow_ups, spans))
        arrived: list[bool] = self._read(read_arrived, address, content)
        if len(arrived) != len(follow_ups):
            raise PeerSilent(f"the node at {address} sent {len(arrived)} responses to {len(follow_ups)} follow-ups")
        return arrived

    async def ends(self, address: str) -> Mapping[int, End]:
        ends: dict[int, End] = self._read(read_ends, address, await self._get(address, ENDS))
        return ends

    async def records(self, address: str, partition: int, from_seq: int, limit: int) -> list[bytes]:
        path = f"{RECORDS}?partition={partition}&from_seq={from_seq}&limit={limit}"
        return (await self._get(address, path)).splitlines()

    async def open_follow_ups(self, address: str, after: Mapping[int, int]) -> Mapping[int, OpenFollowUps]:
        positions = ",".join(f"{partition}:{seq}" for partition, seq in after.items())
        content = await self._get(address, f"{OPEN_FOLLOW_UPS}?after={positions}")
        found: dict[int, OpenFollowUps] = self._read(read_open_follow_ups, address, content)
        return found

    async def now(self, address: str, since_us: int) -> bytes:
        """The node and its last hour, for the operator's page. Raises PeerUnreachable, PeerSilent."""
        return await self._get(address, f"{NOW}?since_us={since_us}")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, address: str, path: str) -> bytes:
        """Returns the response to a call that changes nothing. The caller may repeat it: the time limit is short."""
        try:
            async with asyncio.timeout(_READ_S):
                return await self._exchange("GET", address, path, None)
        except TimeoutError:
            raise PeerSilent(f"the node at {address} did not respond within {_READ_S:g} s") from None

    async def _exchange(self, method: str, address: str, path: str, body: bytes | None) -> bytes:
        """Returns the body of the response. Raises PeerUnreachable, PeerSilent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_JSON,
            )
        proof = {}
        if self._proofs is not None:
            proof[PROOF_HEADER] = self._proofs.make(address, method, path, body or b"")
        try:
            async with self._session.request(
                method, address + path, data=body, headers=proof, allow_redirects=False
            ) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise PeerUnreachable(f"the node at {address} cannot be reached: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise PeerSilent(f"the node at {address} received the call and did not respond: {why}") from error
        if response.status == 200:
            return content
        code, detail = _problem_of(content)
        message = f"the node at {address} responded {response.status} {code}: {detail}"
        if response.status in _BAD_REQUESTS or code in _NOT_DECIDED:
            raise PeerUnreachable(message)
        raise PeerSilent(message)

    def _read(self, reader: Any, address: str, body: bytes) -> Any:
        try:
            return reader(body)
        except MalformedMessage as error:
            raise PeerSilent(f"the response of the node at {address} cannot be read: {error}") from error


class _Problem(msgspec.Struct):
    code: str = "without a code"
    detail: str = ""


def _problem_of(body: bytes) -> tuple[str, str]:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    return problem.code, problem.detail
