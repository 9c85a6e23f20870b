"""Every read ends in its time, whatever hangs behind it. The table of routes names the reads."""

import asyncio
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from api.routes.parameters import ReadQuery
from api.routes.table import ROUTES
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.given import deposit, open_wallet, place_bet
from unit.node_in_memory import World

PARTITIONS: Final = 4
HERE: Final = partition_of("u1", PARTITIONS)
VALUES: Final = {
    "user_id": "u1",
    "command_id": "c",
    "name": "staked_day",
    "position": f"{HERE}:1",
    "game": "wingo_30s",
    "period": "20241004T120000Z",
    "code": "unknown",
    "webhook_id": "wh_0123456789abcdef",
}
NEEDED: Final = {
    "/v1/events": f"partition={HERE}",
    "/v1/leaderboards/{name}": "asset=INR",
    "/v1/house": "asset=INR",
    "/v1/house/movers": "asset=INR",
    "/v1/house/cohorts": "asset=INR",
    "/v1/wallets": "user_id=u1",
}
"""Parameters that a route must have."""

ENDS_WITHIN_S: Final = 60.0
"""Far above the longest time that a read may take: the machine may be busy. A read without a deadline never ends."""

COMMAND: Final = "/v1/commands/{user_id}/{command_id}"
"""A failure of its read must not say that nothing was written: that would be taken for the command's outcome."""
OF_THE_LOG: Final = ("/v1/partitions", "/v1/events", "/v1/events/{position}", COMMAND, "/v1/seals")
WITHOUT_TABLES: Final = (
    "/admin",
    "/admin/assets/{name}",
    "/admin/now",
    "/admin/verification",
    "/v1/clients",
    "/v1/games",
    "/v1/events/{position}/receipt",
    "/v1/webhooks",
    "/v1/webhooks/{webhook_id}/dead-letters",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
)
OPERATION: Final = ("/", "/healthz", "/readyz", "/schema", "/schema/", "/schema/scalar.js", "/metrics")


def target_of(path: str, query: type[Any]) -> str:
    target = path
    for name in VALUES:
        target = target.replace(f"{{{name}}}", VALUES[name])
    target = target.replace("{bet_id}", "b1")
    for name in ("hold_id", "transfer_id", "order_id"):
        target = target.replace(f"{{{name}}}", "unknown")
    parameters = [NEEDED[path]] if path in NEEDED else []
    if issubclass(query, ReadQuery):
        parameters.append("timeout_ms=1500")
    return f"{target}?{'&'.join(parameters)}"


FEEDS: Final = ("/v1/live", "/v1/live/ws")
"""They are to last."""
READS: Final = {
    route.path: target_of(route.path, route.query)
    for route in ROUTES
    if route.method == "GET" and route.path not in FEEDS
}
STRONG: Final = f"{READS['/v1/wallets/{user_id}']}&consistency=strong"
OTHERS: Final = {"a wallet that does not exist": "/v1/wallets/stranger?timeout_ms=1500", "a strong read": STRONG}


class Hanging:
    """Ports that respond only after ``resume``, and then with an error."""

    def __init__(self) -> None:
        self._resumed = asyncio.Event()
        self._thread_resumed = threading.Event()

    async def wait(self, *_: Any, **__: Any) -> Any:
        await self._resumed.wait()
        raise LogUnavailable("it hung")

    def wait_in_thread(self, *_: Any) -> Any:
        self._thread_resumed.wait()
        raise OSError("it hung")

    def resume(self) -> None:
        self._resumed.set()
        self._thread_resumed.set()


async def answers_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, log: bool = False, tables: bool = False
) -> dict[str, ApiResponse]:
    """The response to each read, all sent together while the log or the tables, or both, hang."""
    hanging = Hanging()
    world = await World(PARTITIONS, shared=True, generation=1).start()
    async with InMemoryApi(folder, PARTITIONS, started=world) as api_client:
        await world.given(open_wallet(), deposit(1_000), place_bet(100, bet_id="b1"))
        await api_client.fold()
        for target in READS.values():  # compiles the statements, which would take a part of the time
            await api_client.get(target)
        if log:
            for port in ("read", "head", "confirm", "append"):
                monkeypatch.setattr(world.log, port, hanging.wait)
            monkeypatch.setattr(api_client.seals, "newest", hanging.wait_in_thread)
        if tables:
            monkeypatch.setattr(api_client.model, "fetch", hanging.wait)
        sent = {**READS, **OTHERS}
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                answers = await asyncio.gather(*(api_client.get(target) for target in sent.values()))
        finally:
            hanging.resume()
            monkeypatch.undo()
    return dict(zip(sent, answers, strict=True))


def assert_ended(answers: dict[str, ApiResponse]) -> None:
    assert answers.keys() == {*READS, *OTHERS}
    for path, answer in answers.items():
        code = "outcome_unknown" if path == COMMAND else "log_unavailable"
        assert answer.status in (200, 302, 404) or answer.json()["code"] == code, (path, answer)
    for path in OPERATION:
        assert answers[path].status in (200, 302), (path, answers[path])


def refused(answers: dict[str, ApiResponse]) -> set[str]:
    return {path for path, answer in answers.items() if answer.status == 503}


async def test_while_the_log_hangs_every_read_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = await answers_while(tmp_path, monkeypatch, log=True)
    assert_ended(answers)
    not_found = {path for path in READS if path.endswith(("{hold_id}", "{transfer_id}", "{order_id}", "{code}"))}
    assert refused(answers) == {*OF_THE_LOG, *not_found, *OTHERS}


async def test_while_the_tables_hang_every_read_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = await answers_while(tmp_path, monkeypatch, tables=True)
    assert_ended(answers)
    of_the_tables = READS.keys() - {*OPERATION, *OF_THE_LOG, *WITHOUT_TABLES}
    assert refused(answers) == {*of_the_tables, "a wallet that does not exist"}
    assert answers["a strong read"].status == 200


async def test_a_read_is_given_up_half_a_second_after_its_timeout_at_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()
    async with InMemoryApi(tmp_path) as api_client:
        waited: list[float] = []
        timeout_at = asyncio.timeout_at

        def noted(when: float) -> asyncio.Timeout:
            waited.append(when - asyncio.get_running_loop().time())
            return timeout_at(when)

        monkeypatch.setattr(api_client.model, "fetch", hanging.wait)
        monkeypatch.setattr("api.http.application.asyncio.timeout_at", noted)
        for timeout_ms, ends_within_s in ((0, 0.5), (300, 0.8)):
            await api_client.get(f"/v1/wallets/u1?timeout_ms={timeout_ms}")
            assert timeout_ms / 1_000 < waited.pop() < ends_within_s
        hanging.resume()
        monkeypatch.undo()


async def test_a_command_whose_outcome_cannot_be_read_is_never_said_to_be_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unavailable = Hanging()
    unavailable.resume()
    world = await World(PARTITIONS, shared=True, generation=1).start()
    async with InMemoryApi(tmp_path, PARTITIONS, started=world) as api_client:
        await world.given(open_wallet())
        for port in ("read", "head", "confirm", "append"):
            monkeypatch.setattr(world.log, port, unavailable.wait)
        answer = await api_client.get(READS[COMMAND])
        monkeypatch.undo()
        await world.stop()
    assert (answer.status, answer.json()["code"]) == (503, "outcome_unknown")
    assert "nothing was written" not in answer.body.decode()
