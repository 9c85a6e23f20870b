"""The post-commit hooks: their cache updates and messages, and that they never make folding fail."""

from collections.abc import Mapping, Sequence

import pytest

from conformance.memory_cache import MemoryCache
from ledger.core.record import Head
from projections.caching.port import (
    CHANGED_USERS_MAX,
    CONFIRM_S,
    CacheUnavailable,
    CacheUpdate,
    RowsVersion,
    rows_version_of,
    update_of,
)
from projections.live.memory import MemoryLiveFeed
from projections.live.port import Change, change_of
from projections.models.accounts import AccountRow
from projections.models.bets import BetRow
from projections.models.history import HistoryRow
from projections.models.leaderboards import EndedRow, StandingRow
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Checkpoint, Generation, Quarantined, QuarantinedEvent, Run
from projections.tables.rows import Row

LIVE = Generation(1, 1, "live", 1_000)
BEFORE, AFTER = Checkpoint(Head(10, "a"), {"wallet": 1}), Checkpoint(Head(12, "b"), {"wallet": 2})
BET = BetRow("u1", "b1", "external", "p", "s", "INR", 5, "open", None, 11, 1, None, None)
ROWS: Sequence[tuple[type[Row], Sequence[Row]]] = [
    (WalletRow, [WalletRow("u2", "open")]),
    (AssetRow, [AssetRow("u1", "GOLD", 1), AssetRow("u1", "INR", 1, 5)]),
    (HistoryRow, [HistoryRow("u1", 1, 11, "INR", "bet_placed", "external", "c", -5, 0, 0, 5, 0, 0, "{}")]),
    (BetRow, [BET]),
    (StatisticsRow, [StatisticsRow("u1", "INR", "external", 1)]),
    (StandingRow, [StandingRow("u1", "INR", 20_001, 19_996, 19_990)]),
    (EndedRow, [EndedRow("u1", "INR", "day", 20_000), EndedRow("u1", "INR", "week", 19_989)]),
    (AccountRow, [AccountRow("house/stakes", "INR")]),
]
RUN = Run(3, BEFORE, AFTER, ROWS)


class RecordingCache(MemoryCache):
    """Records its calls in order; raises CacheUnavailable unless ``available``."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []
        self.available = True

    async def apply(self, updates: Sequence[CacheUpdate]) -> None:
        self._record(list(updates))

    async def confirm(self, generation: str, versions: Mapping[int, RowsVersion]) -> None:
        self._record((generation, dict(versions)))

    def _record(self, call: object) -> None:
        if not self.available:
            raise CacheUnavailable("a test")
        self.calls.append(call)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache() -> RecordingCache:
    return RecordingCache()


@pytest.fixture
def hooks(cache: RecordingCache, clock: Clock) -> PostCommit:
    return PostCommit(cache, MemoryLiveFeed(), clock_s=clock)


def test_an_update_has_the_changed_rows_and_the_changed_days() -> None:
    update = update_of(LIVE, RUN)
    assert (update.partition, update.generation, update.reset) == (3, "1.1000", False)
    assert (update.before, update.after) == (rows_version_of(BEFORE), rows_version_of(AFTER))
    assert {
        user_id: {kind: set(rows) for kind, rows in changed.items()} for user_id, changed in update.changed.items()
    } == {
        "u1": {"wallet": {"a:GOLD", "a:INR"}, "statistics": {"s:INR\0external"}},
        "u2": {"wallet": {"w"}},
    }
    assert update.changed_days == [("INR", 20_000), ("INR", 20_001)]


def test_versions_differ_by_seq_and_by_digests() -> None:
    assert rows_version_of(BEFORE) == rows_version_of(Checkpoint(Head(10, "a"), {"wallet": 1}))
    others = [Checkpoint(Head(11, "a"), {"wallet": 1}), Checkpoint(Head(10, "a"), {"wallet": 2}), Checkpoint()]
    assert len({rows_version_of(BEFORE), *map(rows_version_of, others)}) == 4


@pytest.mark.parametrize(
    "run",
    [
        Run(3, BEFORE, AFTER, ROWS, quarantined=[Quarantined(3, "u9", 12, 1, "why")]),
        Run(3, BEFORE, AFTER, ROWS, released=[QuarantinedEvent("u9", 12, b"")]),
        Run(3, BEFORE, AFTER, ROWS, free=["u9"]),
        Run(3, BEFORE, AFTER, [(WalletRow, [WalletRow(f"u{number}") for number in range(CHANGED_USERS_MAX + 1)])]),
    ],
)
def test_a_changed_quarantine_and_too_many_changed_users_reset_the_cache(run: Run) -> None:
    update = update_of(LIVE, run)
    assert (update.reset, update.changed, update.changed_days) == (True, {}, [])


def test_a_message_names_users_and_games() -> None:
    assert change_of(RUN) == Change(3, 10, 12, {"u1": ("balance", "bet"), "u2": ("balance",)}, ("external",))
    many = Run(3, BEFORE, AFTER, [(WalletRow, [WalletRow(f"u{number}") for number in range(3_000)])])
    assert change_of(many) == Change(3, 10, 12, all_users=True)


async def test_the_versions_are_confirmed_at_once_and_then_periodically(
    hooks: PostCommit, cache: RecordingCache, clock: Clock
) -> None:
    await hooks.started(LIVE, {3: BEFORE})
    await hooks.idle()
    assert cache.calls == [("1.1000", {3: rows_version_of(BEFORE)})]
    clock.now_s += CONFIRM_S
    await hooks.idle()
    await hooks.idle()
    assert cache.calls == [("1.1000", {3: rows_version_of(BEFORE)})] * 2


async def test_a_commit_updates_the_cache_and_is_confirmed_from_then_on(
    hooks: PostCommit, cache: RecordingCache, clock: Clock
) -> None:
    await hooks.started(LIVE, {2: BEFORE, 3: BEFORE})
    await hooks.committed(LIVE, [RUN])
    clock.now_s += CONFIRM_S
    await hooks.idle()
    assert cache.calls[1:] == [
        [update_of(LIVE, RUN)],
        ("1.1000", {2: rows_version_of(BEFORE), 3: rows_version_of(AFTER)}),
    ]


async def test_after_forget_nothing_is_confirmed(hooks: PostCommit, cache: RecordingCache, clock: Clock) -> None:
    await hooks.started(LIVE, {3: BEFORE})
    hooks.forget()
    clock.now_s += CONFIRM_S
    await hooks.idle()
    assert len(cache.calls) == 1


async def test_an_unavailable_cache_is_not_used_for_a_moment(
    hooks: PostCommit, cache: RecordingCache, clock: Clock
) -> None:
    cache.available = False
    await hooks.started(LIVE, {3: BEFORE})
    await hooks.committed(LIVE, [RUN])
    cache.available = True
    await hooks.committed(LIVE, [RUN])
    assert cache.calls == []
    clock.now_s += 10
    await hooks.idle()
    assert cache.calls == [("1.1000", {3: rows_version_of(AFTER)})]


async def test_subscribers_get_each_commit_and_the_positions(clock: Clock) -> None:
    live = MemoryLiveFeed()
    hooks = PostCommit(MemoryCache(), live, clock_s=clock)
    async with live.subscribe([3]) as feed:
        await hooks.started(LIVE, {3: BEFORE})
        await hooks.committed(LIVE, [RUN])
        assert await anext(feed) == change_of(RUN)
    await hooks.close()
