"""Follow-ups for partitions that are not open on this node: delivered to their owners until their events are durable.

Invariants:
(1) a follow-up is dropped only when its event is durable in its wallet's partition, or when this node stops. Until
    then it is delivered again, without a time limit. A second delivery is harmless: the follow-up's id finds the
    event of the first;
(2) ``arrived`` is called once, after the event is durable; then the origin closes the follow-up;
(3) the memory for follow-ups that wait for one partition is bounded (``node/follow_up_queue``);
(4) a partition that takes none does not delay the follow-ups for the others.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LedgerError
from ledger.node.follow_up_queue import FollowUpQueue, Waiting
from ledger.node.ports import LocalWriters, Peers
from ledger.pacing import Backoff, RareWarnings
from ledger.peers.handler import PeerHandler
from ledger.tracing import Span

CALL_FOLLOW_UPS: Final = 512
"""Follow-ups in one call. Chosen: half the number of requests in one call."""

CALL_S: Final = 5.0
"""How long a call may take. Chosen: longer than the receiver waits for the events, ``handler.ARRIVED_WITHIN_S``."""

_PAUSE_S_MIN: Final = 0.02
_PAUSE_S_MAX: Final = 1.0
_REFRESH_S: Final = 1.0

_log = logging.getLogger(__name__)


class FollowUpDelivery:
    """One queue per partition, and a task for each queue that is not empty."""

    def __init__(self, owners: Owners, peers: Peers, local: LocalWriters, partitions: int, address: str) -> None:
        self._owners, self._peers, self._local = owners, peers, local
        self._handler = PeerHandler(local)
        self._partitions, self._address = partitions, address
        self._queues: dict[int, FollowUpQueue] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._warnings = RareWarnings(_log)

    @property
    def waiting(self) -> int:
        """The number of follow-ups that wait in memory."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def deliver(
        self,
        origin: int,
        seq: int,
        follow_up: AnyFollowUp,
        arrived: Callable[[], None],
        span: Span | None = None,
    ) -> None:
        """See ``OtherNodes.deliver``."""
        if self._stopping:
            return
        partition = partition_of(follow_up.user_id, self._partitions)
        if partition not in self._queues:
            self._queues[partition] = FollowUpQueue(partition, self._local, self._partitions)
        self._queues[partition].add(origin, seq, follow_up, arrived, span)
        if partition not in self._tasks:
            self._tasks[partition] = background.keep(partial(self._deliver_all, partition), f"follow-ups-{partition}")

    async def close(self) -> None:
        """Give up the follow-ups that have not arrived: their origins deliver them again."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._queues.clear()

    async def _deliver_all(self, partition: int) -> None:
        queue = self._queues[partition]
        backoff = Backoff(_PAUSE_S_MIN, _PAUSE_S_MAX)
        while not queue.empty:
            try:
                await queue.refill()
            except LedgerError as error:
                self._warnings.warn("open follow-ups cannot be read from the state: %s", error)
                await asyncio.sleep(backoff.next_s())
                continue
            batch = list(islice(queue.waiting.items(), CALL_FOLLOW_UPS))
            if not batch:
                await asyncio.sleep(0)  # the page had none for this partition
                continue
            arrived = await self._deliver_batch(partition, [waiting for _, waiting in batch])
            for (key, waiting), is_durable in zip(batch, arrived, strict=True):
                if is_durable:
                    if queue.waiting.get(key) is waiting:
                        del queue.waiting[key]
                    waiting.arrived()
            if any(arrived):
                backoff.reset()
            if not all(arrived):
                await asyncio.sleep(backoff.next_s())
                await self._refresh_owners()
        del self._tasks[partition]

    async def _deliver_batch(self, partition: int, batch: Sequence[Waiting]) -> Sequence[bool]:
        """For each follow-up whether its event is known to be durable."""
        follow_ups, spans = [waiting.follow_up for waiting in batch], [waiting.span for waiting in batch]
        address = self._owners.address_of(partition)
        none_arrived = [False] * len(follow_ups)
        if address is None:
            return none_arrived
        if address == self._address:
            return await self._handler.receive(follow_ups, spans)
        try:
            async with asyncio.timeout(CALL_S):
                arrived = await self._peers.deliver(address, follow_ups, spans)
            assert len(arrived) == len(follow_ups), "the response has one flag for each follow-up"
            return arrived
        except (LedgerError, TimeoutError) as error:
            reason = str(error) or f"no response within {CALL_S:g} s"
            self._warnings.warn("follow-ups wait for the node at %s: %s", address, reason)
        except Exception:  # noqa: BLE001 - the money must arrive: deliver again after any error
            _log.exception("delivering follow-ups to the node at %s", address)
        return none_arrived

    async def _refresh_owners(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._owners.refresh()
        except (LedgerError, TimeoutError) as error:
            reason = str(error) or f"no response within {_REFRESH_S:g} s"
            self._warnings.warn("the owners of the partitions cannot be read: %s", reason)
        except Exception:  # noqa: BLE001 - the money must arrive: deliver again after any error
            _log.exception("the owners of the partitions cannot be read")
