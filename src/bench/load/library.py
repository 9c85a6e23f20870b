"""Bets as a game server posts them: tasks that each await one command after the other, through the client library or
by plain requests of httpx, which the library uses too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final

import httpx

from bench.figures import BenchError, Slice, slice_of
from bench.load import bodies

_PICKS: Final = 2_000
"""Wallets that one task plays on. Chosen."""

Post = Callable[[dict[str, Any]], Awaitable[object]]


def post_bets(port: int, *, tasks: int, limit_s: float, tag: str, seed: int, plain: bool) -> Slice:
    """Single bets of ``tasks`` tasks, uniform over the wallets, for ``limit_s`` seconds. Each latency is what one
    call took. ``plain``: without the library, each task on a connection of its own. Raises BenchError."""
    return asyncio.run(_post_bets(_plain(port, tasks) if plain else _library(port), tasks, limit_s, tag, seed))


@asynccontextmanager
async def _library(port: int) -> AsyncIterator[Post]:
    try:
        from stakelog_client import AsyncClient, StakelogError
    except ImportError as error:
        raise BenchError(f"the client library is not installed: {error}") from error
    try:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            yield client.post
    except StakelogError as error:
        raise BenchError(f"the client library got: {error}") from error


@asynccontextmanager
async def _plain(port: int, tasks: int) -> AsyncIterator[Post]:
    limits = httpx.Limits(max_connections=tasks, max_keepalive_connections=tasks)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60, trust_env=False
        ) as client:

            async def post(command: dict[str, Any]) -> object:
                response = await client.post("/v1/commands", json=command)
                return response.raise_for_status().json()

            yield post
    except httpx.HTTPError as error:
        raise BenchError(f"a plain request got: {error}") from error


async def _post_bets(posting: Any, tasks: int, limit_s: float, tag: str, seed: int) -> Slice:
    took_s: list[float] = []

    async def play(post: Post, number: int, until_s: float) -> None:
        wallets = bodies.picks("uniform", _PICKS, seed * 1_000 + number)
        played = 0
        while (began_s := perf_counter()) < until_s:
            bet = f"{tag}-{number}-{played}"
            await post(
                {
                    "type": "place_bet",
                    "command_id": bet,
                    "user_id": f"w-{wallets[played % _PICKS]:07d}",
                    "bet_id": bet,
                    "game": "external",
                    "period": "20261101-0042",
                    "selection": "red",
                    "asset": "INR",
                    "stake": 1,
                }
            )
            took_s.append(perf_counter() - began_s)
            played += 1

    async with posting as post:
        began_s = perf_counter()
        await asyncio.gather(*(play(post, number, began_s + limit_s) for number in range(tasks)))
        return slice_of(len(took_s), perf_counter() - began_s, took_s)
