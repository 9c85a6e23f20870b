"""``Reads`` that ask the cache of aggregates first: a wallet, its statistics, leaderboards.

Truths:
(1) an answer from the cache is, byte for byte, what the tables say at the position that it names;
(2) it is taken only if it is of the generation that the tables were last seen at, and not older than anything that
    this process has read: so ``as_of`` never goes back because of the cache;
(3) that something is not there, and whatever is about a user who stands still, is said by the tables alone;
(4) a cache that is away, or slow, costs the read one time-out now and then; the tables answer.

A leaderboard of days that are bet on changes all the time, so it is rarely in the cache. Then those who ask for it at
once share a read: the first one begun after they asked, never one that was under way.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from projections.caching.circuit_breaker import CircuitBreaker
from projections.caching.port import (
    KINDS,
    NO_BOARD,
    NOTHING,
    WALLET_FIELD,
    AggregateCache,
    Board,
    BoardTicket,
    CacheUnavailable,
    Kind,
    Looked,
    LookedBoard,
    Ticket,
    decoded,
    encoded,
    field_of,
)
from projections.caching.single_flight import SingleFlight
from projections.models import leaderboards, statistics, wallets
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.reads import statements
from projections.reads.documents import Document
from projections.reads.queries import ALL_STATUS, Found, LogEnds, Reads, status_of
from projections.storage.port import ReadModel
from projections.tables.queries import Builder, Query, Rows, UserStatus
from projections.tables.rows import Row

BOARD_MOST: Final = 200
"""Leaders kept: as many as anybody may ask for at once."""

AGGREGATES: Final = (*KINDS, "leaderboard")
OUTCOMES: Final = ("hit", "miss", "behind", "error", "away")
"""What the cache had to say to a read: ``error``, it did not answer; ``away``, nobody asked it; and ``behind``, the
tables were asked after all, because it was not yet at the ``min_position``."""

T = TypeVar("T")
_STATEMENT: Final[Mapping[Kind, tuple[Builder, type[Row]]]] = {
    "wallet": (wallets.assets_statement, AssetRow),
    "statistics": (statistics.statistics_statement, StatisticsRow),
}
_IDENTITY: Final = Query(statements.identity)
_encode_board: Final = msgspec.json.Encoder().encode
_decode_board: Final = msgspec.json.Decoder(list[tuple[str, str]]).decode


class CacheCounts(NamedTuple):
    """``well``: it answered when it was asked last. ``reads``: (aggregate, outcome) → how many."""

    well: bool
    reads: Mapping[tuple[str, str], int]


class CachedReads(Reads):
    """Closes the cache with ``close_cache``."""

    def __init__(self, model: ReadModel, ends: LogEnds, clock: Callable[[], int], cache: AggregateCache) -> None:
        super().__init__(model, ends, clock)
        self._cache = cache
        self.breaker = CircuitBreaker("the cache of aggregates")
        self.counts: Counter[tuple[str, str]] = Counter(
            {(kind, outcome): 0 for kind in AGGREGATES for outcome in OUTCOMES}
        )
        self._generation = ""
        self._seen: dict[int, int] = {}
        self._boards: SingleFlight[Board, tuple[Found, list[tuple[str, int]]]] = SingleFlight()

    def cache_counts(self) -> "CacheCounts":
        return CacheCounts(self.breaker.well, dict(self.counts))

    async def close_cache(self) -> None:
        await self._cache.close()

    # --- one user --------------------------------------------------------------------------------------------------

    async def wallet(self, user_id: str, *, fresh: bool = False) -> Found:
        return await self._aggregate("wallet", user_id, fresh=fresh)

    async def statistics(self, user_id: str, *, fresh: bool = False) -> Found:
        return await self._aggregate("statistics", user_id, fresh=fresh)

    async def _aggregate(self, kind: Kind, user_id: str, *, fresh: bool) -> Found:
        partition = self.partition_of(user_id)

        def may_take(looked: Looked) -> bool:
            return looked.fields is not None and self._may_take(looked.ticket, {partition: looked.seq})

        looked = NOTHING
        if fresh:
            self.counts[kind, "behind"] += 1
        else:
            looked, taken = await self._ask(
                kind, lambda: self._cache.look(kind, partition, user_id), may_take, NOTHING
            )
            if taken:
                return await self._kept(kind, user_id, looked)
        own = {"of_partition": partition, "user": user_id}
        statement, _ = _STATEMENT[kind]
        asks = (Query(statements.user_status, own), Query(statement, own), _IDENTITY)
        status_rows, rows, (identity,) = await self._model.fetch(asks, quick=True)
        user = status_of(user_id, partition, status_rows)
        self._learn(identity)
        if not user.is_open:
            return await self._found(user, None)
        ticket = looked.ticket
        if ticket is not None and ticket.generation == self._generation and user.quarantined_at_us is None:
            fields = _fields(kind, user, rows)
            await self._tell(lambda: self._cache.keep(kind, partition, user_id, ticket, user.seq, fields))
        return await self._found(user, _document(kind, user_id, user.wallet, rows))

    async def _kept(self, kind: Kind, user_id: str, looked: Looked) -> Found:
        assert looked.fields is not None
        # In the order of their fields, which is the tables'.
        rows = {field: decoded(looked.fields[field]) for field in sorted(looked.fields)}
        wallet = rows.pop(WALLET_FIELD, [])
        document = _document(kind, user_id, wallet, [row[1:] for row in rows.values()])
        user = UserStatus(user_id, self.partition_of(user_id), looked.seq, None, wallet)
        return await self._found(user, document)

    async def _found(self, user: UserStatus, document: Document | None, missing: str = "wallet_not_found") -> Found:
        self._see({user.partition: user.seq})
        return await super()._found(user, document, missing)

    # --- leaderboards ----------------------------------------------------------------------------------------------

    async def leaderboard(
        self, name: str, asset: str, at_us: int | None, limit: int, *, fresh: bool = False
    ) -> Found:
        if limit > BOARD_MOST:
            return await super().leaderboard(name, asset, at_us, limit)
        board = Board(name, asset, *self.days_of_board(name, at_us))

        def may_take(looked: LookedBoard) -> bool:
            return looked.document is not None and self._may_take(looked.ticket, dict(enumerate(looked.seqs)))

        looked = NO_BOARD
        if fresh:
            self.counts["leaderboard", "behind"] += 1
        else:
            looked, taken = await self._ask(
                "leaderboard", lambda: self._cache.look_board(board, self._partitions), may_take, NO_BOARD
            )
            if taken:
                return await self._kept_board(board, looked, limit)
        found, values = await self._boards.read(board, lambda: self._read_board(board, looked))
        return Found(leaderboards.document(*board, values[:limit]), "", found.seqs, True, found.lag_ms)

    async def _kept_board(self, board: Board, looked: LookedBoard, limit: int) -> Found:
        assert looked.document is not None
        values = [(user_id, int(value)) for user_id, value in _decode_board(looked.document)[:limit]]
        seqs, oldest_us = await self._status_of_all(list(enumerate(looked.seqs)), [])
        return Found(leaderboards.document(*board, values), "", seqs, True, self._age_ms(oldest_us))

    async def _read_board(self, board: Board, looked: LookedBoard) -> tuple[Found, list[tuple[str, int]]]:
        asks = [*ALL_STATUS, leaderboards.leaders(*board, BOARD_MOST), _IDENTITY]
        checkpoint_rows, quarantine_rows, rows, (identity,) = await self._model.fetch(asks)
        self._learn(identity)
        values = leaderboards.values_of(rows)
        seqs, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        ticket = looked.ticket
        if ticket is not None and ticket.generation == self._generation and not quarantine_rows:
            document = _encode_board([(user_id, str(value)) for user_id, value in values])
            at = list(seqs.values())
            await self._tell(lambda: self._cache.keep_board(board, ticket, at, document))
        return Found(None, "", seqs, True, self._age_ms(oldest_us)), values

    async def _status_of_all(self, checkpoint_rows: Rows, quarantine_rows: Rows) -> tuple[dict[int, int], int | None]:
        standing = await super()._status_of_all(checkpoint_rows, quarantine_rows)
        self._see(standing[0])
        return standing

    # --- what was seen, and the cache that may be away -------------------------------------------------------------

    def _may_take(self, ticket: Ticket | BoardTicket | None, seqs: Mapping[int, int]) -> bool:
        """Whether what the cache has is of the live generation, and not older than what was read."""
        newer = all(seq >= self._seen.get(partition, 0) for partition, seq in seqs.items())
        return newer and ticket is not None and ticket.generation == self._generation

    def _learn(self, identity: Sequence[Any]) -> None:
        number, made_at_us = identity
        generation = f"{number}.{made_at_us}"
        if generation != self._generation:
            self._generation, self._seen = generation, {}

    def _see(self, seqs: Mapping[int, int]) -> None:
        seen = self._seen
        for partition, seq in seqs.items():
            if seq > seen.get(partition, 0):
                seen[partition] = seq

    async def _ask(
        self, kind: str, question: Callable[[], Awaitable[T]], may_take: Callable[[T], bool], without: T
    ) -> tuple[T, bool]:
        """The cache's answer, ``without`` where there is none, and whether it is one to take."""
        if not self.breaker.allows():
            self.counts[kind, "away"] += 1
            return without, False
        try:
            answer = await question()
        except CacheUnavailable as error:
            self.breaker.failed(error)
            self.counts[kind, "error"] += 1
            return without, False
        self.breaker.answered()
        taken = may_take(answer)
        self.counts[kind, "hit" if taken else "miss"] += 1
        return answer, taken

    async def _tell(self, telling: Callable[[], Awaitable[None]]) -> None:
        if self.breaker.allows():
            try:
                await telling()
            except CacheUnavailable as error:
                self.breaker.failed(error)


def _fields(kind: Kind, user: UserStatus, rows: Rows) -> dict[str, bytes]:
    """The aggregate's rows, as whoever folds tells them."""
    _, row_type = _STATEMENT[kind]
    made: list[Row] = [WalletRow(*user.wallet)] if kind == "wallet" else []
    made += [row_type(user.user_id, *row) for row in rows]
    return {field_of(row)[1]: encoded(row) for row in made}


def _document(kind: Kind, user_id: str, wallet: Sequence[Any], rows: Rows) -> Document:
    return wallets.document(wallet, rows) if kind == "wallet" else statistics.document(user_id, rows)
