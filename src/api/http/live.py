"""Live feeds as server-sent events: a response that lasts until its client leaves or the hub drops the feed.

An event has ``id``, ``event`` and ``data``, one line of JSON; the first one may have only an ``id``, ``dropped`` has
none. A heartbeat is a comment. ``sockets`` sends the same over WebSockets.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from api.http.asgi import Receive
from ledger import background
from projections.live.feed import HEARTBEAT, Feed, Message
from projections.live.hub import Hub

MEDIA_TYPE: Final = b"text/event-stream"
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events before it sends them
)
_RETRY: Final = b"retry: 1000\n\n"
"""Browsers connect again 1,000 ms after a break."""


class Opened:
    """An open feed with its connection: when the client leaves, the feed ends; when the hub cuts the feed, the
    current task, which serves the connection, is cancelled. The caller must call ``close`` in every case."""

    def __init__(self, hub: Hub, feed: Feed, receive: Receive) -> None:
        self.feed = feed
        self._hub = hub
        task = asyncio.current_task()
        assert task is not None
        feed.cut = task.cancel
        self._watching = background.start(_leave_when_gone(feed, receive), "live-feed-client")

    async def close(self) -> None:
        """Remove the feed from the hub, and stop receiving: the server closes a WebSocket only after that."""
        self.feed.cut = None
        self._hub.remove(self.feed)
        self._watching.cancel()
        await asyncio.wait({self._watching})


async def _leave_when_gone(feed: Feed, receive: Receive) -> None:
    while True:
        message: Any = await receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            feed.leave()
            return


class EventStream(Opened):
    """The feed as the body of a response."""

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body piece by piece, until the feed ends."""
        yield _RETRY
        while messages := await self.feed.waiting():
            yield encoded(messages)


def encoded(messages: Sequence[Message]) -> bytes:
    """The messages as server-sent events, one after the other."""
    return b"".join(map(_encoded, messages))


def _encoded(message: Message) -> bytes:
    name, last_id, data = message
    if name == HEARTBEAT:
        return b":\n\n"
    lines = b"id: %b\n" % last_id.encode() if last_id else b""
    if name:
        lines += b"event: %b\ndata: %b\n" % (name.encode(), data)
    return lines + b"\n"
