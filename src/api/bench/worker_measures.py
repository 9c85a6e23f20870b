"""What the worker is held against: a Faust agent that does nothing, on the same topic, in the same run.

1. Both are processes of their own with the same Faust settings, and begin at the topic's start. A rate is from the
   first batch that is taken to the moment the last record is: starts and rebalances are in neither.
2. The worker's tables are empty at first; its last record counts once its transaction is committed.
3. What is visible is measured at the tables: from the acknowledged append of an event to the first look at the
   checkpoints that names it. Looks are ``LOOK_S`` apart.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from array import array
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, TypeVar

from api.bench.figures import BenchError, Slice, slice_of
from api.settings import Settings
from ledger.ports import LedgerError, NewRecord
from ledger.record import EMPTY, Head, decode, sha256_hex

LOOK_S = 0.002
"""Chosen: a look is a look-up by primary key, some 0.5 ms."""
ENDS_WITHIN_S = 600.0
_APPENDED_AT_ONCE = 1_000
T = TypeVar("T")


def fill_topic(settings: Settings, partitions: Sequence[Sequence[bytes]]) -> int:
    """Append these records to the empty topic, made where there is none; answers how many. Raises BenchError."""
    from ledger.logs.kafka import open_log
    from ledger.logs.kafka_address import parse_address

    async def run() -> int:
        log = await open_log(parse_address(settings.log), len(partitions))
        try:
            for partition, records in enumerate(partitions):
                head = EMPTY
                for first in range(0, len(records), _APPENDED_AT_ONCE):
                    some = records[first : first + _APPENDED_AT_ONCE]
                    await log.append(partition, head, [_new(record) for record in some])
                    head = Head(first + len(some), sha256_hex(some[-1]))
        finally:
            await log.close()
        return sum(map(len, partitions))

    return _answered(run)


def _new(record: bytes) -> NewRecord:
    place, _, event = decode(record)
    return NewRecord(place.seq, event.user_id, event.command_id, record)


def bare_agent(settings: Settings, events: int, group: str) -> Slice:
    """Take ``events`` records with an agent that does nothing. ``group``: a name that was never used on this topic.

    ``done`` is records, each latency a batch's distance from the one before. Raises BenchError.
    """
    return _in_a_process(_bare_agent, settings, events, group)


def worker(settings: Settings, events: int, group: str) -> Slice:
    """Fold ``events`` records of the topic into the empty database of ``settings``; as ``bare_agent``."""
    return _in_a_process(_worker, settings, events, group)


def rebuilt(settings: Settings, workers: int) -> Slice:
    """Rebuild the live generation from the topic, in this process and ``workers`` more; ``done`` is events."""
    from functools import partial

    from api.providers import open_read_side
    from projections.rebuild import rebuild

    async def run() -> Slice:
        began = perf_counter()
        outcome = await rebuild(
            partial(open_read_side, settings), workers=workers, accept=False, progress=lambda *_: None
        )
        took_s = perf_counter() - began
        if not outcome.switched:
            raise BenchError(f"the rebuilt rows are not the live ones: {outcome.differing} differ")
        return slice_of(outcome.events, took_s, [took_s])

    return _answered(run)


def visible(settings: Settings, partitions: Sequence[Sequence[bytes]], *, per_s: float) -> Slice:
    """Append what of ``partitions`` the topic lacks, event by event at this pace, while a worker runs elsewhere.

    ``done`` is events, each latency one's from its acknowledgement to its place in the tables. Raises BenchError.
    """
    return _answered(lambda: _visible(settings, partitions, per_s))


# --- in processes of their own -----------------------------------------------------------------------------------


Measure = Callable[[Settings, int, str], Coroutine[Any, Any, Slice]]


def _in_a_process(measure: Measure, settings: Settings, events: int, group: str) -> Slice:
    spawn = multiprocessing.get_context("spawn")
    heard, said = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run, args=(measure, settings, events, group, said))
    process.start()
    said.close()
    try:
        if not heard.poll(ENDS_WITHIN_S):
            raise BenchError(f"{measure.__name__} took more than {ENDS_WITHIN_S:g} s")
        found = heard.recv()
    except EOFError:
        raise BenchError(f"{measure.__name__} died; see what it said") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, Slice):
        return found
    raise BenchError(str(found))


def _run(measure: Measure, settings: Settings, events: int, group: str, said: Any) -> None:
    import uvloop

    from projections import worker as of_worker

    vars(of_worker)["GROUP_SUFFIX"] = group
    vars(of_worker)["_WATCH_S"] = 2 * ENDS_WITHIN_S  # else it would read much of the topic itself, not by Faust
    try:
        said.send(uvloop.run(measure(settings, events, group)))
    except (BenchError, LedgerError) as error:
        said.send(str(error))


class _Taken:
    """When how many records were taken."""

    def __init__(self, events: int) -> None:
        self.done = asyncio.Event()
        self._left = events
        self._at: array[float] = array("d")
        self._first = 0

    def take(self, number: int) -> None:
        if not self._at:
            self._first = number  # what came first was fetched before the clock started
        self._at.append(perf_counter())
        self._left -= number
        if self._left <= 0:
            self.done.set()

    def slice(self, events: int) -> Slice:
        gaps = [after - before for before, after in zip(self._at, self._at[1:], strict=False)]
        return slice_of(events - self._first, self._at[-1] - self._at[0], gaps)


async def _bare_agent(settings: Settings, events: int, _group: str) -> Slice:
    from ledger.logs.kafka import TOPIC
    from ledger.logs.kafka_address import parse_address
    from projections.worker import WorkerOptions, make_app

    taken = _Taken(events)

    async def nothing(batch: Sequence[Any]) -> None:
        taken.take(len(batch))

    app = make_app(WorkerOptions(servers=parse_address(settings.log).servers, topic=TOPIC, web_port=0), nothing)
    app.finalize()
    await app.start()
    try:
        await taken.done.wait()
    finally:
        await app.stop()
    return taken.slice(events)


async def _worker(settings: Settings, events: int, _group: str) -> Slice:
    import gc

    from api.providers import open_worker

    stop, taken = asyncio.Event(), _Taken(events)
    async with open_worker(settings, stop, web_host="127.0.0.1", web_port=0) as one:
        take = one.intake.take

        async def counted(delivered: Any) -> None:
            before = one.intake.counts.events
            await take(delivered)
            taken.take(one.intake.counts.events - before)

        vars(one.intake)["take"] = counted
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        running = asyncio.ensure_future(one.run(stop))
        done = asyncio.ensure_future(taken.done.wait())
        await asyncio.wait((running, done), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        done.cancel()
        await running
    return taken.slice(events)


async def _visible(settings: Settings, partitions: Sequence[Sequence[bytes]], per_s: float) -> Slice:
    from api.providers import open_read_side
    from ledger.logs.kafka import open_log
    from ledger.logs.kafka_address import parse_address

    log = await open_log(parse_address(settings.log), len(partitions))
    acknowledged: dict[tuple[int, int], float] = {}
    took_s = array("d")
    appended = asyncio.Event()

    async def append(partition: int, began: float) -> None:
        head = await log.head(partition)
        for number, record in enumerate(partitions[partition][head.seq :]):
            await asyncio.sleep(began + number * len(partitions) / per_s - perf_counter())
            await log.append(partition, head, [_new(record)])
            head = Head(head.seq + 1, sha256_hex(record))
            acknowledged[partition, head.seq] = perf_counter()

    async def look() -> None:
        async with open_read_side(settings) as (_, store):
            live = next(one for one in await store.generations() if one.status == "live")
            while acknowledged or not appended.is_set():
                heads = [one.head.seq for one in await store.checkpoints(live.number)]
                now = perf_counter()
                for place in [place for place in acknowledged if place[1] <= heads[place[0]]]:
                    took_s.append(now - acknowledged.pop(place))
                await asyncio.sleep(LOOK_S)

    began = perf_counter()
    try:
        async with asyncio.timeout(ENDS_WITHIN_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            await asyncio.gather(*(append(partition, began) for partition in range(len(partitions))))
            appended.set()
    except TimeoutError:
        raise BenchError(f"{len(acknowledged)} events did not become visible: does a worker run?") from None
    finally:
        await log.close()
    return slice_of(len(took_s), perf_counter() - began, took_s)


def _answered(measure: Callable[[], Coroutine[Any, Any, T]]) -> T:
    import uvloop

    try:
        return uvloop.run(measure())
    except LedgerError as error:
        raise BenchError(f"the measure on Kafka failed: {error}") from error
