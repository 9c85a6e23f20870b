"""Rate limits of the running service: brute force, floods, two nodes on one Redis, and signed requests among them."""

import base64
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.local.servers import Redis
from system.logins import ADMIN_SECRET, Answer, LoggedIn, send

pytestmark = pytest.mark.system

RATE: Final = 10
BURST: Final = 10 * RATE
PRIVATE: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC: Final = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def opening(user_id: str) -> dict[str, Any]:
    return {"type": "open_wallet", "command_id": "open", "user_id": user_id}


def is_limited(answer: Answer, limit: str) -> bool:
    """Whether it is a 429 of this limit, complete."""
    if answer.status != 429:
        return False
    problem = answer.json()
    assert problem["code"] == "rate_limited"
    assert int(answer.headers["retry-after"]) == problem["retry_after_s"] >= 1
    assert answer.headers["ratelimit-policy"] == f'"{limit}";q={problem["quota"]};w={problem["window_s"]}'
    assert answer.headers["ratelimit"] == f'"{limit}";r=0;t={problem["retry_after_s"]}'
    return True


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedIn]:
    rates = {"RATE_USER": str(RATE), "RATE_LOGIN_PER_MIN": "1"}
    with LoggedIn(tmp_path_factory.mktemp("limits") / "data", PARTITIONS="2", **rates) as service:
        yield service
    assert "Traceback" not in service.log_text()


def test_a_thousand_wrong_secrets_are_slowed_and_others_are_served(service: LoggedIn) -> None:
    attacked, other = service.add("attacked", "game_server"), service.add("other", "game_server")
    assert other.post("/v1/commands", opening("u1")).status == 201
    with ThreadPoolExecutor(8) as pool:
        guesses = pool.map(lambda number: service.try_login("attacked", f"wrong-secret-{number}"), range(1_000))
        served = [other.get("/v1/wallets/u1?consistency=strong").status for _ in range(20)]
        found = Counter(answer.status for answer in guesses)
    assert served == [200] * 20
    assert found.keys() <= {401, 429}
    assert found[401] < 200, "few were checked: the others were refused before argon2"
    assert service.login("other", other.secret), "another client may log in from the same address"
    slowed = service.try_login("attacked", attacked.secret)
    assert is_limited(slowed, "login"), "the right secret is slowed too: the answer would tell a guesser"
    assert attacked.get("/v1/wallets/u1?consistency=strong").status == 200, "who is logged in stays so"
    text = service.admin().get("/metrics").body.decode()
    (refused,) = re.findall(r'stakelog_rate_limited_total{limit="login"} (\S+)', text)
    assert float(refused) > 800


def test_a_batch_counts_its_commands_and_refuses_one_users_together(service: LoggedIn) -> None:
    client = service.add("batches", "game_server")
    batch = [opening("busy") | {"command_id": f"c-{number}"} for number in range(BURST)] + [opening("calm")]
    first = [item["status"] for item in client.post("/v1/commands/batch", batch).json()]
    assert first == [201] + [422] * (BURST - 1) + [201]

    def refused() -> bool:
        items = client.post("/v1/commands/batch", batch).json()
        assert items[-1]["status"] == 200, "the other user is served"
        if items[0]["status"] != 429:
            return False
        assert {item["problem"]["limit"] for item in items[:-1]} == {"user"}, "all or none, so they stay in order"
        return True

    until(refused)
    until(lambda: is_limited(client.post("/v1/commands", opening("busy")), "user"))


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s


@pytest.fixture
def nodes(own_redis: Redis, tmp_path: Path) -> Iterator[list[LoggedIn]]:
    """Two services whose only common part is a Redis."""
    with ExitStack() as stack:
        settings = {"PARTITIONS": "1", "CACHE": own_redis.url, "RATE_CLIENT": str(RATE), "RATE_ADDRESS": "3"}
        yield [stack.enter_context(LoggedIn(tmp_path / name / "data", **settings)) for name in ("one", "two")]


def signed(body: bytes, nonce: str) -> dict[str, str]:
    digest = f"sha-256=:{base64.b64encode(sha256(body).digest()).decode()}:"
    parameters = (
        f'("@method" "@path" "@query" "content-digest");created={int(time.time())};nonce="{nonce}";keyid="signing"'
    )
    base = f'"@method": POST\n"@path": /v1/commands\n"@query": ?\n"content-digest": {digest}\n'
    signature = PRIVATE.sign(f'{base}"@signature-params": {parameters}'.encode())
    return {
        "Content-Digest": digest,
        "Signature-Input": f"sig={parameters}",
        "Signature": f"sig=:{base64.b64encode(signature).decode()}:",
    }


def test_two_nodes_on_one_redis_have_one_limit_and_refuse_each_others_nonces(
    nodes: list[LoggedIn], own_redis: Redis
) -> None:
    one, two = nodes
    clients = [node.add("shared", "auditor") for node in nodes]
    signing = [node.add("signing", "game_server", public_key=PUBLIC.decode()) for node in nodes]

    body = b'{"type":"open_wallet","command_id":"open","user_id":"u1"}'
    headers = signed(body, "n-1")
    assert signing[0].post("/v1/commands", body).status == 401, "this client must sign"
    assert signing[0].post("/v1/commands", body, headers).status == 201
    for client in signing:
        replayed = client.post("/v1/commands", body, headers)
        assert (replayed.status, "nonce" in replayed.json()["detail"]) == (401, True)
    assert signing[1].post("/v1/commands", body, signed(body, "n-2")).status == 201
    assert signing[1].get("/v1/wallets/u1?consistency=strong").status == 200, "reads are not signed"

    began_s = time.monotonic()
    while not is_limited(clients[0].get("/v1/partitions"), "client"):
        assert time.monotonic() - began_s < 60, "one client is never limited"
    accepted = 0
    while not is_limited(clients[1].get("/v1/partitions"), "client"):
        accepted += 1
        assert accepted <= BURST, "the other node does not know what the client has spent"
        time.sleep(0.02)
    took_s = time.monotonic() - began_s
    assert accepted <= RATE * took_s + BURST / 2, "the other node learned of it after some requests"

    own_redis.kill()
    for client in signing:
        away = client.post("/v1/commands", body, signed(body, "n-3"))
        assert (away.status, away.json()["code"]) == (503, "log_unavailable")
        assert away.headers["retry-after"]
    assert clients[0].get("/healthz").status == 200
    deadline_s = time.monotonic() + 60
    while "stakelog_rate_limits_shared 0.0" not in one.admin().get("/metrics").body.decode():
        assert time.monotonic() < deadline_s, "the metric does not say that the limits are not shared"
    assert two.try_login("admin", ADMIN_SECRET).status == 200, "without Redis clients log in"

    stranger = partial(send, one.url, "GET", "/v1/wallets/u1", headers={"Authorization": "Bearer no.token.x"})
    until(lambda: is_limited(stranger(), "address"))
    assert signing[0].get("/v1/wallets/u1?consistency=strong").status == 200, "a client there is served"
    assert send(one.url, "GET", "/healthz").status == 200, "probes are not limited"
