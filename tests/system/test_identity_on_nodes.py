"""Login on two nodes that share a topic of Kafka and a database: what one node does is true at the other."""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from databases import EmptyDatabases
from deploy.local.servers import Kafka
from ledger.core.position import partition_of
from system.cluster import NO_READ_MODEL
from system.logins import LoggedIn, LoggedInClient, send

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("databases", ["postgresql"], indirect=True),
]

PARTITIONS = 2
SECRET = {"iban": "MARKER-DE02120300000000202051"}
USERS = [next(u for u in (f"u{n}" for n in range(99)) if partition_of(u, PARTITIONS) == p) for p in range(PARTITIONS)]
"""One in each partition: whichever node owns them, one of two nodes forwards."""


@pytest.fixture
def nodes(own_kafka: Kafka, databases: EmptyDatabases, tmp_path: Path) -> Iterator[list[LoggedIn]]:
    with databases.one() as url, ExitStack() as started:
        shared = {
            "LOG": f"{own_kafka.url}?replication_factor=1&session_timeout_ms=6000",
            "READ_MODEL": NO_READ_MODEL,
            "IDENTITY": url,
            "PARTITIONS": str(PARTITIONS),
            "MASTER_KEY": b64encode(b"M" * 32).decode(),
            "CLUSTER_SECRET": "5ec2e7" * 8,
        }
        running = [LoggedIn(tmp_path / f"node-{number}", **shared) for number in range(2)]
        for node in running:
            started.enter_context(node)
        admin = running[0].admin()
        until(lambda: len({item["owner"] for item in admin.get("/v1/partitions").json()["items"]} - {None}) == 2)
        until(lambda: all(node.ready() for node in running))
        yield running


def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def texts_of(client: LoggedInClient, user_id: str) -> Any:
    answer = client.get(f"/v1/commands/{user_id}/c1")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store"), answer
    return answer.json()["data"].get("private", "no member")


def test_private_texts_and_their_deletion_reach_other_nodes(nodes: list[LoggedIn]) -> None:
    one, other = nodes
    game = one.add("game", "game_server")
    clients = [game, other.login("game", game.secret)]
    strangers = [one.add("stranger", "game_server", games=["external"])]
    strangers.append(other.login("stranger", strangers[0].secret))
    for user_id in USERS:
        opening = {"type": "open_wallet", "command_id": "c1", "user_id": user_id, "private": SECRET}
        assert clients[0].post("/v1/commands", opening).status == 201
        assert [texts_of(client, user_id) for client in clients] == [SECRET, SECRET]
        assert [texts_of(client, user_id) for client in strangers] == ["no member", "no member"]
        assert clients[1].post("/v1/commands", {**opening, "private": {"x": "y"}}).json()["data"]["private"] == SECRET
        deleted = send(other.url, "DELETE", f"/v1/wallets/{user_id}/private", token=other.admin().token)
        assert deleted.status == 204, deleted
        assert [texts_of(client, user_id) for client in clients] == [None, None]
        order = {"type": "deposit", "command_id": "c2", "user_id": user_id, "order_id": "o", "asset": "INR"}
        again = clients[0].post("/v1/commands", {**order, "amount": 5, "private": {"k": "v"}})
        assert again.json()["data"]["private"] == {"k": "v"}
        looked_up = clients[1].get(f"/v1/commands/{user_id}/c2").json()
        assert looked_up["data"]["private"] == {"k": "v"}
        assert [texts_of(client, user_id) for client in clients] == [None, None]
    for node in nodes:
        assert "MARKER" not in node.log_text()


def test_a_narrowed_client_is_narrowed_and_a_disabled_one_disabled_at_every_node(nodes: list[LoggedIn]) -> None:
    one, other = nodes
    game = one.add("game", "game_server")
    wingo = one.add("wingo", "game_server", games=["wingo_1m"])
    elsewhere = other.login("wingo", wingo.secret)
    for user_id in USERS:
        commands: list[dict[str, Any]] = [
            {"type": "open_wallet"},
            {"type": "deposit", "order_id": "o", "asset": "INR", "amount": 100},
            {"type": "place_bet", "bet_id": "b", "game": "external", "period": "1", "selection": "red"},
        ]
        commands[2] |= {"asset": "INR", "stake": 10}
        for number, fields in enumerate(commands):
            posted = game.post("/v1/commands", {**fields, "command_id": f"c{number}", "user_id": user_id})
            assert posted.status == 201, posted
        cancel = {"type": "cancel_bet", "command_id": "c9", "user_id": user_id, "bet_id": "b"}
        for client in (wingo, elsewhere):
            refused = client.post("/v1/commands", cancel)
            assert (refused.status, refused.json()["game"]) == (403, "external")
            (element,) = client.post("/v1/commands/batch", [cancel]).json()
            assert (element["status"], element["problem"]["code"]) == (403, "forbidden")
        assert game.post("/v1/commands", cancel).status == 201
    assert send(one.url, "DELETE", "/v1/clients/wingo", token=one.admin().token).status == 204
    began_s = time.monotonic()
    until(lambda: elsewhere.get(f"/v1/wallets/{USERS[0]}?consistency=strong").status == 401)
    assert time.monotonic() - began_s < 30, "5 s are promised; a busy machine gets more"
