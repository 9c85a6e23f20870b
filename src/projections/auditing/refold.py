"""The thorough comparison of one partition: its log is folded again into a scratch store on disk, and both sets of
tables are read in the order of keys and compared row by row.

Memory is bounded whatever the length of the log: rows beyond ``rows_max`` are in the scratch store, and the
comparison streams. The scratch store needs as much disk as the partition's rows, and is deleted afterwards.
Invariants:
(1) Rows are read at one moment, and compared with the log folded exactly up to the checkpoint of that moment.
(2) A user who is quarantined in the tables is quarantined in the scratch store at the same event.
(3) Nothing rests while a read transaction is open. It lasts as long as reading about ``_CHUNK`` rows: a table of
    users is read range by range, each at its own moment; the other tables and the rows of one user are not divided.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final, NamedTuple

import msgspec

from ledger.core.record import Head, sha256_hex
from projections.models import ROW_TYPES
from projections.models.accounts import AccountRow
from projections.models.deposits import DepositRow
from projections.projecting.log_reader import LogReader
from projections.projecting.partition import PartitionProjector
from projections.projecting.pay_tables import PayTables
from projections.storage.port import (
    ALL_USERS,
    Checkpoint,
    Difference,
    Quarantined,
    ReadModelStore,
    Run,
    Switched,
    Users,
)
from projections.tables.rows import Key, Row, add_digests, digest_function, is_of_user, key_of
from projections.tables.tables import QUARANTINE, QUARANTINED_EVENT

NAMED_MAX: Final = 100
"""Users and accounts of a partition whose differing rows are named; for others only the digest is reported."""

STORED_MAX: Final = 1_000
"""Differences of a partition that are stored. Chosen: with more of them the operator rebuilds the tables anyway."""

ROWS_MAX: Final = 5_000
"""Rows of each table in memory. Chosen: some 20 MB; others are in the scratch store."""

_PAGE: Final = 2_000
_CHUNK: Final = 50_000
"""Rows to read in one transaction. Chosen: some 0.3 s, during which the WAL cannot be reset."""
_GAP_MAX: Final = 1_000
"""Events to fold while a read transaction is open. Chosen: some 40 ms."""
_RESTING_PASSES: Final = 5
_PASSES_MAX: Final = 50
"""Passes of catching up. The first ones rest; if events arrive faster than that allows, the others do not."""
_QUARANTINED_EVENTS_MAX: Final = 10_000
_KEY_MAX: Final = 500
_FAILURES_MAX: Final = 10

OpenScratch = Callable[[], AbstractAsyncContextManager[ReadModelStore]]
"""Opens an empty store on disk; it is deleted on exit."""
Rest = Callable[[], Awaitable[None]]


class HeadNotOnLog(Exception):
    """The checkpoint's head is not on the log."""

    def __init__(self, checkpoint: Head, log: Head) -> None:
        super().__init__()
        self.checkpoint, self.log = checkpoint, log


class OtherFolds(Exception):
    """Today's folds fail on the events of many users that are in the rows: no row would agree."""


class QuarantineChanged(Exception):
    """A user was quarantined or released during the comparison: which of the user's events are in the rows is
    unknown."""


class Side(NamedTuple):
    """One generation of a store."""

    store: ReadModelStore
    generation: int


