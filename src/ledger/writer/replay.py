"""Replay: folds the records of the log, as another writer or an earlier run wrote them, into a partition's state.

Invariants:
(1) a page is folded as a whole, or not at all: an error leaves the state as it was;
(2) each record continues the chain, and each event's balances follow from its postings; otherwise the log is damaged;
(3) replay decides nothing and sends nothing: it returns the follow-ups, and its caller delivers them.
"""

from array import array
from collections.abc import Iterable

from msgspec import Struct

from ledger.core.bet_events import (
    BetCancelled,
    BetSettled,
    PeriodCancelled,
    ResultRecorded,
)
from ledger.core.commissions import COMMISSION
from ledger.core.consequences import OWN
from ledger.core.decide import EXPIRY
from ledger.core.events import Event, WriterOpened
from ledger.core.evolve import balances_follow, items_read_by
from ledger.core.follow_ups import follow_up_of
from ledger.core.position import Position
from ledger.core.record import Head, sha256_hex
from ledger.errors import DELETE_STATE, CheckpointAhead, LogDamaged
from ledger.ports import EventLog
from ledger.writer.requests import decode_stored
from ledger.writer.round import Announced, SentFollowUp
from ledger.writer.state import PartitionState


class Replayed(Struct, gc=False):
    """What a page of the log has changed."""

    head: Head
    """The head of the state after it."""
    events: int = 0
    time_us: int = 0
    """The time of the last event; 0 if there is none."""
    generation: int = 0
    """The highest generation of a ``writer_opened`` in it; 0 if there is none."""
    sent: list[SentFollowUp] = []
    """The follow-ups of its events."""
    announced: list[Announced] = []
    """The outcomes of periods in it."""
    causes: list[Position] = []
    """The events whose follow-ups have arrived: the causes that its events name."""


class Arrivals:
    """Positions of events whose follow-ups have arrived; 8 bytes each, because a replay can find millions."""

    def __init__(self) -> None:
        self._seqs: dict[int, array[int]] = {}

    def add(self, causes: Iterable[Position]) -> None:
        for cause in causes:
            self._seqs.setdefault(cause.partition, array("q")).append(cause.seq)

    def take(self) -> list[tuple[int, int]]:
        """All (partition, seq), and forget them."""
        seqs, self._seqs = self._seqs, {}
        return [(partition, seq) for partition, of_partition in seqs.items() for seq in of_partition]


async def catch_up(log: EventLog, state: PartitionState, head: Head, limit: int) -> Replayed:
    """Read at most ``limit`` records after ``head`` and fold them into the state.

    Raises LogDamaged, LogUnavailable, and LedgerError if the state store cannot be read.
    """
    partition = state.partition
    events: list[tuple[Event, Head]] = []
    end, keys = head, []
    for record in await log.read(partition, head.seq + 1, limit):
        position, prev, event = decode_stored(record, Position(partition, end.seq + 1))
        if position != (partition, end.seq + 1) or prev != end.sha256:
            raise LogDamaged(partition, end.seq + 1, "the record does not continue the chain")
        end = Head(position.seq, sha256_hex(record))
        events.append((event, end))
        keys.append(event.user_id)
        keys += [f"{event.user_id} {key}" for key in items_read_by(event)]
    replayed = Replayed(end, len(events), events[-1][0].time_us if events else 0)
    try:
        await state.prefetch_in_thread(keys)
        for event, at in events:
            _fold(state, replayed, event, at)
    except BaseException:
        state.roll_back()
        raise
    state.commit()
    return replayed


def _fold(state: PartitionState, replayed: Replayed, event: Event, at: Head) -> None:
    if type(event.data) is WriterOpened:
        replayed.generation = max(replayed.generation, event.data.generation)
        state.note_generation(event.data.generation)
        return
    position = Position(state.partition, at.seq)
    wallet = state.wallet(event.user_id)
    if not balances_follow(wallet, event):
        raise LogDamaged(state.partition, at.seq, "its balances are not the wallet's before it plus its postings")
    items = {key: state.item(event.user_id, key) for key in items_read_by(event)}
    after = state.apply(wallet, items, event, position)
    kind = type(event.data)
    if kind is ResultRecorded or kind is PeriodCancelled:
        replayed.announced.append(Announced(event, position, at.sha256))
    if (
        event.command_id[0] == "~"
        and not event.command_id.startswith((EXPIRY, OWN, COMMISSION))
        and kind is not BetSettled  # the cause of a settlement has sent no follow-up that is kept
        and kind is not BetCancelled
    ):
        cause = str(getattr(event.data, "cause"))  # noqa: B009 - the data of each follow-up has it
        replayed.causes.append(Position.parse(cause))
    follow_up = follow_up_of(event, after, position, at.sha256)
    if follow_up is not None:
        state.open_follow_up(at.seq, follow_up)
        replayed.sent.append(SentFollowUp(at.seq, follow_up))


async def check_checkpoint(log: EventLog, partition: int, checkpoint: Head, end: Head) -> int:
    """Check that the checkpoint is on the log, which ends at ``end``. Return the time of its event, in Unix
    microseconds. Raises CheckpointAhead, LogDamaged, LogUnavailable."""
    if checkpoint.seq > end.seq:
        raise CheckpointAhead(
            f"the state of partition {partition} is at seq {checkpoint.seq}, but the log ends at {end.seq}: "
            "the log got shorter. Nothing was changed; restore the log. Only if the log is known to be "
            f"right, {DELETE_STATE}"
        )
    record = (await log.read(partition, checkpoint.seq, 1))[0]
    if sha256_hex(record) != checkpoint.sha256:
        raise CheckpointAhead(
            f"the state of partition {partition} is of another log: its head at seq {checkpoint.seq} is not "
            "in this one. Nothing was changed; restore the log that belongs to it. Only if this log is "
            f"known to be right, {DELETE_STATE}"
        )
    return decode_stored(record, Position(partition, checkpoint.seq)).event.time_us
