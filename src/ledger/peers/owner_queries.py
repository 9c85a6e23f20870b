"""Reads of partitions that other nodes own: one call to each of their owners, all at once.

A partition is left out where its owner is not known or does not respond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

from ledger.cluster_ports import Owners
from ledger.errors import LedgerError
from ledger.node.ports import End, OpenFollowUps, Peers, PeerSilent, PeerUnreachable

_ENDS_S: Final = 0.5
_RECORDS_S: Final = 1.0
"""How long an owner may take to send the ends of its partitions, or a page of records. Chosen: a hundred times what a
healthy node takes, and less than a read's time limit: after that they are read from the log."""

T = TypeVar("T")


class OwnerQueries:
    """The reads of ``OtherNodes``."""

    def __init__(self, owners: Owners, peers: Peers) -> None:
        self._owners, self._peers = owners, peers

    async def ends(self, partitions: Iterable[int]) -> dict[int, End]:
        async def ends_at(address: str, _: Collection[int]) -> Mapping[int, End]:
            return await _within(_ENDS_S, address, self._peers.ends(address))

        return await self._from_owners(partitions, ends_at)

    async def open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        async def open_at(address: str, owned: Collection[int]) -> Mapping[int, OpenFollowUps]:
            return await self._peers.open_follow_ups(address, {partition: after[partition] for partition in owned})

        return await self._from_owners(after, open_at)

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        address = self._owners.address_of(partition)
        if address is None:
            return None
        try:
            return await _within(_RECORDS_S, address, self._peers.records(address, partition, from_seq, limit))
        except (PeerUnreachable, PeerSilent):
            return None

    async def _from_owners(
        self, partitions: Iterable[int], call: Callable[[str, Collection[int]], Awaitable[Mapping[int, T]]]
    ) -> dict[int, T]:
        """Call ``call`` with (address, its partitions among these) for each owner. Returns all results in one."""
        by_address: dict[str, list[int]] = {}
        for partition in partitions:
            address = self._owners.address_of(partition)
            if address is not None:
                by_address.setdefault(address, []).append(partition)

        async def found_at(address: str, owned: Collection[int]) -> Mapping[int, T]:
            try:
                return await call(address, owned)
            except LedgerError:
                return {}

        found: dict[int, T] = {}
        for at_node in await asyncio.gather(*(found_at(address, owned) for address, owned in by_address.items())):
            found.update(at_node)
        return found


async def _within(seconds: float, address: str, call: Awaitable[T]) -> T:
    """Raises PeerSilent where the call takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise PeerSilent(f"the node at {address} did not respond within {seconds:g} s") from None
