"""Concurrent callers with the same key share a read, which always begins after each of them called."""

import asyncio

import pytest

from projections.caching.single_flight import SingleFlight


class Source:
    """A read returns the value at its begin, once ``go_on`` is set."""

    def __init__(self) -> None:
        self.value = 0
        self.begun = 0
        self.go_on = asyncio.Event()

    async def read(self) -> int:
        self.begun += 1
        value = self.value
        await self.go_on.wait()
        return value


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_caller_joins_a_read_that_is_already_running() -> None:
    source, shared = Source(), SingleFlight[str, int]()
    first = asyncio.create_task(shared.read("a", source.read))
    await settle()
    source.value = 1
    late = [asyncio.create_task(shared.read("a", source.read)) for _ in range(10)]
    await settle()
    assert source.begun == 1
    source.go_on.set()
    assert await first == 0
    assert await asyncio.gather(*late) == [1] * 10
    assert source.begun == 2, "the ten callers that came while it ran share the next read"


async def test_sequential_callers_each_read() -> None:
    source, shared = Source(), SingleFlight[str, int]()
    source.go_on.set()
    for value in range(3):
        source.value = value
        assert await shared.read("a", source.read) == value
    assert source.begun == 3


async def test_other_keys_do_not_wait() -> None:
    held, free, shared = Source(), Source(), SingleFlight[str, int]()
    waiting = asyncio.create_task(shared.read("a", held.read))
    await settle()
    free.go_on.set()
    assert await shared.read("b", free.read) == 0
    held.go_on.set()
    await waiting


async def test_a_failed_read_fails_the_callers_that_share_it_and_no_others() -> None:
    source, shared = Source(), SingleFlight[str, int]()

    async def fails() -> int:
        await source.go_on.wait()
        raise OSError("gone")

    first = asyncio.create_task(shared.read("a", fails))
    await settle()
    late = [asyncio.create_task(shared.read("a", source.read)) for _ in range(3)]
    await settle()
    source.go_on.set()
    with pytest.raises(OSError, match="gone"):
        await first
    assert await asyncio.gather(*late) == [0] * 3


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    source, shared = Source(), SingleFlight[str, int]()
    first = asyncio.create_task(shared.read("a", source.read))
    await settle()
    second, third = (asyncio.create_task(shared.read("a", source.read)) for _ in range(2))
    await settle()
    for task in (first, second):
        task.cancel()
    await settle()
    source.go_on.set()
    assert await third == 0
    assert await shared.read("a", source.read) == 0
