"""The clock of this machine."""

import time


def system_clock() -> int:
    """The machine's time: Unix microseconds, UTC."""
    return time.time_ns() // 1000
