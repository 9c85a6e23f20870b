"""Two nodes that both believe that they own the same partitions of a real topic, and clients that ask both.

At the end: one chain for every reader, every acknowledged command in it once, and none that was refused at last.
"""

import asyncio
import json
import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from conformance.event_log import run_of
from deploy.local.servers import Kafka
from kafka_judge import Logs, in_a_process
from ledger.core.commands import Command
from ledger.errors import StaleHead
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.writer.requests import Accepted, AnyResponse, Failed, Refused
from unit.given import ASSETS, deposit, open_wallet, place_bet
from unit.node_in_memory import request_sha256

pytestmark = pytest.mark.system

PARTITIONS = 2


def now_us() -> int:
    return time.time_ns() // 1_000


async def started(logs: Logs, generation: int, *, timeout_s: float = 10.0) -> Node:
    log = await logs.open(partitions=PARTITIONS, timeout_s=timeout_s)
    node = node_of_whole_log(log, MemoryStateStore(), now_us, ASSETS, generation=generation)
    await node.start()
    return node


class Clients:
    """Ask one of the nodes, and again under the same id until there is a last word."""

    def __init__(self, nodes: list[Node], name: str) -> None:
        self.nodes = nodes
        self.name = name
        self.accepted: dict[str, Accepted] = {}
        self.refused: set[str] = set()
        self.words: Counter[str] = Counter()

    async def last_word(self, command: Command, chance: random.Random) -> AnyResponse:
        while True:
            answer = await chance.choice(self.nodes).post(command, request_sha256(command), "local")
            self.words[getattr(answer, "reason", type(answer).__name__)] += 1
            if isinstance(answer, Failed):
                await asyncio.sleep(chance.uniform(0.0, 0.05))
                continue
            name = f"{command.user_id} {command.command_id}"
            if isinstance(answer, Accepted):
                self.accepted[name] = answer
            else:
                assert isinstance(answer, Refused), answer
                self.refused.add(name)
            return answer

    async def play(self, user_id: str, until_s: float) -> None:
        chance = random.Random(user_id)
        await self.last_word(open_wallet(user_id), chance)
        number = 0
        while time.monotonic() < until_s:
            number += 1
            if chance.random() < 0.4:
                command: Command = deposit(chance.randint(1, 50), f"o{number}", user_id=user_id)
            else:
                command = place_bet(chance.randint(1, 60), f"b{number}", user_id=user_id)
            await self.last_word(command, chance)


async def assert_borne_out(logs: Logs, clients: Clients, nodes: list[Node]) -> int:
    """What clients were told is what the topic says; answers how many forks it holds."""
    commands: Counter[str] = Counter()
    forks = 0
    for partition in range(PARTITIONS):
        chain = await logs.judged(partition)
        commands.update(chain.names)
        forks += chain.forks
        reader = await logs.open(partitions=PARTITIONS)
        assert await reader.read(partition, 1, 1_000_000) == chain.events
        cash: Counter[str] = Counter()
        for record in map(json.loads, chain.events):
            for account, _, amount in record["postings"]:
                cash[account] += amount
        assert all(amount >= 0 for account, amount in cash.items() if account.startswith("wallet/"))
        names = chain.names
        for name, answer in clients.accepted.items():
            if answer.position.partition == partition:
                assert names[answer.position.seq - 1] == name
    assert all(commands[name] == 1 for name in clients.accepted)
    assert not [name for name in clients.refused if commands[name]]
    assert max(commands.values()) == 1
    assert clients.accepted
    assert clients.refused
    return forks


async def test_ownership_that_moves_again_and_again_loses_and_doubles_nothing(logs: Logs) -> None:
    nodes = [await started(logs, 1)]
    clients = Clients(nodes, "c")
    until_s = time.monotonic() + 5
    playing = asyncio.gather(*(clients.play(f"u{number}", until_s) for number in range(12)))
    for generation in range(2, 6):
        await asyncio.sleep(0.8)
        nodes.append(await started(logs, generation))  # the previous one is not notified
    await playing
    for node in nodes[:-1]:  # without a request it has not noticed yet
        late = asyncio.create_task(Clients([node], "late").last_word(open_wallet("late"), random.Random(1)))
        async with asyncio.timeout(60):
            await node.halted
        late.cancel()
    await assert_borne_out(logs, clients, nodes)
    assert clients.words["not_owner"], "no request reached a former owner"
    assert [node.halted.done() for node in nodes] == [True] * 4 + [False]


