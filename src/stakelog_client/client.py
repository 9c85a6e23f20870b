"""`Client`: the same calls, blocking. It runs an `AsyncClient` on an event loop in a thread of its own.

Threads may share one client: commands that they post at the same time are sent as one batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from stakelog_client.async_client import AsyncClient
from stakelog_client.events import Event
from stakelog_client.generated.blocking_commands import BlockingCommands
from stakelog_client.generated.blocking_reads import BlockingReads
from stakelog_client.generated.models import Receipt, Result
from stakelog_client.live import LiveEvent

T = TypeVar("T")


class Client(BlockingCommands, BlockingReads):
    """Use it as `with Client(url, client_id, client_secret) as ledger`."""

    def __init__(
        self,
        url: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        *,
        deadline_s: float = 30.0,
        connections: int = 16,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `AsyncClient`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stakelog-client", daemon=True)
        self._thread.start()

        async def make() -> AsyncClient:
            return AsyncClient(
                url,
                client_id,
                client_secret,
                deadline_s=deadline_s,
                connections=connections,
                transport=transport,
            )

        try:
            self._client = self._wait(make())
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As `AsyncClient.close`."""
        if not self._loop.is_closed():
            try:
                self._wait(self._close())
            finally:
                self._end_loop()

    async def _close(self) -> None:
        await self._client.close()

    def post(self, command: Mapping[str, Any], *, deadline_s: float | None = None) -> Result:
        """As `AsyncClient.post`."""
        return self._wait(self._client.post(command, deadline_s=deadline_s))

    def outcome(self, user_id: str, command_id: str, *, deadline_s: float | None = None) -> Result | None:
        """As `AsyncClient.outcome`."""
        return self._wait(self._client.outcome(user_id, command_id, deadline_s=deadline_s))

    def events(self, partition: int, from_seq: int = 1, prev: str | None = None) -> Iterator[Event]:
        """As `AsyncClient.events`."""
        return self._each(self._client.events(partition, from_seq, prev))

    def live(
        self,
        *,
        users: Sequence[str] = (),
        games: Sequence[str] = (),
        after: str | None = None,
        deadline_s: float | None = None,
    ) -> Generator[LiveEvent, None, None]:
        """As `AsyncClient.live`. It blocks until something changes."""
        return self._each(self._client.live(users=users, games=games, after=after, deadline_s=deadline_s))

    def checked_receipt(
        self, position: str, *, keys: bytes | None = None, deadline_s: float | None = None
    ) -> tuple[Receipt, Event]:
        """As `AsyncClient.checked_receipt`."""
        return self._wait(self._client.checked_receipt(position, keys=keys, deadline_s=deadline_s))

    def public_keys(self, *, deadline_s: float | None = None) -> bytes:
        """As `AsyncClient.public_keys`."""
        return self._wait(self._client.public_keys(deadline_s=deadline_s))

    def read(
        self, path: str, parameters: Mapping[str, Any], kind: type[T], user_id: str | None, deadline_s: float | None
    ) -> T:
        """As `AsyncClient.read`."""
        return self._wait(self._client.read(path, parameters, kind, user_id, deadline_s))

    def pages(
        self,
        path: str,
        parameters: Mapping[str, Any],
        kind: type[Any],
        item: type[T],
        user_id: str | None,
        deadline_s: float | None,
    ) -> Iterator[T]:
        """As `AsyncClient.pages`."""
        return self._each(self._client.pages(path, parameters, kind, item, user_id, deadline_s))

    def _each(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        try:
            while True:
                has_more, item = self._wait(following())
                if not has_more:
                    return
                yield item
        finally:
            if isinstance(items, AsyncGenerator) and not self._loop.is_closed():
                self._wait(items.aclose())

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
