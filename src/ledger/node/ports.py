"""The node's ports to the other nodes: their clients, and the forwarding that uses them.

A node that owns the whole log has no other nodes: ``ledger/node/owns_all.py``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from ledger.core.follow_up_commands import AnyFollowUp
from ledger.errors import LedgerError
from ledger.tracing import Span
from ledger.writer.requests import AnyResponse, Request


class PeerUnreachable(LedgerError):
    """The other node did not receive the call: it has decided none of its requests, and never will."""

    for_clients = "the node that owns the wallet's partition cannot be reached"


class PeerSilent(LedgerError):
    """The other node may have received the call and decided its requests; its response did not arrive."""

    for_clients = "the node that owns the wallet's partition did not respond"


class End(NamedTuple):
    """The head of a partition, and the time of its last event; 0 while the partition is empty."""

    seq: int
    sha256: str
    time_us: int


OPEN_FOLLOW_UPS_PAGE: Final = 10_000
"""Chosen: 80 kB. While a receiver is stopped, millions of follow-ups can be open."""


class OpenFollowUps(NamedTuple):
    """A page of the follow-ups of one partition that are not known to have arrived: the seqs, in order, of the events
    after a given seq, up to ``known_to``, that sent them. A page with less than ``OPEN_FOLLOW_UPS_PAGE`` of them goes
    to the partition's last seq, as its owner knows it."""

    known_to: int
    seqs: Sequence[int]

    @property
    def is_last(self) -> bool:
        """Whether no page comes after it."""
        return len(self.seqs) < OPEN_FOLLOW_UPS_PAGE


class Peers(Protocol):
    """Calls to the other nodes, by the addresses that they advertise."""

    async def decide(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[AnyResponse]:
        """The node's response to each of the requests, group by group. The node decides none of them after
        ``deadline_us`` (Unix microseconds), and forwards none. The requests themselves stay open. Raises
        PeerUnreachable, PeerSilent."""
        ...

    async def deliver(
        self, address: str, follow_ups: Sequence[AnyFollowUp], spans: Sequence[Span | None]
    ) -> Sequence[bool]:
        """Give the follow-ups to the writers of their wallets; for each, whether its event is durable. ``spans``: of
        the rounds that sent them. Raises PeerUnreachable, PeerSilent: a second delivery is harmless."""
        ...

    async def ends(self, address: str) -> Mapping[int, End]:
        """The ends of the partitions that are open at this node. Raises PeerUnreachable, PeerSilent."""
        ...

    async def records(self, address: str, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """As ``EventLog.read``, of a partition that is open at this node. Raises PeerUnreachable, also where the
        partition is not open there; PeerSilent."""
        ...

    async def open_follow_ups(self, address: str, after: Mapping[int, int]) -> Mapping[int, OpenFollowUps]:
        """The open follow-ups of each of these partitions that is open at this node. Raises PeerUnreachable,
        PeerSilent."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class LocalWriters(Protocol):
    """The writers of this node, as the forwarding between nodes uses them."""

    async def prepare_local(self, requests: Sequence[Request]) -> None:
        """Before ``submit_local``: read from the log what is needed to decide them. Closes those for which it cannot
        be read."""
        ...

    def submit_local(self, requests: Sequence[Request]) -> None:
        """Submit the open ones of the requests, in this order, to the writers of this node. A request whose partition
        is not open on this node is closed as ``not_owner`` at once."""
        ...

    def receive_local(self, follow_up: AnyFollowUp, arrived: Callable[[], None], span: Span | None = None) -> bool:
        """Whether a writer of this node has taken the follow-up. ``arrived`` is called once its event is durable,
        and never if the node loses the partition before: wait with a time limit, and deliver again."""
        ...

    async def open_follow_ups_after(
        self, origin: int, seq: int, limit: int
    ) -> list[tuple[int, AnyFollowUp, Callable[[], None]]] | None:
        """The first ``limit`` open follow-ups of the events of ``origin`` above ``seq``: each with the seq of its
        event, and what to call once it has arrived. None: the partition is not on this node. Raises LedgerError."""
        ...


class OtherNodes(Protocol):
    """All partitions that are not open on this node: requests, follow-ups and reads for them."""

    @property
    def may_exist(self) -> bool:
        """Whether other nodes may call this one."""
        ...

    @property
    def waiting(self) -> int:
        """How many follow-ups wait in memory."""
        ...

    def bind(self, local: LocalWriters) -> None:
        """Called once, before everything else. ``local`` serves partitions that come to this node later."""
        ...

    def submit(self, requests: Sequence[Request]) -> None:
        """Close each request in time. They belong to one HTTP request, in its order, and the requests of one wallet
        are decided in that order. A partition may open on this node before its owner is looked up."""
        ...

    def deliver(
        self,
        origin: int,
        seq: int,
        follow_up: AnyFollowUp,
        arrived: Callable[[], None],
        span: Span | None = None,
    ) -> None:
        """Deliver the follow-up that event ``seq`` of partition ``origin`` sent, at least once, until its event is
        durable; then call ``arrived``. ``span``: of the round that sent it. It may be given up when this node stops:
        the next owner of the origin delivers it again. Only some wait in memory; the others are read by
        ``open_follow_ups_after``."""
        ...

    async def ends(self, partitions: Iterable[int]) -> dict[int, End]:
        """The ends of these partitions, and perhaps of others, as their owners know them. Partitions without a known
        owner, or whose owner does not respond, are left out."""
        ...

    async def open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        """The open follow-ups of these partitions after these seqs, as their owners know them; left out as in
        ``ends``."""
        ...

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        """As ``EventLog.read``, from the partition's owner; None where no owner responds."""
        ...

    async def close(self) -> None:
        """Close the waiting requests as ``shutting_down``, give up the undelivered follow-ups, release everything."""
        ...