async def test_a_batch_that_was_under_way_when_the_partition_was_opened_is_a_fork(logs: Logs) -> None:
    old, new = await logs.open(partitions=PARTITIONS), await logs.open(partitions=PARTITIONS)
    head = await old.head(0)
    under_way = run_of(0, head, ["under way"])
    node = node_of_whole_log(new, MemoryStateStore(), now_us, ASSETS, generation=1)
    await node.start()
    with pytest.raises(StaleHead):
        await old.append(0, head, under_way.records)
    await old._client.append(0, under_way.records)  # as if it had left before, and arrived now
    assert (await logs.judged(0)).commands == ["~open:1"]


async def test_a_broker_killed_under_two_nodes_loses_doubles_and_wrongly_refuses_nothing(
    own_kafka: Kafka, own_logs: Logs
) -> None:
    nodes = [await started(own_logs, 1, timeout_s=2.0)]
    clients = Clients(nodes, "c")
    until_s = time.monotonic() + 9
    playing = asyncio.gather(*(clients.play(f"u{number}", until_s) for number in range(8)))
    await asyncio.sleep(1)
    own_kafka.kill()
    await asyncio.sleep(1.5)
    own_kafka.start()
    await asyncio.sleep(0.5)
    nodes.append(await started(own_logs, 2, timeout_s=2.0))
    await asyncio.sleep(0.5)
    own_kafka.pause()
    await asyncio.sleep(2.5)
    own_kafka.resume()
    await playing
    await assert_borne_out(own_logs, clients, nodes)
    assert clients.words["outcome_unknown"], "nothing was under way"


_NODE = """
import asyncio, os, sys, time
from kafka_judge import open_at
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.memory.state_store import MemoryStateStore
from system.test_kafka_owners import Clients, now_us
from unit.given import ASSETS

async def main():
    url, topic = sys.argv[1:]
    node = node_of_whole_log(await open_at(url, topic), MemoryStateStore(), now_us, ASSETS, generation=1)
    await node.start()
    clients = Clients([node], "old")

    async def told():
        seen = 0
        while True:
            for name in list(clients.accepted)[seen:]:
                seen += 1
                sys.stdout.write(f"accepted {name}\\n")
            sys.stdout.flush()
            await asyncio.sleep(0.005)

    telling = asyncio.create_task(told())
    playing = [asyncio.create_task(clients.play(f"old{number}", time.monotonic() + 60)) for number in range(6)]
    why = await node.halted
    await asyncio.sleep(0.3)
    sys.stdout.write(f"halted {type(why).__name__}\\n")
    for name in clients.refused:
        sys.stdout.write(f"refused {name}\\n")
    for name in list(clients.accepted):
        sys.stdout.write(f"accepted {name}\\n")
    sys.stdout.flush()
    os._exit(0)

asyncio.run(main())
"""


def old_owner(kafka: Kafka, topic: str) -> subprocess.Popen[str]:
    return in_a_process(_NODE, kafka, topic)


@pytest.mark.parametrize("seed", range(3))
async def test_an_owner_stopped_and_resumed_while_its_successor_posts_cannot_harm(
    kafka: Kafka, logs: Logs, seed: int
) -> None:
    chance = random.Random(seed)
    with old_owner(kafka, logs.topic) as old:
        try:
            assert old.stdout is not None
            first = await asyncio.to_thread(old.stdout.readline)
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            old.send_signal(signal.SIGSTOP)
            node = await started(logs, 2)
            clients = Clients([node], "new")
            until_s = time.monotonic() + 2
            playing = asyncio.gather(*(clients.play(f"new{number}", until_s) for number in range(6)))
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            old.send_signal(signal.SIGCONT)
            said = [first, *(await asyncio.to_thread(old.stdout.readlines))]
            await playing
        finally:
            old.kill()
    words = [line.split(maxsplit=1) for line in map(str.strip, said)]
    assert ["halted", "Superseded"] in words
    theirs = {name for word, name in words if word == "accepted"}
    refused = {name for word, name in words if word == "refused"}
    assert theirs
    chains = [await logs.judged(partition) for partition in range(PARTITIONS)]
    commands = Counter(name for chain in chains for name in chain.names)
    assert all(commands[name] == 1 for name in theirs), "the old owner acknowledged what is no event"
    assert not [name for name in refused if commands[name]]
    await assert_borne_out(logs, clients, [node])
    for chain in chains:
        kinds = [(json.loads(event)["type"], json.loads(event)["user_id"]) for event in chain.events]
        taken_over = max(number for number, (kind, _) in enumerate(kinds) if kind == "writer_opened")
        assert not [user_id for _, user_id in kinds[taken_over:] if user_id.startswith("old")]
