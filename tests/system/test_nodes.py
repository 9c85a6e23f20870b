"""Three real nodes share the partitions of one topic, whatever happens to any of them.

How long a partition is interrupted is printed (`-s` shows it); what is asserted leaves room for a busy machine.
"""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from deploy.local.servers import Kafka
from ledger.operations.seals import SEALS, Seal, checked, read_lines
from real_servers import running
from system.cluster import Cluster, Crowd, assert_borne_out
from system.logins import send
from system.read_side import program
from system.service import Service

pytestmark = pytest.mark.system

SESSION_S = 2.0
ROOM_S = 4.0
"""Chosen: for a machine that runs other tests beside this one."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all: the name of the topic is fixed, so a broker has one ledger."""
    with (
        running(Kafka(settings="group.min.session.timeout.ms=1000")) as kafka,
        Cluster(
            kafka, tmp_path_factory.mktemp("nodes"), session_timeout_ms=int(SESSION_S * 1_000), SEAL_S="1"
        ) as cluster,
    ):
        yield cluster


async def start(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.start)


def owned_by(node: Service, owners: dict[int, str]) -> set[int]:
    return {partition for partition, url in owners.items() if url == node.url}


async def test_three_nodes_share_the_partitions_and_each_command_reaches_one_of_them(cluster: Cluster) -> None:
    owners = await cluster.settled()
    assert set(owners.values()) == {node.url for node in cluster.nodes}
    crowd = Crowd(cluster, "share")
    async with crowd.playing():
        await asyncio.sleep(1)
    await assert_borne_out(cluster, crowd)


async def test_the_operators_page_shows_all_nodes_whichever_it_asks(cluster: Cluster) -> None:
    await cluster.settled()
    every = list(range(cluster.partitions))
    for node in cluster.nodes:
        nodes = (await asyncio.to_thread(send, node.url, "GET", "/admin/now")).json()["nodes"]
        assert {found["address"] for found in nodes} == {node.internal for node in cluster.nodes}
        assert sorted(partition for found in nodes for partition in found["partitions"]) == every
        assert all(found["ready"] and found["samples"] for found in nodes)
        assert not any(partition in found["partitions"] for found in nodes for partition in found["standby"])


async def test_sigterm_hands_the_partitions_over_at_once(cluster: Cluster) -> None:
    owners = await cluster.settled()
    crowd, leaves = Crowd(cluster, "term"), cluster.nodes[0]
    theirs = owned_by(leaves, owners)
    async with crowd.playing():
        await asyncio.sleep(0.5)
        crowd.forget_interruptions()
        await asyncio.to_thread(leaves.stop)
        await cluster.settled()
        await asyncio.sleep(0.5)
        assert crowd.longest_s(theirs) < ROOM_S
        kept = set(owners) - theirs
        assert crowd.longest_s(kept) < 1.0, "who stays is not interrupted"
    await start(cluster)
    await assert_borne_out(cluster, crowd)


async def test_kill_9_interrupts_for_little_more_than_a_session(cluster: Cluster) -> None:
    owners = await cluster.settled()
    crowd, dies = Crowd(cluster, "kill"), cluster.nodes[1]
    theirs = owned_by(dies, owners)
    async with crowd.playing():
        await asyncio.sleep(0.5)
        crowd.forget_interruptions()
        dies.kill()
        await asyncio.sleep(SESSION_S)
        await cluster.settled()
        await asyncio.sleep(0.5)
        assert crowd.longest_s(theirs) < SESSION_S + ROOM_S
        assert crowd.longest_s(set(owners) - theirs) < 1.0, "who stays is not interrupted"
    await start(cluster)
    await assert_borne_out(cluster, crowd)


async def test_a_node_killed_and_restarted_at_once_closes_no_partition_of_others(cluster: Cluster) -> None:
    """The group waits for its dead member before it lets the new one in: no other member may have to wait."""
    owners = await cluster.settled()
    crowd, dies = Crowd(cluster, "again"), cluster.nodes[2]
    theirs = owned_by(dies, owners)
    async with crowd.playing():
        await asyncio.sleep(0.5)
        crowd.forget_interruptions()
        dies.kill()
        await start(cluster)
        await cluster.settled()
        await asyncio.sleep(0.5)
        assert crowd.longest_s(theirs) < SESSION_S + ROOM_S
        assert crowd.longest_s(set(owners) - theirs) < 1.0
    await assert_borne_out(cluster, crowd)


async def test_a_rolling_restart_under_load_fails_no_command(cluster: Cluster) -> None:
    await cluster.settled()
    crowd = Crowd(cluster, "roll")
    async with crowd.playing():
        for node in cluster.nodes:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(node.stop)
            await start(cluster)
            await cluster.settled()
        await asyncio.sleep(0.5)
    assert crowd.longest_s() < ROOM_S
    assert crowd.words["outcome_unknown"] == 0
    await assert_borne_out(cluster, crowd)


@pytest.mark.parametrize("rest_s", [0.3, 1.5])
async def test_a_node_stopped_past_its_session_and_resumed_cannot_harm(cluster: Cluster, rest_s: float) -> None:
    owners = await cluster.settled()
    crowd, sleeps = Crowd(cluster, f"sleep-{rest_s}"), cluster.nodes[0]
    theirs = owned_by(sleeps, owners)
    async with crowd.playing():
        await asyncio.sleep(0.5)
        os.kill(sleeps.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(SESSION_S + 1 + rest_s)
        finally:
            os.kill(sleeps.pid, signal.SIGCONT)
        await cluster.settled()
        await asyncio.sleep(1)
        assert crowd.longest_s(theirs) < SESSION_S + ROOM_S
    await cluster.settled()
    await assert_borne_out(cluster, crowd)


async def test_each_node_seals_all_partitions_and_no_seal_contradicts_the_log_or_another(cluster: Cluster) -> None:
    """After all that the tests above did to the nodes, too."""
    await cluster.settled()
    crowd, moves = Crowd(cluster, "seal"), cluster.nodes[0]
    async with crowd.playing():
        await sealed_again(cluster)
        await asyncio.to_thread(moves.stop)
        await cluster.settled()
        await sealed_again(cluster)
        await start(cluster)
        await cluster.settled()
        await sealed_again(cluster)
    for node in cluster.nodes:
        assert len(seals_of(node)[-1].partitions) == cluster.partitions
        verify = ("audit", "verify", "--url", node.url, "--seals", str(cluster.nodes[1].data / SEALS))
        done = await asyncio.to_thread(program, node.data, *verify)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "anchored: the seal of" in done.stdout


def seals_of(node: Service) -> list[Seal]:
    """Its seals, each checked against the one before."""
    return list(checked(read_lines(node.data / SEALS)))


async def sealed_again(cluster: Cluster) -> None:
    """Wait until each running node has made one more seal since this call began."""
    before = {node: len(seals_of(node)) for node in cluster.nodes if node.process is not None}
    async with asyncio.timeout(60):
        for node, count in before.items():
            while len(seals_of(node)) < count + 2:  # the next one may have begun before  # noqa: ASYNC110
                await asyncio.sleep(0.1)
