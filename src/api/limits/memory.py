"""Nonces in one process."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from api.limits.ports import SharedUnavailable
from api.limits.signatures import KEEP_S

NONCES_MAX: Final = 1_000_000
"""Nonces in memory. Chosen: about 150 MB, 5,000 signed requests a second."""


class NoncesInMemory:
    """Two sets: nonces of this period, and of the one before. A period is as long as a nonce must be remembered."""

    def __init__(self, *, clock_s: Callable[[], float] = monotonic, most: int = NONCES_MAX) -> None:
        self._clock_s, self._most = clock_s, most
        self._used: set[str] = set()
        self._older: set[str] = set()
        self._began_s = clock_s()

    async def is_new(self, nonce: str) -> bool:
        now_s = self._clock_s()
        if now_s - self._began_s > KEEP_S:
            both_over = now_s - self._began_s > 2 * KEEP_S
            self._used, self._older, self._began_s = set(), set() if both_over else self._used, now_s
        if nonce in self._used or nonce in self._older:
            return False
        if len(self._used) + len(self._older) >= self._most:
            raise SharedUnavailable(f"there are {self._most} nonces of signed requests already")
        self._used.add(nonce)
        return True

    async def close(self) -> None:
        """There is nothing to close."""