class Refold:
    """The partition of ``found``, folded again into ``scratch``."""

    def __init__(
        self, log: LogReader, found: Side, scratch: Side, partition: int, rest: Rest, *, rows_max: int = ROWS_MAX
    ) -> None:
        self._log, self._found, self._scratch, self._partition, self._rest = log, found, scratch, partition, rest
        self._projector = PartitionProjector(
            scratch.store,
            scratch.generation,
            partition,
            Checkpoint(),
            (),
            rows_max=rows_max,
            pay_tables=PayTables(log.tables),
        )
        self._quarantined: dict[str, Quarantined] = {}
        """In the tables, by user."""
        self.failed: list[Difference] = []
        """Events in the rows on which today's folds fail."""
        self._named: set[str] = set()

    @property
    def seq(self) -> int:
        """Of the last event that was folded again."""
        return self._projector.head.seq

    async def differences(self) -> tuple[int, list[Difference]]:
        """Return the seq up to which the tables were compared, and what differs, table by table.

        Raises HeadNotOnLog, OtherFolds and QuarantineChanged; Switched, ReadModelUnavailable, LogDamaged and
        LogUnavailable.
        """
        seq, found = 0, list[Difference]()
        for kind in ROW_TYPES:
            comparison = _TableComparison(self._partition, kind, self._named)
            first: str | None = ALL_USERS.first
            while first is not None:
                await self._catch_up()
                seq, first = await self._compare(kind, comparison, first)
                await self._rest()
            found += comparison.end()[: STORED_MAX - len(found)]
        return seq, [*self.failed, *found, *await self._compare_quarantined_events()]

    async def _checkpoint(self) -> Checkpoint:
        """Raises Switched if a rebuild has dropped the generation meanwhile."""
        checkpoints = await self._found.store.checkpoints(self._found.generation)
        if not checkpoints:
            raise Switched(f"generation {self._found.generation} is gone")
        return checkpoints[self._partition]

    # --- folding ---------------------------------------------------------------------------------------------------

    async def _update_quarantine(self) -> None:
        """Read the quarantine of the tables. Raises QuarantineChanged unless users were only added, at later
        events."""
        store, generation = self._found
        now = {one.user_id: one for one in await store.quarantine(generation) if one.partition == self._partition}
        for user_id, one in self._quarantined.items():
            if now.get(user_id) != one:
                raise QuarantineChanged
        for user_id in now.keys() - self._quarantined.keys():
            if now[user_id].seq <= self._projector.head.seq:
                raise QuarantineChanged
        self._quarantined = now

    async def _catch_up(self) -> None:
        """Fold until so little is left that it can be folded while a read transaction is open."""
        for number in range(_PASSES_MAX):
            await self._update_quarantine()
            checkpoint = await self._checkpoint()
            if number > 0 and checkpoint.head.seq - self.seq <= _GAP_MAX:
                return
            await self._fold_to(checkpoint, rest=self._rest if number < _RESTING_PASSES else None)

    async def _fold_to(self, checkpoint: Checkpoint, *, rest: Rest | None = None) -> None:
        projector, end = self._projector, checkpoint.head.seq
        while (seq := projector.head.seq) < end:
            for one in self._quarantined.values():
                if one.seq == seq + 1:
                    await self._quarantine(one)
            next_seq = min((one.seq for one in self._quarantined.values() if one.seq > seq + 1), default=end + 1)
            records = self._log.read(self._partition, seq + 1, min(_PAGE, end - seq, next_seq - seq - 1))
            run = await projector.fold(records) if records else None
            if run is None:
                raise HeadNotOnLog(checkpoint.head, projector.head)
            await self._commit(run)
            projector.mark_stored(run)
            for one in run.quarantined:
                self.failed.append(
                    difference(self._partition, one.user_id, QUARANTINE.name, "", "reason", one.reason, None)
                )
            if len(self.failed) >= _FAILURES_MAX:
                raise OtherFolds
            if rest is not None:
                await rest()
        if projector.head != checkpoint.head:
            raise HeadNotOnLog(checkpoint.head, projector.head)

    async def _quarantine(self, one: Quarantined) -> None:
        if one.user_id not in self._projector.quarantined:  # today's folds may have failed on an earlier event
            checkpoint = self._projector.checkpoint
            await self._commit(Run(self._partition, checkpoint, checkpoint, (), (one,)))
            self._projector.quarantined.add(one.user_id)

    async def _commit(self, run: Run) -> None:
        await self._scratch.store.commit(self._scratch.generation, [run], building=True)

    # --- comparing -------------------------------------------------------------------------------------------------

    async def _compare(self, kind: type[Row], comparison: "_TableComparison", first: str) -> tuple[int, str | None]:
        """Compare about ``_CHUNK`` rows, of the users from ``first`` on. Returns the seq of that moment, and the
        first user whose rows were not compared, None if all were."""
        (store, generation), (scratch, refolded) = self._found, self._scratch
        users = Users(first) if is_of_user(kind) else ALL_USERS
        rows, owner = 0, ""
        async with aclosing(store.scan(generation, self._partition, (kind,), users)) as pages:
            checkpoint, _, page = await anext(pages)
            await self._update_quarantine()
            await self._fold_to(checkpoint)
            async with (
                aclosing(scratch.scan(refolded, self._partition, (kind,), users)) as scratch_pages,
                aclosing(_rows(scratch_pages)) as expected,
                aclosing(_rows(pages, page)) as found,
                aclosing(_side_by_side(expected, found)) as pairs,
            ):
                async for key, wanted, there in pairs:
                    if rows >= _CHUNK and users is not ALL_USERS and isinstance(key[0], str) and key[0] != owner:
                        return checkpoint.head.seq, key[0]
                    rows, owner = rows + 1, str(key[0])
                    comparison.add(key, wanted, there)
        return checkpoint.head.seq, None

    async def _compare_quarantined_events(self) -> list[Difference]:
        """The stored events of quarantined users must be exactly their events from the failed one on."""
        await self._update_quarantine()
        found: list[Difference] = []
        for user_id in sorted(self._quarantined):
            expected, there = [
                {event.seq: event.record for event in await self._quarantined_events(side, user_id)}
                for side in (self._scratch, self._found)
            ]
            end = min(
                max(seqs) if len(seqs) == _QUARANTINED_EVENTS_MAX else self._projector.head.seq
                for seqs in (expected, there)
            )
            for seq in sorted(expected.keys() | there.keys()):
                if seq <= end and expected.get(seq) != there.get(seq) and len(found) < STORED_MAX:
                    hashes = (None if one is None else sha256_hex(one) for one in (expected.get(seq), there.get(seq)))
                    key = f"[{seq}]"
                    found.append(difference(self._partition, user_id, QUARANTINED_EVENT.name, key, "record", *hashes))
            await self._rest()
        await self._update_quarantine()
        return found

    async def _quarantined_events(self, side: Side, user_id: str) -> Any:
        return await side.store.quarantined_events(side.generation, self._partition, user_id, _QUARANTINED_EVENTS_MAX)


