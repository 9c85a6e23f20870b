"""The program on another topic than ``stakelog.events``: `python tests/system/on_topic.py <topic> <arguments>`.

So that tests share a broker. `<topic>/<suffix>`: as a worker of its own group, which is assigned all partitions
whatever other workers run. Worker processes run this file again, and are changed too.

Where ``SILENT_ONCE`` names a file, a worker's agent gets nothing more as soon as it is there, as if its consumer had
lost its place; such a worker gives up after ``SILENT_S`` instead of a minute.
"""

import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from ledger.kafka import log as kafka
from projections.projecting import worker

SILENT_S: Final = 6.0


def make_silent_once(silent: Callable[[], bool]) -> None:
    batches = worker._batches

    async def until_silent(stream: Any) -> AsyncIterator[Any]:
        async for events in batches(stream):
            if silent():
                await asyncio.Event().wait()
            yield events

    vars(worker)["_batches"] = until_silent
    vars(worker)["WorkerOptions"] = functools.partial(worker.WorkerOptions, stalled_s=SILENT_S)


if __name__ in ("__main__", "__mp_main__"):
    topic, _, suffix = sys.argv[1].partition("/")
    vars(kafka)["TOPIC"] = topic
    vars(worker)["GROUP_SUFFIX"] = suffix or worker.GROUP_SUFFIX
    if silent_once := os.environ.get("SILENT_ONCE"):
        make_silent_once(Path(silent_once).exists)

if __name__ == "__main__":
    from api.cli.main import stakelog

    stakelog(sys.argv[2:])
