"""How far this machine's clock is from the broker's, told by each append: its answer says when the broker took it.

The broker's moment lies between sending and answering; only what is outside of both is an error of a clock. Between
appends the broker's time is carried on by the clock that never jumps, so that a clock that was set right is noticed.
"""

import time

_US_PER_MS = 1_000


def _now_us() -> int:
    return time.time_ns() // 1_000


def _steady_us() -> int:
    return time.monotonic_ns() // 1_000


class BrokerClock:
    """One for a process's clients."""

    def __init__(self) -> None:
        self._off_us = 0
        self._difference_us = 0  # between the two clocks of this machine, when it was measured

    def sent(self) -> int:
        """To be handed to ``answered``."""
        return _now_us()

    def answered(self, sent_us: int, appended_ms: int | None) -> None:
        """``appended_ms``: the broker's time, cut to milliseconds; None or negative where it does not say."""
        if appended_ms is None or appended_ms < 0:
            return
        now_us = _now_us()
        appended_us = appended_ms * _US_PER_MS
        self._difference_us = now_us - _steady_us()
        if appended_us > now_us:
            self._off_us = now_us - appended_us
        else:
            self._off_us = max(sent_us - appended_us - _US_PER_MS, 0)

    def off_us(self) -> int:
        """How far this machine's clock is ahead of the broker's now; negative where it is behind."""
        return self._off_us + (_now_us() - _steady_us() - self._difference_us if self._difference_us else 0)
