"""The batches of the agent: all queued records, collected for a bounded time."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from projections.projecting import worker
from projections.projecting.worker import BATCH


class Channel:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()


class Stream:
    """Like Faust's stream: yields events from its channel's queue; they are acknowledged explicitly."""

    def __init__(self) -> None:
        self.channel, self.enable_acks = Channel(), True
        self.acknowledged: list[int] = []

    async def events(self) -> AsyncIterator[int]:
        while True:
            yield await self.channel.queue.get()

    async def ack(self, event: int) -> bool:
        self.acknowledged.append(event)
        return True

    def put(self, *events: int) -> None:
        for event in events:
            self.channel.queue.put_nowait(event)


async def test_all_records_that_came_while_a_batch_was_folded_are_the_next_batch() -> None:
    stream = Stream()
    stream.put(1)
    batches = worker._batches(stream)
    assert await anext(batches) == (1,)
    stream.put(*range(2, 702))
    assert await anext(batches) == tuple(range(2, 702))


async def test_the_size_of_a_batch_is_bounded() -> None:
    stream = Stream()
    stream.put(*range(BATCH + 5))
    batches = worker._batches(stream)
    assert len(await anext(batches)) == BATCH
    assert len(await anext(batches)) == 5


async def test_a_batch_is_acknowledged_when_the_next_one_is_requested() -> None:
    stream = Stream()
    assert stream.enable_acks
    stream.put(1, 2)
    batches = worker._batches(stream)
    assert await anext(batches) == (1, 2)
    assert not stream.enable_acks
    assert stream.acknowledged == []
    stream.put(3)
    await anext(batches)
    assert stream.acknowledged == [1, 2]


async def test_an_abandoned_batch_is_not_acknowledged() -> None:
    stream = Stream()
    stream.put(1, 2)
    batches = worker._batches(stream)
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    assert stream.acknowledged == []


async def test_a_slow_trickle_of_events_does_not_delay_the_first_one() -> None:
    stream = Stream()

    async def trickle() -> None:
        for number in range(1_000):
            stream.put(number)
            await asyncio.sleep(0.003)

    trickling = asyncio.create_task(trickle())
    began_s = monotonic()
    async with asyncio.timeout(60):
        first = await anext(worker._batches(stream))
    assert len(first) < 100
    assert monotonic() - began_s >= worker.BATCH_WITHIN_S / 2
    trickling.cancel()
