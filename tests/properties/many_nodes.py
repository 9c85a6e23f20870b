"""Three nodes on one log. Partitions move, appends fail, processes die, and some nodes do not learn of a change.

One run is one seed. With odd seeds each node stands by for all partitions of the others. Clients post to any node and
retry, under the same id, until they have a final response; transfers and referrals go between partitions, and so
between nodes. At the end all nodes know the owners, everything is delivered, and `contradictions` compares the log
and the owners' state with every final response.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ledger.core.commands import Command
from ledger.core.record import Head, decode
from ledger.errors import LogUnavailable, OutcomeUnknown
from ledger.memory.log import Appended, Failure
from ledger.ports import NewRecord
from ledger.writer.requests import Accepted, Failed, Refused
from unit.given import deposit, open_wallet, place_bet, transfer
from unit.node_in_memory import WatchedLog, request_sha256
from unit.nodes_in_memory import Cluster

NODES: Final = ("a", "b", "c")
PARTITIONS: Final = 4
USERS: Final = 10
COMMANDS_EACH: Final = 8


class SlowLog(WatchedLog):
    """Appends and confirmations take long, so that other things happen during them."""

    def __init__(self, appended: Appended, chance: random.Random) -> None:
        super().__init__(len(appended.records), appended, shared=True)
        self._chance = chance

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        await self._delay()
        await super().append(partition, after, records)
        await self._delay()

    async def confirm(self, partition: int, head: Head) -> None:
        await self._delay()
        await super().confirm(partition, head)

    async def _delay(self) -> None:
        if self._chance.random() < 0.5:
            await asyncio.sleep(0.001 * self._chance.choice((0, 1, 2, 5)))


class Run:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.cluster = Cluster(PARTITIONS, new_log=lambda appended: SlowLog(appended, self.chance), recent_wallets=64)
        self.cluster.with_standbys = seed % 2 == 1
        self.users = [f"u{number}" for number in range(USERS)]
        self.accepted: dict[str, Accepted] = {}
        self.refused: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self._posting: dict[str, set[asyncio.Task[object]]] = {name: set() for name in NODES}

    async def play(self) -> None:
        for name in NODES:
            await self.cluster.node(name)
        await self._move(unaware=set())
        clients = [asyncio.create_task(self._client(user_id)) for user_id in self.users]
        while not all(client.done() for client in clients):
            await asyncio.sleep(0.001 * self.chance.choice((0, 1, 3)))
            happens = self.chance.random()
            if happens < 0.06:
                await self._move(unaware={name for name in NODES if self.chance.random() < 0.25})
            elif happens < 0.09:
                await self._die(self.chance.choice(NODES))
            elif happens < 0.2:
                self._trouble(self.chance.choice(NODES))
        for client in clients:
            client.result()
        for world in self.cluster.worlds.values():
            world.log.fail_next.clear()
        await self._move(unaware=set())
        await self._rest()

    async def _move(self, unaware: set[str]) -> None:
        shares: dict[str, set[int]] = {name: set() for name in NODES}
        for partition in range(PARTITIONS):
            before = self.cluster.members[NODES[0]].address_of(partition)
            stays = before is not None and self.chance.random() < 0.6
            shares[before if stays and before is not None else self.chance.choice(NODES)].add(partition)
        await self.cluster.give(unaware=unaware, **shares)

    async def _die(self, name: str) -> None:
        await self.cluster.crash_one(name)
        for posting in self._posting[name]:
            posting.cancel()
        await self.cluster.node(name)

    def _trouble(self, name: str) -> None:
        error = self.chance.choice((LogUnavailable("full"), OutcomeUnknown("no response")))
        lands = isinstance(error, OutcomeUnknown) and self.chance.random() < 0.5
        self.cluster.worlds[name].log.fail_next.append(Failure(error, lands=lands))

    async def _client(self, user_id: str) -> None:
        chance = random.Random(f"{user_id} {self.chance.random()}")
        others = [other for other in self.users if other != user_id]
        await self._final_response(open_wallet(user_id, chance.choice([None, *others])), chance)
        await self._final_response(deposit(100, "first", user_id=user_id), chance)
        for number in range(COMMANDS_EACH):
            kind = chance.random()
            if kind < 0.3:
                command: Command = deposit(chance.randint(1, 20), f"o{number}", user_id=user_id)
            elif kind < 0.6:
                command = place_bet(chance.randint(1, 150), f"b{number}", user_id=user_id)
            else:
                to = chance.choice([*others, "never-opened"])
                command = transfer(chance.randint(1, 90), to, f"t{number}", user_id=user_id)
            await self._final_response(command, chance)

    async def _final_response(self, command: Command, chance: random.Random) -> None:
        name = f"{command.user_id} {command.command_id}"
        while True:
            at = chance.choice(NODES)
            posting: asyncio.Task[object] = asyncio.create_task(
                self.cluster.worlds[at].node.post(command, request_sha256(command), "local")
            )
            self._posting[at].add(posting)
            await asyncio.wait({posting})
            self._posting[at].discard(posting)
            response = None if posting.cancelled() else posting.result()
            self.outcomes[getattr(response, "reason", type(response).__name__)] += 1
            if isinstance(response, Accepted):
                self.accepted[name] = response
                return
            if isinstance(response, Refused):
                self.refused.add(name)
                return
            assert response is None or isinstance(response, Failed), response
            await asyncio.sleep(0.001 * chance.choice((0, 1, 2)))

    async def _rest(self) -> None:
        """Wait until everything is open, every follow-up has arrived, and nothing is in flight."""
        await self.cluster.settled()
        worlds = self.cluster.worlds.values()
        async with asyncio.timeout(60):
            while any(world.open_follow_ups() for world in worlds) or not all(  # noqa: ASYNC110
                writer.idle for world in worlds for writer in world.node.writers.values()
            ):
                await asyncio.sleep(0.005)

    async def contradictions(self) -> set[str]:
        found: set[str] = set()
        world = next(iter(self.cluster.worlds.values()))
        events = world.events()  # checks the chain, too
        commands = Counter(f"{event.user_id} {event.command_id}" for event in events)
        if max(commands.values()) > 1:
            found.add("doubled")
        if any(commands[name] != 1 for name in self.accepted):
            found.add("accepted, but not in the log")
        if any(commands[name] for name in self.refused):
            found.add("refused, but in the log")
        if world.total("transit/"):
            found.add("money in transit at the end")
        for user_id, wallet in world.replayed().items():
            if user_id.startswith("partition:"):
                continue
            if await self.cluster.owner_of(user_id).wallet(user_id) != wallet:
                found.add("an owner's wallet differs from the log")
        halted = [each.node.halted for each in self.cluster.worlds.values() if each.node.halted.done()]
        if halted:
            found.add(f"halted: {halted[0].result()}")
        for name, accepted in self.accepted.items():
            if commands[name] == 1 and events_at(world.appended.records, accepted) != name:
                found.add("not at the position in its response")
        return found


def events_at(records: list[list[bytes]], accepted: Accepted) -> str:
    event = decode(records[accepted.position.partition][accepted.position.seq - 1]).event
    return f"{event.user_id} {event.command_id}"
