"""A client for measures that look into each response: kept-alive connections with one request under way on each.

`generator` counts responses as cheaply as possible; this client returns the body of each response. For both, a
response must have a ``Content-Length`` and the expected status, or the measure ends with BenchError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import cast

from bench.figures import BenchError
from bench.load.generator import ANSWER_TIMEOUT_S, length_of


class Client(asyncio.Protocol):
    """One connection to 127.0.0.1; made by `connected` or `Pool`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._expected = b""
        self._data = b""
        self._whole = -1
        self._answer: asyncio.Future[bytes] | None = None
        self.took_s = 0.0
        self._sent_at = 0.0

    async def ask(self, request: bytes, expected: bytes = b"200") -> bytes:
        """The body of the response, which must have the status ``expected``. ``took_s`` is its time.

        Raises BenchError.
        """
        assert self._answer is None, "one request at a time"
        if self._transport is None:
            raise BenchError("the service closed a connection")
        self._expected, self._data, self._whole = expected, b"", -1
        self._answer = asyncio.get_running_loop().create_future()
        self._sent_at = perf_counter()
        self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._answer
        except TimeoutError as error:
            raise BenchError(f"no response within {ANSWER_TIMEOUT_S:.0f} s") from error
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(BenchError(f"the service closed a connection{'' if exc is None else f': {exc}'}"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._whole < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            try:
                self._whole = length_of(self._data, end, self._expected)
            except BenchError as error:
                self._fail(error)
                return
            self._data = self._data[end + 4 :]
        if len(self._data) >= self._whole and self._answer is not None and not self._answer.done():
            self.took_s = perf_counter() - self._sent_at
            if len(self._data) > self._whole:
                self._fail(BenchError("a response is longer than its Content-Length"))
            else:
                self._answer.set_result(self._data)

    def _fail(self, error: BenchError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class Pool:
    """Connections for requests that leave on time, whether or not earlier ones have their response."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Client] = []
        self._all: list[Client] = []

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """An idle connection, or a new one. Raises BenchError if none can be made."""
        client = self._idle.pop() if self._idle else await self._opened()
        yield client
        self._idle.append(client)  # after a failure a connection is in an unknown state and is not used again

    async def open(self, count: int) -> None:
        """Open ``count`` connections now, so that none is opened while the clock runs."""
        self._idle += [await self._opened() for _ in range(count - len(self._all))]

    def close(self) -> None:
        for client in self._all:
            client.close()

    async def _opened(self) -> Client:
        try:
            _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", self._port)
        except OSError as error:
            raise BenchError(f"no connection to 127.0.0.1:{self._port}: {error}") from error
        self._all.append(client)
        return client


@asynccontextmanager
async def pool(port: int, ready: int = 1) -> AsyncIterator[Pool]:
    """A pool with ``ready`` connections open; all are closed at the end."""
    connections = Pool(port)
    try:
        await connections.open(ready)
        yield connections
    finally:
        connections.close()
