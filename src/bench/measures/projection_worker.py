"""The worker's yardstick: a Faust agent that does nothing, on the same topic, in the same run.

1. Both are processes of their own with the same Faust settings, and begin at the topic's start. A rate is from the
   first batch that is taken to the moment the last record is: starts and rebalances are in neither.
2. The worker's tables are empty at first; its last record counts once its transaction is committed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from array import array
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from api.composition.settings import Settings
from bench.figures import BenchError, Slice, slice_of
from ledger.errors import LedgerError

ENDS_WITHIN_S = 600.0


def bare_agent(settings: Settings, events: int, group: str) -> Slice:
    """Take ``events`` records with an agent that does nothing. ``group``: a name that was never used on this topic.

    ``done`` is records, each latency a batch's distance from the one before. Raises BenchError.
    """
    return _in_a_process(_bare_agent, settings, events, group)


def worker(settings: Settings, events: int, group: str) -> Slice:
    """Fold ``events`` records of the topic into the empty database of ``settings``; as ``bare_agent``."""
    return _in_a_process(_worker, settings, events, group)


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
        raise BenchError(f"{measure.__name__} died; see its output") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, Slice):
        return found
    raise BenchError(str(found))


def _run(measure: Measure, settings: Settings, events: int, group: str, said: Any) -> None:
    import uvloop

    from projections.projecting import worker as of_worker

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
    from ledger.kafka.address import parse_address
    from ledger.kafka.log import TOPIC
    from projections.projecting.worker import WorkerOptions, make_app

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

    from api.composition.read_side import open_worker

    stop, taken = asyncio.Event(), _Taken(events)
    async with open_worker(settings, stop, web_host="127.0.0.1", web_port=0) as one:
        take = one.delivery.take

        async def counted(delivered: Any) -> None:
            before = one.delivery.counts.events
            await take(delivered)
            taken.take(one.delivery.counts.events - before)

        vars(one.delivery)["take"] = counted
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        running = asyncio.ensure_future(one.run(stop))
        done = asyncio.ensure_future(taken.done.wait())
        await asyncio.wait((running, done), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        done.cancel()
        await running
    return taken.slice(events)
