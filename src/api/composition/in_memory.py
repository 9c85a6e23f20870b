"""A whole service in memory, for the tests of those who build on the ledger: the real core, reads and routes, without
a server, without files, and with a clock that only the test moves.

    service = InMemoryService(START_US)
    await service.start()
    await service.app(scope, receive, send)       # an ASGI application, as the one that the server serves
    await service.advance(3_600_000_000)          # fires what is due within the hour, each at its own time

Login is off, and nothing is sealed.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from api.composition.application import Listening, build_applications
from api.composition.keys import make_keys
from api.composition.settings import DEFAULT_ASSETS
from api.http.application import Rim
from api.http.consistency import body_of
from api.http.metrics import ReadModelGauges
from api.identity.master_key import MasterKeys
from api.identity.memory_keys import MemoryKeyStore
from ledger.core.games.rules import book_of, read_rules
from ledger.core.money import parse_assets
from ledger.core.record import EMPTY
from ledger.histogram import SECONDS, Histogram
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import NoOtherNodes, OwnsAll
from ledger.operations.seals import SealFile
from ledger.peers.log_view import LogView
from projections.caching.shared_reads import SharedReads
from projections.live.hub import Hub
from projections.live.tail import LogTail
from projections.projecting.partition import PartitionProjector
from projections.projecting.pay_tables import PayTables
from projections.storage.port import Checkpoint
from projections.storage.sqlite_memory import MemoryReadModel, MemoryReadModelStore

_ADDRESS: Final = "http://in-memory"
_QUIET_LOOK_S: Final = 0.0005
_MASTER_KEY: Final = b"in memory, for tests, 32 octets."


class InMemoryService:
    """One node with its read model and its application. It lives in the event loop that starts it."""

    def __init__(
        self,
        start_us: int,
        *,
        partitions: int = 4,
        assets: str = DEFAULT_ASSETS,
        rules: Mapping[str, Any] | None = None,
    ) -> None:
        """``start_us``: the first time of the clock. ``assets``: in the form of STAKELOG_ASSETS. ``rules``: the
        content of a rules file, as STAKELOG_RULES names it. Raises ValueError, WrongRules."""
        self.now_us = start_us
        self._partitions = partitions
        self._assets = parse_assets(assets)
        self._rules = read_rules(msgspec.json.encode(rules or {}).decode(), self._assets)
        self._folding = asyncio.Lock()
        self.app: Rim

    async def start(self) -> None:
        rules = book_of(self._rules.games, money=self._rules.money)
        self._log = MemoryEventLog(self._partitions)
        self._log.appended.tables.update(rules.tables)
        self._log.appended.money_rules.update(rules.money_kept)
        owners, others = OwnsAll(self._partitions, address=_ADDRESS), NoOtherNodes(self._partitions)
        self._node = Node(
            self._log, MemoryStateStore(), self._clock, self._assets, rules=rules, owners=owners, others=others
        )
        await self._node.start()
        await self._node.join()
        self._store = MemoryReadModelStore()
        self._generation = (await self._store.make_first(self._partitions)).number
        pay_tables = PayTables(lambda: self._log.appended.tables)
        self._projectors = [
            PartitionProjector(self._store, self._generation, one, Checkpoint(EMPTY), [], pay_tables=pay_tables)
            for one in range(self._partitions)
        ]
        self._model = MemoryReadModel(self._store, self._fold)
        self._keys = make_keys(MemoryKeyStore(), MasterKeys([_MASTER_KEY]), self._clock)
        await self._keys.ring.start()
        self._log_view = LogView(self._node, owners, others)
        reads = SharedReads(self._model, self._log_view, self._clock)
        tail = LogTail(self._model, self._partitions, self._log_view.end, self._log_view.records)
        self._hub = Hub(self._model, reads, body_of, tail.run, feeds_max=1_000, feeds_of_user_max=100)
        gauges = ReadModelGauges(self._node, self._model, {}, Histogram(SECONDS))
        seals = SealFile(Path("/nowhere"))  # never opened: reads of seals are refused
        self.app, _ = build_applications(
            self._node, reads, gauges, _ADDRESS, self._log_view, seals, Listening(), self._hub, self._keys
        )

    async def stop(self) -> None:
        await self._hub.stop()
        await self._log_view.close()
        await self._keys.ring.stop()
        await self._node.stop()
        await self._model.close()

    async def advance(self, by_us: int) -> None:
        """Move the clock. What is due on the way happens at its own time, in order, follow-ups included."""
        assert by_us >= 0, "time does not go back"
        end_us = self.now_us + by_us
        await self.settle()
        while (due_us := self._node.next_due_us()) is not None and due_us <= end_us:
            self.now_us = max(self.now_us, due_us)
            self._node.wake()
            await self.settle()
        self.now_us = end_us

    async def settle(self) -> None:
        """Wait until everything that is due now has happened, and all follow-ups have arrived. Raises the error that
        halted the node."""
        for _ in range(2):  # twice: the next task may still deliver a follow-up to an idle writer
            await asyncio.sleep(0)
            while not self._is_quiet():  # noqa: ASYNC110 - many writers' state
                await asyncio.sleep(_QUIET_LOOK_S)

    def _is_quiet(self) -> bool:
        if self._node.halted.done():
            raise self._node.halted.result()
        due_us = self._node.next_due_us()
        return self._node.idle and (due_us is None or due_us > self.now_us)

    def _clock(self) -> int:
        return self.now_us

    async def _fold(self) -> None:
        """Bring the read model to the end of the log."""
        async with self._folding:
            for projector, records in zip(self._projectors, self._log.appended.records, strict=True):
                if len(records) == projector.head.seq:
                    continue
                if run := await projector.fold(records[projector.head.seq :]):
                    await self._store.commit(self._generation, [run])
                    projector.mark_stored(run)
