"""The log as the read side needs it, and whether what was folded is still on it."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from ledger.core.record import Head
from projections.storage.port import ReadModelAhead

WHAT_TO_DO: Final = (
    "Restore the log; only if what is missing is known to be lost, delete the read model: it is made of the log anew"
)


class LogReader(Protocol):
    """The log, read by another process than those that write it. Blocks; called in no hurry.

    All methods raise LogUnavailable where later may be better.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the log was created with."""
        ...

    def changed(self) -> bool:
        """Whether anything may have been appended since this was asked last. Costs next to nothing."""
        ...

    def ends(self) -> list[int]:
        """Every partition's last seq, 0 while it is empty."""
        ...

    def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """At most ``limit`` records from ``from_seq`` on, one a seq; [] past the end. Raises LogDamaged."""
        ...

    def holds(self, partition: int, head: Head) -> bool:
        """Whether ``head``, of an event, is on the log. From there on reading may be cheaper than elsewhere."""
        ...

    def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


def refuse_ahead(log: LogReader, heads: Sequence[Head]) -> None:
    """Raise ReadModelAhead unless every one of ``heads``, the read model's, is on the log."""
    for ahead in every_ahead(log, heads):
        raise ahead


def every_ahead(log: LogReader, heads: Sequence[Head]) -> Iterator[ReadModelAhead]:
    """For each partition whose head, the read model's, is not on the log, why."""
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
    """Why ``head``, the read model's, is not on the log; None where it is."""
    if head.seq == 0 or log.holds(partition, head):
        return None
    if not log.read(partition, head.seq, 1):
        return ReadModelAhead(partition, head.seq, f"the log ends before it: it got shorter. {WHAT_TO_DO}")
    reason = f"the log holds another record there, it is not the log that was folded. {WHAT_TO_DO}"
    return ReadModelAhead(partition, head.seq, reason)
