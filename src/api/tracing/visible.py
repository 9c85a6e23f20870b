"""Ends the spans ``visible``: each waits until the read model, as this node reads it, has a position of the log.

While spans wait, one task queries the checkpoints of the read model for all of them, ever less often.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from ledger import background
from ledger.tracing import Span
from projections.reads.positions import Positions
from projections.storage.port import ReadModelUnavailable

_FIRST_LOOK_S: Final = 0.004
_SLOWER: Final = 1.5
_LOOK_EVERY_S: Final = 0.05
"""The first pause, the factor from one to the next, and the longest: a span ends at most that much too late. Chosen:
a span that waits alone ends on time, and the queries cost 1 to 2 % of a core while spans always wait."""
WAITING_MAX: Final = 1_024
"""Spans that wait at once. Chosen: a read model that is behind costs less than 10 MB."""
GIVE_UP_S: Final = 30.0
"""Chosen: three times the lag at which an alert fires."""


class _Waiting(NamedTuple):
    span: Span
    partition: int
    seq: int
    until_s: float


class Visibility:
    """The spans of one process that wait."""

    def __init__(self, positions: Positions, now_s: Callable[[], float] = monotonic) -> None:
        self._positions, self._now_s = positions, now_s
        self._waiting: list[_Waiting] = []
        self._looking: asyncio.Task[None] | None = None

    def has_room(self) -> bool:
        """Whether a further span may wait."""
        return len(self._waiting) < WAITING_MAX

    def add(self, span: Span, partition: int, seq: int) -> None:
        """End the span once the read model has event ``seq`` of the partition, or has not had it for
        ``GIVE_UP_S``."""
        self._waiting.append(_Waiting(span, partition, seq, self._now_s() + GIVE_UP_S))
        if self._looking is None:
            self._looking = background.keep(self._look, "visible-spans")

    async def stop(self) -> None:
        """Look no more. Spans that wait are never sent."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self) -> None:
        pause_s = _FIRST_LOOK_S
        while self._waiting:
            await asyncio.sleep(pause_s)
            pause_s = min(_SLOWER * pause_s, _LOOK_EVERY_S)
            try:
                seqs = await self._positions.look()
            except ReadModelUnavailable:
                seqs = {}  # it may be back before the spans are given up
            left = []
            for waiting in self._waiting:
                if seqs.get(waiting.partition, 0) >= waiting.seq:
                    waiting.span.end()
                elif self._now_s() >= waiting.until_s:
                    waiting.span.end(f"the read model did not have the event within {GIVE_UP_S:g} s")
                else:
                    left.append(waiting)
            self._waiting = left
        self._looking = None
