"""Webhooks of a node in memory, to a receiver on a real socket. Only the test moves their clock.

async with Receiver() as receiver, Sending(tmp_path, receiver, world) as sending:
    added = await sending.add()
    await receiver.until(lambda: len(receiver.taken) == 3)
"""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from api.identity.database import IdentityDatabase
from api.identity.master_key import MasterKeys
from api.identity.tables import METADATA
from api.webhooks.guard import Guard
from api.webhooks.sender import Log
from api.webhooks.store import DatabaseWebhookStore
from api.webhooks.webhooks import GIVE_UP_S, Webhooks, WithSecret
from unit.node_in_memory import World
from webhook_receiver import Receiver

LOOPBACK: Final = ip_network("127.0.0.0/8")
STEP_S: Final = 7


class Sending:
    """Webhooks over the log of ``world``, with a store in a folder."""

    def __init__(
        self, folder: Path, receiver: Receiver, world: World, *, jitter: Callable[[], float] = float
    ) -> None:
        """``jitter``: by default none, so each pause is the longest."""
        self.receiver, self.world, self._folder, self._jitter = receiver, world, folder, jitter
        self._masters = MasterKeys([b"m" * 32])
        self.clock = world.clock
        receiver.clock = world.clock
        self.looks = 0
        self.owned = set(range(world.node.partitions))

    def _ends(self) -> dict[int, int]:
        self.looks += 1
        return {p: writer.head.seq for p, writer in self.world.node.writers.items() if p in self.owned}

    async def __aenter__(self) -> Self:
        node = self.world.node
        self.store = DatabaseWebhookStore(IdentityDatabase(self._folder / "identity.sqlite3", METADATA))
        self.webhooks = Webhooks(
            self.store,
            self._masters,
            self.clock,
            Guard([LOOPBACK]),
            Log(self._ends, node.records),
            node.heads,
            poll_s=None,
            jitter=self._jitter,
        )
        self.webhooks.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.webhooks.stop()

    async def add(
        self,
        url: str | None = None,
        types: tuple[str, ...] | None = None,
        *,
        give_up_s: int = GIVE_UP_S,
        from_start: bool = True,
    ) -> WithSecret:
        return await self.webhooks.add(url or self.receiver.url, types, give_up_s, True, from_start=from_start)

    def pass_s(self, seconds: float) -> None:
        self.clock.now_us += int(seconds * 1e6)

    async def attempted(self, many: int) -> None:
        """Wait until the senders know how so many attempts ended."""
        counts = self.webhooks.counts
        async with asyncio.timeout(60):
            while counts.delivered + counts.failed < many:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def looked(self) -> None:
        """Wait until each sender has looked again, twice: whatever was due has been sent."""
        async with asyncio.timeout(60):
            enough = self.looks + 6 * max(1, len(self.webhooks.running))
            while self.looks < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def applied(self) -> None:
        """Wait until the senders are those of the endpoints as they are stored."""
        async with asyncio.timeout(60):
            while True:
                stored = [one.endpoint for one in await self.webhooks.listed() if one.endpoint.enabled]
                if {*self.webhooks.running} == {*stored}:
                    return
                await asyncio.sleep(0.005)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition is true: retries become due."""
        async with asyncio.timeout(60):
            while not condition():
                self.pass_s(STEP_S)
                await asyncio.sleep(0.005)
