"""The background check: compares the rows of the read model with the log, again and again, next to the follower.

The *quick* pass adds up the digests of a partition's rows and compares the sums with the running digests in its
checkpoint. It detects that a row was changed, added or removed by hand, but not which row. The *thorough* pass folds
the partition's log again, in memory, and compares row by row. It names each difference, and also finds a changed
running digest and a defective fold. Invariants:
(1) Rows are read at one moment and compared with the log up to the checkpoint of that moment.
(2) Nothing is locked while the check computes. A read transaction lasts as long as reading one partition's table, or
    the rows of the users that are checked together.
(3) A quarantined event is no difference. An event that is in the rows and on which today's folds fail is one.
(4) The differences of a thorough pass are stored until the next thorough pass of that partition. A quick pass clears
    nothing; if it contradicts the stored result, a thorough pass of the partition follows at once.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from time import monotonic, process_time
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LedgerError
from ledger.ports import Clock
from projections import models as folds
from projections.models import BY_USER, FOLDS, ROW_TYPES, WHOLE, WHOLE_FOLDS
from projections.models.deposits import DepositRow
from projections.projecting.log_reader import LogReader
from projections.projecting.partition import FoldFailed, continue_chain, event_of, reason_of
from projections.storage.port import (
    EVERYBODY,
    Checkpoint,
    Difference,
    Generation,
    Quarantined,
    ReadModelStore,
    Switched,
    Users,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Key, Row, add_digests, digest_function, key_of
from projections.tables.tables import QUARANTINE, QUARANTINED_EVENT

QUICK_SHARE: Final = 0.04
"""Share of one core for the quick passes. Chosen. Measured: a round takes 0.9 s of CPU for 300,000 events, so a
changed row is found within half a minute; within a minute for 800,000 events, and in proportion for larger logs."""

THOROUGH_SHARE: Final = 0.02
"""Share of one core for the thorough passes. Chosen: they take 26 µs an event, and twice that for a partition with
more than ``EVENTS_MAX``, so 300,000 events are checked every seven minutes."""

URGENT_SHARE: Final = 0.5
"""Share of one core while a difference is located. Chosen: an operator may wait for it, and the process has a low
priority anyway."""

ROUND_S: Final = 10.0
"""The shortest duration of a round. Chosen: well below a minute, and no load on an idle machine."""

EVENTS_MAX: Final = 100_000
"""Events to fold in memory at once; a larger partition is folded by ranges of its users. Chosen: about 100 MB."""

NAMED_MAX: Final = 100
"""Users and accounts of a partition whose differing rows are named; for others only the digest is reported."""

STORED_MAX: Final = 1_000
"""Differences of a partition that are stored. Chosen: with more of them the operator rebuilds the tables anyway."""

_RETRY_S: Final = 5.0
_PAGE: Final = 2_000
_QUARANTINED_EVENTS_MAX: Final = 10_000
_KEY_MAX: Final = 500
_FAILURES_MAX: Final = 10

_log = logging.getLogger(__name__)

Pass = tuple[Sequence[type[Row]], Users, Sequence[Callable[..., None]]]
"""Tables that are checked together, their users, and their folds."""

RowGroup = tuple[type[Row], str]
"""A table, and the user or account of some rows in it; "" for the index of deposits, which has neither."""

_OWNER_OF: Final[dict[type[Row], Callable[[Any], str]]] = {
    kind: attrgetter(kind.__struct_fields__[0]) for kind in ROW_TYPES if kind is not DepositRow
}
_OWNER_OF[DepositRow] = lambda _row: ""


class CpuShare:
    """Limits this process to a share of a core: after some work it sleeps as long as the share requires."""

    def __init__(
        self,
        share: float,
        *,
        cpu_s: Callable[[], float] = process_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._share, self._cpu_s, self._sleep = share, cpu_s, sleep
        self._since_s = cpu_s()
        self.urgent = False

    async def rest(self) -> None:
        """Sleep. Call it only while no transaction is open."""
        share = max(self._share, URGENT_SHARE) if self.urgent else self._share
        await self._sleep((self._cpu_s() - self._since_s) * (1 / share - 1))
        self._since_s = self._cpu_s()


class _FoldFailed(Exception):
    """A fold failed on this event."""

    def __init__(self, user_id: str, seq: int, reason: str) -> None:
        super().__init__(reason)
        self.user_id, self.seq, self.reason = user_id, seq, reason


class _HeadNotOnLog(Exception):
    """The checkpoint's head is not on the log."""

    def __init__(self, checkpoint: Head, log: Head) -> None:
        super().__init__()
        self.checkpoint, self.log = checkpoint, log


