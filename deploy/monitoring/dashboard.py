"""Writes dashboard.json, the Grafana dashboard, from the table below: ``python3 -m deploy.monitoring.dashboard``.

A panel is a few lines of the table, so a change is easy to review; Grafana's own format repeats some thirty lines for
each panel.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("dashboard.json")
_SCHEMA_VERSION: Final = 39
"""Of Grafana 10.4. Later versions read it, and bring it up to date."""
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_RATE: Final = "[$__rate_interval]"


class Panel(NamedTuple):
    """One graph. ``lines``: (expression in PromQL, text of its legend). ``unit``: the name of a unit of Grafana."""

    title: str
    unit: str
    description: str
    lines: tuple[tuple[str, str], ...]


class Row(NamedTuple):
    """A row of panels. ``only``: which installations have their metrics, as text of the title; "": all."""

    title: str
    only: str
    panels: tuple[Panel, ...]


def _quantiles(histogram: str, by: str = "", labels: str = "") -> tuple[tuple[str, str], ...]:
    grouped = f"sum by (le{', ' + by if by else ''}) (rate({histogram}_bucket{labels}{_RATE}))"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (f"histogram_quantile({quantile}, {grouped})", f"p{quantile * 100:.0f}{legend}")
        for quantile in (0.5, 0.95, 0.99)
    )


_REFUSED: Final = '{outcome!~"accepted|duplicate|dry_run"}'
_OURS: Final = "and on (instance, job) stakelog_memory_limit_bytes"
"""Selects our processes among all that have metrics named process_…."""
_CHANGED: Final = '{outcome=~"accepted|duplicate"}'
_BUCKETS: Final = "stakelog_http_request_duration_seconds_bucket"
_READS: Final = "stakelog_cache_reads_total"
_HITS: Final = 'stakelog_cache_reads_total{outcome="hit"}'
_USED: Final = 'stakelog_database_connections{state="used"}'
_MAX: Final = 'stakelog_database_connections{state="max"}'
REQUESTS: Final = "stakelog_http_request_duration_seconds"

ROWS: Final = (
    Row(
        "Commands and reads",
        "",
        (
            Panel(
                "Commands",
                "ops",
                "Commands a second by outcome: accepted, repeated (duplicate), or refused.",
                (
                    (
                        f"sum by (outcome) (rate(stakelog_commands_total{_CHANGED}{_RATE}))",
                        "{{outcome}}",
                    ),
                    (
                        f"sum(rate(stakelog_commands_total{_REFUSED}{_RATE}))",
                        "refused",
                    ),
                ),
            ),
            Panel(
                "Refusals by code",
                "ops",
                "Codes of the contract. outcome_unknown, log_unavailable, overloaded, not_owner and internal_error "
                "are failures of the service; most others are rules that refused.",
                (
                    (
                        f"sum by (outcome) (rate(stakelog_commands_total{_REFUSED}{_RATE}))",
                        "{{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Duration of commands",
                "s",
                "From the headers of the request to the end of its response, batches too. Alert: p99 over 500 ms for "
                "single ones.",
                _quantiles(REQUESTS, labels='{route=~"/v1/commands(/batch)?"}'),
            ),
            Panel(
                "Duration of all requests",
                "s",
                "Without downloads of events, which take as long as their client reads. Alert: p95 over 200 ms.",
                _quantiles(REQUESTS, labels='{route!="/v1/events"}'),
            ),
            Panel(
                "p95 by route",
                "s",
                "The ten slowest routes.",
                (
                    (
                        f"topk(10, histogram_quantile(0.95, sum by (le, method, route) (rate({_BUCKETS}{_RATE}))))",
                        "{{method}} {{route}}",
                    ),
                ),
            ),
            Panel(
                "Requests by status",
                "reqps",
                "Alert: more than 1 % with a status of 500 or more.",
                ((f"sum by (status) (rate({REQUESTS}_count{_RATE}))", "{{status}}"),),
            ),
        ),
    ),
    Row(
        "The log and its writers",
        "",
        (
            Panel(
                "Events of a round",
                "short",
                "How many events one append has. Under more load rounds are larger, not more frequent.",
                _quantiles("stakelog_round_events"),
            ),
            Panel(
                "Duration of appends",
                "s",
                "Until the events are durable: the disk, or the brokers.",
                _quantiles("stakelog_append_duration_seconds"),
            ),
            Panel(
                "Events",
                "ops",
                "Events a second by partition. One with much more than the others has a hot user or game.",
                ((f"max by (partition) (deriv(stakelog_partition_seq{_RATE}))", "{{partition}}"),),
            ),
            Panel(
                "Waiting commands",
                "short",
                "Commands and follow-ups that wait for the writer of a partition. Alert: over 5,000.",
                (
                    ("max by (partition) (stakelog_partition_waiting)", "{{partition}}"),
                    ("sum(stakelog_follow_ups_waiting)", "follow-ups in memory"),
                ),
            ),
            Panel(
                "Timers",
                "s",
                "How late expiries and other timers were. Alert: p95 over 5 s.",
                _quantiles("stakelog_timer_delay_seconds"),
            ),
            Panel(
                "Forks and stale appends",
                "short",
                "Both show a second writer of a partition. With a log in a file both must be 0.",
                (
                    ("max by (partition) (stakelog_partition_forks)", "forks {{partition}}"),
                    (
                        "sum by (instance) (increase(stakelog_stale_appends_total[1h]))",
                        "stale appends in 1 h {{instance}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Money",
        "",
        (
            Panel(
                "House accounts",
                "none",
                "Balances in minor units. Negative: the house paid more from this account than it took in.",
                (('max by (account, asset) (stakelog_account_minor{account=~"house/.+"})', "{{account}} {{asset}}"),),
            ),
            Panel(
                "Money of players",
                "none",
                "All wallets together, in minor units, by bucket.",
                (
                    (
                        'max by (account, asset) (stakelog_account_minor{account=~"wallet/.+"})',
                        "{{account}} {{asset}}",
                    ),
                ),
            ),
            Panel(
                "Money in transit",
                "none",
                "Has left one wallet and not arrived in the other, in minor units. It returns to 0. Alert: something "
                "stays for 15 minutes.",
                (
                    (
                        'max by (account, asset) (stakelog_account_minor{account=~"transit/.+"})',
                        "{{account}} {{asset}}",
                    ),
                ),
            ),
            Panel(
                "Sum of all accounts",
                "none",
                "By asset: always 0, because each event only moves money.",
                (("sum by (instance, asset) (stakelog_account_minor)", "{{asset}} {{instance}}"),),
            ),
            Panel(
                "Bets settled by results",
                "ops",
                "Bets a second that were settled or returned by results of periods.",
                ((f"sum(rate(stakelog_bets_settled_total{_RATE}))", "bets"),),
            ),
            Panel(
                "Unpaid payouts",
                "short",
                "Bets that won more than their wallet has room for. The player is still owed the rest. Alert: any.",
                (("sum by (instance) (increase(stakelog_unpaid_payouts_total[1h]))", "in 1 h {{instance}}"),),
            ),
        ),
    ),
    Row(
        "Read model",
        "",
        (
            Panel(
                "Lag by partition",
                "s",
                "Age of the oldest event that reads do not show yet. Alert: over 10 s.",
                (("max by (partition) (stakelog_read_model_lag_seconds)", "{{partition}}"),),
            ),
            Panel(
                "Lag in events",
                "short",
                "Events that reads do not show yet.",
                (("max by (partition) (stakelog_read_model_lag_events)", "{{partition}}"),),
            ),
            Panel(
                "Differences and quarantines",
                "short",
                "Rows that the check found to differ from the log, and users whose events cannot be folded. "
                "Both must be 0.",
                (
                    ("max(stakelog_read_model_differences)", "differences"),
                    ("max(stakelog_quarantined_users)", "users in quarantine"),
                ),
            ),
            Panel(
                "Age of the last check",
                "s",
                "Of the partition whose last comparison with the log is the oldest. Alert: a day.",
                (("max(stakelog_read_model_check_age_seconds)", "age"),),
            ),
            Panel(
                "Duration of queries",
                "s",
                "Reads of the read model, including the wait for a connection. Alert: p95 over 100 ms.",
                _quantiles("stakelog_read_model_query_duration_seconds"),
            ),
        ),
    ),
    Row(
        "Nodes",
        "",
        (
            Panel(
                "Partitions",
                "short",
                "Owned by each node, and open for commands on it. All nodes together own all partitions.",
                (
                    ("stakelog_partitions_owned", "owned {{instance}}"),
                    ("stakelog_partitions_open", "open {{instance}}"),
                ),
            ),
            Panel(
                "Ready",
                "bool_yes_no",
                "Whether the node takes commands; /readyz says why not.",
                (("stakelog_ready", "{{instance}}"),),
            ),
            Panel(
                "Takeovers",
                "s",
                "How long the last takeover of a partition took, until it accepted commands.",
                (("stakelog_takeover_last_seconds", "{{instance}}"),),
            ),
            Panel(
                "Clock",
                "s",
                "Difference between the clocks of node and brokers. Alert: 0.5 s; at 1 s the node is not ready.",
                (("stakelog_clock_off_seconds", "{{instance}}"),),
            ),
            Panel(
                "Delay of the event loop",
                "s",
                "How late the event loop runs what is due. Alert: p99 over 100 ms.",
                _quantiles("stakelog_event_loop_delay_seconds", "instance"),
            ),
            Panel(
                "CPU",
                "percentunit",
                "100 % is one core. A node decides commands in one thread. Alert: 70 %.",
                (
                    (
                        f"rate(process_cpu_seconds_total{_RATE}) {_OURS}",
                        "{{instance}}",
                    ),
                    (f"rate(stakelog_child_process_cpu_seconds_total{_RATE})", "{{instance}} {{process}}"),
                ),
            ),
            Panel(
                "Memory",
                "bytes",
                "Of each process, and the limit for all processes of the service together. Alert: 80 % of the limit.",
                (
                    (
                        f"process_resident_memory_bytes {_OURS}",
                        "{{instance}}",
                    ),
                    ("stakelog_child_process_resident_memory_bytes", "{{instance}} {{process}}"),
                    ("stakelog_memory_limit_bytes", "limit {{instance}}"),
                ),
            ),
            Panel(
                "Open files",
                "short",
                "Connections and files. At the limit no connection is accepted.",
                ((f"process_open_fds {_OURS}", "{{instance}}"),),
            ),
        ),
    ),
    Row(
        "Follower and check",
        "one process",
        (
            Panel(
                "Child processes",
                "bool_yes_no",
                "Whether the follower, which fills the read model, and the background check run.",
                (("stakelog_follower_up", "follower {{instance}}"), ("stakelog_check_up", "check {{instance}}")),
            ),
            Panel(
                "Restarts",
                "short",
                "Of the follower and of the check in the last hour.",
                (
                    ("increase(stakelog_follower_restarts_total[1h])", "follower {{instance}}"),
                    ("increase(stakelog_check_restarts_total[1h])", "check {{instance}}"),
                ),
            ),
        ),
    ),
    Row(
        "Database and cache",
        "PostgreSQL or MySQL, Redis",
        (
            Panel(
                "Connections to the database",
                "percentunit",
                "Used part of the pool. Alert: 70 %.",
                (
                    (
                        f"{_USED} / ignoring (state) {_MAX}",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Deadlocks and other retries",
                "short",
                "Transactions that the database rolled back in the last hour, by its code; should be 0.",
                (("max by (code) (increase(stakelog_database_retries_total[1h]))", "{{code}}"),),
            ),
            Panel(
                "Cache hits",
                "percentunit",
                "Part of the reads that Redis served, by aggregate. Alert: below 90 %, without leaderboards.",
                (
                    (
                        f"sum by (aggregate) (rate({_HITS}{_RATE})) / sum by (aggregate) (rate({_READS}{_RATE}))",
                        "{{aggregate}}",
                    ),
                ),
            ),
            Panel(
                "Reads of the cache",
                "ops",
                "By outcome. behind: the cache was older than the client's min_position; away: Redis was not asked, "
                "because it failed a moment ago.",
                ((f"sum by (outcome) (rate(stakelog_cache_reads_total{_RATE}))", "{{outcome}}"),),
            ),
            Panel(
                "Cache reached",
                "bool_yes_no",
                "Whether the last call of Redis succeeded.",
                (("stakelog_cache_up", "{{instance}}"),),
            ),
        ),
    ),
    Row(
        "Clients",
        "with login",
        (
            Panel(
                "Refused by rate limits",
                "ops",
                "Requests, batches and users' commands, by limit.",
                ((f"sum by (limit) (rate(stakelog_rate_limited_total{_RATE}))", "{{limit}}"),),
            ),
            Panel(
                "Failed logins and reused refresh tokens",
                "short",
                "In the last hour. A refresh token that is used twice may be stolen.",
                (
                    ("sum(increase(stakelog_failed_logins_total[1h]))", "failed logins"),
                    ("sum(increase(stakelog_reused_refresh_tokens_total[1h]))", "reused refresh tokens"),
                ),
            ),
            Panel(
                "Rate limits shared",
                "bool_yes_no",
                "Whether the nodes count requests together in Redis. No: each node allows the whole limit.",
                (("stakelog_rate_limits_shared", "{{instance}}"),),
            ),
        ),
    ),
    Row(
        "Webhooks",
        "with a master key",
        (
            Panel(
                "Events sent",
                "ops",
                "Events a second that were taken, attempts that failed, and events that were given up. Alert: any "
                "event given up.",
                (
                    (f"sum(rate(stakelog_webhook_delivered_total{_RATE}))", "taken"),
                    (f"sum(rate(stakelog_webhook_failed_total{_RATE}))", "failed"),
                    (f"sum(rate(stakelog_webhook_dead_letters_total{_RATE}))", "given up"),
                ),
            ),
            Panel(
                "Lag of webhooks",
                "s",
                "Age of the oldest event that a webhook has not got. Alert: over half an hour.",
                (("max by (instance) (stakelog_webhook_lag_seconds)", "{{instance}}"),),
            ),
            Panel(
                "Number of webhooks",
                "short",
                "Enabled webhooks to which each process sends.",
                (("max by (instance) (stakelog_webhooks)", "{{instance}}"),),
            ),
        ),
    ),
    Row(
        "Workers",
        "many nodes",
        (
            Panel(
                "Lag of the workers",
                "short",
                "Records of the log that are not folded yet, by partition.",
                (("max by (partition) (stakelog_worker_lag_records)", "{{partition}}"),),
            ),
            Panel(
                "Folded events",
                "ops",
                "Events a second.",
                ((f"rate(stakelog_worker_events_total{_RATE})", "{{instance}}"),),
            ),
            Panel(
                "Where workers spend time",
                "percentunit",
                "The part of the time in folds, and in transactions of the database.",
                (
                    (f"rate(stakelog_worker_fold_seconds_total{_RATE})", "folds {{instance}}"),
                    (f"rate(stakelog_worker_store_seconds_total{_RATE})", "transactions {{instance}}"),
                ),
            ),
            Panel(
                "Waiting",
                "bool_yes_no",
                "Whether the worker waits for the database, the log, or a rebuild.",
                (("stakelog_worker_waiting", "{{instance}}"),),
            ),
        ),
    ),
)

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's format."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        title = f"{row.title} ({row.only})" if row.only else row.title
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        for number, panel in enumerate(row.panels):
            left = number * _WIDTH % _COLUMNS
            below = number * _WIDTH // _COLUMNS * _HEIGHT
            place = {"h": _HEIGHT, "w": _WIDTH, "x": left, "y": top + below}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += -(-len(row.panels) * _WIDTH // _COLUMNS) * _HEIGHT
    return {
        "uid": "stakelog",
        "title": "stakelog",
        "description": "Nodes, workers and money of a stakelog ledger. Alerts: rules.yaml; runbook: docs/runbook.md.",
        "tags": ["stakelog"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "hide": 0,
                    "multi": False,
                    "includeAll": False,
                }
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.lines)
        ],
    }


def text() -> str:
    """The content of ``dashboard.json``."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
