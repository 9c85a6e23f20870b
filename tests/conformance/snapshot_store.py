"""What every ``SnapshotStore`` must do. An adapter passes if a subclass of ``SnapshotStoreContract`` passes.

The subclass has a fixture ``open_kept``: each call opens one more store on the same, at first empty, storage.
"""

import random
from collections.abc import Awaitable, Callable

from ledger.ports import SnapshotRecord, SnapshotStore

OpenKept = Callable[[], Awaitable[SnapshotStore]]


async def everything(store: SnapshotStore, partition: int, from_offset: int = 0) -> list[SnapshotRecord]:
    return [kept async for page in store.read(partition, from_offset) for kept in page]


def pairs(found: list[SnapshotRecord]) -> list[tuple[str, bytes]]:
    return [(kept.key, kept.value) for kept in found]


class SnapshotStoreContract:
    """The tests; ``open_kept`` comes from the subclass."""

    async def test_a_new_store_is_empty(self, open_kept: OpenKept) -> None:
        store = await open_kept()
        assert await everything(store, 0) == []
        assert await everything(store, 1) == []

    async def test_every_store_reads_the_appended_records_in_order(self, open_kept: OpenKept) -> None:
        here, there = await open_kept(), await open_kept()
        put = [(f"0/a/{number}", bytes([number]) * (number + 1)) for number in range(10)]
        await here.append(0, put[:1])
        await there.append(0, put[1:9])
        await here.append(0, put[9:])
        for store in (here, there, await open_kept()):
            found = await everything(store, 0)
            assert pairs(found) == put
            assert [kept.offset for kept in found] == sorted({kept.offset for kept in found})

    async def test_partitions_know_nothing_of_each_other(self, open_kept: OpenKept) -> None:
        store = await open_kept()
        await store.append(0, [("a", b"0")])
        await store.append(1, [("a", b"1"), ("b", b"2")])
        assert pairs(await everything(store, 0)) == [("a", b"0")]
        assert pairs(await everything(store, 1)) == [("a", b"1"), ("b", b"2")]

    async def test_a_read_begins_at_its_offset(self, open_kept: OpenKept) -> None:
        store = await open_kept()
        await store.append(0, [(f"k{number}", b"x") for number in range(5)])
        await store.append(0, [(f"l{number}", b"x") for number in range(5)])
        found = await everything(store, 0)
        for begin, kept in enumerate(found):
            assert await everything(store, 0, kept.offset) == found[begin:]
        assert await everything(store, 0, found[-1].offset + 1) == []

    async def test_the_last_record_of_a_key_counts_and_an_empty_value_deletes_the_key(
        self, open_kept: OpenKept
    ) -> None:
        store = await open_kept()
        await store.append(0, [("a", b"1"), ("b", b"1"), ("c", b"1")])
        await store.append(0, [("a", b"2"), ("b", b"")])
        last = {kept.key: kept.value for kept in await everything(await open_kept(), 0)}
        assert last == {"a": b"2", "b": b"", "c": b"1"}

    async def test_large_chunks_come_back_byte_for_byte(self, open_kept: OpenKept) -> None:
        store = await open_kept()
        chance = random.Random(3)
        put = [(f"0/s/{number}", chance.randbytes(size)) for number, size in enumerate((1, 4_000_000, 10, 3_000_000))]
        for record in put:
            await store.append(0, [record])
        assert pairs(await everything(store, 0)) == put
        assert pairs(await everything(store, 0, (await everything(store, 0))[3].offset)) == put[3:]

    async def test_closing_again_is_harmless(self, open_kept: OpenKept) -> None:
        store = await open_kept()
        await store.close()
        await store.close()
