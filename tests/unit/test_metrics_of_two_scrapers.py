"""Two scrapers at once: each gets every partition once, with the lag of that partition."""

import asyncio
import re
from pathlib import Path
from typing import Final

import pytest

from ledger.core.position import partition_of
from projections.storage.port import ReadModelUnavailable
from unit.api_in_memory import InMemoryApi
from unit.given import deposit, open_wallet

PARTITIONS: Final = 4
USERS: Final = [
    next(f"u{n}" for n in range(100) if partition_of(f"u{n}", PARTITIONS) == p) for p in range(PARTITIONS)
]
"""One user of each partition."""
_LAG: Final = re.compile(r'^stakelog_read_model_lag_(events|seconds)\{partition="([0-9]+)"\} (\S+)$', re.MULTILINE)


async def lags_of(api_client: InMemoryApi) -> list[tuple[str, int, float]]:
    body = (await api_client.get("/metrics")).body.decode()
    return [(kind, int(partition), float(value)) for kind, partition, value in _LAG.findall(body)]


async def test_two_scrapes_at_once_both_have_every_partition_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InMemoryApi(tmp_path, PARTITIONS) as api_client:
        for partition, user_id in enumerate(USERS):
            orders = [deposit(1, order_id=f"o{n}", user_id=user_id) for n in range(partition)]
            await api_client.world.given(open_wallet(user_id), *orders)

        async def time_us(_partition: int, _seq: int) -> int:
            """Lets the other scrape run, which is at the same partition or at another one."""
            await asyncio.sleep(0)
            return 0

        monkeypatch.setattr(api_client.world.node, "time_us", time_us)
        for found in await asyncio.gather(*(lags_of(api_client) for _ in range(2))):
            events = [(partition, value) for kind, partition, value in found if kind == "events"]
            assert events == [(partition, partition + 1) for partition in range(PARTITIONS)]
            assert [partition for kind, partition, _ in found if kind == "seconds"] == list(range(PARTITIONS))


async def test_a_scrape_that_hangs_does_not_change_what_another_one_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InMemoryApi(tmp_path, PARTITIONS) as api_client:
        await api_client.world.given(*(open_wallet(user_id) for user_id in USERS))
        hangs = asyncio.Event()
        true_time_us = api_client.world.node.time_us

        async def time_us(partition: int, seq: int) -> int:
            if partition == 2 and not hangs.is_set():
                hangs.set()
                await asyncio.Event().wait()
            return await true_time_us(partition, seq)

        monkeypatch.setattr(api_client.world.node, "time_us", time_us)
        hanging = asyncio.ensure_future(lags_of(api_client))
        await hangs.wait()
        lags = await lags_of(api_client)
        assert [(partition, value) for kind, partition, value in lags if kind == "events"] == [
            (partition, 1) for partition in range(PARTITIONS)
        ]
        await api_client.fold()
        assert {value for kind, _, value in await lags_of(api_client) if kind == "events"} == {0}
        hanging.cancel()
        await asyncio.wait([hanging])


async def test_while_the_read_model_cannot_be_read_the_last_known_heads_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InMemoryApi(tmp_path, PARTITIONS) as api_client:
        await api_client.world.given(open_wallet(USERS[0]))
        await api_client.fold()
        assert {value for kind, _, value in await lags_of(api_client) if kind == "events"} == {0}

        async def away(*_: object, **__: object) -> None:
            raise ReadModelUnavailable("a test")

        monkeypatch.setattr(api_client.model, "fetch", away)
        await api_client.world.given(deposit(1, user_id=USERS[0]))
        assert ("events", 0, 1.0) in await lags_of(api_client)
