"""A node with a log and a state store in memory. Only the test moves its clock.

    world = World(partitions=1)
    await world.start()                                 # also after `crash` or `stop`: same log, same store
    response = await world.accepted(deposit(500))
    world.log.fail_next.append(Failure(OutcomeUnknown("…"), lands=True))
    await world.crash()                                 # the process dies: nothing is finished, nothing is saved

`World.replayed` folds the whole log: every response of a node must agree with it.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from hashlib import sha256
from itertools import count
from typing import Any, Final

from ledger.cluster_ports import Owners
from ledger.core.commands import Command, canonical
from ledger.core.events import Event, sums_to_zero
from ledger.core.evolve import evolve
from ledger.core.items import Item
from ledger.core.position import Position
from ledger.core.record import EMPTY_SHA256, Head, decode, sha256_hex
from ledger.core.rejections import Rejection
from ledger.core.state_values import Value
from ledger.core.wallet import Wallet
from ledger.errors import LedgerError
from ledger.memory.log import Appended, MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import NoOtherNodes, OwnsAll
from ledger.node.ports import OtherNodes
from ledger.ports import NewRecord, StateStore
from ledger.writer.requests import Accepted, AnyResponse, Failed, Refused
from ledger.writer.writer import Writer
from unit.given import ASSETS, NOON

MS: Final = 1_000


class Clock:
    def __init__(self) -> None:
        self.now_us = NOON

    def __call__(self) -> int:
        return self.now_us


class WatchedLog(MemoryEventLog):
    """Counts its appends. While ``gate`` is not set, each append waits."""

    def __init__(self, partitions: int, appended: Appended | None = None, *, shared: bool = False) -> None:
        super().__init__(partitions, appended, shared=shared)
        self.sizes: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        self.sizes.append(len(records))
        await self.gate.wait()
        await super().append(partition, after, records)


class BrittleStore(MemoryStateStore):
    """Each save raises ``fails`` if it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: LedgerError | None = None
        self.saves = 0

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        self.saves += 1
        if self.fails is not None:
            raise self.fails
        super().save(partition, changes, at, place)

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        return super().get(partition, keys)


