"""Circuit breaker: after a failure a helper is not used for a short time, then one caller tries it again.

So a Redis that does not respond costs one time-out per pause, not one per read, and is used again once it responds.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

PAUSE_S: Final = 0.5
"""How long the helper is not used after a failure. Chosen: after an outage it is used again at most this much
later."""
_WARN_EVERY_S: Final = 30.0

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Call ``allows`` before each use, and ``succeeded`` or ``failed`` after it."""

    def __init__(self, name: str, *, pause_s: float = PAUSE_S, clock_s: Callable[[], float] = monotonic) -> None:
        """``name``: the helper's name in log messages."""
        self._name, self._pause_s, self._clock_s = name, pause_s, clock_s
        self._until_s: float | None = None
        self._warned_at_s: float | None = None
        self.failures = 0

    @property
    def is_closed(self) -> bool:
        """Whether the last use succeeded."""
        return self._until_s is None

    def allows(self) -> bool:
        """Whether to use the helper now. During an outage one caller per pause gets True."""
        if self._until_s is None:
            return True
        now_s = self._clock_s()
        if now_s < self._until_s:
            return False
        self._until_s = now_s + self._pause_s
        return True

    def failed(self, error: Exception) -> None:
        now_s = self._clock_s()
        self.failures += 1
        self._until_s = now_s + self._pause_s
        if self._warned_at_s is None or now_s - self._warned_at_s >= _WARN_EVERY_S:
            self._warned_at_s = now_s
            _log.warning("%s unavailable; reads take longer, nothing is lost: %s", self._name, error)

    def succeeded(self) -> None:
        if self._until_s is not None:
            self._until_s = self._warned_at_s = None
            _log.info("%s available again", self._name)
