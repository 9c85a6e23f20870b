"""What projecting and reading need of a database: rows and checkpoint in one transaction, and every way it can fail.

::

    ReadModelError
    ├── Overtaken           nothing was written: another process folded the partition; read its checkpoint again
    ├── Switched            nothing was written: another generation is live, or the tables were exchanged
    ├── OutOfStep           a rebuild may not go live: the generations are not at the same place
    ├── Differs             a rebuild may not go live without `accept`: its rows differ from the live ones
    ├── RebuildUnderWay     another process rebuilds this read model
    ├── ReadModelAhead      the read model knows what the log does not hold: the log got shorter or was exchanged
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

UNDER_WAY: Final = "another rebuild of this read model is under way: wait for its end"
_SHOWN_MAX: Final = 200


class ReadModelError(LedgerError):
    """The read model failed; the log is not affected."""


class Overtaken(ReadModelError):
    """Another process folded this partition: the compare-and-set of its checkpoint changed no row."""


class Switched(ReadModelError):
    """Another generation became live, or the tables were replaced: begin again from the tables."""


class OutOfStep(ReadModelError):
    """The generation cannot become the live one, or be dropped, as it is."""


class Differs(ReadModelError):
    """The rows differ from those of the live generation, and the caller did not accept that."""


class RebuildUnderWay(ReadModelError):
    """Another process makes the next generation of these tables."""


class ReadModelAhead(ReadModelError):
    """The log does not hold the event at ``partition``, ``seq`` that the rows are true at: it got shorter, or is
    another one. A disaster to report, not to continue."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(f"the read model is ahead of the log at partition {partition}, seq {seq}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason

    def __reduce__(self) -> tuple[type["ReadModelAhead"], tuple[int, int, str]]:
        return type(self), (self.partition, self.seq, self.reason)  # it also comes from other processes


class ReadModelUnavailable(ReadModelError):
    """The database failed or did not respond; retry later.

    ``address``: of the database server, if the error comes from one. It is no part of the message, because clients
    get the message; ``message_for_log`` adds it.
    """

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


class Held(NamedTuple):
    """An event of a quarantined user, kept until it can be taken."""

    user_id: str
    seq: int
    record: bytes


class Run(Struct, frozen=True):
    """What a run of one partition's events changes: from one checkpoint to the next, all of it or nothing.

    ``before`` includes the digests: folding a quarantined user's events changes rows and not the head, and two
    processes that do so at once must not overwrite each other.
    """

    partition: int
    before: Checkpoint
    after: Checkpoint
    rows: Sequence[tuple[type[Row], Sequence[Row]]]
    quarantined: Sequence[Quarantined] = ()
    held: Sequence[Held] = ()
    released: Sequence[Held] = ()
    """Events that were held and are in the rows now."""
    free: Sequence[str] = ()
    """Users who are not quarantined any more."""


class Difference(Struct, frozen=True):
    """A field that is not what the log says.

    ``place`` is the user, or the account where no user is meant, "" where it is the partition's own. ``key`` is the
    row's key inside its partition, ``expected`` and ``found`` are values, as JSON. ``field`` is "" for a whole row,
    which is ``null`` where there is none.
    """

    partition: int
    place: str
    table: str
    key: str
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        of = f" of {self.place}" if self.place else ""
        field = f", {self.field}" if self.field else ""
        key = f" {self.key}" if self.key else ""
        return (
            f"partition {self.partition}: {self.table}{key}{of}{field}: "
            f"the log says {_short(self.expected)}, the read model {_short(self.found)}"
        )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


class Proved(Struct, frozen=True):
    """When a partition's rows were last held against the log, up to which event; how many differences are kept."""

    partition: int
    seq: int
    checked_at_us: int
    differences: int


class Users(NamedTuple):
    """The users from ``first`` on, below ``last``, in the order of their bytes."""

    first: str = ""
    last: str = "\U0010ffff"

    def __contains__(self, user_id: object) -> bool:
        return isinstance(user_id, str) and self.first <= user_id < self.last


