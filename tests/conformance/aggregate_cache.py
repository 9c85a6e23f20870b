"""What every cache of aggregates must do. An adapter passes if a subclass of ``AggregateCacheContract`` passes.

The subclass has a fixture ``open_cache``. Each call opens one more cache on the same storage, which is empty at
first; its argument is for how long the cache trusts a mark.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from projections.caching.port import (
    MISS,
    AggregateCache,
    BoardPutToken,
    CachedBoard,
    CacheUpdate,
    Day,
    Fields,
    Kind,
    PutToken,
    RowsVersion,
)
from projections.models.leaderboards import Board

GENERATION: Final = "1.1000"
OTHER: Final = "2.2000"
LONG_S: Final = 60.0
SHORT_S: Final = 0.1
DAY: Final[Day] = ("INR", 20_000)
BOARD: Final = Board("net_day", "INR", 20_000, 20_001)
WEEK: Final = Board("net_week", "INR", 19_996, 20_003)
PARTITIONS: Final = 2

OpenCache = Callable[[float], AggregateCache]


def version(seq: int, tag: str = "") -> RowsVersion:
    return RowsVersion(seq, tag or f"t{seq}")


def update(
    before: int,
    after: int,
    changed: Mapping[str, Mapping[Kind, Fields]] | None = None,
    *,
    changed_days: tuple[Day, ...] = (),
    partition: int = 0,
    generation: str = GENERATION,
    reset: bool = False,
) -> CacheUpdate:
    return CacheUpdate(partition, generation, version(before), version(after), changed or {}, changed_days, reset)


def wallet(cash: int) -> Fields:
    return {"w": b"[]", "a:INR": b"%d" % cash}


async def put(cache: AggregateCache, user_id: str, seq: int, fields: Fields, partition: int = 0) -> None:
    """Read at ``seq`` and put into the cache, as a reader does it."""
    found = await cache.get("wallet", partition, user_id)
    assert found.token is not None
    await cache.put("wallet", partition, user_id, found.token, seq, fields)


async def confirmed(cache: AggregateCache, seq: int = 10, generation: str = GENERATION) -> None:
    """Confirm that all partitions are folded up to this seq."""
    await cache.confirm(generation, dict.fromkeys(range(PARTITIONS), version(seq)))


class AggregateCacheContract:
    """The tests; ``open_cache`` comes from the subclass."""

    @pytest.fixture
    def cache(self, open_cache: OpenCache) -> AggregateCache:
        return open_cache(LONG_S)

    # --- cached rows, and the seq at which they are true ------------------------------------------------------------

    async def test_an_empty_cache_knows_nothing(self, cache: AggregateCache) -> None:
        assert await cache.get("wallet", 0, "u1") == MISS

    async def test_rows_that_were_read_at_the_mark_are_returned(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        assert (await cache.get("wallet", 0, "u1")).fields is None
        await put(cache, "u1", 10, wallet(5))
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (10, wallet(5))
        assert found.token is not None
        assert found.token.generation == GENERATION

    async def test_an_aggregate_without_rows_is_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get("statistics", 0, "u1")
        assert found.token is not None
        await cache.put("statistics", 0, "u1", found.token, 10, {})
        assert (await cache.get("statistics", 0, "u1")).fields == {}
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_rows_that_an_update_did_not_change_are_true_after_it(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(10, 12, {"u2": {"wallet": wallet(1)}})])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (12, wallet(5))
        assert (await cache.get("wallet", 0, "u2")).fields is None, "a part of an aggregate is not cached"

    async def test_an_update_changes_the_cached_rows(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, {**wallet(5), "a:GOLD": b"7"})
        await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"6", "a:USDT": b"1"}}})])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (12, {"w": b"[]", "a:INR": b"6", "a:GOLD": b"7", "a:USDT": b"1"})

    async def test_partitions_are_independent(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5), partition=1)
        await cache.apply([update(10, 12), update(9, 11, partition=1)])
        assert (await cache.get("wallet", 0, "u0")).seq == 12
        assert (await cache.get("wallet", 1, "u1")).fields is None, "an update of this partition was lost"

    async def test_several_updates_are_applied_in_order(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply(
            [update(10, 11, {"u1": {"wallet": {"a:INR": b"1"}}}), update(11, 12, {"u1": {"wallet": {"a:INR": b"2"}}})]
        )
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (12, wallet(2))

    # --- lost, repeated and reordered updates -----------------------------------------------------------------------

    async def test_after_a_lost_update_no_earlier_rows_are_returned(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(12, 13)])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (13, None)

    async def test_a_confirmation_of_a_later_version_drops_earlier_rows(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await confirmed(cache, 12)
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_rows_that_changed_at_the_same_seq_are_detected_by_their_digests(
        self, cache: AggregateCache
    ) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.confirm(GENERATION, {0: version(10, "other rows")})
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_an_update_from_other_rows_at_the_same_seq_drops_earlier_rows(self, cache: AggregateCache) -> None:
        await cache.confirm(GENERATION, {0: version(10, "other rows")})
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(10, 12)])
        assert (await cache.get("wallet", 0, "u1"))[1:] == (12, None)

    async def test_an_update_that_comes_twice_is_applied_once(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        updates = [update(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})]
        await cache.apply(updates)
        await cache.apply(updates)
        assert (await cache.get("wallet", 0, "u1")).fields == wallet(6)

    async def test_a_late_update_changes_nothing(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        old: Mapping[str, Mapping[Kind, Fields]] = {"u1": {"wallet": {"a:INR": b"6"}}}
        new: Mapping[str, Mapping[Kind, Fields]] = {"u1": {"wallet": {"a:INR": b"7"}}}
        await cache.apply([update(10, 12, old)])
        await cache.apply([update(12, 13, new)])
        await cache.apply([update(10, 12, old)])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (13, wallet(7))

    async def test_updates_in_the_wrong_order_drop_earlier_rows(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(12, 13)])
        await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (13, None)

    async def test_a_late_confirmation_changes_nothing(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await cache.apply([update(10, 12)])
        await put(cache, "u1", 12, wallet(5))
        await confirmed(cache, 10)
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (12, wallet(5))

    async def test_an_update_with_reset_drops_all_rows(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(10, 12, reset=True)])
        found = await cache.get("wallet", 0, "u1")
        assert (found.seq, found.fields) == (12, None)
        await put(cache, "u1", 12, wallet(5))
        await cache.apply([update(12, 12, reset=True)])
        assert (await cache.get("wallet", 0, "u1")).fields is None

    # --- late readers ------------------------------------------------------------------------------------

    async def test_rows_read_before_an_update_that_changed_them_are_not_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        await cache.put("wallet", 0, "u1", found.token, 10, wallet(5))
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_rows_read_before_an_update_that_did_not_change_them_are_cached(
        self, cache: AggregateCache
    ) -> None:
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        await cache.apply([update(10, 12, {"u2": {"wallet": {"a:INR": b"6"}}})])
        await cache.put("wallet", 0, "u1", found.token, 10, wallet(5))
        assert (await cache.get("wallet", 0, "u1"))[1:] == (12, wallet(5))

    async def test_rows_read_in_another_epoch_are_not_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        await cache.apply([update(12, 13)])
        await cache.put("wallet", 0, "u1", found.token, 13, wallet(5))
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_rows_read_before_the_epoch_began_are_not_cached(self, cache: AggregateCache) -> None:
        """As from a database replica that is behind: the users that earlier updates changed are not known."""
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        await cache.put("wallet", 0, "u1", found.token, 9, wallet(4))
        assert (await cache.get("wallet", 0, "u1")).fields is None

    async def test_older_rows_never_overwrite_newer_ones(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        await cache.put("wallet", 0, "u1", found.token, 14, wallet(6))
        await cache.put("wallet", 0, "u1", found.token, 10, wallet(5))
        assert (await cache.get("wallet", 0, "u1"))[1:] == (14, wallet(6))

    async def test_rows_read_beyond_the_mark_survive_the_updates_that_they_contain(
        self, cache: AggregateCache
    ) -> None:
        await confirmed(cache)
        await put(cache, "u1", 14, wallet(6))
        await cache.apply([update(10, 12, {"u1": {"wallet": {"a:INR": b"5"}}})])
        assert (await cache.get("wallet", 0, "u1"))[1:] == (14, wallet(6))
        await cache.apply([update(12, 14, {"u1": {"wallet": {"a:INR": b"6"}}})])
        assert (await cache.get("wallet", 0, "u1"))[1:] == (14, wallet(6))
        await cache.apply([update(14, 15, {"u1": {"wallet": {"a:INR": b"7"}}})])
        assert (await cache.get("wallet", 0, "u1"))[1:] == (15, wallet(7))

    async def test_no_rows_are_returned_that_are_older_than_what_a_reader_has_read(
        self, cache: AggregateCache
    ) -> None:
        """The mark is behind the tables for a moment. A client that has read the tables must not go back."""
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await put(cache, "u2", 14, wallet(6))
        assert (await cache.get("wallet", 0, "u1")).fields is None
        assert (await cache.get("wallet", 0, "u2"))[1:] == (14, wallet(6))
        await cache.apply([update(10, 14)])
        assert (await cache.get("wallet", 0, "u1"))[1:] == (14, wallet(5))

    # --- generations -----------------------------------------------------------------------------------------------

    async def test_another_generation_shares_nothing(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await confirmed(cache, 10, OTHER)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        assert (found.token.generation, found.fields) == (OTHER, None)

    async def test_an_update_of_another_generation_shares_nothing_although_it_begins_at_the_same_version(
        self, cache: AggregateCache
    ) -> None:
        """After a rebuild, whose rows have the same digests."""
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await cache.apply([update(10, 12, generation=OTHER)])
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        assert (found.token.generation, found.seq, found.fields) == (OTHER, 12, None)

    async def test_rows_read_from_another_generation_are_not_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get("wallet", 0, "u1")
        assert found.token is not None
        for token in (PutToken(OTHER, found.token.epoch), found.token._replace(epoch="other")):
            await cache.put("wallet", 0, "u1", token, 10, wallet(5))
        assert (await cache.get("wallet", 0, "u1")).fields is None

    # --- trust -----------------------------------------------------------------------------------------------------

    async def test_a_mark_without_a_confirmation_is_not_trusted(self, open_cache: OpenCache) -> None:
        cache, patient = open_cache(SHORT_S), open_cache(LONG_S)
        await confirmed(cache)
        await put(cache, "u1", 10, wallet(5))
        await asyncio.sleep(2 * SHORT_S)  # the test is about the passing of time
        assert await cache.get("wallet", 0, "u1") == MISS
        assert (await cache.get_board(BOARD, PARTITIONS)).token is None
        assert (await patient.get("wallet", 0, "u1")).fields == wallet(5)
        await confirmed(cache)
        assert (await cache.get("wallet", 0, "u1")).fields == wallet(5), "and is trusted again after a confirmation"

    # --- leaderboards ----------------------------------------------------------------------------------------------

    async def put_board(self, cache: AggregateCache, board: Board, seqs: tuple[int, ...] = (10, 10)) -> BoardPutToken:
        found = await cache.get_board(board, PARTITIONS)
        assert found.token is not None
        await cache.put_board(board, found.token, seqs, b"document")
        return found.token

    async def test_a_board_is_returned_until_one_of_its_days_changes(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await self.put_board(cache, BOARD)
        await cache.apply([update(10, 12, changed_days=(("INR", 20_001), ("GOLD", 20_000)))])
        assert (await cache.get_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")
        await cache.apply([update(10, 11, changed_days=(DAY,), partition=1)])
        found = await cache.get_board(BOARD, PARTITIONS)
        assert found[1:] == ((12, 11), None)

    async def test_a_weekly_board_changes_with_each_of_its_days(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await self.put_board(cache, WEEK)
        await cache.apply([update(10, 11, changed_days=(("INR", 20_003), ("INR", 19_995)))])
        assert (await cache.get_board(WEEK, PARTITIONS)).document == b"document"
        await cache.apply([update(11, 12, changed_days=(("INR", 20_002),))])
        assert (await cache.get_board(WEEK, PARTITIONS)).document is None

    async def test_a_board_read_before_its_day_changed_is_not_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        found = await cache.get_board(BOARD, PARTITIONS)
        assert found.token is not None
        await cache.apply([update(10, 12, changed_days=(DAY,))])
        await cache.put_board(BOARD, found.token, (10, 10), b"old")
        assert (await cache.get_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_read_behind_the_marks_is_not_cached(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await self.put_board(cache, BOARD, (10, 9))
        assert (await cache.get_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_of_another_epoch_is_not_returned(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await self.put_board(cache, BOARD)
        await cache.apply([update(11, 12, partition=1)])
        assert (await cache.get_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_of_another_generation_is_not_returned(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        token = await self.put_board(cache, BOARD)
        await cache.confirm(OTHER, {0: version(10)})
        assert (await cache.get_board(BOARD, PARTITIONS)).token is None, "the partitions are of two generations"
        await confirmed(cache, 10, OTHER)
        await cache.put_board(BOARD, token, (10, 10), b"old")
        assert (await cache.get_board(BOARD, PARTITIONS)).document is None

    async def test_no_board_is_returned_that_is_older_than_what_a_reader_has_read(
        self, cache: AggregateCache
    ) -> None:
        await confirmed(cache)
        await self.put_board(cache, BOARD)
        await put(cache, "u1", 12, wallet(5), partition=1)
        assert (await cache.get_board(BOARD, PARTITIONS)).document is None
        await cache.apply([update(10, 12, partition=1)])
        assert (await cache.get_board(BOARD, PARTITIONS))[1:] == ((10, 12), b"document")

    async def test_a_board_beyond_the_marks_names_its_own_seqs(self, cache: AggregateCache) -> None:
        await confirmed(cache)
        await self.put_board(cache, BOARD, (12, 10))
        assert (await cache.get_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")
        await cache.apply([update(10, 12)])
        assert (await cache.get_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")

    async def test_a_board_needs_every_partition(self, cache: AggregateCache) -> None:
        await cache.confirm(GENERATION, {0: version(10)})
        assert await cache.get_board(BOARD, PARTITIONS) == CachedBoard(None, (), None)

    async def test_closing_again_is_harmless(self, cache: AggregateCache) -> None:
        await cache.close()
        await cache.close()
