"""How often reads that wait for a position ask the tables: one of them for all, and seldom where that is no help."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from api.http.consistency import answer
from api.http.problems import Problem
from api.routes.parameters import ReadQuery
from projections.models.holds import Holds
from projections.reads.positions import POLL_S, Positions
from projections.reads.queries import Found
from projections.storage.port import ReadModelUnavailable
from projections.tables import queries

CALLS = 50


class OnePartition:
    """The tables' place, moved by the test; and a log's end that nobody asks for here."""

    partitions = 1

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.looks = 0
        self.away = False
        self.positions = Positions(self)  # type: ignore[arg-type]
        self.ends = self

    async def fetch(self, _: Sequence[queries.Query], *, quick: bool = False) -> Sequence[Any]:
        assert quick
        self.looks += 1
        if self.away:
            raise ReadModelUnavailable("the database is away")
        return [[(0, self.seq)]]

    def end(self, partition: int) -> int:
        raise AssertionError(partition)

    async def end_now(self, partition: int) -> int:
        raise AssertionError(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError((partition, seq))


class Asking:
    """A read whose answer is where the tables are, or where its user stands still."""

    def __init__(self, tables: OnePartition, stands_at: int | None = None) -> None:
        self.tables, self.stands_at = tables, stands_at
        self.asked = 0

    async def __call__(self) -> Found:
        self.asked += 1
        seq = self.tables.seq if self.stands_at is None else self.stands_at
        return Found(Holds([], None), "", {0: seq}, False, 0)


def query(timeout_ms: int = 2_000) -> ReadQuery:
    return ReadQuery(min_position="0:5", timeout_ms=timeout_ms)


async def test_who_waits_together_looks_together_and_asks_once_it_is_there() -> None:
    tables = OnePartition(4)
    asks = [Asking(tables) for _ in range(CALLS)]
    began_s = time.monotonic()
    waiting = [asyncio.create_task(answer(query(), tables, 0, ask)) for ask in asks]
    await asyncio.sleep(0.1)
    tables.seq = 5
    found = await asyncio.gather(*waiting)
    assert [one.seqs for one in found] == [{0: 5}] * CALLS
    assert [ask.asked for ask in asks] == [2] * CALLS
    assert tables.looks <= (time.monotonic() - began_s) / POLL_S + 1


async def test_nobody_waits_beyond_its_time() -> None:
    tables = OnePartition(4)
    ask = Asking(tables)
    began_s = time.monotonic()
    with pytest.raises(Problem) as refused:
        await answer(query(300), tables, 0, ask)
    assert refused.value.code == "not_yet_visible"
    assert time.monotonic() - began_s >= 0.3
    assert ask.asked == 2


async def test_whose_user_stands_still_asks_ever_more_seldom() -> None:
    tables = OnePartition(5)
    ask = Asking(tables, stands_at=4)
    with pytest.raises(Problem, match="not yet at 5"):
        await answer(query(400), tables, 0, ask)
    assert 3 <= ask.asked <= 20, "every 4 ms it would be a hundred"


async def test_where_nobody_can_look_the_read_itself_says_so() -> None:
    tables = OnePartition(4)
    tables.away = True
    asked = 0

    async def ask() -> Found:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise ReadModelUnavailable("the database is away")
        return Found(Holds([], None), "", {0: 4}, False, 0)

    with pytest.raises(Problem, match="the database is away"):
        await answer(query(), tables, 0, ask)
