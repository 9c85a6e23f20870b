"""A receiver of webhooks on a real socket.

async with Receiver() as receiver:
    ...                                              # something sends to receiver.url
    await receiver.until(lambda: len(receiver.taken) == 3)
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import web
from standardwebhooks.webhooks import Webhook


class Got(NamedTuple):
    """A request. ``status``: how the receiver answered; 0: it never did."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    at_us: int

    @property
    def position(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = msgspec.json.decode(self.body)
        return event

    def is_signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is what the reference implementation makes of the request."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret).sign(self.position, at, self.body.decode())
        return expected in self.headers["webhook-signature"].split(" ")


class Receiver:
    """``decide``: returns the status of the response to a request; 0: there is none, the request hangs; -1: the
    connection is cut."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.decide: Callable[[Got], int] = lambda _: 200
        self.clock: Callable[[], int] = lambda: 0
        self.busy = self.busy_max = 0
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def taken(self) -> list[Got]:
        """What it has taken, in order; what was repeated only the first time."""
        first: dict[str, Got] = {}
        for one in self.got:
            if one.status == 200:
                first.setdefault(one.position, one)
        return list(first.values())

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            got = Got(request.path, headers, await request.read(), 0, self.clock())
            status = self.decide(got)
            self.got.append(got._replace(status=status))
            self._arrived.set()
            if status == 0:
                await asyncio.Event().wait()
            if status == -1:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=max(status, 200), headers={"location": self.url + "/elsewhere"})
        finally:
            self.busy -= 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for requests until the condition is true."""
        async with asyncio.timeout(60):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()
