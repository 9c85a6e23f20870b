"""Webhooks of two nodes on Kafka and PostgreSQL: each sends its own partitions, and the other one takes over."""

import asyncio
import base64
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest

from databases import EmptyDatabases
from deploy.local.servers import Kafka
from ledger.core.position import partition_of
from system.cluster import Cluster
from system.logins import send
from webhook_receiver import Receiver

pytestmark = pytest.mark.system

PARTITIONS: Final = 2
USERS: Final = [f"u{n}" for n in range(10)]
MASTER_KEY: Final = base64.b64encode(b"k" * 32).decode()


async def post(cluster: Cluster, commands: list[dict[str, Any]]) -> None:
    """To the first node that runs, until all are accepted: after a crash the other node takes over first."""
    async with asyncio.timeout(120):
        while True:
            answer = await asyncio.to_thread(send, cluster.urls[0], "POST", "/v1/commands/batch", commands)
            if answer.status == 200 and all(one["status"] in (200, 201) for one in answer.json()):
                return
            await asyncio.sleep(0.1)


def deposits(number: int) -> list[dict[str, Any]]:
    fields = {"type": "deposit", "command_id": f"d{number}", "order_id": f"o{number}", "asset": "INR", "amount": 1}
    return [{**fields, "user_id": user} for user in USERS]


def is_saved(cluster: Cluster, receiver: Receiver) -> bool:
    """Whether the cursors have passed all that was delivered."""
    (webhook,) = send(cluster.urls[1], "GET", "/v1/webhooks").json()["items"]
    places = (cursor.partition(":") for cursor in webhook["cursors"])
    cursors = {int(partition): int(seq) for partition, _, seq in places}
    delivered = (map(int, one.position.split(":")) for one in receiver.taken)
    return all(cursors[partition] >= seq for partition, seq in delivered)


async def test_a_node_that_is_killed_in_mid_delivery_is_continued_by_the_other_from_the_stored_cursor(
    own_kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"MASTER_KEY": MASTER_KEY, "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with (
        postgresql.one() as url,
        Cluster(own_kafka, tmp_path, nodes=2, partitions=PARTITIONS, read_model=url, **settings) as cluster,
    ):
        async with Receiver() as receiver:
            owners = await cluster.settled()
            assert len(set(owners.values())) == 2, "each node owns a partition"
            body = {"url": receiver.url, "types": ["deposited"]}
            added = await asyncio.to_thread(send, cluster.urls[1], "POST", "/v1/webhooks", body)
            assert added.status == 201, added
            await post(cluster, [{"type": "open_wallet", "command_id": "open", "user_id": user} for user in USERS])
            for number in range(5):
                await post(cluster, deposits(number))
            await receiver.until(lambda: len(receiver.taken) >= 5 * len(USERS))
            repeated = len(receiver.got) - len(receiver.taken)
            assert repeated == 0, "one sender each: nothing comes twice while no partition moves"

            while not is_saved(cluster, receiver):  # noqa: ASYNC110 - the nodes are other processes
                await asyncio.sleep(0.05)
            hung = asyncio.Event()

            def hangs(_: Any) -> int:
                hung.set()
                return 0

            receiver.decide = hangs
            for number in range(5, 8):
                await post(cluster, deposits(number))
            await hung.wait()
            await asyncio.to_thread(cluster.nodes[0].kill)
            receiver.decide = lambda _: 200
            for number in range(8, 10):
                await post(cluster, deposits(number))
            await receiver.until(lambda: len(receiver.taken) >= 10 * len(USERS))

            secret = added.json()["secret"]
            assert all(one.is_signed_by(secret) for one in receiver.got)
            by_user: dict[str, list[int]] = defaultdict(list)
            for one in receiver.taken:
                assert int(one.position.partition(":")[0]) == partition_of(one.event["user_id"], PARTITIONS)
                by_user[one.event["user_id"]].append(one.event["seq"])
            assert {user: len(seqs) for user, seqs in by_user.items()} == dict.fromkeys(USERS, 10)
            assert all(seqs == sorted(seqs) for seqs in by_user.values())
            again = [one for one in receiver.got if one.event["command_id"] in {f"d{n}" for n in range(5)}]
            assert len(again) == 5 * len(USERS), "what was saved as delivered does not come again"
