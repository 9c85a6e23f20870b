"""Traces of requests: the tree from HTTP to visible, the caller's context, follow-ups and forwarded commands."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.cli.logs import handler_for
from api.composition.settings import SettingsError, read_settings
from api.http.application import RequestLog
from api.http.tracing import trace_id_of
from api.tracing.otlp import OtlpTracer
from api.tracing.visible import GIVE_UP_S, WAITING_MAX, Visibility
from ledger.core.commands import Command
from ledger.errors import LogUnavailable
from ledger.writer.requests import Accepted
from projections.reads.positions import Positions
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.cluster_in_memory import ClusterInMemory, Trouble
from unit.given import deposit, open_wallet, record_result, transfer
from unit.node_in_memory import request_sha256
from unit.test_settlement import PERIOD, bets_placed, settled

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
JSON = ("content-type", "application/json")


class Seqs:
    """In place of ``Positions``: what the read model has, as the test says."""

    def __init__(self) -> None:
        self.seqs: dict[int, int] = {}
        self.looked = asyncio.Event()

    async def look(self) -> Mapping[int, int]:
        self.looked.set()
        return self.seqs


class Traces:
    """A tracer, and the spans that have ended."""

    def __init__(self, positions: "Positions | Seqs", ratio: float = 0.0, node: str = "") -> None:
        self.exporter = InMemorySpanExporter()
        self.now_s = 0.0
        self.visible = Visibility(positions, lambda: self.now_s)  # type: ignore[arg-type]  # it only looks
        self.tracer = OtlpTracer(self.exporter, ratio, self.visible, node)

    def ended(self) -> list[ReadableSpan]:
        """In the order in which they began."""
        self.tracer._provider.force_flush()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    async def end(self, number: int, name: str) -> None:
        """Wait until so many spans of this name have ended."""
        async with asyncio.timeout(60):
            while sum(span.name == name for span in self.ended()) < number:  # noqa: ASYNC110 - they end in tasks
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.visible.stop()
        await self.tracer.stop()


def tree(spans: Sequence[ReadableSpan]) -> list[str]:
    """Each span as the names from the top to it, sorted. All spans must be of ``TRACE``."""
    assert {format(span.context.trace_id, "032x") for span in spans} <= {TRACE}
    by_id = {span.context.span_id: span for span in spans}

    def path(span: ReadableSpan) -> str:
        above = None if span.parent is None else by_id.get(span.parent.span_id)
        return span.name if above is None else f"{path(above)} / {span.name}"

    return sorted(map(path, spans))


class Traced:
    """The application with a tracer whose ``visible`` spans look at its own read model."""

    def __init__(self, folder: Path) -> None:
        self.api = InMemoryApi(folder, request_log=RequestLog(every=True))
        self.traces: Traces

    async def post(self, path: str, *commands: Command, headers: Sequence[tuple[str, str]] = ()) -> ApiResponse:
        body = msgspec.json.encode(commands if path.endswith("batch") else commands[0])
        return await self.api.ask("POST", path, JSON, *headers, body=body)


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[Traced]:
    traced = Traced(tmp_path)
    async with traced.api:
        traced.traces = Traces(traced.api.reads.positions)
        traced.api.app._tracer = traced.traces.tracer
        yield traced
        await traced.traces.stop()


COMMAND = "POST /v1/commands"
BATCH = "POST /v1/commands/batch"


async def test_a_command_of_a_sampled_caller_is_a_tree_from_http_to_visible(traced: Traced) -> None:
    response = await traced.post("/v1/commands", open_wallet("u1"), headers=[SAMPLED, ("tracestate", "shop=7")])
    assert response.status == 201
    await asyncio.sleep(0.1)
    assert [span.name for span in traced.traces.ended()] == [COMMAND, "round", "append"], "it is not visible yet"
    await traced.api.fold()
    await traced.traces.end(1, "visible")
    spans = traced.traces.ended()
    below = [f"{COMMAND} / round", f"{COMMAND} / round / append", f"{COMMAND} / round / append / visible"]
    assert tree(spans) == [COMMAND, *below]
    http, _, append, visible = spans
    assert http.parent is not None
    assert (http.parent.span_id, http.context.trace_state.to_header()) == (0x00F067AA0BA902B7, "shop=7")
    assert http.attributes is not None
    assert http.attributes["http.response.status_code"] == 201
    assert visible.attributes is not None
    assert visible.attributes["stakelog.position"] == response.json()["position"]
    assert None not in (append.start_time, visible.start_time)
    assert (visible.start_time or 0) >= (append.start_time or 0)


async def test_a_batch_has_one_round_a_partition_and_a_refusal_is_not_watched(traced: Traced) -> None:
    users = [f"u{number}" for number in range(20)]
    await traced.post("/v1/commands/batch", *map(open_wallet, users), headers=[SAMPLED])
    await traced.api.fold()
    await traced.traces.end(4, "visible")
    of_rounds = [f"{BATCH} / round", f"{BATCH} / round / append", f"{BATCH} / round / append / visible"]
    assert tree(traced.traces.ended()) == sorted([BATCH, *(of_rounds * 4)]), "its commands are in four partitions"

    traced.traces.exporter.clear()
    assert (await traced.post("/v1/commands", open_wallet("u1"), headers=[SAMPLED])).status == 422
    await traced.traces.end(1, "round")
    assert tree(traced.traces.ended()) == [COMMAND, f"{COMMAND} / round"], "nothing was appended"


async def test_a_transfer_keeps_the_trace_to_the_other_wallet_and_back(traced: Traced) -> None:
    for command in (open_wallet("u1"), open_wallet("u2"), deposit(500, "d1", user_id="u1")):
        assert (await traced.post("/v1/commands", command)).status == 201
    response = await traced.post("/v1/commands", transfer(200, user_id="u1", to_user_id="u2"), headers=[SAMPLED])
    assert response.status == 201
    await traced.api.fold()
    await traced.traces.end(3, "visible")
    sent = f"{COMMAND} / round"
    arrived = f"{sent} / round"
    concluded = f"{arrived} / round"
    rounds = [sent, arrived, concluded]
    parts = [f"{one}{part}" for one in rounds for part in ("", " / append", " / append / visible")]
    assert tree(traced.traces.ended()) == sorted([COMMAND, *parts])


async def test_the_settlement_of_bets_in_all_partitions_keeps_the_trace_of_the_result() -> None:
    world = await bets_placed()
    seqs = Seqs()
    seqs.seqs = dict.fromkeys(range(4), 1_000)
    traces = Traces(seqs)
    span = traces.tracer.begin([(b"traceparent", SAMPLED[1].encode())], "r1")
    assert span is not None
    command = record_result("7", PERIOD)
    assert isinstance(await world.node.post(command, request_sha256(command), "local", span=span), Accepted)
    span.respond("POST", "/v1/commands", 201, 0.001)
    await settled(world)
    await traces.end(5, "visible")
    spans = traces.ended()
    settling = [path for path in tree(spans) if path == f"{COMMAND} / round / round"]
    assert len(settling) == 4, "each partition had the announcement"
    assert sum(dict(span.attributes or {}).get("stakelog.partition") is not None for span in spans) == 5
    await traces.stop()
    await world.stop()


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-00")],
        [],
        [("traceparent", f"00-{TRACE}-0000000000000000-01")],
        [("traceparent", "nonsense")],
        [SAMPLED, SAMPLED],
    ],
    ids=["not sampled", "without a header", "without a span", "nonsense", "twice"],
)
async def test_other_callers_are_not_traced_at_ratio_0(traced: Traced, headers: list[tuple[str, str]]) -> None:
    scope = [(name.encode(), value.encode()) for name, value in headers]
    assert traced.traces.tracer.begin(scope, "r") is None


async def test_at_ratio_1_a_request_begins_a_trace_unless_its_caller_says_no() -> None:
    traces = Traces(Seqs(), ratio=1.0)
    one, other = traces.tracer.begin([], "r1"), traces.tracer.begin([(b"traceparent", b"nonsense")], "r2")
    assert one is not None
    assert other is not None
    assert trace_id_of(one) != trace_id_of(other)
    assert traces.tracer.begin([(b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-00".encode())], "r3") is None
    await traces.stop()


async def test_the_log_lines_of_a_traced_request_have_its_trace(traced: Traced) -> None:
    stream = io.StringIO()
    handler = handler_for({"STAKELOG_LOG_FORMAT": "json"}, stream)
    access = logging.getLogger("stakelog.access")
    access.addHandler(handler)
    access.setLevel(logging.INFO)
    try:
        await asyncio.create_task(traced.api.get("/healthz", SAMPLED))
        await asyncio.create_task(traced.api.get("/healthz"))
    finally:
        access.removeHandler(handler)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["trace_id"] == TRACE
    assert "trace_id" not in second


async def test_an_append_that_fails_is_in_the_trace(traced: Traced) -> None:
    async def unavailable(*_: object) -> None:
        raise LogUnavailable("no disk")

    traced.api.world.log.append = unavailable  # type: ignore[method-assign, assignment]
    assert (await traced.post("/v1/commands", open_wallet("u1"), headers=[SAMPLED])).status == 503
    await traced.traces.end(1, "round")
    failed = {span.name: span.status.is_ok for span in traced.traces.ended()}
    assert failed == {COMMAND: False, "round": True, "append": False}


async def test_spans_that_wait_for_the_read_model_are_bounded_and_given_up() -> None:
    seqs = Seqs()
    traces = Traces(seqs, ratio=1.0)
    span = traces.tracer.begin([], "r1")
    assert span is not None
    for seq in range(WAITING_MAX + 5):
        span.watch_visible(0, seq + 1)
    assert not traces.visible.has_room()
    seqs.seqs = {0: 7}
    await traces.end(7, "visible")
    traces.now_s = GIVE_UP_S
    await traces.end(WAITING_MAX, "visible")
    assert sum(not ended.status.is_ok for ended in traces.ended()) == WAITING_MAX - 7
    await traces.stop()


# --- between nodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.NONE, Trouble.UNREACHABLE], ids=["at once", "after a retry"])
async def test_forwarded_commands_and_follow_ups_between_nodes_keep_the_trace(trouble: Trouble) -> None:
    seqs = Seqs()
    traces = Traces(seqs)
    async with ClusterInMemory(partitions=2) as cluster:
        cluster.follow = traces.tracer.follow
        await cluster.give([0], "a")
        await cluster.give([1], "b")
        await cluster.settled()
        here, there = cluster.user(0), cluster.user(1)
        for command in (open_wallet(here), open_wallet(there), deposit(500, "d1", user_id=there)):
            await cluster["a"].accepted(command)
        cluster["a"].peers.troubles.append(trouble)
        span = traces.tracer.begin([(name.encode(), value.encode()) for name, value in (SAMPLED,)], "r1")
        assert span is not None
        sent = transfer(200, user_id=there, to_user_id=here)
        assert isinstance(await cluster["a"].post(sent, span=span), Accepted)
        span.respond("POST", "/v1/commands", 201, 0.001)
        seqs.seqs = {0: 1_000, 1: 1_000}
        await traces.end(3, "visible")
    expected = COMMAND
    paths = [expected]
    for _ in range(3):  # sent on b, arrives on a, is concluded on b
        expected += " / round"
        paths += [expected, f"{expected} / append", f"{expected} / append / visible"]
    assert tree(traces.ended()) == sorted(paths)
    await traces.stop()


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"TRACES": "collector:4318"},
        {"TRACES": "http://u:p@collector:4318"},
        {"TRACES": "http://collector:4318/"},
        {"TRACES": "http://collector:4318?x=1"},
        {"TRACE_RATIO": "1.1"},
        {"TRACE_RATIO": "nan"},
        {"TRACE_RATIO": "-0.1"},
    ],
    ids=str,
)
def test_a_wrong_setting_of_traces_is_refused(wrong: dict[str, str]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(SettingsError, match=f"STAKELOG_{name}"):
        read_settings({f"STAKELOG_{name}": value})


def test_without_opentelemetry_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings({"STAKELOG_TRACES": "http://collector:4318"}).traces == "http://collector:4318"
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(SettingsError, match="pip install 'stakelog\\[traces\\]'"):
        read_settings({"STAKELOG_TRACES": "http://collector:4318"})


_BUILD = """
import asyncio, sys
from api.cli import main, serve
from api.composition.container import Tracing, make_container
from api.composition.settings import read_settings

async def build():
    container = make_container(read_settings({environment!r}))
    await container.get(Tracing)
    await container.close()

asyncio.run(build())
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "google.protobuf"))))
"""


def test_without_the_setting_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    script = _BUILD.format(environment={"STAKELOG_DATA": str(tmp_path / "data")})
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
