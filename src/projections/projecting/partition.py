"""Records → rows: the chain rule, the folds, and what becomes of an event that cannot be digested.

Truths:
(1) a record is folded if and only if its seq and prev continue the last event before it in log order; anything else
    is a fork, skipped and counted;
(2) a run is folded as a whole: its rows and its checkpoint are stored in one transaction, or neither;
(3) an event that a fold cannot digest, and every later event of its user, is held, in order, and changes no row until
    all before it were taken; nobody else's rows wait for it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.record import Head, MalformedRecord, decode, sha256_hex
from ledger.ports import LogDamaged
from projections.models import FOLDS, NEEDS, ROW_TYPES, THEN_NEEDS
from projections.storage.port import Checkpoint, Held, Quarantined, ReadModelStore, Run
from projections.tables.row_buffer import RowBuffer

_REASON_MAX: Final = 500
_HELD_AT_ONCE: Final = 1_000


class _Envelope(Struct, gc=False):
    """What must be known of a record to go on without understanding it."""

    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


class Link(NamedTuple):
    """A record of the chain. ``event`` is None where it could not be read, ``reason`` why."""

    place: Position
    user_id: str
    time_us: int
    record: bytes
    event: Event | None
    reason: str = ""


class Chained(NamedTuple):
    """A run of records as the chain rule sees them."""

    links: list[Link]
    head: Head
    forks: int


def continue_chain(partition: int, head: Head, records: Sequence[bytes]) -> Chained:
    """Which of ``records``, in log order, are the events after ``head``.

    Raises LogDamaged where bytes are no record at all: what they are a fork of, or not, cannot be told then.
    """
    links: list[Link] = []
    seq, sha256, forks = head.seq, head.sha256, 0
    for record in records:
        link, prev = _read(partition, seq + 1, record)
        place = link.place
        if place.seq != seq + 1 or prev != sha256 or place.partition != partition:
            forks += 1
            continue
        seq, sha256 = place.seq, sha256_hex(record)
        links.append(link)
    return Chained(links, Head(seq, sha256), forks)


def _read(partition: int, seq: int, record: bytes) -> tuple[Link, str]:
    """The record, which should be at ``seq``, and its prev."""
    try:
        place, prev, event = decode(record)
        return Link(place, event.user_id, event.time_us, record, event), prev
    except MalformedRecord as error:
        reason = str(error)
    try:
        envelope = _decode_envelope(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LogDamaged(partition, seq, f"the record cannot be read: {reason}") from None
    place = Position(envelope.partition, envelope.seq)
    return Link(place, envelope.user_id, envelope.time_us, record, None, reason), envelope.prev


def may_be_event(record: bytes) -> bool:
    """Whether ``continue_chain`` can tell that it is an event, or a fork."""
    try:
        _decode_envelope(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


class Indigestible(Exception):
    """The first event of a run that a fold could not digest."""

    def __init__(self, link: Link, reason: str) -> None:
        super().__init__(reason)
        self.link, self.reason = link, reason[:_REASON_MAX]


class PartitionFolder:
    """Folds one partition of one generation, run by run; what it remembers is what the tables hold."""

    def __init__(
        self,
        store: ReadModelStore,
        generation: int,
        partition: int,
        checkpoint: Checkpoint,
        quarantined: Sequence[Quarantined],
        *,
        rows_max: int | None = None,
    ) -> None:
        """``quarantined``: the partition's."""
        self.partition = partition
        self._checkpoint = checkpoint
        self.forks = 0
        """Records of stored runs, and of what came alone, that did not continue the chain."""
        self.quarantined = {one.user_id for one in quarantined}
        self._store, self._generation = store, generation
        empty = checkpoint.head.seq == 0
        self._book = (
            RowBuffer(ROW_TYPES, checkpoint.digests, complete=empty)
            if rows_max is None
            else RowBuffer(ROW_TYPES, checkpoint.digests, complete=empty, rows_max=rows_max)
        )
        self._next_quarantined: set[str] = set()
        self._next_forks = 0

    @property
    def head(self) -> Head:
        """Of the last event that is in the tables, or held there."""
        return self._checkpoint.head

    @property
    def checkpoint(self) -> Checkpoint:
        return self._checkpoint

    async def fold(self, records: Sequence[bytes]) -> Run | None:
        """The run that takes the partition past ``records``; None where none of them continues the chain.

        Store it, then ``stored``; or ``not_stored``. Raises LogDamaged, ReadModelUnavailable.
        """
        chained = continue_chain(self.partition, self.head, records)
        if not chained.links:
            self.forks += chained.forks
            return None
        self._next_forks = chained.forks
        return await self._fold(chained.links, chained.head)

    async def _fold(self, links: Sequence[Link], head: Head) -> Run:
        stopped: dict[str, Quarantined] = {}

        def waits(link: Link) -> bool:
            one = stopped.get(link.user_id)
            return link.user_id in self.quarantined or (one is not None and link.place.seq >= one.seq)

        while True:
            taken = [link for link in links if not waits(link)] if stopped or self.quarantined else links
            failures = await self._digest(taken)
            if not failures:
                break
            self._book.forget()
            stopped |= {failed.link.user_id: self._quarantined_by(failed) for failed in failures}
        self._next_quarantined = self.quarantined | stopped.keys()
        held = tuple(_held(link) for link in links if waits(link))
        return self._run(head, quarantined=tuple(stopped.values()), held=held)

    def _quarantined_by(self, failed: Indigestible) -> Quarantined:
        link = failed.link
        return Quarantined(self.partition, link.user_id, link.place.seq, link.time_us, failed.reason)

    async def retake(self, one: Quarantined) -> Run | None:
        """Try a quarantined user's held events again, in order; None where the first one still cannot be digested.

        Store it, then ``stored``; or ``not_stored``. What is taken may be the first part of what waits.
        """
        waiting = await self._store.held(self._generation, self.partition, one.user_id, _HELD_AT_ONCE + 1)
        links = [_read(self.partition, held.seq, held.record)[0] for held in waiting]
        rest: Quarantined | None = None
        if len(links) > _HELD_AT_ONCE:
            last = links.pop()
            rest = Quarantined(self.partition, one.user_id, last.place.seq, last.time_us, one.reason)
        while failures := await self._digest(links):
            (failed,) = failures
            self._book.forget()
            rest = self._quarantined_by(failed)
            links = links[: links.index(failed.link)]
        if not links:
            return None
        self._next_quarantined = self.quarantined - ({one.user_id} if rest is None else set())
        self._next_forks = 0
        return self._run(
            self.head,
            quarantined=() if rest is None else (rest,),
            released=tuple(_held(link) for link in links),
            free=(one.user_id,) if rest is None else (),
        )

    async def _digest(self, links: Sequence[Link]) -> list[Indigestible]:
        """Load what the folds read, and fold. Answers the first event of each user that could not be digested: then
        the book is to be forgotten. All of them at once, for a fold that went wrong may stop everybody.

        Raises ReadModelUnavailable.
        """
        book = self._book
        failed: dict[str, Indigestible] = {}
        # A complete book has every row there is: nothing has to be asked for. Measured: a sixth of a rebuild.
        for needs in () if book.complete else (NEEDS, THEN_NEEDS):
            for link in links:
                if failed and link.user_id in failed:
                    continue
                try:
                    event = event_of(link)
                    for need in needs:
                        need(event, book)
                except Exception as error:  # noqa: BLE001 - whatever it is, it must stop one user only
                    failed[link.user_id] = _as_indigestible(link, error)
            if wanted := book.wanted():
                book.fill(await self._store.load(self._generation, self.partition, wanted))
        for link in links:
            if failed and link.user_id in failed:
                continue
            try:
                event, place = event_of(link), link.place
                for fold in FOLDS:
                    fold(event, place, book)
            except Exception as error:  # noqa: BLE001 - as above
                failed[link.user_id] = _as_indigestible(link, error)
        return list(failed.values())

    def _run(
        self,
        head: Head,
        *,
        quarantined: tuple[Quarantined, ...],
        held: tuple[Held, ...] = (),
        released: tuple[Held, ...] = (),
        free: tuple[str, ...] = (),
    ) -> Run:
        book = self._book
        return Run(
            self.partition,
            self._checkpoint,
            Checkpoint(head, book.digests()),
            list(book.changes()),
            quarantined,
            held,
            released,
            free,
        )

    def stored(self, run: Run) -> None:
        """The run is in the tables."""
        self._checkpoint = run.after
        self.quarantined = set(self._next_quarantined)
        self.forks, self._next_forks = self.forks + self._next_forks, 0
        self._book.settle(run.after.digests)

    def not_stored(self) -> None:
        """The run is not in the tables: what it made is forgotten."""
        self._book.forget()


def event_of(link: Link) -> Event:
    """Its event. Raises Indigestible where it could not be read."""
    if link.event is None:
        raise Indigestible(link, link.reason)
    return link.event


def _held(link: Link) -> Held:
    return Held(link.user_id, link.place.seq, link.record)


def _as_indigestible(link: Link, error: Exception) -> Indigestible:
    return error if isinstance(error, Indigestible) else Indigestible(link, words_of(error))


def words_of(error: Exception) -> str:
    """Why a fold could not digest an event."""
    return f"{type(error).__name__}: {error}"
