"""Nodes as real processes that share the partitions of a Kafka topic, and clients that retry.

    with Cluster(kafka, tmp_path, nodes=3, session_timeout_ms=2_000) as cluster:
        crowd = Crowd(cluster, "a")
        async with crowd.playing():
            await asyncio.to_thread(cluster.nodes[0].stop)
        await assert_borne_out(cluster, crowd)

A client knows no owner: it uses the node of its last response, and after a failure the next one, under the same
command_id, until the response is final. So a node's failure interrupts it for as long as a real client.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp

from deploy.local.servers import Kafka
from kafka_judge import judged
from ledger.core.position import partition_of
from ledger.kafka.log import TOPIC
from system.service import Service

NO_READ_MODEL: Final = "postgresql://postgres@127.0.0.1:1/none"
"""Only strong reads are used; commands work without the database."""

SETTLED_WITHIN_S: Final = 60.0
_RESPONSE_WITHIN_S: Final = 1.0
"""How long a client waits for a response before it tries another node."""
_AGAIN_S: Final = 0.01
_PAUSE_S: Final = 0.004
FINAL: Final = (200, 201, 409, 422)


class Cluster:
    """Some nodes of one broker; stopped with the block, which must have left them able to stop well."""

    def __init__(
        self,
        kafka: Kafka,
        folder: Path,
        *,
        nodes: int = 3,
        partitions: int = 6,
        session_timeout_ms: int = 6_000,
        read_model: str = NO_READ_MODEL,
        url: str = "",
        **settings: str,
    ) -> None:
        """``url``: how the nodes reach the broker, where it is not the usual way. ``settings``: as of ``Service``."""
        self.kafka, self.partitions, self.session_timeout_ms = kafka, partitions, session_timeout_ms
        log = f"{url or f'{kafka.url}?replication_factor=1'}&session_timeout_ms={session_timeout_ms}"
        self.nodes = [
            Service(folder / f"node-{number}", LOG=log, READ_MODEL=read_model, PARTITIONS=str(partitions), **settings)
            for number in range(nodes)
        ]

    @property
    def urls(self) -> list[str]:
        """Of the nodes that run."""
        return [node.url for node in self.nodes if node.process is not None]

    def start(self) -> None:
        """Start those that do not run, at once, and wait until each is ready."""
        for node in self.nodes:
            if node.process is None:
                node.launch()
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        while not all(node.ready() for node in self.nodes):
            assert time.monotonic() < deadline_s, "\n".join(node.log_text()[-2_000:] for node in self.nodes)
            time.sleep(0.05)

    def kill(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()

    async def owners(self) -> dict[int, str | None]:
        """Partition → URL of its owner, as one of the nodes reports; None also for an owner that does not run."""
        urls = {node.internal: node.url for node in self.nodes if node.process is not None}
        async with aiohttp.ClientSession() as session, session.get(f"{self.urls[0]}/v1/partitions") as response:
            return {item["partition"]: urls.get(item["owner"]) for item in (await response.json())["items"]}

    async def settled(self) -> dict[int, str]:
        """Wait until every partition is owned by a running node. Returns partition → owner."""
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while True:
                owners = {partition: url for partition, url in (await self.owners()).items() if url is not None}
                loads = Counter(owners.values())
                even = max(loads.values(), default=0) - min(loads[url] for url in self.urls) <= 1
                if (
                    len(owners) == self.partitions
                    and even
                    and all(node.ready() for node in self.nodes if node.process)
                ):
                    return owners
                await asyncio.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        for node in self.nodes:
            if node.process is not None:
                node.stop()


class Place(NamedTuple):
    """What was accepted: where its event stands."""

    partition: int
    seq: int


class Crowd:
    """Clients, some for each partition, that deposit and bet one command after the other."""

    def __init__(self, cluster: Cluster, name: str, *, clients_each: int = 2) -> None:
        self.cluster, self.name = cluster, name
        self.accepted: dict[str, Place] = {}
        self.refused: set[str] = set()
        self.words: Counter[str] = Counter()
        self.gave_up: list[str] = []
        self.interrupted_s: dict[int, list[float]] = defaultdict(list)
        """Partition → from the first failure to the first answer after it, each time."""
        self._failing_since_s: dict[int, float] = {}
        self._over = asyncio.Event()
        self._users = [
            user_id for partition in range(cluster.partitions) for user_id in self._named(partition, clients_each)
        ]

    def _named(self, partition: int, number: int) -> Iterator[str]:
        count = 0
        while number:
            user_id = f"{self.name}-{count}"
            count += 1
            if partition_of(user_id, self.cluster.partitions) == partition:
                number -= 1
                yield user_id

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """When the block begins, each client has a wallet; when it ends, each command has its final response."""
        timeout = aiohttp.ClientTimeout(total=_RESPONSE_WITHIN_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            clients = [_Client(self, session, user_id) for user_id in self._users]
            await asyncio.gather(*(client.open() for client in clients))
            playing = [asyncio.create_task(client.play(self._over)) for client in clients]
            try:
                yield
                self._over.set()
                await asyncio.gather(*playing)
            finally:
                for task in playing:
                    task.cancel()
                await asyncio.wait(playing)

    def failed(self, partition: int) -> None:
        self._failing_since_s.setdefault(partition, time.monotonic())

    def answered(self, partition: int) -> None:
        since_s = self._failing_since_s.pop(partition, None)
        if since_s is not None:
            self.interrupted_s[partition].append(time.monotonic() - since_s)

    def forget_interruptions(self) -> None:
        self.interrupted_s.clear()

    def longest_s(self, partitions: set[int] | None = None) -> float:
        """The longest interruption, of these or of all partitions. Prints the figures."""
        found = {
            partition: max(times)
            for partition, times in self.interrupted_s.items()
            if times and (partitions is None or partition in partitions)
        }
        if not found:
            return 0.0
        print(  # noqa: T201 - the measured times are printed, not asserted closely
            f"interrupted: {len(found)} partitions, median {median(found.values()):.3f} s, "
            f"max {max(found.values()):.3f} s; {dict(self.words)}"
        )
        return max(found.values())


class _Client:
    def __init__(self, crowd: Crowd, session: aiohttp.ClientSession, user_id: str) -> None:
        self._crowd, self._session, self._user_id = crowd, session, user_id
        self._partition = partition_of(user_id, crowd.cluster.partitions)
        self._chance = random.Random(user_id)
        self._url = ""

    async def open(self) -> None:
        await self._final_response({"type": "open_wallet", "command_id": "open"})

    async def play(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            amount = self._chance.randint(1, 60)
            command: dict[str, Any] = {"command_id": f"c-{number}", "asset": "INR"}
            if self._chance.random() < 0.4:
                command |= {"type": "deposit", "order_id": f"o-{number}", "amount": amount}
            else:
                command |= {"type": "place_bet", "bet_id": f"b-{number}", "stake": amount}
                command |= {"game": "external", "period": "1", "selection": "red"}
            await self._final_response(command)
            await asyncio.sleep(_PAUSE_S)

    async def _final_response(self, command: dict[str, Any]) -> None:
        crowd, name = self._crowd, f"{self._user_id} {command['command_id']}"
        doubtful = False
        while True:
            url = self._url or self._chance.choice(crowd.cluster.urls)
            try:
                async with self._session.post(
                    f"{url}/v1/commands", json=command | {"user_id": self._user_id}
                ) as response:
                    status, answer = response.status, await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                crowd.words[type(error).__name__] += 1
                # A node that did not respond may still decide the command, so a refusal by another node is not final.
                doubtful = doubtful or not isinstance(error, aiohttp.ClientConnectorError)
                await self._try_another()
                continue
            crowd.words[str(status) if status in FINAL else answer["code"]] += 1
            if status not in FINAL:
                assert status == 503, (status, answer)
                await self._try_another()
                continue
            self._url = url
            crowd.answered(self._partition)
            if status in (200, 201):
                crowd.accepted[name] = Place(answer["partition"], answer["seq"])
                return
            assert answer["code"] == "insufficient_funds", answer
            if not doubtful:
                crowd.refused.add(name)
            return

    async def _try_another(self) -> None:
        self._crowd.failed(self._partition)
        urls = self._crowd.cluster.urls
        place = urls.index(self._url) + 1 if self._url in urls else self._chance.randrange(len(urls))
        self._url = urls[place % len(urls)]
        await asyncio.sleep(_AGAIN_S)


async def assert_borne_out(cluster: Cluster, *crowds: Crowd) -> int:
    """The topic agrees with the clients' responses, by the chain rule alone. Returns its number of forks."""
    commands: Counter[str] = Counter()
    forks = 0
    for partition in range(cluster.partitions):
        chain = await judged(cluster.kafka, TOPIC, partition)
        names = chain.names
        commands.update(names)
        forks += chain.forks
        for crowd in crowds:
            for name, place in crowd.accepted.items():
                if place.partition == partition:
                    assert names[place.seq - 1] == name, f"{name} is not at the position of its response"
    assert max(commands.values()) == 1, "a command took effect twice"
    for crowd in crowds:
        assert crowd.accepted
        assert crowd.refused
        assert all(commands[name] == 1 for name in crowd.accepted), "an acknowledged command is lost"
        assert not [name for name in crowd.refused if commands[name]], "a refused command took effect"
    return forks
