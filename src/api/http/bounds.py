"""Bounds on the memory that clients can make this process keep.

A body that is arriving and a response that is being sent are in memory for as long as the client takes. One client is
bounded by the time limits in ``requests``, all clients together by these sums of bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ARRIVING_MAX: Final = 64 * 1024 * 1024
"""Bytes of all bodies that are arriving. Chosen: room for eight of the largest bodies."""
OF_CLIENT_MAX: Final = ARRIVING_MAX // 4
"""The same of one client. Chosen: two of the largest bodies, so that one client does not refuse those of others."""
UNSENT_MAX: Final = 64 * 1024 * 1024
"""Bytes of all long responses that are being sent. Chosen: room for 512 parts of pages of events."""


class ByteBudget:
    """A number of bytes in memory, and its maximum."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def fits(self, size: int) -> bool:
        return self.used + size <= self._most

    @contextmanager
    def counting(self, size: int) -> Iterator[None]:
        """Count ``size`` more. The caller knows that it fits, or that it must not be refused."""
        self.used += size
        try:
            yield
        finally:
            self.used -= size
