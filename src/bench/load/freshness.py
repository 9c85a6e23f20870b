"""What a client sees of the follower: how far the tables are behind the log, and how soon its own command is visible.

1. Commands leave on time, whether or not earlier ones have their response: a slow service gets the same load. If the
   load generator itself cannot keep the pace, the reached rate is reported.
2. A command's time until it is visible starts with its response and ends with the response of a read that includes
   it. So it includes the time of one read, which is measured in turns without the wait.
3. The ``as_of`` of each read is checked: a read before the requested position ends the measure.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from array import array
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from bench.figures import BenchError, Slice, percentile, slice_of
from bench.load import bodies
from bench.load.client import Pool, pool

LOOK_EVERY_S = 0.05
"""How often `/metrics` is read while commands arrive. Chosen: each look costs the service about a millisecond."""
CAUGHT_UP_S_MAX = 120.0
"""How long the follower may take to catch up. Chosen: far above what it ever took."""
CONNECTIONS = 32
BETTING = 20
"""Bets in each batch on a period; a read after each batch makes 50 reads a second. Chosen: far more than a feed
needs."""
ARRIVING = 100
"""Commands in each arriving batch: at 10,000 commands a second, one every 10 ms."""

_TEN_MINUTES = timedelta(minutes=10)
_MARGIN_S = 20.0
"""The game stops taking bets 5 s before the period's end; a slow machine may need longer for a slice."""
_EVENTS = "stakelog_read_model_lag_events{"
_SECONDS = "stakelog_read_model_lag_seconds{"
_METRICS = bodies.get("/metrics")


class Lag(Struct, frozen=True):
    """How far the tables were behind the log at one look: events of all partitions, and the age of the oldest."""

    events: int
    ms: float


class Following(Struct, frozen=True):
    """A stretch of arriving commands, and the follower's lag.

    ``at_end`` is the lag at the last command's response, ``caught_up_s`` the time from then until there is no lag.
    """

    arrived: Slice
    looks: int
    events_median: float
    events_max: int
    ms_median: float
    ms_max: float
    at_end: Lag
    caught_up_s: float


class _Position(Struct):
    position: str


class _Accepted(Struct):
    result: _Position
    status: int


class _Period(Struct):
    distribution: list[msgspec.Raw]


class _AsOf(Struct):
    as_of: _Position


_position: msgspec.json.Decoder[_Position] = msgspec.json.Decoder(_Position)
_accepted: msgspec.json.Decoder[list[_Accepted]] = msgspec.json.Decoder(list[_Accepted])
_period: msgspec.json.Decoder[_Period] = msgspec.json.Decoder(_Period)
_as_of: msgspec.json.Decoder[_AsOf] = msgspec.json.Decoder(_AsOf)


def lag_of(exposition: str) -> Lag:
    """The lag in the text of ``/metrics``. Raises BenchError if it is missing."""
    events = [_value(line) for line in exposition.splitlines() if line.startswith(_EVENTS)]
    seconds = [_value(line) for line in exposition.splitlines() if line.startswith(_SECONDS)]
    if not events or not seconds:
        raise BenchError("/metrics has no lag of the follower")
    return Lag(int(sum(events)), max(seconds) * 1e3)


def _value(line: str) -> float:
    return float(line.rpartition(" ")[2])


def includes(answer: bytes, wanted: str) -> bool:
    """Whether the response is as of the position ``wanted`` or later."""
    partition, _, seq = _as_of.decode(answer).as_of.position.partition(":")
    wanted_partition, _, wanted_seq = wanted.partition(":")
    return partition == wanted_partition and int(seq) >= int(wanted_seq)


def following_of(arrived: Slice, looks: Sequence[Lag], at_end: Lag, caught_up_s: float) -> Following:
    """The figures of one stretch. Raises BenchError without a look."""
    if not looks:
        raise BenchError("the commands arrived before the first look at the lag")
    events, ms = sorted(look.events for look in looks), sorted(look.ms for look in looks)
    return Following(
        arrived,
        len(looks),
        statistics.median(events),
        events[-1],
        percentile(ms, 0.5),
        ms[-1],
        at_end,
        caught_up_s,
    )


def visible(
    port: int, *, per_s: float, limit_s: float, waits: bool, tag: str, seed: int, read_port: int | None = None
) -> Slice:
    """Single commands at an even pace; after each answer, a read of its wallet, at another node if one is named.

    ``waits``: with ``min_position`` of that command, else without, as the yardstick. Latencies are the reads'. Raises
    BenchError.
    """
    count = int(per_s * limit_s)
    wallets = bodies.picks("uniform", count, seed)
    posts = bodies.singles(bodies.bets(tag, wallets))

    async def run() -> Slice:
        took_s = array("d")
        async with pool(port, CONNECTIONS) as posting, pool(read_port or port, CONNECTIONS) as reading:

            async def one(post: bytes, wallet: int) -> None:
                async with posting.client() as client:
                    position = _position.decode(await client.ask(post, b"201")).position
                async with reading.client() as client:
                    path = bodies.wallet_path(wallet, "wallet")
                    target = f"{path}?min_position={position}&timeout_ms=10000" if waits else path
                    answer = await client.ask(bodies.get(target))
                    took_s.append(client.took_s)
                    if waits and not includes(answer, position):
                        raise BenchError(f"a read with min_position={position} did not include it")

            began = perf_counter()
            await paced(per_s, (one(post, wallet) for post, wallet in zip(posts, wallets, strict=True)))
            return slice_of(len(took_s), perf_counter() - began, took_s)

    return uvloop.run(run())


