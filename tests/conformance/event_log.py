"""What every ``EventLog`` must do. An adapter passes if a subclass of ``EventLogContract`` passes.

The subclass has a fixture ``open_log``: each call opens one more log on the same, at first empty, storage.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import pytest

from ledger.core.events import NO_REQUEST, Event, WalletOpened
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, encode, sha256_hex
from ledger.errors import StaleHead
from ledger.ports import EventLog, NewRecord

PARTITIONS: Final = 8
TIME_US: Final = 1_795_438_800_000_000

OpenLog = Callable[[], Awaitable[EventLog]]


class Run(NamedTuple):
    """Records that continue a partition, and the head after them."""

    records: list[NewRecord]
    head: Head

    @property
    def stored(self) -> list[bytes]:
        return [record.record for record in self.records]


def run_of(partition: int, after: Head, command_ids: Sequence[str], *, user_id: str = "u1") -> Run:
    """One record for each command id, chained on ``after``."""
    records: list[NewRecord] = []
    head = after
    for command_id in command_ids:
        event = Event(TIME_US, user_id, command_id, NO_REQUEST, "local", WalletOpened(), (), {})
        record = encode(event, Position(partition, head.seq + 1), head.sha256)
        head = Head(head.seq + 1, sha256_hex(record))
        records.append(NewRecord(head.seq, user_id, command_id, record))
    return Run(records, head)


async def append(log: EventLog, partition: int, after: Head, *command_ids: str, user_id: str = "u1") -> Run:
    run = run_of(partition, after, command_ids, user_id=user_id)
    await log.append(partition, after, run.records)
    return run


async def whole(log: EventLog, partition: int) -> list[bytes]:
    return await log.read(partition, 1, 1_000_000)


class EventLogContract:
    """The tests; ``open_log`` comes from the subclass."""

    async def test_a_new_log_is_empty_in_every_partition(self, open_log: OpenLog) -> None:
        log = await open_log()
        assert log.partitions == PARTITIONS
        for partition in range(PARTITIONS):
            assert await log.head(partition) == EMPTY
            assert await log.read(partition, 1, 10) == []
            await log.confirm(partition, EMPTY)
        await log.close()

    async def test_an_append_lands_whole_and_moves_the_head(self, open_log: OpenLog) -> None:
        log = await open_log()
        first = await append(log, 3, EMPTY, "a", "b", "c")
        second = await append(log, 3, first.head, "d")
        assert await whole(log, 3) == first.stored + second.stored
        assert await log.head(3) == second.head == Head(4, sha256_hex(second.stored[-1]))
        assert await whole(log, 2) == []
        await log.close()

    @pytest.mark.parametrize("records", [1, 2, 511, 512, 513, 1_000, 1_337, 4_096])
    async def test_an_append_of_any_size_lands_in_order(self, open_log: OpenLog, records: int) -> None:
        log = await open_log()
        run = await append(log, 0, EMPTY, *(f"c{number}" for number in range(records)))
        assert await whole(log, 0) == run.stored
        assert await log.head(0) == run.head
        await log.close()

    async def test_a_record_comes_back_byte_for_byte(self, open_log: OpenLog) -> None:
        log = await open_log()
        run = run_of(0, EMPTY, ["!", "".join(map(chr, range(33, 126)))], user_id="a:b@c.d_e-F9")
        await log.append(0, EMPTY, run.records)
        assert await whole(log, 0) == run.stored
        await log.close()

    # --- what must not land --------------------------------------------------------------------------------------

    async def test_an_append_on_a_head_that_is_not_the_head_writes_nothing(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a", "b")
        other = run_of(0, EMPTY, ["x", "y"])
        for stale in (
            EMPTY,
            Head(1, base.head.sha256),  # another seq
            Head(1, sha256_hex(base.stored[0])),  # a head that was one
            Head(3, base.head.sha256),  # a seq that is still to come
            Head(2, other.head.sha256),  # the right seq of another history
            Head(2, "0" * 64),
        ):
            with pytest.raises(StaleHead):
                await append(log, 0, stale, "c", "d")
            assert await whole(log, 0) == base.stored
            assert await log.head(0) == base.head
        assert await whole(log, 0) == base.stored
        following = await append(log, 0, base.head, "c", "d")
        assert await whole(log, 0) == base.stored + following.stored
        await log.close()

    async def test_two_appends_on_one_head_make_no_fork(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a")
        ours, theirs = run_of(0, base.head, ["ours"]), run_of(0, base.head, ["theirs", "theirs-too"])
        results = await asyncio.gather(
            log.append(0, base.head, ours.records),
            log.append(0, base.head, theirs.records),
            return_exceptions=True,
        )
        assert [type(result) for result in results].count(StaleHead) == 1
        landed = ours if results[0] is None else theirs
        assert await whole(log, 0) == base.stored + landed.stored
        assert await log.head(0) == landed.head
        await log.close()

    async def test_a_writer_that_does_not_know_of_another_writes_nothing(self, open_log: OpenLog) -> None:
        ours, theirs = await open_log(), await open_log()
        base = await append(ours, 0, EMPTY, "a")
        news = await append(theirs, 0, base.head, "b")
        with pytest.raises(StaleHead):
            await append(ours, 0, base.head, "c")
        assert await whole(ours, 0) == base.stored + news.stored
        last = await append(ours, 0, news.head, "c")
        assert await whole(theirs, 0) == base.stored + news.stored + last.stored
        await ours.close()
        await theirs.close()

    async def test_the_same_command_id_of_another_user_is_another_command(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a", user_id="u1")
        await append(log, 0, base.head, "a", user_id="u2")
        assert len(await whole(log, 0)) == 2
        await log.close()

    async def test_an_append_that_cannot_land_takes_no_other_with_it(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a")
        runs = [run_of(partition, EMPTY, [f"c{partition}"]) for partition in range(2, PARTITIONS)]
        results = await asyncio.gather(
            append(log, 0, EMPTY, "b"),  # stale: the partition has a record
            append(log, 1, Head(1, base.head.sha256), "x"),  # stale: it has none
            *(log.append(partition, EMPTY, run.records) for partition, run in enumerate(runs, start=2)),
            return_exceptions=True,
        )
        assert [type(result) for result in results[:2]] == [StaleHead, StaleHead]
        assert results[2:] == [None] * len(runs)
        assert await whole(log, 0) == base.stored
        assert await whole(log, 1) == []
        for partition, run in enumerate(runs, start=2):
            assert await whole(log, partition) == run.stored
            assert await log.head(partition) == run.head
        await log.close()

    async def test_what_was_refused_may_land_later(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a")
        with pytest.raises(StaleHead):
            await append(log, 0, EMPTY, "b")
        await append(log, 0, base.head, "b")
        await log.close()

    # --- reading -------------------------------------------------------------------------------------------------

    async def test_a_read_begins_and_ends_inside_of_appends(self, open_log: OpenLog) -> None:
        log = await open_log()
        head, other, stored = EMPTY, EMPTY, list[bytes]()
        for number, size in enumerate((1, 3, 2, 5, 1)):
            run = await append(log, 0, head, *(f"c{number}-{part}" for part in range(size)))
            head, stored = run.head, stored + run.stored
            other = (await append(log, 1, other, f"d{number}", user_id="u2")).head
        for from_seq in range(1, len(stored) + 2):
            for limit in range(1, len(stored) + 2):
                assert await log.read(0, from_seq, limit) == stored[from_seq - 1 : from_seq - 1 + limit]
        await log.close()

    async def test_a_read_begins_at_its_seq_and_ends_at_its_limit(self, open_log: OpenLog) -> None:
        log = await open_log()
        stored = (await append(log, 0, EMPTY, *(f"c{number}" for number in range(50)))).stored
        for from_seq, limit in ((1, 1), (1, 50), (1, 51), (7, 3), (7, 10), (50, 1), (50, 10), (46, 4), (46, 5)):
            assert await log.read(0, from_seq, limit) == stored[from_seq - 1 : from_seq - 1 + limit]
        for past in (51, 52, 10_000):
            assert await log.read(0, past, 10) == []
        assert await log.read(1, 1, 10) == []
        await log.close()

    async def test_a_reader_that_polls_sees_every_record_once_and_in_order(self, open_log: OpenLog) -> None:
        log, reader = await open_log(), await open_log()
        appended: list[bytes] = []
        seen: list[bytes] = []

        async def write() -> None:
            head = EMPTY
            for number in range(60):
                run = await append(log, 0, head, *(f"c{number}-{part}" for part in range(number % 7 + 1)))
                head = run.head
                appended.extend(run.stored)

        async def follow() -> None:
            while not writing.done() or len(seen) < len(appended):
                seen.extend(await reader.read(0, len(seen) + 1, 5))
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        await follow()
        await writing
        assert seen == appended
        await log.close()
        await reader.close()

    async def test_only_the_head_is_confirmed(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a", "b")
        await log.confirm(0, base.head)
        for no_head in (EMPTY, Head(1, base.head.sha256), Head(2, "0" * 64), Head(3, base.head.sha256)):
            with pytest.raises(StaleHead):
                await log.confirm(0, no_head)
        with pytest.raises(StaleHead):
            await log.confirm(1, base.head)
        await log.close()

    async def test_reads_are_right_while_appends_are_under_way(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, *(f"a{number}" for number in range(20)))
        runs = [base]
        for number in range(10):
            runs.append(run_of(0, runs[-1].head, [f"b{number}", f"c{number}"]))
        appends = [asyncio.create_task(log.append(0, before.head, run.records)) for before, run in pairwise(runs)]
        expected = [record for run in runs for record in run.stored]
        while not all(task.done() for task in appends):
            seen = await whole(log, 0)
            assert seen == expected[: len(seen)]
            assert await log.read(0, 7, 3) == expected[6:9]
            assert await log.head(0) in [run.head for run in runs]
            await asyncio.sleep(0)
        await asyncio.gather(*appends)
        assert await whole(log, 0) == expected
        await log.close()

    async def test_what_was_refused_leaves_the_head_to_be_confirmed(self, open_log: OpenLog) -> None:
        log = await open_log()
        base = await append(log, 0, EMPTY, "a")
        with pytest.raises(StaleHead):
            await append(log, 0, EMPTY, "b")
        await log.confirm(0, base.head)
        await log.close()

    # --- beginning in the middle -----------------------------------------------------------------------------------

    async def test_a_log_that_begins_at_a_place_reads_the_same_records(self, open_log: OpenLog) -> None:
        log = await open_log()
        first = await append(log, 0, EMPTY, *(f"a{number}" for number in range(20)))
        second = await append(log, 0, first.head, "b", "c")
        for head in (EMPTY, first.head, second.head):
            late = await open_log()
            await late.begin_at(0, head, log.place(0, head))
            assert await late.head(0) == second.head
            assert await whole(late, 0) == first.stored + second.stored
            assert await late.read(0, 3, 1) == first.stored[2:3]
            await late.confirm(0, second.head)
            await late.begin_at(0, first.head, log.place(0, first.head))  # it has read further already
            assert await late.head(0) == second.head
            await late.close()
        late = await open_log()
        await late.begin_at(0, second.head, None)  # without a place
        assert await late.read(0, 21, 10) == second.stored
        third = await append(late, 0, second.head, "d")
        assert await whole(log, 0) == first.stored + second.stored + third.stored
        await log.close()
        await late.close()

    # --- many at once, and the end -------------------------------------------------------------------------------

    async def test_appends_to_many_partitions_at_once_all_land(self, open_log: OpenLog) -> None:
        log = await open_log()

        async def fill(partition: int) -> Run:
            run, stored = Run([], EMPTY), []
            for number in range(20):
                run = await append(log, partition, run.head, f"p{partition}-{number}", f"p{partition}-{number}+")
                stored += run.records
            return Run(stored, run.head)

        runs = await asyncio.gather(*(fill(partition) for partition in range(PARTITIONS)))
        for partition, run in enumerate(runs):
            assert await whole(log, partition) == run.stored
            assert await log.head(partition) == run.head
        await log.close()

    async def test_appends_of_one_partition_that_wait_together_land_in_order(self, open_log: OpenLog) -> None:
        log = await open_log()
        first = run_of(0, EMPTY, ["a"])
        second = run_of(0, first.head, ["b"])
        third = run_of(0, second.head, ["c"])
        await asyncio.gather(
            log.append(0, EMPTY, first.records),
            log.append(0, first.head, second.records),
            log.append(0, second.head, third.records),
        )
        assert await whole(log, 0) == first.stored + second.stored + third.stored
        await log.close()

    async def test_an_append_whose_caller_is_cancelled_lands_whole_or_not_at_all(self, open_log: OpenLog) -> None:
        log = await open_log()
        run = run_of(0, EMPTY, ["a", "b"])
        gone = asyncio.create_task(log.append(0, EMPTY, run.records))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        await log.close()
        again = await open_log()
        assert await whole(again, 0) in ([], run.stored)
        await again.close()

    async def test_closing_finishes_what_is_under_way(self, open_log: OpenLog) -> None:
        log = await open_log()
        runs = [run_of(partition, EMPTY, ["a"], user_id=f"u{partition}") for partition in range(PARTITIONS)]
        appends = [
            asyncio.create_task(log.append(partition, EMPTY, run.records)) for partition, run in enumerate(runs)
        ]
        await asyncio.sleep(0)
        await log.close()
        await asyncio.gather(*appends)
        again = await open_log()
        assert [await whole(again, partition) for partition in range(PARTITIONS)] == [run.stored for run in runs]
        await again.close()

    async def test_closing_again_is_harmless(self, open_log: OpenLog) -> None:
        log = await open_log()
        await append(log, 0, EMPTY, "a")
        await log.close()
        await log.close()

    async def test_a_log_that_is_opened_again_is_the_same(self, open_log: OpenLog) -> None:
        log = await open_log()
        runs = [
            await append(
                log, partition, EMPTY, *(f"c{number}" for number in range(partition)), user_id=f"u{partition}"
            )
            for partition in range(1, PARTITIONS)
        ]
        await log.close()
        log = await open_log()
        assert await log.head(0) == EMPTY
        for partition, run in enumerate(runs, start=1):
            assert await whole(log, partition) == run.stored
            assert await log.head(partition) == run.head
            with pytest.raises(StaleHead):
                await append(log, partition, EMPTY, "new", user_id=f"u{partition}")
            await append(log, partition, run.head, "new", user_id=f"u{partition}")
        await log.close()
