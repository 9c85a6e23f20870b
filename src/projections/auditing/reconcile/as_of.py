"""Reads over all users, compared with the log as of exactly the positions that each response names.

Records are added in order, and are never removed again. So if a response is older than the records that were added so
far, it is requested again, a bounded number of times. If it stays older, as it does while a user is quarantined,
nothing more is compared: the rows of the other users are newer than the position that the response names.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import Document, UnknownRecord
from projections.auditing.reconcile.port import Difference, Unreadable, shown
from projections.auditing.reconcile.records import Collector, Record, records_after

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25

decode_data: Final = msgspec.json.Decoder(dict[str, Any]).decode


class OlderResponse(Exception):
    """The response is older than the records read so far."""


class Part(Protocol):
    """What is computed from the records of one partition, up to seq ``end``."""

    partition: int
    end: int

    def collect(self, event: Record) -> None:
        """Add one record. Raises UnknownRecord."""
        ...


PartT = TypeVar("PartT", bound=Part)


class AllPartitions(Generic[PartT]):
    """The records of all partitions. First pass the records of each partition to its ``collector``, one partition
    after the other; then compare the reads."""

    def __init__(self, records: RecordsFrom, parts: Sequence[PartT]) -> None:
        self._records = records
        self._parts = parts
        self.responses = 0
        self.retried = 0

    def collector(self, partition: int) -> Collector:
        return self._parts[partition].collect

    def differs_each_time(self, once: Callable[[], list[Difference]]) -> list[Difference]:
        """What differs in each attempt. Raises OlderResponse, UnknownRecord, and what the read raises."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                differences = once()
            except OlderResponse:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S)
                continue
            if not differences:
                break
        self.retried += attempt > 1
        return differences

    def response(self, read: str, ask: Callable[[], Document | None]) -> tuple[Document, str] | Difference:
        """Request a read, and add the records up to exactly the positions that its response names. Returns the
        response and these positions, or a difference if it names none or is no document. Raises OlderResponse."""
        self.responses += 1
        try:
            response = ask()
        except Unreadable as error:
            return difference_of(read, "", "", "a document", f"unreadable: {error}")
        if response is None:
            return difference_of(read, "", "", "a document", None)
        positions = _positions(response, len(self._parts))
        if positions is None:
            return difference_of(read, "as_of.positions", "", "one of each partition", response.get("as_of"))
        if (short := self._reach(positions)) is not None:
            return difference_of(read, "as_of.positions", *short)
        return response, ",".join(f"{partition}:{seq}" for partition, seq in enumerate(positions))

    def _reach(self, positions: Sequence[int]) -> tuple[str, str, str] | None:
        """Add the records up to exactly these positions. If the log is shorter, return where, the expected and the
        found value.

        Raises OlderResponse if later records were already read.
        """
        for part, seq in zip(self._parts, positions, strict=True):
            if seq < part.end:
                where = f"the reads of all partitions are as of seq {seq} of partition {part.partition}"
                raise OlderResponse(
                    f"{where}, which was read up to {part.end} (behind, or a user is quarantined there)"
                )
            for _, event in records_after(self._records, part.partition, part.end, seq):
                part.collect(event)
            if part.end < seq:
                place = f"{part.partition}:{seq}"
                return place, f"at most seq {part.end}, where the log ends", place
        return None


def refers_to_nothing(partition: int, seq: int, error: Exception) -> UnknownRecord:
    return UnknownRecord(f"the record {partition}:{seq} refers to something that does not exist: {error!r}")


def difference_of(
    read: str, field: str, place: str, expected: Any, found: Any, user_id: str = "all users"
) -> Difference:
    return Difference(user_id, read, field, place, shown(expected), shown(found))


def _positions(response: Document, partitions: int) -> list[int] | None:
    """The seq of each partition, in order; None if the response does not name them."""
    try:
        positions = [position.split(":") for position in response["as_of"]["positions"]]
        seqs = {int(partition): int(seq) for partition, seq in positions}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    whole = (
        len(positions) == partitions and seqs.keys() == set(range(partitions)) and min(seqs.values(), default=0) >= 0
    )
    return [seqs[partition] for partition in range(partitions)] if whole else None
