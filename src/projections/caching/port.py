"""The cache of aggregates: the rows of a wallet, its statistics and the leaderboards, kept next to the read model.

Invariants:
(1) Each partition has a *mark*: "complete up to this version of the rows, in this generation". The projector moves
    the mark after each commit, and in the same step updates the cached rows of every user that the commit changed. So
    the rows of all other users are known to be unchanged.
(2) If an update does not begin at the mark, an update was lost: a projector died between its commit and its update,
    or Redis lost its latest writes. Then a new *epoch* begins, and rows of earlier epochs are never returned.
(3) A reader puts rows into the cache only in the epoch that its own ``get`` returned, and only if no update since
    then changed these rows. Older rows never overwrite newer ones.
(4) A mark counts only while a projector confirms it. After ``TRUST_S`` without a confirmation the cache returns
    nothing, so its rows are at most that much older than the tables.
(5) Each result names its generation. A reader uses it only if that is the generation that it last saw live.

Losing the cache costs time only. Each adapter passes ``tests/conformance/test_caches.py``.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec
from msgspec import Struct

from ledger.errors import LedgerError
from projections.models.leaderboards import Board, EndedRow, StandingRow
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.port import Checkpoint, Generation, Run
from projections.tables.rows import Row

Kind = Literal["wallet", "statistics"]
"""The aggregates of one user. The rows of an aggregate are cached and dropped together."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

TRUST_S: Final = 1.0
"""How long a mark counts without a confirmation. Chosen: four confirmations, and a short time for a reader."""
CONFIRM_S: Final = 0.25
"""How often a projector confirms its marks."""
TTL_S: Final = 3_600.0
"""How long the rows of a user stay in the cache. Chosen: an evening of play costs one read from the tables."""
RECENT_MAX: Final = 4_000
"""Users of a partition whose last change is remembered, for readers of a database replica that is behind."""
CHANGED_USERS_MAX: Final = 2_000
"""A commit that changes more users begins a new epoch: the projector is catching up, and one update must not block
Redis for long."""

Fields = Mapping[str, bytes]
"""The encoded rows of an aggregate, by field name (``field_of``)."""
Day = tuple[str, int]
"""Asset, and day since 1970. A leaderboard is a sum over days."""


class CacheUnavailable(LedgerError):
    """The cache did not respond. The last call may or may not have taken effect."""


class RowsVersion(NamedTuple):
    """The version of a partition's rows. ``tag`` is made of their digests, because rows can change while seq
    stays."""

    seq: int
    tag: str


class CacheUpdate(Struct, frozen=True):
    """What a committed run changed in a partition's aggregates. ``reset``: cached rows may be wrong after it."""

    partition: int
    generation: str
    before: RowsVersion
    after: RowsVersion
    changed: Mapping[str, Mapping[Kind, Fields]]
    """User → aggregate → the rows that are new or changed."""
    changed_days: Sequence[Day]
    """The days whose leaderboards changed."""
    reset: bool = False


class PutToken(NamedTuple):
    """Returned by ``get``; ``put`` needs it to prove that the rows were read afterwards."""

    generation: str
    epoch: str


class CachedRows(NamedTuple):
    """``fields`` is None if nothing is cached; otherwise the rows are true at ``seq``. ``token`` is None if there is
    no trusted mark; then nothing can be put."""

    token: PutToken | None
    seq: int
    fields: Fields | None


class BoardPutToken(NamedTuple):
    """Like ``PutToken``, for all partitions. ``state`` names all epochs and the last change of each day; ``seqs`` are
    the marks."""

    generation: str
    state: str
    seqs: tuple[int, ...]


class CachedBoard(NamedTuple):
    """``document`` is None if nothing is cached; otherwise it is true at ``seqs``, one seq for each partition."""

    token: BoardPutToken | None
    seqs: tuple[int, ...]
    document: bytes | None


MISS: Final = CachedRows(None, 0, None)
BOARD_MISS: Final = CachedBoard(None, (), None)


class AggregateCache(Protocol):
    """All methods raise CacheUnavailable. A call that comes late, twice or out of order costs cache hits, but never
    makes a result wrong."""

    async def apply(self, updates: Sequence[CacheUpdate]) -> None:
        """These runs are committed. Updates of one partition are in commit order."""
        ...

    async def confirm(self, generation: str, versions: Mapping[int, RowsVersion]) -> None:
        """Partition → version of its rows in the tables. A mark at that version is trusted for another ``TRUST_S``;
        any other mark begins a new epoch."""
        ...

    async def get(self, kind: Kind, partition: int, user_id: str) -> CachedRows: ...

    async def put(self, kind: Kind, partition: int, user_id: str, token: PutToken, seq: int, fields: Fields) -> None:
        """``fields``: all rows of the aggregate, read from the tables at ``seq`` after the ``get``."""
        ...

    async def get_board(self, board: Board, partitions: int) -> CachedBoard: ...

    async def put_board(self, board: Board, token: BoardPutToken, seqs: Sequence[int], document: bytes) -> None:
        """``seqs``: the seq of each partition at which the document was read, after the ``get_board``."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


# --- from a run to an update ----------------------------------------------------------------------------------------

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[str | int | None]).decode
_TAG_BYTES: Final = 8


def rows_version_of(checkpoint: Checkpoint) -> RowsVersion:
    digests = sorted(checkpoint.digests.items())
    tag = blake2b(repr(digests).encode(), digest_size=_TAG_BYTES).hexdigest()
    return RowsVersion(checkpoint.head.seq, tag)


def update_of(generation: Generation, run: Run) -> CacheUpdate:
    """The update that a committed run makes."""
    changed: dict[str, dict[Kind, dict[str, bytes]]] = {}
    days: set[Day] = set()
    for kind, rows in run.rows:
        if kind is StandingRow:
            days.update((row.asset, row.day) for row in rows if isinstance(row, StandingRow))
        elif kind is EndedRow:
            days.update((row.asset, row.first_day) for row in rows if isinstance(row, EndedRow) if row.span == "day")
        elif (aggregate := _AGGREGATE_OF.get(kind)) is not None:
            for row in rows:
                user_id, field = field_of(row)
                changed.setdefault(user_id, {}).setdefault(aggregate, {})[field] = encoded(row)
    # The rows of a quarantined user are true at an older position than the partition's mark says.
    reset = bool(run.quarantined or run.released or run.free) or len(changed) > CHANGED_USERS_MAX
    if reset:
        changed, days = {}, set()
    before, after = rows_version_of(run.before), rows_version_of(run.after)
    return CacheUpdate(run.partition, generation.identity, before, after, changed, sorted(days), reset)


_AGGREGATE_OF: Final[Mapping[type[Row], Kind]] = {
    WalletRow: "wallet",
    AssetRow: "wallet",
    StatisticsRow: "statistics",
}


def field_of(row: Row) -> tuple[str, str]:
    """The row's user, and its field name in the aggregate. Field names sort in the order of the tables' keys."""
    match row:
        case WalletRow():
            return row.user_id, WALLET_FIELD
        case AssetRow():
            return row.user_id, f"a:{row.asset}"
        case StatisticsRow():
            return row.user_id, f"s:{row.asset}\0{row.game}"
        case _:
            raise AssertionError(f"{type(row).__name__} belongs to no aggregate of one user")


WALLET_FIELD: Final = "w"


def encoded(row: Row) -> bytes:
    return _encode(row)


def decoded(field: bytes) -> list[str | int | None]:
    """The row's members."""
    return _decode(field)
