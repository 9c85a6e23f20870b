"""Real servers for tests, started when the first test asks for one and stopped with the session.

What is missing is installed. A server that cannot be had is a failure, never a skip: a promise about Kafka that was
not tested on Kafka is not kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.local.install import install
from deploy.local.servers import Kafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for all tests. Each test has topics of its own; who kills brokers has a broker of its own."""
    with running_kafka() as server:
        yield server


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A broker for one test, to be killed, paused and started again."""
    with running_kafka() as server:
        yield server


@contextmanager
def running_kafka() -> Iterator[Kafka]:
    install(["kafka"])
    server = Kafka()
    try:
        server.start()
        yield server
    finally:
        server.stop()
