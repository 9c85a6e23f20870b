"""Decides when a part of the set that has ended is started again.

The pause doubles with each death, so that a part that cannot run does not keep the machine busy. After
``LIVED_WELL_S`` of life the pause is short again: an old crash must not delay the next restart.
"""

PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 30.0
LIVED_WELL_S = 60.0
"""Chosen: much longer than a start, so that only a part that works is forgiven."""


class Restarts:
    """The pauses of one part. Times are of a monotonic clock, in seconds."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._pause_s = PAUSE_S_MIN

    def started(self, now_s: float) -> None:
        self._started_s = now_s

    def died(self, now_s: float) -> float:
        """The pause before the next start, in seconds."""
        if now_s - self._started_s >= LIVED_WELL_S:
            self._pause_s = PAUSE_S_MIN
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, PAUSE_S_MAX)
        return pause_s
