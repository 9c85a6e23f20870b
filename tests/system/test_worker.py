"""The worker as a process, on a real broker and in real databases: whatever happens to it, the tables are those that
a fold of the events makes from scratch."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from databases import EmptyDatabases
from deploy.local.servers import Kafka
from ledger.kafka.log import TOPIC
from properties.reads_scenario import Scenario, make_scenario
from system.kafka_read_side import WITHIN_S, KafkaReadSide, WorkerProcess, fork_of, side_of, until
from system.on_topic import SILENT_S
from system.test_monitoring import promtool
from unit.monitoring import DASHBOARD, alerts

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(23, commands=600, partitions=4)


@pytest.fixture
def side(kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path, scenario: Scenario) -> Iterator[KafkaReadSide]:
    """On PostgreSQL. What depends on the database is in the conformance suites, which run on MariaDB, too."""
    with side_of(kafka, postgresql, tmp_path, scenario.partitions) as side:
        yield side


def test_it_folds_old_and_new_events_and_ends_on_sigterm(side: KafkaReadSide) -> None:
    side.write(0.5)
    worker = side.worker()
    side.until_folded()
    side.write(0.8, run=1)
    side.until_folded()
    side.assert_true_of_the_log()
    until(lambda: [one["records"] for one in worker.lag()["partitions"]] == [0] * side.partitions, "no lag")
    metrics = worker.page("/metrics")
    assert 'stakelog_worker_lag_records{partition="3"} 0' in metrics
    assert "stakelog_worker_database_retries_total 0" in metrics
    assert promtool("check", "metrics", text=metrics) == ""
    watched = set(re.findall(r"stakelog_worker_\w+", json.dumps(DASHBOARD) + str(alerts())))
    assert watched - set(re.findall(r"^\w+", metrics, re.MULTILINE)) == set(), "all that is watched is exported"
    assert re.search(r"^process_cpu_seconds_total [1-9.e+-]+", metrics, re.MULTILINE)
    assert worker.stop() == 0
    said = worker.said()
    assert "Traceback" not in said
    assert "folding into generation 1" in said


def test_a_taken_web_port_ends_it_named_and_nothing_is_folded(side: KafkaReadSide) -> None:
    side.write(0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = side.worker("--web-port", str(port))
        assert worker.process.wait(timeout=WITHIN_S) == 1
    said = worker.said()
    assert f"the web pages cannot be served on 127.0.0.1:{port}" in said
    assert "--web-port" in said
    assert "Traceback" not in said


def test_forks_and_what_is_no_record_change_nothing(side: KafkaReadSide) -> None:
    side.write(0.3)
    for partition, records in enumerate(side.scenario):
        written = side.written[partition]
        old, next_fork = fork_of(records[written // 2]), fork_of(records[written - 1])
        side.write_raw(partition, [old, b"", b"no record", b"{}", next_fork, records[0], records[written - 1]])
    worker = side.worker()
    side.until_folded()
    for partition, records in enumerate(side.scenario):
        side.write_raw(partition, [fork_of(records[side.written[partition] - 1]), b"\xff"])
    side.write()
    side.until_folded()
    side.assert_true_of_the_log()
    until(lambda: [one["forks"] for one in worker.lag()["partitions"]] == [9] * side.partitions, "forks counted")
    assert worker.stop() == 0
    ends = side.run("project", "status").stdout
    assert ends.count("partition ") == side.partitions
    assert "behind" not in ends


def test_what_is_delivered_again_is_skipped(side: KafkaReadSide) -> None:
    side.write(0.6)
    first = side.worker()
    side.until_folded()
    assert first.stop() == 0
    side.commit_offsets([0] * side.partitions)
    again = side.worker()
    until(lambda: (again.lag() or {"counts": {"skipped": 0}})["counts"]["skipped"] == sum(side.written), "skipped")
    side.assert_true_of_the_log()
    side.write()
    side.until_folded()
    side.assert_true_of_the_log()
    assert again.stop() == 0


def test_what_is_never_delivered_is_read_from_the_log(side: KafkaReadSide) -> None:
    """While nothing more comes, and when more comes."""
    side.write(0.3)
    side.commit_offsets(side.written)  # the worker's database is empty: its rows begin at the start all the same
    first = side.worker()
    side.until_folded()
    side.assert_true_of_the_log()
    assert first.stop() == 0
    side.write(0.7)
    side.commit_offsets(side.written)
    after = side.worker()
    side.until_folded()
    side.assert_true_of_the_log()
    assert after.stop() == 0
    side.write(0.8)
    side.commit_offsets(side.written)
    after = side.worker()
    until(lambda: len(after.assigned()) == side.partitions, "assigned")
    side.write(0.9)
    side.until_folded()
    side.assert_true_of_the_log()
    assert after.lag()["counts"]["gaps"] >= side.partitions
    assert after.stop() == 0


def test_a_log_that_got_shorter_ends_it_with_one_line(side: KafkaReadSide) -> None:
    side.write(0.5)
    first = side.worker()
    side.until_folded()
    assert first.stop() == 0
    before = side.tables()
    side.topic, side.written = f"{side.topic}-again", [0] * side.partitions
    side.write(0.2)
    worker = side.worker()
    assert worker.process.wait(timeout=60) == 3
    lines = worker.said().splitlines()
    assert lines[-1].startswith("stakelog project: the read model is ahead of the log at partition")
    assert "it got shorter" in lines[-1]
    assert "Traceback" not in worker.said()
    assert side.tables() == before
    status = side.run("project", "status")
    assert status.returncode == 1
    assert "AHEAD partition 0" in status.stdout


def test_without_a_topic_it_waits_for_the_first_node(side: KafkaReadSide) -> None:
    worker = side.worker()
    until(lambda: "there is no topic" in worker.said(), "it says what it waits for")
    side.write(0.3)
    side.until_folded()
    assert worker.stop() == 0


def test_a_worker_without_deliveries_reads_the_log_and_then_ends_to_be_restarted(side: KafkaReadSide) -> None:
    silent = side.path / "silent"
    side.environment["SILENT_ONCE"] = str(silent)
    side.write(0.3)
    worker = side.worker()
    side.until_folded()
    silent.touch()
    side.write(0.6)
    side.until_folded()
    side.assert_true_of_the_log()
    assert worker.process.poll() is None, "what is not delivered once is no reason to end"
    for step in range(60):  # the log goes on
        side.write(0.6 + step / 200)
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=1)
            break
    assert worker.process.poll() == 1
    said = worker.said()
    assert f"was delivered for {SILENT_S:g} s although the log has more: start a new process" in said
    assert "Traceback" not in said
    silent.unlink()
    again = side.worker()
    side.write()
    side.until_folded()
    side.assert_true_of_the_log()
    assert again.stop() == 0


def test_its_check_names_who_differs_is_started_again_and_ends_with_it(
    own_kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path, scenario: Scenario
) -> None:
    with side_of(own_kafka, postgresql, tmp_path, scenario.partitions, TOPIC) as side:
        side.write()
        worker = side.worker(check=True)
        side.until_folded()
        until(lambda: len(checks_of(worker)) == 1, "its check runs")
        (check,) = checks_of(worker)
        check.kill()
        until(lambda: checks_of(worker) not in ([], [check]), "its check runs again")
        database = side.url.rpartition("/")[2]
        ((user_id,),) = postgresql.ask("SELECT user_id FROM wallet_g1 WHERE status <> 'closed' LIMIT 1", database)
        postgresql.ask(f"UPDATE wallet_g1 SET status = 'closed' WHERE user_id = '{user_id}'", database)
        until(lambda: user_id in worker.said() and "status" in worker.said(), "who differs is named", 60)
        checks = checks_of(worker)
        worker.kill()
        _, alive = psutil.wait_procs(checks, timeout=20)
        assert checks
        assert alive == []


def checks_of(worker: WorkerProcess) -> list[psutil.Process]:
    return [
        one
        for one in psutil.process_iter(["ppid", "status", "cmdline"])
        if one.info["ppid"] == worker.process.pid
        and one.info["status"] != psutil.STATUS_ZOMBIE
        and "check" in (one.info["cmdline"] or ())
    ]
