"""The cache of aggregates in one process' memory: a readable model of what the scripts in ``redis_scripts`` do.

Tests run on it where a Redis would be slow. It passes the same suite as the Redis adapter.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Final

from msgspec import Struct

from projections.caching.port import (
    BOARD_MISS,
    MISS,
    RECENT_MAX,
    TRUST_S,
    TTL_S,
    BoardPutToken,
    CachedBoard,
    CachedRows,
    CacheUpdate,
    Day,
    Fields,
    Kind,
    PutToken,
    RowsVersion,
)
from projections.models.leaderboards import Board

_AGGREGATES_MAX: Final = 20_000
"""Aggregates in the cache; beyond it the oldest one is dropped."""


class _Mark(Struct):
    generation: str
    epoch: str
    version: RowsVersion
    at_s: float
    floor: int
    """``recent`` is complete for all changes after this seq."""
    seen: int = 0
    """The highest seq that a reader has read from the tables. The cache must not return anything older."""
    recent: dict[str, int] = {}
    days: dict[Day, int] = {}


class _Cached(Struct):
    epoch: str
    seq: int
    fields: dict[str, bytes]
    until_s: float


class _CachedBoard(Struct):
    token: BoardPutToken
    seqs: tuple[int, ...]
    document: bytes
    until_s: float


class MemoryCache:
    """Never raises CacheUnavailable."""

    def __init__(self, *, trust_s: float = TRUST_S, clock_s: Callable[[], float] = monotonic) -> None:
        self._trust_s, self._clock_s = trust_s, clock_s
        self._epochs = count(1)
        self._marks: dict[int, _Mark] = {}
        self._cached: dict[tuple[Kind, str], _Cached] = {}
        self._boards: dict[Board, _CachedBoard] = {}

    async def apply(self, updates: Sequence[CacheUpdate]) -> None:
        for update in updates:
            self._apply(update)

    def _apply(self, update: CacheUpdate) -> None:
        mark = self._marks.get(update.partition)
        if mark is None or mark.generation != update.generation:
            self._begin_epoch(update.partition, update.generation, update.after)
            return
        if mark.version == update.after and not update.reset:
            mark.at_s = self._clock_s()
            return
        if mark.version.seq > update.after.seq:
            return  # this update, or a later one, was applied before
        if mark.version != update.before or update.reset:
            self._begin_epoch(update.partition, update.generation, update.after)
            return
        before, after = update.before.seq, update.after.seq
        for user_id, changed in update.changed.items():
            mark.recent.pop(user_id, None)
            mark.recent[user_id] = after
            for kind, fields in changed.items():
                cached = self._cached.get((kind, user_id))
                if cached is None:
                    continue
                if cached.epoch != mark.epoch or before < cached.seq < after:
                    del self._cached[kind, user_id]
                elif cached.seq <= before:
                    cached.fields.update(fields)
                    cached.seq = after
        for day in update.changed_days:
            mark.days[day] = after
        while len(mark.recent) > RECENT_MAX:
            oldest = next(iter(mark.recent))
            mark.floor = max(mark.floor, mark.recent.pop(oldest))
        mark.version, mark.at_s = update.after, self._clock_s()

    def _begin_epoch(self, partition: int, generation: str, version: RowsVersion) -> None:
        epoch = str(next(self._epochs))
        self._marks[partition] = _Mark(generation, epoch, version, self._clock_s(), floor=version.seq)

    async def confirm(self, generation: str, versions: Mapping[int, RowsVersion]) -> None:
        for partition, version in versions.items():
            mark = self._marks.get(partition)
            if mark is not None and mark.generation == generation:
                if mark.version == version:
                    mark.at_s = self._clock_s()
                    continue
                if mark.version.seq > version.seq:
                    continue
            self._begin_epoch(partition, generation, version)

    def _trusted(self, partition: int) -> _Mark | None:
        mark = self._marks.get(partition)
        return mark if mark is not None and 0 <= self._clock_s() - mark.at_s <= self._trust_s else None

    async def get(self, kind: Kind, partition: int, user_id: str) -> CachedRows:
        mark = self._trusted(partition)
        if mark is None:
            return MISS
        token = PutToken(mark.generation, mark.epoch)
        cached = self._cached.get((kind, user_id))
        if cached is None or cached.epoch != mark.epoch or cached.until_s < self._clock_s():
            return CachedRows(token, mark.version.seq, None)
        seq = max(mark.version.seq, cached.seq)
        return CachedRows(token, seq, dict(cached.fields) if seq >= mark.seen else None)

    async def put(self, kind: Kind, partition: int, user_id: str, token: PutToken, seq: int, fields: Fields) -> None:
        mark = self._marks.get(partition)
        if mark is None or token != (mark.generation, mark.epoch):
            return
        mark.seen = max(mark.seen, seq)
        if seq < mark.version.seq and (seq < mark.floor or mark.recent.get(user_id, 0) > seq):
            return
        cached = self._cached.pop((kind, user_id), None)
        if cached is None or cached.epoch != mark.epoch or cached.seq < seq:
            cached = _Cached(mark.epoch, seq, dict(fields), self._clock_s() + TTL_S)
        self._cached[kind, user_id] = cached
        if len(self._cached) > _AGGREGATES_MAX:
            del self._cached[next(iter(self._cached))]

    async def get_board(self, board: Board, partitions: int) -> CachedBoard:
        trusted = [self._trusted(partition) for partition in range(partitions)]
        marks = [mark for mark in trusted if mark is not None]
        if len(marks) < partitions or len({mark.generation for mark in marks}) != 1:
            return BOARD_MISS
        seqs = tuple(mark.version.seq for mark in marks)
        token = BoardPutToken(marks[0].generation, self._state(board, marks), seqs)
        cached = self._boards.get(board)
        if cached is None or cached.token[:2] != token[:2] or cached.until_s < self._clock_s():
            return CachedBoard(token, token.seqs, None)
        seqs = tuple(map(max, token.seqs, cached.seqs))
        is_new_enough = all(seq >= mark.seen for seq, mark in zip(seqs, marks, strict=True))
        return CachedBoard(token, seqs, cached.document if is_new_enough else None)

    def _state(self, board: Board, marks: Sequence[_Mark]) -> str:
        days = range(board.first_day, board.end_day)
        return ";".join(
            ",".join([mark.epoch, *(str(mark.days.get((board.asset, day), "")) for day in days)]) for mark in marks
        )

    async def put_board(self, board: Board, token: BoardPutToken, seqs: Sequence[int], document: bytes) -> None:
        if any(seq < marked for seq, marked in zip(seqs, token.seqs, strict=True)):
            return  # read from a replica that is behind: it may lack changes that the marks count as known
        marks = [self._marks[partition] for partition in range(len(seqs)) if partition in self._marks]
        if len(marks) < len(seqs) or {mark.generation for mark in marks} != {token.generation}:
            return
        for mark, seq in zip(marks, seqs, strict=True):
            mark.seen = max(mark.seen, seq)
        cached = self._boards.get(board)
        is_known = cached is not None and cached.token[:2] == token[:2]
        if is_known or self._state(board, marks) != token.state:
            return
        self._boards[board] = _CachedBoard(token, tuple(seqs), document, self._clock_s() + TTL_S)

    async def close(self) -> None:
        self._marks.clear()
        self._cached.clear()
        self._boards.clear()
