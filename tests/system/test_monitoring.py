"""What watches a ledger, on a real Prometheus: alerts fire, and every expression finds what a service wrote.

The service has login, PostgreSQL and Redis, so that it exports all that one process can. What workers export is held
against the same files in `test_worker.py`.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml  # type: ignore[import-untyped]

from databases import EmptyDatabases
from deploy.local.install import install, program
from deploy.local.servers import Prometheus
from deploy.monitoring.dashboard import ROWS
from real_servers import running
from system.kafka_read_side import until
from system.logins import LoggedIn, LoggedInClient, send
from system.service import free_port
from system.test_games import period_of
from system.test_games import rules as rules_of_games
from unit.alert_cases import promtool_tests
from unit.monitoring import MONITORING, RULES, alerts, names_in

pytestmark = pytest.mark.system

USERS: Final = ("player-1", "player-2")
OF_WORKERS: Final = re.compile(r"stakelog_worker_\w+")


def promtool(*arguments: str | Path, text: str = "") -> str:
    """What it wrote. Fails unless its status is 0."""
    install(["prometheus"])
    done = subprocess.run(
        [program("promtool"), *arguments],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# --- the rules alone -----------------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", MONITORING / "prometheus.yaml")


def test_each_alert_fires_when_its_series_are_bad_and_not_before(tmp_path: Path) -> None:
    tests = tmp_path / "tests.yaml"
    tests.write_text(yaml.safe_dump(promtool_tests(str(RULES))))
    promtool("test", "rules", tests)


# --- a service, and a Prometheus that scrapes it -------------------------------------------------------------------


class Scene(NamedTuple):
    service: LoggedIn
    prometheus: Prometheus

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of a response of Prometheus' API."""
        url = f"{self.prometheus.url}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=60) as response:  # noqa: S310 - our own address; a refusal is an HTTPError
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def series(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, postgresql: EmptyDatabases, redis_of_the_module: str
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("monitoring")
    internal = f"127.0.0.1:{free_port()}"
    configuration = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": "2s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(RULES)]
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"] = [{"targets": [internal]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    rules = rules_of_games(folder / "rules.json")
    with (
        postgresql.one() as url,
        LoggedIn(
            folder / "data", PARTITIONS="2", READ_MODEL=url, CACHE=redis_of_the_module, INTERNAL=internal, RULES=rules
        ) as service,
        running(Prometheus(folder / "prometheus.yaml")) as prometheus,
    ):
        scene = Scene(service, prometheus)
        server = service.add("game-1", "game_server")
        # Twice, with a scrape after each, so that Prometheus sees everything grow. A failed login ends each run.
        for run in (1, 2):
            play(service, server, run)
            until(lambda: has_samples(scene, f"stakelog_failed_logins_total == {run}"), "a scrape")  # noqa: B023
        until(lambda: has_samples(scene, 'stakelog_account_minor{account="transit/transfers"} == 0'), "money arrived")
        yield scene


def has_samples(scene: Scene, expression: str) -> bool:
    return bool(scene.series(expression))


