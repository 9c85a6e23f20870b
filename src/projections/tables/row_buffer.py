"""The rows of one partition that a run of events reads and changes: a buffer in memory for the tables.

Invariants:
(1) a fold reads only rows that were loaded before (``want``, then ``fill``) or that an earlier event of the same
    partition made; reading any other row is a KeyError, never a silent "no such row";
(2) after ``changes`` and ``settle`` the buffer equals the tables. So it serves the next run without loading rows
    again, as long as every run was stored. After a run that was not stored, call ``forget``;
(3) while a buffer is *complete* it has seen every row of its partition; a row that it lacks does not exist.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar, cast

from ledger.core.games.rules import BUILT_IN
from ledger.core.games.tables import PayTable
from projections.tables.rows import Key, Row, add_digests, digest_function, key_of

ROWS_MAX: Final = 300_000
"""Rows of a partition kept in memory per table; beyond it the oldest half is dropped. Chosen: some 150 MB while
rebuilding."""

RowT = TypeVar("RowT", bound=Row)
Digests = dict[str, int]
"""Table → the digest of the partition's rows in it."""


class TableBuffer(Generic[RowT]):
    """The rows of one table."""

    __slots__ = ("_buffer", "_digest_of", "_digests", "_rows", "before", "kind", "wanted")

    def __init__(self, kind: type[RowT], buffer: "RowBuffer") -> None:
        self.kind = kind
        self.wanted: set[Key] = set()
        self._buffer = buffer
        self._rows: dict[Key, RowT | None] = {}
        self.before: dict[Key, int] = {}
        """Row that this run changed → its digest before the run, 0 if it is new."""
        self._digests: dict[Key, int] = {}  # row that an earlier run changed → its digest
        self._digest_of = digest_function(kind.table)

    def want(self, key: Key) -> None:
        """Request that the row is loaded before the fold."""
        if key not in self._rows and not self._buffer.complete:
            self.wanted.add(key)

    def fill(self, rows: Iterable[RowT]) -> None:
        """Add ``rows``, all wanted rows that the tables have; the other wanted rows do not exist."""
        self._rows.update(dict.fromkeys(self.wanted))
        self._rows.update((key_of(row), row) for row in rows)
        self.wanted.clear()

    def get(self, key: Key) -> RowT | None:
        """The row, for reading only; None if it does not exist."""
        if self._buffer.complete:
            return self._rows.get(key)
        return self._rows[key]

    def peek(self, key: Key) -> RowT | None:
        """The row if it is in memory: for finding out which other rows a fold needs."""
        return self._rows.get(key)

    def edit(self, key: Key) -> RowT:
        """The row, for changing it in place. Raises KeyError if it does not exist."""
        row = self._rows[key]
        if row is None:
            raise KeyError(key)
        if key not in self.before:
            known = self._digests.get(key)
            self.before[key] = self._digest_of(row) if known is None else known
        return row

    def edit_or_add(self, key: Key, *rest: Any) -> RowT:
        """The row, for changing it in place. If it does not exist, adds a new row from ``key`` and ``rest``."""
        if key in self.before:
            return cast("RowT", self._rows[key])
        if self.get(key) is None:
            return self.add(key, self.kind(*key, *rest))
        return self.edit(key)

    def add(self, key: Key, row: RowT) -> RowT:
        """Add a row that did not exist."""
        self._rows[key] = row
        self.before.setdefault(key, 0)
        return row

    @property
    def changed(self) -> list[RowT]:
        """The rows that this run made or changed, in the order of their keys, so that databases lock in one order."""
        rows = self._rows
        return [cast("RowT", rows[key]) for key in sorted(self.before)]

    def digest_change(self) -> int:
        """How much this run changed the sum of the rows' digests. Call it when the run is folded."""
        rows, digest_of = self._rows, self._digest_of
        after = {key: digest_of(cast("RowT", rows[key])) for key in self.before}
        change = sum(after.values()) - sum(self.before.values())
        self._digests.update(after)
        return change

    def settle(self, rows_max: int) -> bool:
        """Note that the run is stored. Returns whether rows were dropped from memory."""
        if not self.kind.read_by_folds:
            if self.before:
                self.forget()
            return False
        self.before.clear()
        if len(self._rows) <= rows_max:
            return False
        for key in list(islice(self._rows, len(self._rows) // 2)):
            del self._rows[key]
            self._digests.pop(key, None)
        return True

    def forget(self) -> None:
        self._rows.clear()
        self.before.clear()
        self._digests.clear()
        self.wanted.clear()


class RowBuffer:
    """One partition's tables: ``buffer[BetRow]`` is the ``TableBuffer`` of bets."""

    def __init__(
        self,
        row_types: Sequence[type[Row]],
        digests: Mapping[str, int],
        *,
        complete: bool = False,
        rows_max: int = ROWS_MAX,
        pay_tables: Mapping[str, PayTable] = BUILT_IN.tables,
    ) -> None:
        """``digests``: of the rows in the tables now; ``complete``: the tables are empty; ``pay_tables``: digest →
        pay table, for the bets of the folded events."""
        self.complete = complete
        self.pay_tables = pay_tables
        self._rows_max = rows_max
        self._digests = dict(digests)
        self._tables: dict[type[Row], TableBuffer[Any]] = {kind: TableBuffer(kind, self) for kind in row_types}
        self.tables: tuple[TableBuffer[Any], ...] = tuple(self._tables.values())

    def __getitem__(self, kind: type[RowT]) -> TableBuffer[RowT]:
        return self._tables[kind]

    def wanted(self) -> dict[type[Row], set[Key]]:
        """The rows that are wanted and not in memory."""
        return {table.kind: table.wanted for table in self.tables if table.wanted}

    def fill(self, rows: Mapping[type[Row], Iterable[Row]]) -> None:
        """Add the wanted rows of every table."""
        for table in self.tables:
            if table.wanted:
                table.fill(rows.get(table.kind, ()))

    def changes(self) -> Iterator[tuple[type[Row], list[Row]]]:
        """The rows that the run made or changed, table by table."""
        return ((table.kind, table.changed) for table in self.tables if table.before)

    def digests(self) -> Digests:
        """The digests that the tables have after the run is stored; a table without rows has none."""
        digests = dict(self._digests)
        for table in self.tables:
            if table.before:
                name = table.kind.table
                digests[name] = add_digests(digests.get(name, 0), table.digest_change())
        return digests

    def settle(self, digests: Digests) -> None:
        """Note that the run is stored, with these digests."""
        self._digests = digests
        for table in self.tables:
            if table.settle(self._rows_max):
                self.complete = False

    def forget(self) -> None:
        """Note that the run was not stored: the next run begins from the tables."""
        self.complete = False
        for table in self.tables:
            table.forget()
