"""Nodes in one process that share a log in memory, and forward requests to each other by calls that can fail.

    async with ClusterInMemory(partitions=4, nodes=2) as cluster:
        await cluster.give([0], "a")
        await cluster.settled()
        cluster["b"].peers.troubles.append(Trouble.RESPONSE_LOST)
        response = await cluster["b"].post(deposit(500))

Each message is encoded to bytes and decoded again, as over HTTP. The clock is the event loop's.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from api.nodes.messages import (
    Follow,
    read_ends,
    read_follow_ups,
    read_open_follow_ups,
    read_requests,
    read_responses,
    write_ends,
    write_follow_ups,
    write_open_follow_ups,
    write_requests,
    write_responses,
)
from ledger.cluster_ports import Assignee
from ledger.core.commands import Command
from ledger.core.events import Event
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.core.record import decode
from ledger.errors import LedgerError, LogUnavailable
from ledger.memory.log import Appended, MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.ports import End, OpenFollowUps, PeerSilent, PeerUnreachable
from ledger.peers.forwarding import Forwarding
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from ledger.tracing import Span
from ledger.writer.requests import Accepted, AnyResponse, Failed, Request
from unit.given import ASSETS, NOON
from unit.node_in_memory import request_sha256

_SETTLED_WITHIN_S: Final = 30.0


class Trouble(enum.Enum):
    """What happens to one call."""

    NONE = enum.auto()
    UNREACHABLE = enum.auto()
    LOST = enum.auto()
    """It never arrives; its sender sees that the connection broke."""
    LATE = enum.auto()
    """It arrives ``ClusterInMemory.late_s`` after its sender saw that the connection broke."""
    RESPONSE_LOST = enum.auto()
    """It is decided; its response never arrives."""
    SLOW = enum.auto()
    """It arrives after ``ClusterInMemory.slow_s``, and gets a response."""
    HANGS = enum.auto()
    """It is decided, and the connection stays open without a response."""


class Agreement:
    """The true owners. A member knows them only after ``refresh``."""

    def __init__(self) -> None:
        self.owners: dict[int, str] = {}
        self.members: dict[str, MemoryOwners] = {}
        self.generation = 0
        self.away = False
        self._turn = asyncio.Lock()

    async def give(self, partitions: Sequence[int], address: str | None) -> None:
        """Give the partitions to the node at ``address``; None: to no node."""
        async with self._turn:
            before = {name: self.of(name) for name in self.members}
            for partition in partitions:
                if address is None:
                    self.owners.pop(partition, None)
                else:
                    self.owners[partition] = address
            self.generation += 1
            members = list(self.members.items())
            for name, member in members:
                if gone := before[name] - self.of(name):
                    await member.assignee.lose(gone)
            for name, member in members:
                if name in self.members:
                    await member.assignee.gain(self.of(name), self.generation)

    def of(self, address: str) -> frozenset[int]:
        return frozenset(partition for partition, owner in self.owners.items() if owner == address)


class MemoryOwners:
    """``Owners`` of one member."""

    def __init__(self, agreement: Agreement, address: str) -> None:
        self._agreement, self._address = agreement, address
        self.known: dict[int, str] = {}
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.absent_for = 0.0
        self.assignee: Assignee

    async def begin(self, assignee: Assignee) -> None:
        self.assignee = assignee

    async def join(self) -> None:
        self._agreement.members[self._address] = self

    async def leave(self) -> None:
        self._agreement.members.pop(self._address, None)

    def address_of(self, partition: int) -> str | None:
        return self.known.get(partition)

    async def refresh(self) -> None:
        await asyncio.sleep(0.005)
        if self._agreement.away:
            raise LogUnavailable("the group's coordinator does not respond")
        self.known = dict(self._agreement.owners)

    async def is_mine(self, partition: int) -> bool:
        await asyncio.sleep(0)
        return self._agreement.owners.get(partition) == self._address


class MemoryPeers:
    """``Peers`` of one node: calls to the other nodes of the cluster. Each call may meet a trouble."""

    def __init__(self, cluster: "ClusterInMemory", name: str) -> None:
        self._cluster, self._name = cluster, name
        self.troubles: deque[Trouble] = deque()
        """The troubles of the next calls; later calls have none."""
        self.calls: list[tuple[str, list[Request]]] = []
        self.delivered: list[tuple[str, list[AnyFollowUp]]] = []
        self.late: set[asyncio.Task[Any]] = set()

    async def decide(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[AnyResponse]:
        self.calls.append((address, list(requests)))
        body, indexes = write_requests(requests, deadline_us)

        async def receive(handler: PeerHandler) -> list[AnyResponse]:
            arrived, until_us = read_requests(body, self._cluster.follow)
            await handler.decide(arrived, until_us)
            responses = read_responses(write_responses([request.response for request in arrived]))
            return [responses[index] for index in indexes]

        responses: list[AnyResponse] = await self._call(address, receive)
        return responses

    async def deliver(
        self, address: str, follow_ups: Sequence[AnyFollowUp], spans: Sequence[Span | None]
    ) -> Sequence[bool]:
        self.delivered.append((address, list(follow_ups)))

        async def receive(handler: PeerHandler) -> list[bool]:
            return await handler.receive(*read_follow_ups(write_follow_ups(follow_ups, spans), self._cluster.follow))

        arrived: list[bool] = await self._call(address, receive)
        return arrived

    async def ends(self, address: str) -> Mapping[int, End]:
        await asyncio.sleep(0.001)
        return read_ends(write_ends(self._site(address).log_view.local_ends()))

    async def open_follow_ups(self, address: str, after: Mapping[int, int]) -> Mapping[int, OpenFollowUps]:
        await asyncio.sleep(0.001)
        found = self._site(address).log_view.local_open_follow_ups(after)
        return read_open_follow_ups(write_open_follow_ups(found))

    async def records(self, address: str, partition: int, from_seq: int, limit: int) -> list[bytes]:
        await asyncio.sleep(0.001)
        records = await self._site(address).log_view.local_records(partition, from_seq, limit)
        if records is None:
            raise PeerUnreachable(f"partition {partition} is not open at {address}")
        return records

    async def close(self) -> None:
        pass

    def _site(self, address: str) -> "Site":
        site = self._cluster.sites.get(address)
        if site is None:
            raise PeerUnreachable(f"no node listens at {address}")
        return site

    async def _call(self, address: str, receive: Any) -> Any:
        trouble = self.troubles.popleft() if self.troubles else Trouble.NONE
        await asyncio.sleep(0.001)
        if trouble is Trouble.UNREACHABLE:
            raise PeerUnreachable(f"no response from {address}")
        site = self._site(address)
        handler = PeerHandler(site.node)
        if trouble is Trouble.LOST:
            raise PeerSilent(f"{address} broke the connection")
        if trouble is Trouble.LATE:
            late = asyncio.create_task(self._later(handler, receive), name=f"late-{self._name}")
            self.late.add(late)
            raise PeerSilent(f"{address} broke the connection")
        if trouble is Trouble.SLOW:
            await asyncio.sleep(self._cluster.slow_s)
        response = await unless_it_dies(site, receive(handler))
        if trouble is Trouble.HANGS:
            await asyncio.sleep(3_600)
        if trouble is Trouble.RESPONSE_LOST:
            raise PeerSilent(f"{address} broke the connection")
        return response

    async def _later(self, handler: PeerHandler, receive: Any) -> None:
        await asyncio.sleep(self._cluster.late_s)
        await receive(handler)


class Site:
    """One node with its own adapters."""

    def __init__(self, cluster: "ClusterInMemory", name: str) -> None:
        self.name = name
        ahead_us = cluster.ahead_us.get(name, 0)

        def clock() -> int:
            return cluster.clock() + ahead_us

        self.owners = MemoryOwners(cluster.agreement, name)
        self.peers = MemoryPeers(cluster, name)
        self.forwarding = Forwarding(self.owners, self.peers, clock, cluster.partitions, name, **cluster.forwarding)
        self.log = MemoryEventLog(cluster.partitions, cluster.appended, shared=True)
        self.node = Node(
            self.log,
            MemoryStateStore(),
            clock,
            ASSETS,
            owners=self.owners,
            others=self.forwarding,
        )
        self.log_view = LogView(self.node, self.owners, self.forwarding)
        self.gone = asyncio.Event()

    async def post(self, command: Command, **options: Any) -> AnyResponse:
        """``options``: of ``Node.post``."""
        return await self.node.post(command, request_sha256(command), "local", **options)

    async def post_many(self, *commands: Command, games: frozenset[str] | None = None) -> list[AnyResponse]:
        hashed = [(command, request_sha256(command)) for command in commands]
        return await self.node.post_many(hashed, "local", games=games)

    async def accepted(self, command: Command) -> Accepted:
        response = await self.post(command)
        assert isinstance(response, Accepted), response
        return response

    async def failed(self, command: Command) -> Failed:
        response = await self.post(command)
        assert isinstance(response, Failed), response
        return response

    async def cash(self, user_id: str) -> int:
        read = await self.node.wallet(user_id)
        assert not isinstance(read, Failed), read
        balance = read.wallet.balances.get("INR")
        return 0 if balance is None else balance.cash


class ClusterInMemory:
    """Some nodes. Their names a, b, c … are also their addresses."""

    def __init__(self, partitions: int = 2, nodes: int = 2, **forwarding: Any) -> None:
        self.partitions, self.forwarding = partitions, forwarding
        self.appended = Appended(partitions)
        self.agreement = Agreement()
        self.sites: dict[str, Site] = {}
        self.late_s = self.slow_s = 0.5
        self.ahead_us: dict[str, int] = {}
        """Name → how far the clock of the node is ahead; it counts from the node's next start."""
        self.follow: Follow | None = None
        """What makes the spans of the other nodes; None: nothing is traced."""
        self._names = "abcdefgh"[:nodes]
        self._began_s = asyncio.get_running_loop().time()

    def clock(self) -> int:
        return NOON + round((asyncio.get_running_loop().time() - self._began_s) * 1e6)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def user(self, partition: int, number: int = 0) -> str:
        """The name of a user whose wallet is in that partition."""
        found = (f"u{count}" for count in range(10_000) if partition_of(f"u{count}", self.partitions) == partition)
        for _ in range(number):
            next(found)
        return next(found)

    async def start(self, name: str) -> Site:
        site = self.sites[name] = Site(self, name)
        await site.node.start()
        await site.node.join()
        return site

    async def give(self, partitions: Sequence[int], name: str | None) -> None:
        await self.agreement.give(partitions, name)

    async def settled(self) -> None:
        """Wait until each partition with an owner is open on it."""
        async with asyncio.timeout(_SETTLED_WITHIN_S):
            while not all(  # noqa: ASYNC110 - a state of many writers
                partition in self.sites[name].log_view.local_ends()
                for partition, name in self.agreement.owners.items()
            ):
                await asyncio.sleep(0.001)

    async def refresh_owners(self) -> None:
        """Make every node read the owners."""
        for site in self.sites.values():
            await site.owners.refresh()

    async def crash(self, name: str) -> None:
        """The process dies: nothing is finished or saved. It owns its partitions until another node gets them."""
        site = self.sites.pop(name)
        self.agreement.members.pop(name, None)
        site.gone.set()
        node: Any = site.node
        forwarding: Any = site.forwarding
        tasks = [writer._task for writer in node.writers.values()]
        tasks += [node._checkpoints._task, *node._owned._opening.values(), *node._owned._retiring.values()]
        tasks += [*forwarding._calls, forwarding._retrying, *forwarding._delivery._tasks.values()]
        ours = {task for task in tasks if task is not None and not task.done()}
        for task in ours:
            task.cancel()
        if ours:
            await asyncio.wait(ours)

    async def __aenter__(self) -> Self:
        for name in self._names:
            await self.start(name)
        share = -(-self.partitions // len(self._names))
        for number, name in enumerate(self._names):
            await self.give(range(number * share, min((number + 1) * share, self.partitions)), name)
        await self.settled()
        await self.refresh_owners()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for site in list(self.sites.values()):
            late = [task for task in site.peers.late if not task.done()]
            for task in late:
                task.cancel()
            await self.crash(site.name)

    # --- the log -------------------------------------------------------------------------------------------------

    def events(self, user_id: str | None = None) -> list[Event]:
        found = [decode(record).event for records in self.appended.records for record in records]
        return [event for event in found if user_id in (None, event.user_id)]

    def commands(self, user_id: str) -> list[str]:
        return [event.command_id for event in self.events(user_id)]

    def types(self, user_id: str) -> list[str]:
        return [event.data.type for event in self.events(user_id)]

    def total(self, account: str) -> int:
        return sum(
            amount for event in self.events() for posted, _, amount in event.postings if posted.startswith(account)
        )


async def unless_it_dies(site: Site, response: Any) -> Any:
    """Returns the response. Raises PeerSilent if the node dies before it."""
    responding = asyncio.ensure_future(response)
    dying = asyncio.ensure_future(site.gone.wait())
    try:
        await asyncio.wait({responding, dying}, return_when=asyncio.FIRST_COMPLETED)
        if responding.done():
            return responding.result()
        raise PeerSilent(f"{site.name} broke the connection")
    finally:
        responding.cancel()
        dying.cancel()
