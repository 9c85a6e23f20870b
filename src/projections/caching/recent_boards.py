"""Leaderboards that were read a moment ago, in this process' memory, for all readers of the same leaderboard.

Reading a leaderboard sums the rows of all its users: 0.2 s for 100,000 of them. Its document changes with every bet,
so no cache that must be exact ever has it. Invariants:
(1) A board is at most ``AGE_S`` old, or a few times as old as it takes to read; its positions say how far it is.
(2) Concurrent reads of a board share one read of the tables. While a board is read again, readers get the board of a
    moment ago; so reading one board uses at most a fifth of a core, however many readers there are.
(3) A ``fresh`` read begins after it was requested: a client that names a ``min_position`` never gets an older board.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, NamedTuple

from projections.caching.port import Board
from projections.caching.single_flight import SingleFlight

AGE_S: Final = 1.0
"""A board is read again when it is this old. Chosen: invisible to a player."""
_REST: Final = 4.0
"""… or when it is so many times as old as its read took. Chosen: a fifth of a core."""
_BOARDS_MAX: Final = 256
"""Boards in memory. Chosen: some 10 MB; nine for each asset are current."""

_log = logging.getLogger(__name__)


class BoardAt(NamedTuple):
    """A board's users and values, true at ``seqs``. ``oldest_us``: the time of the oldest event known at the read
    that is not in it, None if there was none; ``read_at_us``: when it was read."""

    values: list[tuple[str, int]]
    seqs: dict[int, int]
    oldest_us: int | None
    read_at_us: int


class _Recent(NamedTuple):
    at: BoardAt
    began_s: float
    refresh_at_s: float
    usable_until_s: float


ReadBoard = Callable[[], Awaitable[BoardAt]]


class RecentBoards:
    def __init__(self, *, age_s: float = AGE_S, clock_s: Callable[[], float] = monotonic) -> None:
        """``age_s``: with 0 every read reads the tables, and only concurrent reads are shared."""
        self._age_s, self._clock_s = age_s, clock_s
        self._recent: dict[Board, _Recent] = {}
        self._reads: SingleFlight[tuple[Board, bool], BoardAt] = SingleFlight()
        self._refreshing: dict[Board, asyncio.Task[BoardAt]] = {}

    async def get(self, board: Board, read: ReadBoard, *, fresh: bool = False) -> BoardAt:
        """The board of a moment ago, or what ``read`` returns. Raises what ``read`` raises."""
        recent, now_s = self._recent.get(board), self._clock_s()
        if fresh or recent is None or now_s >= recent.usable_until_s:
            return await self._read(board, read, fresh=fresh)
        if now_s >= recent.refresh_at_s and board not in self._refreshing:
            self._refreshing[board] = task = asyncio.ensure_future(self._read(board, read, fresh=False))
            task.add_done_callback(lambda done: self._refreshed(board, done))
        return recent.at

    async def _read(self, board: Board, read: ReadBoard, *, fresh: bool) -> BoardAt:
        return await self._reads.read((board, fresh), lambda: self._read_and_remember(board, read))

    async def _read_and_remember(self, board: Board, read: ReadBoard) -> BoardAt:
        began_s = self._clock_s()
        at = await read()
        now_s = self._clock_s()
        known = self._recent.get(board)
        if self._age_s > 0 and (known is None or known.began_s <= began_s):
            rest_s = max(self._age_s, _REST * (now_s - began_s))
            self._recent.pop(board, None)  # the oldest one comes first
            self._recent[board] = _Recent(at, began_s, now_s + rest_s, now_s + 2 * rest_s)
            if len(self._recent) > _BOARDS_MAX:
                del self._recent[next(iter(self._recent))]
        return at

    def _refreshed(self, board: Board, done: asyncio.Task[BoardAt]) -> None:
        del self._refreshing[board]
        if not done.cancelled() and (error := done.exception()) is not None:
            # Readers get the error once the board of a moment ago is too old.
            _log.warning("leaderboard %s of %s could not be read again: %s", board.name, board.asset, error)

    async def close(self) -> None:
        """End the reads in the background. Closing again is harmless."""
        refreshing = list(self._refreshing.values())
        for task in refreshing:
            task.cancel()
        if refreshing:
            await asyncio.wait(refreshing)
