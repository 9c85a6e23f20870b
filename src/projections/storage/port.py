"""Port of the read model's database: rows and checkpoint in one transaction, and all errors that it can raise.

::

    ReadModelError
    ├── Overtaken           nothing was written: another process folded the partition; read its checkpoint again
    ├── Switched            nothing was written: another generation is live, or the tables were replaced
    ├── OutOfStep           a rebuild may not go live: the generations are not at the same events
    ├── Differs             a rebuild may not go live without `accept`: its rows differ from the live ones
    ├── RebuildUnderWay     another process rebuilds this read model
    ├── ReadModelAhead      the read model has events that the log does not have: the log got shorter or was replaced
    └── ReadModelUnavailable  the database cannot be read or written now

Each adapter passes ``tests/conformance/test_read_model_stores.py``.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from ledger.core.record import EMPTY, Head
from ledger.errors import LedgerError
from projections.tables.queries import Query, Rows
from projections.tables.row_buffer import Digests
from projections.tables.rows import Key, Row

UNDER_WAY: Final = (
    "another rebuild of this read model is running: wait until it ends. If none is, its connection died, and the "
    "database keeps its lock until it notices: end that session in the database"
)
EVERY_USER: Final = "*"
"""The place of a difference after which the rows of every user of the partition may be wrong."""
_SHOWN_MAX: Final = 200


class ReadModelError(LedgerError):
    """The read model failed; the log is not affected."""


class Overtaken(ReadModelError):
    """Another process folded this partition: the compare-and-set of its checkpoint changed no row."""


class Switched(ReadModelError):
    """Another generation became live, or the tables were replaced: begin again from the tables."""


class OutOfStep(ReadModelError):
    """The generation cannot become live, or cannot be dropped, in its present state."""


class Differs(ReadModelError):
    """The rows differ from those of the live generation, and the caller did not accept that."""


class RebuildUnderWay(ReadModelError):
    """Another process makes the next generation of these tables."""


class ReadModelAhead(ReadModelError):
    """The event at ``partition``, ``seq``, up to which the rows are folded, is not on the log: the log got shorter,
    or is another one. This must be reported; folding must not continue."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(f"the read model is ahead of the log at partition {partition}, seq {seq}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason

    def __reduce__(self) -> tuple[type["ReadModelAhead"], tuple[int, int, str]]:
        return type(self), (self.partition, self.seq, self.reason)  # worker processes send it to their parent


class ReadModelUnavailable(ReadModelError):
    """The database failed or did not respond; retry later.

    ``address``: of the database server, if the error comes from one; ``message_for_log`` adds it to the message.
    """

    for_clients = "the read model is unavailable"
    address: str | None = None


def message_for_log(error: BaseException) -> str:
    """The message for operators: with the address of the database, without user and password."""
    address = error.address if isinstance(error, ReadModelUnavailable) else None
    return str(error) if address is None else f"{error} ({address})"


def address_of(url: str) -> str:
    """A database's kind, host, port and name for a log message: no user and no password."""
    parts = urlsplit(url)
    port = parts.port or {"postgresql": 5432, "mysql": 3306}.get(parts.scheme, 0)
    return f"{parts.scheme} at {parts.hostname}:{port}, database {parts.path.strip('/')}"


@contextmanager
def with_address(address: str) -> Iterator[None]:
    """Add the address to each ReadModelUnavailable that passes."""
    try:
        yield
    except ReadModelUnavailable as error:
        error.address = address
        raise


class Generation(Struct, frozen=True):
    """One set of tables. ``status``: building, live or retired; ``version``: of the folds that filled it.

    Numbers begin at 1 again after the tables were deleted; then ``made_at_us`` differs.
    """

    number: int
    version: int
    status: str
    made_at_us: int

    @property
    def identity(self) -> str:
        """Unique among all generations, also after the tables were deleted."""
        return f"{self.number}.{self.made_at_us}"


class Checkpoint(Struct, frozen=True):
    """Up to which event a partition's rows are true, and the digest of the rows of each table."""

    head: Head = EMPTY
    digests: Digests = {}


class Quarantined(Struct, frozen=True):
    """A quarantined user. ``seq`` and ``time_us`` are of the first event that is not in the user's rows."""

    partition: int
    user_id: str
    seq: int
    time_us: int
    reason: str


class QuarantinedEvent(NamedTuple):
    """An event of a quarantined user, kept until it can be folded."""

    user_id: str
    seq: int
    record: bytes


class Run(Struct, frozen=True):
    """The changes of a run of one partition's events, from one checkpoint to the next: all are written, or nothing.

    ``before`` includes the digests: folding a quarantined user's events changes rows and not the head, and two
    processes that do so at once must not overwrite each other.
    """

    partition: int
    before: Checkpoint
    after: Checkpoint
    rows: Sequence[tuple[type[Row], Sequence[Row]]]
    quarantined: Sequence[Quarantined] = ()
    quarantined_events: Sequence[QuarantinedEvent] = ()
    released: Sequence[QuarantinedEvent] = ()
    """Events that were quarantined and are in the rows now."""
    free: Sequence[str] = ()
    """Users who are not quarantined any more."""


