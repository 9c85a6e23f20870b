"""The proof that the read model is what the log says, made again and again beside the follower.

The *quick* pass adds up the digests of a partition's rows and compares the sums with those that the folds kept
running in its checkpoint: what somebody changed, added or removed shows, but not which row. The *thorough* pass folds
the partition's log anew, in memory, and compares each row: it names what differs, finds a running digest that was
changed too, and a fold that went wrong. Truths:
(1) rows are read at one moment, and held against the log up to that moment's checkpoint and not an event further;
(2) nothing is locked while the proof computes; a read lasts as long as it takes to read the rows of one partition's
    table, or of the users that are proved together;
(3) an event that is held for a quarantined user is no difference; one that the rows have and today's folds cannot
    digest is;
(4) what a thorough pass found is kept until the next one of that partition: a quick pass clears nothing, but where it
    disagrees with what is kept, the thorough pass follows at once.
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
"""Of one core, at most, for the quick passes. Chosen. Measured: they cost 0.9 s for a log of 300,000 events, so that
a changed row is found within half a minute there, within a minute on 800,000 events, in proportion on larger logs."""

THOROUGH_SHARE: Final = 0.02
"""… and for the thorough ones. Chosen: they cost 26 µs an event, twice that where a partition has more than
``EVENTS_MAX``, so that 300,000 events are held against the log every seven minutes."""

HURRIED_SHARE: Final = 0.5
"""While a difference is being named. Chosen: somebody may be waiting for it, and everybody else goes first anyway."""

ROUND_S: Final = 10.0
"""A round lasts no less, however little there is. Chosen: well below a minute, and nothing on an idle machine."""

EVENTS_MAX: Final = 100_000
"""Folded in memory at once; a partition with more is folded by ranges of its users. Chosen: some 100 MB."""

NAMED_MAX: Final = 100
"""Users and accounts of a partition whose rows are named one by one; of others it is said that they differ."""

KEPT_MAX: Final = 1_000
"""Differences of a partition that are kept. Chosen: whoever has more rebuilds."""

_RETRY_S: Final = 5.0
_PAGE: Final = 2_000
_HELD_MAX: Final = 10_000
_KEY_MAX: Final = 500
_STOPS_MAX: Final = 10

_log = logging.getLogger(__name__)

Pass = tuple[Sequence[type[Row]], Users, Sequence[Callable[..., None]]]
"""Tables that are proved together, for whom, and their folds."""

Position = tuple[type[Row], str]
"""A table, and whose rows in it: a user's, an account's, "" for the index of deposits, which names nobody."""

_WHOSE: Final[dict[type[Row], Callable[[Any], str]]] = {
    kind: attrgetter(kind.__struct_fields__[0]) for kind in ROW_TYPES if kind is not DepositRow
}
_WHOSE[DepositRow] = lambda _row: ""


class Pace:
    """Keeps this process to a share of a core: after a piece of work it rests as long as the share asks for."""

    def __init__(
        self,
        share: float,
        *,
        cpu_s: Callable[[], float] = process_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._share, self._cpu_s, self._sleep = share, cpu_s, sleep
        self._since_s = cpu_s()
        self.hurried = False

    async def rest(self) -> None:
        """Call it where nothing is held open."""
        share = max(self._share, HURRIED_SHARE) if self.hurried else self._share
        await self._sleep((self._cpu_s() - self._since_s) * (1 / share - 1))
        self._since_s = self._cpu_s()


class _Stopped(Exception):
    """Today's folds cannot digest this event."""

    def __init__(self, user_id: str, seq: int, reason: str) -> None:
        super().__init__(reason)
        self.user_id, self.seq, self.reason = user_id, seq, reason


class _AnotherLog(Exception):
    """The log does not go through the checkpoint."""

    def __init__(self, checkpoint: Head, log: Head) -> None:
        super().__init__()
        self.checkpoint, self.log = checkpoint, log


