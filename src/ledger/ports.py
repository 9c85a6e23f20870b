"""Ports: what the ledger needs of the world outside. They speak in events and values, never in rows or sessions.

Every error that a port raises is in ``ledger.errors``. Each adapter passes the port's one conformance suite
(``tests/conformance``).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ledger.core.record import Head
from ledger.core.state_values import Value


class NewRecord(NamedTuple):
    """A record to append, with the two names by which its log refuses a duplicate."""

    seq: int
    user_id: str
    command_id: str
    record: bytes


class StoredRecord(NamedTuple):
    """A record, and the names it is stored under; None where the source has only the record.

    A plain tuple of the same four members can be used instead.
    """

    record: bytes
    seq: int | None = None
    user_id: str | None = None
    command_id: str | None = None


class EventLog(Protocol):
    """Append-only log of every partition. An append lands whole or not at all, and only on the head it names.

    Durable means: when ``append`` returns, the records survive the crash that the adapter's docstring names.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the log was created with."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may append too. Then a writer decides nothing before its ``writer_opened`` has
        landed, and opens again after each ``StaleHead`` and ``OutcomeUnknown``."""
        ...

    @property
    def append_bytes(self) -> int:
        """How many bytes of records one append should hold: a writer ends its round there."""
        ...

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        """Append ``records`` after the event ``after``, as one whole, durably.

        Raises StaleHead, DuplicateCommand, LogUnavailable (nothing of it was written in all three), OutcomeUnknown.
        """
        ...

    async def confirm(self, partition: int, head: Head) -> None:
        """Return only if ``head`` was the partition's head at a moment after this call began.

        An answer that writes nothing leaves only after this. Raises StaleHead, LogUnavailable.
        """
        ...

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """At most ``limit`` records from ``from_seq`` on, in order; [] past the end. Raises LogUnavailable."""
        ...

    async def head(self, partition: int) -> Head:
        """Where the partition ends. Raises LogUnavailable, LogDamaged."""
        ...

    def place(self, partition: int, head: Head) -> bytes | None:
        """What another process needs to begin reading behind ``head``, a head that was read or written here.

        Opaque, of some hundred bytes; None where a log is read by its seqs and needs nothing.
        """
        ...

    async def begin_at(self, partition: int, head: Head, place: bytes | None) -> None:
        """Read the partition from behind ``head``, by what ``place`` answered once, instead of from its start.

        What was read further already stays known. A place that cannot be read is None with a warning: the log is
        then read from its start. A log that is read by its seqs has nothing to do, and leaves it to its caller to
        read the head there. Raises CheckpointAhead, ForeignCheckpoint, LogUnavailable, LogUnreadable.
        """
        ...

    async def close(self) -> None:
        """Release everything. Appends under way are finished first. Closing again is harmless."""
        ...


Page = bytes
"""Some of a state's items, in the order of keys: a line the key, a line the value as the store encodes it, both
UTF-8 without control characters. Lines are parted, not ended, by a newline: N items have 2 N - 1 of them."""


class StateCopy(Protocol):
    """A partition's whole state at one checkpoint, whatever becomes of the store meanwhile.

    Used by one thread at a time, and closed by any.
    """

    @property
    def at(self) -> Head:
        """The checkpoint."""
        ...

    @property
    def place(self) -> bytes | None:
        """The log's place there."""
        ...

    def page(self, after: str, entries_max: int, bytes_max: int) -> tuple[Page, int, str] | None:
        """The items with keys > ``after``: at most so many, at most about so many bytes, but at least one; how many
        they are, and the last one's key. None if there are no more. Raises LedgerError."""
        ...

    def close(self) -> None:
        """Let the store go on without it. Closing again is harmless."""
        ...


class StateStore(Protocol):
    """A partition's state on disk: a cache of the log at one checkpoint, safe to throw away.

    Values are absolute, so writing the same changes twice is harmless. Synchronous: it is local, and a look-up costs
    less than a task switch; ``save``, ``copy`` and ``replace`` are called in threads of their own.
    """

    @property
    def values_format(self) -> int:
        """Changes with every change of the values' shapes: pages of another format cannot be read here."""
        ...

    def checkpoint(self, partition: int) -> Head | None:
        """Where in the log the partition's state is true; None if there is none."""
        ...

    def place(self, partition: int) -> bytes | None:
        """The log's place at the checkpoint, as it was saved."""
        ...

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        """The values of those keys that there are. Raises LedgerError if the disk does."""
        ...

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        """At most ``limit`` items with ``first`` ≤ key < ``last``, in the order of their keys' code points."""
        ...

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        """At most ``limit`` keys > ``after``, in order. Called in the thread that saves."""
        ...

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        """Write ``changes`` (None deletes) and the checkpoint with the log's place there, as one whole.

        Raises LedgerError: nothing changed.
        """
        ...

    def copy(self, partition: int) -> StateCopy | None:
        """The partition's state as it is now; None if there is none. Raises LedgerError."""
        ...

    def replace(self, partition: int, pages: Iterable[Page], at: Head, place: bytes | None) -> None:
        """Throw the partition's state away and put all of ``pages``, which a copy gave, in its place.

        Others may be saved meanwhile; nobody reads this partition. Whatever ends it in the middle, a crash or what
        ``pages`` raises, which is raised on: then there is no state at all, never a part. Raises LedgerError.
        """
        ...

    def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


class SnapshotRecord(NamedTuple):
    """A record in a snapshot store; ``value`` is empty where the key was deleted."""

    offset: int
    key: str
    value: bytes


class SnapshotStore(Protocol):
    """Records under keys, by partition, which all nodes can read. The last record of a key counts."""

    async def append(self, partition: int, records: Sequence[tuple[str, bytes]]) -> None:
        """Append the (key, value) pairs, durably and in order; an empty value deletes its key. Raises LogUnavailable:
        the records may be in the store nevertheless."""
        ...

    def read(self, partition: int, from_offset: int) -> AsyncIterator[Sequence[SnapshotRecord]]:
        """The records from ``from_offset`` on, in order, up to the end at the time of the call. Records that are not
        the last of their key may be left out. Raises LogUnavailable; LogUnreadable where the store was created
        again."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


Clock = Callable[[], int]
"""Unix microseconds, UTC. It may jump; the writer never lets an event's time go back."""
