"""For each alert of deploy/monitoring/rules.yaml: series that are well for an hour, and bad for the next one.

A value is written as promtool reads it: `3+0x59` is 3 for an hour, `0+5x59` grows by 5 a minute.
"""

from collections.abc import Mapping
from typing import Any, Final

Series = Mapping[str, str]

PODS: Final = 'instance="node-1",job="stakelog"'


def gauge(series: str, well: float, bad: float) -> Series:
    return {series: f"{well}+0x59 {bad}+0x59"}


def counter(series: str, well_per_min: int, bad_per_min: int) -> Series:
    return {series: f"0+{well_per_min}x59 {60 * well_per_min}+{bad_per_min}x59"}


def histogram(name: str, labels: str, bad: float) -> Series:
    """Sixty values a minute: none is over 1 ms in the first hour, all are just under ``bad`` in the second one."""
    series = dict[str, str]()
    for bound in ("0.001", str(0.9 * bad), str(bad), "+Inf"):
        series[f'{name}_bucket{{le="{bound}",{labels}}}'] = (
            "0+60x59 3600+0x59" if bound in ("0.001", str(0.9 * bad)) else "0+60x119"
        )
    return series


REQUEST: Final = "stakelog_http_request_duration_seconds"

CASES: Final[dict[str, Series]] = {
    "StakelogReadModelDiffers": gauge(f"stakelog_read_model_differences{{{PODS}}}", 0, 3),
    "StakelogUsersQuarantined": gauge(f"stakelog_quarantined_users{{{PODS}}}", 0, 1),
    "StakelogCheckIsOld": gauge(f"stakelog_read_model_check_age_seconds{{{PODS}}}", 86_000, 87_000),
    "StakelogDatabaseRetries": counter(f'stakelog_database_retries_total{{code="40P01",{PODS}}}', 0, 1),
    "StakelogMoneyInTransit": gauge(
        f'stakelog_account_minor{{account="transit/transfers",asset="INR",{PODS}}}', 0, 500
    ),
    "StakelogForks": {f'stakelog_partition_forks{{partition="3",{PODS}}}': "7+0x59 7+1x59"},
    "StakelogStaleAppends": counter(f"stakelog_stale_appends_total{{{PODS}}}", 0, 1),
    "StakelogPayoutUnpaid": counter(f"stakelog_unpaid_payouts_total{{{PODS}}}", 0, 1),
    "StakelogTargetDown": gauge(f"up{{{PODS}}}", 1, 0),
    "StakelogNodeNotReady": gauge(f"stakelog_ready{{{PODS}}}", 1, 0),
    "StakelogPartitionClosed": {
        **gauge(f"stakelog_partitions_owned{{{PODS}}}", 4, 4),
        **gauge(f"stakelog_partitions_open{{{PODS}}}", 4, 3),
    },
    "StakelogReadsLag": gauge(f'stakelog_read_model_lag_seconds{{partition="3",{PODS}}}', 9, 11),
    "StakelogOutcomesUnknown": {
        **counter(f'stakelog_commands_total{{outcome="accepted",{PODS}}}', 60, 60),
        **counter(f'stakelog_commands_total{{outcome="outcome_unknown",{PODS}}}', 0, 1),
    },
    # Together they are one in fifty: the second alert of slow requests does not fire.
    "StakelogCommandsSlow": {
        f'{REQUEST}_bucket{{le="0.1",route="/v1/commands",{PODS}}}': "0+60x59 3600+58x59",
        f'{REQUEST}_bucket{{le="1.0",route="/v1/commands",{PODS}}}': "0+60x119",
        f'{REQUEST}_bucket{{le="+Inf",route="/v1/commands",{PODS}}}': "0+60x119",
    },
    "StakelogRequestsSlow": {
        **histogram(REQUEST, f'route="/v1/wallets",{PODS}', 0.25),
        **{  # a download takes long, whether requests are slow or not
            f'{REQUEST}_bucket{{le="{bound}",route="/v1/events",{PODS}}}': f"0+{number}x119"
            for bound, number in {"1.0": 0, "10.0": 600, "+Inf": 600}.items()
        },
    },
    "StakelogRequestsFail": {
        **counter(f'{REQUEST}_count{{status="200",{PODS}}}', 1_000, 1_000),
        **counter(f'{REQUEST}_count{{status="404",{PODS}}}', 500, 500),
        **counter(f'{REQUEST}_count{{status="503",{PODS}}}', 10, 20),
    },
    "StakelogQueriesSlow": histogram("stakelog_read_model_query_duration_seconds", PODS, 0.2),
    "StakelogMailboxFills": gauge(f'stakelog_partition_waiting{{partition="3",{PODS}}}', 4_999, 5_001),
    "StakelogDatabasePoolFills": {
        **gauge(f'stakelog_database_connections{{state="used",{PODS}}}', 13, 15),
        **gauge(f'stakelog_database_connections{{state="idle",{PODS}}}', 2, 0),
        **gauge(f'stakelog_database_connections{{state="max",{PODS}}}', 20, 20),
    },
    "StakelogCacheMisses": {
        **counter(f'stakelog_cache_reads_total{{aggregate="wallet",outcome="hit",{PODS}}}', 950, 850),
        **counter(f'stakelog_cache_reads_total{{aggregate="wallet",outcome="miss",{PODS}}}', 50, 150),
        **counter(f'stakelog_cache_reads_total{{aggregate="leaderboard",outcome="miss",{PODS}}}', 900, 900),
    },
    "StakelogCacheDown": gauge(f"stakelog_cache_up{{{PODS}}}", 1, 0),
    "StakelogCpuBusy": {
        **counter(f"process_cpu_seconds_total{{{PODS}}}", 40, 45),
        **gauge(f"stakelog_memory_limit_bytes{{{PODS}}}", 1_000, 1_000),
        # Another program, whose CPU is not our business.
        **counter('process_cpu_seconds_total{instance="database",job="other"}', 58, 58),
    },
    "StakelogMemoryFills": {
        **gauge(f"process_resident_memory_bytes{{{PODS}}}", 500, 500),
        **gauge(f'stakelog_child_process_resident_memory_bytes{{process="follower",{PODS}}}', 100, 150),
        **gauge(f'stakelog_child_process_resident_memory_bytes{{process="check",{PODS}}}', 150, 200),
        **gauge(f"stakelog_memory_limit_bytes{{{PODS}}}", 1_000, 1_000),
    },
    "StakelogClockOff": gauge(f"stakelog_clock_off_seconds{{{PODS}}}", -0.4, -0.6),
    "StakelogEventLoopBlocked": histogram("stakelog_event_loop_delay_seconds", PODS, 0.5),
    "StakelogTimersLate": histogram("stakelog_timer_delay_seconds", PODS, 10),
    "StakelogChildDown": {
        **gauge(f"stakelog_follower_up{{{PODS}}}", 1, 1),
        **gauge(f"stakelog_check_up{{{PODS}}}", 1, 0),
    },
    "StakelogWorkerWaits": gauge(f"stakelog_worker_waiting{{{PODS}}}", 0, 1),
    "StakelogLoginsGuessed": counter(f'stakelog_rate_limited_total{{limit="login",{PODS}}}', 1, 10),
    "StakelogRateLimitsNotShared": gauge(f"stakelog_rate_limits_shared{{{PODS}}}", 1, 0),
    "StakelogRefreshTokenReused": counter(f"stakelog_reused_refresh_tokens_total{{{PODS}}}", 0, 1),
    "StakelogWebhooksLate": {
        **gauge(f"stakelog_webhook_lag_seconds{{{PODS}}}", 60, 3_600),
        **counter(f"stakelog_webhook_dead_letters_total{{{PODS}}}", 0, 1),
    },
}


def promtool_tests(rules: str) -> dict[str, Any]:
    """The cases as promtool's tests: in the first hour no alert fires, in the second one only the case's own."""
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "rule_files": [rules],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": "55m", "exp_samples": []},
                    {
                        "expr": firing,
                        "eval_time": "110m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
                    },
                ],
            }
            for alert, series in CASES.items()
        ],
    }
