"""How often a read that waits for a position asks: seldom enough for a read model that is behind."""

import time

import pytest

from api.problems import Problem
from api.query import Query
from api.reading import SHARED_PARAMETERS, answer
from projections.documents import Page
from projections.queries import Found


class OnePartition:
    """A log's end that nobody asks for here."""

    partitions = 1

    def end(self, partition: int) -> int:
        raise AssertionError(partition)

    async def end_now(self, partition: int) -> int:
        raise AssertionError(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError((partition, seq))


async def test_who_waits_asks_ever_more_seldom_and_not_beyond_its_time() -> None:
    asked = 0

    async def behind() -> Found:
        nonlocal asked
        asked += 1
        return Found(Page([], None), "", {0: 4}, False, 0)

    query = Query(b"min_position=0:5&timeout_ms=400", SHARED_PARAMETERS)
    began_s = time.monotonic()
    with pytest.raises(Problem) as refused:
        await answer(query, OnePartition(), 0, behind)
    assert refused.value.code == "not_yet_visible"
    assert time.monotonic() - began_s >= 0.4
    assert 2 <= asked <= 20, "every 4 ms it would be a hundred"


async def test_what_comes_while_one_waits_is_answered_soon_after() -> None:
    began_s = time.monotonic()
    visible_s = began_s + 0.1

    async def ask() -> Found:
        return Found(Page([], None), "", {0: 5 if time.monotonic() >= visible_s else 4}, False, 0)

    await answer(Query(b"min_position=0:5", SHARED_PARAMETERS), OnePartition(), 0, ask)
    assert time.monotonic() >= visible_s
