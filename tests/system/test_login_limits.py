"""Rate limits of the running service: brute force, floods, two nodes on one Redis, and signed requests among them."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from system.logins import Answer, LoggedIn

pytestmark = pytest.mark.system

RATE: Final = 10
BURST: Final = 10 * RATE


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
    rates = {"RATE_USER": str(RATE), "RATE_LOGIN": "1"}
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
