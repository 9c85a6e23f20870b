"""What a node among nodes says of itself over HTTP: who has what, whether it is ready, and its figures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger.core.record import EMPTY_SHA256
from ledger.node.ports import End
from ledger.peers.forwarding import Forwarding
from ledger.peers.log_view import LogView
from unit.asked import Asked
from unit.nodes_in_memory import Cluster

PARTITIONS = 4
HERE = "http://127.0.0.1:8080"


class TellingPeers:
    """The other nodes' ends, as they would tell them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ends(self, address: str) -> dict[int, End]:
        self.asked.append(address)
        return {2: End(77, "7" * 64, 1), 0: End(99, "9" * 64, 1)}  # what it says of ours does not count


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster(PARTITIONS)
    yield cluster
    await cluster.crash()


@pytest.fixture
async def asked(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked_by_way_of(None, cluster, tmp_path) as asked:
        yield asked


@asynccontextmanager
async def asked_by_way_of(peers: TellingPeers | None, cluster: Cluster, folder: Path) -> AsyncIterator[Asked]:
    world = await cluster.node("a", clock_off_us=lambda: cluster.clock_off_us)
    member = cluster.members["a"]
    others = world.others
    if peers is not None:
        others = Forwarding(member, peers, world.clock, PARTITIONS, "a")  # type: ignore[arg-type]  # only its ends are read
    whole = LogView(world.node, member, others)
    async with Asked(folder, PARTITIONS, started=world, whole=whole) as asked:
        yield asked


async def test_all_partitions_are_listed_with_their_owners_and_null_where_nobody_has_it(
    cluster: Cluster, asked: Asked
) -> None:
    await cluster.node("b")
    await cluster.give(a={0, 1}, b={2})
    await cluster.settled()
    items = (await asked.get("/v1/partitions")).json()["items"]
    assert [(item["partition"], item["seq"], item["owner"]) for item in items] == [
        (0, 1, HERE),
        (1, 1, HERE),
        (2, 1, "b"),
        (3, 0, None),
    ]
    assert items[3]["head"] == EMPTY_SHA256


async def test_where_a_foreign_partition_ends_its_owner_says(cluster: Cluster, tmp_path: Path) -> None:
    peers = TellingPeers()
    async with asked_by_way_of(peers, cluster, tmp_path) as asked:
        await cluster.node("b")
        await cluster.give(a={0, 1}, b={2})
        await cluster.settled()
        items = (await asked.get("/v1/partitions")).json()["items"]
    assert [item["seq"] for item in items] == [1, 1, 77, 0]
    assert peers.asked == ["b"]


async def test_a_node_is_ready_once_it_has_joined_and_opened_all_that_is_its_own(
    cluster: Cluster, asked: Asked
) -> None:
    assert (await asked.get("/readyz")).status == 503, "it was not told yet what it has"
    asked.world.log.gate.clear()
    await cluster.give(a={0, 1})
    answer = await asked.get("/readyz")
    assert answer.status == 503
    assert "2 of 2 partitions are not open yet" in answer.json()["reasons"]
    asked.world.log.gate.set()
    await cluster.settled()
    assert (await asked.get("/readyz")).status == 200


@pytest.mark.parametrize("off_us", [-1_000_001, 1_000_001])
async def test_a_node_whose_clock_is_off_the_log_s_is_not_ready(cluster: Cluster, asked: Asked, off_us: int) -> None:
    await cluster.give(a={0})
    await cluster.settled()
    cluster.clock_off_us = off_us
    answer = await asked.get("/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == [f"the clock is {off_us / 1e6:+.1f} s off the log's: set it right"]
    cluster.clock_off_us = off_us // 2
    assert (await asked.get("/readyz")).status == 200


async def test_a_node_out_of_its_group_is_not_ready_and_after_two_session_timeouts_not_healthy(
    cluster: Cluster, asked: Asked
) -> None:
    await cluster.give(a={0})
    await cluster.settled()
    for absent_for, ready, healthy in (
        (1.0, 200, 200),
        (1.6, 503, 200),
        (2.0, 503, 200),
        (2.1, 503, 503),
        (0.1, 200, 200),
    ):
        cluster.members["a"].absent_for = absent_for
        responses = [await asked.get(path) for path in ("/readyz", "/healthz")]
        assert [response.status for response in responses] == [ready, healthy], absent_for
        for response in responses:
            if response.status != 200:
                (reason,) = response.json()["reasons"]
                assert f"out of the group of the nodes for {absent_for:.1f} session time-outs" in reason


async def test_figures_tell_what_is_owned_open_and_was_taken_over(cluster: Cluster, asked: Asked) -> None:
    await cluster.give(a={0, 1, 3})
    await cluster.settled()
    figures = (await asked.get("/metrics")).body.decode()
    for line in (
        "stakelog_partitions_owned 3.0",
        "stakelog_partitions_open 3.0",
        "stakelog_takeovers_total 3.0",
        'stakelog_partition_seq{partition="3"} 1.0',
        "stakelog_ready 1.0",
    ):
        assert f"{line}\n" in figures
    assert 'stakelog_partition_seq{partition="2"}' not in figures
