"""The read side over a topic, looked at from outside: workers as processes, tables, what a fold makes of them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec.structs import replace

from databases import EmptyDatabases, open_database
from deploy.local.servers import Kafka
from kafka_judge import new_topic
from ledger.core.record import EMPTY, Head, decode, encode, sha256_hex
from ledger.kafka.address import parse_address
from ledger.kafka.declarations import DECLARATIONS
from ledger.kafka.log import TIMEOUT_S, KafkaEventLog, open_log
from ledger.kafka.topic import prepare_topic
from projections.projecting.worker import GROUP_SUFFIX
from projections.storage.port import ReadModelUnavailable
from projections.storage.server import ServerReadModelStore
from unit.folded import Tables, from_scratch, new_records, tables

WITHIN_S: Final = 90.0
ON_TOPIC: Final = Path(__file__).parent / "on_topic.py"
_RUN: Final = 40


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"it takes too long: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class WorkerProcess:
    """``stakelog project``, started."""

    def __init__(self, side: "KafkaReadSide", number: int, arguments: Sequence[str], suffix: str = "") -> None:
        self.port = free_port()
        self.path = side.path / f"worker-{number}.log"
        with self.path.open("w") as said:
            self.process = subprocess.Popen(
                [*side.program, side.topic + suffix, "project", "--web-port", str(self.port), *arguments],
                env=side.environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.path.read_text()

    def lag(self) -> Any:
        """The document of /lag; None while the worker does not respond."""
        try:
            return json.loads(self.page("/lag"))
        except (URLError, OSError):
            return None

    def page(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def assigned(self) -> set[int]:
        lag = self.lag()
        return set() if lag is None else {one["partition"] for one in lag["partitions"]}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = 60.0) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within_s)


class KafkaReadSide:
    """A topic, an empty database, a scenario to write, and the programs started on them."""

    def __init__(
        self, kafka: Kafka, url: str, path: Path, scenario: Sequence[Sequence[bytes]], topic: str = ""
    ) -> None:
        self.kafka, self.url, self.path, self.scenario = kafka, url, path, scenario
        self.partitions = len(scenario)
        self.topic = topic or new_topic()
        self.written = [0] * len(scenario)
        self._stack = ExitStack()
        self._numbers = 0
        self.program = [sys.executable, str(ON_TOPIC)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
        paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        self.address = f"{kafka.url}?replication_factor=1"
        self.environment = inherited | {
            "STAKELOG_LOG": self.address,
            "STAKELOG_READ_MODEL": url,
            "STAKELOG_DATA": str(path / "data"),
            "STAKELOG_PARTITIONS": str(self.partitions),
            "PYTHONPATH": paths,
        }

    def close(self) -> None:
        self._stack.close()

    # --- the log -------------------------------------------------------------------------------------------------

    async def log(self) -> KafkaEventLog:
        """The log as a node opens it: the topic of declarations, which folds read, exists before the first event."""
        address = parse_address(self.address)
        await prepare_topic(address, DECLARATIONS, 1, timeout_s=TIMEOUT_S)
        return await open_log(address, self.partitions, topic=self.topic)

    def make_topic(self) -> None:
        async def make() -> None:
            await (await self.log()).close()

        asyncio.run(make())

    def write(self, share: float = 1.0, run: int = _RUN) -> None:
        """Write every partition up to this share of the scenario."""

        async def append() -> None:
            log = await self.log()
            for partition, records in enumerate(self.scenario):
                last = round(len(records) * share)
                while (first := self.written[partition]) < last:
                    some = records[first : min(first + run, last)]
                    after = Head(first, sha256_hex(records[first - 1])) if first else EMPTY
                    await log.append(partition, after, new_records(some))
                    self.written[partition] = first + len(some)
            await log.close()

        asyncio.run(append())

    def write_raw(self, partition: int, values: Sequence[bytes]) -> None:
        """Write raw values to the topic."""

        async def send() -> None:
            producer: Any = AIOKafkaProducer(bootstrap_servers=self.kafka.address)
            await producer.start()
            try:
                for value in values:
                    await producer.send_and_wait(self.topic, value, partition=partition)
            finally:
                await producer.stop()

        asyncio.run(send())

    def commit_offsets(self, offsets: Sequence[int]) -> None:
        """Set the committed offsets of the workers' group, which must have no members."""

        async def commit() -> None:
            consumer: Any = AIOKafkaConsumer(
                bootstrap_servers=self.kafka.address,
                group_id=f"{self.topic}{GROUP_SUFFIX}",
                enable_auto_commit=False,
            )
            await consumer.start()
            try:
                places = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
                consumer.assign(places)
                await consumer.commit(dict(zip(places, offsets, strict=True)))
            finally:
                await consumer.stop()

        asyncio.run(commit())

    # --- the programs --------------------------------------------------------------------------------------------

    def worker(self, *arguments: str, group: str = "", check: bool = False) -> WorkerProcess:
        """``group``: one of its own, where the worker is not to share partitions with others; ``check``: with the
        process that checks what it folds, which knows no topic but ``TOPIC``."""
        self._numbers += 1
        suffix = f"/{group}" if group else ""
        checked = () if check else ("--no-check",)
        started = WorkerProcess(self, self._numbers, (*checked, *arguments), suffix)
        self._stack.callback(started.kill)
        return started

    def run(self, *arguments: str, timeout_s: float = 90) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.program, self.topic, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    # --- the tables ----------------------------------------------------------------------------------------------

    def heads(self) -> list[int]:
        """The seq of each partition in the live generation; [] while there is none."""

        async def read() -> list[int]:
            store = ServerReadModelStore(open_database(self.url), make=False)
            try:
                live = [one for one in await store.generations() if one.status == "live"]
                return [one.head.seq for one in await store.checkpoints(live[0].number)] if live else []
            finally:
                await store.close()

        try:
            return asyncio.run(read())
        except ReadModelUnavailable:
            return []

    def folded(self) -> bool:
        return self.heads() == self.written

    def until_folded(self, within_s: float = WITHIN_S) -> None:
        until(self.folded, f"{self.heads()} of {self.written}", within_s)

    def conflicts(self, databases: EmptyDatabases) -> int:
        """How often the database rolled back a transaction (deadlock or serialization failure), by its own count."""
        rows = databases.ask("SELECT sum(number) FROM retried", self.url.rpartition("/")[2])
        return int(float(rows[0][0]))

    def assert_true_of_the_log(self) -> None:
        """Every row and digest is what a fold of the events, as far as they were written, makes from scratch."""
        expected = asyncio.run(
            from_scratch(
                self.path / f"scratch-{time.monotonic_ns()}",
                [records[:seq] for records, seq in zip(self.scenario, self.written, strict=True)],
            )
        )
        assert self.tables() == expected

    def tables(self) -> Tables:
        async def read() -> Tables:
            store = ServerReadModelStore(open_database(self.url), make=False)
            try:
                (live,) = [one for one in await store.generations() if one.status == "live"]
                assert await store.quarantine(live.number) == []
                return await tables(store, live.number, self.partitions)
            finally:
                await store.close()

        return asyncio.run(read())


@contextmanager
def side_of(
    kafka: Kafka, databases: EmptyDatabases, path: Path, scenario: Sequence[Sequence[bytes]], topic: str = ""
) -> Iterator[KafkaReadSide]:
    with databases.one() as url:
        side = KafkaReadSide(kafka, url, path, scenario, topic)
        try:
            yield side
        finally:
            side.close()


def fork_of(record: bytes) -> bytes:
    """Another record at the same place, on the same head."""
    place, prev, event = decode(record)
    return encode(replace(event, command_id=f"{event.command_id}!"), place, prev)
