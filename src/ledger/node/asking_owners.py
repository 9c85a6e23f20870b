"""One question to every node that has some of these partitions, all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

from ledger.errors import LedgerError
from ledger.node.ports import Owners

T = TypeVar("T")


async def asked_of_owners(
    owners: Owners, partitions: Iterable[int], ask: Callable[[str, Collection[int]], Awaitable[Mapping[int, T]]]
) -> dict[int, T]:
    """Partition → what its owner says of it, who may also speak of others. ``ask``: (address, its partitions among
    these). Those whose owner is not known, or does not answer, are left out."""
    at: dict[str, list[int]] = {}
    for partition in partitions:
        address = owners.address_of(partition)
        if address is not None:
            at.setdefault(address, []).append(partition)

    async def answer_of(address: str, asked: Collection[int]) -> Mapping[int, T]:
        try:
            return await ask(address, asked)
        except LedgerError:
            return {}

    found: dict[int, T] = {}
    for of_node in await asyncio.gather(*(answer_of(address, asked) for address, asked in at.items())):
        found.update(of_node)
    return found
