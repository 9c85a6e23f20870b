"""Several nodes on one log in memory, and the agreement on who has which partition, which a test makes as it likes.

    cluster = Cluster(partitions=4)
    a, b = await cluster.node("a"), await cluster.node("b")      # two `World`s
    await cluster.give(a={0, 1}, b={2, 3})                       # the next generation; everybody hears of it
    await cluster.give(a={0}, b={1, 2, 3}, deaf={"a"})           # … but a does not
    await cluster.settled()

Nodes reach each other by `Neighbours`, as forwarding would: what is not here goes to whoever says it has it.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ledger.core.commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LedgerError, LogUnavailable
from ledger.memory.log import Appended
from ledger.node.ports import Gained, Here, Inheritance, Lost
from ledger.writer.requests import Request
from unit.node_in_memory import WatchedLog, World


class Member:
    """``Owners`` of one node."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster, self.name = cluster, name
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.absent_for = 0.0
        self.held: frozenset[int] = frozenset()
        self.heard = -1
        self.left = False
        self.away = False
        self.asked: list[int] = []
        """The partitions of which it was asked whether they are its node's."""
        self._gained: Gained | None = None
        self._lost: Lost | None = None
        self.inheritance: Inheritance | None = None

    async def join(self, gained: Gained, lost: Lost, inheritance: Inheritance) -> None:
        self._gained, self._lost, self.inheritance = gained, lost, inheritance

    async def leave(self) -> None:
        self.left = True
        self._gained = self._lost = None

    async def hear(self, partitions: frozenset[int], generation: int) -> None:
        """As a member of a real group: what it had in the very generation before it has kept."""
        if self.left or self._gained is None or self._lost is None:
            return
        kept = self.held & partitions if self.heard == generation - 1 else frozenset()
        before, self.held, self.heard = self.held, partitions, generation
        if before - kept:
            await self._lost(before - kept)
        if not self.left and self._gained is not None:
            await self._gained(partitions, generation)
            if self._cluster.with_heirs and self.inheritance is not None:
                self.inheritance.inherit(frozenset(range(self._cluster.partitions)) - partitions)

    def address_of(self, partition: int) -> str | None:
        return next((name for name, share in self._cluster.shares.items() if partition in share), None)

    async def refresh(self) -> None:
        """It always knows."""

    async def is_mine(self, partition: int) -> bool:
        await asyncio.sleep(0)
        self.asked.append(partition)
        if self.away:
            raise LogUnavailable("the coordinator does not answer")
        return partition in self._cluster.shares.get(self.name, ())


class Neighbours:
    """``Remote`` by calling the other nodes of the process; delivers again and again until it has arrived."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[None]] = set()
        self._here: Here | None = None

    def begin(self, here: Here) -> None:
        self._here = here

    def submit(self, requests: Sequence[Request]) -> None:
        assert self._here is not None
        self._here.submit_here(requests)

    def deliver(self, _: int, __: int, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(
            self._until_arrived(follow_up, arrived), name="writer-to-others"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_arrived(self, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        done = asyncio.Event()
        while not done.is_set():
            for world in self._cluster.worlds.values():
                world.node.receive_here(follow_up, done.set)
            try:
                async with asyncio.timeout(0.02):
                    await done.wait()
            except TimeoutError:
                continue
        arrived()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()


class Cluster:
    """The log, and who has what."""

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
        self.with_heirs = False
        """Whether each node keeps ready what others have."""
        self.options = options
        self.generation = 0
        self.clock_off_us = 0
        """For a node that is made with ``clock_off_us=lambda: cluster.clock_off_us``."""
        self.shares: dict[str, frozenset[int]] = {}
        self.members: dict[str, Member] = {}
        self.worlds: dict[str, World] = {}

    async def node(self, name: str, **options: Any) -> World:
        """A node that has nothing yet; again under the same name: on the same state store, after a crash."""
        member = self.members[name] = Member(self, name)
        given: dict[str, Any] = {"owners": member, **self.options, **options}
        if self.neighbours:
            given.setdefault("remote", Neighbours(self))
        if name in self.worlds:
            self.worlds[name].options = given
        else:
            self.worlds[name] = World(self.partitions, shared=True, **given)
            self.worlds[name].appended = self.appended
            if self.new_log is not None:
                self.worlds[name].new_log = functools.partial(self.new_log, self.appended)  # type: ignore[method-assign]
        self.worlds[name].clock = next(iter(self.worlds.values())).clock
        return await self.worlds[name].start()

    async def give(self, *, deaf: Collection[str] = (), **shares: set[int]) -> None:
        """The next generation; a node that is not named has nothing, one that is ``deaf`` does not hear of it."""
        self.generation += 1
        self.shares = {name: frozenset(share) for name, share in shares.items()}
        hearing = [member for name, member in self.members.items() if name not in deaf]
        await asyncio.gather(
            *(member.hear(self.shares.get(member.name, frozenset()), self.generation) for member in hearing)
        )

    async def settled(self) -> None:
        """Until whoever has a partition, and has heard of it, has it open."""
        async with asyncio.timeout(10):
            for name, world in self.worlds.items():
                while not self.members[name].left and not world.node.ready:  # noqa: ASYNC110 - many writers' state
                    await asyncio.sleep(0.001)

    def owner_of(self, user_id: str) -> World:
        partition = partition_of(user_id, self.partitions)
        return self.worlds[next(name for name, share in self.shares.items() if partition in share)]

    async def crash_one(self, name: str) -> None:
        """That process ends here: what it was asked is never answered."""
        world = self.worlds[name]
        node, self.members[name].left = world.node, True
        assert node._holdings is not None
        tasks = [writer._task for writer in node.writers.values()]
        tasks += [*node._holdings._taking.values(), *node._holdings._retiring.values(), node._checkpoints._task]
        heirs = node._holdings.heirs
        tasks += [*heirs._following.values(), *heirs._ending.values(), heirs._closing]
        if isinstance(node._remote, Neighbours):
            tasks += node._remote._tasks
        node.writers.clear()
        live = {task for task in tasks if task is not None and not task.done()}
        for task in live:
            task.cancel()
        if live:
            await asyncio.wait(live)

    async def crash(self) -> None:
        for world in self.worlds.values():
            await world.crash()
