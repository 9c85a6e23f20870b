"""TLS and SASL reach every client: a node's log, group and snapshots, the worker's consumer, the programs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import EmptyDatabases
from deploy.local.servers import SASL_PASSWORD, Kafka
from kafka_judge import secure_url
from properties.reads_scenario import Scenario, make_scenario
from system.cluster import Cluster, Crowd, assert_borne_out
from system.kafka_read_side import KafkaReadSide, WorkerProcess, side_of, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(37, commands=300, partitions=3)


@pytest.fixture
def side(kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path, scenario: Scenario) -> Iterator[KafkaReadSide]:
    """What is written goes the plain way; the programs go the secure one."""
    with side_of(kafka, postgresql, tmp_path, scenario.partitions) as side:
        side.environment["STAKELOG_LOG"] = secure_url(kafka)
        yield side


def consumer_has_delivered(worker: WorkerProcess) -> bool:
    """A slow consumer is overtaken by the reader of gaps; what it delivers after that is skipped, and counted."""
    lag = worker.lag()
    return lag is not None and (lag["counts"]["gaps"] == 0 or lag["counts"]["skipped"] > 0)


def test_a_worker_folds_what_is_delivered(side: KafkaReadSide) -> None:
    side.write(0.4)
    worker = side.worker()
    until(lambda: len(worker.assigned()) == side.partitions, "assigned")
    side.until_folded()
    side.write()
    side.until_folded()
    side.assert_true_of_the_log()
    until(lambda: consumer_has_delivered(worker), "Faust's consumer delivers, not only the reader of gaps")
    assert worker.stop() == 0
    assert SASL_PASSWORD not in worker.said()
    for program in ("status", "rebuild", "supply"):
        done = side.run("project", program)
        assert done.returncode == 0, done.stderr
    side.assert_true_of_the_log()


def test_a_worker_without_access_reports_it_and_ends_on_sigterm(side: KafkaReadSide) -> None:
    side.write(0.2)
    side.environment["STAKELOG_LOG"] = secure_url(side.kafka, sasl_password="guessed-wrong")  # noqa: S106 - not a real password
    worker = side.worker()
    until(lambda: "retrying" in worker.said(), "it says that it cannot")
    assert worker.stop() == 0
    said = worker.said()
    assert "does it accept SASL_SSL with this sasl_username, sasl_password, ssl_cafile?" in said
    assert "guessed-wrong" not in said
    assert "Traceback" not in said
    assert not side.folded()


async def test_nodes_share_partitions_take_commands_and_hand_over(own_kafka: Kafka, tmp_path: Path) -> None:
    with Cluster(own_kafka, tmp_path, nodes=2, url=secure_url(own_kafka)) as cluster:
        await cluster.settled()
        crowd = Crowd(cluster, "secure")
        async with crowd.playing():
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cluster.nodes[0].stop)
            await cluster.settled()
            await asyncio.sleep(0.5)
        await assert_borne_out(cluster, crowd)
