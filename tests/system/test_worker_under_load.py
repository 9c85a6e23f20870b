"""Workers that are killed, joined, left and overtaken while the log grows and readers read, databases and brokers
that go away: no event is folded twice or left out, and no transaction is ever in another one's way."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from databases import EmptyDatabases, open_database
from deploy.local.servers import Kafka, PostgreSql
from projections.reads.status import read_model_status
from projections.storage.port import ReadModelUnavailable
from projections.storage.server_reader import ServerReadModel
from properties.reads_scenario import Scenario, make_scenario
from real_servers import running
from system.kafka_read_side import KafkaReadSide, side_of, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_scenario(29, commands=1_000, partitions=4)


@pytest.fixture
def side(kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path, scenario: Scenario) -> Iterator[KafkaReadSide]:
    with side_of(kafka, postgresql, tmp_path, scenario.partitions) as side:
        side.make_topic()
        yield side


@contextmanager
def growing(side: KafkaReadSide, seconds: float) -> Iterator[threading.Thread]:
    """The rest of the scenario is written during so many seconds; at the end it is all there."""
    failed: list[BaseException] = []

    def write() -> None:
        try:
            steps = 25
            for step in range(1, steps + 1):
                side.write(step / steps, run=7)
                time.sleep(seconds / steps)
        except BaseException as error:
            failed.append(error)
            raise

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield writing
    finally:
        writing.join()
        assert not failed


@contextmanager
def readers(url: str) -> Iterator[None]:
    """Reads beside the folding, over a pool of their own, until the end."""
    ending = threading.Event()
    failed: list[BaseException] = []

    async def read() -> None:
        model = ServerReadModel(open_database(url))
        try:
            while not ending.is_set():
                try:
                    await read_model_status(model)
                except ReadModelUnavailable:
                    await asyncio.sleep(0.2)
        finally:
            await model.close()

    def run() -> None:
        try:
            asyncio.run(read())
        except BaseException as error:
            failed.append(error)
            raise

    reading = threading.Thread(target=run)
    reading.start()
    try:
        yield
    finally:
        ending.set()
        reading.join()
        assert not failed


def test_killed_joined_and_left_under_load_nothing_is_folded_twice_or_left_out(
    side: KafkaReadSide, postgresql: EmptyDatabases
) -> None:
    workers = [side.worker(), side.worker()]
    until(lambda: set().union(*(one.assigned() for one in workers)) == {0, 1, 2, 3}, "assigned")
    with readers(side.url), growing(side, 12.0) as writing:
        third, round_number = None, 0
        while writing.is_alive():
            time.sleep(2.0)
            round_number += 1
            if round_number % 3 == 0:
                third = side.worker()
            elif third is not None and round_number % 3 == 2:
                until(third.lag, "the third is up")
                assert third.stop() == 0
                third = None
            else:
                workers.pop(0).kill()
                workers.append(side.worker())
    side.until_folded()
    side.assert_true_of_the_log()
    assert side.conflicts(postgresql) == 0
    assert all("Traceback" not in one.said() for one in workers)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_two_workers_on_the_same_partitions_take_turns(
    request: pytest.FixtureRequest, kafka: Kafka, tmp_path: Path, scenario: Scenario, kind: str
) -> None:
    databases: EmptyDatabases = request.getfixturevalue(kind)
    with side_of(kafka, databases, tmp_path, scenario.partitions) as side:
        side.make_topic()
        workers = [side.worker(group=f".{name}") for name in ("one", "other")]
        for one in workers:
            until(lambda one=one: one.assigned() == {0, 1, 2, 3}, "assigned")  # type: ignore[misc]
        with readers(side.url), growing(side, 5.0):
            pass
        side.until_folded()
        counts = [one.lag()["counts"] for one in workers]
        assert sum(one["overtaken"] for one in counts) > 0, "they were in each other's way"
        assert sum(one["events"] for one in counts) == sum(side.written)
        side.assert_true_of_the_log()
        assert side.conflicts(databases) == 0
        assert [one.stop() for one in workers] == [0, 0]
        assert all("Traceback" not in one.said() for one in workers)


def test_a_database_that_goes_away_is_waited_for(kafka: Kafka, tmp_path: Path, scenario: Scenario) -> None:
    with (
        running(PostgreSql()) as server,
        side_of(kafka, EmptyDatabases(server.url), tmp_path, scenario.partitions) as side,
    ):
        side.make_topic()
        worker = side.worker()
        with growing(side, 8.0):
            until(lambda: sum(side.heads()) > 0, "it folds")
            for _ in range(2):
                server.kill()
                time.sleep(1.5)
                server.start()
                time.sleep(1.5)
        side.until_folded()
        side.assert_true_of_the_log()
        assert "retrying" in worker.said()
        assert worker.stop() == 0
        assert "Traceback" not in worker.said()


def test_a_broker_that_goes_away_is_waited_for(
    own_kafka: Kafka, postgresql: EmptyDatabases, tmp_path: Path, scenario: Scenario
) -> None:
    with side_of(own_kafka, postgresql, tmp_path, scenario.partitions) as side:
        side.write(0.4)
        worker = side.worker()
        side.until_folded()
        own_kafka.kill()
        time.sleep(3.0)
        own_kafka.start()
        side.write()
        side.until_folded()
        side.assert_true_of_the_log()
        if worker.process.poll() is None:
            assert worker.stop() == 0
        assert "Traceback" not in worker.said()
