"""Traces of the real service, sent by OTLP over HTTP to a collector in the test, which may fail or hang."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from system.service import Service

pytestmark = pytest.mark.system

WITHIN_S = 60.0


class Collector:
    """Keeps the spans that it gets. ``status``: of its responses; while ``hangs`` is set it sends none."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.status = 200
        self.hangs = False
        self.calls = 0
        self.released = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.calls += 1
                if collector.hangs:
                    collector.released.wait()
                    return
                if collector.status == 200:
                    collector.keep(body)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Writes nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def keep(self, body: bytes) -> None:
        message: Any = ExportTraceServiceRequest()
        message.ParseFromString(body)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def of(self, trace: str) -> list[Any]:
        return [span for span in self.spans if span.trace_id.hex() == trace]

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def open_wallet(service: Service, number: int, trace: str) -> int:
    """Returns the status."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WITHIN_S)
    try:
        command = {"type": "open_wallet", "command_id": f"c{number}", "user_id": f"u{number}"}
        headers = {"content-type": "application/json", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        connection.request("POST", "/v1/commands", json.dumps(command), headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_traces_reach_a_collector_and_one_that_fails_or_hangs_is_reported_once_and_stops_nothing(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    service = Service(tmp_path / "data", PARTITIONS="2", TRACES=collector.address, TRACE_RATIO="0")
    log = tmp_path / "data.log"
    collector.status = 400
    service.start()
    try:
        for number in range(3):  # it fails three times
            calls = collector.calls
            assert open_wallet(service, number, f"{number:032x}".replace("0", "a")) == 201
            until(lambda: collector.calls > calls)  # noqa: B023 - called at once
        collector.status = 200
        traces = [f"{number:032x}".replace("0", "b") for number in (4, 5)]
        for number, trace in enumerate(traces):
            assert open_wallet(service, 10 + number, trace) == 201
            until(lambda: len(collector.of(trace)) == 4)  # noqa: B023 - called at once
        by_name = {span.name: span for span in collector.of(traces[0])}
        names = ["POST /v1/commands", "round", "append", "visible"]
        assert [by_name[below].parent_span_id for below in names[1:]] == [
            by_name[above].span_id for above in names[:3]
        ]
        assert by_name[names[0]].parent_span_id.hex() == "00f067aa0ba902b7"

        collector.hangs, calls = True, collector.calls
        for number in range(20, 40):
            assert open_wallet(service, number, f"{number:032x}".replace("0", "c")) == 201
        until(lambda: collector.calls > calls)
    finally:
        service.stop()
    lines = log.read_text().splitlines()
    assert sum("traces are dropped" in line and "400" in line for line in lines) == 1
    assert sum("takes traces again" in line for line in lines) == 1
    assert not [line for line in lines if "Traceback" in line or "Failed to export" in line.split("(")[0]]
