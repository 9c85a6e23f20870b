"""The log as a whole, as any node knows it: its own partitions by itself, the others from the nodes that have them.

Truths:
(1) ``end`` is what was heard last: enough to say how old an answer is, for only what is known can be missed by it;
(2) ``end_now`` is no older than the question: the owner's writer has confirmed it after it came. Only on that may
    somebody be told that something is not there;
(3) the others are asked for their ends only while somebody reads, and all of them once in ``LISTEN_S``.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from ledger.core.record import Head
from ledger.errors import LogUnavailable
from ledger.node.asking_owners import asked_of_owners
from ledger.node.node import Node
from ledger.node.ports import End, Owners, Peers, PeerSilent, PeerUnreachable
from ledger.writer.requests import Failed

LISTEN_S: Final = 0.1
"""How old what is known of another node's partitions may be; chosen: by so much a lag may be told too small."""

_LISTENED_FOR_S: Final = 1.0
_HEARD_MAX: Final = 64


class LogView:
    """``LogEnds`` and more, of every partition. Without ``owners`` and ``peers`` all of them are here."""

    def __init__(self, node: Node, owners: Owners | None = None, peers: Peers | None = None) -> None:
        self._node, self._owners, self._peers = node, owners, peers
        self._writers = node.writers
        self.partitions = node.partitions
        self._heard: dict[int, deque[End]] = {}
        self._wanted_s = 0.0
        self._listening: asyncio.Task[None] | None = None

    @property
    def among_others(self) -> bool:
        """Whether other nodes may ask this one."""
        return self._owners is not None

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    # --- what other nodes ask --------------------------------------------------------------------------------------

    def ends_here(self) -> dict[int, End]:
        """Of the partitions that are open here."""
        return {
            partition: End(*writer.head, writer.time_us)
            for partition, writer in self._writers.items()
            if writer.is_open
        }

    def open_follow_ups_here(self, partitions: Iterable[int]) -> dict[int, tuple[int, list[int]]]:
        """For heirs; see ``Node.open_follow_ups``."""
        return self._node.open_follow_ups(partitions)

    async def records_here(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        """None where the partition is not open here. Raises LogUnavailable."""
        writer = self._writers.get(partition)
        if writer is None or not writer.opened.is_set():
            return None
        return await self._node.records(partition, from_seq, limit)

    # --- LogEnds ---------------------------------------------------------------------------------------------------

    def end(self, partition: int) -> int:
        """The last seq of the partition, as known here."""
        writer = self._writers.get(partition)
        if writer is not None:
            return writer.head.seq
        self._wanted_s = asyncio.get_running_loop().time()
        if self._listening is None and self._peers is not None:
            self._listening = asyncio.get_running_loop().create_task(self._listen(), name="ends")
        heard = self._heard.get(partition)
        return heard[-1].seq if heard else 0

    async def time_us(self, partition: int, seq: int) -> int:
        """The time of the first event that is known here, from ``seq`` on. Raises LogUnavailable, LogDamaged."""
        heard = self._heard.get(partition)
        if partition not in self._writers and heard:
            while heard[0].seq < seq and len(heard) > 1:
                heard.popleft()  # the read model has it
            if heard[0].seq >= seq:
                return heard[0].time_us
        return await self._node.time_us(partition, seq)

    async def end_now(self, partition: int) -> int | Failed:
        """The last seq of the partition at a moment after this call began; Failed where nobody can say so."""
        return await self._node.end_now(partition)

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Durable records, from the partition's owner; from the log itself where there is none to ask.
        Raises LogUnavailable."""
        address = None
        if partition not in self._writers and self._owners is not None:
            address = self._owners.address_of(partition)
        if address is not None and self._peers is not None:
            try:
                return await self._peers.records(address, partition, from_seq, limit)
            except (PeerUnreachable, PeerSilent):
                pass  # the log has them, too; it only takes longer, for this node has never read them
        return await self._node.records(partition, from_seq, limit)

    # --- who has what ----------------------------------------------------------------------------------------------

    async def heads(self) -> list[Head]:
        """Where every partition ends, as its owner says, or else the log. Raises LogUnavailable."""
        ends = await self._ends_elsewhere()
        return [
            Head(ends[partition].seq, ends[partition].sha256)
            if partition in ends and partition not in self._writers
            else await self._node.head(partition)
            for partition in range(self.partitions)
        ]

    async def owners(self, address: str) -> list[str | None]:
        """Where each partition's owner can be reached; ``address`` is this node's own."""
        if self._owners is None:
            return [address] * self.partitions
        with suppress(LogUnavailable):  # what was heard last is better than nothing
            await self._owners.refresh()
        return [
            address if partition in self._writers else self._owners.address_of(partition)
            for partition in range(self.partitions)
        ]

    # --- listening -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while loop.time() - self._wanted_s < _LISTENED_FOR_S:
                for partition, end in (await self._ends_elsewhere()).items():
                    self._remember(partition, end)
                await asyncio.sleep(LISTEN_S)
        finally:
            self._listening = None

    async def _ends_elsewhere(self) -> dict[int, End]:
        """Of the partitions that other nodes have open. Without those whose node does not answer: what was heard of
        them last stays true of the log."""
        owners, peers = self._owners, self._peers
        if owners is None or peers is None:
            return {}
        away = [partition for partition in range(self.partitions) if partition not in self._writers]
        return await asked_of_owners(owners, away, lambda address, _: peers.ends(address))

    def _remember(self, partition: int, end: End) -> None:
        heard = self._heard.setdefault(partition, deque())
        if heard and heard[-1].seq >= end.seq:
            return
        heard.append(end)
        if len(heard) > _HEARD_MAX:
            # The first one tells how old the oldest is that a read model far behind has not; the rest may be coarser.
            self._heard[partition] = deque([*list(heard)[:-1:2], end])
