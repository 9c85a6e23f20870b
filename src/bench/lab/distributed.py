"""The laboratory of a distributed run: nodes on one topic, a worker, databases and Redis, made when first needed.

1. One broker has one ledger, for its topic has one name: all measures of a run share it, in the order in which they
   are listed.
2. The read side's worker is started when the first measure needs it, so that commands are measured without it:
   in production it is on another machine.
3. Nodes and worker are started and stopped from the main thread, and end with it.
"""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.figures import BenchError
from bench.lab import programs
from bench.lab.jobs import OpenWallets
from bench.lab.one_node import Processes
from bench.lab.programs import JobProcess, Program
from bench.lab.servers import Servers, refuse_used
from bench.load import bodies
from bench.load.bodies import Within

NODES = 3
PARTITIONS = 16
"""As many as the settings' default."""
SETTLED_S_MAX = 120.0
"""How long the partitions may take to be shared out. Chosen: far above every measured time."""
CAUGHT_UP_S_MAX = 240.0
_LOOK_S = 0.05
_FILLED_AT_ONCE = 1_000


class DistributedPlan(Struct, frozen=True, kw_only=True):
    """How much of everything."""

    pairs: int
    few_pairs: int
    leaves: int
    slice_s: float
    warm_up_s: float
    paced_s: float
    fold_events: int
    takeover_events: int
    soak_events: int
    soak_s: float
    soak_slice_s: float


FULL = DistributedPlan(
    pairs=5,
    few_pairs=3,
    leaves=2,
    slice_s=1.0,
    warm_up_s=2.0,
    paced_s=5.0,
    fold_events=40_000,
    takeover_events=1_000_000,
    soak_events=120_000,
    soak_s=1_320.0,
    soak_slice_s=8.0,
)
"""``leaves``: how often a node is stopped, and how often killed. ``fold_events``: what a worker folds in one pass.
``soak_slice_s``: shorter than the 10 s after which the service closes an idle connection."""
QUICK = DistributedPlan(
    pairs=2,
    few_pairs=1,
    leaves=1,
    slice_s=0.5,
    warm_up_s=0.5,
    paced_s=2.0,
    fold_events=20_000,
    takeover_events=50_000,
    soak_events=20_000,
    soak_s=3.0,
    soak_slice_s=0.5,
)


class _Partition(Struct):
    partition: int
    seq: int
    owner: str | None


class _Partitions(Struct):
    items: list[_Partition]


class DistributedLab(Processes):
    """The processes of one run."""

    def __init__(
        self,
        plan: DistributedPlan,
        servers: Servers,
        folder: Path,
        say: Callable[[str], None],
        step: Callable[[], None],
    ) -> None:
        """Raises BenchError where the servers cannot be used."""
        super().__init__(folder, say, step)
        self.plan, self.servers = plan, servers
        refuse_used(servers)

    @cached_property
    def nodes(self) -> list[Program]:
        """Three nodes that share the partitions, 10,000 wallets opened and funded, warmed up."""
        nodes = []
        for number in range(1, NODES + 1):
            self.say(f"starting node {number} of {NODES}")
            name = f"node-{number}"
            data = self.folder / name
            settings = self._settings(data) | {"STAKELOG_INTERNAL": "127.0.0.1:{internal}"}
            node = programs.service(data, self.folder / f"{name}.log", settings, name)
            self._stack.callback(node.kill)
            node.start()
            nodes.append(node)
        self.__dict__["nodes"] = nodes  # `settled` below uses them
        self.settled()
        self.say("opening and funding 10,000 wallets")
        self.generator.ask(OpenWallets(port=nodes[0].port, first=0, end=bodies.WALLETS, with_bet=False))
        for connections in (64, 1):
            for node in nodes[:2]:
                self.say(f"warming up {node.name}")
                self.bets(node, connections, 1, self.plan.warm_up_s / 4, "uniform")
        return nodes

    @cached_property
    def bettor(self) -> JobProcess:
        """A second load generator, for load at the same time as the first."""
        return self._stack.enter_context(JobProcess())

    @cached_property
    def read_side(self) -> Program:
        """The worker into PostgreSQL, which also updates Redis; its tables are level with the log."""
        nodes = self.nodes
        data = self.folder / "worker"
        worker = programs.read_side_worker(data, self.folder / "worker.log", self._settings(data))
        self._stack.callback(worker.kill)
        self.say("starting the worker")
        worker.start()
        for node in nodes:
            self.catch_up(node)
        return worker

    def stop(self) -> int:
        """Fill the topic, then stop worker and nodes. Returns the number of events that a worker's measure takes."""
        self.filled(self.plan.fold_events)
        if "read_side" in self.__dict__:
            self.__dict__.pop("read_side").stop()
        for node in self.nodes:
            node.stop()
        return self.plan.fold_events

    def filled(self, wanted: int) -> None:
        """Fill the topic with at least ``wanted`` events."""
        node = self.nodes[0]
        while (events := self.events()) < wanted:
            self.say(f"filling the topic: {events:,} of {wanted:,} events")
            self.bets(node, 4, _FILLED_AT_ONCE, 1.0, "uniform")

    def events(self) -> int:
        """The number of events in the topic."""
        return sum(one.seq for one in self._partitions(self.nodes[0]))

    # --- owners of partitions --------------------------------------------------------------------------------

    def urls(self) -> list[str]:
        """The addresses of the running nodes."""
        return [node.url for node in self.nodes if node.running]

    def settled(self) -> dict[int, str]:
        """Wait until the running nodes share all partitions evenly. Returns the owner of each partition."""
        deadline_s = time.perf_counter() + SETTLED_S_MAX
        while True:
            owners = self._owners()
            if owners is not None and is_shared(owners, (node.advertised for node in self.nodes if node.running)):
                return owners
            if time.perf_counter() > deadline_s:
                raise BenchError(f"the partitions were not shared out within {SETTLED_S_MAX:.0f} s: {owners}")
            time.sleep(_LOOK_S)

    def of(self, node: Program) -> Within:
        """The partitions that the node owns."""
        owned = [partition for partition, url in self.settled().items() if url == node.advertised]
        return Within(owned, PARTITIONS)

    def _owners(self) -> dict[int, str] | None:
        running = [node for node in self.nodes if node.running]
        found = {one.partition: one.owner for one in self._partitions(running[0])}
        owners = {partition: url for partition, url in found.items() if url is not None}
        return owners if len(owners) == PARTITIONS and all(map(_is_ready, running)) else None

    def _partitions(self, node: Program) -> list[_Partition]:
        status, body = response_of(node, "/v1/partitions")
        return msgspec.json.decode(body, type=_Partitions).items if status == http.client.OK else []

    def _settings(self, data: Path) -> dict[str, str]:
        return self.servers.settings(data, read_model=self.servers.postgresql, cached=True)


def is_shared(owners: dict[int, str], urls: Iterable[str]) -> bool:
    """Whether all owners are among ``urls``, and no node has more than one partition more than another."""
    loads = Counter(dict.fromkeys(urls, 0))
    known = set(loads)
    loads.update(owners.values())
    return set(loads) == known and max(loads.values()) - min(loads.values()) <= 1


def response_of(node: Program, path: str) -> tuple[int, bytes]:
    """Status and body; status 0 without a response."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _is_ready(node: Program) -> bool:
    return response_of(node, "/readyz")[0] == http.client.OK