class _QuarantineChanged(Exception):
    """A user was quarantined or released while the rows were read: which of the user's events they contain is
    unknown."""


class _Rows(NamedTuple):
    """Rows at one checkpoint, read or folded: their digests by row group, and the rows of the named users."""

    checkpoint: Checkpoint
    digests: dict[RowGroup, int]
    rows: dict[tuple[type[Row], Key], Row]


class _Compared(NamedTuple):
    found: _Rows
    expected: _Rows
    failed: list[Difference]
    """Users with an event in the rows on which today's folds fail."""

    def differing(self) -> list[RowGroup]:
        found, expected = self.found.digests, self.expected.digests
        groups = [one for one in found.keys() | expected.keys() if found.get(one, 0) != expected.get(one, 0)]
        return sorted(groups, key=lambda group: (group[1], group[0].table))


class PartitionCheck:
    """Checks partitions of one generation. The thorough pass needs a generation of today's folds."""

    def __init__(self, store: ReadModelStore, log: LogReader, cpu: CpuShare, *, events_max: int = EVENTS_MAX) -> None:
        self.cpu = cpu
        self._store, self._log, self._events_max = store, log, events_max

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
                found.append(_difference(partition, "", kind.table, "", "digest", f"{total:032x}", f"{running:032x}"))
            await self.cpu.rest()
        return found

    async def thorough(self, generation: int, partition: int) -> tuple[int, list[Difference]]:
        """Return up to which event the rows were compared with the log, and the differences.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        seq, found = 0, []
        try:
            for kinds, users, some_folds in await self._passes(generation, partition):
                seq, differing = await self._check_part(generation, partition, (kinds, users, some_folds))
                found += differing
        except _HeadNotOnLog as other:
            head, theirs = other.checkpoint, other.log
            return head.seq, [_difference(partition, "", "checkpoint", "", "head", list(theirs), list(head))]
        found += await self._quarantined_events(generation, partition)
        named = {one.table for one in found}
        found += [one for one in await self.quick(generation, partition) if one.table not in named]
        return seq, found

    async def _passes(self, generation: int, partition: int) -> list[Pass]:
        """Divide the partition into parts that fit into memory."""
        seq = (await self._store.checkpoints(generation))[partition].head.seq
        if seq <= self._events_max:
            return [(ROW_TYPES, EVERYBODY, FOLDS)]
        ranges = await self._ranges(partition, seq)
        return [(WHOLE, EVERYBODY, WHOLE_FOLDS), *((BY_USER, users, FOLDS) for users in ranges)]

    async def _ranges(self, partition: int, seq: int) -> list[Users]:
        """Divide all users into ranges of about ``events_max`` events. A user's events are never divided."""
        events: dict[str, int] = {}
        async for page in self._pages(partition, seq):
            for record in page:
                user_id = _user_and_seq_of(record).user_id
                events[user_id] = events.get(user_id, 0) + 1
        cuts, in_range = [EVERYBODY.first], 0
        for user_id in sorted(events):
            if in_range and in_range + events[user_id] > self._events_max:
                cuts.append(user_id)
                in_range = 0
            in_range += events[user_id]
        return [Users(*cut) for cut in zip(cuts, [*cuts[1:], EVERYBODY.last], strict=True)]

    async def _check_part(self, generation: int, partition: int, part: Pass) -> tuple[int, list[Difference]]:
        compared = await self._compare(generation, partition, part, frozenset())
        if differing := compared.differing():
            # A second comparison gets the rows of the differing users. Rows can change between the two: the second
            # one counts.
            named = frozenset(list(dict.fromkeys(owner for _, owner in differing))[:NAMED_MAX])
            compared = await self._compare(generation, partition, part, named)
            differences = [*compared.failed, *_differing_rows(partition, compared.expected.rows, compared.found.rows)]
            for kind, owner in compared.differing():
                if owner not in named:
                    both = (compared.expected, compared.found)
                    digests = (f"{one.digests.get((kind, owner), 0):032x}" for one in both)
                    differences.append(_difference(partition, owner, kind.table, "", "digest", *digests))
            return compared.found.checkpoint.head.seq, differences
        return compared.found.checkpoint.head.seq, compared.failed

    async def _compare(self, generation: int, partition: int, part: Pass, named: frozenset[str]) -> "_Compared":
        """The rows in the tables and the rows folded from the log, at one checkpoint."""
        while True:
            try:
                quarantined, found = await self._read(generation, partition, part, named)
                break
            except _QuarantineChanged:
                await self.cpu.rest()
        stops = {one.user_id: one.seq for one in quarantined}
        failed: list[Difference] = []
        while True:
            try:
                expected = await self._fold(partition, found.checkpoint, part, stops, named)
                return _Compared(found, expected, failed)
            except _FoldFailed as one:
                stops[one.user_id] = one.seq
                failed.append(_difference(partition, one.user_id, QUARANTINE.name, "", "reason", one.reason, None))
                if (
                    len(failed) >= _FAILURES_MAX
                ):  # today's folds are not the folds that made the rows: no row would agree
                    return _Compared(found, found, failed)

    async def _read(
        self, generation: int, partition: int, part: Pass, named: frozenset[str]
    ) -> tuple[list[Quarantined], _Rows]:
        kinds, users, _ = part
        before = await self._quarantined(generation, partition)
        digests: dict[RowGroup, int] = {}
        rows: dict[tuple[type[Row], Key], Row] = {}
        checkpoint = Checkpoint()
        async for at, kind, page in self._store.scan(generation, partition, kinds, users):
            checkpoint, digest_of, owner_of = at, digest_function(kind.table), _OWNER_OF[kind]
            for row in page:
                group = (kind, owner_of(row))
                digests[group] = add_digests(digests.get(group, 0), digest_of(row))
                if group[1] in named:
                    rows[kind, key_of(row)] = row
        # A user is never released and quarantined again at the same event, so two equal reads mean no change.
        if await self._quarantined(generation, partition) != before:
            raise _QuarantineChanged
        await self.cpu.rest()
        return before, _Rows(checkpoint, digests, rows)

    async def _quarantined(self, generation: int, partition: int) -> list[Quarantined]:
        return [one for one in await self._store.quarantine(generation) if one.partition == partition]

    async def _fold(
        self, partition: int, checkpoint: Checkpoint, part: Pass, stops: Mapping[str, int], named: frozenset[str]
    ) -> _Rows:
        """Fold the log up to the checkpoint. Raises _FoldFailed, _HeadNotOnLog."""
        kinds, users, some_folds = part
        folded = _Rows(checkpoint, {}, {})
        buffer = RowBuffer(ROW_TYPES, {}, complete=True, rows_max=sys.maxsize)
        head = EMPTY
        async for page in self._pages(partition, checkpoint.head.seq):
            chained = continue_chain(partition, head, page)
            head = chained.head
            for link in chained.links:
                user_id, seq = link.user_id, link.place.seq
                if user_id not in users or seq >= stops.get(user_id, sys.maxsize):
                    continue
                try:
                    event = event_of(link)
                    for fold in some_folds:
                        fold(event, link.place, buffer)
                except FoldFailed as error:
                    raise _FoldFailed(user_id, seq, error.reason) from error
                except Exception as error:
                    raise _FoldFailed(user_id, seq, reason_of(error)) from error
            self._move_changes(buffer, kinds, folded, named)
        if head != checkpoint.head:
            raise _HeadNotOnLog(checkpoint.head, head)
        return folded

    async def _quarantined_events(self, generation: int, partition: int) -> list[Difference]:
        """The stored events of quarantined users must be exactly their events from the failed one on."""
        quarantined = await self._quarantined(generation, partition)
        if not quarantined:
            return []
        end = (await self._store.checkpoints(generation))[partition].head.seq
        stored: dict[str, dict[int, bytes]] = {}
        until: dict[str, int] = {}
        for one in quarantined:
            events = await self._store.held(generation, partition, one.user_id, _QUARANTINED_EVENTS_MAX)
            stored[one.user_id] = {event.seq: event.record for event in events}
            until[one.user_id] = end if len(events) < _QUARANTINED_EVENTS_MAX else events[-1].seq
        if await self._quarantined(generation, partition) != quarantined:
            return []  # some events were folded during this check; the next round checks again
        since = {one.user_id: one.seq for one in quarantined}
        found = []
        async for page in self._pages(partition, end):
            for record in page:
                named = _user_and_seq_of(record)
                user_id, seq = named.user_id, named.seq
                if since.get(user_id, sys.maxsize) <= seq <= until.get(user_id, 0):
                    event = stored[user_id].pop(seq, None)
                    if event != record:
                        found.append(_quarantine_difference(partition, user_id, seq, record, event))
        for user_id, others in stored.items():
            found += [
                _quarantine_difference(partition, user_id, seq, None, others[seq]) for seq in others if seq <= end
            ]
        return sorted(found, key=lambda one: (one.place, one.key))

    async def _pages(self, partition: int, to_seq: int) -> AsyncIterator[list[bytes]]:
        seq = 0
        while seq < to_seq and (page := self._log.read(partition, seq + 1, min(_PAGE, to_seq - seq))):
            yield page
            seq += len(page)
            await self.cpu.rest()

    def _move_changes(
        self, buffer: RowBuffer, kinds: Sequence[type[Row]], folded: _Rows, named: frozenset[str]
    ) -> None:
        digests = folded.digests
        for shelf in buffer.tables:
            if (kind := shelf.kind) in kinds:
                for key, change in shelf.digest_changes():
                    group = (kind, "" if kind is DepositRow else key[0])
                    digests[group] = add_digests(digests.get(group, 0), change)
                    if group[1] in named:
                        row = shelf.peek(key)
                        assert row is not None, key
                        folded.rows[kind, key] = row  # the buffer changes it in place
        buffer.settle({})


