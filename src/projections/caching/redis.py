"""The cache of aggregates in Redis, shared by all processes. Each method is one script: one round trip, atomic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import uuid4

import msgspec

from projections.caching import redis_scripts
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
    Fields,
    Kind,
    PutToken,
    RowsVersion,
)
from projections.caching.redis_client import Call, RedisClient, Script
from projections.models.leaderboards import Board

_APPLY: Final = Script(redis_scripts.APPLY)
_CONFIRM: Final = Script(redis_scripts.CONFIRM)
_GET: Final = Script(redis_scripts.GET)
_PUT: Final = Script(redis_scripts.PUT)
_GET_BOARD: Final = Script(redis_scripts.GET_BOARD)
_PUT_BOARD: Final = Script(redis_scripts.PUT_BOARD)
_TTL_MS: Final = int(TTL_S * 1_000)
_pack: Final = msgspec.msgpack.Encoder().encode


def _new_epoch() -> str:
    return uuid4().hex  # a counter in Redis would repeat a number after Redis lost its latest writes


class RedisCache:
    """Closing it closes ``client``."""

    def __init__(
        self, client: RedisClient, *, trust_s: float = TRUST_S, new_epoch: Callable[[], str] = _new_epoch
    ) -> None:
        self._client, self._trust_ms, self._new_epoch = client, int(trust_s * 1_000), new_epoch

    async def apply(self, updates: Sequence[CacheUpdate]) -> None:
        if updates:
            await self._client.call_all([self._apply(update) for update in updates])

    def _apply(self, update: CacheUpdate) -> Call:
        # Strings, not bytes: the msgpack reader in Redis knows no byte type.
        changed = {
            user_id: {
                kind: [part for field, row in fields.items() for part in (field, row.decode())]
                for kind, fields in aggregates.items()
            }
            for user_id, aggregates in update.changed.items()
        }
        packed = _pack({"changed": changed, "days": [f"{asset}:{day}" for asset, day in update.changed_days]})
        versions = (update.before.seq, update.before.tag, update.after.seq, update.after.tag)
        return (
            _APPLY,
            _mark_keys(update.partition),
            (*(update.generation, self._new_epoch(), *versions, int(update.reset), RECENT_MAX, packed),),
        )

    async def confirm(self, generation: str, versions: Mapping[int, RowsVersion]) -> None:
        if versions:
            await self._client.call_all(
                [
                    (_CONFIRM, _mark_keys(partition), (generation, self._new_epoch(), version.seq, version.tag))
                    for partition, version in versions.items()
                ]
            )

    async def get(self, kind: Kind, partition: int, user_id: str) -> CachedRows:
        response = await self._client.call(_GET, (_mark_key(partition), _rows_key(kind, user_id)), (self._trust_ms,))
        if not response:
            return MISS
        generation, epoch, seq, *cached = response
        token = PutToken(generation.decode(), epoch.decode())
        if not cached:
            return CachedRows(token, int(seq), None)
        (pairs,) = cached
        fields = {name.decode(): row for name, row in zip(pairs[::2], pairs[1::2], strict=True) if name[:1] != b"@"}
        return CachedRows(token, int(seq), fields)

    async def put(self, kind: Kind, partition: int, user_id: str, token: PutToken, seq: int, fields: Fields) -> None:
        rows = [part for pair in fields.items() for part in pair]
        keys = (*_mark_keys(partition), _rows_key(kind, user_id))
        await self._client.call(_PUT, keys, (*token, seq, user_id, _TTL_MS, *rows))

    async def get_board(self, board: Board, partitions: int) -> CachedBoard:
        keys = _board_keys(board, partitions)
        response = await self._client.call(
            _GET_BOARD, keys, (self._trust_ms, board.asset, board.first_day, board.end_day)
        )
        if not response:
            return BOARD_MISS
        generation, state, seqs, *cached = response
        token = BoardPutToken(generation.decode(), state.decode(), tuple(map(int, seqs)))
        if not cached:
            return CachedBoard(token, token.seqs, None)
        true_at, document = cached
        return CachedBoard(token, tuple(map(int, true_at)), document)

    async def put_board(self, board: Board, token: BoardPutToken, seqs: Sequence[int], document: bytes) -> None:
        if any(seq < marked for seq, marked in zip(seqs, token.seqs, strict=True)):
            return  # read from a replica that is behind: it may lack changes that the marks count as known
        days = (board.asset, board.first_day, board.end_day)
        await self._client.call(
            _PUT_BOARD,
            _board_keys(board, len(seqs)),
            (token.generation, token.state, *days, document, _TTL_MS, *seqs),
        )

    async def close(self) -> None:
        await self._client.close()


def _mark_key(partition: int) -> str:
    return f"stakelog:1:mark:{partition}"


def _mark_keys(partition: int) -> tuple[str, str]:
    return _mark_key(partition), f"stakelog:1:recent:{partition}"


def _rows_key(kind: Kind, user_id: str) -> str:
    return f"stakelog:1:{kind}:{user_id}"


def _board_keys(board: Board, partitions: int) -> tuple[str, ...]:
    key = f"stakelog:1:board:{board.name}:{board.asset}:{board.first_day}:{board.end_day}"
    return (key, *map(_mark_key, range(partitions)))
