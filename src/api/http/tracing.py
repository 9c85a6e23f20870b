"""What HTTP needs of traces. ``api/tracing`` makes them; without ``STAKELOG_TRACES`` there is no tracer."""

from collections.abc import Iterable
from typing import Protocol

from ledger.tracing import Span, SpanContext


class RequestSpan(Span, Protocol):
    """The span of an HTTP request."""

    def respond(self, method: str, route: str, status: int, took_s: float) -> None:
        """End the span, ``took_s`` after it began. ``route`` is a path template."""
        ...


class Tracer(Protocol):
    """Makes the spans of this process that have no parent in it."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> RequestSpan | None:
        """The span of a request with these headers; None: it is not traced. A valid ``traceparent`` decides by its
        flag *sampled*; without one, chance does."""
        ...

    def follow(self, context: SpanContext) -> Span:
        """A span of another node. Only children are made of it: it ends there."""
        ...


def trace_id_of(span: Span) -> str:
    """32 hexadecimal digits."""
    return span.context.traceparent.split("-")[1]
