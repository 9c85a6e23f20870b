"""What the reads need of a database: several statements at one moment, and which generation they were of.

A read is a list of ``Ask``; its rows become a document by pure functions (``queries``). So a database needs one thing
only, and whether it answers in the caller's thread, in another, or over a connection is the adapter's matter.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Select

from projections.models.tables import Tables

T = TypeVar("T")
Rows = list[Any]
Builder = Callable[[Tables, frozenset[str]], Select[Any]]
"""Makes a statement for one generation's tables; the set names which optional conditions it has."""

NO_CONDITIONS: frozenset[str] = frozenset()


class Ask(NamedTuple):
    """One statement and its values. ``builder`` and ``conditions`` together name it: it is compiled once."""

    builder: Builder
    values: Mapping[str, Any]
    conditions: frozenset[str] = NO_CONDITIONS


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
        """How often the database ended a transaction of anybody's for another one's sake, by its code, since the
        tables were made; should stay at 0. Raises ReadModelUnavailable."""
        ...


def at_once(read: Coroutine[Any, Any, T]) -> T:
    """What a read answers that looks everything up in the caller's thread, and so never waits."""
    try:
        read.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    raise AssertionError("a read that looks everything up at once had to wait")


class ReadModel(Protocol):
    """The live generation, read."""

    async def fetch(self, asks: Sequence[Ask], *, quick: bool = False) -> list[Rows]:
        """The rows of each, all of one moment and of the generation that was live then.

        ``quick``: few rows by primary key, which the adapter may look up at once. Raises ReadModelUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...
