"""How far this machine's clock is from the broker's, measured at each append: its response has the broker's time.

A correct clock has the broker's time between request and response; only a time outside of them is an error. Between
appends the broker's time is extrapolated by the monotonic clock, so that a corrected system clock is noticed.
"""

import time

_US_PER_MS = 1_000


def _now_us() -> int:
    return time.time_ns() // 1_000


def _steady_us() -> int:
    return time.monotonic_ns() // 1_000


class BrokerClock:
    """One for all clients of a process."""

    def __init__(self) -> None:
        self._off_us = 0
        self._difference_us = 0  # between the two clocks of this machine, at the last measurement

    def sent(self) -> int:
        """Return what ``acknowledged`` needs of the moment of sending."""
        return _now_us()

    def acknowledged(self, sent_us: int, appended_ms: int | None) -> None:
        """``appended_ms``: the broker's time, truncated to milliseconds; None or negative if the broker sent none."""
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
        """Return how far this machine's clock is ahead of the broker's now; negative if it is behind."""
        return self._off_us + (_now_us() - _steady_us() - self._difference_us if self._difference_us else 0)
