"""What whoever folds says after a commit, and that nothing of it can fail the folding."""

from collections.abc import Mapping, Sequence

import pytest

from ledger.core.record import Head
from projections.caching.memory import MemoryCache
from projections.caching.port import CONFIRM_S, TOUCHED_MAX, CacheUnavailable, Position, Step, place_of, step_of
from projections.live.memory import MemoryLive
from projections.live.port import Moved, moved_by
from projections.models.accounts import AccountRow
from projections.models.bets import BetRow
from projections.models.history import HistoryRow
from projections.models.leaderboards import LeaderboardRow
from projections.models.statistics import StatisticsRow
from projections.models.wallets import AssetRow, WalletRow
from projections.projecting.post_commit import PostCommit
from projections.storage.port import Checkpoint, Generation, Held, Quarantined, Run
from projections.tables.rows import Row

LIVE = Generation(1, 1, "live", 1_000)
BEFORE, AFTER = Checkpoint(Head(10, "a"), {"wallet": 1}), Checkpoint(Head(12, "b"), {"wallet": 2})
BET = BetRow("u1", "b1", "external", "p", "s", "INR", 5, "open", None, 11, 1, None, None)
ROWS: Sequence[tuple[type[Row], Sequence[Row]]] = [
    (WalletRow, [WalletRow("u2", "open")]),
    (AssetRow, [AssetRow("u1", "GOLD", 1), AssetRow("u1", "INR", 1, 5)]),
    (HistoryRow, [HistoryRow("u1", 1, 11, "INR", "bet_placed", "c", "external", -5, 0, 0, 5, 0, 0, "{}")]),
    (BetRow, [BET]),
    (StatisticsRow, [StatisticsRow("u1", "INR", "external", 1)]),
    (LeaderboardRow, [LeaderboardRow("u1", "INR", 20_001), LeaderboardRow("u1", "INR", 20_000)]),
    (AccountRow, [AccountRow("house/stakes", "INR")]),
]
RUN = Run(3, BEFORE, AFTER, ROWS)


class Told(MemoryCache):
    """What it was told, in order; ``well`` says whether it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[object] = []
        self.well = True

    async def step(self, steps: Sequence[Step]) -> None:
        self._hear(list(steps))

    async def confirm(self, generation: str, places: Mapping[int, Position]) -> None:
        self._hear((generation, dict(places)))

    def _hear(self, what: object) -> None:
        if not self.well:
            raise CacheUnavailable("a test")
        self.heard.append(what)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache() -> Told:
    return Told()


@pytest.fixture
def after(cache: Told, clock: Clock) -> PostCommit:
    return PostCommit(cache, MemoryLive(), clock_s=clock)


def test_a_step_tells_whose_rows_are_what_now_and_which_days_moved() -> None:
    step = step_of(LIVE, RUN)
    assert (step.partition, step.generation, step.anew) == (3, "1.1000", False)
    assert (step.before, step.after) == (place_of(BEFORE), place_of(AFTER))
    assert {user_id: {kind: set(rows) for kind, rows in told.items()} for user_id, told in step.touched.items()} == {
        "u1": {"wallet": {"a:GOLD", "a:INR"}, "statistics": {"s:INR\0external"}},
        "u2": {"wallet": {"w"}},
    }
    assert step.days == [("INR", 20_000), ("INR", 20_001)]


def test_a_place_is_told_apart_by_its_seq_and_by_its_digests() -> None:
    assert place_of(BEFORE) == place_of(Checkpoint(Head(10, "a"), {"wallet": 1}))
    others = [Checkpoint(Head(11, "a"), {"wallet": 1}), Checkpoint(Head(10, "a"), {"wallet": 2}), Checkpoint()]
    assert len({place_of(BEFORE), *map(place_of, others)}) == 4


@pytest.mark.parametrize(
    "run",
    [
        Run(3, BEFORE, AFTER, ROWS, quarantined=[Quarantined(3, "u9", 12, 1, "why")]),
        Run(3, BEFORE, AFTER, ROWS, released=[Held("u9", 12, b"")]),
        Run(3, BEFORE, AFTER, ROWS, free=["u9"]),
        Run(3, BEFORE, AFTER, [(WalletRow, [WalletRow(f"u{number}") for number in range(TOUCHED_MAX + 1)])]),
    ],
)
def test_who_stands_still_or_no_more_and_too_many_at_once_begin_anew(run: Run) -> None:
    step = step_of(LIVE, run)
    assert (step.anew, step.touched, step.days) == (True, {}, [])


def test_a_message_names_users_and_games() -> None:
    assert moved_by(RUN) == Moved(3, 10, 12, {"u1": ("balance", "bet"), "u2": ("balance",)}, ("external",))
    many = Run(3, BEFORE, AFTER, [(WalletRow, [WalletRow(f"u{number}") for number in range(3_000)])])
    assert moved_by(many) == Moved(3, 10, 12, anybody=True)


async def test_what_the_tables_say_is_confirmed_at_once_and_then_every_so_often(
    after: PostCommit, cache: Told, clock: Clock
) -> None:
    await after.standing(LIVE, {3: BEFORE})
    await after.idle()
    assert cache.heard == [("1.1000", {3: place_of(BEFORE)})]
    clock.now_s += CONFIRM_S
    await after.idle()
    await after.idle()
    assert cache.heard == [("1.1000", {3: place_of(BEFORE)})] * 2


async def test_a_commit_is_told_and_confirmed_from_then_on(after: PostCommit, cache: Told, clock: Clock) -> None:
    await after.standing(LIVE, {2: BEFORE, 3: BEFORE})
    await after.touched(LIVE, [RUN])
    clock.now_s += CONFIRM_S
    await after.idle()
    assert cache.heard[1:] == [[step_of(LIVE, RUN)], ("1.1000", {2: place_of(BEFORE), 3: place_of(AFTER)})]


async def test_who_had_to_forget_confirms_nothing(after: PostCommit, cache: Told, clock: Clock) -> None:
    await after.standing(LIVE, {3: BEFORE})
    after.forget()
    clock.now_s += CONFIRM_S
    await after.idle()
    assert len(cache.heard) == 1


async def test_a_cache_that_is_away_is_left_alone_for_a_moment(after: PostCommit, cache: Told, clock: Clock) -> None:
    cache.well = False
    await after.standing(LIVE, {3: BEFORE})
    await after.touched(LIVE, [RUN])
    cache.well = True
    await after.touched(LIVE, [RUN])
    assert cache.heard == []
    clock.now_s += 10
    await after.idle()
    assert cache.heard == [("1.1000", {3: place_of(AFTER)})]


async def test_a_commit_is_heard_by_who_listens_and_now_and_then_where_a_partition_is(clock: Clock) -> None:
    live = MemoryLive()
    after = PostCommit(MemoryCache(), live, clock_s=clock)
    async with live.subscribe([3]) as heard:
        await after.standing(LIVE, {3: BEFORE})
        await after.touched(LIVE, [RUN])
        assert await anext(heard) == moved_by(RUN)
    await after.close()
