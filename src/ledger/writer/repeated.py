"""Responds to the repeated commands of a round, with few reads of the log: clients that retry do so together.

Seqs that are near each other are read as one range, with the records between them.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ledger.core.position import Position
from ledger.errors import LogDamaged, LogUnavailable
from ledger.pacing import RareWarnings
from ledger.ports import EventLog
from ledger.writer.requests import Failed, Request, response_to_repeated

_warnings: Final = RareWarnings(logging.getLogger(__name__))

_GAP_MAX: Final = 64
"""The largest step between the seqs of a range. Chosen: a broker sends 64 KB more as fast as another response."""

_RANGE_MAX: Final = 1_000
_READS_AT_ONCE: Final = 16
"""Chosen: as many requests as a broker works on side by side."""


def ranges_of(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """The (first, last) seqs of the ranges that include all ``seqs``, in order."""
    ranges: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if ranges and seq - ranges[-1][1] <= _GAP_MAX and seq - ranges[-1][0] < _RANGE_MAX:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return ranges


async def respond_to_repeated(
    log: EventLog, partition: int, repeated: Sequence[tuple[Request, int]], new: Mapping[int, bytes]
) -> None:
    """Close each request with the response to its command. ``repeated``: each with the seq of its command's event;
    ``new``: seq → record, of the events that this round wrote."""
    try:
        records = {**await _read(log, partition, (seq for _, seq in repeated if seq not in new)), **new}
    except (LogUnavailable, LogDamaged) as error:
        _warnings.warn("the events of repeated commands cannot be read: %s", error)
        # Not ``log_unavailable``, which says that nothing was written: these commands are in the log.
        for request, _ in repeated:
            request.close(Failed("outcome_unknown", error.for_clients))
        return
    for request, seq in repeated:
        request.close(response_to_repeated(request, records[seq], Position(partition, seq)))


async def _read(log: EventLog, partition: int, seqs: Iterable[int]) -> dict[int, bytes]:
    """Seq → record of ``seqs``, which are in the log. Raises LogUnavailable, LogDamaged."""
    found: dict[int, bytes] = {}
    wanted = set(seqs)
    left = ranges_of(wanted)
    while left:
        ranges, left = left[:_READS_AT_ONCE], left[_READS_AT_ONCE:]
        pages = await asyncio.gather(*(log.read(partition, first, last - first + 1) for first, last in ranges))
        for (first, last), page in zip(ranges, pages, strict=True):
            assert len(page) == last - first + 1, f"partition {partition} lacks records of seq {first} to {last}"
            found.update((seq, record) for seq, record in enumerate(page, first) if seq in wanted)
    return found
