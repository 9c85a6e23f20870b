"""From records to rows: the chain rule, the folds, and the quarantine.

Invariants:
(1) A record is folded if and only if its seq and prev continue the last event before it in log order. Any other
    record is a fork: it is skipped and counted.
(2) A run is folded as a whole: its rows and its checkpoint are stored in one transaction, or not at all.
(3) If a fold fails on an event, that event and all later events of its user are quarantined, in order. A quarantined
    event changes no row until all quarantined events before it were folded. The rows of other users do not wait.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from ledger.core.bet_events import BetPlaced
from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.record import Head, MalformedRecord, decode, sha256_hex
from ledger.errors import LogDamaged
from projections.models import FOLDS, NEEDS, ROW_TYPES, THEN_NEEDS, TYPES_OF
from projections.projecting.pay_tables import PayTables
from projections.storage.port import Checkpoint, Quarantined, QuarantinedEvent, ReadModelStore, Run
from projections.tables.model import ByType
from projections.tables.row_buffer import RowBuffer

_REASON_MAX: Final = 500
_RETRY_EVENTS_MAX: Final = 1_000

F = TypeVar("F")


class _Envelope(Struct, gc=False):
    """The fields of a record that are needed even if its event cannot be decoded."""

    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


class Link(NamedTuple):
    """A record of the chain. ``event`` is None if it could not be decoded; then ``reason`` says why."""

    place: Position
    user_id: str
    time_us: int
    record: bytes
    event: Event | None
    reason: str = ""


class Chained(NamedTuple):
    """The result of the chain rule for some records."""

    links: list[Link]
    head: Head
    forks: int


def continue_chain(partition: int, head: Head, records: Sequence[bytes]) -> Chained:
    """Return which of ``records``, in log order, are the events after ``head``.

    Raises LogDamaged for bytes that are no record: without a seq and a prev the chain rule cannot be applied.
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
    """Return the record as a link, and its prev. ``seq``: the expected seq, for the error message."""
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
    """Whether ``continue_chain`` can apply the chain rule to this record."""
    try:
        _decode_envelope(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


@lru_cache(maxsize=8)
def _by_type(functions: tuple[F, ...]) -> ByType[F]:
    return ByType(functions, TYPES_OF)


class FoldFailed(Exception):
    """A fold failed on this event."""

    def __init__(self, link: Link, reason: str) -> None:
        super().__init__(reason)
        self.link, self.reason = link, reason[:_REASON_MAX]


class PartitionProjector:
    """Folds one partition of one generation, run by run. The rows in its memory equal the rows in the tables."""

    def __init__(
        self,
        store: ReadModelStore,
        generation: int,
        partition: int,
        checkpoint: Checkpoint,
        quarantined: Sequence[Quarantined],
        *,
        rows_max: int | None = None,
        pay_tables: PayTables | None = None,
    ) -> None:
        """``quarantined``: the partition's quarantined users. ``rows_max``: rows of each table in memory.
        ``pay_tables``: None for the built-in ones only."""
        self._pay_tables = PayTables() if pay_tables is None else pay_tables
        self.partition = partition
        self._checkpoint = checkpoint
        self.forks = 0
        """Records of stored runs, and of runs without an event, that did not continue the chain."""
        self.quarantined = {one.user_id for one in quarantined}
        self._store, self._generation = store, generation
        empty = checkpoint.head.seq == 0
        self._buffer = (
            RowBuffer(ROW_TYPES, checkpoint.digests, complete=empty, pay_tables=self._pay_tables.known)
            if rows_max is None
            else RowBuffer(
                ROW_TYPES,
                checkpoint.digests,
                complete=empty,
                rows_max=rows_max,
                pay_tables=self._pay_tables.known,
            )
        )
        self._next_quarantined: set[str] = set()
        self._next_forks = 0

    @property
    def head(self) -> Head:
        """Of the last event that is in the tables, folded or quarantined."""
        return self._checkpoint.head

    @property
    def checkpoint(self) -> Checkpoint:
        return self._checkpoint

    async def fold(self, records: Sequence[bytes]) -> Run | None:
        """Return the run of ``records``; None if no record continues the chain.

        Commit the run and then call ``mark_stored``, or call ``discard``. Raises LogDamaged, LogUnavailable,
        ReadModelUnavailable.
        """
        chained = continue_chain(self.partition, self.head, records)
        if not chained.links:
            self.forks += chained.forks
            return None
        self._next_forks = chained.forks
        return await self._fold(chained.links, chained.head)

    async def _fold(self, links: Sequence[Link], head: Head) -> Run:
        newly_quarantined: dict[str, Quarantined] = {}

        def is_quarantined(link: Link) -> bool:
            one = newly_quarantined.get(link.user_id)
            return link.user_id in self.quarantined or (one is not None and link.place.seq >= one.seq)

        while True:
            to_fold = links
            if newly_quarantined or self.quarantined:
                to_fold = [link for link in links if not is_quarantined(link)]
            failures = await self._fold_links(to_fold)
            if not failures:
                break
            self._buffer.forget()
            newly_quarantined |= {failed.link.user_id: self._quarantined_by(failed) for failed in failures}
        self._next_quarantined = self.quarantined | newly_quarantined.keys()
        quarantined_events = tuple(_quarantined_event(link) for link in links if is_quarantined(link))
        return self._run(head, quarantined=tuple(newly_quarantined.values()), quarantined_events=quarantined_events)

    def _quarantined_by(self, failed: FoldFailed) -> Quarantined:
        link = failed.link
        return Quarantined(self.partition, link.user_id, link.place.seq, link.time_us, failed.reason)

    async def retry_quarantined(self, one: Quarantined) -> Run | None:
        """Fold a user's quarantined events again, in order. Returns None if the first one still fails.

        Commit the run and then call ``mark_stored``, or call ``discard``. A run has at most ``_RETRY_EVENTS_MAX``
        events; if more are quarantined, the user stays quarantined from the next one on.
        """
        events = await self._store.quarantined_events(
            self._generation, self.partition, one.user_id, _RETRY_EVENTS_MAX + 1
        )
        links = [_read(self.partition, event.seq, event.record)[0] for event in events]
        rest: Quarantined | None = None
        if len(links) > _RETRY_EVENTS_MAX:
            last = links.pop()
            rest = Quarantined(self.partition, one.user_id, last.place.seq, last.time_us, one.reason)
        while failures := await self._fold_links(links):
            (failed,) = failures
            self._buffer.forget()
            rest = self._quarantined_by(failed)
            links = links[: links.index(failed.link)]
        if not links:
            return None
        self._next_quarantined = self.quarantined - ({one.user_id} if rest is None else set())
        self._next_forks = 0
        return self._run(
            self.head,
            quarantined=() if rest is None else (rest,),
            released=tuple(_quarantined_event(link) for link in links),
            free=(one.user_id,) if rest is None else (),
        )

    async def _fold_links(self, links: Sequence[Link]) -> list[FoldFailed]:
        """Load the rows that the folds read, and fold. Returns the first failed event of each user; if there is one,
        the caller must discard the changes in the row buffer. All users are collected in one pass, because a defect
        in a fold may quarantine every user.

        Raises ReadModelUnavailable, LogUnavailable.
        """
        buffer = self._buffer
        self._pay_tables.learn({digest for link in links if (digest := _rules_of(link)) is not None})
        failed: dict[str, FoldFailed] = {}
        # A complete buffer has all rows of the partition: nothing to load. Measured: saves a sixth of a rebuild.
        for needs in () if buffer.complete else (NEEDS, THEN_NEEDS):
            needs_of = _by_type(needs)
            for link in links:
                if failed and link.user_id in failed:
                    continue
                try:
                    event = event_of(link)
                    for need in needs_of[type(event.data)]:
                        need(event, buffer)
                except Exception as error:  # noqa: BLE001 - any failure quarantines one user only
                    failed[link.user_id] = _as_fold_failed(link, error)
            if wanted := buffer.wanted():
                buffer.fill(await self._store.load(self._generation, self.partition, wanted))
        folds_of = _by_type(FOLDS)
        for link in links:
            if failed and link.user_id in failed:
                continue
            try:
                event, place = event_of(link), link.place
                for fold in folds_of[type(event.data)]:
                    fold(event, place, buffer)
            except Exception as error:  # noqa: BLE001 - as above
                failed[link.user_id] = _as_fold_failed(link, error)
        return list(failed.values())

    def _run(
        self,
        head: Head,
        *,
        quarantined: tuple[Quarantined, ...],
        quarantined_events: tuple[QuarantinedEvent, ...] = (),
        released: tuple[QuarantinedEvent, ...] = (),
        free: tuple[str, ...] = (),
    ) -> Run:
        buffer = self._buffer
        return Run(
            self.partition,
            self._checkpoint,
            Checkpoint(head, buffer.digests()),
            list(buffer.changes()),
            quarantined,
            quarantined_events,
            released,
            free,
        )

    def mark_stored(self, run: Run) -> None:
        """The run was committed."""
        self._checkpoint = run.after
        self.quarantined = set(self._next_quarantined)
        self.forks, self._next_forks = self.forks + self._next_forks, 0
        self._buffer.settle(run.after.digests)

    def discard(self) -> None:
        """The run was not committed: forget its changes."""
        self._buffer.forget()


def event_of(link: Link) -> Event:
    """The link's event. Raises FoldFailed if it could not be decoded."""
    if link.event is None:
        raise FoldFailed(link, link.reason)
    return link.event


def _rules_of(link: Link) -> str | None:
    """The pay table that the event's bet was taken under."""
    event = link.event
    return event.data.rules if event is not None and isinstance(event.data, BetPlaced) else None


def _quarantined_event(link: Link) -> QuarantinedEvent:
    return QuarantinedEvent(link.user_id, link.place.seq, link.record)


def _as_fold_failed(link: Link, error: Exception) -> FoldFailed:
    return error if isinstance(error, FoldFailed) else FoldFailed(link, reason_of(error))


def reason_of(error: Exception) -> str:
    """The reason for the quarantine, from the error of a fold."""
    return f"{type(error).__name__}: {error}"
