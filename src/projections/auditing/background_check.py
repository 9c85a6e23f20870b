"""The background check: compares the rows of the read model with the log, again and again, next to the follower.

The *quick* pass adds up the digests of a partition's rows and compares the sums with the running digests in its
checkpoint. It detects that a row was changed, added or removed by hand, but not which row. The *thorough* pass folds
the partition's log again, into a scratch store on disk, and compares row by row (``refold``). It names each
difference, and also finds a changed running digest and a defective fold. Invariants:
(1) Rows are read at one moment and compared with the log up to the checkpoint of that moment.
(2) Nothing is locked while the check computes. A read transaction lasts as long as reading one partition's table.
(3) A quarantined event is no difference. An event that is in the rows and on which today's folds fail is one.
(4) The differences of a thorough pass are stored until the next thorough pass of that partition. A quick pass clears
    nothing; if it contradicts the stored result, a thorough pass of the partition follows at once.
    If not all differing users are named, one difference says that every user of the partition may be wrong.
(5) Memory is bounded, whatever the length of the log.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, process_time
from typing import Final

from msgspec import structs

from ledger.errors import LedgerError
from ledger.ports import Clock
from projections import models as folds
from projections.auditing.refold import (
    NAMED_MAX,
    ROWS_MAX,
    STORED_MAX,
    HeadNotOnLog,
    OpenScratch,
    OtherFolds,
    QuarantineChanged,
    Refold,
    Side,
    difference,
)
from projections.models import ROW_TYPES
from projections.projecting.log_reader import LogReader
from projections.storage.port import (
    EVERY_USER,
    Difference,
    Generation,
    ReadModelStore,
    ReadModelUnavailable,
    Switched,
    message_for_log,
)
from projections.tables.rows import add_digests, digest_function
from projections.tables.tables import DIFFERENCE, QUARANTINE

QUICK_SHARE: Final = 0.04
"""Share of one core for the quick passes. Chosen. Measured: a round takes 0.9 s of CPU for 300,000 events, so a
changed row is found within half a minute; within a minute for 800,000 events, and in proportion for larger logs.
With half of it a small log under load was not checked within 150 s on a busy machine."""

THOROUGH_SHARE: Final = 0.02
"""Share of one core for the thorough passes. Chosen. Measured: they take one and a half times as long as folding, so
300,000 events are checked in some ten minutes."""

URGENT_SHARE: Final = 0.5
"""Share of one core while a difference is located. Chosen: an operator may wait for it, and the process has a low
priority anyway."""

ROUND_S: Final = 10.0
"""The shortest duration of a round. Chosen: well below a minute, and no load on an idle machine."""

_RETRY_S: Final = 5.0
_ATTEMPTS: Final = 3

_log = logging.getLogger(__name__)


BUSY_SHARE: Final = 0.5
"""The part of their share that thorough passes use while the machine is busy. Chosen. Quick passes keep their share:
a changed row is found as soon as on a quiet machine."""


def machine_is_busy() -> bool:
    """Whether more processes want to run than the machine has cores, in the mean of the last minute."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


class CpuShare:
    """Limits this process to a share of a core, and to less while the machine is busy: after some work it sleeps as
    long as the share requires."""

    def __init__(
        self,
        share: float,
        *,
        cpu_s: Callable[[], float] = process_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        is_busy: Callable[[], bool] = machine_is_busy,
        busy_share: float = 1.0,
    ) -> None:
        """``busy_share``: the part of ``share`` that is used while the machine is busy."""
        self._share, self._cpu_s, self._sleep, self._is_busy = share, cpu_s, sleep, is_busy
        self._busy_share = busy_share
        self._since_s = cpu_s()
        self.urgent = False

    async def rest(self) -> None:
        """Sleep. Call it only while no transaction is open."""
        share = self._share
        if self.urgent:
            share = max(share, URGENT_SHARE)
        elif share < 1 and self._is_busy():
            share *= self._busy_share
        await self._sleep((self._cpu_s() - self._since_s) * (1 / share - 1))
        self._since_s = self._cpu_s()


