"""Traces of requests, as the ledger sees them: *spans*, each one part of the work for one traced request.

A request that is not traced has no span; its only cost is that check. The ledger knows no
technology of traces: ``api/tracing`` makes the spans.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class SpanContext(NamedTuple):
    """What another process needs to add spans below this one: the two headers of the W3C Trace Context."""

    traceparent: str
    tracestate: str


class Span(Protocol):
    """A part of the work, from the call that made it until ``end``. No method waits, and none raises."""

    @property
    def context(self) -> SpanContext: ...

    def child(self, name: str, facts: Mapping[str, int | str]) -> "Span":
        """A span below this one, which begins now. This one may have ended. ``facts``: its attributes."""
        ...

    def end(self, failure: str = "") -> None:
        """The part of the work is done, or has failed: ``failure`` says how."""
        ...

    def watch_visible(self, partition: int, seq: int) -> None:
        """The events of the partition up to ``seq`` are durable. Make a span below this one, ``visible``, that ends
        once the read model has them."""
        ...