def _owner_of(kind: type[Row], key: Key) -> str:
    """The user of the row; for a row without a user its account or another name."""
    if is_of_user(kind) or kind is AccountRow:
        return str(key[0])
    return "" if kind is DepositRow else f"{kind.table}/{key[0]}"


class _TableComparison:
    """Collects the differences of one table, owner by owner: the rows of a user or an account follow each other."""

    def __init__(self, partition: int, kind: type[Row], named: set[str]) -> None:
        """``named``: users and accounts whose rows are named, of all tables together."""
        self._partition, self._kind, self._named = partition, kind, named
        self._digest_of = digest_function(kind.table)
        self._owner = ""
        self._rows: list[Difference] = []
        self._digests = [0, 0]
        self._differences: list[Difference] = []

    def add(self, key: Key, expected: Row | None, found: Row | None) -> None:
        owner = _owner_of(self._kind, key)
        if owner != self._owner:
            self.end()
            self._owner = owner
        if not self._is_named():
            for side, row in enumerate((expected, found)):
                if row is not None:
                    self._digests[side] = add_digests(self._digests[side], self._digest_of(row))
        elif expected != found and len(self._rows) + len(self._differences) < STORED_MAX:
            self._rows += _row_differences(self._partition, owner, self._kind, key, expected, found)

    def _is_named(self) -> bool:
        return self._owner in self._named or len(self._named) < NAMED_MAX

    def end(self) -> list[Difference]:
        """After the last row of an owner. Returns the table's differences so far."""
        expected, found = self._digests
        if self._rows:
            self._named.add(self._owner)
            self._differences += self._rows
        elif expected != found and len(self._differences) < STORED_MAX:
            digests = (f"{expected:032x}", f"{found:032x}")
            self._differences.append(
                difference(self._partition, self._owner, self._kind.table, "", "digest", *digests)
            )
        self._rows, self._digests = [], [0, 0]
        return self._differences


Pages = AsyncGenerator[tuple[Checkpoint, type[Row], Any], None]


async def _rows(pages: Pages, first: Any = ()) -> AsyncGenerator[Row, None]:
    for row in first:
        yield row
    async for _, _, page in pages:
        for row in page:
            yield row


async def _side_by_side(
    expected: AsyncIterator[Row], found: AsyncIterator[Row]
) -> AsyncGenerator[tuple[Key, Row | None, Row | None], None]:
    """The rows of both with the same key, None where one has none; both come in the order of their keys."""
    one, other = await anext(expected, None), await anext(found, None)
    while one is not None or other is not None:
        if one is not None and other is not None and key_of(one) == key_of(other):
            yield key_of(one), one, other
            one, other = await anext(expected, None), await anext(found, None)
        elif other is None or (one is not None and _order(one) < _order(other)):
            assert one is not None
            yield key_of(one), one, None
            one = await anext(expected, None)
        else:
            yield key_of(other), None, other
            other = await anext(found, None)


def _order(row: Row) -> tuple[tuple[int, Any], ...]:
    """The order of keys in the stores, also for a value that was changed by hand to another type."""
    return tuple((0 if isinstance(part, int) else 1 if isinstance(part, str) else 2, part) for part in key_of(row))


def _row_differences(
    partition: int, owner: str, kind: type[Row], key: Key, expected: Row | None, found: Row | None
) -> Iterator[Difference]:
    text = to_json(key)[:_KEY_MAX]
    if expected is None or found is None:
        yield difference(partition, owner, kind.table, text, "", expected, found)
        return
    for field in kind.__struct_fields__:
        if (one := getattr(expected, field)) != (other := getattr(found, field)):
            yield difference(partition, owner, kind.table, text, field, one, other)


def difference(partition: int, owner: str, table: str, key: str, field: str, expected: Any, found: Any) -> Difference:
    return Difference(partition, owner, table, key, field, to_json(expected), to_json(found))


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