EVERYBODY: Final = Users()


LastRuns = Callable[[Sequence[Checkpoint]], Awaitable[Sequence[Run]]]
"""From where the live generation is, partition by partition, to the runs that another one lacks."""


class ReadModelStore(Protocol):
    """The tables, written. All methods raise ReadModelUnavailable where the database does."""

    async def generations(self) -> list[Generation]:
        """All generations, oldest first. Raises Switched once if the tables were replaced since the last call."""
        ...

    async def make_generation(self, version: int, partitions: int, *, live: bool) -> Generation:
        """New, empty tables, without their indexes unless ``live``; every checkpoint at the empty log."""
        ...

    async def make_indexes(self, generation: int) -> None:
        """What the generation's queries go by. Making them again is harmless."""
        ...

    async def drop_generation(self, generation: int) -> None:
        """Delete a generation that is not live, with all its rows, in steps that are short for other processes.

        Raises OutOfStep for the live one. After a crash the next call continues.
        """
        ...

    async def checkpoints(self, generation: int) -> list[Checkpoint]:
        """Of every partition, in order."""
        ...

    async def load(
        self, generation: int, partition: int, wanted: Mapping[type[Row], Collection[Key]]
    ) -> dict[type[Row], list[Row]]:
        """Those of the wanted rows that there are."""
        ...

    async def commit(self, generation: int, runs: Sequence[Run], *, building: bool = False) -> None:
        """Write all runs, or nothing. Raises Overtaken, Switched (unless ``building``)."""
        ...

    async def quarantine(self, generation: int) -> list[Quarantined]:
        """Every quarantined user."""
        ...

    async def held(self, generation: int, partition: int, user_id: str, limit: int) -> list[Held]:
        """The first of the user's events that wait, in order."""
        ...

    async def switch(self, old: int, new: int, *, accept: bool, last: LastRuns | None = None) -> None:
        """Make ``new`` the live generation: equal heads in every partition, equal digests unless ``accept``.

        While no process can fold, ``last`` returns the runs that bring ``new`` to the heads of ``old``; they are
        written in the same transaction. Raises OutOfStep and Differs (naming the first partition), Switched if
        ``old`` is not live, Overtaken; nothing was written then.
        """
        ...

    def scan(
        self, generation: int, partition: int, kinds: Sequence[type[Row]] | None = None, users: Users = EVERYBODY
    ) -> AsyncGenerator[tuple[Checkpoint, type[Row], Sequence[Row]], None]:
        """Every row of these tables (None: of all) in the partition, page by page, with the partition's checkpoint.

        Table by table, in the order of keys, all in one snapshot. Of tables whose rows belong to one user each, only
        the rows of ``users``. There is at least one page, which may be empty. Raises Switched where the generation is
        gone.
        """
        ...

    async def report(
        self, generation: int, partition: int, seq: int, now_us: int, found: Sequence[Difference]
    ) -> None:
        """Keep what the check of a partition found, in place of what it found before. Raises Switched where the
        generation is gone."""
        ...

    async def proved(self, generation: int) -> list[Proved]:
        """The partitions that were checked, in order."""
        ...

    async def differences(self, generation: int, limit: int) -> list[Difference]:
        """The first differences that are kept, by partition and place."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


class Pool(NamedTuple):
    """The connections of this process: how many there are, how many of them are in use, and may be at the most."""

    size: int
    used: int
    size_max: int


class Pooled(Protocol):
    """What an operator watches of a read model in a database server."""

    @property
    def pool(self) -> Pool: ...

    async def retries(self) -> Mapping[str, int]:
        """How often the database rolled back a transaction of any process (deadlock or serialization failure), by its
        code, since the tables were made. Should stay at 0. Raises ReadModelUnavailable."""
        ...


class ReadModel(Protocol):
    """The live generation, read."""

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        """The rows of each, all of one moment and of the generation that was live then.

        ``quick``: few rows by primary key, which the adapter may look up at once. Raises ReadModelUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...
