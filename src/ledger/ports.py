"""Ports: what the ledger needs of the world outside. They speak in events and values, never in rows or sessions.

Every error that a port raises is in ``ledger.errors``. Each adapter passes the port's one conformance suite
(``tests/conformance``).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from msgspec import Struct

from ledger.core.games.tables import PayTable
from ledger.core.money_rules import Money
from ledger.core.record import Head
from ledger.core.state_values import Value


class NewRecord(Struct, frozen=True, gc=False):
    """A record to append, and the names of its command. Kafka's key is the ``user_id``."""

    seq: int
    user_id: str
    command_id: str
    record: bytes


class StoredRecord(NamedTuple):
    """A record, and the seq it is stored under; None where the source has only the record.

    A plain tuple of the same two members can be used instead.
    """

    record: bytes
    seq: int | None = None


class EventLog(Protocol):
    """Append-only log of every partition. An append lands whole or not at all, and only on the head that it names.

    Durable means: when ``append`` returns, the records survive the crash that the adapter's docstring names.
    """

    @property
    def partitions(self) -> int:
        """The number of partitions, fixed when the log was created."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may append, too. Then a writer decides nothing before its ``writer_opened`` has
        landed, and opens again after each ``StaleHead`` and ``OutcomeUnknown``."""
        ...

    @property
    def append_bytes(self) -> int:
        """How many bytes of records one append should have: a writer ends its round there."""
        ...

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        """Append ``records`` after the event ``after``, as one whole, durably.

        A log does not check whether it already contains a command: the writer's state knows all commands,
        and `audit verify` proves that none is there twice.

        Raises StaleHead or LogUnavailable: nothing was written; OutcomeUnknown: it may have been written.
        """
        ...

    async def confirm(self, partition: int, head: Head) -> None:
        """Return only if ``head`` was the partition's head at a moment after this call began.

        A response that writes nothing leaves only after this. Raises StaleHead, LogUnavailable.
        """
        ...

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """At most ``limit`` records from ``from_seq`` on, in order; [] after the end.

        Raises LogUnavailable, LogDamaged."""
        ...

    async def head(self, partition: int) -> Head:
        """The partition's head. Raises LogUnavailable, LogDamaged."""
        ...

    def place(self, partition: int, head: Head) -> bytes | None:
        """What another process needs to begin reading after ``head``, a head that this one has read or written.

        Opaque, some hundred bytes; None if the log is read by seq and needs nothing.
        """
        ...

    async def begin_at(self, partition: int, head: Head, place: bytes | None) -> None:
        """Begin to read the partition after ``head``, by a result of ``place``, instead of at its start.

        Records that were read already stay known. If ``place`` cannot be decoded, the log warns and reads from its
        start. A log that is read by seq does nothing: its caller checks the head. Raises CheckpointAhead,
        ForeignCheckpoint, LogUnavailable, LogUnreadable.
        """
        ...

    async def tables(self) -> Mapping[str, PayTable]:
        """The pay tables that are kept with the log, by their digests: of every game that a node has declared.

        Raises LogUnavailable, LogUnreadable."""
        ...

    async def money_rules(self) -> Mapping[str, Money]:
        """The rules of money flows that are kept with the log, by their digests: all that a node has declared.

        Raises LogUnavailable, LogUnreadable."""
        ...

    async def games(self) -> Set[str]:
        """The names of the games that are kept with the log: of every game that a node has declared.

        Raises LogUnavailable, LogUnreadable."""
        ...

    async def keep_games(self, names: Set[str]) -> None:
        """Keep these names too. Raises LogMisconfigured, LogUnavailable, LogUnreadable."""
        ...

    async def close(self) -> None:
        """Finish the appends under way and release everything. Closing again is harmless."""
        ...


Page = bytes
"""Some of a state's keys and values, in the order of keys: one line for the key, one for the value as the store
encodes it, both UTF-8 without control characters. Newlines separate the lines: N values have 2 N - 1 newlines."""


class StateCopy(Protocol):
    """A partition's whole state at one checkpoint, unchanged while the store changes.

    One thread uses it at a time; any thread may close it.
    """

    @property
    def at(self) -> Head:
        """The checkpoint."""
        ...

    @property
    def place(self) -> bytes | None:
        """The log's place there."""
        ...

    def page(self, after: str, values_max: int, bytes_max: int) -> tuple[Page, int, str] | None:
        """The values with keys > ``after``: at most ``values_max`` and about ``bytes_max``, but at least one. With
        them, how many they are and the last key. None if there are no more. Raises LedgerError."""
        ...

    def close(self) -> None:
        """Release it. Closing again is harmless."""
        ...


class StateStore(Protocol):
    """A partition's state on disk: a cache of the log at one checkpoint, safe to throw away.

    Values are absolute, so writing the same changes twice is harmless. Synchronous: it is local, and a look-up costs
    less than a task switch. ``save``, ``merge``, ``copy`` and ``replace`` are called in other threads.
    """

    @property
    def values_format(self) -> int:
        """Grows with every change of the values' shapes: pages of another format cannot be read."""
        ...

    def checkpoint(self, partition: int) -> Head | None:
        """The head of the log at which the partition's state is true; None if there is no state."""
        ...

    def place(self, partition: int) -> bytes | None:
        """The log's place at the checkpoint, as saved."""
        ...

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        """The values of the keys that exist. Raises LedgerError if the disk fails."""
        ...

    def get_in_thread(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        """As ``get``, but callable from any thread; it does not block ``get``."""
        ...

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        """At most ``limit`` values with ``first`` ≤ key < ``last``, in the order of their keys' code points. Any
        thread may call it."""
        ...

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        """At most ``limit`` keys > ``after``, in order. Called in the thread that saves."""
        ...

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        """Write ``changes`` (None deletes) and the checkpoint with its place in the log, as one whole.

        Raises LedgerError: nothing has changed.
        """
        ...

    def merge(self, partition: int) -> bool:
        """Take one bounded step to make the partition's state quicker to read. Returns whether there may be another
        step. Steps may be left out, and other calls may come between them. Called in the thread that saves. An error
        is logged only."""
        ...

    def copy(self, partition: int) -> StateCopy | None:
        """The partition's state at this moment; None if there is none. Raises LedgerError."""
        ...

    def replace(self, partition: int, pages: Iterable[Page], at: Head, place: bytes | None) -> None:
        """Replace the partition's state by ``pages``, which come from a ``StateCopy``.

        Other partitions may be saved at the same time; no task reads this one. If it ends in the middle, by a crash
        or an error of ``pages``, which is raised again, the partition has no state, never a part of one. Raises
        LedgerError.
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
"""Returns Unix microseconds, UTC. It may jump; the writer never lets an event's time go back."""
