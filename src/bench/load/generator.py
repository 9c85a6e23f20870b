"""The load generator: HTTP/1.1 over `asyncio.Protocol` on uvloop, closed loop, one request under way a connection.

It does as little as it can, so that on a small machine it takes the same small share from whatever it measures; an
HTTP client library costs several times more than a bare route does. The price is that it reads one kind of response:

1. A response is complete at ``Content-Length``. One without it, or with another status than the one expected
   (201 for a command, 200 for a batch or a read), ends the slice with BenchError; so does a lost connection.
2. A batch counts only if each of its elements has status 201.
3. No request is sent after the slice's end; those under way are waited for and counted, and the time counted ends
   with the last of them.
"""

from __future__ import annotations

import asyncio
import gc
import random
from array import array
from collections.abc import Iterator
from time import perf_counter
from typing import cast

import msgspec
import uvloop

from bench.figures import BenchError, Slice, slice_of
from bench.load import bodies
from bench.load.bodies import Spread, What, Within

ANSWER_TIMEOUT_S = 60.0
"""Longer than any response of a working service takes: a slice that takes this much too long has failed."""

SINGLES_PER_S_MAX = 40_000
BATCHED_PER_S_MAX = 200_000
LEADERBOARDS_PER_S_MAX = 10_000
"""How many requests are built for a slice: about twice what was ever measured here. A slice that uses all of them
ends early, which shortens it and does not falsify it."""

WALLETS_PER_BATCH = 333
"""Opening, deposit and bet of 333 wallets are 999 commands; a batch takes 1,000."""

_ACCEPTED = b'"status":201'


def length_of(data: bytes, end: int, expected: bytes) -> int:
    """The Content-Length of an answer whose head ends at ``end``; raises BenchError as invariant 1 says."""
    at = data.find(b"content-length:", 0, end)
    if at < 0:
        at = data.lower().find(b"content-length:", 0, end)
    status = data[9:12]
    if status != expected:
        shown = data[end + 4 : end + 304].decode("utf-8", "replace")
        raise BenchError(f"a request that cannot be refused got status {status.decode()}: {shown}")
    if at < 0:
        raise BenchError("a response has no Content-Length")
    line_end = data.find(b"\r\n", at)
    length = int(data[at + 15 : line_end])
    if not length:
        raise BenchError("a response is empty")
    return length


class _Load:
    """The shared state of the connections of one slice."""

    def __init__(self, requests: list[bytes], per_request: int, expected: bytes) -> None:
        self.requests: Iterator[bytes] = iter(requests)
        self.per_request = per_request
        self.expected = expected
        self.deadline = float("inf")
        self.latencies_s = array("d")
        self.last_at = 0.0
        self.busy = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, took_s: float, now: float) -> None:
        self.latencies_s.append(took_s)
        self.last_at = now

    def one_less(self) -> None:
        self.busy -= 1
        if not self.busy and not self.over.done():
            self.over.set_result(None)

    def fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(BenchError(why))