def play(service: LoggedIn, server: LoggedInClient, run: int) -> None:
    """Money comes in, is bet, won, held until it expires and sent; one command is refused, and one login."""
    alice, bob = USERS

    def post(type_: str, user_id: str, **fields: Any) -> int:
        command = {"type": type_, "command_id": f"{type_}-{run}", "user_id": user_id, **fields}
        return server.post("/v1/commands", command).status

    if run == 1:
        assert [post("open_wallet", user_id) for user_id in USERS] == [201, 201]
    money = {"asset": "INR"}
    assert post("deposit", alice, order_id=f"order-{run}", amount=100_000, **money) == 201
    assert post("deposit", alice, order_id=f"order-{run}", amount=100_000, **money) == 200, "a repeated command"
    soon_us = time.time_ns() // 1_000 + 200_000
    assert post("hold", alice, hold_id=f"hold-{run}", amount=10, expires_at_us=soon_us, **money) == 201
    assert post("transfer", alice, transfer_id=f"sent-{run}", to_user_id=bob, amount=500, **money) == 201
    assert post("transfer", bob, transfer_id=f"too-much-{run}", to_user_id=alice, amount=10**9, **money) == 422
    bet = {"game": "wingo_2s", "selection": "number:7", "stake": 100, **money}
    period = ""

    def placed() -> bool:
        nonlocal period
        period = period_of(time.time())
        return post("place_bet", alice, command_id=period, bet_id=period, period=period, **bet) == 201

    until(placed, "a period took the bet")
    result = {"period": period, "result": "7"}
    until(lambda: post("record_result", "game:wingo_2s", command_id=period, **result) == 201, "the result came")
    until(lambda: server.get(f"/v1/wallets/{alice}/bets/{period}").json().get("status") == "won", "the bet was paid")
    hold = f"/v1/wallets/{alice}/holds/hold-{run}"
    until(lambda: server.get(hold).json().get("status") == "expired", "the hold expired")
    for _ in range(3):  # from the cache in the end
        assert server.get(f"/v1/wallets/{alice}").status == 200
    assert server.get("/v1/wallets/stranger").status == 404
    assert service.try_login("admin", "wrong").status == 401


@pytest.fixture(scope="module")
def redis_of_the_module(redis: Any) -> str:
    from real_servers import empty

    empty(redis.url)
    return str(redis.url)


def ready_to_query(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "10m")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_every_panel_of_the_dashboard_shows_series_of_a_service(scene: Scene, row: Any) -> None:
    for panel in row.panels:
        for expression, _ in panel.lines:
            found = scene.series(ready_to_query(expression))
            assert bool(found) != bool(OF_WORKERS.search(expression)), (
                f"{panel.title}: {expression} has {len(found)} series"
            )


def test_every_metric_of_the_rules_has_series_of_a_service(scene: Scene) -> None:
    names = {name for alert in alerts() for name in names_in(alert["expr"])}
    missing = {name for name in names if not scene.series(name)}
    assert missing == {name for name in names if OF_WORKERS.fullmatch(name)}


def test_prometheus_evaluates_each_rule_and_a_well_service_fires_no_alert_of_money(scene: Scene) -> None:
    def rules() -> list[Any]:
        return [rule for group in scene.ask("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "each rule was evaluated")
    assert {rule["name"] for rule in rules()} == {alert["alert"] for alert in alerts()}
    assert [rule["lastError"] for rule in rules() if rule["health"] != "ok"] == []

    def not_well() -> list[str]:
        (money,) = (group for group in scene.ask("rules")["groups"] if group["name"] == "stakelog-money")
        return [rule["name"] for rule in money["rules"] if rule["state"] != "inactive"]

    until(lambda: not not_well(), "no alert of money")


def test_the_numbers_are_those_of_what_was_played(scene: Scene) -> None:
    def number(expression: str) -> float:
        (one,) = scene.series(expression)
        return float(one["value"][1])

    assert number("stakelog_bets_settled_total") == 2
    assert number('stakelog_commands_total{outcome="insufficient_funds"}') == 2
    assert number('stakelog_commands_total{outcome="duplicate"}') == 2
    assert number("sum(stakelog_account_minor)") == 0
    assert number("stakelog_failed_logins_total") == 2
    assert number("stakelog_timer_delay_seconds_count") == 2
    assert number('stakelog_cache_reads_total{aggregate="wallet",outcome="hit"}') > 0
    assert number("stakelog_read_model_query_duration_seconds_count") > 0
    assert len(scene.series("stakelog_child_process_cpu_seconds_total > 0")) == 2


def test_the_page_of_a_service_is_as_promtool_wants_it(scene: Scene) -> None:
    page = send(f"http://{scene.service.setting('INTERNAL')}", "GET", "/metrics")
    assert page.status == 200
    assert promtool("check", "metrics", text=page.body.decode()) == ""
