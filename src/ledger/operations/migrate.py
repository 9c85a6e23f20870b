"""Moves a log from one technology to another unchanged: the same records, so the same seqs and heads.

Invariants:
(1) nothing is appended before everything in the target is known to be the beginning of the source's log; a record
    that is not is named by partition and seq, and nothing is changed;
(2) the records in the target are the progress of a move: the next run continues one that was killed at any moment.
    Each append names the head that it continues, so none lands twice and no other record comes between two of them;
(3) of two moves into one target at once the one whose record is second is refused: the first append is one record
    alone, so the loser has written only this one, which no reader takes for an event;
(4) the target equals the source only if every record of it, read again from the first, is the source's, and none
    follows.

The source does not change: the caller has its lock, and has verified it with ``ledger.operations.audit.verify``.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

import msgspec
from msgspec import Struct

from ledger import background
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import LedgerError, LogUnavailable, OutcomeUnknown, StaleHead
from ledger.operations.audit import RecordsFrom
from ledger.ports import EventLog, NewRecord, StoredRecord

BATCH_BYTES: Final = 1_000_000
"""Records in one append. Chosen: what every broker accepts by default; larger appends gained nothing."""
RETRY_S: Final = 60.0
"""How long a target may be unavailable. Chosen: longer than an election, or the restart of a broker."""
_PAUSE_S: Final = 0.2

Progress = Callable[[str, int, int | None], None]
"""Receives the current step, the number of events done, and their total."""


class _Names(Struct, gc=False):
    user_id: str
    command_id: str


_decode_names: Final = msgspec.json.Decoder(_Names).decode  # the source is verified, so every record has them


class NotThisLog(LedgerError):
    """The target's record at ``partition``, ``seq`` is not the source's; nothing was changed."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(f"partition {partition}, seq {seq}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason


class Interleaved(LedgerError):
    """Another process appends to the target; the records this move appended before are part of the source's log."""


async def copy(source: RecordsFrom, heads: Sequence[Head], target: EventLog, progress: Progress) -> int:
    """Append to ``target`` the records that it lacks of ``source``, whose heads are ``heads``. Returns their number.

    Raises NotThisLog, Interleaved, LogUnavailable, OutcomeUnknown.
    """
    total = sum(head.seq for head in heads)
    present: list[Head] = []
    for partition, head in enumerate(heads):
        progress("reading the target", partition, len(heads))
        present.append(await _beginning(source, partition, head, target))
    before = done = sum(head.seq for head in present)
    alone = True
    for partition, end in enumerate(heads):
        head = present[partition]
        pages = source.read(partition, end.seq, head.seq + 1) if head.seq < end.seq else iter(())
        page = await asyncio.to_thread(next, pages, None)
        while page is not None:
            following = background.awaited(asyncio.to_thread(next, pages, None), "source-page")
            try:
                for batch in _batches(partition, page, alone=alone):
                    head = await _append(target, partition, head, batch)
                    done += len(batch)
                    alone = False
                    progress("copying", done, total)
            finally:
                page = await following  # otherwise the thread reads from a closed file
        assert head == end, "the source was verified, so its last record is its head"
    return done - before


async def _beginning(source: RecordsFrom, partition: int, end: Head, target: EventLog) -> Head:
    """Return where the target's partition ends, once it is known to be the beginning of the source's.

    Its head is enough: each record contains the hash of all records before it.
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
    """Raises NotThisLog at the first record that differs in the target, or that only the target has."""
    for page in source.read(partition, end.seq):
        first = page[0][1]
        assert first is not None, "a log gives the seq of each record"
        found = await target.read(partition, first, len(page))
        for seq, (ours, theirs) in enumerate(zip(page, found, strict=False), first):
            if ours[0] != theirs:
                raise NotThisLog(
                    partition, seq, "the target has another record at this seq: it has another log's events"
                )
        if len(found) < len(page):
            return
    if await target.read(partition, end.seq + 1, 1):
        raise NotThisLog(
            partition, end.seq + 1, "the target continues where the folder ends: nodes have written to it already"
        )


def _batches(partition: int, page: Sequence[StoredRecord], *, alone: bool) -> Iterator[list[NewRecord]]:
    """Split the page into appends of at most ``BATCH_BYTES``, or one record; ``alone``: the first has one record."""
    batch: list[NewRecord] = []
    size = 0
    for record, seq in page:
        assert seq is not None, f"partition {partition}: a log gives the seq of each record"
        if batch and (alone or size + len(record) > BATCH_BYTES):
            yield batch
            batch, size, alone = [], 0, False
        names = _decode_names(record)
        batch.append(NewRecord(seq, names.user_id, names.command_id, record))
        size += len(record)
    if batch:
        yield batch


async def _append(target: EventLog, partition: int, after: Head, batch: Sequence[NewRecord]) -> Head:
    """Append until it is known to have landed. Returns the new head. Waits for a target up to ``RETRY_S``."""
    landed = Head(batch[-1].seq, sha256_hex(batch[-1].record))
    until_s = monotonic() + RETRY_S
    unsure = False  # whether one of these appends may have landed, or may land later
    while True:
        try:
            await target.append(partition, after, batch)
            return landed
        except (LogUnavailable, OutcomeUnknown) as error:
            unsure = unsure or isinstance(error, OutcomeUnknown)
            if monotonic() > until_s:
                raise
        except StaleHead as error:
            # If an append of this move landed unacknowledged, the head is its end. Else another process appended.
            if not unsure or await target.head(partition) != landed:
                raise Interleaved(
                    f"partition {partition}, seq {after.seq + 1}: another process appends to the target ({error}). "
                    "Is another migration or a node running? Stop one of them, then run this again"
                ) from error
            return landed
        await asyncio.sleep(_PAUSE_S)


async def compare(source: RecordsFrom, heads: Sequence[Head], target: EventLog, progress: Progress) -> None:
    """Compare every record of ``target``, which was opened for this, with ``source``.

    Raises NotThisLog at the first that differs, is missing, or that only the target has; LogUnavailable.
    """
    total, done = sum(head.seq for head in heads), 0
    for partition, end in enumerate(heads):
        for page in source.read(partition, end.seq) if end.seq else ():
            first = page[0][1]
            assert first is not None, "a log gives the seq of each record"
            found = await target.read(partition, first, len(page))
            if found != [stored[0] for stored in page]:
                await _name_difference(source, partition, end, target)
                raise NotThisLog(partition, first + len(found), "the record is missing in the target")
            done += len(page)
            progress("reading back", done, total)
        if await target.head(partition) != end:
            await _name_difference(source, partition, end, target)
            raise NotThisLog(partition, end.seq, "the target has another head")
