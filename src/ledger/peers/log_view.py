"""The whole log as one node knows it: its own partitions from its writers, the others from the nodes that own them.

Invariants:
(1) ``end`` is the last known end. The age of a response is computed from it, and may be too small by ``POLL_S``;
(2) ``end_now`` is no older than the call: the owner's writer confirms it after the call began. Nothing else
    justifies the response that something does not exist;
(3) the other nodes are polled for their ends only while there are readers, and each of them once in ``POLL_S``.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.record import Head
from ledger.errors import LogUnavailable
from ledger.node.node import Node
from ledger.node.ports import End, OpenFollowUps, OtherNodes
from ledger.writer.requests import Failed

POLL_S: Final = 0.1
"""How old the known ends of other nodes' partitions may be. Chosen: a lag may be reported too small by this much."""

_POLL_FOR_S: Final = 1.0
"""How long after the last read the ends are still polled. Chosen."""

_REFRESH_S: Final = 0.5
"""How long a read waits for the group to name the owners. Chosen: a quarter of the default ``timeout_ms``."""

_KNOWN_MAX: Final = 64


class LogView:
    """``LogEnds`` of every partition, with its records, head and owner."""

    def __init__(self, node: Node, owners: Owners, others: OtherNodes) -> None:
        self._node, self._owners, self._others = node, owners, others
        self._writers = node.writers
        self.partitions = node.partitions
        self._known: dict[int, deque[End]] = {}
        self._last_read_s = 0.0
        self._polling: asyncio.Task[None] | None = None

    @property
    def among_others(self) -> bool:
        """Whether other nodes may call this one."""
        return self._others.may_exist

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})

    # --- this node's partitions, for other nodes -------------------------------------------------------------------

    def local_ends(self) -> dict[int, End]:
        """The ends of the partitions that are open on this node."""
        return {
            partition: End(*writer.head, writer.time_us)
            for partition, writer in self._writers.items()
            if writer.is_open
        }

    def local_open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        """See ``Node.open_follow_ups``."""
        return self._node.open_follow_ups(after)

    async def local_records(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        """None where the partition is not open on this node. Raises LogUnavailable."""
        writer = self._writers.get(partition)
        if writer is None or not writer.opened.is_set():
            return None
        return await self._node.records(partition, from_seq, limit)

    # --- LogEnds ---------------------------------------------------------------------------------------------------

    def end(self, partition: int) -> int:
        """The last known seq of the partition."""
        writer = self._writers.get(partition)
        if writer is not None:
            return writer.head.seq
        self._last_read_s = asyncio.get_running_loop().time()
        if self._polling is None:
            self._polling = background.start(self._poll_ends(), "ends")
        known = self._known.get(partition)
        return known[-1].seq if known else 0

    async def time_us(self, partition: int, seq: int) -> int:
        """The time of the first known event from ``seq`` on. Raises LogUnavailable, LogDamaged."""
        known = self._known.get(partition)
        if partition not in self._writers and known:
            while known[0].seq < seq and len(known) > 1:
                known.popleft()  # the read model has folded it
            if known[0].seq >= seq:
                return known[0].time_us
        return await self._node.time_us(partition, seq)

    async def end_now(self, partition: int) -> int | Failed:
        """The last seq of the partition at a moment after this call began; Failed where its owner does not confirm
        it."""
        return await self._node.end_now(partition)

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Durable records, from the partition's owner, or else from the log itself. Raises LogUnavailable."""
        if partition not in self._writers:
            records = await self._others.records(partition, from_seq, limit)
            if records is not None:
                return records
        # The log has them, too, but a read of another node's partition takes longer: this node has not followed it.
        return await self._node.records(partition, from_seq, limit)

    # --- owners ----------------------------------------------------------------------------------------------------

    async def heads(self) -> list[Head]:
        """The head of every partition, from its owner, or else from the log. Raises LogUnavailable."""
        ends = await self._ends_of_others()
        heads = {partition: Head(end.seq, end.sha256) for partition, end in ends.items()}
        left = [p for p in range(self.partitions) if p not in heads or p in self._writers]
        read = await asyncio.gather(*(self._node.head(partition) for partition in left))
        heads.update(zip(left, read, strict=True))
        return [heads[partition] for partition in range(self.partitions)]

    async def owners(self, address: str) -> list[str | None]:
        """The address of each partition's owner; ``address`` is this node's own."""
        with suppress(LogUnavailable, TimeoutError):  # the last known owners are better than no owners
            async with asyncio.timeout(_REFRESH_S):
                await self._owners.refresh()
        return [
            address if partition in self._writers else self._owners.address_of(partition)
            for partition in range(self.partitions)
        ]

    # --- polling ---------------------------------------------------------------------------------------------------

    async def _poll_ends(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while loop.time() - self._last_read_s < _POLL_FOR_S:
                for partition, end in (await self._ends_of_others()).items():
                    self._remember(partition, end)
                await asyncio.sleep(POLL_S)
        finally:
            self._polling = None

    async def _ends_of_others(self) -> dict[int, End]:
        """The ends of the partitions that other nodes have open. Those whose owner does not respond are left out:
        their last known end is still true."""
        return await self._others.ends(
            [partition for partition in range(self.partitions) if partition not in self._writers]
        )

    def _remember(self, partition: int, end: End) -> None:
        known = self._known.setdefault(partition, deque())
        if known and known[-1].seq >= end.seq:
            return
        known.append(end)
        if len(known) > _KNOWN_MAX:
            # The first end gives the age of a read model that is far behind; of the others every second is enough.
            self._known[partition] = deque([*list(known)[:-1:2], end])
