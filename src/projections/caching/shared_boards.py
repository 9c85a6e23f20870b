"""``Reads`` whose leaderboards are shared by all readers of this process: what ``STAKELOG_CACHE=memory`` caches."""

from collections.abc import Callable
from functools import partial
from typing import Final

from projections.caching.port import Board
from projections.caching.recent_boards import AGE_S, BoardAt, RecentBoards
from projections.models import leaderboards
from projections.reads.queries import ALL_STATUS, Found, LogEnds, Reads
from projections.storage.port import ReadModel

BOARD_LIMIT_MAX: Final = 200
"""Leaders in a shared board: the largest ``limit`` that a request may have."""


class SharedBoardReads(Reads):
    """Wallets and lists are read from the tables; a leaderboard may be ``board_age_s`` old, and says where it is."""

    def __init__(
        self, model: ReadModel, ends: LogEnds, clock: Callable[[], int], *, board_age_s: float = AGE_S
    ) -> None:
        super().__init__(model, ends, clock)
        self._recent = RecentBoards(age_s=board_age_s)

    async def leaderboard(
        self, name: str, asset: str, at_us: int | None, limit: int, *, fresh: bool = False
    ) -> Found:
        if limit > BOARD_LIMIT_MAX:
            return await super().leaderboard(name, asset, at_us, limit)
        board = Board(name, asset, *self.days_of_board(name, at_us))
        at = await self._recent.get(board, partial(self._read_board, board, fresh=fresh), fresh=fresh)
        document = leaderboards.document(*board, at.values[:limit])
        return Found(document, "", dict(at.seqs), True, self._lag_ms(at))

    async def _read_board(self, board: Board, *, fresh: bool) -> BoardAt:  # noqa: ARG002
        read_at_us = self._clock()
        queries = [*ALL_STATUS, leaderboards.leaders(*board, BOARD_LIMIT_MAX)]
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(queries)
        seqs, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        return BoardAt(leaderboards.values_of(rows), seqs, oldest_us, read_at_us)

    def _lag_ms(self, at: BoardAt) -> int:
        """Without an unknown event at the read, every event that is not in the board came after the read began."""
        if at.oldest_us is not None:
            return self._age_ms(at.oldest_us)
        is_behind = any(self._ends.end(partition) > seq for partition, seq in at.seqs.items())
        return self._age_ms(at.read_at_us) if is_behind else 0

    async def close_cache(self) -> None:
        await self._recent.close()
