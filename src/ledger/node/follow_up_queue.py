"""The follow-ups that wait for delivery to one partition.

Invariants:
(1) the queue has a bounded number of follow-ups in memory: none is added beyond ``QUEUE_MAX``, and a page is read
    only while at most half of that waits. The others stay in the states of the partitions that sent them, which keep
    every open follow-up anyway, and are read from there page by page;
(2) a follow-up that was added is in memory, or will be read from the state, until it is removed or has arrived.
"""

import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.node.ports import LocalWriters
from ledger.tracing import Span

QUEUE_MAX: Final = 2_048
"""Follow-ups in memory. Chosen: four full calls to another node; about 4 MB."""

PAGE: Final = 512
"""Follow-ups that are read from a state at a time. Chosen: one call to another node."""


class Waiting(NamedTuple):
    """A follow-up; call ``arrived`` once the event that records it in the receiving partition is durable. ``span``:
    of the round that sent it; a follow-up that is read from a state has none."""

    follow_up: AnyFollowUp
    arrived: Callable[[], None]
    span: Span | None = None


class FollowUpQueue:
    """``waiting``: (partition, seq) of the event that sent a follow-up, its origin → the follow-up. In the order in
    which they were added."""

    __slots__ = ("_in_state_after", "_local", "_partition", "_partitions", "waiting")

    def __init__(self, partition: int, local: LocalWriters, partitions: int) -> None:
        self.waiting: dict[tuple[int, int], Waiting] = {}
        self._in_state_after: dict[int, int] = {}
        """Sending partition → seq: follow-ups of its later events may be in its state only, not in ``waiting``."""
        self._partition, self._local, self._partitions = partition, local, partitions

    @property
    def empty(self) -> bool:
        """Whether nothing waits, here or in a state."""
        return not self.waiting and not self._in_state_after

    def add(
        self,
        origin: int,
        seq: int,
        follow_up: AnyFollowUp,
        arrived: Callable[[], None],
        span: Span | None = None,
    ) -> None:
        """Add the follow-up that event ``seq`` of the partition ``origin`` sent. It must be in the state of
        ``origin``, because a full queue leaves it there."""
        if origin in self._in_state_after or len(self.waiting) >= QUEUE_MAX:
            self._in_state_after[origin] = min(seq - 1, self._in_state_after.get(origin, seq - 1))
        else:
            self.waiting[origin, seq] = Waiting(follow_up, arrived, span)

    async def refill(self) -> None:
        """If at most half of the queue is used, read a page of the follow-ups that were left in a state. Raises
        LedgerError."""
        if not self._in_state_after or len(self.waiting) > QUEUE_MAX // 2:
            return
        origin, after = next(iter(self._in_state_after.items()))
        self._in_state_after[origin] = sys.maxsize  # ``add`` lowers it if more come during the read
        left_after = after
        try:
            page = await self._local.open_follow_ups_after(origin, after, PAGE)
            # None: this node lost the partition ``origin``; its next owner delivers them.
            for seq, follow_up, arrived in page or ():
                if partition_of(follow_up.user_id, self._partitions) == self._partition:
                    self.waiting[origin, seq] = Waiting(follow_up, arrived)
            left_after = page[-1][0] if page and len(page) == PAGE else sys.maxsize
        finally:
            left_after = min(left_after, self._in_state_after.pop(origin))
            if left_after < sys.maxsize:
                self._in_state_after[origin] = left_after  # behind the other partitions, so that each has its turn
