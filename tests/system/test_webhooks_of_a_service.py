"""Webhooks of a real service, to a receiver of the test and to the one of the documentation."""

import asyncio
import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.core.position import partition_of
from system.logins import LoggedIn, LoggedInClient, send
from system.service import free_port
from webhook_receiver import Got, Receiver

pytestmark = pytest.mark.system

PAGE: Final = Path(__file__).parents[2] / "docs" / "webhooks.md"
PARTITIONS: Final = 2
USERS: Final = [f"u{n}" for n in range(20)]


class Scene:
    def __init__(self, service: LoggedIn) -> None:
        self.service = service
        self.numbers = iter(range(1_000_000))

    @property
    def admin(self) -> LoggedInClient:
        return self.service.admin()

    def server(self) -> LoggedInClient:
        return self.service.add(f"games-{next(self.numbers)}", "game_server")

    def add(self, url: str, **fields: Any) -> Any:
        answer = self.admin.post("/v1/webhooks", {"url": url, **fields})
        assert answer.status == 201, answer
        return answer.json()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    data = tmp_path_factory.mktemp("webhooks") / "data"
    settings = {"PARTITIONS": str(PARTITIONS), "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with LoggedIn(data, RATE_LOGIN_PER_MIN="0", RATE_ADDRESS="0", **settings) as service:
        yield Scene(service)


def play(server: LoggedInClient, users: list[str], rounds: int) -> int:
    """Returns how many events it made."""
    batches: list[list[dict[str, Any]]] = [
        [{"type": "open_wallet", "command_id": "open", "user_id": user} for user in users]
    ]
    for number in range(rounds):
        deposit = {
            "type": "deposit",
            "command_id": f"d{number}",
            "order_id": f"o{number}",
            "asset": "INR",
            "amount": 1,
        }
        batches.append([{**deposit, "user_id": user} for user in users])
    for batch in batches:
        answer = server.post("/v1/commands/batch", batch)
        assert all(one["status"] == 201 for one in answer.json()), answer
    return len(users) * (rounds + 1)


async def test_a_webhook_is_added_changed_rotated_replayed_and_deleted(scene: Scene) -> None:
    admin = scene.admin
    refused = admin.post("/v1/webhooks", {"url": "https://169.254.169.254/latest/meta-data"})
    assert (refused.status, refused.json()["field"]) == (400, "url")
    assert admin.post("/v1/webhooks", {"url": "https://a.example", "types": ["nothing"]}).status == 400
    async with Receiver() as receiver:
        receiver.decide = lambda one: 500 if one.event["user_id"] == "refused" else 200
        added = scene.add(f"{receiver.url}", types=["wallet_opened"], give_up_s=0)
        path = f"/v1/webhooks/{added['webhook_id']}"
        await asyncio.to_thread(play, scene.server(), ["taken", "refused"], 1)
        await receiver.until(lambda: len(receiver.got) == 2)
        assert {one.event["user_id"] for one in receiver.got} == {"taken", "refused"}
        assert all(one.is_signed_by(added["secret"]) for one in receiver.got)
        dead = await until(lambda: admin.get(f"{path}/dead-letters").json()["items"])
        position = next(one.position for one in receiver.got if one.status == 500)
        assert [(one["position"], one["error"], one["attempts"]) for one in dead] == [(position, "status 500", 1)]
        listed = admin.get("/v1/webhooks").json()["items"]
        (one,) = [webhook for webhook in listed if webhook["webhook_id"] == added["webhook_id"]]
        assert (one["dead_letters"], one["waiting"], one["types"]) == (1, 0, ["wallet_opened"])
        assert len(one["cursors"]) == PARTITIONS
        assert added["secret"] not in admin.get("/v1/webhooks").body.decode()
        receiver.decide = lambda _: 200
        rotated = admin.post(f"{path}/rotate", {"grace_s": 60}).json()
        assert admin.post(f"{path}/dead-letters/replay", {"positions": [position]}).json() == {"revived": 1}
        await receiver.until(lambda: len(receiver.got) == 3)
        assert receiver.got[-1].position == position
        assert receiver.got[-1].is_signed_by(added["secret"])
        assert receiver.got[-1].is_signed_by(rotated["secret"])
        assert admin.post(f"{path}/replay", {"positions": [f"{PARTITIONS}:1"]}).status == 400
        assert admin.post(f"{path}/replay", {"positions": ["0:1", "0:2"]}).status == 400
        partition = partition_of("taken", PARTITIONS)
        assert admin.post(f"{path}/replay", {"positions": [f"{partition}:1"]}).status == 204
        await receiver.until(lambda: [one.event["user_id"] for one in receiver.got].count("taken") == 2)
        assert admin.post(path, {"url": "https://shop.example/", "enabled": False}).json()["enabled"] is False
        page = send(scene.service.url, "GET", "/metrics", token=admin.token).body.decode()
        assert float(re.findall(r"^stakelog_webhook_delivered_total (.+)$", page, re.MULTILINE)[0]) >= 3
        assert admin.get("/v1/webhooks/wh_0000000000000000/dead-letters").status == 404
        deleted = send(scene.service.url, "DELETE", path, token=admin.token)
        assert deleted.status == 204
        assert admin.post(f"{path}/rotate", {}).status == 404


async def test_a_service_that_is_killed_in_mid_delivery_loses_nothing_and_keeps_the_order(
    scene: Scene,
) -> None:
    async with Receiver() as receiver:
        added = scene.add(receiver.url, types=["deposited"])
        turns = iter(range(1_000_000))
        receiver.decide = lambda _: {30: 500, 60: -1}.get(next(turns) % 90, 200)
        await asyncio.to_thread(play, scene.server(), USERS, 20)
        await receiver.until(lambda: len(receiver.taken) >= 100)
        await asyncio.to_thread(scene.service.kill)
        assert len(receiver.taken) < len(USERS) * 20, "in mid-delivery"
        await asyncio.to_thread(scene.service.start)
        receiver.decide = lambda _: 200
        await receiver.until(lambda: len(receiver.taken) >= len(USERS) * 20)
        assert all(one.is_signed_by(added["secret"]) for one in receiver.got)
        assert_complete_and_in_order(receiver.taken, records_of(scene.admin), USERS)
        send(scene.service.url, "DELETE", f"/v1/webhooks/{added['webhook_id']}", token=scene.admin.token)


def records_of(admin: LoggedInClient) -> list[tuple[str, bytes]]:
    """(position, record) of all deposits, as ``GET /v1/events`` returns them."""
    found = []
    for partition in range(PARTITIONS):
        lines = admin.get(f"/v1/events?partition={partition}&limit=10000").body.splitlines()
        found += [(f"{partition}:{seq}", line) for seq, line in enumerate(lines, 1) if b'"type":"deposited"' in line]
    return found


def assert_complete_and_in_order(taken: list[Got], records: list[tuple[str, bytes]], users: list[str]) -> None:
    of_users = {place: line for place, line in records if re.search(rb'"user_id":"u\d+"', line)}
    assert {one.position: one.body for one in taken} == of_users
    by_user: dict[str, list[int]] = defaultdict(list)
    for one in taken:
        by_user[one.event["user_id"]].append(one.event["seq"])
    assert by_user.keys() == set(users)
    assert all(seqs == sorted(seqs) for seqs in by_user.values())


async def test_the_receiver_of_the_page_stores_each_event_once_and_refuses_what_is_not_ours(
    scene: Scene, tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", PAGE.read_text(), re.DOTALL)
    port, store = free_port(), tmp_path / "events.sqlite3"
    added = scene.add(f"http://127.0.0.1:{port}/", types=["wallet_opened"])
    environment = {"WEBHOOK_SECRET": added["secret"], "WEBHOOK_STORE": str(store), "WEBHOOK_PORT": str(port)}
    with (tmp_path / "receiver.log").open("w") as said:
        receiver = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", code], env=os.environ | environment, stdout=said, stderr=said
        )
        try:
            users = [f"page-{n}" for n in range(5)]
            await asyncio.to_thread(play, scene.server(), users, 1)
            assert await until(lambda: len(stored(store)) == 5)
            admin = scene.admin
            path = f"/v1/webhooks/{added['webhook_id']}"
            positions = [place for place, _ in stored(store)]
            for partition in {place.partition(":")[0] for place in positions}:
                first = min((place for place in positions if place.startswith(f"{partition}:")), key=seq_of)
                assert admin.post(f"{path}/replay", {"positions": [first]}).status == 204
            cursors = {f"{one['partition']}:{one['seq']}" for one in admin.get("/v1/partitions").json()["items"]}
            assert await until(lambda: cursors == set(cursors_of(admin, added["webhook_id"])))
            assert sorted(stored(store)) == sorted((place, "wallet_opened") for place in positions)
            for headers in ({}, {"webhook-id": "0:1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}):
                assert send(f"http://127.0.0.1:{port}", "POST", "/", {"type": "x"}, headers=headers).status == 401
            now = str(int(time.time()))
            headers = {"webhook-id": "0:1", "webhook-timestamp": now, "webhook-signature": "v1,AAAA v2,x"}
            assert send(f"http://127.0.0.1:{port}", "POST", "/", {"type": "x"}, headers=headers).status == 401
            assert len(stored(store)) == 5
            assert send(scene.service.url, "DELETE", path, token=admin.token).status == 204
        finally:
            receiver.kill()
            receiver.wait()


def seq_of(position: str) -> int:
    return int(position.partition(":")[2])


def cursors_of(admin: LoggedInClient, webhook_id: str) -> list[str]:
    listed = admin.get("/v1/webhooks").json()["items"]
    (one,) = [webhook for webhook in listed if webhook["webhook_id"] == webhook_id]
    return list(one["cursors"])


def stored(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("SELECT id, type FROM event").fetchall()
        except sqlite3.OperationalError:
            return []  # the receiver has not made its table yet


async def until(look: Any) -> Any:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(60):
        while not (found := await asyncio.to_thread(look)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found
