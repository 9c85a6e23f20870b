"""Clients that retry until a command is accepted, while nodes come and go: how long a partition is interrupted.

1. Each partition has one client. It knows no owner: it uses the node of its last response, and after a failure the
   next node, under the same ``command_id``, until the command is accepted.
2. A command's time is from its first request to its acceptance, with all waits and retries. A partition was
   interrupted for the time of its longest command. So a command that waits inside a node counts, too.
3. Accepted is 201 or 200. A command cannot be refused: any other response than a 503 ends the measure. A command that
   is not accepted after ``GIVEN_UP_S`` has failed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from itertools import count
from time import perf_counter, sleep
from types import TracebackType
from typing import Self

import aiohttp
import uvloop
from msgspec import Struct

from bench.figures import BenchError
from bench.load import bodies
from ledger.core.position import partition_of

GIVEN_UP_S = 60.0
OTHER_NODE_AFTER_S = 2.5
"""The wait before the next node is tried. Chosen: longer than a node keeps a command while its partition moves."""
PAUSE_S = 0.01
"""Between two commands of a client: 16 clients make some hundred commands a second, a small load for two cores."""
AGAIN_S = 0.01
ENDS_S = 2 * GIVEN_UP_S
_ACCEPTED = (200, 201)
_NOT_NOW = 503
_JSON = {"content-type": "application/json"}


class Finished(Struct, frozen=True):
    """A command that was accepted, or failed."""

    partition: int
    ended_at_s: float
    took_s: float
    requests: int
    failed: bool


def wallets_in(partitions: int) -> list[int]:
    """For each partition the first wallet of the bench that is in it."""
    found: dict[int, int] = {}
    for wallet in range(bodies.WALLETS):
        found.setdefault(partition_of(f"w-{wallet:07d}", partitions), wallet)
    return [found[partition] for partition in range(partitions)]


def longest_s(
    finished: Sequence[Finished], under_way: Sequence[tuple[int, float]], since_s: float, among: Collection[int]
) -> dict[int, float]:
    """The time of the longest command by partition of ``among``: of commands that ended after ``since_s``, or are
    under way. ``under_way``: partition and seconds so far."""
    longest = dict.fromkeys(among, 0.0)
    ended = [(one.partition, one.took_s) for one in finished if one.ended_at_s >= since_s]
    for partition, took_s in (*ended, *under_way):
        if partition in longest:
            longest[partition] = max(longest[partition], took_s)
    return longest


class RetryingClients:
    """Use as a context manager; its wallets are open and funded. Raises BenchError at the end of the block."""

    def __init__(self, urls: Callable[[], list[str]], partitions: int, tag: str) -> None:
        """``urls``: returns the running nodes; called after each failure, from another thread."""
        self._urls, self._tag = urls, tag
        self._wallets = wallets_in(partitions)
        self.finished: list[Finished] = []
        self._began_at_s: dict[int, float] = {}
        self._over = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def longest_s(self, since_s: float, among: Collection[int]) -> dict[int, float]:
        """See above; ``since_s`` is of ``perf_counter``. Raises BenchError if the clients have ended."""
        self._refuse_ended()
        now = perf_counter()
        under_way = [(partition, now - began_at_s) for partition, began_at_s in list(self._began_at_s.items())]
        return longest_s(list(self.finished), under_way, since_s, among)

    def play(self, for_s: float) -> None:
        """Let the clients run for ``for_s``. Raises BenchError if they ended."""
        sleep(for_s)
        self._refuse_ended()

    def _refuse_ended(self) -> None:
        if self._trouble is not None:
            raise BenchError(f"the clients ended: {self._trouble}")

    # --- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            uvloop.run(self._play())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._trouble = error

    async def _play(self) -> None:
        timeout = aiohttp.ClientTimeout(total=OTHER_NODE_AFTER_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            clients = (self._client(session, *place) for place in enumerate(self._wallets))
            await asyncio.gather(*clients)

    async def _client(self, session: aiohttp.ClientSession, partition: int, wallet: int) -> None:
        url = ""
        for number in count():
            if self._over.is_set():
                return
            (body,) = bodies.bets(f"{self._tag}x{partition}x{number}", [wallet])
            began = perf_counter()
            self._began_at_s[partition] = began
            requests = 1
            url = url or self._after("", partition)
            while not (accepted := await self._ask(session, url, body)):
                if perf_counter() - began > GIVEN_UP_S:
                    break
                requests += 1
                url = self._after(url, partition)
                await asyncio.sleep(AGAIN_S)
            ended = perf_counter()
            del self._began_at_s[partition]
            self.finished.append(Finished(partition, ended, ended - began, requests, not accepted))
            await asyncio.sleep(PAUSE_S)

    def _after(self, url: str, partition: int) -> str:
        """The next of the nodes that run; the first one is another for each partition."""
        urls = self._urls()
        return urls[(urls.index(url) + 1 if url in urls else partition) % len(urls)]

    async def _ask(self, session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
        """Whether it was accepted; False if another node must be tried."""
        try:
            async with session.post(f"{url}/v1/commands", data=body, headers=_JSON) as response:
                said = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if response.status in _ACCEPTED:
            return True
        if response.status != _NOT_NOW:
            shown = said[:300].decode("utf-8", "replace")
            raise BenchError(f"a command that cannot be refused got status {response.status}: {shown}")
        return False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if error is not None:
            return  # a daemon thread, whose results are not needed any more
        self._thread.join(ENDS_S)
        if self._thread.is_alive():
            raise BenchError(f"clients had no accepted command within {ENDS_S:g} s")
        self._refuse_ended()
