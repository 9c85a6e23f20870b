"""The cache of aggregates: the rows behind a wallet, its statistics and the leaderboards, kept beside the read model.

Truths:
(1) a partition has a *mark*: "complete up to this place of this generation". Whoever folds moves it, after a commit,
    from the place before to the place after, and changes the kept rows of whoever the run touched in the same step;
    so a user whom no step touched is known to be as it was;
(2) where the mark is not at the place where a step begins, a new *epoch* begins where it ends: somebody died between
    commit and step, or the cache lost its latest writes. What was kept in another epoch is never answered;
(3) what a reader read is kept only in the epoch that it looked at before, and only if nothing that was told since
    then changed it; an older value never overwrites a newer one;
(4) a mark is trusted only while whoever folds confirms it: one that nobody has confirmed for ``TRUST_S`` answers
    nothing, so what the cache says is never older than that beside the read model;
(5) an answer names the generation it is of. A reader takes it only if that is the generation it last saw live.

Losing the cache costs time only. Each adapter passes ``tests/conformance/test_caches.py``.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec
from msgspec import Struct

from ledger.ports import LedgerError
from projections.models.leaderboards import LeaderboardRow
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.port import Checkpoint, Generation, Run
from projections.tables.rows import Row

Kind = Literal["wallet", "statistics"]
"""Aggregates of one user; the rows of each are kept and lost together."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

TRUST_S: Final = 1.0
"""How long a mark counts without being confirmed. Chosen: four confirmations, and for a reader still a moment."""
CONFIRM_S: Final = 0.25
KEPT_S: Final = 3_600.0
"""How long the rows of a user stay after they were read from the tables. Chosen: an evening at play is one read."""
RECENT_MAX: Final = 4_000
"""Users of a partition of whom it is known when they were touched last, for readers of a standby that is behind."""
TOUCHED_MAX: Final = 2_000
"""A run that touches more users begins a new epoch: it is catching up, and a step must not hold Redis up for long."""

Fields = Mapping[str, bytes]
"""An aggregate's rows, encoded, by their place in it (``field_of``)."""
Day = tuple[str, int]
"""Asset and day since 1970: what leaderboards are added up from."""


class CacheUnavailable(LedgerError):
    """The cache did not answer; what it was told may have been done or not."""


class Position(NamedTuple):
    """Up to which event a partition's rows are true; ``tag`` is of their digests: rows may move while seq stays."""

    seq: int
    tag: str


class Step(Struct, frozen=True):
    """What a committed run changed in a partition's aggregates. ``anew``: whatever is kept may be wrong after it."""

    partition: int
    generation: str
    before: Position
    after: Position
    touched: Mapping[str, Mapping[Kind, Fields]]
    """User → aggregate → the rows that it has now in place of what was there."""
    days: Sequence[Day]
    """Those whose standings changed."""
    anew: bool = False


class Ticket(NamedTuple):
    """What a reader must show to have kept what it reads after it looked."""

    generation: str
    epoch: str


class Looked(NamedTuple):
    """``fields`` is None where nothing is kept; else they are true at ``seq``. Without a ``ticket`` there is no mark
    to be trusted, and nothing can be kept."""

    ticket: Ticket | None
    seq: int
    fields: Fields | None


class BoardTicket(NamedTuple):
    """As ``Ticket``, of all partitions: ``state`` tells all epochs and when each day changed; ``seqs`` the marks."""

    generation: str
    state: str
    seqs: tuple[int, ...]


class LookedBoard(NamedTuple):
    """``document`` is None where nothing is kept; else it is true at ``seqs``, a seq a partition."""

    ticket: BoardTicket | None
    seqs: tuple[int, ...]
    document: bytes | None


class Board(NamedTuple):
    """A leaderboard: its standings are of ``first_day`` ≤ day < ``end_day``."""

    name: str
    asset: str
    first_day: int
    end_day: int


NOTHING: Final = Looked(None, 0, None)
NO_BOARD: Final = LookedBoard(None, (), None)


class AggregateCache(Protocol):
    """All methods raise CacheUnavailable. Every one may be called late, twice, or in another order than meant: that
    costs hits, and never makes an answer wrong."""

    async def step(self, steps: Sequence[Step]) -> None:
        """The runs are in the tables. Steps of one partition in their order."""
        ...

    async def confirm(self, generation: str, places: Mapping[int, Position]) -> None:
        """Partition → where its rows are, by the tables: what ``step`` has said all of is trusted further."""
        ...

    async def look(self, kind: Kind, partition: int, user_id: str) -> Looked: ...

    async def keep(self, kind: Kind, partition: int, user_id: str, ticket: Ticket, seq: int, fields: Fields) -> None:
        """``fields``: all rows of the aggregate, as the tables had them at ``seq``, read after the look."""
        ...

    async def look_board(self, board: Board, partitions: int) -> LookedBoard: ...

    async def keep_board(self, board: Board, ticket: BoardTicket, seqs: Sequence[int], document: bytes) -> None:
        """``seqs``: of each partition, where the tables were when the document was read, after the look."""
        ...

    async def close(self) -> None:
        """Release everything. Closing again is harmless."""
        ...


# --- what a run says ---------------------------------------------------------------------------------------------

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[str | int | None]).decode
_TAG_BYTES: Final = 8


def place_of(checkpoint: Checkpoint) -> Position:
    digests = sorted(checkpoint.digests.items())
    tag = blake2b(repr(digests).encode(), digest_size=_TAG_BYTES).hexdigest()
    return Position(checkpoint.head.seq, tag)


def step_of(generation: Generation, run: Run) -> Step:
    """What the cache must know of a run that is committed."""
    touched: dict[str, dict[Kind, dict[str, bytes]]] = {}
    days: set[Day] = set()
    for kind, rows in run.rows:
        if kind is LeaderboardRow:
            days.update((row.asset, row.day) for row in rows if isinstance(row, LeaderboardRow))
        elif (aggregate := _AGGREGATE_OF.get(kind)) is not None:
            for row in rows:
                user_id, field = field_of(row)
                touched.setdefault(user_id, {}).setdefault(aggregate, {})[field] = encoded(row)
    # Whoever stands still, or does so no more, has rows that are true elsewhere than everybody's.
    anew = bool(run.quarantined or run.released or run.free) or len(touched) > TOUCHED_MAX
    if anew:
        touched, days = {}, set()
    before, after = place_of(run.before), place_of(run.after)
    return Step(run.partition, generation.identity, before, after, touched, sorted(days), anew)


_AGGREGATE_OF: Final[Mapping[type[Row], Kind]] = {
    WalletRow: "wallet",
    AssetRow: "wallet",
    StatisticsRow: "statistics",
}


def field_of(row: Row) -> tuple[str, str]:
    """Whose the row is, and its place in the aggregate; fields sort as the tables sort the rows."""
    match row:
        case WalletRow():
            return row.user_id, WALLET_FIELD
        case AssetRow():
            return row.user_id, f"a:{row.asset}"
        case StatisticsRow():
            return row.user_id, f"s:{row.asset}\0{row.game}"
        case _:
            raise AssertionError(f"{type(row).__name__} is in no aggregate of one user")


WALLET_FIELD: Final = "w"


def encoded(row: Row) -> bytes:
    return _encode(row)


def decoded(field: bytes) -> list[str | int | None]:
    """The row's members."""
    return _decode(field)
