"""A node inside the bench's process, with its log and state in files, and a clock that the measure sets.

So a measure need not wait for a moment of the day, such as the end of a period. The measured times do not include
HTTP. The interpreter is set as `stakelog serve` sets it: with the usual settings the garbage collector walks all live
values again and again, so the bench would measure something else than the service.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.figures import BenchError
from ledger.core.commands import Command, Deposit, canonical
from ledger.core.games.rules import RuleBook
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.process_settings import set_for_a_node
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted

PARTITIONS: Final = 16
START_US: Final = 1_795_438_800_000_000
"""Where the clock begins: 23 November 2026, 13:00 UTC."""
_PAUSE_S: Final = 0.01
"""The pause between two other commands, which measure the wait. Chosen: so they add little load."""
_WITHIN_S: Final = 900.0


class Written(Struct, frozen=True):
    """``events`` of the ledger's own were written in ``took_s`` seconds, with ``processor_s`` seconds of processor
    time of this process. ``waits_ms``: how long each other command took meanwhile, in milliseconds, ascending."""

    events: int
    took_s: float
    processor_s: float
    waits_ms: list[float]


class OwnNode:
    """The node. ``now_us`` is its clock, in Unix microseconds: set it to move the clock."""

    def __init__(self, folder: Path, rules: RuleBook) -> None:
        self.now_us = START_US
        self._node: Final[Node] = node_of_whole_log(
            SqliteEventLog(folder / "events.sqlite3", PARTITIONS),
            SqliteStateStore(folder / "state.sqlite3"),
            lambda: self.now_us,
            {"INR": 2},
            rules=rules,
        )

    async def post(self, commands: Sequence[Command]) -> None:
        """Post the commands as one batch. Raises BenchError if one of them is not accepted."""
        batch = [(command, sha256(canonical(command)).hexdigest()) for command in commands]
        answers = await self._node.post_many(batch, "bench")
        wrong = next((answer for answer in answers if not isinstance(answer, Accepted)), None)
        if wrong is not None:
            raise BenchError(f"a command was not accepted: {wrong}")

    async def quiet(self) -> None:
        """Wait until no follow-up is under way."""
        while not all(writer.idle for writer in self._node.writers.values()):  # noqa: ASYNC110 - a state of all
            await asyncio.sleep(0.01)

    @property
    def events(self) -> int:
        """The number of events in the log, of all partitions."""
        return sum(writer.head.seq for writer in self._node.writers.values())

    async def until_written(self, events: int, before: int, user_ids: Sequence[str]) -> Written:
        """Post deposits of ``user_ids``, one after the other, until the log has ``events`` more events than
        ``before``, not counting those of the deposits.

        Raises BenchError if that takes more than a quarter of an hour.
        """
        began_s, processor_began_s = time.monotonic(), time.process_time()
        waits_ms: list[float] = []
        while self.events - before - len(waits_ms) < events:
            if time.monotonic() - began_s > _WITHIN_S:
                raise BenchError(f"{events:,} events were not written within {_WITHIN_S:g} s")
            waits_ms.append(await self._another(len(waits_ms), user_ids))
        took_s, processor_s = time.monotonic() - began_s, time.process_time() - processor_began_s
        return Written(events, took_s, processor_s, sorted(waits_ms))

    async def _another(self, number: int, user_ids: Sequence[str]) -> float:
        """How long a deposit takes, in milliseconds."""
        await asyncio.sleep(_PAUSE_S)
        command = Deposit(
            command_id=f"other-{number}",
            user_id=user_ids[number * 7_919 % len(user_ids)],
            order_id=f"other-{number}",
            asset="INR",
            amount=1,
        )
        began_s = time.monotonic()
        await self.post([command])
        return (time.monotonic() - began_s) * 1_000

    async def start(self) -> None:
        await self._node.start()

    async def stop(self) -> None:
        await self._node.stop()


@asynccontextmanager
async def own_node(folder: Path, rules: RuleBook) -> AsyncIterator[OwnNode]:
    """A node that runs on new files in the empty ``folder``."""
    thresholds, switch_s = gc.get_threshold(), sys.getswitchinterval()
    set_for_a_node()
    node = OwnNode(folder, rules)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(switch_s)
        gc.unfreeze()
