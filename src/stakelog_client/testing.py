"""A ledger for the tests of a game server: the real core in memory, and a clock that only the test moves.

    with Ledger() as ledger:
        ledger.open_wallet("grace")
        ledger.deposit("grace", order_id="dep-1", asset="INR", amount=10_000)
        ledger.advance(hours=1)

`Ledger` has the calls of `Client`. `Ledger.async_client` makes an `AsyncClient` of the same ledger, for code on
asyncio. The pytest fixture is in `pytest_plugin`. It needs the distribution `stakelog`, in which the core is:
`pip install stakelog_client[testing]`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import httpx

from stakelog_client.async_client import AsyncClient
from stakelog_client.client import Client

T = TypeVar("T")

URL: Final = "http://stakelog-in-memory"
START: Final = datetime(2027, 1, 4, 12, tzinfo=UTC)
"""When a ledger begins, unless told: a Monday, at noon."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Ledger(Client):
    """A ledger of its own, with the calls of `Client`. Time does not move, except in `advance`.

    A read shows all that was written before it, follow-ups included: a transfer has arrived, a commission is paid.
    There is no login, and there are no seals.
    """

    def __init__(
        self,
        *,
        now: datetime = START,
        rules: Mapping[str, Any] | None = None,
        assets: str = "INR:2,USDT:6,GOLD:0",
        partitions: int = 4,
    ) -> None:
        """`now`: the time at the start, with a time zone. `rules`: as in the service's file of rules. `assets`: as in
        its setting STAKELOG_ASSETS. Raises ValueError if one of them is malformed."""
        from api.composition.in_memory import InMemoryService

        self._service = InMemoryService(_us(now), rules=rules, assets=assets, partitions=partitions)
        direct = _Transport(self._service)
        super().__init__(URL, transport=direct)
        direct.loop = self._loop
        try:
            self._wait(self._service.start())
        except BaseException:
            self._end_loop()
            raise

    @property
    def now(self) -> datetime:
        """The time of the ledger."""
        return _EPOCH + timedelta(microseconds=self.now_us)

    @property
    def now_us(self) -> int:
        """The same, as events have it: Unix microseconds, UTC."""
        return self._service.now_us

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move the time forward. What is due on the way happens at its own time: holds and bonuses expire, periods
        close, commissions are paid."""
        by = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if by < timedelta():
            raise ValueError("time does not go back")
        self._wait(self._service.advance(by // _MICROSECOND))

    def async_client(self, *, actor: str | None = None, deadline_s: float = 30.0) -> AsyncClient:
        """A client of this ledger for code on asyncio, in any event loop. `actor`: as in `transport`."""
        return AsyncClient(URL, transport=self.transport(actor=actor), deadline_s=deadline_s)

    def transport(self, *, actor: str | None = None) -> httpx.AsyncBaseTransport:
        """For code that makes its own client: `Client(url, transport=ledger.transport())`. `actor`: who posts; an
        adjustment, for example, is approved by another actor than proposed it."""
        transport = _Transport(self._service, actor)
        transport.loop = self._loop
        return transport

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            await self._service.stop()


def _us(time: datetime) -> int:
    if time.tzinfo is None:
        raise ValueError("the time at the start needs a time zone")
    return (time - _EPOCH) // _MICROSECOND


class _Transport(httpx.AsyncBaseTransport):
    """Hands requests to the service, which runs in `loop`. The caller may be in another loop."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, service: Any, actor: str | None = None) -> None:
        self._service, self._actor = service, actor

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        if self._actor is not None:
            headers.append((b"stakelog-actor", self._actor.encode()))
        exchange = _Exchange(self._service, request, headers, await request.aread())
        await self._in_loop(exchange.begin())
        return httpx.Response(exchange.status, headers=exchange.headers, stream=_Stream(self, exchange))

    async def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, transport: _Transport, exchange: _Exchange) -> None:
        self._transport, self._exchange = transport, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while part := await self._transport._in_loop(self._exchange.next_part()):
            yield part

    async def aclose(self) -> None:
        await self._transport._in_loop(self._exchange.close())


class _Exchange:
    """One request and its response, in the loop of the service. `begin` comes first, `close` last."""

    def __init__(self, service: Any, request: httpx.Request, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        path, _, query = request.url.raw_path.partition(b"?")
        self._service, self._body = service, body
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._ended = False
        self._error: Exception | None = None
        self._sent_body = False

    async def begin(self) -> None:
        """Return once the response has a status."""
        self._changed, self._gone = asyncio.Event(), asyncio.Event()
        if self._scope["method"] == "GET":
            await self._service.settle()
        self._task = asyncio.create_task(self._run())
        await self._until(lambda: bool(self.status))

    async def next_part(self) -> bytes:
        """The next bytes of the body; empty at its end."""
        await self._until(lambda: bool(self._parts))
        found = b"".join(self._parts)
        self._parts.clear()
        return found

    async def close(self) -> None:
        """The client has read enough. A request that is under way is still carried out."""
        self._gone.set()
        if self.headers and (b"content-type", b"text/event-stream") in self.headers:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            await self._service.app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - the reader of the response gets it
            self._error = error
        finally:
            self._ended = True
            self._changed.set()

    async def _until(self, is_there: Callable[[], bool]) -> None:
        """Return once `is_there`, or the response has ended. Raises httpx.RemoteProtocolError if it broke off."""
        while not is_there():
            if self._error is not None or (self._ended and not self.status):
                raise httpx.RemoteProtocolError("the service sent no whole response") from self._error
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _receive(self) -> dict[str, Any]:
        if not self._sent_body:
            self._sent_body = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif body := message.get("body", b""):
            self._parts.append(body)
        self._changed.set()