class World:
    """A log and a state store. Nodes start on them one after the other; both stay when a node dies."""

    def __init__(
        self, partitions: int = 1, store: StateStore | None = None, *, shared: bool = False, **options: Any
    ) -> None:
        self.clock = Clock()
        self.shared = shared
        self.appended = Appended(partitions)
        self.store = BrittleStore() if store is None else store
        self.options = options
        self.log = WatchedLog(partitions, self.appended)
        self.node: Node
        self.owners: Owners
        self.others: OtherNodes

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> "World":
        self.log = self.new_log()
        options: dict[str, Any] = {"generation": 0, "others": None, **self.options}
        generation, others = options.pop("generation"), options.pop("others")
        options.setdefault("owners", OwnsAll(self.log.partitions, generation=generation))
        options["others"] = NoOtherNodes(self.log.partitions) if others is None else others
        self.owners, self.others = options["owners"], options["others"]
        self.node = Node(self.log, self.store, self.clock, ASSETS, **options)
        await self.node.start()
        await self.node.join()
        return self

    def new_log(self) -> WatchedLog:
        return WatchedLog(len(self.appended.records), self.appended, shared=self.shared)

    async def crash(self) -> None:
        """The process dies: its tasks stop at any point."""
        ours = [
            task
            for task in asyncio.all_tasks()
            if task.get_name().startswith(("writer-", "open-", "retire-", "standby-"))
            or task.get_name() in ("checkpoints", "unsettled")
        ]
        for task in ours:
            task.cancel()
        if ours:
            await asyncio.wait(ours)

    async def stop(self) -> None:
        await self.node.stop()

    async def restart(self) -> None:
        await self.crash()
        await self.start()

    async def dies_at(self, number: int, work: Coroutine[Any, Any, None], *, lands: bool) -> bool:
        """Do ``work``, and die at the append ``number``, counted from 0, before it lands or after; then start again.

        Returns whether there was such an append: if not, all of the work was done."""
        appends, reached, inner = count(), asyncio.Event(), self.log.append

        async def append(partition: int, after: Head, records: Sequence[NewRecord]) -> None:
            if next(appends) == number:
                if lands:
                    await inner(partition, after, records)
                reached.set()
            if reached.is_set():
                await asyncio.Event().wait()  # the process is dead
            await inner(partition, after, records)

        self.log.append = append  # type: ignore[method-assign]
        working, died = asyncio.ensure_future(work), asyncio.ensure_future(reached.wait())
        await asyncio.wait({working, died}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        for task in (working, died):
            task.cancel()
        await self.restart()
        return reached.is_set()

    @property
    def writer(self) -> Writer:
        return self.node.writers[0]

    async def save(self) -> None:
        for writer in self.node.writers.values():
            await writer.store_writes.save()

    async def quiet(self) -> None:
        """Wait until no writer has anything to do: all follow-ups have arrived."""
        async with asyncio.timeout(60):
            for _ in range(3):
                await asyncio.sleep(0)
                while self.node.follow_ups_waiting or not all(  # noqa: ASYNC110
                    writer.idle for writer in self.node.writers.values()
                ):
                    await asyncio.sleep(0.001)

    async def logged(self, event_type: str) -> None:
        """Wait until the log has an event of this type. Returns at once then, before any response is sent."""
        async with asyncio.timeout(60):
            while event_type not in self.types():  # noqa: ASYNC110 - only a poll sees it before the response
                await asyncio.sleep(0)

    # --- requests ------------------------------------------------------------------------------------------------

    async def post(self, command: Command, actor: str = "local", *, dry_run: bool = False) -> AnyResponse:
        async with asyncio.timeout(60):
            return await self.node.post(command, request_sha256(command), actor, dry_run=dry_run)

    async def post_many(self, *commands: Command) -> list[AnyResponse]:
        async with asyncio.timeout(60):
            return await self.node.post_many([(command, request_sha256(command)) for command in commands], "local")

    async def accepted(self, command: Command, actor: str = "local") -> Accepted:
        response = await self.post(command, actor)
        assert isinstance(response, Accepted), response
        assert not response.hit
        return response

    async def refused(self, command: Command) -> Rejection:
        response = await self.post(command)
        assert isinstance(response, Refused), response
        return response.rejection

    async def failed(self, command: Command) -> Failed:
        response = await self.post(command)
        assert isinstance(response, Failed), response
        return response

    async def given(self, *commands: Command) -> "World":
        for command in commands:
            await self.accepted(command)
        return self

    async def wallet(self, user_id: str = "u1") -> Wallet:
        async with asyncio.timeout(60):
            read = await self.node.wallet(user_id)
        assert not isinstance(read, Failed), read
        return read.wallet

    async def cash(self, user_id: str = "u1") -> int:
        balance = (await self.wallet(user_id)).balances.get("INR")
        return 0 if balance is None else balance.cash

    # --- the log -------------------------------------------------------------------------------------------------

    def events(self, user_id: str | None = None) -> list[Event]:
        """All events, partition by partition. Checks the chain, too."""
        found = []
        for partition, records in enumerate(self.appended.records):
            prev, time_us = EMPTY_SHA256, 0
            for seq, record in enumerate(records, start=1):
                decoded = decode(record)
                assert decoded.position == (partition, seq)
                assert decoded.prev == prev
                assert decoded.event.time_us >= time_us, "time went back"
                assert sums_to_zero(decoded.event.postings)
                prev, time_us = sha256_hex(record), decoded.event.time_us
                found.append(decoded.event)
        return [event for event in found if user_id in (None, event.user_id)]

    def types(self, user_id: str | None = None) -> list[str]:
        return [event.data.type for event in self.events(user_id)]

    def total(self, account: str) -> int:
        return sum(
            amount for event in self.events() for posted, _, amount in event.postings if posted.startswith(account)
        )

    def replayed(self) -> dict[str, Wallet]:
        """Every wallet, as the fold of the log."""
        wallets: dict[str, Wallet] = {}
        items: dict[str, dict[str, Item]] = {}
        for partition, records in enumerate(self.appended.records):
            for seq, record in enumerate(records, start=1):
                event = decode(record).event
                known = items.setdefault(event.user_id, {})
                before = wallets.get(event.user_id) or Wallet(event.user_id)
                wallets[event.user_id], changed = evolve(before, _Known(known), event, Position(partition, seq))
                known.update(changed)
        return wallets

    async def assert_true_of_the_log(self) -> None:
        """Every wallet of the node equals the fold of its events."""
        for user_id, wallet in self.replayed().items():
            assert await self.wallet(user_id) == wallet

    def open_follow_ups(self) -> list[int]:
        """The seqs of the events whose follow-ups are not known to have arrived."""
        return [seq for writer in self.node.writers.values() for seq in writer.state.open_seqs]


class _Known(dict[str, Item | None]):
    def __missing__(self, key: str) -> None:
        return None


def request_sha256(command: Command) -> str:
    return sha256(canonical(command)).hexdigest()
