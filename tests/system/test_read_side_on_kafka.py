"""`stakelog project rebuild`, `status`, `check`, `follow` and `supply` on a topic, as programs."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import EmptyDatabases, open_database
from deploy.local.servers import Kafka
from projections.storage.port import UNDER_WAY, RebuildUnderWay
from properties.reads_scenario import Scenario, make_scenario
from system.kafka_read_side import KafkaReadSide, fork_of, side_of, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(31, commands=500, partitions=3)


@pytest.fixture
def side(kafka: Kafka, mariadb: EmptyDatabases, tmp_path: Path, scenario: Scenario) -> Iterator[KafkaReadSide]:
    """On MariaDB. What depends on the database is in the conformance suites, which run on PostgreSQL, too."""
    with side_of(kafka, mariadb, tmp_path, scenario.partitions) as side:
        yield side


def test_a_read_model_is_built_rebuilt_and_checked_from_the_topic(
    side: KafkaReadSide, mariadb: EmptyDatabases
) -> None:
    side.write(0.5)
    for partition, records in enumerate(side.scenario):
        if written := side.written[partition]:
            side.write_raw(partition, [fork_of(records[written - 1]), b"no record"])
    side.write()
    first = side.run("project", "rebuild", "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert "the first one" in first.stdout
    side.assert_true_of_the_log()
    again = side.run("project", "rebuild", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert "generation 2 is live" in again.stdout
    side.assert_true_of_the_log()
    well = side.run("project", "check", "--once")
    assert (well.returncode, well.stdout) == (0, "well: every row agrees with the log\n"), well.stderr
    mariadb.ask("UPDATE wallet_g2 SET status = 'closed'", side.url.rpartition("/")[2])
    found = side.run("project", "check", "--once")
    assert found.returncode == 1
    assert "status" in found.stderr
    supply = side.run("project", "supply")
    assert supply.returncode == 0
    assert "house/deposits" in supply.stdout
    side.environment["STAKELOG_PARTITIONS"] = "7"
    status = side.run("project", "status")
    assert status.returncode == 2
    assert "created with 3 partitions, not 7" in status.stderr


def test_a_follower_on_the_topic_keeps_up(side: KafkaReadSide) -> None:
    side.write(0.4)
    following = subprocess.Popen(
        [*side.program, side.topic, "project", "follow"],
        env=side.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        side.until_folded()
        side.write(1.0, run=3)
        side.until_folded()
        side.assert_true_of_the_log()
    finally:
        following.terminate()
        _, said = following.communicate(timeout=20)
    assert following.returncode == 0, said
    assert "Traceback" not in said


def test_one_rebuild_of_a_database_at_a_time(side: KafkaReadSide) -> None:
    side.write(0.2)

    async def meanwhile() -> "subprocess.CompletedProcess[str]":
        database = open_database(side.url)
        other = open_database(side.url)
        try:
            async with database.rebuilding():
                with pytest.raises(RebuildUnderWay):
                    async with other.rebuilding():
                        pass
                return await asyncio.to_thread(side.run, "project", "rebuild")
        finally:
            await database.close()
            await other.close()

    refused = asyncio.run(meanwhile())
    assert refused.returncode == 1
    assert refused.stderr == (f"stakelog project rebuild: {UNDER_WAY}\n")


def test_a_worker_follows_a_rebuild_to_its_generation(side: KafkaReadSide) -> None:
    side.write(0.5)
    worker = side.worker()
    side.until_folded()
    rebuilt = side.run("project", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    side.write()
    side.until_folded()
    until(lambda: "folding into generation 2" in worker.said(), "the worker says so")
    side.assert_true_of_the_log()
    assert worker.stop() == 0