class _Connection(asyncio.Protocol):
    """Posts, waits for the whole response, posts the next request."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._head = b""
        self._body: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._load.fail(f"the service closed a connection{'' if exc is None else f': {exc}'}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def post(self) -> None:
        """Send the next request, unless the slice is over."""
        following = next(self._load.requests, None) if perf_counter() < self._load.deadline else None
        if following is None or self._transport is None:
            self._load.one_less()
            return
        self._sent_at = perf_counter()
        self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            try:
                self._missing = length_of(data, end, self._load.expected)
            except BenchError as error:
                self._load.fail(str(error))
                return
            data = data[end + 4 :]
        self._body.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            now = perf_counter()
            took_s = now - self._sent_at
            if self._missing < 0:
                self._load.fail("a response is longer than its Content-Length")
                return
            if self._load.per_request > 1 and not self._all_accepted():
                return
            self._body.clear()
            self._load.answered(took_s, now)
            self.post()

    def _all_accepted(self) -> bool:
        answer = b"".join(self._body)
        # Counting bytes costs microseconds, decoding half a megabyte costs milliseconds of the same two cores.
        if answer.count(_ACCEPTED) == self._load.per_request:
            return True
        elements = msgspec.json.decode(answer)
        refused = next((one for one in elements if one.get("status") != 201), None)
        if refused is None and len(elements) == self._load.per_request:
            return True
        self._load.fail(f"a batch was not accepted whole: {len(elements)} responses, one is {str(refused)[:300]}")
        return False


async def _post_all(
    port: int, connections: int, requests: list[bytes], per_request: int, expected: bytes, limit_s: float
) -> Slice:
    loop = asyncio.get_running_loop()
    load = _Load(requests, per_request, expected)
    opened: list[_Connection] = []
    try:
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
            opened.append(connection)
        load.busy = connections
        began = perf_counter()
        load.deadline = began + limit_s
        for connection in opened:
            connection.post()
        timeout_s = ANSWER_TIMEOUT_S + (limit_s if limit_s != float("inf") else 0)
        async with asyncio.timeout(timeout_s):
            await load.over
    except OSError as error:
        raise BenchError(f"no connection to 127.0.0.1:{port}: {error}") from error
    except TimeoutError as error:
        raise BenchError(f"no response within {timeout_s:.0f} s") from error
    finally:
        for connection in opened:
            connection.close()
        load.over.cancel()
    return slice_of(len(load.latencies_s) * per_request, load.last_at - began, load.latencies_s)


def _run(
    port: int,
    connections: int,
    requests: list[bytes],
    per_request: int,
    limit_s: float = float("inf"),
    *,
    read: bool = False,
) -> Slice:
    expected = b"201" if per_request == 1 and not read else b"200"
    # A collection in the middle of a slice walks tens of thousands of requests; nothing here makes cycles.
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_post_all(port, connections, requests, per_request, expected, limit_s))
    finally:
        gc.enable()


def post_bets(
    port: int,
    *,
    connections: int,
    per_request: int,
    limit_s: float,
    spread: Spread,
    within: Within | None = None,
    tag: str,
    seed: int,
    token: str | None = None,
    per_s_max: int | None = None,
) -> Slice:
    """Bets for ``limit_s`` seconds; ``per_request`` 1 posts single commands, else batches of that many. ``within``:
    of wallets in these partitions only. ``per_s_max``: how many are built for each second, where the default would
    take too much memory.

    Each of the slice's ``done`` is a command, each latency a request. Raises BenchError.
    """
    if per_request == 1:
        commands = bodies.bets(
            tag, bodies.picks(spread, int((per_s_max or SINGLES_PER_S_MAX) * limit_s), seed, within)
        )
        return _run(port, connections, bodies.singles(commands, token), 1, limit_s)
    count = max(int((per_s_max or BATCHED_PER_S_MAX) * limit_s) // per_request, 2 * connections) * per_request
    commands = bodies.bets(tag, bodies.picks(spread, count, seed, within))
    return _run(port, connections, bodies.batches(commands, per_request, token), per_request, limit_s)


def read_wallets(port: int, *, connections: int, what: What, wallets: int, limit_s: float, seed: int) -> Slice:
    """Read ``what`` of the first ``wallets`` wallets, in any order, for ``limit_s`` seconds. Raises BenchError."""
    count = int(SINGLES_PER_S_MAX * limit_s)
    chooser = random.Random(seed)  # noqa: S311 - repeatable load, no secret
    requests = bodies.reads(what, chooser.choices(range(wallets), k=count))
    return _run(port, connections, requests, 1, limit_s, read=True)


def read_each(port: int, *, connections: int, what: What) -> Slice:
    """Read ``what`` of every wallet once. Raises BenchError."""
    return _run(port, connections, bodies.reads(what, range(bodies.WALLETS)), 1, read=True)


def read_mix(port: int, *, connections: int, limit_s: float, now_us: int, seed: int) -> Slice:
    """The mix of `bodies.mixed_reads` for ``limit_s`` seconds. Raises BenchError."""
    requests = bodies.mixed_reads(int(SINGLES_PER_S_MAX * limit_s), now_us, seed)
    return _run(port, connections, requests, 1, limit_s, read=True)


def read_leaderboards(port: int, *, connections: int, limit_s: float) -> Slice:
    """Read the leaderboards of this month, in turns, for ``limit_s`` seconds. Raises BenchError."""
    requests = bodies.leaderboard_reads(int(LEADERBOARDS_PER_S_MAX * limit_s))
    return _run(port, connections, requests, 1, limit_s, read=True)


def fill_players(port: int, *, players: int) -> Slice:
    """Bets for the first ``players`` wallets, so that each has more than one page of history. Raises BenchError."""
    return _run(port, 4, bodies.players_bets(players), players)


def fill_long(port: int, *, blocks: int) -> Slice:
    """Open the wallet with the long history and fill it, over one connection. Raises BenchError."""
    opening, *each = bodies.long_wallet(blocks)
    _run(port, 1, [bodies.batch_of([opening])], len(opening))
    return _run(port, 1, [bodies.batch_of([block]) for block in each], len(each[0]))


def open_wallets(port: int, *, first: int, end: int, with_bet: bool, token: str | None = None) -> Slice:
    """Open and fund wallets ``first`` … ``end`` − 1 in batches over four connections. Raises BenchError.

    Invariant 2 counts the elements of a batch, so the last wallets, which do not fill a batch, go in a run alone.
    """
    each = bodies.openings(first, end, with_bet=with_bet)
    commands = 3 if with_bet else 2
    whole = len(each) // WALLETS_PER_BATCH * WALLETS_PER_BATCH
    full = [bodies.batch_of(each[at : at + WALLETS_PER_BATCH], token) for at in range(0, whole, WALLETS_PER_BATCH)]
    rest = [bodies.batch_of(each[whole:], token)] if whole < len(each) else []
    opened = [_run(port, 4, full, WALLETS_PER_BATCH * commands)] if full else []
    opened += [_run(port, 1, rest, (len(each) - whole) * commands)] if rest else []
    done, took_s = sum(one.done for one in opened), sum(one.took_s for one in opened)
    slowest = [max(getattr(one, name) for one in opened) for name in ("p50_ms", "p95_ms", "p99_ms")]
    return Slice(done, took_s, *slowest)
