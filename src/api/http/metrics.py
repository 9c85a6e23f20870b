"""The metrics of a node, in Prometheus' text format. Names end in their unit.

Counting costs about a microsecond a command; a batch is counted once per outcome, not once per command.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import time_ns
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as Total
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from api.http.loop_delay import LoopDelay
from api.http.problems import Problem
from api.http.request_metrics import RequestMetrics
from api.identity.tokens import Tokens
from api.limits.limits import Limits
from api.webhooks.webhooks import Webhooks
from ledger.errors import LedgerError
from ledger.histogram import Histogram
from ledger.node.node import Node
from ledger.process_metrics import register_process
from ledger.writer.requests import Accepted, AnyResponse, Failed, IdReused, OtherGame, Refused
from projections.caching.cached_reads import CacheCounts
from projections.live.hub import Hub
from projections.models.accounts import AccountTotal
from projections.reads.status import ReadModelStatus, read_model_status
from projections.reads.supply import account_totals
from projections.storage.port import Pool, Pooled, ReadModel, ReadModelUnavailable

_LOOK_S: Final = 1.0
"""How long a scrape waits for the read model and the log. Chosen: metrics are needed while these hang, too."""


def outcome_of(answer: AnyResponse | Problem) -> str:
    """The label of the outcome of one command: ``accepted``, ``duplicate``, ``dry_run`` or the problem's code."""
    match answer:
        case Accepted():
            return "duplicate" if answer.hit else "accepted"
        case Refused(rejection):
            return str(rejection.code.value)
        case OtherGame():
            return "forbidden"
        case IdReused():
            return "command_id_reused"
        case Failed(reason):
            return reason
        case Problem():
            return answer.code
        case _:
            return "dry_run"


class Metrics:
    """Counters of this process, and gauges that are read from the node, the read model and the hub on each scrape."""

    def __init__(
        self,
        node: Node,
        read_model: "ReadModelGauges",
        hub: Hub,
        limits: Limits | None = None,
        tokens: Tokens | None = None,
        webhooks: Webhooks | None = None,
    ) -> None:
        """``limits``, ``tokens``: None while login is off; ``webhooks``: None without a master key."""
        self._registry = CollectorRegistry()
        self._node = node
        self.read_model = read_model
        self._commands = Total("stakelog_commands", "Commands by their outcome", ["outcome"], registry=self._registry)
        self._children: dict[str, Total] = {}
        self._totals: Counter[str] = Counter()
        self.failed_logins = Total("stakelog_failed_logins", "Logins with a wrong secret", registry=self._registry)
        self.requests = RequestMetrics()
        self.loop_delay = LoopDelay()
        """Counts after its ``start`` was called."""
        self._registry.register(self.requests)
        self._registry.register(_NodeGauges(node))
        self._registry.register(_RoundCounts(node))
        self._registry.register(_LoopDelays(self.loop_delay))
        self._registry.register(read_model)
        self._registry.register(_FeedCounts(hub))
        register_process(self._registry, read_model.pids)
        if limits is not None:
            self._registry.register(_LimitCounts(limits))
        if tokens is not None:
            self._registry.register(_TokenCounts(tokens))
        if webhooks is not None:
            self._registry.register(_WebhookCounts(webhooks))

    def count(self, outcome: str, number: int = 1) -> None:
        child = self._children.get(outcome)
        if child is None:
            child = self._children[outcome] = self._commands.labels(outcome)
        child.inc(number)
        self._totals[outcome] += number

    def count_all(self, answers: Iterable[AnyResponse | Problem]) -> None:
        for outcome, number in Counter(map(outcome_of, answers)).items():
            self.count(outcome, number)

    def outcomes(self) -> dict[str, int]:
        """How many commands had each outcome since the process started."""
        return dict(self._totals)

    def waiting(self) -> int:
        """Commands and follow-ups that wait for a partition of this node."""
        return sum(writer.waiting for writer in self._node.writers.values())

    async def exposition(self) -> bytes:
        with suppress(TimeoutError):  # then the gauges have the values of the previous scrape
            async with asyncio.timeout(_LOOK_S):
                await self.read_model.look()
        return generate_latest(self._registry)


