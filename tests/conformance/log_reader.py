"""What every ``LogReader`` must do. An adapter passes if a subclass of ``LogReaderContract`` passes.

The subclass has two fixtures: ``open_log`` opens a log on storage that is empty at first, as for event logs;
``open_reader`` opens a reader of the same storage, once there is a log.
"""

import asyncio
from collections.abc import Callable

from conformance.event_log import PARTITIONS, OpenLog, append
from ledger.core.record import EMPTY, Head, sha256_hex
from projections.projecting.log_reader import LogReader

OpenReader = Callable[[], LogReader]


async def many(open_log: OpenLog, records: int, partition: int = 0) -> list[bytes]:
    """Append this many records, a thousand at a time. Returns them."""
    log = await open_log()
    head, stored = await log.head(partition), list[bytes]()
    for first in range(0, records, 1_000):
        names = (f"c{number}" for number in range(first, min(first + 1_000, records)))
        run = await append(log, partition, head, *names)
        head, stored = run.head, stored + run.stored
    await log.close()
    return stored


class LogReaderContract:
    """The tests; both fixtures come from the subclass."""

    async def test_an_empty_log_has_ends_and_nothing_to_read(
        self, open_log: OpenLog, open_reader: OpenReader
    ) -> None:
        await (await open_log()).close()
        reader = open_reader()
        assert reader.partitions == PARTITIONS
        assert reader.ends() == [0] * PARTITIONS
        assert reader.read(0, 1, 10) == reader.read(0, 7, 4_000) == []
        assert not reader.contains(0, Head(1, "1" * 64))
        reader.close()

    async def test_records_are_read_from_any_seq_on(self, open_log: OpenLog, open_reader: OpenReader) -> None:
        stored = await many(open_log, 9_500)
        reader = open_reader()
        for seq, limit in [
            (1, 9_500),
            (1, 1),
            (9_500, 5),
            (9_501, 5),
            (4_000, 4_001),
            (4_001, 99),
            (2, 7_777),
            (1, 3),
        ]:
            assert reader.read(0, seq, limit) == stored[seq - 1 : seq - 1 + limit], (seq, limit)
        assert reader.ends() == [9_500] + [0] * (PARTITIONS - 1)
        reader.close()

    async def test_page_by_page_all_is_read_once(self, open_log: OpenLog, open_reader: OpenReader) -> None:
        stored = await many(open_log, 9_500)
        for page in (4_000, 1_337, 150, 97):
            reader, found = open_reader(), list[bytes]()
            while read := reader.read(0, len(found) + 1, page):
                assert len(read) <= page
                found += read
            assert found == stored
            reader.close()

    async def test_later_records_are_noticed_and_read(self, open_log: OpenLog, open_reader: OpenReader) -> None:
        log = await open_log()
        first = await append(log, 2, EMPTY, "a", "b")
        reader = open_reader()
        reader.changed()
        assert not reader.changed()
        assert reader.read(2, 1, 4_000) == first.stored
        second = await append(log, 2, first.head, "c")
        assert reader.changed()
        assert not reader.changed()
        assert reader.ends()[2] == 3
        assert reader.read(2, 3, 4_000) == second.stored
        third = await append(log, 2, second.head, "d", "e")
        assert reader.read(2, 3, 4_000) == second.stored + third.stored
        assert reader.read(2, 1, 4_000) == first.stored + second.stored + third.stored
        reader.close()
        await log.close()

    async def test_a_reader_finds_a_head_if_the_log_has_that_event(
        self, open_log: OpenLog, open_reader: OpenReader
    ) -> None:
        log = await open_log()
        first = await append(log, 1, EMPTY, "a", "b", "c")
        second = await append(log, 1, first.head, "d", "e")
        for order in (1, -1):
            reader = open_reader()
            for head in (first.head, second.head)[::order]:
                assert reader.contains(1, head)
                assert not reader.contains(1, Head(head.seq, "1" * 64))
            assert not reader.contains(1, Head(6, "1" * 64))
            assert reader.read(1, 6, 4_000) == []
            assert reader.read(1, 4, 4_000) == second.stored
            assert reader.read(1, 2, 4_000) == first.stored[1:] + second.stored
            reader.close()
        await log.close()

    async def test_a_log_that_begins_within_reads_forward_and_back(
        self, open_log: OpenLog, open_reader: OpenReader
    ) -> None:
        stored = await many(open_log, 6_000)
        reader = open_reader()
        assert reader.contains(0, Head(3_000, sha256_hex(stored[2_999])))
        assert reader.read(0, 3_001, 4_000) == stored[3_000:]
        assert reader.ends()[0] == 6_000
        assert reader.read(0, 1, 4_000) == stored[:4_000]
        assert reader.read(0, 2_999, 3) == stored[2_998:3_001]
        reader.close()

    async def test_two_readers_and_a_writer_at_once(self, open_log: OpenLog, open_reader: OpenReader) -> None:
        log = await open_log()
        readers = [open_reader(), open_reader()]
        written, head = list[bytes](), EMPTY

        async def write() -> None:
            nonlocal head
            for number in range(30):
                run = await append(log, 3, head, *(f"c{number}-{one}" for one in range(40)))
                head = run.head
                written.extend(run.stored)

        async def follow(reader: LogReader) -> list[bytes]:
            found = list[bytes]()
            while len(found) < 1_200:
                if await asyncio.to_thread(reader.changed):
                    end = (await asyncio.to_thread(reader.ends))[3]
                    found += await asyncio.to_thread(reader.read, 3, len(found) + 1, end - len(found))
                await asyncio.sleep(0)
            return found

        _, *found = await asyncio.wait_for(
            asyncio.gather(write(), *(follow(reader) for reader in readers)), timeout=60
        )
        assert found == [written, written]
        for reader in readers:
            reader.close()
            reader.close()
        await log.close()
