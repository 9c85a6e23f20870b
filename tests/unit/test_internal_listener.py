"""What is served to other nodes and operators, apart from what is served to clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.nodes.client import DECIDE, ENDS, SECRET_HEADER
from ledger.peers.log_view import LogView
from unit.api_in_memory import InMemoryApi
from unit.nodes_in_memory import Cluster

SECRET = "5ec2e7" * 8
RIGHT = (SECRET_HEADER, SECRET)


@asynccontextmanager
async def node_of(cluster: Cluster, folder: Path, secret: str | None) -> AsyncIterator[InMemoryApi]:
    """A node of a group, with an internal listener."""
    world = await cluster.node("a")
    whole = LogView(world.node, cluster.members["a"], world.others)
    try:
        async with InMemoryApi(folder, 1, started=world, whole=whole, internal=True, cluster_secret=secret) as node:
            yield node
    finally:
        await cluster.crash()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with node_of(Cluster(1), tmp_path, SECRET) as node:
        yield node


async def test_metrics_and_the_routes_of_nodes_are_on_the_internal_listener_only(node: InMemoryApi) -> None:
    for path in ("/metrics", ENDS):
        assert (await node.ask("GET", path, RIGHT, app=node.inside)).status == 200, path
        assert (await node.ask("GET", path, RIGHT)).json()["code"] == "not_found", path


async def test_the_probes_are_on_both_listeners_and_the_rest_is_for_clients_only(node: InMemoryApi) -> None:
    for path in ("/healthz", "/readyz"):
        for app in (node.app, node.inside):
            assert (await node.ask("GET", path, app=app)).status in (200, 503), path
    for path in ("/v1/partitions", "/v1/wallets/u1", "/schema", "/"):
        assert (await node.ask("GET", path, RIGHT, app=node.inside)).status == 404, path


async def test_without_an_internal_listener_metrics_are_for_clients_and_no_node_can_call(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as http:
        assert (await http.get("/metrics")).status == 200
        assert (await http.get(ENDS)).status == 404
        assert not hasattr(http, "inside")


async def test_one_process_alone_has_metrics_inside_and_no_routes_of_nodes(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1, internal=True) as http:
        assert (await http.ask("GET", "/metrics", app=http.inside)).status == 200
        assert (await http.ask("GET", ENDS, app=http.inside)).status == 404


@pytest.mark.parametrize("given", [None, "", SECRET[:-1], SECRET + "x", SECRET.upper(), f"Bearer {SECRET}"])
@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", DECIDE), ("GET", ENDS), ("GET", "/%69nternal/v1/ends"), ("PUT", ENDS), ("GET", f"{ENDS}?unknown=1")],
)
async def test_a_call_without_the_secret_is_refused_before_anything_of_it_is_read(
    node: InMemoryApi, method: str, target: str, given: str | None
) -> None:
    headers = [] if given is None else [(SECRET_HEADER, given)]
    refused = await node.ask(method, target, *headers, app=node.inside, body=b"{")
    assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
    assert SECRET not in refused.body.decode()


async def test_with_the_secret_a_call_is_read(node: InMemoryApi) -> None:
    for method, target, code in (
        ("POST", DECIDE, "malformed_request"),
        ("PUT", ENDS, "method_not_allowed"),
        ("GET", f"{ENDS}?unknown=1", "malformed_request"),
    ):
        answer = await node.ask(method, target, RIGHT, app=node.inside, body=b"{")
        assert answer.json()["code"] == code, target


async def test_on_loopback_nodes_need_no_secret(tmp_path: Path) -> None:
    async with node_of(Cluster(1), tmp_path, None) as node:
        assert (await node.ask("GET", ENDS, app=node.inside)).status == 200
