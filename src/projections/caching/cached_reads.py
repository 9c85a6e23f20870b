"""``Reads`` that look into the cache of aggregates first: wallets, statistics and leaderboards.

Invariants:
(1) A document from the cache is byte for byte what the tables say at the position that it names.
(2) It is used only if its generation is the one that this process last saw live, and if it is not older than anything
    that this process has read. So ``as_of`` never goes back because of the cache.
(3) A missing wallet and the rows of a quarantined user always come from the tables.
(4) An unavailable or slow cache costs one time-out per pause of the circuit breaker; the tables serve the read.

A leaderboard over the current day changes with every bet, so the cache rarely has it. Then concurrent reads of it
share one read of the tables (``shared_reads``).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from projections.caching.circuit_breaker import CircuitBreaker
from projections.caching.port import (
    BOARD_MISS,
    KINDS,
    MISS,
    WALLET_FIELD,
    AggregateCache,
    BoardPutToken,
    CachedBoard,
    CachedRows,
    CacheUnavailable,
    Kind,
    PutToken,
    decoded,
    encoded,
    field_of,
)
from projections.caching.shared_reads import BOARD_LIMIT_MAX, BoardAt, SharedReads
from projections.models import leaderboards, statistics, wallets
from projections.models.leaderboards import Board
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.reads import statements
from projections.reads.queries import ALL_STATUS, AllStatus, Found, LogEnds, status_of
from projections.storage.port import ReadModel
from projections.tables.queries import Builder, Query, Rows, UserStatus
from projections.tables.rows import Row

AGGREGATES: Final = (*KINDS, "leaderboard")
OUTCOMES: Final = ("hit", "miss", "behind", "error", "away")
"""What the cache did for a read: ``error``, it did not respond; ``away``, it was not used because it failed a moment
ago; ``behind``, the tables were read because the cache had not reached the ``min_position``."""

T = TypeVar("T")
_STATEMENT: Final[Mapping[Kind, tuple[Builder, type[Row]]]] = {
    "wallet": (wallets.assets_statement, AssetRow),
    "statistics": (statistics.statistics_statement, StatisticsRow),
}
_IDENTITY: Final = Query(statements.identity)
_encode_board: Final = msgspec.json.Encoder().encode
_decode_board: Final = msgspec.json.Decoder(list[tuple[str, str]]).decode


class CacheCounts(NamedTuple):
    """``available``: the last call succeeded. ``reads``: (aggregate, outcome) → how many reads."""

    available: bool
    reads: Mapping[tuple[str, str], int]


class CachedReads(SharedReads):
    """``close_cache`` closes the cache."""

    def __init__(self, model: ReadModel, ends: LogEnds, clock: Callable[[], int], cache: AggregateCache) -> None:
        super().__init__(model, ends, clock)
        self._cache = cache
        self.breaker = CircuitBreaker("cache of aggregates")
        self.counts: Counter[tuple[str, str]] = Counter(
            {(kind, outcome): 0 for kind in AGGREGATES for outcome in OUTCOMES}
        )
        self._generation = ""
        self._highest_seqs: dict[int, int] = {}

    def cache_counts(self) -> "CacheCounts":
        return CacheCounts(self.breaker.is_closed, dict(self.counts))

    async def close_cache(self) -> None:
        await self._cache.close()

    # --- one user --------------------------------------------------------------------------------------------------

    async def wallet(self, user_id: str, *, fresh: bool = False) -> Found:
        return await self._aggregate("wallet", user_id, fresh=fresh)

    async def statistics(self, user_id: str, *, fresh: bool = False) -> Found:
        return await self._aggregate("statistics", user_id, fresh=fresh)

    async def _aggregate(self, kind: Kind, user_id: str, *, fresh: bool) -> Found:
        partition = self.partition_of(user_id)

        def is_usable(cached: CachedRows) -> bool:
            return cached.fields is not None and self._is_usable(cached.token, {partition: cached.seq})

        cached = MISS
        if fresh:
            self.counts[kind, "behind"] += 1
        else:
            cached, usable = await self._read_cache(
                kind, lambda: self._cache.get(kind, partition, user_id), is_usable, MISS
            )
            if usable:
                return await self._from_cache(kind, user_id, cached)
        own = {"of_partition": partition, "user": user_id}
        statement, _ = _STATEMENT[kind]
        asks = (Query(statements.user_status, own), Query(statement, own), _IDENTITY)
        status_rows, rows, (identity,) = await self._model.fetch(asks, quick=True)
        user = status_of(user_id, partition, status_rows)
        self._remember_generation(identity)
        if not user.is_open:
            return await self.found_of_user(user, None)
        token = cached.token
        if token is not None and token.generation == self._generation and user.quarantined_at_us is None:
            fields = _fields(kind, user, rows)
            await self._write_cache(lambda: self._cache.put(kind, partition, user_id, token, user.seq, fields))
        return await self.found_of_user(user, _document(kind, user_id, user.wallet, rows))

    async def _from_cache(self, kind: Kind, user_id: str, cached: CachedRows) -> Found:
        assert cached.fields is not None
        # Sorted by field name, which is the order of the tables.
        rows = {field: decoded(cached.fields[field]) for field in sorted(cached.fields)}
        wallet = rows.pop(WALLET_FIELD, [])
        document = _document(kind, user_id, wallet, [row[1:] for row in rows.values()])
        user = UserStatus(user_id, self.partition_of(user_id), cached.seq, None, wallet)
        return await self.found_of_user(user, document)

    async def found_of_user(
        self, user: UserStatus, document: Struct | None, missing: str = "wallet_not_found"
    ) -> Found:
        self._remember_seqs({user.partition: user.seq})
        return await super().found_of_user(user, document, missing)

    # --- leaderboards ----------------------------------------------------------------------------------------------

    async def leaderboard(
        self, name: str, asset: str, at_us: int | None, limit: int, *, fresh: bool = False
    ) -> Found:
        if limit > BOARD_LIMIT_MAX:
            return await super().leaderboard(name, asset, at_us, limit)
        board = await self._board_at(name, asset, at_us)

        def is_usable(cached: CachedBoard) -> bool:
            return cached.document is not None and self._is_usable(cached.token, dict(enumerate(cached.seqs)))

        cached = BOARD_MISS
        if fresh:
            self.counts["leaderboard", "behind"] += 1
        else:
            cached, usable = await self._read_cache(
                "leaderboard", lambda: self._cache.get_board(board, self._partitions), is_usable, BOARD_MISS
            )
            if usable:
                return await self._board_from_cache(board, cached, limit)
        return await self._shared_board(board, limit, lambda: self._read_board_to_cache(board, cached))

    async def _board_from_cache(self, board: Board, cached: CachedBoard, limit: int) -> Found:
        assert cached.document is not None
        values = [(user_id, int(value)) for user_id, value in _decode_board(cached.document)[:limit]]
        seqs, _, oldest_us = await self._status_of_all(list(enumerate(cached.seqs)), [(None,)])
        document = leaderboards.document(board, values)
        return Found(document, "", seqs, True, self._age_ms(oldest_us), self._is_board_suspect())

    async def _read_board_to_cache(self, board: Board, cached: CachedBoard) -> BoardAt:
        asks = [*ALL_STATUS, _IDENTITY, leaderboards.leaders(board, BOARD_LIMIT_MAX)]
        checkpoint_rows, quarantine_rows, (identity,), rows = await self._model.fetch(asks)
        self._remember_generation(identity)
        values = leaderboards.values_of(rows)
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        token = cached.token
        if token is not None and token.generation == self._generation and quarantine_rows[0][0] is None:
            document = _encode_board([(user_id, str(value)) for user_id, value in values])
            at = list(seqs.values())
            await self._write_cache(lambda: self._cache.put_board(board, token, at, document))
        return BoardAt(values, seqs, self._age_ms(oldest_us))

    async def _status_of_all(self, checkpoint_rows: Rows, quarantine_rows: Rows) -> AllStatus:
        status = await super()._status_of_all(checkpoint_rows, quarantine_rows)
        self._remember_seqs(status.seqs)
        return status

    async def _status_of_named(
        self, named: Sequence[tuple[int, str]], checkpoint_rows: Rows, stopped: Rows
    ) -> AllStatus:
        status = await super()._status_of_named(named, checkpoint_rows, stopped)
        self._remember_seqs(status.seqs)
        return status

    # --- what this process has read, and calls of the cache --------------------------------------------------------

    def _is_usable(self, token: PutToken | BoardPutToken | None, seqs: Mapping[int, int]) -> bool:
        """Whether a cached document is of the live generation, and not older than what this process has read."""
        newer = all(seq >= self._highest_seqs.get(partition, 0) for partition, seq in seqs.items())
        return newer and token is not None and token.generation == self._generation

    def _remember_generation(self, identity: Sequence[Any]) -> None:
        number, made_at_us = identity
        generation = f"{number}.{made_at_us}"
        if generation != self._generation:
            self._generation, self._highest_seqs = generation, {}

    def _remember_seqs(self, seqs: Mapping[int, int]) -> None:
        seen = self._highest_seqs
        for partition, seq in seqs.items():
            if seq > seen.get(partition, 0):
                seen[partition] = seq

    async def _read_cache(
        self, kind: str, read: Callable[[], Awaitable[T]], is_usable: Callable[[T], bool], miss: T
    ) -> tuple[T, bool]:
        """What the cache returns, ``miss`` if it is unavailable, and whether that is a usable hit."""
        if not self.breaker.allows():
            self.counts[kind, "away"] += 1
            return miss, False
        try:
            found = await read()
        except CacheUnavailable as error:
            self.breaker.failed(error)
            self.counts[kind, "error"] += 1
            return miss, False
        self.breaker.succeeded()
        usable = is_usable(found)
        self.counts[kind, "hit" if usable else "miss"] += 1
        return found, usable

    async def _write_cache(self, write: Callable[[], Awaitable[None]]) -> None:
        if self.breaker.allows():
            try:
                await write()
            except CacheUnavailable as error:
                self.breaker.failed(error)


def _fields(kind: Kind, user: UserStatus, rows: Rows) -> dict[str, bytes]:
    """The aggregate's rows, encoded as the projectors encode them."""
    _, row_type = _STATEMENT[kind]
    made: list[Row] = [WalletRow(*user.wallet)] if kind == "wallet" else []
    made += [row_type(user.user_id, *row) for row in rows]
    return {field_of(row)[1]: encoded(row) for row in made}


def _document(kind: Kind, user_id: str, wallet: Sequence[Any], rows: Rows) -> Struct:
    return wallets.document(wallet, rows) if kind == "wallet" else statistics.document(user_id, rows)
