"""What a node needs of the other nodes: who has which partition, and a way to ask them. Ports only.

A node that has a log for itself needs neither: it has every partition. On a shared log each partition has at most one
owner at a time *by agreement*; that nobody else's append counts is the chain's work, not the agreement's
(``ledger/kafka/log.py``, truth (7) of ``ledger/writer/writer.py``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from ledger.core.commands import AnyFollowUp
from ledger.errors import LedgerError
from ledger.writer.requests import Answer, Request

Gained = Callable[[frozenset[int], int], Awaitable[None]]
"""(partitions, generation): they are this node's now, all that it has; none at all where there are more nodes than
partitions. One that it had already, and was not told to have lost, it has had all the while: nobody had it in
between. Returns at once: they are opened by and by."""

Lost = Callable[[frozenset[int]], Awaitable[None]]
"""These are this node's no longer, or somebody may have had them in between. Returns once what was in flight is
finished."""


class Inheritance(Protocol):
    """What a node keeps ready of partitions that are others'."""

    def inherit(self, partitions: frozenset[int]) -> None:
        """Keep the state of these ready, and of no others."""
        ...

    def holds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Partition → the seq that was reached, of those that are this node's, and of those that it keeps ready."""
        ...

    def is_ready_for(self, partition: int) -> bool:
        """Whether to take this one over would take no longer than a moment."""
        ...


class Owners(Protocol):
    """The agreement between nodes on who has which partition, and this node's part in it."""

    @property
    def failed(self) -> asyncio.Future[LedgerError]:
        """Done, with the reason, where this node can take no part in it."""
        ...

    @property
    def absent_for(self) -> float:
        """How long the group has not confirmed that this node is a member, in session time-outs: after
        one of them the others may own its partitions. 0 before ``join`` and after ``leave``."""
        ...

    async def join(self, gained: Gained, lost: Lost, inheritance: Inheritance) -> None:
        """Take part: returns at once, and the first of the calls says what this node has. The two are called one at a
        time. ``inheritance`` is told what to keep ready, and asked what there is. Raises LogUnavailable,
        LogMisconfigured."""
        ...

    async def leave(self) -> None:
        """Tell the others at once that this node has nothing any more; neither is called after that. The caller has
        finished what was in flight. Leaving again, or without having joined, is harmless."""
        ...

    def address_of(self, partition: int) -> str | None:
        """Where the partition's owner can be reached, as last heard; None if nobody is known to have it."""
        ...

    async def refresh(self) -> None:
        """Hear again who has what. Raises LogUnavailable."""
        ...

    async def is_mine(self, partition: int) -> bool:
        """Whether the agreement, asked after the call, says that this node has it. False, too, while it is being
        made anew: the next ``gained`` tells. Raises LogUnavailable."""
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

    async def ask(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[Answer]:
        """What the node there answers to each of the requests, which it takes request by request, as their parcels
        say. It decides none of them after ``deadline_us`` (Unix microseconds), and hands none on. The requests
        themselves stay open. Raises PeerUnreachable, PeerSilent."""
        ...

    async def deliver(self, address: str, follow_ups: Sequence[AnyFollowUp]) -> Sequence[bool]:
        """Give the follow-ups to their wallets' writers there; for each whether its event is durable.
        Raises PeerUnreachable, PeerSilent: deliver again, it is harmless."""
        ...

    async def ends(self, address: str) -> Mapping[int, End]:
        """Where the partitions end that the node there has open. Raises PeerUnreachable, PeerSilent."""
        ...

    async def records(self, address: str, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """As ``EventLog.read``, of a partition that the node there has open.
        Raises PeerUnreachable, also where it has it not; PeerSilent."""
        ...

    async def open_follow_ups(
        self, address: str, partitions: Collection[int]
    ) -> Mapping[int, tuple[int, Sequence[int]]]:
        """Of each of these partitions that the node there has open: its last seq, and the seqs of the events whose
        follow-ups are not known there to have arrived. Raises PeerUnreachable, PeerSilent."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class Here(Protocol):
    """This node's own writers, as whoever works for other nodes sees them."""

    def submit_here(self, requests: Sequence[Request]) -> None:
        """Put the requests, in their order, to the writers here; those whose partition is not open here are answered
        ``not_owner`` at once."""
        ...

    def receive_here(self, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> bool:
        """Whether there is a writer for it here. ``arrived`` is called once its event is durable, and never if the
        partition is lost before: wait for it with a time limit, and deliver again."""
        ...


class Remote(Protocol):
    """What becomes of what is asked of partitions that are not open here: the node's one way to other nodes.

    ``ledger/node/no_peers.py`` is a node without one.
    """

    def begin(self, here: Here) -> None:
        """Before anything else is called: where partitions are that have come here meanwhile."""
        ...

    def submit(self, requests: Sequence[Request]) -> None:
        """Close each request in time. They come from one HTTP request, in its order, and the requests of one wallet
        must be decided in that order. A partition may have been opened here before its owner is looked up."""
        ...

    def deliver(self, origin: int, seq: int, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        """See to it that the follow-up, which the event ``seq`` of partition ``origin`` sent, arrives at least once,
        however long it takes, and call ``arrived`` once its event is durable. The origin offers it again when it is
        opened anew, here or elsewhere, so it may be given up when this node stops."""
        ...

    async def close(self) -> None:
        """Close what still waits as ``shutting_down``, give up what is not delivered, release everything."""
        ...
