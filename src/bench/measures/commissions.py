"""A day's commissions of many members: how long they take, and how long other commands wait meanwhile.

1. The node runs in this process (`own_node`), and the measure sets its clock past midnight.
2. Each member refers three later members, and has one settled bet on the day. Six levels are paid, so most members
   cause seven events.
3. The measure ends when every commission is in the log; the number of events is known in advance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvloop

from bench.figures import Bound, Row, Target, percentile
from bench.lab.one_node import Lab
from bench.measures.own_node import START_US, Written, own_node
from ledger.core.commands import Command, Deposit, OpenWallet, PlaceBet, SettleBet
from ledger.core.games.rules import BUILT_IN, book_of
from ledger.core.money_rules import Commission, MoneyRules
from ledger.core.wallet import DAY_US

P99_MS: Final = Target(Bound.AT_MOST, 200, " ms")
"""The goal for other commands while the commissions are paid; the same as for settlements."""

LEVELS: Final = 6
_REFERRED_EACH: Final = 3
_RATES_E9: Final = (6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580)
_STAKE: Final = 100_000
_MEMBERS_A_BATCH: Final = 250


def commissions(lab: Lab) -> list[Row]:
    """A day's commissions of ``Plan.members`` members, and the p99 of commands in that time."""
    members = lab.plan.members
    lab.say(f"a day's commissions of {members:,} members")
    folder = lab.folder / "commissions"
    folder.mkdir()
    day = uvloop.run(pay_a_day(folder, members))
    lab.step()
    p99_ms = percentile(day.waits_ms, 0.99)
    return [
        Row(
            "commissions",
            f"a day's commissions of {members:,} members",
            f"{day.took_s:.1f} s, {day.events / day.took_s:,.0f} events/s",
            f"other commands: p99 {p99_ms:.0f} ms; processor time {day.processor_s:.1f} s",
            target=P99_MS,
            judged=p99_ms,
            figures={
                "members": members,
                "events": day.events,
                "seconds": day.took_s,
                "processor_seconds": day.processor_s,
                "p99_ms": p99_ms,
            },
        )
    ]


async def pay_a_day(folder: Path, members: int) -> Written:
    """Fill an empty folder, end the day, and wait for its commissions. Raises BenchError."""
    rules = book_of(BUILT_IN.games, money={"INR": MoneyRules(commission=Commission(rates_e9=_RATES_E9))})
    async with own_node(folder, rules) as node:
        for first in range(0, members, _MEMBERS_A_BATCH):
            # Each step is done for all members before the next step: a referrer must exist before its members are
            # opened.
            for step in range(4):
                last = min(first + _MEMBERS_A_BATCH, members)
                await node.post([_commands(number)[step] for number in range(first, last)])
        await node.quiet()
        before = node.events
        levels = sum(min(_depth(number), LEVELS) for number in range(members))
        node.now_us = (START_US // DAY_US + 1) * DAY_US
        return await node.until_written(members - 1 + levels, before, [_name(number) for number in range(members)])


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
