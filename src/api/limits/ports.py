"""What the nodes of a cluster share: what is spent of each bucket, and the nonces of signed requests."""

from collections.abc import Mapping
from typing import Protocol

from ledger.errors import LedgerError


class SharedUnavailable(LedgerError):
    """What the nodes share did not respond. The last call may or may not have taken effect."""

    for_clients = "a signed request cannot be checked now"


class SharedBuckets(Protocol):
    """The sums of what all nodes spend."""

    async def add(self, spent_s: Mapping[str, float]) -> dict[str, float]:
        """Add what one node has spent, by bucket, in seconds. Returns after how many seconds each of these buckets is
        full. Raises SharedUnavailable."""
        ...

    async def close(self) -> None: ...


class Nonces(Protocol):
    """The nonces of signed requests, for as long as a signature is accepted."""

    async def is_new(self, nonce: str) -> bool:
        """Remember the nonce; False if it was used before. Raises SharedUnavailable: then the request must be
        refused."""
        ...

    async def close(self) -> None: ...
