"""What a node needs of the other nodes: who has which partition, and a way to ask them. Ports only.

A node that has a log for itself needs neither: it has every partition. On a shared log each partition has at most one
owner at a time *by agreement*; that nobody else's append counts is the chain's work, not the agreement's
(``ledger/logs/kafka.py``, truth (7) of ``ledger/writer.py``).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ledger.commands import AnyFollowUp
from ledger.ports import LedgerError
from ledger.tickets import Ticket

Gained = Callable[[frozenset[int], int], Awaitable[None]]
"""(partitions, generation): they are this node's now. Returns once their writers have begun to open them."""

Lost = Callable[[frozenset[int]], Awaitable[None]]
"""These are this node's no longer, or not for now. Returns once what was in flight is finished."""


class Owners(Protocol):
    """The agreement between nodes on who has which partition, and this node's part in it."""

    async def join(self, gained: Gained, lost: Lost) -> None:
        """Take part. The two are called one at a time. Raises LogUnavailable."""
        ...

    async def leave(self) -> None:
        """Tell the others at once, after ``lost`` has been called. Leaving again is harmless."""
        ...

    def address_of(self, partition: int) -> str | None:
        """Where the partition's owner can be reached, as last heard; None if nobody is known to have it."""
        ...

    async def refresh(self) -> None:
        """Hear again who has what. Raises LogUnavailable."""
        ...

    async def is_mine(self, partition: int) -> bool:
        """Whether the agreement, asked after the call, says that this node has it. Raises LogUnavailable."""
        ...


class PeerUnreachable(LedgerError):
    """The other node did not take the question: nothing of it was decided, or will be."""


class PeerSilent(LedgerError):
    """The other node may have taken the question and decided it; its answer did not arrive."""


class End(NamedTuple):
    """Where a partition ends, and the time of its last event; 0 while it is empty."""

    seq: int
    sha256: str
    time_us: int


class Peers(Protocol):
    """The other nodes, by the addresses that they advertise."""

    async def ask(self, address: str, tickets: Sequence[Ticket], deadline_us: int) -> None:
        """Have the node there answer all of the tickets, which are closed then. It decides none of them after
        ``deadline_us`` (Unix microseconds). Raises PeerUnreachable, PeerSilent: none is closed then."""
        ...

    async def deliver(self, address: str, follow_ups: Sequence[AnyFollowUp]) -> Sequence[bool]:
        """Give the follow-ups to their wallets' writers there; for each whether its event is durable.
        Raises PeerUnreachable, PeerSilent: deliver again, it is harmless."""
        ...

    async def ends(self, address: str) -> Mapping[int, End]:
        """Where the partitions end that the node there has open. Raises PeerUnreachable, PeerSilent."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...
