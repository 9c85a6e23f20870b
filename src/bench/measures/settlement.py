"""All open bets of one period, settled by its result: how long it takes, and how long other commands wait meanwhile.

1. The node runs in this process (`own_node`), and the measure sets its clock past the end of the period.
2. The bets are on one selection after the other, so that some win, some lose, and some have several legs.
3. The measure ends when every settlement is in the log; the number of bets is known in advance.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import uvloop

from bench.figures import Bound, Row, Target, percentile
from bench.lab.one_node import Lab
from bench.load.bodies import GAME, SELECTIONS
from bench.measures.own_node import START_US, Written, own_node
from bench.report import rate_text
from ledger.core.commands import Command, Deposit, OpenWallet, PlaceBet, RecordResult
from ledger.core.games.periods import RESULT_AFTER_US, name_of
from ledger.core.games.rules import BUILT_IN, span_of

# From the promises of the project, for 100,000 open bets.
TOOK_S: Final = Target(Bound.AT_MOST, 5, " s")
P99_MS: Final = Target(Bound.AT_MOST, 200, " ms")
CLAIMED_BETS: Final = 100_000

BETS_EACH: Final = 10
"""Bets of each wallet. Chosen."""
_STAKE: Final = 1_000
_WALLETS_A_BATCH: Final = 250
_RESULT: Final = "7"


def settlement(lab: Lab) -> list[Row]:
    """The settlement of ``Plan.open_bets`` bets, and the p99 of commands in that time."""
    bets = lab.plan.open_bets
    lab.say(f"the settlement of {bets:,} open bets")
    folder = lab.folder / "settlement"
    folder.mkdir()
    settled = uvloop.run(settle_a_period(folder, bets))
    lab.step()
    p99_ms = percentile(settled.waits_ms, 0.99)
    figures: dict[str, object] = {
        "bets": bets,
        "seconds": settled.took_s,
        "processor_seconds": settled.processor_s,
        "p99_ms": p99_ms,
    }
    return [
        Row(
            "settlement",
            f"settlement of {bets:,} open bets of one period",
            f"{settled.took_s:.2f} s, {rate_text(bets / settled.took_s)}",
            f"processor time {settled.processor_s:.2f} s, {settled.processor_s / bets * 1e6:.0f} µs a bet",
            target=TOOK_S if bets >= CLAIMED_BETS else None,
            judged=settled.took_s,
            figures=figures,
        ),
        Row(
            "settlement",
            "other commands meanwhile",
            f"p50 {percentile(settled.waits_ms, 0.5):.0f} ms, p99 {p99_ms:.0f} ms",
            f"{len(settled.waits_ms):,} deposits, one after another",
            target=P99_MS if bets >= CLAIMED_BETS else None,
            judged=p99_ms,
            figures=figures,
        ),
    ]


async def settle_a_period(folder: Path, bets: int) -> Written:
    """Fill an empty folder, record the result of the period, and wait until its bets are settled. Raises
    BenchError."""
    wallets = [f"w-{number:07d}" for number in range(-(-bets // BETS_EACH))]
    period = name_of(START_US)
    span = span_of(BUILT_IN.games[GAME], period)
    assert span is not None, period
    async with own_node(folder, BUILT_IN) as node:
        placed = 0
        for first in range(0, len(wallets), _WALLETS_A_BATCH):
            some = wallets[first : first + _WALLETS_A_BATCH]
            await node.post([OpenWallet(command_id="open", user_id=user_id) for user_id in some])
            await node.post([_deposit(user_id) for user_id in some])
            for number in range(BETS_EACH):
                posted = [_bet(user_id, period, number) for user_id in some][: bets - placed]
                await node.post(posted)
                placed += len(posted)
        assert placed == bets, (placed, bets)
        await node.quiet()
        before = node.events
        node.now_us = span.ends_at_us + RESULT_AFTER_US
        result = RecordResult(command_id="result", user_id=f"game:{GAME}", period=period, result=_RESULT)
        posting = asyncio.create_task(node.post([result]))
        settled = await node.until_written(bets + 1, before, wallets)
        await posting
        return settled


def _deposit(user_id: str) -> Command:
    return Deposit(command_id="pay", user_id=user_id, order_id="o", asset="INR", amount=BETS_EACH * _STAKE)


def _bet(user_id: str, period: str, number: int) -> Command:
    return PlaceBet(
        command_id=f"bet-{number}",
        user_id=user_id,
        bet_id=f"b-{number}",
        game=GAME,
        period=period,
        selection=SELECTIONS[number % len(SELECTIONS)],
        asset="INR",
        stake=_STAKE,
    )
