"""Leaderboards of a month in which a million users played: how long one read of the tables takes.

1. A loader fills the table directly: to play a million users takes a quarter of an hour.
2. The reads are those of `GET /v1/leaderboards/{name}`, without HTTP, one after another.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import uvloop
from msgspec import Struct

from bench.figures import Bound, Row, Slice, Target, slice_of
from bench.lab.one_node import Lab
from bench.measures.own_node import PARTITIONS, START_US
from bench.report import page_text
from projections.models import VERSION
from projections.models.leaderboards import Board, days_of, leaders, values_of
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel

P95_MS: Final = Target(Bound.AT_MOST, 100, " ms")
"""For a million users; judged only there."""
CLAIMED_USERS: Final = 1_000_000

_MEASURES: Final = ("staked", "won", "net")
_READS_EACH: Final = 10
_SHOWN: Final = 200
"""As many as a response can have."""
_SPREAD: Final = 1_000_003
"""A prime: the sums are spread evenly, and the largest of each column belongs to another user."""


class ReadLeaders(Struct, frozen=True):
    """The reads, ``processor_ms`` of processor time each. ``first``: measure → the first user and the value."""

    reads: Slice
    processor_ms: float
    first: dict[str, tuple[str, int]]


def leaders_of_a_month(lab: Lab) -> Row:
    """The leaderboards of a month with ten times ``Plan.members`` users."""
    users = 10 * lab.plan.members
    lab.say(f"leaderboards of a month with {users:,} users")
    folder = lab.folder / "leaders"
    folder.mkdir()
    found = uvloop.run(read_leaders(folder, users))
    return Row(
        "leaderboard",
        f"leaderboard of a month with {users:,} users, of the tables alone",
        page_text(found.reads),
        f"{found.processor_ms:.0f} ms of processor time a read",
        target=P95_MS if users >= CLAIMED_USERS else None,
        judged=found.reads.p95_ms,
        figures={"users": users, "ours": found.reads, "processor_ms": found.processor_ms},
    )


async def read_leaders(folder: Path, users: int) -> ReadLeaders:
    """Fill the tables of an empty folder, and read."""
    path = folder / "read-model.sqlite3"
    generation = await SqliteReadModelStore(path).make_generation(VERSION, PARTITIONS, live=True)
    _fill(path, f"standing_g{generation.number}", users)
    model = SqliteReadModel(path)
    first: dict[str, tuple[str, int]] = {}
    took_s: list[float] = []
    began_s, processor_began_s = time.monotonic(), time.process_time()
    for _ in range(_READS_EACH):
        for measure in _MEASURES:
            name = f"{measure}_month"
            read_s = time.monotonic()
            (rows,) = await model.fetch([leaders(Board(name, "INR", *days_of(name, START_US)), _SHOWN)])
            took_s.append(time.monotonic() - read_s)
            first[measure] = values_of(rows)[0]
    all_s, processor_s = time.monotonic() - began_s, time.process_time() - processor_began_s
    await model.close()
    return ReadLeaders(slice_of(len(took_s), all_s, took_s), processor_s / len(took_s) * 1e3, first)


def _fill(path: Path, table: str, users: int) -> None:
    values = {"partition": f"i * {PARTITIONS} / {users}", "user_id": "printf('w-%07d', i)", "asset": "'INR'"}
    values |= {span: str(days_of(f"staked_{span}", START_US)[0]) for span in ("day", "week", "month")}
    with closing(sqlite3.connect(path)) as connection:
        names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        for at, name in enumerate(names):
            values.setdefault(name, "0" if name.endswith("_high") else f"1 + i * {7_919 + at} % {_SPREAD}")
        of_user = ", ".join(values[name] for name in names)
        connection.execute(
            f"INSERT INTO {table} WITH RECURSIVE "  # noqa: S608 - no text from outside
            f"n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {users}) SELECT {of_user} FROM n"
        )
        connection.commit()
