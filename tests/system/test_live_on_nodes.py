"""Live feeds of two nodes on Kafka, PostgreSQL and Redis: a feed continues on the other node and without Redis."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from databases import EmptyDatabases
from deploy.local.servers import Kafka, Redis
from ledger.core.position import partition_of
from system.cluster import Cluster
from system.feeds import Event, EventSource, Poster, SocketSource
from system.service import free_port

pytestmark = pytest.mark.system

PARTITIONS = 2
USERS = [next(u for u in (f"u{n}" for n in range(99)) if partition_of(u, PARTITIONS) == p) for p in range(PARTITIONS)]
"""One in each partition: whichever node owns them, one of the feeds is about another node's partition."""
QUERY = "&".join(f"user_id={user_id}" for user_id in USERS)


@contextmanager
def worker(cluster: Cluster, folder: Path) -> Iterator[None]:
    """``stakelog project`` with the settings of the first node."""
    settings = {f"STAKELOG_{name}": cluster.nodes[0].setting(name) for name in ("LOG", "READ_MODEL", "CACHE")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    with (folder / "worker.log").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "project", "--web-port", str(free_port())],
            env=inherited | settings | {"STAKELOG_PARTITIONS": str(PARTITIONS)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def bet(poster: Poster, user_id: str, bet_id: str) -> None:
    fields: dict[str, Any] = {"game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": 10}
    await poster.post("place_bet", user_id, bet_id=bet_id, **fields)


async def until_bets(feed: EventSource | SocketSource, *expected: tuple[str, str]) -> str:
    """Read until a bet of each user has this (bet_id, status), and each user has a balance after it; no other bet may
    come. Returns the last id."""
    missing = {(user_id, *one) for user_id in USERS for one in expected}
    balances: set[str] = set()
    last_id = ""
    while missing or len(balances) < len(USERS):
        event: Event = await feed.next()
        last_id = event.id or last_id
        if event.name == "bet":
            missing.remove((event.data["user_id"], event.data["bet_id"], event.data["status"]))
        elif event.name == "balance" and not any(user_id == event.data["user_id"] for user_id, *_ in missing):
            balances.add(event.data["user_id"])
    return last_id


async def test_a_feed_continues_on_the_other_node_and_without_redis(
    own_kafka: Kafka, postgresql: EmptyDatabases, own_redis: Redis, tmp_path: Path
) -> None:
    with (
        postgresql.one() as url,
        Cluster(own_kafka, tmp_path, nodes=2, partitions=PARTITIONS, read_model=url, CACHE=own_redis.url) as cluster,
        worker(cluster, tmp_path),
    ):
        await cluster.settled()
        one, other = cluster.urls
        poster = Poster(one)
        for user_id in USERS:
            await poster.post("open_wallet", user_id)
            await poster.post("deposit", user_id, order_id="o1", asset="INR", amount=1_000)
        async with EventSource(one, QUERY) as feed:
            await feed.next()
            poster.url = other
            for user_id in USERS:
                await bet(poster, user_id, "b1")
            last_id = await until_bets(feed, ("b1", "open"))
        for user_id in USERS:
            await poster.post("settle_bet", user_id, bet_id="b1", payout=20)
        async with SocketSource(other, QUERY, last_id) as feed_there:
            last_id = await until_bets(feed_there, ("b1", "won"))
            await asyncio.to_thread(own_redis.kill)
            for user_id in USERS:
                await bet(poster, user_id, "b2")
            last_id = await until_bets(feed_there, ("b2", "open"))
        async with EventSource(one, QUERY, last_id) as feed:
            for user_id in USERS:
                await poster.post("cancel_bet", user_id, bet_id="b2")
            last_id = await until_bets(feed, ("b2", "cancelled"))
            own_redis.start()  # from the main thread only
            for user_id in USERS:
                await bet(poster, user_id, "b3")
            await until_bets(feed, ("b3", "open"))
    for node in cluster.nodes:
        assert "Traceback" not in node.log_text()
