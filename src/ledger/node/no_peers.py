"""A node that knows no way to others: it answers ``not_owner``, and keeps follow-ups until their partition is here.

Enough for a node that has every partition, and for one whose clients find the owner themselves.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ledger.core.commands import AnyFollowUp
from ledger.node.ports import Here
from ledger.writer.requests import Failed, Request

_LOOK_AGAIN_S: Final = 0.25

NOT_OPEN: Final = Failed("not_owner", "the wallet's partition is not open here: another node has it, or will have")


class NoPeers:
    """``Remote`` without anybody."""

    def __init__(self) -> None:
        self._here: Here | None = None
        self._kept: list[tuple[AnyFollowUp, Callable[[], None]]] = []
        self._offering: asyncio.Task[None] | None = None

    def begin(self, here: Here) -> None:
        self._here = here

    def submit(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.close(NOT_OPEN)

    def deliver(self, _: int, __: int, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        self._kept.append((follow_up, arrived))
        if self._offering is None:
            self._offering = asyncio.get_running_loop().create_task(self._offer(), name="follow-ups")

    async def _offer(self) -> None:
        assert self._here is not None, "begin comes first"
        while self._kept:
            await asyncio.sleep(_LOOK_AGAIN_S)
            kept, self._kept = self._kept, []
            self._kept += [waiting for waiting in kept if not self._here.receive_here(*waiting)]
        self._offering = None

    async def close(self) -> None:
        self._kept.clear()
        if self._offering is not None:
            self._offering.cancel()
            await asyncio.wait({self._offering})
            self._offering = None
