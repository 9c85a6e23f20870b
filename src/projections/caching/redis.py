"""The cache in Redis, shared by all processes; each method is one script, and so one round trip and one moment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import uuid4

import msgspec

from projections.caching import redis_scripts
from projections.caching.port import (
    KEPT_S,
    NO_BOARD,
    NOTHING,
    RECENT_MAX,
    TRUST_S,
    Board,
    BoardTicket,
    Fields,
    Kind,
    Looked,
    LookedBoard,
    Position,
    Step,
    Ticket,
)
from projections.caching.redis_client import Call, RedisClient, Script

_STEP: Final = Script(redis_scripts.STEP)
_CONFIRM: Final = Script(redis_scripts.CONFIRM)
_LOOK: Final = Script(redis_scripts.LOOK)
_KEEP: Final = Script(redis_scripts.KEEP)
_LOOK_BOARD: Final = Script(redis_scripts.LOOK_BOARD)
_KEEP_BOARD: Final = Script(redis_scripts.KEEP_BOARD)
_KEPT_MS: Final = int(KEPT_S * 1_000)
_pack: Final = msgspec.msgpack.Encoder().encode


def _new_epoch() -> str:
    return uuid4().hex  # a number that Redis counts would come again after it lost its latest writes


class RedisCache:
    """``client`` is closed with it."""

    def __init__(
        self, client: RedisClient, *, trust_s: float = TRUST_S, new_epoch: Callable[[], str] = _new_epoch
    ) -> None:
        self._client, self._trust_ms, self._new_epoch = client, int(trust_s * 1_000), new_epoch

    async def step(self, steps: Sequence[Step]) -> None:
        if steps:
            await self._client.call_all([self._step(step) for step in steps])

    def _step(self, step: Step) -> Call:
        # Texts, not bytes, for Redis' reader knows no others.
        touched = {
            user_id: {
                kind: [part for field, row in fields.items() for part in (field, row.decode())]
                for kind, fields in aggregates.items()
            }
            for user_id, aggregates in step.touched.items()
        }
        told = _pack({"touched": touched, "days": [f"{asset}:{day}" for asset, day in step.days]})
        places = (step.before.seq, step.before.tag, step.after.seq, step.after.tag)
        return (
            _STEP,
            _marks(step.partition),
            (*(step.generation, self._new_epoch(), *places, int(step.anew), RECENT_MAX, told),),
        )

    async def confirm(self, generation: str, places: Mapping[int, Position]) -> None:
        if places:
            await self._client.call_all(
                [
                    (_CONFIRM, _marks(partition), (generation, self._new_epoch(), place.seq, place.tag))
                    for partition, place in places.items()
                ]
            )

    async def look(self, kind: Kind, partition: int, user_id: str) -> Looked:
        answer = await self._client.call(_LOOK, (_mark(partition), _kept(kind, user_id)), (self._trust_ms,))
        if not answer:
            return NOTHING
        generation, epoch, seq, *kept = answer
        ticket = Ticket(generation.decode(), epoch.decode())
        if not kept:
            return Looked(ticket, int(seq), None)
        (pairs,) = kept
        fields = {name.decode(): row for name, row in zip(pairs[::2], pairs[1::2], strict=True) if name[:1] != b"@"}
        return Looked(ticket, int(seq), fields)

    async def keep(self, kind: Kind, partition: int, user_id: str, ticket: Ticket, seq: int, fields: Fields) -> None:
        rows = [part for pair in fields.items() for part in pair]
        keys = (*_marks(partition), _kept(kind, user_id))
        await self._client.call(_KEEP, keys, (*ticket, seq, user_id, _KEPT_MS, *rows))

    async def look_board(self, board: Board, partitions: int) -> LookedBoard:
        keys = _board(board, partitions)
        answer = await self._client.call(
            _LOOK_BOARD, keys, (self._trust_ms, board.asset, board.first_day, board.end_day)
        )
        if not answer:
            return NO_BOARD
        generation, state, seqs, *kept = answer
        ticket = BoardTicket(generation.decode(), state.decode(), tuple(map(int, seqs)))
        if not kept:
            return LookedBoard(ticket, ticket.seqs, None)
        true_at, document = kept
        return LookedBoard(ticket, tuple(map(int, true_at)), document)

    async def keep_board(self, board: Board, ticket: BoardTicket, seqs: Sequence[int], document: bytes) -> None:
        if any(seq < looked for seq, looked in zip(seqs, ticket.seqs, strict=True)):
            return  # of a standby that is behind: whether it has what the days' changes say cannot be told
        days = (board.asset, board.first_day, board.end_day)
        await self._client.call(
            _KEEP_BOARD,
            _board(board, len(seqs)),
            (ticket.generation, ticket.state, *days, document, _KEPT_MS, *seqs),
        )

    async def close(self) -> None:
        await self._client.close()


def _mark(partition: int) -> str:
    return f"stakelog:1:mark:{partition}"


def _marks(partition: int) -> tuple[str, str]:
    return _mark(partition), f"stakelog:1:recent:{partition}"


def _kept(kind: Kind, user_id: str) -> str:
    return f"stakelog:1:{kind}:{user_id}"


def _board(board: Board, partitions: int) -> tuple[str, ...]:
    key = f"stakelog:1:board:{board.name}:{board.asset}:{board.first_day}:{board.end_day}"
    return (key, *map(_mark, range(partitions)))
