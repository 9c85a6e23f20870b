"""Whether to ask a helper that may be away: after a failure it is left alone for a moment, then tried by one caller.

So a Redis that answers nothing costs one time-out a moment, not one a read; and one that is back is used again.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

AWAY_S: Final = 0.5
"""How long nobody asks after a failure. Chosen: an outage is over that much later here than there."""
_SAID_AGAIN_S: Final = 30.0

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Ask ``allows`` before each use, and say afterwards how it was."""

    def __init__(self, what: str, *, away_s: float = AWAY_S, clock_s: Callable[[], float] = monotonic) -> None:
        """``what``: for the log, as in "the cache is away"."""
        self._what, self._away_s, self._clock_s = what, away_s, clock_s
        self._until_s: float | None = None
        self._said_at_s: float | None = None
        self.failures = 0

    @property
    def well(self) -> bool:
        return self._until_s is None

    def allows(self) -> bool:
        """Whether to try now; of those who ask while it is away, one every ``away_s``."""
        if self._until_s is None:
            return True
        now_s = self._clock_s()
        if now_s < self._until_s:
            return False
        self._until_s = now_s + self._away_s
        return True

    def failed(self, error: Exception) -> None:
        now_s = self._clock_s()
        self.failures += 1
        self._until_s = now_s + self._away_s
        if self._said_at_s is None or now_s - self._said_at_s >= _SAID_AGAIN_S:
            self._said_at_s = now_s
            _log.warning("%s is away, which costs time only: %s", self._what, error)

    def answered(self) -> None:
        if self._until_s is not None:
            self._until_s = self._said_at_s = None
            _log.info("%s is used again", self._what)
