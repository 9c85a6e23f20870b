"""The cache in the memory of one process: for whoever folds and reads in the same one, and for tests.

It does step by step what the scripts in ``redis_scripts`` do inside of Redis; both pass one suite.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Final

from msgspec import Struct

from projections.caching.port import (
    KEPT_S,
    NO_BOARD,
    NOTHING,
    RECENT_MAX,
    TRUST_S,
    Board,
    BoardTicket,
    Day,
    Fields,
    Kind,
    Looked,
    LookedBoard,
    Position,
    Step,
    Ticket,
)

_USERS_MAX: Final = 20_000
"""Aggregates kept before the ones kept longest are let go. Chosen: some 40 MB."""


class _Mark(Struct):
    generation: str
    epoch: str
    place: Position
    at_s: float
    floor: int
    """Of whoever was touched after this seq it is known when that was last."""
    seen: int = 0
    """A reader has read at this seq: what is older must not be answered after it."""
    recent: dict[str, int] = {}
    days: dict[Day, int] = {}


class _Kept(Struct):
    epoch: str
    seq: int
    fields: dict[str, bytes]
    until_s: float


class _KeptBoard(Struct):
    ticket: BoardTicket
    seqs: tuple[int, ...]
    document: bytes
    until_s: float


class MemoryCache:
    """Never unavailable."""

    def __init__(self, *, trust_s: float = TRUST_S, clock_s: Callable[[], float] = monotonic) -> None:
        self._trust_s, self._clock_s = trust_s, clock_s
        self._epochs = count(1)
        self._marks: dict[int, _Mark] = {}
        self._kept: dict[tuple[Kind, str], _Kept] = {}
        self._boards: dict[Board, _KeptBoard] = {}

    async def step(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._step(step)

    def _step(self, step: Step) -> None:
        mark = self._marks.get(step.partition)
        if mark is None or mark.generation != step.generation:
            self._begin(step.partition, step.generation, step.after)
            return
        if mark.place == step.after and not step.anew:
            mark.at_s = self._clock_s()
            return
        if mark.place.seq > step.after.seq:
            return  # it was told before, by this step or by what came after it
        if mark.place != step.before or step.anew:
            self._begin(step.partition, step.generation, step.after)
            return
        before, after = step.before.seq, step.after.seq
        for user_id, changed in step.touched.items():
            mark.recent.pop(user_id, None)
            mark.recent[user_id] = after
            for kind, fields in changed.items():
                kept = self._kept.get((kind, user_id))
                if kept is None:
                    continue
                if kept.epoch != mark.epoch or before < kept.seq < after:
                    del self._kept[kind, user_id]
                elif kept.seq <= before:
                    kept.fields.update(fields)
                    kept.seq = after
        for day in step.days:
            mark.days[day] = after
        while len(mark.recent) > RECENT_MAX:
            oldest = next(iter(mark.recent))
            mark.floor = max(mark.floor, mark.recent.pop(oldest))
        mark.place, mark.at_s = step.after, self._clock_s()

    def _begin(self, partition: int, generation: str, place: Position) -> None:
        epoch = str(next(self._epochs))
        self._marks[partition] = _Mark(generation, epoch, place, self._clock_s(), floor=place.seq)

    async def confirm(self, generation: str, places: Mapping[int, Position]) -> None:
        for partition, place in places.items():
            mark = self._marks.get(partition)
            if mark is not None and mark.generation == generation:
                if mark.place == place:
                    mark.at_s = self._clock_s()
                    continue
                if mark.place.seq > place.seq:
                    continue
            self._begin(partition, generation, place)

    def _trusted(self, partition: int) -> _Mark | None:
        mark = self._marks.get(partition)
        return mark if mark is not None and 0 <= self._clock_s() - mark.at_s <= self._trust_s else None

    async def look(self, kind: Kind, partition: int, user_id: str) -> Looked:
        mark = self._trusted(partition)
        if mark is None:
            return NOTHING
        ticket = Ticket(mark.generation, mark.epoch)
        kept = self._kept.get((kind, user_id))
        if kept is None or kept.epoch != mark.epoch or kept.until_s < self._clock_s():
            return Looked(ticket, mark.place.seq, None)
        seq = max(mark.place.seq, kept.seq)
        return Looked(ticket, seq, dict(kept.fields) if seq >= mark.seen else None)

    async def keep(self, kind: Kind, partition: int, user_id: str, ticket: Ticket, seq: int, fields: Fields) -> None:
        mark = self._marks.get(partition)
        if mark is None or ticket != (mark.generation, mark.epoch):
            return
        mark.seen = max(mark.seen, seq)
        if seq < mark.place.seq and (seq < mark.floor or mark.recent.get(user_id, 0) > seq):
            return
        kept = self._kept.pop((kind, user_id), None)
        if kept is None or kept.epoch != mark.epoch or kept.seq < seq:
            kept = _Kept(mark.epoch, seq, dict(fields), self._clock_s() + KEPT_S)
        self._kept[kind, user_id] = kept
        if len(self._kept) > _USERS_MAX:
            del self._kept[next(iter(self._kept))]

    async def look_board(self, board: Board, partitions: int) -> LookedBoard:
        marks = [self._trusted(partition) for partition in range(partitions)]
        found = [mark for mark in marks if mark is not None]
        if len(found) < partitions or len({mark.generation for mark in found}) != 1:
            return NO_BOARD
        ticket = BoardTicket(found[0].generation, self._state(board, found), tuple(m.place.seq for m in found))
        kept = self._boards.get(board)
        if kept is None or kept.ticket[:2] != ticket[:2] or kept.until_s < self._clock_s():
            return LookedBoard(ticket, ticket.seqs, None)
        seqs = tuple(map(max, ticket.seqs, kept.seqs))
        well = all(seq >= mark.seen for seq, mark in zip(seqs, found, strict=True))
        return LookedBoard(ticket, seqs, kept.document if well else None)

    def _state(self, board: Board, marks: Sequence[_Mark]) -> str:
        days = range(board.first_day, board.end_day)
        return ";".join(
            ",".join([mark.epoch, *(str(mark.days.get((board.asset, day), "")) for day in days)]) for mark in marks
        )

    async def keep_board(self, board: Board, ticket: BoardTicket, seqs: Sequence[int], document: bytes) -> None:
        if any(seq < looked for seq, looked in zip(seqs, ticket.seqs, strict=True)):
            return  # of a standby that is behind: whether it has what the days' changes say cannot be told
        marks = [self._marks[partition] for partition in range(len(seqs)) if partition in self._marks]
        if len(marks) < len(seqs) or {mark.generation for mark in marks} != {ticket.generation}:
            return
        for mark, seq in zip(marks, seqs, strict=True):
            mark.seen = max(mark.seen, seq)
        kept = self._boards.get(board)
        known = kept is not None and kept.ticket[:2] == ticket[:2]
        if known or self._state(board, marks) != ticket.state:
            return
        self._boards[board] = _KeptBoard(ticket, tuple(seqs), document, self._clock_s() + KEPT_S)

    async def close(self) -> None:
        self._marks.clear()
        self._kept.clear()
        self._boards.clear()
