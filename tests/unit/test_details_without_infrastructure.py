"""What a client gets after a failure outside of the ledger: no path, no host, no text of a driver. The log has
them."""

import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

import api.http
import ledger
from api.http.problems import Problem, _warnings, problem_of, unavailable
from ledger.errors import LedgerError, LogUnavailable, OutcomeUnknown
from ledger.memory.log import Failure
from ledger.writer.requests import Failed
from projections.storage.port import ReadModelUnavailable
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.given import deposit, open_wallet

PATH: Final = "/srv/secret/events.sqlite3"
HOST: Final = "kafka-7.internal.example:9093"
DRIVER: Final = "sqlite3.OperationalError: disk I/O error"
TEXT: Final = f"the log {PATH} at {HOST} cannot be used: {DRIVER}"
SECRET: Final = re.compile(
    r"/srv|/tmp|secret|internal\.example|9093|sqlite|OperationalError|I/O|no such table", re.IGNORECASE
)
READS: Final = ("/v1/wallets/u1", "/v1/wallets/u1/history", "/v1/orders", "/v1/leaderboards/won_day?asset=INR")


@pytest.fixture
async def api_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InMemoryApi]:
    _warnings.clear()
    monkeypatch.setattr("projections.storage.sqlite_reader._LOOK_S", 0.0)
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(open_wallet(), deposit(500))
        await api_client.fold()
        yield api_client


def assert_plain(answer: ApiResponse, code: str) -> None:
    problem = answer.json()
    assert problem["code"] == code
    assert problem["detail"]
    assert SECRET.search(answer.body.decode()) is None, problem


@pytest.mark.parametrize("damage", ["deleted", "emptied"])
async def test_a_read_model_that_cannot_be_read(
    api_client: InMemoryApi, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "read-model.sqlite3"
    if damage == "deleted":
        path.unlink()
    else:
        connection = sqlite3.connect(path, isolation_level=None)
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DROP TABLE {table}")
        connection.close()
    for read in READS:
        assert_plain(await api_client.get(read), "log_unavailable")
    assert str(path) in caplog.text


async def test_a_log_that_cannot_be_read(api_client: InMemoryApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> Any:
        raise LogUnavailable(TEXT)

    for call in ("read", "head"):
        monkeypatch.setattr(api_client.world.log, call, fails)
    for read in ("/v1/events?partition=0", "/v1/events/0:1", "/v1/partitions"):
        assert_plain(await api_client.get(read), "log_unavailable")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(LogUnavailable, "log_unavailable"), (OutcomeUnknown, "outcome_unknown")],
)
async def test_a_log_that_cannot_be_written(
    api_client: InMemoryApi, error: type[LedgerError], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    api_client.world.log.fail_next.append(Failure(error(TEXT), lands=False))
    failed = await api_client.world.failed(deposit(1, order_id="o2"))
    assert failed.reason == reason
    assert SECRET.search(failed.detail) is None, failed
    assert TEXT in caplog.text


async def test_an_unforeseen_error_has_a_request_id_and_nothing_else(
    api_client: InMemoryApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: Any) -> Any:
        raise RuntimeError(TEXT)

    monkeypatch.setattr(api_client.reads, "wallet", fails)
    answer = await api_client.get("/v1/wallets/u1")
    assert_plain(answer, "internal_error")
    assert answer.json()["request_id"] in caplog.text
    assert TEXT in caplog.text


def test_a_database_server(caplog: pytest.LogCaptureFixture) -> None:
    _warnings.clear()
    error = ReadModelUnavailable(TEXT)
    error.address = f"postgresql at {HOST}, database x"
    problem = unavailable(error)
    assert SECRET.search(problem.encoded().decode()) is None
    assert HOST in caplog.text


def every_kind(kind: type[LedgerError] = LedgerError) -> list[type[LedgerError]]:
    return [kind, *(lower for direct in kind.__subclasses__() for lower in every_kind(direct))]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_for_clients(kind: type[LedgerError]) -> None:
    assert re.fullmatch("[a-z][a-z';, -]+", kind.for_clients)
    assert SECRET.search(problem_of(Failed("log_unavailable", kind.for_clients)).detail) is None


def test_no_failure_is_made_of_an_errors_text() -> None:
    """``Failed`` and 503 problems take ``for_clients``, or a sentence of their own."""
    made_of_text = re.compile(
        r"""(Failed|Problem)\(\s*"(log_unavailable|outcome_unknown|not_owner|overloaded)",[^)]*(str\(|\{error|repr)"""
    )
    roots = [Path(package.__path__[0]).parent for package in (api.http, ledger)]
    sources = [path for root in roots for path in root.rglob("*.py")]
    assert len(sources) > 100
    assert [str(path) for path in sources if made_of_text.search(path.read_text())] == []
    assert made_of_text.search('raise Problem("log_unavailable", str(error)) from error')
    assert issubclass(Problem, Exception)
