"""A partition's mailbox: the requests and follow-ups that wait for a round, in the order in which they came.

Invariants:
(1) requests are bounded by ``requests_max``; follow-ups are not, because refusing one would lose it;
(2) requests that are put back go to the front, in their order, so a wallet's commands never change their order;
(3) outcomes of periods may take many rounds: they have a queue of their own and delay no other follow-up;
(4) commissions have a queue of their own too: those of a whole day are sent at the same time.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

from ledger.core.follow_up_commands import PayCommission, ResolvePeriod
from ledger.writer.requests import FollowUpRequest, Request

T = TypeVar("T")

COMMISSIONS_PER_ROUND: Final = 128
"""The most commissions that a round takes. One partition of a node has the turn to pay them (``settlement_turn``), so
this is what a command of another partition waits for. Chosen: some 8 ms."""


class Mailbox:
    """One task takes; others put."""

    def __init__(self, requests_max: int) -> None:
        self.requests_max = requests_max
        self.requests: deque[Request] = deque()
        self.follow_ups: deque[FollowUpRequest] = deque()
        """Follow-ups for one wallet, except commissions."""
        self.outcomes: deque[FollowUpRequest] = deque()
        """Follow-ups that end the open bets of a period."""
        self.commissions: deque[FollowUpRequest] = deque()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self.requests) + self.follow_ups_waiting

    @property
    def follow_ups_waiting(self) -> int:
        """How many follow-ups wait, outcomes and commissions included."""
        return len(self.follow_ups) + len(self.outcomes) + len(self.commissions)

    @property
    def has_work(self) -> bool:
        """Whether something waits that does not need the turn (``settlement_turn``)."""
        return bool(self.requests or self.follow_ups)

    @property
    def needs_turn(self) -> bool:
        """Whether something waits that needs the turn: outcomes or commissions."""
        return bool(self.outcomes or self.commissions)

    def put(self, request: Request) -> bool:
        """Put a request behind the others. False, and nothing is put, if ``requests_max`` wait already."""
        if len(self.requests) >= self.requests_max:
            return False
        self.requests.append(request)
        self._changed.set()
        return True

    def put_follow_up(self, follow_up: FollowUpRequest) -> None:
        self._queue_of(follow_up).append(follow_up)
        self._changed.set()

    def put_back(self, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest] = ()) -> None:
        """Put them before everything else: they were taken, and are to be decided later."""
        self.requests.extendleft(reversed(requests))
        for follow_up in reversed(follow_ups):
            self._queue_of(follow_up).appendleft(follow_up)

    def _queue_of(self, waiting: FollowUpRequest) -> deque[FollowUpRequest]:
        if isinstance(waiting.follow_up, PayCommission):
            return self.commissions
        return self.outcomes if isinstance(waiting.follow_up, ResolvePeriod) else self.follow_ups

    def take(self, limit: int, *, with_turn: bool) -> tuple[list[Request], list[FollowUpRequest]]:
        """Take at most ``limit`` requests and ``limit`` follow-ups, the oldest first; ``with_turn`` also at most
        ``limit`` outcomes and ``COMMISSIONS_PER_ROUND`` commissions."""
        follow_ups = _take(self.follow_ups, limit)
        if with_turn:
            follow_ups += _take(self.outcomes, limit) + _take(self.commissions, COMMISSIONS_PER_ROUND)
        return _take(self.requests, limit), follow_ups

    def take_follow_ups(self) -> list[FollowUpRequest]:
        """All follow-ups, outcomes and commissions included."""
        taken = [*self.follow_ups, *self.outcomes, *self.commissions]
        self.follow_ups.clear()
        self.commissions.clear()
        self.outcomes.clear()
        return taken

    def wake(self) -> None:
        """End the wait of the task that takes."""
        self._changed.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Return once something is put, ``wake`` is called, or the time is over."""
        self._changed.clear()
        if timeout_s is None:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return


def _take(waiting: deque[T], limit: int) -> list[T]:
    if len(waiting) <= limit:
        everything = list(waiting)
        waiting.clear()
        return everything
    return [waiting.popleft() for _ in range(limit)]
