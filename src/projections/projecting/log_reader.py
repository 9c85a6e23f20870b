"""The log as the read side needs it, and the check that the read model's heads are on it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from ledger.core.games.tables import PayTable
from ledger.core.record import Head
from projections.storage.port import ReadModelAhead

WHAT_TO_DO: Final = (
    "Restore the log. Only if its missing records are known to be lost, delete the read model: it is rebuilt from "
    "the log"
)


class LogReader(Protocol):
    """The log, read by another process than the writers. Its methods block.

    All methods raise LogUnavailable; retry later.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the log was created with."""
        ...

    def changed(self) -> bool:
        """Whether records may have been appended since the last call. Costs next to nothing."""
        ...

    def ends(self) -> list[int]:
        """The last seq of every partition; 0 for an empty one."""
        ...

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """At most ``limit`` records from ``from_seq`` on, one for each seq; [] past the end. Raises LogDamaged."""
        ...

    def contains(self, partition: int, head: Head) -> bool:
        """Whether the event with this ``head`` is on the log. Reading on from there may be cheaper afterwards."""
        ...

    def tables(self) -> Mapping[str, PayTable]:
        """The pay tables that are kept with the log, by their digests."""
        ...

    def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


def refuse_ahead(log: LogReader, heads: Sequence[Head]) -> None:
    """Raise ReadModelAhead unless every one of ``heads``, the read model's, is on the log."""
    for ahead in every_ahead(log, heads):
        raise ahead


def every_ahead(log: LogReader, heads: Sequence[Head]) -> Iterator[ReadModelAhead]:
    """The reason for each partition whose head, the read model's, is not on the log."""
    if len(heads) != log.partitions:
        partition = min(len(heads), log.partitions)
        seq = heads[partition].seq if partition < len(heads) else 0
        reason = f"it was made of a log of {len(heads)} partitions, this one has {log.partitions}. {WHAT_TO_DO}"
        yield ReadModelAhead(partition, seq, reason)
        return
    for partition, head in enumerate(heads):
        if (ahead := ahead_at(log, partition, head)) is not None:
            yield ahead


def ahead_at(log: LogReader, partition: int, head: Head) -> ReadModelAhead | None:
    """Why ``head``, the read model's, is not on the log; None if it is."""
    if head.seq == 0 or log.contains(partition, head):
        return None
    if not log.read(partition, head.seq, 1):
        return ReadModelAhead(partition, head.seq, f"the log ends before it: it got shorter. {WHAT_TO_DO}")
    reason = f"the log has another record there, it is not the log that was folded. {WHAT_TO_DO}"
    return ReadModelAhead(partition, head.seq, reason)
