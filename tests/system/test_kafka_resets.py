"""The nodes' connections to the broker are reset, again and again, under load: every node returns to its group."""

import asyncio
import time
from pathlib import Path

import pytest

from deploy.local.servers import Kafka
from ledger.kafka.address import parse_address
from ledger.kafka.members import NODES_GROUP, members_of
from real_servers import running
from system.cluster import Cluster, Crowd, assert_borne_out
from system.resetting_proxy import ResettingProxy

pytestmark = pytest.mark.system

SESSION_S = 3.0
RESETS = 150
EVERY_S = 0.1


async def test_after_150_resets_all_nodes_are_in_the_group_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with (
        ResettingProxy() as proxy,
        running(Kafka(settings=f"{proxy.advertised()}group.min.session.timeout.ms=1000")) as kafka,
    ):
        proxy.to(kafka.port)
        url = f"kafka://127.0.0.1:{proxy.port}?replication_factor=1"
        with Cluster(kafka, tmp_path, session_timeout_ms=int(SESSION_S * 1_000), url=url) as cluster:
            crowd = Crowd(cluster, "reset")
            async with crowd.playing():
                for _ in range(RESETS):
                    await proxy.reset_one()
                    await asyncio.sleep(EVERY_S)
                await assert_all_return(cluster, kafka)
                accepted = len(crowd.accepted)
                await asyncio.sleep(1)
                assert len(crowd.accepted) > accepted, "no command is accepted any more"
            await assert_borne_out(cluster, crowd)
            assert proxy.resets == RESETS
            for node in cluster.nodes:
                assert node.process is not None
                assert node.process.poll() is None, "a node has ended"
                assert "broken invariant" not in node.log_text()


async def assert_all_return(cluster: Cluster, kafka: Kafka) -> None:
    """Within two session time-outs each node is ready, and the coordinator lists all of them."""
    address = parse_address(f"{kafka.url}?replication_factor=1")
    ended_s = time.monotonic()
    while True:
        ready = [await asyncio.to_thread(node.ready) for node in cluster.nodes]
        members = {member.client_id for member in await members_of(address, NODES_GROUP, timeout_s=10.0)}
        if all(ready) and members == {node.internal for node in cluster.nodes}:
            return
        assert time.monotonic() - ended_s < 2 * SESSION_S, (ready, members)
        await asyncio.sleep(0.05)
