"""``Reads`` in which concurrent reads of one leaderboard share one read of the tables.

Invariant: the shared read begins after each of the reads that share it was requested (``single_flight``). So it has
everything that any response to an earlier request had, and ``as_of`` never goes back. A leaderboard is not kept for
later reads, not even for a moment: a kept one may be older than what this service has returned meanwhile.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from projections.caching.single_flight import SingleFlight
from projections.models import leaderboards
from projections.models.leaderboards import Board
from projections.reads.queries import ALL_STATUS, Found, LogEnds, Reads
from projections.storage.port import ReadModel

BOARD_LIMIT_MAX: Final = 200
"""Leaders that a shared read reads: the largest ``limit`` that a request may have."""


class BoardAt(NamedTuple):
    """The first ``BOARD_LIMIT_MAX`` users and their values, true at ``seqs``."""

    values: list[tuple[str, int]]
    seqs: dict[int, int]
    lag_ms: int


class SharedReads(Reads):
    def __init__(self, model: ReadModel, ends: LogEnds, clock: Callable[[], int]) -> None:
        super().__init__(model, ends, clock)
        self._boards: SingleFlight[Board, BoardAt] = SingleFlight()
        self._begun: SingleFlight[Board, bool] = SingleFlight()

    async def leaderboard(
        self, name: str, asset: str, at_us: int | None, limit: int, *, fresh: bool = False
    ) -> Found:
        if limit > BOARD_LIMIT_MAX:
            return await super().leaderboard(name, asset, at_us, limit, fresh=fresh)
        board = await self._board_at(name, asset, at_us)
        return await self._shared_board(board, limit, lambda: self._read_board(board))

    async def _has_begun(self, board: Board) -> bool:
        read = super()._has_begun
        return await self._begun.read(board, lambda: read(board))

    async def _shared_board(self, board: Board, limit: int, read: Callable[[], Awaitable[BoardAt]]) -> Found:
        found = await self._boards.read(board, read)
        document = leaderboards.document(board, found.values[:limit])
        return Found(document, "", found.seqs, True, found.lag_ms, self._is_board_suspect())

    async def _read_board(self, board: Board) -> BoardAt:
        queries = [*ALL_STATUS, leaderboards.leaders(board, BOARD_LIMIT_MAX)]
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(queries)
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        return BoardAt(leaderboards.values_of(rows), seqs, self._age_ms(oldest_us))
