"""Spans by OpenTelemetry, sent to a collector by OTLP over HTTP.

Invariants:
(1) no request waits for the collector: a thread sends the spans that have ended, at most ``_QUEUE_MAX`` wait for it,
    and further ones are dropped;
(2) the log says once that the collector does not take spans, and once that it takes them again; at most once an
    hour that it takes them too slowly;
(3) ``stop`` ends after ``_STOP_S`` at the latest, whatever the collector does;
(4) a request that is not traced makes no object of OpenTelemetry: even spans that record nothing would cost 5 µs.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from random import random
from threading import Thread
from time import monotonic, time_ns
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span as AnySpan
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ledger.tracing import Span, SpanContext

_QUEUE_MAX: Final = 4_096
"""Spans that wait for the thread. Chosen: some 8 MB."""
_SEND_S: Final = 2.0
"""How long the thread tries to send a batch of spans. Chosen: a working collector responds in milliseconds."""
_STOP_S: Final = 2.0
_NOTHING: Final = Context()
_TRACEPARENT: Final = b"traceparent"
_TRACESTATE: Final = b"tracestate"
_OTLP_PATH: Final = "/v1/traces"

_headers: Final = TraceContextTextMapPropagator()
_log = logging.getLogger(__name__)
_exporter_log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
_queue_log = logging.getLogger("opentelemetry.sdk._shared_internal")


class Watches(Protocol):
    """Ends each span ``visible`` when the read model has its event."""

    def has_room(self) -> bool: ...
    def add(self, span: Span, partition: int, seq: int) -> None: ...


class OtlpTracer:
    """``api.http.tracing.Tracer``. It begins a trace for the fraction ``ratio`` (0 to 1) of requests without a
    ``traceparent``."""

    def __init__(self, exporter: SpanExporter, ratio: float, visible: Watches, node: str = "") -> None:
        """``node``: the address of this node, which its spans name."""
        self._ratio, self.visible = ratio, visible
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": "stakelog", "service.instance.id": node}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUE_MAX))
        self._tracer = self._provider.get_tracer("stakelog")

    def begin(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> "_Span | None":
        parents, states = [], []
        for name, value in headers:
            if name == _TRACEPARENT:
                parents.append(value)
            elif name == _TRACESTATE:
                states.append(value)
        above = _NOTHING
        if len(parents) == 1:
            above = _context_of(parents[0].decode("latin-1"), b",".join(states).decode("latin-1"))
        caller = get_current_span(above).get_span_context()
        if caller.is_valid:
            if not caller.trace_flags.sampled:
                return None
        elif random() >= self._ratio:  # noqa: S311 - no secret is made of it
            return None
        attributes = {"stakelog.request_id": request_id}
        span = self._tracer.start_span("HTTP", above, SpanKind.SERVER, attributes)
        return _Span(self._tracer, span, self.visible)

    def follow(self, context: SpanContext) -> "_Span":
        return _Span(self._tracer, get_current_span(_context_of(*context)), self.visible)

    async def stop(self) -> None:
        """Send what has ended, within ``_STOP_S``. Spans that end later are dropped."""
        sending = Thread(target=self._provider.shutdown, name="last-traces", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, _STOP_S)
        if sending.is_alive():
            _log.warning("the last traces are not sent: the collector did not take them within %g s", _STOP_S)


def _context_of(traceparent: str, tracestate: str) -> Context:
    """Without a span where the headers are malformed."""
    return _headers.extract({"traceparent": traceparent, "tracestate": tracestate}, _NOTHING)


class _Span:
    """``api.http.tracing.RequestSpan``."""

    __slots__ = ("_began_ns", "_span", "_tracer", "_visible")

    def __init__(self, tracer: Tracer, span: AnySpan, visible: Watches) -> None:
        self._tracer, self._span, self._visible = tracer, span, visible
        self._began_ns = time_ns()

    @property
    def context(self) -> SpanContext:
        carrier: dict[str, str] = {}
        _headers.inject(carrier, set_span_in_context(self._span, _NOTHING))
        return SpanContext(carrier["traceparent"], carrier.get("tracestate", ""))

    def child(self, name: str, facts: Mapping[str, int | str]) -> "_Span":
        above = set_span_in_context(self._span, _NOTHING)
        return _Span(self._tracer, self._tracer.start_span(name, above, attributes=facts), self._visible)

    def end(self, failure: str = "") -> None:
        if failure:
            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end()

    def watch_visible(self, partition: int, seq: int) -> None:
        if self._visible.has_room():
            self._visible.add(self.child("visible", {"stakelog.position": f"{partition}:{seq}"}), partition, seq)

    def respond(self, method: str, route: str, status: int, took_s: float) -> None:
        """A refusal is no error of the service: only a status from 500 on is."""
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._began_ns + round(took_s * 1e9))


# --- sending ------------------------------------------------------------------------------------------------------


def exporter_to(address: str) -> SpanExporter:
    """Sends spans to the collector at ``address``. The environment's ``OTEL_EXPORTER_OTLP_…`` are respected, such as
    the headers."""
    exporter = OTLPSpanExporter(address + _OTLP_PATH, timeout=_SEND_S)
    reason = _LastLine()
    _exporter_log.addHandler(reason)
    _exporter_log.propagate = False  # it writes a line for each batch and each attempt
    _queue_log.addFilter(_Hourly())  # it writes "Queue full, dropping Span." every 20 s
    return _SaysOnce(exporter, address, reason.get)


class _Hourly(logging.Filter):
    """Lets one line an hour pass, and all errors."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = -inf

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = monotonic()
        if record.levelno >= logging.ERROR:
            return True
        if record.levelno < logging.WARNING or now_s < self._next_s:
            return False
        self._next_s = now_s + 3_600
        return True


class _LastLine(logging.Handler):
    """Keeps the last line of a logger, which gives the reason of its failures only there."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._line = "no reason"

    def emit(self, record: logging.LogRecord) -> None:
        self._line = record.getMessage()

    def get(self) -> str:
        return self._line


class _SaysOnce(SpanExporter):
    """Logs a failure only if the previous batch did not fail. Called by one thread."""

    def __init__(self, exporter: SpanExporter, address: str, reason: Callable[[], str]) -> None:
        self._exporter, self._address, self._reason = exporter, address, reason
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            _log.warning(
                "traces are dropped: the collector at %s does not take them (%s)", self._address, self._reason()
            )
        elif self._failing and not failed:
            _log.info("the collector at %s takes traces again", self._address)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
