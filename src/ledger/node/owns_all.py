"""A node that owns the whole log: it owns every partition from start to stop, and there are no other nodes.

Invariants:
(1) a request for a partition that is not open is closed as ``not_owner`` at once: no other node will open it;
(2) a follow-up that no writer has taken yet is offered again every ``_OFFER_EVERY_S`` until one takes it;
(3) the memory for follow-ups that wait is bounded (``follow_up_queue``).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ledger import background
from ledger.cluster_ports import Assignee
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.money import Assets
from ledger.core.position import partition_of
from ledger.errors import LedgerError
from ledger.node.follow_up_queue import FollowUpQueue
from ledger.node.node import NOT_OPEN, Node
from ledger.node.ports import End, LocalWriters, OpenFollowUps
from ledger.pacing import RareWarnings
from ledger.ports import Clock, EventLog, StateStore
from ledger.tracing import Span
from ledger.writer.requests import Request

_OFFER_EVERY_S: Final = 0.25

_log = logging.getLogger(__name__)


class OwnsAll:
    """``Owners`` without an agreement: all partitions are this node's."""

    def __init__(self, partitions: int, *, address: str = "", generation: int = 0) -> None:
        """``address``: where clients reach this node. ``generation``: the node opens every partition with
        it; it matters only on a shared log."""
        self._partitions, self._address, self._generation = partitions, address, generation
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.absent_for = 0.0

    async def begin(self, assignee: Assignee) -> None:
        await assignee.own_all(frozenset(range(self._partitions)), self._generation)

    async def join(self) -> None:
        """There is no group to join."""

    async def leave(self) -> None:
        """There is no group to leave."""

    def address_of(self, _: int) -> str | None:
        return self._address

    async def refresh(self) -> None:
        """The owner never changes."""

    async def is_mine(self, _: int) -> bool:
        return True


class NoOtherNodes:
    """``OtherNodes`` where there are none."""

    may_exist = False

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._local: LocalWriters | None = None
        self._queues: dict[int, FollowUpQueue] = {}
        """Of the partitions for which follow-ups wait."""
        self._warnings = RareWarnings(_log)
        self._offering: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """The number of follow-ups that wait in memory."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def bind(self, local: LocalWriters) -> None:
        self._local = local

    def submit(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.close(NOT_OPEN)

    def deliver(
        self,
        origin: int,
        seq: int,
        follow_up: AnyFollowUp,
        arrived: Callable[[], None],
        span: Span | None = None,
    ) -> None:
        if self._closed:
            return  # the next start delivers it again
        assert self._local is not None, "bind comes first"
        partition = partition_of(follow_up.user_id, self._partitions)
        if partition not in self._queues:
            self._queues[partition] = FollowUpQueue(partition, self._local, self._partitions)
        self._queues[partition].add(origin, seq, follow_up, arrived, span)
        if self._offering is None:
            self._offering = background.keep(self._offer, "follow-ups")

    async def _offer(self) -> None:
        while self._queues:
            await asyncio.sleep(_OFFER_EVERY_S)
            for partition, queue in list(self._queues.items()):
                try:
                    await self._offer_queue(queue)
                except LedgerError as error:
                    self._warnings.warn("open follow-ups cannot be read from the state: %s", error)
                if queue.empty:
                    del self._queues[partition]
        self._offering = None

    async def _offer_queue(self, queue: FollowUpQueue) -> None:
        """Offer until the partition's writer takes no more. Raises LedgerError."""
        assert self._local is not None, "bind comes first"
        while not queue.empty:
            await queue.refill()
            for key, waiting in list(queue.waiting.items()):
                if not self._local.receive_local(*waiting):
                    return
                del queue.waiting[key]
            await asyncio.sleep(0)

    async def ends(self, _: Iterable[int]) -> dict[int, End]:
        return {}

    async def open_follow_ups(self, _: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        return {}

    async def records(self, _: int, __: int, ___: int) -> list[bytes] | None:
        return None

    async def close(self) -> None:
        self._closed = True
        self._queues.clear()
        if self._offering is not None:
            self._offering.cancel()
            await asyncio.wait({self._offering})
            self._offering = None


def node_of_whole_log(
    log: EventLog,
    store: StateStore,
    clock: Clock,
    assets: Assets,
    *,
    address: str = "",
    generation: int = 0,
    **options: Any,
) -> Node:
    """A node that owns every partition of ``log``. ``options``: those of ``Node``."""
    owners = OwnsAll(log.partitions, address=address, generation=generation)
    return Node(log, store, clock, assets, owners=owners, others=NoOtherNodes(log.partitions), **options)