def distribution(port: int, *, per_s: float, limit_s: float, waits: bool, tag: str, seed: int) -> Slice:
    """Batches of ``BETTING`` bets on one period at an even pace; after each, a read of what was bet on the period.

    ``waits``: the reads have ``min_position`` of the batch's last bet, so a latency is how long a distribution lacks
    a bet. Otherwise they have none: this is the yardstick. Begins in a period that is long enough. Raises BenchError.
    """
    count = int(per_s * limit_s)
    wallets = bodies.picks("uniform", count, seed)
    period = _period_with(limit_s + _MARGIN_S)
    posts = bodies.batches(bodies.period_bets(tag, wallets, period), BETTING)
    path = f"/v1/games/{bodies.GAME}/periods/{period}"

    async def run() -> Slice:
        took_s = array("d")
        async with pool(port, CONNECTIONS) as posting, pool(port, CONNECTIONS) as reading:

            async def one(post: bytes) -> None:
                async with posting.client() as client:
                    *_, last = _accepted.decode(await client.ask(post))
                    position = last.result.position
                async with reading.client() as client:
                    target = f"{path}?min_position={position}&timeout_ms=10000" if waits else path
                    answer = await client.ask(bodies.get(target))
                    took_s.append(client.took_s)
                    if not _period.decode(answer).distribution:
                        raise BenchError("a period with bets has no distribution")

            began = perf_counter()
            await paced(per_s / BETTING, (one(post) for post in posts))
            return slice_of(len(took_s) * BETTING, perf_counter() - began, took_s)

    return uvloop.run(run())


def _period_with(left_s: float) -> str:
    """The running period of ``bodies.GAME``; the next one, after a wait, if it ends in less than ``left_s``."""
    now = datetime.now(UTC)
    start = now.replace(minute=now.minute // 10 * 10, second=0, microsecond=0)
    if (start + _TEN_MINUTES - now).total_seconds() < left_s:
        start += _TEN_MINUTES
        time.sleep((start - now).total_seconds() + 0.1)
    return start.strftime("%Y%m%dT%H%M%SZ")


def arrivals(
    port: int, *, metrics_port: int | None = None, per_s: float, limit_s: float, tag: str, seed: int
) -> Following:
    """Batches of ``ARRIVING`` commands at an even pace of ``per_s`` commands, and the follower beside them, by the
    metrics at ``metrics_port``; None: at the same port.

    Raises BenchError, also if the follower has not caught up within ``CAUGHT_UP_S_MAX``.
    """
    commands = bodies.bets(tag, bodies.picks("uniform", int(per_s * limit_s), seed))
    batches = bodies.batches(commands, ARRIVING)

    async def run() -> Following:
        took_s = array("d")
        looks: list[Lag] = []
        async with pool(port, CONNECTIONS) as connections, pool(metrics_port or port) as metrics:

            async def one(batch: bytes) -> None:
                async with connections.client() as client:
                    answer = await client.ask(batch)
                    took_s.append(client.took_s)
                    if answer.count(b'"status":201') != ARRIVING:
                        raise BenchError(f"a batch was not accepted whole: {answer[:300].decode('utf-8', 'replace')}")

            async def watch() -> None:
                while True:
                    looks.append(await _look(metrics))
                    await asyncio.sleep(LOOK_EVERY_S)

            watching = asyncio.create_task(watch())
            try:
                began = perf_counter()
                await paced(per_s / ARRIVING, (one(batch) for batch in batches))
                ended = perf_counter()
            finally:
                watching.cancel()
                await asyncio.wait((watching,))
            at_end = await _look(metrics)
            await _until_caught_up(metrics, at_end)
            arrived = slice_of(len(took_s) * ARRIVING, ended - began, took_s)
            return following_of(arrived, looks, at_end, perf_counter() - ended)

    return uvloop.run(run())


def catch_up(port: int) -> Slice:
    """Wait until the follower has folded the whole log: ``done`` is the events that it was behind, at least 1.

    Raises BenchError.
    """

    async def run() -> Slice:
        began = perf_counter()
        async with pool(port) as connections:
            behind = await _look(connections)
            await _until_caught_up(connections, behind)
        took_s = perf_counter() - began
        return slice_of(max(behind.events, 1), took_s, [took_s])

    return uvloop.run(run())


async def _look(connections: Pool) -> Lag:
    async with connections.client() as client:
        return lag_of((await client.ask(_METRICS)).decode())


async def _until_caught_up(connections: Pool, last: Lag) -> None:
    deadline = perf_counter() + CAUGHT_UP_S_MAX
    while last.events:
        if perf_counter() > deadline:
            raise BenchError(f"the follower is still {last.events:,} events behind after {CAUGHT_UP_S_MAX:.0f} s")
        await asyncio.sleep(0.02)
        last = await _look(connections)


async def paced(per_s: float, each: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Begin ``per_s`` of ``each`` a second, at even distances; ends when all have ended. Raises the first's error."""
    began = perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for number, one in enumerate(each):
                early_s = began + number / per_s - perf_counter()
                if early_s > 0:
                    try:
                        await asyncio.sleep(early_s)
                    except asyncio.CancelledError:
                        one.close()  # an earlier one has failed
                        raise
                group.create_task(one)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
