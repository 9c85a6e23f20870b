"""``Peers`` over HTTP: what ``routes/peers.py`` of another node answers.

Truths:
(1) PeerUnreachable means that the question was not taken whole: no connection, or an answer that says so. Whatever
    else goes wrong is PeerSilent: from the moment that a byte is out, nobody here knows what became of it;
(2) nothing is sent a second time from here, for who asks must know of each time it was asked. aiohttp does so by
    itself for GET and PUT on a kept connection that breaks off, and not for POST;
(3) connections are kept, but for a shorter time than a node keeps an idle one, so that a question seldom meets one
    that is being closed.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from api.nodes.messages import (
    MalformedMessage,
    read_answers,
    read_arrived,
    read_ends,
    read_open_follow_ups,
    write_asking,
    write_follow_ups,
)
from ledger.core.commands import AnyFollowUp
from ledger.node.ports import End, OpenFollowUps, PeerSilent, PeerUnreachable
from ledger.writer.requests import AnyResponse, Request

DECIDE: Final = "/internal/v1/decide"
FOLLOW_UPS: Final = "/internal/v1/follow-ups"
ENDS: Final = "/internal/v1/ends"
RECORDS: Final = "/internal/v1/records"
OPEN_FOLLOW_UPS: Final = "/internal/v1/open-follow-ups"

KEPT_S: Final = 5.0
"""How long an idle connection is kept; chosen: half of what a node waits for the next request on one."""

_CONNECT_S: Final = 1.0
_READ_S: Final = 2.0
_NOT_TAKEN: Final = frozenset({"shutting_down", "not_owner"})
_BAD_REQUESTS: Final = range(400, 500)
_JSON: Final = {"content-type": "application/json"}


class HttpPeers:
    """One session for all addresses; made at the first question, in its loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def decide(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[AnyResponse]:
        body, places = write_asking(requests, deadline_us)
        answer = await self._exchange("POST", address, DECIDE, body)
        answers: list[AnyResponse] = self._read(read_answers, address, answer)
        if len(answers) != len(requests):
            raise PeerSilent(f"the node at {address} gave {len(answers)} answers to {len(requests)} questions")
        return [answers[place] for place in places]

    async def deliver(self, address: str, follow_ups: Sequence[AnyFollowUp]) -> Sequence[bool]:
        answer = await self._exchange("POST", address, FOLLOW_UPS, write_follow_ups(follow_ups))
        arrived: list[bool] = self._read(read_arrived, address, answer)
        if len(arrived) != len(follow_ups):
            raise PeerSilent(f"the node at {address} gave {len(arrived)} answers to {len(follow_ups)} follow-ups")
        return arrived

    async def ends(self, address: str) -> Mapping[int, End]:
        ends: dict[int, End] = self._read(read_ends, address, await self._within(address, ENDS))
        return ends

    async def records(self, address: str, partition: int, from_seq: int, limit: int) -> list[bytes]:
        path = f"{RECORDS}?partition={partition}&from_seq={from_seq}&limit={limit}"
        return (await self._within(address, path)).splitlines()

    async def open_follow_ups(self, address: str, partitions: Collection[int]) -> Mapping[int, OpenFollowUps]:
        answer = await self._within(address, f"{OPEN_FOLLOW_UPS}?partitions={','.join(map(str, partitions))}")
        found: dict[int, OpenFollowUps] = self._read(read_open_follow_ups, address, answer)
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _within(self, address: str, path: str) -> bytes:
        """The answer to a question that changes nothing. It may be asked again, so nobody waits for it long."""
        try:
            async with asyncio.timeout(_READ_S):
                return await self._exchange("GET", address, path, None)
        except TimeoutError:
            raise PeerSilent(f"the node at {address} did not answer within {_READ_S:g} s") from None

    async def _exchange(self, method: str, address: str, path: str, body: bytes | None) -> bytes:
        """The body of the answer. Raises PeerUnreachable, PeerSilent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_JSON,
            )
        try:
            async with self._session.request(method, address + path, data=body, allow_redirects=False) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise PeerUnreachable(f"the node at {address} cannot be reached: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise PeerSilent(f"the node at {address} was asked and did not answer: {why}") from error
        if response.status == 200:
            return content
        code, detail = _problem_of(content)
        said = f"the node at {address} answered {response.status} {code}: {detail}"
        if response.status in _BAD_REQUESTS or code in _NOT_TAKEN:
            raise PeerUnreachable(said)
        raise PeerSilent(said)

    def _read(self, reader: Any, address: str, body: bytes) -> Any:
        try:
            return reader(body)
        except MalformedMessage as error:
            raise PeerSilent(f"the answer of the node at {address} cannot be read: {error}") from error


class _Said(msgspec.Struct):
    code: str = "without a code"
    detail: str = ""


def _problem_of(body: bytes) -> tuple[str, str]:
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = _Said()
    return said.code, said.detail
