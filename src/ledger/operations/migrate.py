"""A log moved from one technology to another as it is: the same records, so the same seqs and heads.

Truths:
(1) nothing is appended before all that the target holds is known to be the beginning of the source's log; what is
    not is named by partition and seq, and nothing is changed;
(2) what the target holds says how far a move has come: one that is killed at any moment is gone on with, and an
    append names the head that it continues, so that none lands twice and nothing comes between;
(3) of two moves into one target at once the one whose record comes second is refused: the first append is one record
    alone, so that the loser has written no more than this one, which no reader takes for an event;
(4) the target is the same only if every record of it, read anew from its first on, is the source's, and none follows.

The source stands still: whoever moves it holds its lock, and has had ``ledger.operations.audit.verify`` prove it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LedgerError, LogUnavailable, OutcomeUnknown, StaleHead
from ledger.operations.audit import RecordsFrom
from ledger.ports import EventLog, NewRecord, StoredRecord

BATCH_BYTES: Final = 1_000_000
"""Records in one append. Chosen: as much as every broker takes unless told otherwise; larger gained nothing."""
PATIENCE_S: Final = 60.0
"""How long a target may be away. Chosen: longer than an election, or the restart of a broker."""
_PAUSE_S: Final = 0.2

Tell = Callable[[str, int, int | None], None]
"""Told what is being done, and how many events of how many of it are."""


class NotThisLog(LedgerError):
    """What the target holds at ``partition``, ``seq`` is not what the source does; nothing was changed."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(f"partition {partition}, seq {seq}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason


class Interleaved(LedgerError):
    """Somebody else appends to the target; what this move appended before is part of the source's log."""


async def copy(source: RecordsFrom, heads: Sequence[Head], target: EventLog, tell: Tell) -> int:
    """Append to ``target`` what it lacks of ``source``, whose heads are ``heads``; answers how many events.

    Raises NotThisLog, Interleaved, LogUnavailable, OutcomeUnknown.
    """
    total = sum(head.seq for head in heads)
    there: list[Head] = []
    for partition, head in enumerate(heads):
        tell("reading what the target has", partition, len(heads))
        there.append(await _beginning(source, partition, head, target))
    before = done = sum(head.seq for head in there)
    alone = True
    for partition, end in enumerate(heads):
        head = there[partition]
        pages = source.read(partition, end.seq, head.seq + 1) if head.seq < end.seq else iter(())
        page = await asyncio.to_thread(next, pages, None)
        while page is not None:
            following = asyncio.create_task(asyncio.to_thread(next, pages, None))
            try:
                for batch in _batches(partition, page, alone=alone):
                    head = await _append(target, partition, head, batch)
                    done += len(batch)
                    alone = False
                    tell("copying", done, total)
            finally:
                page = await following  # a thread that still reads would meet a closed file
        assert head == end, "the source was proved, so its last record is its head"
    return done - before


async def _beginning(source: RecordsFrom, partition: int, end: Head, target: EventLog) -> Head:
    """Where the target's partition ends, once it is known to be on the source's log.

    By its head alone: each record carries the hash of all before it.
    """
    head = await target.head(partition)
    if head == EMPTY:
        return head
    if head.seq <= end.seq:
        page = next(source.read(partition, head.seq, head.seq))
        if sha256_hex(page[0][0]) == head.sha256:
            return head
    await _name_difference(source, partition, end, target)
    raise NotThisLog(partition, head.seq, "the target changes while it is read")


async def _name_difference(source: RecordsFrom, partition: int, end: Head, target: EventLog) -> None:
    """Raises NotThisLog at the first record that the target has otherwise, or that only it has."""
    for page in source.read(partition, end.seq):
        first = page[0][1]
        assert first is not None, "a log tells the seq with each record"
        found = await target.read(partition, first, len(page))
        for seq, (ours, theirs) in enumerate(zip(page, found, strict=False), first):
            if ours[0] != theirs:
                raise NotThisLog(partition, seq, "the target holds another record there: it has another log's events")
        if len(found) < len(page):
            return
    if await target.read(partition, end.seq + 1, 1):
        raise NotThisLog(
            partition, end.seq + 1, "the target goes on where the folder ends: nodes have written to it already"
        )


def _batches(partition: int, page: Sequence[StoredRecord], *, alone: bool) -> Iterator[list[NewRecord]]:
    """The page in appends of at most ``BATCH_BYTES``, or of one record; ``alone``: the first is of one record."""
    batch: list[NewRecord] = []
    size = 0
    for record, seq, user_id, command_id in page:
        assert seq is not None, f"partition {partition}: a log tells the names with each record"
        assert user_id is not None, f"partition {partition}, seq {seq}: a log tells the names with each record"
        assert command_id is not None, f"partition {partition}, seq {seq}: a log tells the names with each record"
        if batch and (alone or size + len(record) > BATCH_BYTES):
            yield batch
            batch, size, alone = [], 0, False
        batch.append(NewRecord(seq, user_id, command_id, record))
        size += len(record)
    if batch:
        yield batch


async def _append(target: EventLog, partition: int, after: Head, batch: Sequence[NewRecord]) -> Head:
    """Append until it is known to be there; answers the new head. Waits ``PATIENCE_S`` for a target that is away."""
    landed = Head(batch[-1].seq, sha256_hex(batch[-1].record))
    until_s = monotonic() + PATIENCE_S
    unsure = False  # whether one of these appends may have landed, or may yet
    while True:
        try:
            await target.append(partition, after, batch)
            return landed
        except (LogUnavailable, OutcomeUnknown) as error:
            unsure = unsure or isinstance(error, OutcomeUnknown)
            if monotonic() > until_s:
                raise
        except StaleHead as error:
            # Where an append of ours landed unheard, the head is its end. All else is somebody else's.
            if not unsure or await target.head(partition) != landed:
                raise Interleaved(
                    f"partition {partition}, seq {after.seq + 1}: somebody else appends to the target ({error}). Is "
                    "another migration under way, or a node? Let one of them end, then run this again"
                ) from error
            return landed
        await asyncio.sleep(_PAUSE_S)


async def compare(source: RecordsFrom, heads: Sequence[Head], target: EventLog, tell: Tell) -> None:
    """Hold every record of ``target``, which was opened for this, against ``source``.

    Raises NotThisLog at the first that differs, is missing, or is one too many; LogUnavailable.
    """
    total, done = sum(head.seq for head in heads), 0
    for partition, end in enumerate(heads):
        for page in source.read(partition, end.seq) if end.seq else ():
            first = page[0][1]
            assert first is not None, "a log tells the seq with each record"
            found = await target.read(partition, first, len(page))
            if found != [stored[0] for stored in page]:
                await _name_difference(source, partition, end, target)
                raise NotThisLog(partition, first + len(found), "the record is missing in the target")
            done += len(page)
            tell("reading back", done, total)
        if await target.head(partition) != end:
            await _name_difference(source, partition, end, target)
            raise NotThisLog(partition, end.seq, "the target's head is another one")
