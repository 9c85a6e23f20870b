"""What is served to other nodes and operators, apart from what is served to clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import pytest

from api.nodes import proof
from api.nodes.messages import DECIDE, ENDS
from api.nodes.proof import PROOF_HEADER, VALID_S, NodeProofs
from ledger.peers.log_view import LogView
from unit.api_in_memory import InMemoryApi
from unit.nodes_in_memory import Cluster

SECRET = "5ec2e7" * 8
HERE = "http://127.0.0.1:8080"


def right(method: str, target: str, body: bytes = b"", *, secret: str = SECRET, at: str = HERE) -> tuple[str, str]:
    """The proof of a call to the node under test."""
    return PROOF_HEADER, NodeProofs(secret).make(at, method, target, body)


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
        assert (await node.ask("GET", path, right("GET", path), app=node.inside)).status == 200, path
        assert (await node.ask("GET", path, right("GET", path))).json()["code"] == "not_found", path


async def test_the_probes_are_on_both_listeners_and_the_rest_is_for_clients_only(node: InMemoryApi) -> None:
    for path in ("/healthz", "/readyz"):
        for app in (node.app, node.inside):
            assert (await node.ask("GET", path, app=app)).status in (200, 503), path
    for path in ("/v1/partitions", "/v1/wallets/u1", "/schema", "/"):
        assert (await node.ask("GET", path, right("GET", path), app=node.inside)).status == 404, path


async def test_without_an_internal_listener_metrics_are_for_clients_and_no_node_can_call(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as http:
        assert (await http.get("/metrics")).status == 200
        assert (await http.get(ENDS)).status == 404
        assert not hasattr(http, "inside")


async def test_one_process_alone_has_metrics_inside_and_no_routes_of_nodes(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1, internal=True) as http:
        assert (await http.ask("GET", "/metrics", app=http.inside)).status == 200
        assert (await http.ask("GET", ENDS, app=http.inside)).status == 404


CALLS = [
    ("POST", DECIDE, "malformed_request"),
    ("GET", ENDS, None),
    ("PUT", ENDS, "method_not_allowed"),
    ("GET", f"{ENDS}?unknown=1", "malformed_request"),
    ("GET", "/%69nternal/v1/ends", None),
]


@pytest.mark.parametrize(("method", "target", "code"), CALLS)
async def test_a_call_without_a_proof_is_refused_before_anything_of_it_is_read(
    node: InMemoryApi, method: str, target: str, code: str | None
) -> None:
    name, valid = right(method, target, b"{")
    now, digest, mac = valid.split(" ")
    wrong = (
        *("", SECRET, f"Bearer {SECRET}", " ", f"{now} {digest}", f"{valid} ", valid.upper(), f"x {digest} {mac}"),
        f"{int(now) + 1} {digest} {mac}",
        right(method, target, b"{", secret=SECRET + "x")[1],
        right(method, target, b"{", at="http://127.0.0.1:8081")[1],
        right("DELETE", target, b"{")[1],
        right(method, target + "0", b"{")[1],
    )
    for headers in ([], *([(name, given)] for given in wrong)):
        refused = await node.ask(method, target, *headers, app=node.inside, body=b"{")
        assert (refused.status, refused.json()["code"]) == (401, "unauthenticated"), headers
        assert SECRET not in refused.body.decode()
    answer = await node.ask(method, target, (name, valid), app=node.inside, body=b"{")
    assert answer.json().get("code") if code else answer.status == 200
    assert code is None or answer.json()["code"] == code


async def test_a_proof_is_of_one_body_and_of_half_a_minute(
    node: InMemoryApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = right("POST", DECIDE, b"{")
    other = await node.ask("POST", DECIDE, valid, app=node.inside, body=b"[")
    assert (other.status, "not the body that its proof" in other.json()["detail"]) == (401, True)
    now_s = time()
    for later_s, status in ((VALID_S - 2, 400), (VALID_S + 2, 401), (-VALID_S - 2, 401)):
        monkeypatch.setattr(proof, "time", lambda later_s=later_s: now_s + later_s)
        assert (await node.ask("POST", DECIDE, valid, app=node.inside, body=b"{")).status == status


async def test_on_loopback_nodes_need_no_secret(tmp_path: Path) -> None:
    async with node_of(Cluster(1), tmp_path, None) as node:
        assert (await node.ask("GET", ENDS, app=node.inside)).status == 200