def _differing_rows(
    partition: int,
    expected_rows: Mapping[tuple[type[Row], Key], Row],
    found_rows: Mapping[tuple[type[Row], Key], Row],
) -> Iterator[Difference]:
    """Row by row and field by field, in the order of tables and keys."""
    order = {kind: number for number, kind in enumerate(ROW_TYPES)}
    for kind, key in sorted(
        expected_rows.keys() | found_rows.keys(), key=lambda one: (order[one[0]], [str(part) for part in one[1]])
    ):
        expected, found = expected_rows.get((kind, key)), found_rows.get((kind, key))
        owner = _OWNER_OF[kind](expected if expected is not None else found)
        text = _json(key)[:_KEY_MAX]
        if expected is None or found is None:
            yield _difference(partition, owner, kind.table, text, "", expected, found)
            continue
        for field in kind.__struct_fields__:
            if (one := getattr(expected, field)) != (other := getattr(found, field)):
                yield _difference(partition, owner, kind.table, text, field, one, other)


class _UserAndSeq(Struct, gc=False):
    user_id: str = ""
    seq: int = 0


_decode_user_and_seq: Final = msgspec.json.Decoder(_UserAndSeq).decode


def _user_and_seq_of(record: bytes) -> _UserAndSeq:
    """User and seq of a record; user "" if the bytes are no record."""
    try:
        return _decode_user_and_seq(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _UserAndSeq()


def _quarantine_difference(
    partition: int, user_id: str, seq: int, expected: bytes | None, found: bytes | None
) -> Difference:
    hashes = (None if record is None else sha256_hex(record) for record in (expected, found))
    return _difference(partition, user_id, QUARANTINED_EVENT.name, f"[{seq}]", "record", *hashes)


def _difference(
    partition: int, owner: str, table: str, key: str, field: str, expected: Any, found: Any
) -> Difference:
    return Difference(partition, owner, table, key, field, _json(expected), _json(found))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


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
                    _log.warning("the read model cannot be checked: %s", error)
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
                one.differences for one in await self._store.proved(generation.number) if one.partition == partition
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
        results = [] if generation is None else await self._store.proved(generation.number)
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
        found = found[:STORED_MAX]
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
        if before and not found:
            _log.info("partition %d of the read model agrees with the log again", partition)
        self._logged[partition] = set(found)
