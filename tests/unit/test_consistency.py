"""Reads that wait for a position share their queries, and a read that waiting cannot help is repeated less often."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from api.http.consistency import read_until_visible
from api.http.problems import Problem
from api.http.requests import Request
from api.identity.identity import WITHOUT_LOGIN
from api.routes.parameters import ReadQuery
from projections.models.holds import Holds
from projections.reads.positions import POLL_S, Positions
from projections.reads.queries import Found
from projections.reads.suspects import Suspects
from projections.storage.port import ReadModelUnavailable
from projections.tables import queries

CALLS = 50


class OnePartition:
    """A read model with one partition, whose seq the test sets; and the ends of the log, which must not be read."""

    partitions = 1

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.looks = 0
        self.away = False
        self.positions = Positions(self)  # type: ignore[arg-type]
        self.suspects = Suspects(self)  # type: ignore[arg-type]
        self.ends = self

    async def fetch(self, _: Sequence[queries.Query], *, quick: bool = False) -> Sequence[Any]:
        assert quick
        self.looks += 1
        if self.away:
            raise ReadModelUnavailable("the database is unavailable")
        return [[(0, self.seq)]]

    def end(self, partition: int) -> int:
        raise AssertionError(partition)

    async def end_now(self, partition: int) -> int:
        raise AssertionError(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError((partition, seq))


class CountingRead:
    """A read that returns the seq of the tables, or the seq at which its user is quarantined, and counts its
    calls."""

    def __init__(self, tables: OnePartition, quarantined_at: int | None = None) -> None:
        self.tables, self.quarantined_at = tables, quarantined_at
        self.calls = 0

    async def __call__(self) -> Found:
        self.calls += 1
        seq = self.tables.seq if self.quarantined_at is None else self.quarantined_at
        return Found(Holds([], None), "", {0: seq}, False, 0)


def query(timeout_ms: int = 2_000) -> Request[None, ReadQuery]:
    async def receive() -> Any:
        raise AssertionError("a read has no body")

    scope: Any = {}
    wait_until_s = asyncio.get_running_loop().time() + timeout_ms / 1_000
    return Request(
        None, ReadQuery(min_position="0:5", timeout_ms=timeout_ms), scope, receive, wait_until_s, WITHOUT_LOGIN
    )


async def test_waiting_reads_share_the_queries_for_the_position_and_read_once_it_is_reached() -> None:
    tables = OnePartition(4)
    asks = [CountingRead(tables) for _ in range(CALLS)]
    began_s = time.monotonic()
    waiting = [asyncio.create_task(read_until_visible(query(), tables, (0,), ask)) for ask in asks]
    await asyncio.sleep(0.1)
    tables.seq = 5
    found = await asyncio.gather(*waiting)
    assert [one.seqs for one in found] == [{0: 5}] * CALLS
    assert [ask.calls for ask in asks] == [2] * CALLS
    assert tables.looks <= (time.monotonic() - began_s) / POLL_S + 1


async def test_a_read_waits_no_longer_than_its_timeout() -> None:
    tables = OnePartition(4)
    ask = CountingRead(tables)
    began_s = time.monotonic()
    with pytest.raises(Problem) as refused:
        await read_until_visible(query(300), tables, (0,), ask)
    assert refused.value.code == "not_yet_visible"
    assert time.monotonic() - began_s >= 0.3
    assert ask.calls == 2


async def test_reads_of_a_quarantined_user_are_repeated_less_and_less_often() -> None:
    tables = OnePartition(5)
    ask = CountingRead(tables, quarantined_at=4)
    with pytest.raises(Problem, match="not yet at 5"):
        await read_until_visible(query(400), tables, (0,), ask)
    assert 3 <= ask.calls <= 20, "a read every 4 ms would be a hundred calls"


async def test_if_the_positions_cannot_be_read_the_read_itself_raises() -> None:
    tables = OnePartition(4)
    tables.away = True
    asked = 0

    async def ask() -> Found:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise ReadModelUnavailable("the database is unavailable")
        return Found(Holds([], None), "", {0: 4}, False, 0)

    with pytest.raises(Problem, match="the read model is unavailable"):
        await read_until_visible(query(), tables, (0,), ask)
