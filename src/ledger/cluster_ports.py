"""Which node owns which partition: the ports between a node and the group of the nodes.

Each partition of a shared log has at most one owner at a time *by agreement*. That only the owner's appends become
events is the work of the chain, not of this agreement (invariants (1) and (2) of ``ledger/writer/opening.py``). How
the partitions are assigned is ``ledger/core/assignment.py``.
"""

import asyncio
from typing import Protocol

from ledger.errors import LedgerError


class Assignee(Protocol):
    """This node, as the group of the nodes calls it. One call at a time."""

    async def own_all(self, partitions: frozenset[int], generation: int) -> None:
        """This node owns these partitions until the process ends: no other node can take one over.

        Returns once each of them has recovered. Each opens with exactly this ``generation``. Raises CheckpointAhead,
        LogDamaged, LogUnavailable, LogUnreadable, LedgerError: then nothing has been appended. An error that
        later ends one of their writers halts the node.
        """
        ...

    async def gain(self, partitions: frozenset[int], generation: int) -> None:
        """These are all the partitions that this node owns now; none where there are more nodes than partitions. If
        the node owned a partition before and did not lose it, no other node has owned it since then. Returns at
        once: the new partitions open later, each independently."""
        ...

    async def lose(self, partitions: frozenset[int]) -> None:
        """This node no longer owns these partitions, or another node may have owned them for a while. Returns once
        everything in flight is finished."""
        ...

    def stand_by_for(self, partitions: frozenset[int]) -> None:
        """Keep the state of these partitions ready, and of no others."""
        ...

    def progress(self) -> tuple[dict[int, int], dict[int, int]]:
        """Partition → the last seq in its state: first for the partitions that this node owns, then for those it
        stands by for."""
        ...

    def is_ready_for(self, partition: int) -> bool:
        """Whether this node stands by for the partition and has caught up with its owner."""
        ...


class Owners(Protocol):
    """The agreement between the nodes on the owner of each partition, and this node's part in it."""

    @property
    def failed(self) -> asyncio.Future[LedgerError]:
        """Done, with the reason, where this node can no longer take part."""
        ...

    @property
    def absent_for(self) -> float:
        """How long the group has not confirmed that this node is a member, in session time-outs: after one of them
        other nodes may own its partitions. 0 before ``join``, after ``leave``, and without a group."""
        ...

    async def begin(self, assignee: Assignee) -> None:
        """Called once, before everything else. Gives the partitions that need no agreement. Raises what
        ``Assignee.own_all`` raises."""
        ...

    async def join(self) -> None:
        """Take part in the agreement. Call it once the other nodes can reach this one. Returns at once; a later
        ``gain`` names this node's partitions. Raises LogUnavailable, LogMisconfigured."""
        ...

    async def leave(self) -> None:
        """Tell the group that this node owns nothing any more; the assignee is not called after that. The caller has
        finished everything in flight. Leaving again, or without having joined, is harmless."""
        ...

    def address_of(self, partition: int) -> str | None:
        """The address of the partition's owner, as last known; None if no owner is known."""
        ...

    async def refresh(self) -> None:
        """Read the owners from the group again. Raises LogUnavailable."""
        ...

    async def is_mine(self, partition: int) -> bool:
        """Whether the agreement, read after this call began, says that this node owns the partition. False also
        while the partitions are being assigned again: a later ``gain`` follows. Raises LogUnavailable."""
        ...
