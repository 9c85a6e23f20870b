"""The log's lines, the id of each request, and which requests and reads get a line."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from api.cli.logs import handler_for
from api.composition.settings import SettingsError, read_settings
from api.http import application
from api.http.application import RequestLog
from api.http.request_id import REQUEST_ID, request_id_of
from ledger.histogram import SECONDS, Histogram
from projections.storage import slow as slow_reads
from projections.storage.slow import TimedReads
from projections.tables.queries import Query, Rows
from unit.api_in_memory import InMemoryApi


@pytest.fixture
def _in_request() -> Iterator[None]:
    token = REQUEST_ID.set("r-1")
    yield
    REQUEST_ID.reset(token)


def written(log_format: str) -> str:
    """What a line with a field, and one with a trace, look like."""
    stream = io.StringIO()
    logger = logging.Logger("a.module")
    logger.addHandler(handler_for({"STAKELOG_LOG_FORMAT": log_format}, stream))
    logger.warning("%d partitions\nare lost", 3, extra={"client_id": "game"})
    try:
        raise RuntimeError("no disk")
    except RuntimeError:
        logger.exception("failed")
    return stream.getvalue()


@pytest.mark.usefixtures("_in_request")
def test_json_is_one_object_a_line_with_the_request_the_fields_and_the_trace() -> None:
    first, second = map(json.loads, written("json").splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "WARNING",
        "logger": "a.module",
        "message": "3 partitions\nare lost",
        "request_id": "r-1",
        "client_id": "game",
    }
    assert "RuntimeError: no disk" in second["exception"]


def test_outside_of_a_request_the_id_is_null() -> None:
    assert json.loads(written("json").splitlines()[0])["request_id"] is None


@pytest.mark.usefixtures("_in_request")
def test_text_has_the_request_at_the_end_of_the_message_and_the_trace_below() -> None:
    text = written("text")
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:,]+ WARNING 3 partitions\nare lost \[request r-1\]$", text, re.MULTILINE)
    assert "failed [request r-1]\nTraceback" in text
    assert "client_id" not in text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("STAKELOG_LOG_FORMAT", "STAKELOG_LOG_FORMAT=-1: text or json"),
        ("STAKELOG_ACCESS_LOG", "STAKELOG_ACCESS_LOG=-1: on or off"),
        ("STAKELOG_SLOW_REQUEST_MS", "STAKELOG_SLOW_REQUEST_MS=-1: an integer from 0 to 3600000"),
        ("STAKELOG_SLOW_QUERY_MS", "STAKELOG_SLOW_QUERY_MS=-1: an integer from 0 to 3600000"),
    ],
)
def test_settings_that_cannot_be_used(setting: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings({setting: "-1"})


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["7d1f", "a.b_c:d-e", "x" * 64])
def test_a_caller_may_choose_the_id(chosen: str) -> None:
    assert request_id_of([(b"accept", b"*/*"), (b"x-request-id", chosen.encode())]) == chosen


@pytest.mark.parametrize("unusable", ["", "x" * 65, "a b", "a\nb", 'a"b'])
def test_an_id_that_could_forge_a_line_is_replaced(unusable: str) -> None:
    made = {request_id_of([(b"x-request-id", unusable.encode())]) for _ in range(3)}
    assert len(made) == 3, "each request has another one"
    assert unusable not in made


async def test_each_response_has_the_id_of_its_log_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids: list[str | None] = []

    def note(_: logging.LogRecord) -> bool:
        ids.append(REQUEST_ID.get())
        return True

    caplog.handler.addFilter(note)
    caplog.set_level(logging.INFO)
    async with InMemoryApi(tmp_path, request_log=RequestLog(every=True)) as client:
        caplog.clear()
        ids.clear()
        responses = [
            await client.ask("GET", "/v1/wallets/u1", ("x-request-id", "mine")),
            await client.ask("GET", "/nothing/here?secret=1", ("x-request-id", "")),
        ]
    assert responses[0].headers["x-request-id"] == "mine" == ids[0]
    assert responses[1].headers["x-request-id"] == ids[1]
    assert caplog.messages == ["GET /v1/wallets/u1 404", "GET /nothing/here 404"]
    line = vars(caplog.records[0])
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/wallets/u1", 404)
    assert line["duration_ms"] > 0


@pytest.mark.parametrize(("slow_s", "lines"), [(RequestLog().slow_s, 0), (3_600, 0), (0, 1)])
async def test_a_slow_request_is_named_by_its_route_at_most_once_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, slow_s: float, lines: int
) -> None:
    monkeypatch.setattr(application, "_SLOW_EVERY_S", 3_600.0)  # a busy machine may need more than a second for two
    async with InMemoryApi(tmp_path, request_log=RequestLog(slow_s=slow_s)) as client:
        caplog.clear()
        for user_id in ("u1", "u2"):
            assert (await client.get(f"/v1/wallets/{user_id}")).status == 404
    assert len(caplog.messages) == lines
    for line in caplog.messages:
        assert re.fullmatch(r"slow request: GET /v1/wallets/\{user_id\}, status 404, took \d+ ms", line)


# --- reads of the read model ---------------------------------------------------------------------------------------


class Late:
    """A read model whose reads take at least 20 ms."""

    async def fetch(self, queries: list[Query], *, quick: bool = False) -> list[Rows]:
        await asyncio.sleep(0.02)
        return [[] for _ in queries]

    async def close(self) -> None:
        pass


def balances_of_a_user() -> None:
    """Stands for the builder of a query: only its name matters."""


async def test_a_slow_read_names_its_queries_at_most_once_a_second(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_reads, "_SLOW_EVERY_S", 3_600.0)
    queries = [Query(balances_of_a_user)]  # type: ignore[arg-type]
    durations_s = Histogram(SECONDS)
    slow, quick = (TimedReads(Late(), limit_s, durations_s) for limit_s in (0.01, inf))  # type: ignore[arg-type]
    assert await quick.fetch(queries) == [[]]
    assert not caplog.messages
    for _ in range(3):
        assert await slow.fetch(queries) == [[]]
    assert re.fullmatch(r"slow read of the read model: balances_of_a_user took \d+ ms", caplog.messages[0])
    assert len(caplog.messages) == 1
    assert [number for bound, number in durations_s.buckets() if bound in {"0.01", "+Inf"}] == [0, 4]