class _FeedCounts(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("stakelog_live_feeds", "Open live feeds", len(self._hub.feeds))
        dropped = CounterMetricFamily(
            "stakelog_live_feeds_dropped", "Live feeds that the service ended", labels=["reason"]
        )
        for reason, number in sorted(self._hub.dropped.items()):
            dropped.add_metric([reason], number)
        yield dropped


class _NodeGauges(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        node = self._node
        writers = sorted(node.writers.items())
        yield _gauge("stakelog_partition_seq", "Last seq of the partition", [(p, w.head.seq) for p, w in writers])
        yield _gauge(
            "stakelog_partition_waiting", "Commands and follow-ups waiting", [(p, w.waiting) for p, w in writers]
        )
        yield _gauge(
            "stakelog_partition_unsaved_values",
            "Values changed since the last checkpoint",
            [(p, w.state.changes) for p, w in writers],
        )
        yield _gauge(
            "stakelog_partition_forks",
            "Records of the partition that are no events: another node wrote them at the same time",
            [(p, node.forks(p)) for p, _ in writers],
        )
        yield GaugeMetricFamily(
            "stakelog_follow_ups_waiting",
            "Follow-ups that wait in memory for a partition, of this node or of another",
            node.follow_ups_waiting,
        )
        yield GaugeMetricFamily("stakelog_partitions_owned", "Partitions that this node owns", node.owned)
        yield GaugeMetricFamily("stakelog_partitions_open", "Partitions that accept commands", node.open)
        yield GaugeMetricFamily(
            "stakelog_clock_off_seconds",
            "Difference between this node's clock and the log's",
            node.clock_off_us() / 1e6,
        )
        yield GaugeMetricFamily(
            "stakelog_takeover_last_seconds",
            "Duration of the last takeover, from gaining a partition until it accepts commands",
            node.takeovers.seconds_last,
        )
        for name, text, value in (
            ("stakelog_takeovers", "Partitions that this node took over", node.takeovers.number),
            ("stakelog_takeover_seconds", "Duration of all takeovers together", node.takeovers.seconds),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily("stakelog_ready", "1 while the node accepts commands", float(node.ready))


class _RoundCounts(Collector):
    def __init__(self, node: Node) -> None:
        self._counts = node.counts

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield _histogram("stakelog_round_events", "Events of the rounds that wrote", counts.events)
        yield _histogram(
            "stakelog_append_duration_seconds", "Duration of appends to the log, until durable", counts.append_s
        )
        yield _histogram(
            "stakelog_timer_delay_seconds",
            "For each round with expiries or other timers: how late the first of them was",
            counts.timer_late_s,
        )
        for name, text, value in (
            ("stakelog_bets_settled", "Bets settled or returned by outcomes of periods", counts.settled),
            (
                "stakelog_unpaid_payouts",
                "Payouts of which a part is unpaid, because the wallet has no room for it",
                counts.unpaid,
            ),
            (
                "stakelog_stale_appends",
                "Appends that the log refused because another process had written to the partition",
                counts.stale,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)


class _LoopDelays(Collector):
    def __init__(self, loop_delay: LoopDelay) -> None:
        self._loop_delay = loop_delay

    def collect(self) -> Iterator[Metric]:
        yield _histogram(
            "stakelog_event_loop_delay_seconds",
            "How late the event loop ran what was due, measured ten times a second",
            self._loop_delay.delay_s,
        )


class _LimitCounts(Collector):
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "stakelog_rate_limited",
            "Requests, batches and users' commands that a rate limit refused",
            labels=["limit"],
        )
        for buckets in self._limits.all:
            refused.add_metric([buckets.policy.name], buckets.refused)
        yield refused
        if self._limits.is_shared is not None:
            yield GaugeMetricFamily(
                "stakelog_rate_limits_shared",
                "1 while the nodes add up in Redis what clients spend; 0: each node allows the whole limit",
                float(self._limits.is_shared),
            )


class _TokenCounts(Collector):
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "stakelog_reused_refresh_tokens",
            "Spent refresh tokens that came again, which revoked their login; should be 0",
            value=self._tokens.reused,
        )


class _WebhookCounts(Collector):
    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def collect(self) -> Iterator[Metric]:
        webhooks = self._webhooks
        yield GaugeMetricFamily("stakelog_webhooks", "Webhooks that this process sends to", len(webhooks.running))
        yield GaugeMetricFamily(
            "stakelog_webhook_lag_seconds",
            "Age of the oldest event that a webhook has not got, of the partitions of this node; 0: none",
            webhooks.lag_s,
        )
        counts = webhooks.counts
        for name, text, value in (
            ("stakelog_webhook_delivered", "Events that webhooks took", counts.delivered),
            ("stakelog_webhook_failed", "Attempts that failed; most events are delivered later", counts.failed),
            ("stakelog_webhook_dead_letters", "Events that were given up; should be 0", counts.dead),
        ):
            yield CounterMetricFamily(name, text, value=value)


class _Seen(NamedTuple):
    """What one ``look`` found: the status of the read model, and how far it is behind the log, by partition."""

    status: ReadModelStatus
    accounts: Sequence[AccountTotal]
    retries: Mapping[str, int]
    lag_events: Sequence[int] = ()
    lag_s: Sequence[float] = ()


class ChildProcess(Protocol):
    """A process that this one starts, and starts again when it ends."""

    @property
    def name(self) -> str: ...

    @property
    def up(self) -> bool: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def restarts(self) -> int: ...


class ReadModelGauges(Collector):
    """How far the read model is behind the log, as of the last whole ``look``.

    Several scrapes may look at once: each look is a value of its own, which replaces the last one at its end.
    """

    def __init__(
        self,
        node: Node,
        model: ReadModel,
        children: Mapping[str, ChildProcess],
        durations_s: Histogram,
        pooled: Pooled | None = None,
        cache: Callable[[], CacheCounts] | None = None,
    ) -> None:
        """``children``: the processes that this one starts, by their names in metrics. ``durations_s``: how long
        reads of clients took.

        ``pooled``: the model again, if it is in a database server. ``cache``: the cache's counts, if there is one.
        """
        self._node, self._model, self._children = node, model, children
        self._durations_s, self._pooled, self._cache = durations_s, pooled, cache
        self.pids = {name: partial(_pid_of, child) for name, child in children.items()}
        """By child: what returns its process id."""
        self._seen: _Seen | None = None
        self._asked_us: dict[int, tuple[int, int]] = {}
        """Partition → the last event (seq) whose time could not be read, and when it was first asked for."""

    async def look(self) -> bool:
        """Read the gauges. If the tables cannot be read, the last known heads count: the lag grows. Returns whether
        the tables were read now."""
        seen, was_read = self._seen, False
        with suppress(ReadModelUnavailable):
            status, accounts = await read_model_status(self._model), await account_totals(self._model)
            seen = _Seen(status, accounts, {} if self._pooled is None else await self._pooled.retries())
            was_read = True
        if seen is None:
            return False
        now_us = time_ns() // 1_000
        lag_events, lag_s = [], []
        for partition, head in enumerate(seen.status.heads):
            behind = max(0, self._node.end(partition) - head.seq)
            since_us = await self._time_us(partition, head.seq + 1, now_us) if behind else now_us
            lag_events.append(behind)
            lag_s.append(max(0, now_us - since_us) / 1_000_000)
        self._seen = seen._replace(lag_events=lag_events, lag_s=lag_s)
        return was_read

    async def _time_us(self, partition: int, seq: int, now_us: int) -> int:
        """When the event was written. If the log cannot be read: when ``look`` first asked for it. That is later, but
        the lag grows while the event is not folded."""
        try:
            return await self._node.time_us(partition, seq)
        except LedgerError:
            if self._asked_us.get(partition, (0, 0))[0] != seq:
                self._asked_us[partition] = seq, now_us
            return self._asked_us[partition][1]

    @property
    def lag_ms(self) -> int | None:
        """Of the last ``look``, of the partition that is furthest behind."""
        return None if self._seen is None else round(max(self._seen.lag_s, default=0.0) * 1_000)

    @property
    def status(self) -> ReadModelStatus | None:
        """Of the last ``look``."""
        return None if self._seen is None else self._seen.status

    @property
    def down(self) -> list[str]:
        """The child processes that do not run now, by their names in messages."""
        return [child.name for child in self._children.values() if not child.up]

    def house(self) -> dict[str, int]:
        """Balances of the house and transit accounts by account and asset, of the last ``look``."""
        accounts = () if self._seen is None else self._seen.accounts
        return {
            f"{total.account} {total.asset}": total.balance
            for total in accounts
            if not total.account.startswith("wallet/")
        }

    def collect(self) -> Iterator[Metric]:
        for name, child in self._children.items():
            yield GaugeMetricFamily(
                f"stakelog_{name}_up", f"1 while the process of {child.name} runs", float(child.up)
            )
            yield CounterMetricFamily(f"stakelog_{name}_restarts", f"Restarts of {child.name}", value=child.restarts)
        yield _histogram(
            "stakelog_read_model_query_duration_seconds",
            "Duration of reads of the read model, including the wait for a connection to its database",
            self._durations_s,
        )
        if self._pooled is not None:
            yield from _database_gauges(self._pooled.pool, {} if self._seen is None else self._seen.retries)
        if self._cache is not None:
            yield from _cache_gauges(self._cache())
        if self._seen is not None:
            yield from _read_model_gauges(self._seen)


def _pid_of(child: ChildProcess) -> int | None:
    return child.pid


def _read_model_gauges(seen: _Seen) -> Iterator[Metric]:
    yield _gauge(
        "stakelog_read_model_lag_events",
        "Events that the read model does not include yet",
        enumerate(seen.lag_events),
    )
    yield _gauge(
        "stakelog_read_model_lag_seconds",
        "Age of the oldest event that the read model does not include; 0: none",
        enumerate(seen.lag_s),
    )
    accounts = GaugeMetricFamily(
        "stakelog_account_minor",
        "Balance of an account in the read model, in minor units",
        labels=["account", "asset"],
    )
    for total in seen.accounts:
        accounts.add_metric([total.account, total.asset], float(total.balance))
    yield accounts
    yield GaugeMetricFamily(
        "stakelog_quarantined_users",
        "Users in quarantine: their rows are not updated",
        seen.status.quarantined,
    )
    yield GaugeMetricFamily("stakelog_read_model_generation", "The live generation", seen.status.generation)
    yield GaugeMetricFamily(
        "stakelog_read_model_differences",
        "Fields and rows that differ from the log; should be 0",
        seen.status.differences,
    )
    yield GaugeMetricFamily(
        "stakelog_read_model_check_age_seconds",
        "Age of the oldest check of a partition",
        max(0, time_ns() // 1_000 - seen.status.checked_at_us) / 1_000_000,
    )


def _database_gauges(pool: Pool, retries: Mapping[str, int]) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "stakelog_database_connections", "Connections of this process to the read model's database", labels=["state"]
    )
    for state, number in (("used", pool.used), ("idle", pool.size - pool.used), ("max", pool.size_max)):
        connections.add_metric([state], number)
    yield connections
    retried = CounterMetricFamily(
        "stakelog_database_retries",
        "Transactions rolled back by the database (deadlock or serialization failure), of all processes; should be 0",
        labels=["code"],
    )
    for code, number in sorted(retries.items()):
        retried.add_metric([code], number)
    yield retried


def _cache_gauges(counts: CacheCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "stakelog_cache_up", "1 if the last call of the cache by a read succeeded", float(counts.available)
    )
    reads = CounterMetricFamily(
        "stakelog_cache_reads",
        "Reads of aggregates by outcome: hit, miss, behind (cache too old), error, away (cache not used)",
        labels=["aggregate", "outcome"],
    )
    for (aggregate, outcome), number in counts.reads.items():
        reads.add_metric([aggregate, outcome], number)
    yield reads


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, list(histogram.buckets()), histogram.sum)


def _gauge(name: str, text: str, values: Iterable[tuple[int, float]]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=["partition"])
    for partition, value in values:
        gauge.add_metric([str(partition)], value)
    return gauge
