"""Live feeds under load: thousands of connections of `/v1/live`, one for each wallet, while bets are placed."""

from __future__ import annotations

import asyncio
import resource
from array import array
from time import perf_counter
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from bench.figures import BenchError, Slice, slice_of
from bench.load import bodies
from bench.load.client import pool
from bench.load.freshness import paced

_POSTING: Final = 64
"""Connections for commands."""
_OPENED_WITHIN_S: Final = 60.0
_COME_WITHIN_S: Final = 10.0
"""How long after the last command its event may come."""
_SPARE_FILES: Final = 256
_AT_ONCE: Final = 50
"""Connections that are opened at the same time."""
_DATA: Final = b'data: {"bet_id"'


class _Bet(Struct):
    bet_id: str


_decode: Final = msgspec.json.Decoder(_Bet).decode


def feeds(port: int, *, connections: int, per_s: float, limit_s: float, tag: str) -> Slice:
    """Bets at an even pace on the first wallets, each of which has a feed. A latency is the time from a bet's request
    to its event at the client. Without ``connections``: to its response. Raises BenchError."""
    wallets = [at % max(connections, 1_000) for at in range(int(per_s * limit_s))]
    commands = list(bodies.bets(tag, wallets))
    ids = [_decode(command).bet_id for command in commands]
    posts = bodies.singles(commands)
    _allow_files(connections + _SPARE_FILES)

    async def run() -> Slice:
        sent_s: dict[str, float] = {}
        responded_s, came_s = array("d"), array("d")
        opened = asyncio.Event()
        all_came = asyncio.Event()
        waiting = connections

        async def follow(wallet: int) -> None:
            nonlocal waiting
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            path = f"/v1/live?user_id={bodies.wallet_path(wallet, 'wallet').rpartition('/')[2]}"
            writer.write(bodies.get(path))
            try:
                begun = False
                while line := await reader.readline():
                    if not begun and line.startswith(b"id: "):
                        begun = True
                        waiting -= 1
                        if not waiting:
                            opened.set()
                    if line.startswith(_DATA):
                        sent = sent_s.get(_decode(line[6:]).bet_id)
                        if sent is not None:
                            came_s.append(perf_counter() - sent)
                            if len(came_s) == len(posts):
                                all_came.set()
            finally:
                writer.close()

        async with pool(port, _POSTING) as posting:

            async def one(bet_id: str, post: bytes) -> None:
                async with posting.client() as client:
                    sent_s[bet_id] = perf_counter()
                    await client.ask(post, b"201")
                    responded_s.append(client.took_s)

            following = []
            for wallet in range(connections):
                following.append(asyncio.create_task(follow(wallet)))
                if wallet % _AT_ONCE == 0:
                    await asyncio.sleep(0.02)
            try:
                if connections:
                    await _within(opened, _OPENED_WITHIN_S, "the feeds did not begin")
                began = perf_counter()
                await paced(per_s, (one(bet_id, post) for bet_id, post in zip(ids, posts, strict=True)))
                took_s = perf_counter() - began
                if connections:
                    await _within(all_came, _COME_WITHIN_S, "events are missing")
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
        return slice_of(len(posts), took_s, came_s if connections else responded_s)

    return uvloop.run(run())


async def _within(event: asyncio.Event, limit_s: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        raise BenchError(f"{otherwise} within {limit_s:.0f} s") from None


def _allow_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < number:
        raise BenchError(f"the limit of open files is {hard}, {number} are needed: raise it (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
