"""A node of a group over HTTP: the owners of the partitions, readiness, and metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.core.record import EMPTY_SHA256
from ledger.node.ports import End, PeerUnreachable
from ledger.peers.forwarding import Forwarding
from ledger.peers.log_view import LogView
from unit.api_in_memory import InMemoryApi
from unit.nodes_in_memory import Cluster

PARTITIONS = 4
HERE = "http://127.0.0.1:8080"


class PeersWithEnds:
    """Peers that respond with fixed ends."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def ends(self, address: str) -> dict[int, End]:
        self.calls.append(address)
        return {
            2: End(77, "7" * 64, 1),
            0: End(99, "9" * 64, 1),
        }  # the end of partition 0 does not count: this node owns it


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster(PARTITIONS)
    yield cluster
    await cluster.crash()


@pytest.fixture
async def http(cluster: Cluster, tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with http_through(None, cluster, tmp_path) as http:
        yield http


@asynccontextmanager
async def http_through(
    peers: PeersWithEnds | None, cluster: Cluster, folder: Path, **listeners: Any
) -> AsyncIterator[InMemoryApi]:
    world = await cluster.node("a", clock_off_us=lambda: cluster.clock_off_us)
    member = cluster.members["a"]
    others = world.others
    if peers is not None:
        others = Forwarding(member, peers, world.clock, PARTITIONS, "a")  # type: ignore[arg-type]  # only the ends are read
    log_view = LogView(world.node, member, others)
    async with InMemoryApi(folder, PARTITIONS, started=world, whole=log_view, **listeners) as http:
        yield http


async def test_all_partitions_are_listed_with_their_owners_and_null_without_one(
    cluster: Cluster, http: InMemoryApi
) -> None:
    await cluster.node("b")
    await cluster.give(a={0, 1}, b={2})
    await cluster.settled()
    items = (await http.get("/v1/partitions")).json()["items"]
    assert [(item["partition"], item["seq"], item["owner"]) for item in items] == [
        (0, 1, HERE),
        (1, 1, HERE),
        (2, 1, "b"),
        (3, 0, None),
    ]
    assert items[3]["head"] == EMPTY_SHA256


async def test_the_end_of_another_node_s_partition_comes_from_its_owner(cluster: Cluster, tmp_path: Path) -> None:
    peers = PeersWithEnds()
    async with http_through(peers, cluster, tmp_path) as http:
        await cluster.node("b")
        await cluster.give(a={0, 1}, b={2})
        await cluster.settled()
        items = (await http.get("/v1/partitions")).json()["items"]
    assert [item["seq"] for item in items] == [1, 1, 77, 0]
    assert peers.calls == ["b"]


async def test_the_operators_page_gets_the_last_hour_of_each_node(cluster: Cluster, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    async def ask_node(address: str, since_us: int) -> bytes:
        asked.append((address, since_us))
        if address == "c":
            raise PeerUnreachable("there is no connection")
        return (await api_client.ask("GET", f"/internal/v1/now?since_us={since_us}", app=api_client.inside)).body

    await cluster.node("b")
    await cluster.node("c")
    async with http_through(None, cluster, tmp_path, internal=True, ask_node=ask_node) as api_client:
        await cluster.give(a={0, 1}, b={2}, c={3})
        await cluster.settled()
        await api_client.app.service.samples.take()
        here, b, c = (await api_client.get("/admin/now?since_us=7")).json()["nodes"]
    assert asked == [("b", 7), ("c", 7)]
    assert (here["address"], b["address"], c["address"]) == (HERE, "b", "c")
    assert b["samples"] == here["samples"] != []
    assert b["partitions"] == [0, 1], "this test's b answers as a"
    assert (c["ready"], c["samples"]) == (False, [])
    assert c["alarms"] == [
        {"severity": "critical", "text": "the node does not respond: there is no connection"},
    ]


async def test_a_node_is_ready_once_it_has_joined_and_opened_all_its_partitions(
    cluster: Cluster, http: InMemoryApi
) -> None:
    assert (await http.get("/readyz")).status == 503, "its partitions are not known yet"
    http.world.log.gate.clear()
    await cluster.give(a={0, 1})
    response = await http.get("/readyz")
    assert response.status == 503
    assert "2 of 2 partitions are not open yet" in response.json()["reasons"]
    http.world.log.gate.set()
    await cluster.settled()
    assert (await http.get("/readyz")).status == 200


@pytest.mark.parametrize("off_us", [-1_000_001, 1_000_001])
async def test_a_node_whose_clock_differs_from_the_log_s_is_not_ready(
    cluster: Cluster, http: InMemoryApi, off_us: int
) -> None:
    await cluster.give(a={0})
    await cluster.settled()
    cluster.clock_off_us = off_us
    response = await http.get("/readyz")
    assert response.status == 503
    assert response.json()["reasons"] == [f"the clock is {off_us / 1e6:+.1f} s off the log's: set it right"]
    cluster.clock_off_us = off_us // 2
    assert (await http.get("/readyz")).status == 200


async def test_a_node_out_of_its_group_is_not_ready_and_after_two_session_timeouts_not_healthy(
    cluster: Cluster, http: InMemoryApi
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
        responses = [await http.get(path) for path in ("/readyz", "/healthz")]
        assert [response.status for response in responses] == [ready, healthy], absent_for
        for response in responses:
            if response.status != 200:
                (reason,) = response.json()["reasons"]
                assert f"out of the group of the nodes for {absent_for:.1f} session time-outs" in reason


async def test_metrics_show_owned_and_open_partitions_and_takeovers(cluster: Cluster, http: InMemoryApi) -> None:
    await cluster.give(a={0, 1, 3})
    await cluster.settled()
    metrics = (await http.get("/metrics")).body.decode()
    for line in (
        "stakelog_partitions_owned 3.0",
        "stakelog_partitions_open 3.0",
        "stakelog_takeovers_total 3.0",
        'stakelog_partition_seq{partition="3"} 1.0',
        "stakelog_ready 1.0",
    ):
        assert f"{line}\n" in metrics
    assert 'stakelog_partition_seq{partition="2"}' not in metrics
