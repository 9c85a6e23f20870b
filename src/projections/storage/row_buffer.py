"""The rows of one partition that a run of events reads and changes, in memory, over the store's tables.

Truths:
(1) what a fold reads was loaded before (``want``, then ``fill``), or made by an earlier event of the same partition;
    reading anything else is a KeyError, never a silent "not there";
(2) after ``changes`` and ``settle`` the book is what the tables hold, so it serves the next run without being read
    again, as long as every run was stored; after one that was not, ``forget``;
(3) while a book is *complete* it has seen every row of its partition, and what it does not have is not there.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, TypeVar, cast

from projections.models.rows import (
    DIGEST_OF,
    ROW_TYPES,
    AccountRow,
    AssetRow,
    BetRow,
    DepositRow,
    HistoryRow,
    HoldRow,
    Key,
    LeaderboardRow,
    OrderRow,
    ReferralRow,
    Row,
    StatisticsRow,
    TransferRow,
    WalletRow,
    add_digests,
    key_of,
)

ROWS_MAX: Final = 400_000
"""Rows kept in memory a partition before the oldest half is let go. Chosen: some 150 MB while rebuilding."""

RowT = TypeVar("RowT", bound=Row)
Digests = dict[str, int]
"""Table → the digest of the partition's rows in it."""


class TableBuffer(Generic[RowT]):
    """The rows of one table."""

    __slots__ = ("_before", "_book", "_digest_of", "_rows", "kind", "wanted")

    def __init__(self, kind: type[RowT], book: "RowBuffer") -> None:
        self.kind = kind
        self.wanted: set[Key] = set()
        self._book = book
        self._rows: dict[Key, RowT | None] = {}
        self._before: dict[Key, int] = {}  # what this run changed → the digest of the row before, 0 without one
        self._digest_of = DIGEST_OF[kind.table]

    def want(self, key: Key) -> None:
        """Ask for a row, to be loaded before the fold."""
        if key not in self._rows and not self._book.complete:
            self.wanted.add(key)

    def fill(self, rows: Iterable[RowT]) -> None:
        """What the tables have of the wanted rows; the others are not there."""
        self._rows.update(dict.fromkeys(self.wanted))
        self._rows.update((key_of(row), row) for row in rows)
        self.wanted.clear()

    def get(self, key: Key) -> RowT | None:
        """The row, not to be changed."""
        if self._book.complete:
            return self._rows.get(key)
        return self._rows[key]

    def peek(self, key: Key) -> RowT | None:
        """The row if it is here already: to find out what else to ask for."""
        return self._rows.get(key)

    def edit(self, key: Key) -> RowT:
        """The row, to be changed in place; KeyError where there is none."""
        row = self._rows[key]
        if row is None:
            raise KeyError(key)
        if key not in self._before:
            self._before[key] = self._digest_of(row)
        return row

    def edit_or_add(self, key: Key, *rest: Any) -> RowT:
        """The row, to be changed in place; made of ``key`` and ``rest`` where there is none."""
        if self.get(key) is None:
            return self.add(key, self.kind(*key, *rest))
        return self.edit(key)

    def add(self, key: Key, row: RowT) -> RowT:
        """A row that was not there."""
        self._rows[key] = row
        self._before.setdefault(key, 0)
        return row

    @property
    def changed(self) -> list[RowT]:
        """The rows that this run made or changed, in the order of their keys, so that databases lock in one order."""
        return [cast("RowT", self._rows[key]) for key in sorted(self._before)]

    def digest_changes(self) -> Iterator[tuple[Key, int]]:
        """By how much this run changed the digest of each row that it made or changed."""
        rows, digest_of = self._rows, self._digest_of
        return ((key, digest_of(cast("RowT", rows[key])) - before) for key, before in self._before.items())

    def settle(self, rows_max: int) -> bool:
        """The run is stored. Answers whether rows had to be let go."""
        self._before.clear()
        if len(self._rows) <= rows_max:
            return False
        for key in list(islice(self._rows, len(self._rows) // 2)):
            del self._rows[key]
        return True

    def forget(self) -> None:
        self._rows.clear()
        self._before.clear()
        self.wanted.clear()


class RowBuffer:
    """One partition's shelves."""

    def __init__(self, digests: Mapping[str, int], *, complete: bool = False, rows_max: int = ROWS_MAX) -> None:
        """``digests``: of what the tables hold now; ``complete``: they hold nothing."""
        self.complete = complete
        self._rows_max = rows_max
        self._digests = dict(digests)
        self.placed: dict[Key, str] = {}
        """Bets that this run places: (user_id, bet_id) → asset, for those whose rows are not made yet."""
        self.wallets = TableBuffer(WalletRow, self)
        self.assets = TableBuffer(AssetRow, self)
        self.history = TableBuffer(HistoryRow, self)
        self.orders = TableBuffer(OrderRow, self)
        self.deposits = TableBuffer(DepositRow, self)
        self.bets = TableBuffer(BetRow, self)
        self.holds = TableBuffer(HoldRow, self)
        self.transfers = TableBuffer(TransferRow, self)
        self.statistics = TableBuffer(StatisticsRow, self)
        self.standings = TableBuffer(LeaderboardRow, self)
        self.referrals = TableBuffer(ReferralRow, self)
        self.accounts = TableBuffer(AccountRow, self)
        self.shelves: tuple[TableBuffer[Any], ...] = (
            self.wallets,
            self.assets,
            self.history,
            self.orders,
            self.deposits,
            self.bets,
            self.holds,
            self.transfers,
            self.statistics,
            self.standings,
            self.referrals,
            self.accounts,
        )
        assert tuple(shelf.kind for shelf in self.shelves) == ROW_TYPES

    def wanted(self) -> dict[type[Row], set[Key]]:
        """What has been asked for and is not here."""
        return {shelf.kind: shelf.wanted for shelf in self.shelves if shelf.wanted}

    def fill(self, rows: Mapping[type[Row], Iterable[Row]]) -> None:
        """Answer everything that is ``wanted``."""
        for shelf in self.shelves:
            if shelf.wanted:
                shelf.fill(rows.get(shelf.kind, ()))

    def changes(self) -> Iterator[tuple[type[Row], list[Row]]]:
        """Table by table, what the run made or changed."""
        for shelf in self.shelves:
            if changed := shelf.changed:
                yield shelf.kind, changed

    def digests(self) -> Digests:
        """Of the tables as they are once the run is stored."""
        return {
            shelf.kind.table: add_digests(
                self._digests.get(shelf.kind.table, 0), sum(change for _, change in shelf.digest_changes())
            )
            for shelf in self.shelves
        }

    def settle(self, digests: Digests) -> None:
        """The run is stored, with these digests."""
        self._digests = digests
        self.placed.clear()
        self.history.forget()  # nobody reads a line of history again
        for shelf in self.shelves:
            if shelf.settle(self._rows_max):
                self.complete = False

    def forget(self) -> None:
        """The run was not stored: begin again from the tables."""
        self.complete = False
        self.placed.clear()
        for shelf in self.shelves:
            shelf.forget()
