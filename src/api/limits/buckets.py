"""Token buckets: each key may spend ``burst`` tokens at once, and ``per_s`` a second in the long run.

Invariants:
(1) in any T seconds a key spends at most burst + per_s × T tokens, and one request more than that;
(2) a request for more than ``burst`` tokens is allowed where the bucket is full, and is paid off afterwards;
(3) a request that is refused spends nothing;
(4) a bucket that is full takes no memory, at the latest after two of its windows.

A bucket is one number, the time at which it is full again: 0.3 µs a request, where the strategies of the library
``limits`` take 2 to 7 µs (measured; a command costs 120 µs, and counts in two buckets), and refuse what exceeds a
limit, so that use in other processes cannot be added.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from msgspec import Struct

REQUEST_MAX: Final = 1_000
"""Tokens that one request can spend: the commands of a batch."""
KEYS_MAX: Final = 200_000
"""Keys before the oldest half is forgotten. Chosen: about 50 MB; only strangers with so many addresses reach it, and
a forgotten bucket is a full one."""
_SLACK_S: Final = 1e-6
"""Sums of floats are not exact: a bucket that lacks less than this is full enough."""


class Policy(Struct, frozen=True):
    """The size of the buckets of one kind. ``per_s`` 0: without limit."""

    name: str
    per_s: float
    burst: int

    @property
    def window_s(self) -> int:
        """How long an empty bucket takes to be full."""
        return ceil(self.burst / self.per_s)


class Limited(Struct, frozen=True):
    """A bucket has too few tokens now."""

    policy: Policy
    wait_s: float
    """When the same request would be allowed, if the bucket is not used before."""


class Buckets:
    """The buckets of one policy, by key."""

    def __init__(self, policy: Policy, clock_s: Callable[[], float], *, shared: bool = False) -> None:
        """``clock_s``: a clock that never steps back. ``shared``: ``take_spent`` is called regularly."""
        self.policy, self._clock_s = policy, clock_s
        self._token_s = 1 / policy.per_s if policy.per_s else 0.0
        self._burst_s = policy.burst * self._token_s
        self._forget_s = max(self._burst_s, REQUEST_MAX * self._token_s)
        self._full_at_s: dict[str, float] = {}
        """Key → the time at which its bucket is full again. Keys that were not used since ``_swapped_s`` are in
        ``_older``."""
        self._older: dict[str, float] = {}
        self._swapped_s = clock_s()
        self._spent_s: dict[str, float] | None = {} if shared else None
        """What each key has spent since the last ``take_spent``, in seconds of ``per_s``."""
        self.refused = 0
        """Requests that were refused."""

    def __len__(self) -> int:
        """Keys in memory."""
        return len(self._full_at_s) + len(self._older)

    def spend(self, key: str, tokens: int = 1) -> Limited | None:
        """Spend so many tokens. Limited: there are too few, and none is spent."""
        token_s = self._token_s
        if not token_s:
            return None
        now_s = self._clock_s()
        if now_s - self._swapped_s > self._forget_s or len(self._full_at_s) > KEYS_MAX:
            self._older, self._full_at_s, self._swapped_s = self._full_at_s, {}, now_s
        full_at_s = self._full_at(key, now_s)
        cost_s = tokens * token_s
        wait_s = full_at_s - now_s + min(cost_s, self._burst_s) - self._burst_s
        if wait_s > _SLACK_S:
            self.refused += 1
            return Limited(self.policy, wait_s)
        self._full_at_s[key] = full_at_s + cost_s
        if self._spent_s is not None:
            self._spent_s[key] = self._spent_s.get(key, 0.0) + cost_s
        return None

    def give_back(self, key: str, tokens: int = 1) -> None:
        """Undo a ``spend`` that need not have been."""
        if not self._token_s:
            return
        cost_s = tokens * self._token_s
        self._full_at_s[key] = self._full_at(key, self._clock_s()) - cost_s
        if self._spent_s is not None:
            self._spent_s[key] = self._spent_s.get(key, 0.0) - cost_s

    def take_spent(self) -> dict[str, float]:
        """What each key has spent since the last call, in seconds of ``per_s``."""
        assert self._spent_s is not None, "these buckets are not shared"
        spent_s, self._spent_s = self._spent_s, {}
        return spent_s

    def apply_shared_sums(self, full_in_s: Mapping[str, float]) -> None:
        """Key → after how many seconds its bucket is full, counting what all processes have spent."""
        now_s = self._clock_s()
        for key, seconds in full_in_s.items():
            self._full_at_s[key] = max(self._full_at(key, now_s), now_s + seconds)

    def _full_at(self, key: str, now_s: float) -> float:
        full_at_s = self._full_at_s.get(key)
        if full_at_s is None:
            full_at_s = self._older.get(key, now_s)
        return max(full_at_s, now_s)
