"""Concurrent reads of one leaderboard share one read of the tables, and ``as_of`` never goes back."""

import asyncio
from collections.abc import Sequence
from typing import Final

from ledger.core.wallet import DAY_US
from projections.caching.shared_reads import SharedReads
from projections.models.leaderboards import has_begun_statement, leaders_statement
from projections.reads import statements
from projections.reads.queries import Found
from projections.tables.queries import CLOCKS_DIFFER_US, Query, Rows
from projections.tables.wide import LOW_BITS

READERS: Final = 50
DAY: Final = 20_500


class Tables:
    """One partition, in which one user stakes 1 with each event. A fetch shows the moment at which it begins, and
    ends when ``gate`` is open."""

    def __init__(self) -> None:
        self.seq = 1
        self.boards = 0
        self.running = self.running_max = 0
        self.begun_days: set[int] = set()
        self.began, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        seq = self.seq
        if quick:
            return [self._rows(query, seq) for query in queries]
        self.boards += 1
        self.running += 1
        self.began.set()
        self.running_max = max(self.running_max, self.running)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.running -= 1
        return [self._rows(query, seq) for query in queries]

    def _rows(self, query: Query, seq: int) -> Rows:
        if query.builder is statements.checkpoints:
            return [(0, seq)]
        if query.builder is statements.oldest_quarantine:
            return [(None,)]
        if query.builder is has_begun_statement:
            return [(1,)] if query.values["first_day"] in self.begun_days else []
        assert query.builder is leaders_statement
        return [("u1", seq >> LOW_BITS, seq)]

    async def close(self) -> None:
        """Nothing is open."""


class Ends:
    partitions = 1

    def end(self, _partition: int) -> int:
        return 0

    async def end_now(self, _partition: int) -> int:
        return 0

    async def time_us(self, _partition: int, _seq: int) -> int:
        raise AssertionError("everything is folded")


def reads_of(tables: Tables, now_us: int = DAY * DAY_US) -> SharedReads:
    return SharedReads(tables, Ends(), lambda: now_us)


async def staked(reads: SharedReads, limit: int = 50) -> Found:
    return await reads.leaderboard("staked_day", "INR", None, limit)


async def test_fifty_readers_of_one_leaderboard_make_at_most_two_reads_of_the_tables() -> None:
    tables = Tables()
    reads = reads_of(tables)
    tables.gate.clear()
    waiting = [asyncio.create_task(staked(reads, limit=1 + number)) for number in range(READERS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tables.gate.set()
    found = await asyncio.gather(*waiting)
    assert len(found) == READERS
    assert tables.boards <= 2
    assert tables.running_max == 1
    await staked(reads)
    assert tables.boards <= 3, "a finished read is not kept"


async def test_a_read_never_joins_one_that_began_before_it_was_requested() -> None:
    tables = Tables()
    reads = reads_of(tables)
    tables.gate.clear()
    early = asyncio.create_task(staked(reads))
    await tables.began.wait()
    tables.seq = 7
    late = asyncio.create_task(staked(reads))
    await asyncio.sleep(0)
    tables.gate.set()
    assert [(await one).seqs for one in (early, late)] == [{0: 1}, {0: 7}]


async def test_as_of_never_goes_back_from_one_response_to_a_later_request() -> None:
    tables = Tables()
    reads = reads_of(tables)
    newest = 0

    async def read_again_and_again() -> None:
        nonlocal newest
        for _ in range(20):
            least = newest  # of every response so far, to any reader
            seq = (await staked(reads)).seqs[0]
            assert seq >= least
            newest = max(newest, seq)
            tables.seq += 1

    await asyncio.gather(*(read_again_and_again() for _ in range(READERS)))


async def test_the_current_day_is_the_next_one_once_it_has_begun_in_the_rows() -> None:
    """The clock of this process is behind that of a writer; it is right when no row says otherwise."""
    tables = Tables()
    shortly_before = reads_of(tables, (DAY + 1) * DAY_US - CLOCKS_DIFFER_US)
    long_before = reads_of(tables, (DAY + 1) * DAY_US - CLOCKS_DIFFER_US - 1)
    for begun, reads, day in (
        (set[int](), shortly_before, DAY),
        ({DAY + 1}, shortly_before, DAY + 1),
        ({DAY + 1}, long_before, DAY),
    ):
        tables.begun_days = begun
        document = (await staked(reads)).document
        assert getattr(document, "from_us", None) == day * DAY_US
