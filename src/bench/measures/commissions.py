"""A day's commissions of many members: how long they take, and how long other commands wait meanwhile.

1. The node runs in this process, with its log and state in files and a clock that the measure sets past midnight. So
   the times do not include HTTP.
2. Each member refers three later members, and has one settled bet on the day. Six levels are paid, so most members
   cause seven events.
3. The measure ends when every commission is in the log; the number of events is known in advance.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.figures import BenchError, Bound, Row, Target
from bench.lab.one_node import Lab
from ledger.core.commands import Command, Deposit, OpenWallet, PlaceBet, SettleBet, canonical
from ledger.core.games.rules import BUILT_IN, book_of
from ledger.core.money_rules import Commission, MoneyRules
from ledger.core.wallet import DAY_US
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted

P99_MS: Final = Target(Bound.AT_MOST, 200, " ms")
"""The goal for other commands while the commissions are paid; the same as for settlements."""

PARTITIONS: Final = 16
LEVELS: Final = 6
_REFERRED_EACH: Final = 3
_RATES_E9: Final = (6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580)
_STAKE: Final = 100_000
_MEMBERS_A_BATCH: Final = 250
_START_US: Final = 1_795_438_800_000_000
_PAUSE_S: Final = 0.01
"""The pause between two other commands. Chosen: they measure the wait and add little load."""
_WITHIN_S: Final = 900.0


class Day(Struct, frozen=True):
    """``events``: events of the commissions, written in ``took_s``. ``waits_ms``: times of other commands,
    ascending."""

    members: int
    events: int
    took_s: float
    waits_ms: list[float]


class _Clock:
    def __init__(self) -> None:
        self.now_us = _START_US

    def __call__(self) -> int:
        return self.now_us


def commissions(lab: Lab) -> list[Row]:
    """A day's commissions of ``Plan.members`` members, and the p99 of commands in that time."""
    lab.say(f"a day's commissions of {lab.plan.members:,} members")
    folder = lab.folder / "commissions"
    folder.mkdir()
    day = asyncio.run(pay_a_day(folder, lab.plan.members))
    lab.step()
    p99_ms = day.waits_ms[int(len(day.waits_ms) * 0.99)]
    return [
        Row(
            "commissions",
            f"a day's commissions of {day.members:,} members",
            f"{day.took_s:.1f} s, {day.events / day.took_s:,.0f} events/s",
            f"other commands: p99 {p99_ms:.0f} ms",
            target=P99_MS,
            judged=p99_ms,
            figures={"members": day.members, "events": day.events, "seconds": day.took_s, "p99_ms": p99_ms},
        )
    ]


async def pay_a_day(folder: Path, members: int) -> Day:
    """Fill an empty folder, end the day, and wait for its commissions. Raises BenchError."""
    clock = _Clock()
    commission = Commission(rates_e9=_RATES_E9)
    node = node_of_whole_log(
        SqliteEventLog(folder / "events.sqlite3", PARTITIONS),
        SqliteStateStore(folder / "state.sqlite3"),
        clock,
        {"INR": 2},
        rules=book_of(BUILT_IN.games, money={"INR": MoneyRules(commission=commission)}),
    )
    await node.start()
    try:
        for first in range(0, members, _MEMBERS_A_BATCH):
            # Each step is done for all members before the next step: a referrer must exist before its members are
            # opened.
            for step in range(4):
                last = min(first + _MEMBERS_A_BATCH, members)
                await _post(node, [_commands(number)[step] for number in range(first, last)])
        await _quiet(node)
        before = _events(node)
        levels = sum(min(_depth(number), LEVELS) for number in range(members))
        due = members - 1 + levels
        clock.now_us = (_START_US // DAY_US + 1) * DAY_US
        began_s = time.monotonic()
        waits_ms: list[float] = []
        while _events(node) - before - len(waits_ms) < due:
            if time.monotonic() - began_s > _WITHIN_S:
                raise BenchError(f"a day's commissions were not paid within {_WITHIN_S:g} s")
            waits_ms.append(await _another(node, len(waits_ms), members))
        took_s = time.monotonic() - began_s
    finally:
        await node.stop()
    return Day(members, due, took_s, sorted(waits_ms))


async def _another(node: Node, number: int, members: int) -> float:
    """How long a deposit takes, in milliseconds."""
    await asyncio.sleep(_PAUSE_S)
    command = Deposit(
        command_id=f"other-{number}",
        user_id=_name(number * 7_919 % members),
        order_id=f"other-{number}",
        asset="INR",
        amount=1,
    )
    began_s = time.monotonic()
    await _post(node, [command])
    return (time.monotonic() - began_s) * 1_000


def _commands(number: int) -> tuple[Command, Command, Command, Command]:
    user_id = _name(number)
    return (
        OpenWallet(command_id="open", user_id=user_id, referrer_id=None if number == 0 else _name(_referrer(number))),
        Deposit(command_id="pay", user_id=user_id, order_id="o", asset="INR", amount=_STAKE),
        PlaceBet(
            command_id="bet",
            user_id=user_id,
            bet_id="b",
            game="external",
            period="p",
            selection="s",
            asset="INR",
            stake=_STAKE,
        ),
        SettleBet(command_id="lost", user_id=user_id, bet_id="b", payout=0),
    )


def _name(number: int) -> str:
    return f"member-{number:07d}"


def _referrer(number: int) -> int:
    return (number - 1) // _REFERRED_EACH


def _referrers(number: int) -> Iterator[int]:
    while number:
        number = _referrer(number)
        yield number


def _depth(number: int) -> int:
    return sum(1 for _ in _referrers(number))


def _events(node: Node) -> int:
    return sum(writer.head.seq for writer in node.writers.values())


async def _quiet(node: Node) -> None:
    while not all(writer.idle for writer in node.writers.values()):  # noqa: ASYNC110 - a state of all writers
        await asyncio.sleep(0.01)


async def _post(node: Node, commands: list[Command]) -> None:
    batch = [(command, sha256(canonical(command)).hexdigest()) for command in commands]
    answers = await node.post_many(batch, "bench")
    wrong = next((answer for answer in answers if not isinstance(answer, Accepted)), None)
    if wrong is not None:
        raise BenchError(f"a command was not accepted: {wrong}")