class PartitionCheck:
    """Checks partitions of one generation. The thorough pass needs a generation of today's folds."""

    def __init__(
        self,
        store: ReadModelStore,
        log: LogReader,
        cpu: CpuShare,
        open_scratch: OpenScratch,
        *,
        rows_max: int = ROWS_MAX,
    ) -> None:
        """``rows_max``: rows of each table in memory during a thorough pass."""
        self.cpu = cpu
        self._store, self._log, self._open_scratch, self._rows_max = store, log, open_scratch, rows_max

    async def quick(self, generation: int, partition: int) -> list[Difference]:
        """Return a difference for each table whose rows do not add up to its running digest.

        Raises Switched, ReadModelUnavailable.
        """
        found = []
        for kind in ROW_TYPES:
            total, digest_of, running = 0, digest_function(kind.table), 0
            async for checkpoint, _, rows in self._store.scan(generation, partition, (kind,)):
                running = checkpoint.digests.get(kind.table, 0)
                total += sum(map(digest_of, rows))
            total = add_digests(total, 0)
            if total != running:
                found.append(difference(partition, "", kind.table, "", "digest", f"{total:032x}", f"{running:032x}"))
            await self.cpu.rest()
        return found

    async def thorough(self, generation: int, partition: int) -> tuple[int, list[Difference]]:
        """Return up to which event the rows were compared with the log, and the differences.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        for _ in range(_ATTEMPTS):
            try:
                seq, found = await self._refold(generation, partition)
            except QuarantineChanged:
                await self.cpu.rest()
                continue
            except HeadNotOnLog as other:
                head, theirs = other.checkpoint, other.log
                heads = difference(partition, EVERY_USER, "checkpoint", "", "head", list(theirs), list(head))
                return head.seq, [heads]
            named = {one.table for one in found}
            found += [one for one in await self.quick(generation, partition) if one.table not in named]
            return seq, found
        raise ReadModelUnavailable(f"the quarantine of partition {partition} changes all the time: checking it later")

    async def _refold(self, generation: int, partition: int) -> tuple[int, list[Difference]]:
        async with self._open_scratch() as store:
            made = await store.make_generation(folds.VERSION, self._log.partitions, live=False)
            refold = Refold(
                self._log,
                Side(self._store, generation),
                Side(store, made.number),
                partition,
                self.cpu.rest,
                rows_max=self._rows_max,
            )
            try:
                return await refold.differences()
            except OtherFolds:
                fails = "today's folds fail on events of many users"
                return refold.seq, [
                    *refold.failed,
                    difference(partition, EVERY_USER, QUARANTINE.name, "", "reason", fails, None),
                ]


class BackgroundCheck:
    """Checks the partitions of the live generation in turn and stores the differences in the read model.

    The quick and the thorough rounds run concurrently, each with its own share of a core, so the quick rounds do not
    wait for the thorough pass of a large partition.
    """

    def __init__(
        self,
        store: ReadModelStore,
        quick: PartitionCheck,
        thorough: PartitionCheck,
        now_us: Clock,
        *,
        round_s: float = ROUND_S,
    ) -> None:
        self._store, self._quick, self._thorough, self._now_us = store, quick, thorough, now_us
        self._round_s = round_s
        self._next = 0
        self._logged: dict[int, set[Difference]] = {}

    async def run(self) -> None:
        """Run rounds until it is cancelled. An error of the log or the database is logged once and retried."""
        async with asyncio.TaskGroup() as rounds:
            rounds.create_task(self._rounds(self.quick_round))
            rounds.create_task(self._rounds(self.thorough_round))

    async def _rounds(self, one_round: Callable[[], Awaitable[None]]) -> None:
        logged = ""
        while True:
            began_s = monotonic()
            try:
                await one_round()
                logged = ""
            except Switched:
                pass  # the next round checks the new live generation
            except LedgerError as error:
                if str(error) != logged:
                    logged = str(error)
                    _log.warning("the read model cannot be checked: %s", message_for_log(error))
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(max(0.0, began_s + self._round_s - monotonic()))

    async def quick_round(self) -> None:
        """The quick pass of every partition; the thorough pass too if it contradicts the stored result.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        generation = await self._live()
        if generation is None:
            return
        for partition in range(await self._partitions(generation)):
            has_stored = any(
                one.differences for one in await self._store.checked(generation.number) if one.partition == partition
            )
            found = await self._quick.quick(generation.number, partition)
            if bool(found) != has_stored:
                self._quick.cpu.urgent = True
                try:
                    await self._check_and_store(self._quick, generation, partition)
                finally:
                    self._quick.cpu.urgent = False

    async def thorough_round(self) -> None:
        """The thorough pass of every partition. If one cannot be checked, the next round begins with the one after
        it.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        generation = await self._live()
        for _ in range(0 if generation is None else await self._partitions(generation)):
            await self.next_partition()

    async def next_partition(self) -> None:
        """The thorough pass of the next partition in turn."""
        generation = await self._live()
        if generation is not None:
            turn, self._next = self._next, (self._next + 1) % await self._partitions(generation)
            await self._check_and_store(self._thorough, generation, turn)

    async def all_partitions(self) -> int:
        """The thorough pass of every partition, once. Returns how many differences are stored."""
        await self.thorough_round()
        generation = await self._live()
        results = [] if generation is None else await self._store.checked(generation.number)
        return sum(one.differences for one in results)

    async def _live(self) -> Generation | None:
        live = [one for one in await self._store.generations() if one.status == "live"]
        return live[-1] if live else None

    async def _partitions(self, generation: Generation) -> int:
        return len(await self._store.checkpoints(generation.number))

    async def _check_and_store(self, check: PartitionCheck, generation: Generation, partition: int) -> None:
        if generation.version == folds.VERSION:
            seq, found = await check.thorough(generation.number, partition)
        else:
            # Rows of another version of the folds have other contents: until a rebuild check only their digests.
            seq = (await self._store.checkpoints(generation.number))[partition].head.seq
            found = await check.quick(generation.number, partition)
            found = [structs.replace(one, owner=EVERY_USER) for one in found]
        if len(found) >= STORED_MAX:
            more = difference(partition, EVERY_USER, DIFFERENCE.name, "", "number", 0, f"{STORED_MAX} or more")
            found = [*found[: STORED_MAX - 1], more]
        await self._store.report(generation.number, partition, seq, self._now_us(), found)
        self._log_differences(partition, found)

    def _log_differences(self, partition: int, found: Sequence[Difference]) -> None:
        """Log the differences that were not logged before."""
        before = self._logged.get(partition, set())
        new = [one for one in found if one not in before]
        for one in new[:NAMED_MAX]:
            _log.error("the read model differs from the log: %s", one)
        if len(new) > NAMED_MAX:
            _log.error(
                "the read model differs from the log: %d more in partition %d", len(new) - NAMED_MAX, partition
            )
        if new:
            _log.error("run `stakelog project rebuild --accept` to repair the read model")
        if before and not found:
            _log.info("partition %d of the read model agrees with the log again", partition)
        self._logged[partition] = set(found)
