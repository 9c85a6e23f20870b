"""Clients of live feeds: server-sent events over httpx, WebSockets over aiohttp.

async with EventSource(service.url, "user_id=u1") as source:
    event = await source.next()                     # Event(id, name, data); heartbeats and comments are left out
"""

import asyncio
import json
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp
import httpx

WITHIN_S: Final = 60.0
"""Chosen: an event arrives after some milliseconds; a loaded machine needs longer."""


class Event(NamedTuple):
    id: str
    name: str
    data: Any


class FeedEnded(Exception):
    """The service ended the feed, or the connection broke."""


class EventSource:
    """One connection to ``/v1/live``. ``bytes_max``: it breaks off there, wherever in an event that is."""

    def __init__(
        self,
        url: str,
        query: str,
        last_id: str = "",
        token: str = "",
        *,
        bytes_max: float = float("inf"),
    ) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=WITHIN_S)
        self._target = f"/v1/live?{query}"
        self._headers = {"Last-Event-ID": last_id} if last_id else {}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._bytes_left = bytes_max
        self._buffer = b""
        self.response: httpx.Response

    async def __aenter__(self) -> Self:
        request = self._client.build_request("GET", self._target, headers=self._headers)
        self.response = await self._client.send(request, stream=True)
        self._parts = self.response.aiter_raw()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.response.aclose()
        await self._client.aclose()

    async def next(self) -> Event:
        """Raises FeedEnded."""
        while True:
            block, separator, rest = self._buffer.partition(b"\n\n")
            if not separator:
                await self._read()
                continue
            self._buffer = rest
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
            if "event" in fields or "id" in fields:
                data = json.loads(fields["data"]) if "data" in fields else None
                return Event(fields.get("id", ""), fields.get("event", ""), data)

    async def _read(self) -> None:
        if self._bytes_left <= 0:
            raise FeedEnded("the test dropped it")
        try:
            async with asyncio.timeout(WITHIN_S):
                part = await anext(self._parts)
        except (StopAsyncIteration, httpx.TransportError) as error:
            raise FeedEnded(repr(error)) from None
        self._buffer += part[: int(min(self._bytes_left, len(part)))]
        self._bytes_left -= len(part)


class SocketSource:
    """The same for one connection to ``/v1/live/ws``; it breaks off after ``messages_max``."""

    def __init__(
        self,
        url: str,
        query: str,
        last_id: str = "",
        token: str = "",
        *,
        messages_max: float = float("inf"),
        **headers: str,
    ) -> None:
        self._url = f"{url}/v1/live/ws?{query}" + (f"&last_event_id={last_id}" if last_id else "")
        self._protocols = ["stakelog", f"bearer.{token}"] if token else []
        self._headers = headers
        self._messages_left = messages_max

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        try:
            self.socket = await self._session.ws_connect(
                self._url, protocols=self._protocols, headers=self._headers, max_msg_size=0
            )
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket._response.close()  # without the closing handshake, as a connection that breaks
        await self._session.close()

    async def next(self) -> Event:
        """Raises FeedEnded."""
        while True:
            if self._messages_left <= 0:
                raise FeedEnded("the test dropped it")
            message = await self.socket.receive(WITHIN_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise FeedEnded(message.type.name)
            self._messages_left -= 1
            fields = json.loads(message.data)
            if fields["event"] != "heartbeat":
                return Event(fields.get("id", ""), fields["event"], fields["data"])
            if "id" in fields:
                return Event(fields["id"], "", None)


class Poster:
    """Posts commands one after the other; each has an id of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._number = 0

    async def post(self, kind: str, user_id: str, **fields: Any) -> Any:
        """The result; a command without a response is posted again."""
        self._number += 1
        command = {"type": kind, "command_id": f"c{self._number}", "user_id": user_id, **fields}
        async with asyncio.timeout(2 * WITHIN_S):
            while True:
                try:
                    async with httpx.AsyncClient(base_url=self.url, timeout=WITHIN_S) as client:
                        response = await client.post("/v1/commands", json=command)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)  # it starts again
                    continue
                if response.status_code < 500:
                    assert response.status_code in (200, 201), response.text
                    return response.json()
                await asyncio.sleep(0.05)
