"""What every cache of aggregates must do. An adapter passes if a subclass of ``AggregateCacheContract`` passes.

The subclass has a fixture ``open_cache``: each call opens one more cache over the same, at first empty, storage; it
trusts marks for as long as it is told. No cache at all is none of them: it must never answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from projections.caching.port import (
    NOTHING,
    AggregateCache,
    Board,
    BoardTicket,
    Day,
    Fields,
    Kind,
    LookedBoard,
    Position,
    Step,
    Ticket,
)

GENERATION: Final = "1.1000"
OTHER: Final = "2.2000"
LONG_S: Final = 60.0
SHORT_S: Final = 0.1
DAY: Final[Day] = ("INR", 20_000)
BOARD: Final = Board("net_day", "INR", 20_000, 20_001)
WEEK: Final = Board("net_week", "INR", 19_996, 20_003)
PARTITIONS: Final = 2

OpenCache = Callable[[float], AggregateCache]


def place(seq: int, tag: str = "") -> Position:
    return Position(seq, tag or f"t{seq}")


def step(
    before: int,
    after: int,
    touched: Mapping[str, Mapping[Kind, Fields]] | None = None,
    *,
    days: tuple[Day, ...] = (),
    partition: int = 0,
    generation: str = GENERATION,
    anew: bool = False,
) -> Step:
    return Step(partition, generation, place(before), place(after), touched or {}, days, anew)


def wallet(cash: int) -> Fields:
    return {"w": b"[]", "a:INR": b"%d" % cash}


async def kept(cache: AggregateCache, user_id: str, seq: int, fields: Fields, partition: int = 0) -> None:
    """Read at ``seq``, and kept as a reader does it."""
    looked = await cache.look("wallet", partition, user_id)
    assert looked.ticket is not None
    await cache.keep("wallet", partition, user_id, looked.ticket, seq, fields)


async def standing(cache: AggregateCache, seq: int = 10, generation: str = GENERATION) -> None:
    """All partitions are folded up to here."""
    await cache.confirm(generation, dict.fromkeys(range(PARTITIONS), place(seq)))


class AggregateCacheContract:
    """The tests; ``open_cache`` comes from the subclass."""

    @pytest.fixture
    def cache(self, open_cache: OpenCache) -> AggregateCache:
        return open_cache(LONG_S)

    # --- what is kept is answered, and at which seq ----------------------------------------------------------------

    async def test_an_empty_cache_knows_nothing(self, cache: AggregateCache) -> None:
        assert await cache.look("wallet", 0, "u1") == NOTHING

    async def test_what_was_read_at_the_mark_is_answered(self, cache: AggregateCache) -> None:
        await standing(cache)
        assert (await cache.look("wallet", 0, "u1")).fields is None
        await kept(cache, "u1", 10, wallet(5))
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (10, wallet(5))
        assert looked.ticket is not None
        assert looked.ticket.generation == GENERATION

    async def test_an_aggregate_without_rows_is_one_too(self, cache: AggregateCache) -> None:
        await standing(cache)
        looked = await cache.look("statistics", 0, "u1")
        assert looked.ticket is not None
        await cache.keep("statistics", 0, "u1", looked.ticket, 10, {})
        assert (await cache.look("statistics", 0, "u1")).fields == {}
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_whoever_a_step_did_not_touch_is_true_after_it(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(10, 12, {"u2": {"wallet": wallet(1)}})])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (12, wallet(5))
        assert (await cache.look("wallet", 0, "u2")).fields is None, "a part of an aggregate is none"

    async def test_the_rows_that_a_step_changed_are_changed(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, {**wallet(5), "a:GOLD": b"7"})
        await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"6", "a:USDT": b"1"}}})])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (12, {"w": b"[]", "a:INR": b"6", "a:GOLD": b"7", "a:USDT": b"1"})

    async def test_partitions_are_on_their_own(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5), partition=1)
        await cache.step([step(10, 12), step(9, 11, partition=1)])
        assert (await cache.look("wallet", 0, "u0")).seq == 12
        assert (await cache.look("wallet", 1, "u1")).fields is None, "a step is missing there"

    async def test_many_steps_at_once_are_taken_in_order(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step(
            [step(10, 11, {"u1": {"wallet": {"a:INR": b"1"}}}), step(11, 12, {"u1": {"wallet": {"a:INR": b"2"}}})]
        )
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (12, wallet(2))

    # --- gaps, repetitions, another order --------------------------------------------------------------------------

    async def test_after_a_step_that_was_never_told_nothing_of_before_counts(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(12, 13)])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (13, None)

    async def test_a_confirmation_from_further_on_tells_the_same(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await standing(cache, 12)
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_rows_that_moved_while_the_seq_stayed_are_told_by_their_digests(
        self, cache: AggregateCache
    ) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.confirm(GENERATION, {0: place(10, "other rows")})
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_a_step_from_other_rows_at_the_same_seq_is_one_too_many(self, cache: AggregateCache) -> None:
        await cache.confirm(GENERATION, {0: place(10, "other rows")})
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(10, 12)])
        assert (await cache.look("wallet", 0, "u1"))[1:] == (12, None)

    async def test_a_step_told_twice_is_taken_once(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        told = [step(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})]
        await cache.step(told)
        await cache.step(told)
        assert (await cache.look("wallet", 0, "u1")).fields == wallet(6)

    async def test_a_step_told_late_changes_nothing(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        old: Mapping[str, Mapping[Kind, Fields]] = {"u1": {"wallet": {"a:INR": b"6"}}}
        new: Mapping[str, Mapping[Kind, Fields]] = {"u1": {"wallet": {"a:INR": b"7"}}}
        await cache.step([step(10, 12, old)])
        await cache.step([step(12, 13, new)])
        await cache.step([step(10, 12, old)])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (13, wallet(7))

    async def test_steps_told_in_the_wrong_order_cost_what_is_kept(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(12, 13)])
        await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (13, None)

    async def test_a_confirmation_of_long_ago_changes_nothing(self, cache: AggregateCache) -> None:
        await standing(cache)
        await cache.step([step(10, 12)])
        await kept(cache, "u1", 12, wallet(5))
        await standing(cache, 10)
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (12, wallet(5))

    async def test_a_step_may_say_that_nothing_counts_any_more(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(10, 12, anew=True)])
        looked = await cache.look("wallet", 0, "u1")
        assert (looked.seq, looked.fields) == (12, None)
        await kept(cache, "u1", 12, wallet(5))
        await cache.step([step(12, 12, anew=True)])
        assert (await cache.look("wallet", 0, "u1")).fields is None

    # --- readers that come late ------------------------------------------------------------------------------------

    async def test_what_was_read_before_a_step_is_not_kept_if_the_step_touched_it(
        self, cache: AggregateCache
    ) -> None:
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"6"}}})])
        await cache.keep("wallet", 0, "u1", looked.ticket, 10, wallet(5))
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_what_was_read_before_a_step_is_kept_if_the_step_did_not_touch_it(
        self, cache: AggregateCache
    ) -> None:
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        await cache.step([step(10, 12, {"u2": {"wallet": {"a:INR": b"6"}}})])
        await cache.keep("wallet", 0, "u1", looked.ticket, 10, wallet(5))
        assert (await cache.look("wallet", 0, "u1"))[1:] == (12, wallet(5))

    async def test_what_was_read_in_another_epoch_is_not_kept(self, cache: AggregateCache) -> None:
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        await cache.step([step(12, 13)])
        await cache.keep("wallet", 0, "u1", looked.ticket, 13, wallet(5))
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_what_was_read_before_the_epoch_began_is_not_kept(self, cache: AggregateCache) -> None:
        """As from a standby that is behind: whom the steps before touched is not known."""
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        await cache.keep("wallet", 0, "u1", looked.ticket, 9, wallet(4))
        assert (await cache.look("wallet", 0, "u1")).fields is None

    async def test_an_older_reading_never_overwrites_a_newer_one(self, cache: AggregateCache) -> None:
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        await cache.keep("wallet", 0, "u1", looked.ticket, 14, wallet(6))
        await cache.keep("wallet", 0, "u1", looked.ticket, 10, wallet(5))
        assert (await cache.look("wallet", 0, "u1"))[1:] == (14, wallet(6))

    async def test_a_reading_beyond_the_mark_outlives_the_steps_that_it_has(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 14, wallet(6))
        await cache.step([step(10, 12, {"u1": {"wallet": {"a:INR": b"5"}}})])
        assert (await cache.look("wallet", 0, "u1"))[1:] == (14, wallet(6))
        await cache.step([step(12, 14, {"u1": {"wallet": {"a:INR": b"6"}}})])
        assert (await cache.look("wallet", 0, "u1"))[1:] == (14, wallet(6))
        await cache.step([step(14, 15, {"u1": {"wallet": {"a:INR": b"7"}}})])
        assert (await cache.look("wallet", 0, "u1"))[1:] == (15, wallet(7))

    async def test_nothing_is_answered_that_is_older_than_what_somebody_read(self, cache: AggregateCache) -> None:
        """The mark is behind the tables for a moment, and a client who read them elsewhere must not go back."""
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await kept(cache, "u2", 14, wallet(6))
        assert (await cache.look("wallet", 0, "u1")).fields is None
        assert (await cache.look("wallet", 0, "u2"))[1:] == (14, wallet(6))
        await cache.step([step(10, 14)])
        assert (await cache.look("wallet", 0, "u1"))[1:] == (14, wallet(5))

    # --- generations -----------------------------------------------------------------------------------------------

    async def test_another_generation_shares_nothing(self, cache: AggregateCache) -> None:
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await standing(cache, 10, OTHER)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        assert (looked.ticket.generation, looked.fields) == (OTHER, None)

    async def test_a_step_of_another_generation_shares_nothing_although_it_begins_at_the_same_place(
        self, cache: AggregateCache
    ) -> None:
        """As after a rebuild, whose rows have the same digests."""
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await cache.step([step(10, 12, generation=OTHER)])
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        assert (looked.ticket.generation, looked.seq, looked.fields) == (OTHER, 12, None)

    async def test_who_read_another_generation_keeps_nothing(self, cache: AggregateCache) -> None:
        await standing(cache)
        looked = await cache.look("wallet", 0, "u1")
        assert looked.ticket is not None
        for ticket in (Ticket(OTHER, looked.ticket.epoch), looked.ticket._replace(epoch="other")):
            await cache.keep("wallet", 0, "u1", ticket, 10, wallet(5))
        assert (await cache.look("wallet", 0, "u1")).fields is None

    # --- trust -----------------------------------------------------------------------------------------------------

    async def test_a_mark_that_nobody_confirms_is_not_trusted(self, open_cache: OpenCache) -> None:
        cache, patient = open_cache(SHORT_S), open_cache(LONG_S)
        await standing(cache)
        await kept(cache, "u1", 10, wallet(5))
        await asyncio.sleep(2 * SHORT_S)  # that time passes is what is tested
        assert await cache.look("wallet", 0, "u1") == NOTHING
        assert (await cache.look_board(BOARD, PARTITIONS)).ticket is None
        assert (await patient.look("wallet", 0, "u1")).fields == wallet(5)
        await standing(cache)
        assert (await cache.look("wallet", 0, "u1")).fields == wallet(5), "and counts again when it is"

    # --- leaderboards ----------------------------------------------------------------------------------------------

    async def keep_board(self, cache: AggregateCache, board: Board, seqs: tuple[int, ...] = (10, 10)) -> BoardTicket:
        looked = await cache.look_board(board, PARTITIONS)
        assert looked.ticket is not None
        await cache.keep_board(board, looked.ticket, seqs, b"document")
        return looked.ticket

    async def test_a_board_is_answered_until_one_of_its_days_moves(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, BOARD)
        await cache.step([step(10, 12, days=(("INR", 20_001), ("GOLD", 20_000)))])
        assert (await cache.look_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")
        await cache.step([step(10, 11, days=(DAY,), partition=1)])
        looked = await cache.look_board(BOARD, PARTITIONS)
        assert looked[1:] == ((12, 11), None)

    async def test_a_board_of_a_week_has_the_days_of_all_of_it(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, WEEK)
        await cache.step([step(10, 11, days=(("INR", 20_003), ("INR", 19_995)))])
        assert (await cache.look_board(WEEK, PARTITIONS)).document == b"document"
        await cache.step([step(11, 12, days=(("INR", 20_002),))])
        assert (await cache.look_board(WEEK, PARTITIONS)).document is None

    async def test_a_board_read_before_its_day_moved_is_not_kept(self, cache: AggregateCache) -> None:
        await standing(cache)
        looked = await cache.look_board(BOARD, PARTITIONS)
        assert looked.ticket is not None
        await cache.step([step(10, 12, days=(DAY,))])
        await cache.keep_board(BOARD, looked.ticket, (10, 10), b"old")
        assert (await cache.look_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_read_behind_the_marks_is_not_kept(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, BOARD, (10, 9))
        assert (await cache.look_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_of_another_epoch_is_not_answered(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, BOARD)
        await cache.step([step(11, 12, partition=1)])
        assert (await cache.look_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_of_another_generation_is_not_answered(self, cache: AggregateCache) -> None:
        await standing(cache)
        ticket = await self.keep_board(cache, BOARD)
        await cache.confirm(OTHER, {0: place(10)})
        assert (await cache.look_board(BOARD, PARTITIONS)).ticket is None, "partitions are of two generations"
        await standing(cache, 10, OTHER)
        await cache.keep_board(BOARD, ticket, (10, 10), b"old")
        assert (await cache.look_board(BOARD, PARTITIONS)).document is None

    async def test_a_board_is_not_answered_behind_what_somebody_read(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, BOARD)
        await kept(cache, "u1", 12, wallet(5), partition=1)
        assert (await cache.look_board(BOARD, PARTITIONS)).document is None
        await cache.step([step(10, 12, partition=1)])
        assert (await cache.look_board(BOARD, PARTITIONS))[1:] == ((10, 12), b"document")

    async def test_a_board_beyond_the_marks_says_so(self, cache: AggregateCache) -> None:
        await standing(cache)
        await self.keep_board(cache, BOARD, (12, 10))
        assert (await cache.look_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")
        await cache.step([step(10, 12)])
        assert (await cache.look_board(BOARD, PARTITIONS))[1:] == ((12, 10), b"document")

    async def test_a_board_needs_every_partition(self, cache: AggregateCache) -> None:
        await cache.confirm(GENERATION, {0: place(10)})
        assert await cache.look_board(BOARD, PARTITIONS) == LookedBoard(None, (), None)

    async def test_closing_again_is_harmless(self, cache: AggregateCache) -> None:
        await cache.close()
        await cache.close()
