"""Readers of the same leaderboard share it: how old it may be, when it is read again, and who waits for that."""

import asyncio
import logging

import pytest

from projections.caching.port import Board
from projections.caching.recent_boards import AGE_S, BoardAt, RecentBoards

BOARD = Board("net_day", "INR", 20_000, 20_001)
OTHER = Board("won_day", "INR", 20_000, 20_001)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Tables:
    """The n-th read is true at seq n; reads wait while ``open`` is not set."""

    def __init__(self, clock: Clock, takes_s: float = 0.0) -> None:
        self.clock, self.takes_s = clock, takes_s
        self.reads = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> BoardAt:
        self.reads += 1
        seq = self.reads
        await self.open.wait()
        self.clock.now_s += self.takes_s
        if self.error is not None:
            raise self.error
        return BoardAt([("u1", seq)], {0: seq}, None, 0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_concurrent_readers_share_one_read() -> None:
    tables, boards = Tables(Clock()), RecentBoards()
    tables.open.clear()
    first = asyncio.create_task(boards.get(BOARD, tables.read))
    await settle()
    others = [asyncio.create_task(boards.get(BOARD, tables.read)) for _ in range(50)]
    await settle()
    tables.open.set()
    assert (await first).seqs == {0: 1}
    assert {one.seqs[0] for one in await asyncio.gather(*others)} == {2}
    assert tables.reads == 2


async def test_a_board_of_a_moment_ago_is_returned_without_a_read() -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    clock.now_s += 0.9 * AGE_S
    assert (await boards.get(BOARD, tables.read)).seqs == {0: 1}
    assert (await boards.get(OTHER, tables.read)).seqs == {0: 2}, "each board is read by itself"


async def test_an_older_board_is_returned_at_once_and_read_again_in_the_background() -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    clock.now_s += AGE_S
    tables.open.clear()
    assert [(await boards.get(BOARD, tables.read)).seqs for _ in range(50)] == [{0: 1}] * 50
    await settle()
    assert tables.reads == 2
    tables.open.set()
    await settle()
    assert (await boards.get(BOARD, tables.read)).seqs == {0: 2}


async def test_a_board_that_takes_long_to_read_uses_a_fifth_of_a_core() -> None:
    clock = Clock()
    tables, boards = Tables(clock, takes_s=2.0), RecentBoards(clock_s=clock)
    for _ in range(100):
        await boards.get(BOARD, tables.read)
        clock.now_s += 1.0
        await settle()
    assert tables.reads * 2.0 <= 0.25 * (clock.now_s - 100.0)


async def test_a_board_that_is_too_old_is_never_returned() -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    clock.now_s += 2 * AGE_S
    assert (await boards.get(BOARD, tables.read)).seqs == {0: 2}


async def test_a_fresh_read_is_never_of_a_moment_ago_and_is_what_later_readers_get() -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    assert (await boards.get(BOARD, tables.read, fresh=True)).seqs == {0: 2}
    assert (await boards.get(BOARD, tables.read)).seqs == {0: 2}


async def test_a_read_that_began_earlier_never_replaces_a_later_one() -> None:
    clock = Clock()
    slow, fast, boards = Tables(clock), Tables(clock), RecentBoards(clock_s=clock)
    slow.open.clear()
    earlier = asyncio.create_task(boards.get(BOARD, slow.read))
    await settle()
    clock.now_s += 0.1
    fast.reads = 10
    await boards.get(BOARD, fast.read, fresh=True)
    slow.open.set()
    await earlier
    assert (await boards.get(BOARD, slow.read)).seqs == {0: 11}


async def test_a_failed_read_in_the_background_is_logged_and_raised_once_the_board_is_too_old(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    tables.error = OSError("gone")
    clock.now_s += AGE_S
    with caplog.at_level(logging.WARNING):
        assert (await boards.get(BOARD, tables.read)).seqs == {0: 1}
        await settle()
    assert caplog.messages == ["leaderboard net_day of INR could not be read again: gone"]
    clock.now_s += AGE_S
    with pytest.raises(OSError, match="gone"):
        await boards.get(BOARD, tables.read)


async def test_without_an_age_every_read_reads_the_tables() -> None:
    tables, boards = Tables(Clock()), RecentBoards(age_s=0)
    assert [(await boards.get(BOARD, tables.read)).seqs[0] for _ in range(3)] == [1, 2, 3]


async def test_the_number_of_boards_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.caching.recent_boards._BOARDS_MAX", 3)
    tables, boards = Tables(Clock()), RecentBoards(clock_s=Clock())
    many = [Board("net_day", "INR", day, day + 1) for day in range(5)]
    for board in many:
        await boards.get(board, tables.read)
    await boards.get(many[-1], tables.read)
    assert tables.reads == 5
    await boards.get(many[0], tables.read)
    assert tables.reads == 6


async def test_closing_ends_the_reads_in_the_background() -> None:
    clock = Clock()
    tables, boards = Tables(clock), RecentBoards(clock_s=clock)
    await boards.get(BOARD, tables.read)
    clock.now_s += AGE_S
    tables.open.clear()
    await boards.get(BOARD, tables.read)
    await boards.close()
    await boards.close()