class Difference(Struct, frozen=True):
    """A field that is not what the log says.

    ``owner`` is the user; or the account, if the row is of an account; or "", if no user reads it; or ``EVERY_USER``.
    ``key`` is the row's key inside its partition. ``expected`` and ``found`` are values, as JSON. ``field`` is "" for
    a whole row; a missing row is ``null``.
    """

    partition: int
    owner: str
    table: str
    key: str
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        of = " of every user" if self.owner == EVERY_USER else f" of {self.owner}" if self.owner else ""
        field = f", {self.field}" if self.field else ""
        key = f" {self.key}" if self.key else ""
        return (
            f"partition {self.partition}: {self.table}{key}{of}{field}: "
            f"the log says {_short(self.expected)}, the read model {_short(self.found)}"
        )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


class Checked(Struct, frozen=True):
    """When a partition's rows were last compared with the log, up to which event, and how many differences are
    stored."""

    partition: int
    seq: int
    checked_at_us: int
    differences: int


class Users(NamedTuple):
    """The users with ``first`` ≤ user_id < ``last``, in the order of their bytes."""

    first: str = ""
    last: str = "\U0010ffff"

    def __contains__(self, user_id: object) -> bool:
        return isinstance(user_id, str) and self.first <= user_id < self.last


ALL_USERS: Final = Users()


LastRuns = Callable[[Sequence[Checkpoint]], Awaitable[Sequence[Run]]]
"""Checkpoints of the live generation, one for each partition → the runs that the new generation still lacks."""


class ReadModelStore(Protocol):
    """Writes the tables. All methods raise ReadModelUnavailable."""

    async def generations(self) -> list[Generation]:
        """All generations, oldest first. Raises Switched once if the tables were replaced since the last call."""
        ...

    async def make_generation(self, version: int, partitions: int, *, live: bool) -> Generation:
        """New, empty tables, without their indexes unless ``live``; every checkpoint at the empty log."""
        ...

    async def make_indexes(self, generation: int) -> None:
        """Make the indexes that the generation's queries use. Making them again is harmless."""
        ...

    async def drop_generation(self, generation: int) -> None:
        """Delete a generation that is not live, with all its rows, in steps that are short for other processes.

        Raises OutOfStep for the live one. After a crash the next call continues.
        """
        ...

    async def checkpoints(self, generation: int) -> list[Checkpoint]:
        """The checkpoint of every partition, in order."""
        ...

    async def load(
        self, generation: int, partition: int, wanted: Mapping[type[Row], Collection[Key]]
    ) -> dict[type[Row], list[Row]]:
        """The wanted rows that exist."""
        ...

    async def commit(self, generation: int, runs: Sequence[Run], *, building: bool = False) -> None:
        """Write all runs, or nothing. Raises Overtaken, Switched (unless ``building``)."""
        ...

    async def quarantine(self, generation: int) -> list[Quarantined]:
        """Every quarantined user."""
        ...

    async def quarantined_events(
        self, generation: int, partition: int, user_id: str, limit: int
    ) -> list[QuarantinedEvent]:
        """The user's first ``limit`` quarantined events, in order."""
        ...

    async def switch(self, old: int, new: int, *, accept: bool, last: LastRuns | None = None) -> None:
        """Make ``new`` the live generation: equal heads in every partition, equal digests unless ``accept``.

        While no process can fold, ``last`` returns the runs that bring ``new`` to the heads of ``old``; they are
        written in the same transaction. Raises OutOfStep and Differs (naming the first partition), Switched if
        ``old`` is not live, Overtaken; then nothing was written.
        """
        ...

    def scan(
        self, generation: int, partition: int, kinds: Sequence[type[Row]] | None = None, users: Users = ALL_USERS
    ) -> AsyncGenerator[tuple[Checkpoint, type[Row], Sequence[Row]], None]:
        """Every row of these tables (None: of all) in the partition, page by page, with the partition's checkpoint.

        Table by table, in the order of keys, all in one snapshot. Of tables whose rows belong to one user each, only
        the rows of ``users``. There is at least one page, which may be empty. Raises Switched if the generation is
        gone.
        """
        ...

    async def report(
        self, generation: int, partition: int, seq: int, now_us: int, found: Sequence[Difference]
    ) -> None:
        """Store the result of a partition's check; it replaces the previous result. Raises Switched if the generation
        is gone."""
        ...

    async def checked(self, generation: int) -> list[Checked]:
        """The partitions that were checked, in order."""
        ...

    async def differences(self, generation: int, limit: int) -> list[Difference]:
        """The first stored differences, by partition and place."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


class Pool(NamedTuple):
    """The connections of this process: how many are open, how many of these are in use, and how many may be open."""

    size: int
    used: int
    size_max: int


class Pooled(Protocol):
    """The figures that an operator watches if the read model is in a database server."""

    @property
    def pool(self) -> Pool: ...

    async def retries(self) -> Mapping[str, int]:
        """How often the database rolled back a transaction of any process (deadlock or serialization failure), by its
        code, since the tables were made. Should stay at 0. Raises ReadModelUnavailable."""
        ...


class ReadModel(Protocol):
    """Reads the live generation."""

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        """The rows of each query, all of one moment and of the generation that was live at that moment.

        ``quick``: few rows by primary key, which the adapter may read in the caller's thread. Raises
        ReadModelUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...