class _Moved(Exception):
    """A user was quarantined or freed while the rows were read: which of their events they hold is not known."""


class _Rows(NamedTuple):
    """What was read at one moment, or folded up to it: digests by whose they are, and the rows of those asked for."""

    checkpoint: Checkpoint
    digests: dict[Position, int]
    rows: dict[tuple[type[Row], Key], Row]


class _Compared(NamedTuple):
    there: _Rows
    made: _Rows
    stopped: list[Difference]
    """Users whose events are in the rows, and whom today's folds would stop."""

    def differing(self) -> list[Position]:
        there, made = self.there.digests, self.made.digests
        places = [place for place in there.keys() | made.keys() if there.get(place, 0) != made.get(place, 0)]
        return sorted(places, key=lambda place: (place[1], place[0].table))


class Proof:
    """Proves the partitions of one generation; it must be of today's folds for the thorough pass to make sense."""

    def __init__(self, store: ReadModelStore, log: LogReader, pace: Pace, *, events_max: int = EVENTS_MAX) -> None:
        self.pace = pace
        self._store, self._log, self._events_max = store, log, events_max

    async def quick(self, generation: int, partition: int) -> list[Difference]:
        """The tables whose rows do not add up to their running digest. Raises Switched, ReadModelUnavailable."""
        found = []
        for kind in ROW_TYPES:
            total, digest_of, running = 0, digest_function(kind.table), 0
            async for checkpoint, _, rows in self._store.scan(generation, partition, (kind,)):
                running = checkpoint.digests.get(kind.table, 0)
                total += sum(map(digest_of, rows))
            total = add_digests(total, 0)
            if total != running:
                found.append(_difference(partition, "", kind.table, "", "digest", f"{total:032x}", f"{running:032x}"))
            await self.pace.rest()
        return found

    async def thorough(self, generation: int, partition: int) -> tuple[int, list[Difference]]:
        """Up to which event the rows were held against the log, and what differs.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        seq, found = 0, []
        try:
            for kinds, users, some_folds in await self._passes(generation, partition):
                seq, differing = await self._prove(generation, partition, (kinds, users, some_folds))
                found += differing
        except _AnotherLog as other:
            head, theirs = other.checkpoint, other.log
            return head.seq, [_difference(partition, "", "checkpoint", "", "head", list(theirs), list(head))]
        found += await self._held(generation, partition)
        named = {one.table for one in found}
        found += [one for one in await self.quick(generation, partition) if one.table not in named]
        return seq, found

    async def _passes(self, generation: int, partition: int) -> list[Pass]:
        """What is proved together, so that each fits into memory."""
        seq = (await self._store.checkpoints(generation))[partition].head.seq
        if seq <= self._events_max:
            return [(ROW_TYPES, EVERYBODY, FOLDS)]
        ranges = await self._ranges(partition, seq)
        return [(WHOLE, EVERYBODY, WHOLE_FOLDS), *((BY_USER, users, FOLDS) for users in ranges)]

    async def _ranges(self, partition: int, seq: int) -> list[Users]:
        """All users, cut where about ``events_max`` events are together. One user's events are never parted."""
        events: dict[str, int] = {}
        async for page in self._pages(partition, seq):
            for record in page:
                user_id = _names_of(record).user_id
                events[user_id] = events.get(user_id, 0) + 1
        cuts, together = [EVERYBODY.first], 0
        for user_id in sorted(events):
            if together and together + events[user_id] > self._events_max:
                cuts.append(user_id)
                together = 0
            together += events[user_id]
        return [Users(*cut) for cut in zip(cuts, [*cuts[1:], EVERYBODY.last], strict=True)]

    async def _prove(self, generation: int, partition: int, part: Pass) -> tuple[int, list[Difference]]:
        compared = await self._compare(generation, partition, part, frozenset())
        if differing := compared.differing():
            # Once more, for the rows themselves. They may have been mended meanwhile, or others changed: it is the
            # second moment that counts.
            named = frozenset(list(dict.fromkeys(whose for _, whose in differing))[:NAMED_MAX])
            compared = await self._compare(generation, partition, part, named)
            there, made = compared.there, compared.made
            found = [*compared.stopped, *_differing_rows(partition, made.rows, there.rows)]
            for kind, whose in compared.differing():
                if whose not in named:
                    digests = (f"{one.digests.get((kind, whose), 0):032x}" for one in (made, there))
                    found.append(_difference(partition, whose, kind.table, "", "digest", *digests))
            return there.checkpoint.head.seq, found
        return compared.there.checkpoint.head.seq, compared.stopped

    async def _compare(self, generation: int, partition: int, part: Pass, named: frozenset[str]) -> "_Compared":
        """The rows as they are and as the log makes them, at one checkpoint."""
        while True:
            try:
                quarantined, there = await self._read(generation, partition, part, named)
                break
            except _Moved:
                await self.pace.rest()
        stops = {one.user_id: one.seq for one in quarantined}
        stopped: list[Difference] = []
        while True:
            try:
                made = await self._fold(partition, there.checkpoint, part, stops, named)
                return _Compared(there, made, stopped)
            except _Stopped as one:
                stops[one.user_id] = one.seq
                stopped.append(_difference(partition, one.user_id, QUARANTINE.name, "", "reason", one.reason, None))
                if len(stopped) >= _STOPS_MAX:  # other folds than those that made the rows: no row would agree
                    return _Compared(there, there, stopped)

    async def _read(
        self, generation: int, partition: int, part: Pass, named: frozenset[str]
    ) -> tuple[list[Quarantined], _Rows]:
        kinds, users, _ = part
        before = await self._quarantined(generation, partition)
        digests: dict[Position, int] = {}
        rows: dict[tuple[type[Row], Key], Row] = {}
        checkpoint = Checkpoint()
        async for at, kind, page in self._store.scan(generation, partition, kinds, users):
            checkpoint, digest_of, whose = at, digest_function(kind.table), _WHOSE[kind]
            for row in page:
                place = (kind, whose(row))
                digests[place] = add_digests(digests.get(place, 0), digest_of(row))
                if place[1] in named:
                    rows[kind, key_of(row)] = row
        # A stop is never taken back and set again at the same event, so what was the same twice was the same between.
        if await self._quarantined(generation, partition) != before:
            raise _Moved
        await self.pace.rest()
        return before, _Rows(checkpoint, digests, rows)

    async def _quarantined(self, generation: int, partition: int) -> list[Quarantined]:
        return [one for one in await self._store.quarantine(generation) if one.partition == partition]

    async def _fold(
        self, partition: int, checkpoint: Checkpoint, part: Pass, stops: Mapping[str, int], named: frozenset[str]
    ) -> _Rows:
        """The rows that the log makes, up to the checkpoint. Raises _Stopped, _AnotherLog."""
        kinds, users, some_folds = part
        made = _Rows(checkpoint, {}, {})
        book = RowBuffer(ROW_TYPES, {}, complete=True, rows_max=sys.maxsize)
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
                        fold(event, link.place, book)
                except FoldFailed as error:
                    raise _Stopped(user_id, seq, error.reason) from error
                except Exception as error:
                    raise _Stopped(user_id, seq, reason_of(error)) from error
            self._take(book, kinds, made, named)
        if head != checkpoint.head:
            raise _AnotherLog(checkpoint.head, head)
        return made

    async def _held(self, generation: int, partition: int) -> list[Difference]:
        """What is kept for quarantined users must be their events, from the one that stopped them on."""
        quarantined = await self._quarantined(generation, partition)
        if not quarantined:
            return []
        end = (await self._store.checkpoints(generation))[partition].head.seq
        kept: dict[str, dict[int, bytes]] = {}
        until: dict[str, int] = {}
        for one in quarantined:
            waiting = await self._store.held(generation, partition, one.user_id, _HELD_MAX)
            kept[one.user_id] = {held.seq: held.record for held in waiting}
            until[one.user_id] = end if len(waiting) < _HELD_MAX else waiting[-1].seq
        if await self._quarantined(generation, partition) != quarantined:
            return []  # some were taken meanwhile; the next round looks again
        since = {one.user_id: one.seq for one in quarantined}
        found = []
        async for page in self._pages(partition, end):
            for record in page:
                named = _names_of(record)
                user_id, seq = named.user_id, named.seq
                if since.get(user_id, sys.maxsize) <= seq <= until.get(user_id, 0):
                    there = kept[user_id].pop(seq, None)
                    if there != record:
                        found.append(_held_difference(partition, user_id, seq, record, there))
        for user_id, others in kept.items():
            found += [_held_difference(partition, user_id, seq, None, others[seq]) for seq in others if seq <= end]
        return sorted(found, key=lambda one: (one.place, one.key))

    async def _pages(self, partition: int, to_seq: int) -> AsyncIterator[list[bytes]]:
        seq = 0
        while seq < to_seq and (page := self._log.read(partition, seq + 1, min(_PAGE, to_seq - seq))):
            yield page
            seq += len(page)
            await self.pace.rest()

    def _take(self, book: RowBuffer, kinds: Sequence[type[Row]], made: _Rows, named: frozenset[str]) -> None:
        digests = made.digests
        for shelf in book.tables:
            if (kind := shelf.kind) in kinds:
                for key, change in shelf.digest_changes():
                    place = (kind, "" if kind is DepositRow else key[0])
                    digests[place] = add_digests(digests.get(place, 0), change)
                    if place[1] in named:
                        row = shelf.peek(key)
                        assert row is not None, key
                        made.rows[kind, key] = row  # the book changes it in place, to what it is in the end
        book.settle({})


