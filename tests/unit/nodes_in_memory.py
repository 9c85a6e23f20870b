"""Several nodes on one log in memory. The test decides which node owns which partition.

    cluster = Cluster(partitions=4)
    a, b = await cluster.node("a"), await cluster.node("b")      # two `World`s
    await cluster.give(a={0, 1}, b={2, 3})                       # the next generation; every node learns it
    await cluster.give(a={0}, b={1, 2, 3}, unaware={"a"})        # a does not learn it
    await cluster.settled()

Follow-ups go between the nodes by `Neighbours`, in place of the forwarding.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ledger.cluster_ports import Assignee
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LedgerError, LogUnavailable
from ledger.memory.log import Appended
from ledger.node.ports import End, LocalWriters, OpenFollowUps
from ledger.tracing import Span
from ledger.writer.requests import Request
from unit.node_in_memory import WatchedLog, World


class Member:
    """``Owners`` of one node."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster, self.name = cluster, name
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.absent_for = 0.0
        self.owned: frozenset[int] = frozenset()
        self.known_generation = -1
        self.left = False
        self.away = False
        self.is_mine_calls: list[int] = []
        """The partitions of the calls to ``is_mine``."""
        self.joined = False
        self.assignee: Assignee

    async def begin(self, assignee: Assignee) -> None:
        self.assignee = assignee

    async def join(self) -> None:
        self.joined = True

    async def leave(self) -> None:
        self.left = True

    async def learn(self, partitions: frozenset[int], generation: int) -> None:
        """As in a real group, the member keeps the partitions that it owned in the previous generation."""
        if self.left or not self.joined:
            return
        kept = self.owned & partitions if self.known_generation == generation - 1 else frozenset()
        before, self.owned, self.known_generation = self.owned, partitions, generation
        if before - kept:
            await self.assignee.lose(before - kept)
        if not self.left:
            await self.assignee.gain(partitions, generation)
            if self._cluster.with_standbys:
                self.assignee.stand_by_for(frozenset(range(self._cluster.partitions)) - partitions)

    def address_of(self, partition: int) -> str | None:
        return next((name for name, share in self._cluster.shares.items() if partition in share), None)

    async def refresh(self) -> None:
        """The owners are always known."""

    async def is_mine(self, partition: int) -> bool:
        await asyncio.sleep(0)
        self.is_mine_calls.append(partition)
        if self.away:
            raise LogUnavailable("the coordinator does not respond")
        return partition in self._cluster.shares.get(self.name, ())


class Neighbours:
    """``OtherNodes`` that calls the other nodes of the process. It delivers each follow-up until it has arrived."""

    may_exist = True

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[None]] = set()
        self._local: LocalWriters | None = None

    @property
    def waiting(self) -> int:
        return len(self._tasks)

    def bind(self, local: LocalWriters) -> None:
        self._local = local

    def submit(self, requests: Sequence[Request]) -> None:
        assert self._local is not None
        self._local.submit_local(requests)

    def deliver(
        self, _: int, __: int, follow_up: AnyFollowUp, arrived: Callable[[], None], span: Span | None = None
    ) -> None:
        task = asyncio.get_running_loop().create_task(
            self._until_arrived(follow_up, arrived), name="writer-to-others"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_arrived(self, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        done = asyncio.Event()
        while not done.is_set():
            for world in self._cluster.worlds.values():
                world.node.receive_local(follow_up, done.set)
            try:
                async with asyncio.timeout(0.02):
                    await done.wait()
            except TimeoutError:
                continue
        arrived()

    async def ends(self, partitions: Iterable[int]) -> dict[int, End]:
        nodes = [world.node for world in self._cluster.worlds.values()]
        open_ = {partition: writer for node in nodes for partition, writer in node.writers.items() if writer.is_open}
        return {
            partition: End(*open_[partition].head, open_[partition].time_us)
            for partition in open_.keys() & {*partitions}
        }

    async def open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        found: dict[int, OpenFollowUps] = {}
        for name, share in self._cluster.shares.items():
            if name in self._cluster.worlds:
                owned = {partition: after[partition] for partition in share & after.keys()}
                found |= self._cluster.worlds[name].node.open_follow_ups(owned)
        return found

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        raise AssertionError("no test of this cluster reads records of other nodes")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()


class Cluster:
    """The log, and the owners of its partitions."""

    def __init__(
        self,
        partitions: int = 4,
        *,
        neighbours: bool = True,
        new_log: Callable[[Appended], WatchedLog] | None = None,
        **options: Any,
    ) -> None:
        """``new_log``: each node's view of the log."""
        self.new_log = new_log
        self.appended = Appended(partitions)
        self.partitions = partitions
        self.neighbours = neighbours
        self.with_standbys = False
        """Whether each node stands by for all partitions of the others."""
        self.options = options
        self.generation = 0
        self.clock_off_us = 0
        """For a node with ``clock_off_us=lambda: cluster.clock_off_us``."""
        self.shares: dict[str, frozenset[int]] = {}
        self.members: dict[str, Member] = {}
        self.worlds: dict[str, World] = {}

    async def node(self, name: str, **options: Any) -> World:
        """Start a node without partitions. A node that starts again after a crash has the same state store."""
        member = self.members[name] = Member(self, name)
        given: dict[str, Any] = {"owners": member, **self.options, **options}
        if self.neighbours:
            given.setdefault("others", Neighbours(self))
        if name in self.worlds:
            self.worlds[name].options = given
        else:
            self.worlds[name] = World(self.partitions, shared=True, **given)
            self.worlds[name].appended = self.appended
            if self.new_log is not None:
                self.worlds[name].new_log = functools.partial(self.new_log, self.appended)  # type: ignore[method-assign]
        self.worlds[name].clock = next(iter(self.worlds.values())).clock
        return await self.worlds[name].start()

    async def give(self, *, unaware: Collection[str] = (), **shares: set[int]) -> None:
        """Begin the next generation. A node without a share owns nothing. ``unaware`` nodes do not learn it."""
        self.generation += 1
        self.shares = {name: frozenset(share) for name, share in shares.items()}
        learning = [member for name, member in self.members.items() if name not in unaware]
        await asyncio.gather(
            *(member.learn(self.shares.get(member.name, frozenset()), self.generation) for member in learning)
        )

    async def settled(self) -> None:
        """Wait until every node has opened the partitions that it believes to own."""
        async with asyncio.timeout(60):
            for name, world in self.worlds.items():
                while not self.members[name].left and not world.node.ready:  # noqa: ASYNC110 - many writers' state
                    await asyncio.sleep(0.001)

    def owner_of(self, user_id: str) -> World:
        partition = partition_of(user_id, self.partitions)
        return self.worlds[next(name for name, share in self.shares.items() if partition in share)]

    async def crash_one(self, name: str) -> None:
        """The process of one node dies: its requests never get a response."""
        world = self.worlds[name]
        node, self.members[name].left = world.node, True
        tasks = [writer._task for writer in node.writers.values()]
        tasks += [*node._owned._opening.values(), *node._owned._retiring.values(), node._checkpoints._task]
        tasks.append(node._unsettled._task)
        standbys = node._owned.standbys
        tasks += [*standbys._following.values(), *standbys._ending.values(), standbys._closing]
        if isinstance(node._others, Neighbours):
            tasks += node._others._tasks
        node.writers.clear()
        live = {task for task in tasks if task is not None and not task.done()}
        for task in live:
            task.cancel()
        if live:
            await asyncio.wait(live)

    async def crash(self) -> None:
        for world in self.worlds.values():
            await world.crash()
