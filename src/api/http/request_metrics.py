"""How many requests each route served, and how long they took, by method, route and status.

The histogram of prometheus_client takes three locks a value; the event loop is the only thread that counts requests.
"""

from collections.abc import Collection, Iterator
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.histogram import SECONDS, Histogram

UNMATCHED: Final = "unmatched"
"""The route of requests for which there is none."""


class RequestMetrics(Collector):
    """The histogram ``stakelog_http_request_duration_seconds``; its ``_count`` is the number of requests."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, int], Histogram] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """``route`` is a path template, never a path as sent: the number of series is bounded."""
        key = method, route, status
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Histogram(SECONDS)
        series.count(seconds)

    def durations(self, method: str, routes: Collection[str]) -> list[int]:
        """How many requests of these routes lasted as long as each bucket of ``SECONDS``, and longer than all."""
        totals = [0] * (len(SECONDS) + 1)
        for (counted, route, _), series in self._series.items():
            if counted == method and route in routes:
                totals = [total + number for total, number in zip(totals, series.counts, strict=True)]
        return totals

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "stakelog_http_request_duration_seconds",
            "Duration of HTTP requests, from the headers of the request to the end of its response",
            labels=["method", "route", "status"],
        )
        for (method, route, status), series in sorted(self._series.items()):
            family.add_metric([method, route, str(status)], list(series.buckets()), series.sum)
        yield family
