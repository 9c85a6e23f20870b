"""`kill -9` at any moment: nothing acknowledged is lost, nothing happens twice, nothing stays under way."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from sqlite_log import records_by_partition
from system.players import HOLD_MAX_S, Books, Crowd
from system.service import Service

pytestmark = pytest.mark.system

SEED: Final = 20_261_123
KILLS: Final = 12
CLIENTS: Final = 6
PARTITIONS: Final = 4
MET_APPENDS: Final = 5
"""More commands than these must have landed before a kill took their answer, or the test shows nothing."""
QUIET_WITHIN_S: Final = 120.0


async def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS=str(PARTITIONS))
    crowd = Crowd(service, SEED, CLIENTS, patient=True)
    await asyncio.to_thread(service.start)
    playing = asyncio.create_task(crowd.play())
    try:
        await _kill_again_and_again(service, crowd, random.Random(SEED))
        await asyncio.sleep(0.5)
        crowd.stop = True
        await playing
        async with aiohttp.ClientSession(service.url) as session:
            books = await _quiet_books(session)
            books.check_acknowledged(crowd.sent)
            books.check_follow_ups()
            books.check_referrals(crowd.referrer_of)
            await _check_wallets(session, books, crowd.opened)
        await asyncio.to_thread(service.stop)
    finally:
        crowd.stop = True
        playing.cancel()
        if service.process is not None:
            service.kill()
    assert _accepted_without_a_response(crowd) > MET_APPENDS, (
        "kills never met an append that landed: the test shows nothing"
    )
    assert len(books.records) > 1_000
    _check_file(service.data, books)
    _check_by_audit(service.data)


def _accepted_without_a_response(crowd: Crowd) -> int:
    """How many commands were in the log before their client got a response."""
    return sum(bool(one.hits) and one.attempts > 1 for one in crowd.sent)


async def _kill_again_and_again(service: Service, crowd: Crowd, chance: random.Random) -> None:
    """``KILLS`` times, and for a while longer where few of them have met an append that landed."""
    for number in range(3 * KILLS):
        if number >= KILLS and _accepted_without_a_response(crowd) > MET_APPENDS:
            return
        match number % 3:
            case 0:  # while it works
                await asyncio.sleep(chance.uniform(0.05, 0.8))
            case 1:  # while it starts: recovering, or not even that far
                service.kill()
                service.launch()
                await asyncio.sleep(chance.uniform(0.0, 1.2))
            case 2:  # at once when it is ready
                pass
        service.kill()
        await asyncio.to_thread(service.start)


async def _quiet_books(session: aiohttp.ClientSession) -> Books:
    """The log, when nothing is under way any more and every hold had its time."""
    await asyncio.sleep(HOLD_MAX_S)
    books: list[Books] = []

    async def quiet() -> bool:
        books.append(Books([await _events(session, partition) for partition in range(PARTITIONS)]))
        open_holds = {(at.user_id, data["hold_id"]) for _, at, data in books[-1].of_type("hold_placed")} - {
            (at.user_id, data["hold_id"])
            for _, at, data in books[-1].of_type("hold_captured", "hold_released", "hold_expired")
        }
        return not open_holds and books[-1].transit() == 0 and len(books[-2:]) == 2 and _same(*books[-2:])

    await _until(quiet)
    return books[-1]


def _same(before: Books, after: Books) -> bool:
    return before.heads == after.heads


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(QUIET_WITHIN_S):
        while not await condition():  # noqa: ASYNC110 - another process sends no event when it is quiet
            await asyncio.sleep(0.3)


async def _events(session: aiohttp.ClientSession, partition: int) -> list[bytes]:
    records: list[bytes] = []
    while True:
        query = f"partition={partition}&from_seq={len(records) + 1}&limit=10000"
        async with session.get(f"/v1/events?{query}") as response:
            assert response.status == 200
            page = (await response.read()).splitlines()
        if not page:
            return records
        records += page


async def _check_wallets(session: aiohttp.ClientSession, books: Books, opened: list[str]) -> None:
    for user_id in opened:
        async with session.get(f"/v1/wallets/{user_id}?consistency=strong") as response:
            assert response.status == 200
            wallet: dict[str, Any] = await response.json()
        for asset, balance in wallet["balances"].items():
            for bucket in ("cash", "bonus", "held"):
                assert balance[bucket] == books.sums[f"wallet/{user_id}/{bucket}", asset], (user_id, balance)


def _check_file(data: Path, books: Books) -> None:
    """The file has the very bytes that were served."""
    stored = Books(records_by_partition(data / "events.sqlite3", PARTITIONS))
    assert stored.heads == books.heads


def _check_by_audit(data: Path) -> None:
    verified = subprocess.run(
        [sys.executable, "-m", "api", "audit", "verify", "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