def _differing_rows(
    partition: int, made: Mapping[tuple[type[Row], Key], Row], there: Mapping[tuple[type[Row], Key], Row]
) -> Iterator[Difference]:
    """Row by row and field by field, in the order of tables and keys."""
    order = {kind: place for place, kind in enumerate(ROW_TYPES)}
    for kind, key in sorted(
        made.keys() | there.keys(), key=lambda one: (order[one[0]], [str(part) for part in one[1]])
    ):
        expected, found = made.get((kind, key)), there.get((kind, key))
        whose = _WHOSE[kind](expected if expected is not None else found)
        text = _json(key)[:_KEY_MAX]
        if expected is None or found is None:
            yield _difference(partition, whose, kind.table, text, "", expected, found)
            continue
        for field in kind.__struct_fields__:
            if (one := getattr(expected, field)) != (other := getattr(found, field)):
                yield _difference(partition, whose, kind.table, text, field, one, other)


class _Names(Struct, gc=False):
    user_id: str = ""
    seq: int = 0


_decode_names: Final = msgspec.json.Decoder(_Names).decode


def _names_of(record: bytes) -> _Names:
    """Whose event it is, and which; nobody's where the bytes are no record."""
    try:
        return _decode_names(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Names()


def _held_difference(
    partition: int, user_id: str, seq: int, expected: bytes | None, found: bytes | None
) -> Difference:
    hashes = (None if record is None else sha256_hex(record) for record in (expected, found))
    return _difference(partition, user_id, QUARANTINED_EVENT.name, f"[{seq}]", "record", *hashes)


def _difference(
    partition: int, whose: str, table: str, key: str, field: str, expected: Any, found: Any
) -> Difference:
    return Difference(partition, whose, table, key, field, _json(expected), _json(found))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Check:
    """Proves the partitions of the live generation, one after the other, and keeps what it finds in the read model.

    Two go round beside each other, each at its own pace: a thorough pass of a large partition takes its time, and
    meanwhile the quick ones look at all of them again and again.
    """

    def __init__(
        self, store: ReadModelStore, quickly: Proof, thoroughly: Proof, now_us: Clock, *, round_s: float = ROUND_S
    ) -> None:
        self._store, self._quickly, self._thoroughly, self._now_us = store, quickly, thoroughly, now_us
        self._round_s = round_s
        self._next = 0
        self._said: dict[int, set[Difference]] = {}

    async def for_ever(self) -> None:
        """Round after round, until it is cancelled. What cannot be read is said once, and tried again."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._rounds(self.quick_round))
            both.create_task(self._rounds(self.thorough_round))

    async def _rounds(self, go_round: Callable[[], Awaitable[None]]) -> None:
        said = ""
        while True:
            began_s = monotonic()
            try:
                await go_round()
                said = ""
            except Switched:
                pass  # the next round looks at the generation that is live then
            except LedgerError as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("the read model cannot be checked: %s", error)
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(max(0.0, began_s + self._round_s - monotonic()))

    async def quick_round(self) -> None:
        """The quick pass of every partition, and the thorough one where it does not say what is kept.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        generation = await self._live()
        if generation is None:
            return
        for partition in range(await self._partitions(generation)):
            kept = any(
                one.differences for one in await self._store.proved(generation.number) if one.partition == partition
            )
            found = await self._quickly.quick(generation.number, partition)
            if bool(found) != kept:
                self._quickly.pace.hurried = True
                try:
                    await self._hold_against_the_log(self._quickly, generation, partition)
                finally:
                    self._quickly.pace.hurried = False

    async def thorough_round(self) -> None:
        """The thorough pass of every partition; one that cannot be proved is left behind by the next round.

        Raises Switched, ReadModelUnavailable, LogDamaged, LogUnavailable.
        """
        generation = await self._live()
        for _ in range(0 if generation is None else await self._partitions(generation)):
            await self.next_partition()

    async def next_partition(self) -> None:
        """The thorough pass of the partition whose turn it is."""
        generation = await self._live()
        if generation is not None:
            turn, self._next = self._next, (self._next + 1) % await self._partitions(generation)
            await self._hold_against_the_log(self._thoroughly, generation, turn)

    async def all_partitions(self) -> int:
        """The thorough pass of every partition, once; answers how many differences are kept."""
        await self.thorough_round()
        generation = await self._live()
        kept = [] if generation is None else await self._store.proved(generation.number)
        return sum(one.differences for one in kept)

    async def _live(self) -> Generation | None:
        live = [one for one in await self._store.generations() if one.status == "live"]
        return live[-1] if live else None

    async def _partitions(self, generation: Generation) -> int:
        return len(await self._store.checkpoints(generation.number))

    async def _hold_against_the_log(self, proof: Proof, generation: Generation, partition: int) -> None:
        if generation.version == folds.VERSION:
            seq, found = await proof.thorough(generation.number, partition)
        else:
            # Rows of other folds mean something else: their sums are all that can be said of them until a rebuild.
            seq = (await self._store.checkpoints(generation.number))[partition].head.seq
            found = await proof.quick(generation.number, partition)
        found = found[:KEPT_MAX]
        await self._store.report(generation.number, partition, seq, self._now_us(), found)
        self._say(partition, found)

    def _say(self, partition: int, found: Sequence[Difference]) -> None:
        """Log what was not logged before."""
        before = self._said.get(partition, set())
        news = [one for one in found if one not in before]
        for one in news[:NAMED_MAX]:
            _log.error("the read model differs from the log: %s", one)
        if len(news) > NAMED_MAX:
            _log.error(
                "the read model differs from the log: %d more in partition %d", len(news) - NAMED_MAX, partition
            )
        if before and not found:
            _log.info("partition %d of the read model is what the log says again", partition)
        self._said[partition] = set(found)
