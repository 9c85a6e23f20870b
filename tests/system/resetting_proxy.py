"""A TCP proxy in a thread, in front of a server, that resets or freezes connections when a test tells it to.

with ResettingProxy() as proxy, running(Kafka(settings=proxy.advertised())) as kafka:
    proxy.to(kafka.port)
    ...
    await proxy.reset_one()
"""

import asyncio
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close with RST, at once."""


class ResettingProxy:
    """Forwards connections to ``port`` of this machine from ``to`` on."""

    def __init__(self) -> None:
        self.port = 0
        self.resets = 0
        self.frozen = 0
        """Connections, counted from the first one, that are frozen."""
        self.connections = 0
        self._ends = asyncio.Event()
        self._upstream = 0
        self._chance = random.Random(7)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="resetting-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    def advertised(self) -> str:
        """Broker settings that lead every client of the plain listener through this proxy."""
        return f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port},SECURE://127.0.0.1:1\n"

    def to(self, port: int) -> None:
        self._upstream = port

    async def reset_one(self) -> None:
        """Reset one connection, chosen at random, on both of its sides; waits until there is one."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._reset_one(), self._loop))

    def freeze(self) -> int:
        """Forward nothing more on the connections that are open, and close none of them. Returns their number. New
        connections work."""
        frozen, self.frozen = self.frozen, self.connections
        return self.frozen - frozen

    async def _reset_one(self) -> None:
        while not (pairs := self._open_pairs()):  # noqa: ASYNC110 - connections are made by other processes
            await asyncio.sleep(0.005)
        pair = self._chance.choice(pairs)
        for writer in pair:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self.resets += 1

    def _open_pairs(self) -> list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]]:
        return sorted((pair for pair in self._pairs if not any(end.is_closing() for end in pair)), key=id)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        number, pair = self.connections, (writer, up_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(number, reader, up_writer),
                self._pump(number, up_reader, writer),
            )
        finally:
            for end in pair:
                end.close()
            # An end whose peer reads nothing stays open: ``_end`` has to find it among the pairs.
            await asyncio.gather(*(end.wait_closed() for end in pair), return_exceptions=True)
            self._pairs.discard(pair)

    async def _pump(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if number <= self.frozen:
                    await self._ends.wait()
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # reset: the other direction ends with it
        finally:
            writer.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        # asyncio forgets to close a connection that it accepts in the turn of the loop in which a server is closed.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        self._server.close()
        self._ends.set()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for pair in self._pairs:
                for writer in pair:
                    writer.transport.abort()
            await asyncio.wait(others, timeout=0.1)  # a connection that was being made is one of the pairs then

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
